"""A checkpoint of the original with random weights."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from polygene_scverse._constants import RANK
from polygene_scverse.model import Polygene
from polygene_scverse.model.original._files import CATEGORY_FILES, ORIGINAL_COLUMNS

# a checkpoint as the original's training leaves it: 29 genes, H=21, 3 layers, 7 heads; in ten bins and binary

N_GENES = 29
LISTS = {
    "sex": ["female", "male"],
    "tissue": ["liver", "eye"],
    "cell_type": ["B cell", "T cell", "NK cell"],
    "age": ["young", "old"],
    "disease": ["normal", "flu"],
}


class Theirs(SimpleNamespace):
    """The checkpoint: its `folder`, `bert`, `n_bins`, the `words` without bins, and the bin `edges`."""

    categories, n_genes = LISTS, N_GENES

    @staticmethod
    def order(adata):
        """Genes, most variable first."""
        return list(adata.var_names[np.argsort(adata.var[RANK])])

    def read(self, genes, **kwargs):
        """Our model of it."""
        threshold = self.edges[1] if self.n_bins == 2 else None
        return Polygene.from_original(
            self.folder, vocabulary=self.folder, genes=genes, **{"threshold": threshold, **kwargs}
        )

    def sentences(self, adata, genes):
        """The original's sentences with every phenotype hidden, and its attention mask, by dense one-liners."""
        n_words = len(self.words)
        bins = np.digitize(adata[:, genes].X.toarray(), self.edges) - 1
        first, last = np.tile([3, 1, 1, 1, 1, 1, 5], (len(bins), 1)), np.full((len(bins), 1), 6)
        ids = np.concatenate([first, n_words + bins, last], axis=1)
        return torch.from_numpy(ids), torch.from_numpy(ids != n_words)

    @torch.no_grad()
    def states(self, ids, mask, bert=None):
        """Last hidden states and logits of BERT."""
        output = (bert or self.bert)(ids, attention_mask=mask.long(), output_hidden_states=True)
        return output.hidden_states[-1], output.logits


@pytest.fixture(scope="module", params=[10, 2], ids=["binned", "binary"])
def their_bins(request):
    return request.param


@pytest.fixture(scope="module")
def theirs(their_bins, tmp_path_factory):
    """BERT with random weights, and its vocabulary."""
    folder = tmp_path_factory.mktemp("theirs")
    words = ["[PAD]", "[MASK]", "[SEP]", "[CLS]", "[UNK]", "[START]", "[END]", *(f"[no_{name}]" for name in LISTS)]
    words += [f"[{label.replace(' ', '_')}]" for name in reversed(LISTS) for label in LISTS[name]]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    for name, file in CATEGORY_FILES.items():
        (folder / file).write_text("\n".join(LISTS[name]))
    sizes = {"hidden_size": 21, "num_hidden_layers": 3, "num_attention_heads": 7, "intermediate_size": 41}
    config = BertConfig(
        vocab_size=len(words) + their_bins, max_position_embeddings=N_GENES + 8, layer_norm_eps=1e-6, **sizes
    )
    with torch.random.fork_rng():
        torch.manual_seed(their_bins)
        bert = BertForMaskedLM(config).eval()
        for parameter in bert.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    bert.save_pretrained(folder)
    edges = [0.0, 0.7] if their_bins == 2 else [0.0, *np.linspace(0.1, 9.0, their_bins - 1)]
    return Theirs(folder=folder, bert=bert, n_bins=their_bins, words=words, edges=edges)


@pytest.fixture
def labelled(pbmc):
    """Blood cells with labels of the vocabulary, some of them missing, and genes in a drawn order."""
    adata = pbmc[:40].copy()
    rng = np.random.default_rng(0)
    for name, column in ORIGINAL_COLUMNS.items():
        adata.obs[column] = rng.choice([*LISTS[name], None], adata.n_obs)
    adata.var[RANK] = rng.permutation(adata.n_vars).astype(float)
    return adata


@pytest.fixture
def imported(theirs, labelled):
    """Our model of the checkpoint."""
    return theirs.read(theirs.order(labelled))
