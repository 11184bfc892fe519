"""Embeddings: which states are pooled, and what the default one means."""

import numpy as np
import pytest
import torch

from polygene_scverse.abilities._embed import POOLINGS, embed
from polygene_scverse.engine import INPUTS, Engine, Query


@pytest.fixture
def model(trained_model):
    return trained_model


def test_embeddings_are_pooled_states(model, query):
    rows = np.arange(6)
    batch = Query().batch(model._cells(query, rows).read_all(), rows)
    share = torch.tensor(model.fitted_.linear_share)
    with torch.inference_mode():
        states = model.module.states(*(batch[name] for name in INPUTS[:3])).numpy()
        decision = model.module.decision_states(*(batch[name] for name in INPUTS), share).numpy()
    n, genes = model.layout.n_special, batch["key_mask"].numpy()[:, model.layout.n_special :]
    expected = {
        "decision": decision.mean(1),
        "cls": states[:, 0],
        "cell_type": states[:, 1],
        "sex": states[:, 2],
        "phenotypes": states[:, 1:3].mean(1),
        "genes": np.stack([x[seen].mean(0) for x, seen in zip(states[:, n:], genes, strict=True)]),
    }
    for pooling, state in expected.items():
        latent = model.get_latent_representation(query, pooling=pooling, indices=rows)
        assert latent.dtype == np.float32
        np.testing.assert_allclose(latent, state, atol=1e-5, err_msg=pooling)
    default = model.get_latent_representation(query, indices=rows)
    np.testing.assert_array_equal(default, model.get_latent_representation(query, indices=rows, pooling="decision"))


def test_the_decision_state_gives_the_logits(model, query):
    rows = np.arange(6)
    batch = Query().batch(model._cells(query, rows).read_all(), rows)
    share = torch.tensor(model.fitted_.linear_share)
    arrays = [*(batch[name] for name in INPUTS), share]
    with torch.inference_mode():
        states, logits = model.module.decision_states(*arrays), model.module.predict(*arrays)
    words = model.module.encoder.embeddings.word.weight.detach()
    for i, slot in enumerate(model.layout.phenotypes):
        ids = list(slot.ids)
        bias = (1 - share[i]) * model.module.head.bias.detach()[ids]
        of_state = states[:, i] @ words[ids].T + bias
        np.testing.assert_allclose(of_state.softmax(-1), logits[i].softmax(-1), atol=1e-5)


@pytest.mark.parametrize("pooling", ["phenotypes", "genes"])
def test_embeddings_keep_the_order_of_rows(model, query, pooling):
    latent = model.get_latent_representation(query, pooling=pooling, batch_size=7)
    assert latent.shape == (50, 16)
    some = model.get_latent_representation(query, pooling=pooling, indices=[9, 4])
    np.testing.assert_allclose(some, latent[[9, 4]], atol=1e-5)


def test_unknown_pooling_is_refused(model, query):
    with pytest.raises(
        ValueError, match=r"`pooling`: found 'mean', but it must be one of .*'genes', 'cls', 'cell_type'"
    ):
        model.get_latent_representation(query, pooling="mean")


@pytest.mark.parametrize("pooling", [*POOLINGS, "sex"])
def test_cells_may_come_from_anywhere(model, query, pooling):
    """Here from memory, as tokens."""
    table, question = model._cells(query).read_all(), Query(shown=(1,))
    found = embed(Engine(model.module), model.fitted_, table, question, pooling)
    expected = model.get_latent_representation(query, pooling=pooling, given="sex")
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(found, model.get_latent_representation(query, pooling=pooling))
