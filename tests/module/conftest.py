"""Random cells, batches and modules: 7 cells, 31 genes, 5 bins, phenotypes of 3 and 4 categories, 18 hidden."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from polygene_scverse._layout import TokenLayout
from polygene_scverse.data.feed._batch import make_batch
from polygene_scverse.data.feed._masking import MaskingRates, draw
from polygene_scverse.data.read._tokens import Cells
from polygene_scverse.fit._class_frequencies import fit_class_frequencies
from polygene_scverse.module import LossConfig, PolygeneModule, TransformerConfig

N_CELLS, N_GENES, N_BINS = 7, 31, 5
LAYOUT = TokenLayout.build(
    {"fate": ["a", "b", "c"], "stage": ["1", "2", "3", "4"]}, [f"g{i}" for i in range(N_GENES)], N_BINS
)
SIZES = TransformerConfig(n_hidden=18, n_layers=2, n_heads=3, n_intermediate=29, dropout=0.0)
RATES = MaskingRates(expressed=0.3, gene_dropout=0.0)
ALL_MEASURED = np.ones(N_GENES, dtype=bool)
N_TOKENS, N_POSITIONS = 37, 23
SHARE = 0.2 + 0.6 * torch.rand(2, generator=torch.Generator().manual_seed(0))
"""Share of the linear path in each phenotype."""


def random_cells(n_cells=N_CELLS, n_genes=N_GENES, density=0.4, n_bins=N_BINS, seed=0):
    rng = np.random.default_rng(seed)
    expressed = rng.random((n_cells, n_genes)) < density
    indptr = np.concatenate([[0], np.cumsum(expressed.sum(1))])
    n = indptr[-1]
    bins, values = rng.integers(1, n_bins, n).astype(np.int16), rng.gamma(2.0, 1.0, n).astype(np.float32)
    return Cells(indptr, np.nonzero(expressed)[1].astype(np.int32), bins, values)


def random_codes(n_cells=N_CELLS, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, 3, n_cells), rng.integers(0, 4, n_cells)], axis=1)


def random_module(std=0.3, layout=LAYOUT, seed=0, **loss):
    """A module whose every parameter is random, the linear path too."""
    module = PolygeneModule(layout, SIZES, LossConfig(**loss))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.copy_(std * torch.randn(p.shape, generator=generator) + float("norm" in name and "weight" in name))
    rng, n = np.random.default_rng(seed), (layout.n_genes, sum(module.n_categories))
    module.linear.load(rng.normal(size=n), rng.normal(size=n[1]), rng.uniform(1.0, 3.0, n[0]), rng.uniform(size=n[0]))
    if module.gene_decoder is not None:
        codes = np.array(list(np.ndindex(*module.n_categories)))
        counts = rng.integers(0, 30, (len(codes), layout.n_genes, layout.n_bins)).astype(float)
        found = fit_class_frequencies(lambda genes: counts[:, genes], layout.n_genes, codes, module.n_categories)
        module.gene_decoder.set_frequencies(found, rng.integers(1, 99, n[1]).astype(float))
    return module.eval()


def torch_batch(cells, masking, codes, layout=LAYOUT):
    return {name: torch.from_numpy(a) for name, a in make_batch(cells, masking, layout, codes).items()}


def drawn(cells, rates=RATES, epoch=0):
    return draw(cells, np.arange(len(cells)), ALL_MEASURED, 2, rates, seed=0, epoch=epoch)


def train_batch(n_cells=N_CELLS, codes=None, rates=RATES):
    cells = random_cells(n_cells)
    return torch_batch(cells, drawn(cells, rates), random_codes(n_cells) if codes is None else codes)


def run(module, batch):
    """Inference and generation on a batch."""
    return module.generative(**module.inference(**module._get_inference_input(batch)))


def loss_of(module, batch, **kwargs):
    return module.loss(batch, {}, run(module, batch), **kwargs)


def sentences(n_cells=3, n_columns=17, n_keys=11, seed=1):
    """Random tokens and positions and a random key mask, in which each cell has at least one key."""
    rng = np.random.default_rng(seed)
    tokens = torch.from_numpy(rng.integers(0, N_TOKENS, (n_cells, n_columns)))
    positions = torch.from_numpy(np.stack([rng.permutation(N_POSITIONS)[:n_columns] for _ in range(n_cells)]))
    key_mask = torch.from_numpy(rng.random((n_cells, n_keys)) < 0.6)
    key_mask[:, 0] = True
    return tokens, positions, key_mask


@pytest.fixture
def kit():
    """The functions of this file, and the layout, sizes and rates they use."""
    return SimpleNamespace(
        layout=LAYOUT,
        sizes=SIZES,
        rates=RATES,
        measured=ALL_MEASURED,
        share=SHARE,
        random_cells=random_cells,
        random_codes=random_codes,
        random_module=random_module,
        torch_batch=torch_batch,
        drawn=drawn,
        train_batch=train_batch,
        run=run,
        loss_of=loss_of,
        sentences=sentences,
    )
