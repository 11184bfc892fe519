"""The gene decoder of a model: what it is fitted on, with what it is saved, and that it may be left out."""

import numpy as np
import torch

from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.model import Polygene
from polygene_scverse.model.training import _gene_decoder

QUIET = {"max_epochs": 1, "enable_progress_bar": False}
SPLIT = (np.arange(70), np.arange(70, 100))


def frequencies_by_hand(model, rows):
    """Share of the training cells in bin 0 of each gene."""
    x = model.adata[rows, model.genes].X.toarray()
    return (x == 0).mean(0)


def test_frequencies_are_those_of_the_training_cells(cells, model_of):
    model = model_of(cells(100))
    model.train(**QUIET, split=SPLIT)
    of_zero = model.module.gene_decoder.bias.exp()[:, 0].numpy()
    np.testing.assert_allclose(of_zero, frequencies_by_hand(model, SPLIT[0]), atol=0.12)  # held at that of all genes
    assert np.corrcoef(of_zero, frequencies_by_hand(model, SPLIT[0]))[0, 1] > 0.99
    other = model_of(cells(100))
    other.train(**QUIET, split=(np.arange(30, 100), np.arange(30)))
    assert not torch.equal(other.module.gene_decoder.bias, model.module.gene_decoder.bias)


def test_bins_stand_for_ascending_values(cells, model_of):
    model = model_of(cells(100))
    model.train(**QUIET, split=SPLIT)
    values = model.module.gene_decoder.values
    assert not values[:, 0].any()
    assert (values.mean(0).diff() > 0).all()


def test_of_more_cells_a_draw_is_counted(monkeypatch, cells, model_of):
    monkeypatch.setattr(_gene_decoder, "MAX_CELLS", 40)
    found = []
    for seed in (0, 0, 1):
        model = model_of(cells(100))
        model.train(**QUIET, split=SPLIT, seed=seed)
        found.append(model.module.gene_decoder.bias.clone())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_it_is_saved_and_read(trained_model, tmp_path):
    trained_model.save(tmp_path / "model")
    again = Polygene.load(tmp_path / "model")
    for name, value in trained_model.module.gene_decoder.state_dict().items():
        assert torch.equal(again.module.gene_decoder.state_dict()[name], value), name


def test_it_may_be_left_out(cells, model_of, tmp_path):
    model = model_of(cells(100), gene_decoder=False)
    model.train(**QUIET, split=SPLIT, masking=MaskingRates())
    assert model.module.gene_decoder is None
    model.save(tmp_path / "model")
    assert Polygene.load(tmp_path / "model").module.gene_decoder is None


def test_hidden_genes_are_guessed_better_with_it(cells, model_of):
    """After one epoch the closed form is ahead by far."""
    losses = []
    for used in (True, False):
        model = model_of(cells(100), gene_decoder=used)
        model.train(**QUIET, split=SPLIT)
        losses.append(float(model.history_["gene_loss_validation"].iloc[-1, 0]))
    assert losses[0] < losses[1] - 0.2
