import numpy as np
import pytest
import torch

from polygene_scverse._layout import TokenLayout
from polygene_scverse.module import PolygeneModule, TransformerConfig
from polygene_scverse.module._growth import grow_module, places_of

OLD = TokenLayout.build({"type": ["a", "b", "c"], "sex": ["f", "m"]}, [f"g{i}" for i in range(7)], 5)
CONFIG = TransformerConfig(n_hidden=10, n_layers=2, n_heads=2, n_intermediate=11)


@pytest.fixture
def old():
    module = PolygeneModule(OLD, CONFIG, seed=1).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(
                0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
    return module


def sentence(layout, bins, shown=None):
    """One cell with genes in these bins, as ids of a layout, worked out without the batch code."""
    tokens, positions = layout.special_tokens.copy(), list(layout.special_positions)
    for name, category in (shown or {}).items():
        i = layout.phenotype_names.index(name)
        tokens[1 + i] = layout.phenotypes[i].ids[category]
    genes = [layout.genes.index(gene) for gene in bins]
    tokens = [*tokens, *(layout.first_bin_id + b for b in bins.values())]
    positions += [layout.first_gene_position + g for g in genes]
    found = (torch.tensor([tokens]), torch.tensor([positions]))
    return *found, torch.ones(1, len(tokens), dtype=torch.bool)


@pytest.mark.parametrize("shown", [{}, {"sex": 1}], ids=["hidden", "shown"])
def test_old_logits_are_those_of_before(old, shown):
    layout = OLD.grown({"type": ["d", "e"]}, ["new1", "new2"])
    new = grow_module(old, layout)
    bins = {"g0": 3, "g4": 1, "g6": 4}
    before = old.transformer_logits(*sentence(OLD, bins, shown))
    after = new.transformer_logits(*sentence(layout, bins, shown))
    torch.testing.assert_close(after[0][:, :3], before[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(after[1], before[1], rtol=0, atol=1e-5)
    assert after[0].shape == (1, 5)
    hidden = new.inference(*sentence(layout, bins))["hidden"]
    blank = new.split_logits(new.head.transform(hidden[:, :2]))[0]
    torch.testing.assert_close(blank[:, 3:], blank[:, :3].mean(1, keepdim=True).expand(1, 2), rtol=0, atol=1e-5)


def test_every_word_gene_and_phenotype_keeps_its_weights(old):
    layout = OLD.grown({"type": ["d"], "tissue": ["eye", "skin"]}, ["new"])
    new = grow_module(old, layout)
    embeddings = {word: new.encoder.embeddings.word.weight[i] for i, word in enumerate(layout.vocabulary)}
    for i, word in enumerate(OLD.vocabulary):
        torch.testing.assert_close(embeddings[word], old.encoder.embeddings.word.weight[i], rtol=0, atol=0)
    for gene in OLD.genes:
        before = old.encoder.embeddings.position.weight[OLD.first_gene_position + OLD.genes.index(gene)]
        after = new.encoder.embeddings.position.weight[layout.first_gene_position + layout.genes.index(gene)]
        assert torch.equal(before, after)
    end = new.encoder.embeddings.position.weight[-1], old.encoder.embeddings.position.weight[-1]
    assert torch.equal(*end)
    votes = new.gene_decoder.votes  # categories a b c d | f m | eye skin
    places = [0, 1, 2, 4, 5]
    assert torch.equal(votes[places][:, places], old.gene_decoder.votes)
    assert not votes[3].any()
    assert places_of(OLD, layout)["categories"].tolist() == places
    assert not new.training


def test_old_weights_stay_where_they_are(old):
    before = {name: value.clone() for name, value in old.state_dict().items()}
    new = grow_module(old, OLD.grown({"type": ["d"]}))
    with torch.no_grad():
        for parameter in new.parameters():
            parameter.fill_(1.0)
    assert all(torch.equal(before[name], value) for name, value in old.state_dict().items())


def test_a_grown_layout_holds_the_old_one():
    layout = OLD.grown({"sex": ["x"], "tissue": ["eye", "skin"]}, ["new"])
    assert layout.vocabulary[: OLD.first_bin_id] == OLD.vocabulary[: OLD.first_bin_id]
    assert layout.vocabulary[layout.first_bin_id :] == ("0", "1", "2", "3", "4")
    assert layout.genes == (*OLD.genes, "new")
    codes = np.array([[0, 1, -1], [2, 2, 1]])
    words = [[layout.vocabulary[i] for i in row] for row in layout.encode_phenotypes(codes)]
    assert words == [["[type=a]", "[sex=m]", "[no_tissue]"], ["[type=c]", "[sex=x]", "[tissue=skin]"]]
    assert TokenLayout.from_dict(layout.to_dict()) == layout
    with pytest.raises(ValueError, match="named more than once"):
        OLD.grown({}, ["g0"])


def test_words_of_the_original_are_spelled_as_its_own():
    words = ["[PAD]", "[MASK]", "[SEP]", "[CLS]", "[UNK]", "[START]", "[END]", "[no_type]", "[B_cell]", "[T_cell]"]
    layout = TokenLayout.from_vocabulary(words, {"type": ["B cell", "T cell"]}, ["g"], 2)
    assert layout.grown({"type": ["NK cell"]}).vocabulary[10] == "[NK_cell]"
