"""What makes a training another one."""

import numpy as np

from polygene_scverse.model.training._fingerprint import cells_digest, digest, identity_of

SPLIT = (np.arange(40), np.arange(40, 60))


def splitter_of(model, rows=SPLIT):
    from polygene_scverse.data.feed._loader import CellSplitter
    from polygene_scverse.data.feed._masking import MaskingRates

    train, validation = (model._cells(model.adata, r).read_all() for r in rows)
    return CellSplitter(train, validation, MaskingRates(), batch_size=8, seed=3)


def test_arrays_that_differ_have_other_words():
    a = np.arange(6, dtype=np.int32)
    words = [digest(x) for x in (a, a.astype(np.int64), a.reshape(2, 3), a[::-1], a[:5], a.astype(np.float32))]
    assert len(set(words)) == len(words)
    assert digest(a) == digest(a.copy()) == digest(np.arange(12, dtype=np.int32)[:6])


def test_cells_are_told_apart_by_tokens_labels_and_numbers(trained):
    model = trained()
    table = model._cells(model.adata, np.arange(10)).read_all()
    same = model._cells(model.adata, np.arange(10)).read_all()
    assert cells_digest(table) == cells_digest(same)
    assert cells_digest(table).startswith("10 cells (")
    assert cells_digest(None) == "none"
    for name in ("codes", "ids"):
        other = model._cells(model.adata, np.arange(10)).read_all()
        getattr(other, name)[0] += 1
        assert cells_digest(other) != cells_digest(table)
    same.cells.bins[0] += 1
    assert cells_digest(same) != cells_digest(table)


def test_identity_does_not_depend_on_weights(trained):
    model = trained()
    before = identity_of(model.module, splitter_of(model), model.edges_, {"max_epochs": 2})
    model.train(max_epochs=1, enable_progress_bar=False)
    assert identity_of(model.module, splitter_of(model), model.edges_, {"max_epochs": 2}) == before
    assert all(isinstance(value, str) for value in before.values())
    assert (before["seed"], before["cells per step"], before["max_epochs"]) == ("3", "8", "2")


def test_other_cells_are_another_training(trained):
    model = trained()
    identities = [
        identity_of(model.module, splitter_of(model, rows), model.edges_, {}) for rows in (SPLIT, (SPLIT[0], SPLIT[0]))
    ]
    assert {name for name in identities[0] if identities[0][name] != identities[1][name]} == {"validation cells"}


def test_another_network_is_another_training(trained):
    """Also one without a linear path or a gene decoder: what a checkpoint holds of them could not be read."""
    others = ({"linear_path": False}, {"gene_decoder": False}, {"n_intermediate": 17})
    models = [trained(model_kwargs=kwargs) for kwargs in ({}, *others)]
    identities = [identity_of(model.module, splitter_of(model), model.edges_, {}) for model in models]
    for other in identities[1:]:
        assert {name for name in other if identities[0][name] != other[name]} == {"network"}
