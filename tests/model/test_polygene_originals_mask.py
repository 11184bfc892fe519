"""Hidden tokens as weights of the original see them; the checkpoint is that of `conftest`."""

import numpy as np
import torch
from sklearn.metrics import confusion_matrix

from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.engine import Query, RandomHiding


def test_the_originals_words_are_guessed_as_by_bert(theirs, imported, labelled):
    """Dense: hidden genes are [MASK], and the attention mask, built before, shows the expressed ones among them."""
    rates = MaskingRates(expressed=0.3, not_expressed=0.3, gene_dropout=0.0, hide_all=1.0)
    counts = imported.count_hidden_tokens(labelled, masking=rates, seed=2, batch_size=9)
    rows = np.arange(labelled.n_obs)
    batch = Query(hiding=RandomHiding(rates, 2)).batch(imported._cells(labelled).read_all(), rows)
    ids, mask = theirs.sentences(labelled, theirs.order(labelled)[: theirs.n_genes])
    bins, at = batch["target_bins"], batch["positions"][:, batch["key_mask"].shape[1] :]
    cell, column = torch.nonzero(bins >= 0, as_tuple=True)
    slots = at[cell, column]
    assert torch.equal(ids[cell, slots] - len(theirs.words), bins[cell, column])
    hidden = ids.clone()
    hidden[cell, slots] = 1
    logits = theirs.states(hidden, mask)[1]
    guesses = logits[cell, slots, len(theirs.words) :].argmax(-1)
    expected = confusion_matrix(bins[cell, column], guesses, labels=range(theirs.n_bins))
    np.testing.assert_array_equal(counts.genes, expected)
    assert expected.sum() > 200
    for slot in imported.layout.phenotypes:
        place = 1 + imported.layout.phenotype_names.index(slot.name)
        codes = batch["phenotypes"][:, place - 1]
        guesses = logits[:, place, list(slot.ids)].argmax(-1)[codes >= 0]
        expected = confusion_matrix(codes[codes >= 0], guesses, labels=range(len(slot.ids)))
        np.testing.assert_array_equal(counts.phenotypes[slot.name], expected)
