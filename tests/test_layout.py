"""2 phenotypes with 2 and 3 categories, 5 genes, 4 bins: worked out by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest

from polygene_scverse._layout import MASK, SPECIAL_TOKENS, TokenLayout, token_text

PHENOTYPES = {"sex": ["female", "male"], "fate": ["B cell", "T cell", "NK cell"]}
GENES = ["a", "b", "c", "d", "e"]
LAYOUT = TokenLayout.build(PHENOTYPES, GENES, 4)


@pytest.mark.parametrize(
    ("label", "word"), [("B cell", "[B_cell]"), ("37-year-old human stage", "[37-year-old_human_stage]"), ("x", "[x]")]
)
def test_token_text(label, word):
    assert token_text(label) == word


def test_vocabulary_of_a_built_layout():
    assert LAYOUT.vocabulary == (
        *("[PAD]", "[MASK]", "[SEP]", "[CLS]", "[UNK]", "[START]", "[END]", "[no_sex]", "[no_fate]"),
        *("[sex=female]", "[sex=male]", "[fate=B_cell]", "[fate=T_cell]", "[fate=NK_cell]"),
        *("0", "1", "2", "3"),
    )
    assert LAYOUT.n_tokens == 18
    assert LAYOUT.first_bin_id == 14


def test_slots_and_positions():
    """``CLS 0, sex 1, fate 2, START 3, genes 4 … 8, END 9``."""
    assert (LAYOUT.n_phenotypes, LAYOUT.n_genes, LAYOUT.n_special, LAYOUT.length) == (2, 5, 5, 10)
    assert LAYOUT.first_gene_position == 4
    np.testing.assert_array_equal(LAYOUT.special_positions, [0, 1, 2, 3, 9])
    words = [LAYOUT.vocabulary[i] for i in LAYOUT.special_tokens]
    assert words == ["[CLS]", "[MASK]", "[MASK]", "[START]", "[END]"]
    assert SPECIAL_TOKENS[MASK] == "[MASK]"
    assert LAYOUT.phenotypes[1].categories == ("B cell", "T cell", "NK cell")


def test_positions_are_all_of_the_sentence():
    genes = LAYOUT.first_gene_position + np.arange(LAYOUT.n_genes)
    assert sorted([*LAYOUT.special_positions, *genes]) == list(range(LAYOUT.length))


def test_encode_phenotypes():
    codes = np.array([[0, 2], [1, -1], [-1, 0]])
    np.testing.assert_array_equal(LAYOUT.encode_phenotypes(codes), [[9, 13], [10, 8], [7, 11]])


def test_encode_phenotypes_without_phenotypes():
    layout = TokenLayout.build({}, GENES, 4)
    assert layout.encode_phenotypes(np.empty((3, 0), dtype=int)).shape == (3, 0)


def test_the_same_category_in_two_phenotypes_has_two_ids():
    layout = TokenLayout.build({"sex": ["1", "2"], "stage": ["1", "2"]}, GENES, 2)
    sex, stage = layout.phenotypes
    assert not set(sex.ids) & set(stage.ids)
    assert len(set(layout.vocabulary)) == layout.n_tokens


def test_from_vocabulary_takes_ids_from_places():
    words = ["[PAD]", "[MASK]", "[SEP]", "[CLS]", "[UNK]", "[START]", "[END]", "[no_fate]", "[unused]", "[no_sex]"]
    words += ["[T_cell]", "[NK_cell]", "[male]", "[B_cell]", "[female]"]
    layout = TokenLayout.from_vocabulary(words, PHENOTYPES, GENES, 3)
    assert [(s.ids, s.no_value_id) for s in layout.phenotypes] == [((14, 12), 9), ((13, 10, 11), 7)]
    assert layout.first_bin_id == 15
    assert layout.vocabulary == (*words, "0", "1", "2")
    np.testing.assert_array_equal(layout.encode_phenotypes(np.array([[1, -1]])), [[12, 7]])


def test_from_vocabulary_names_absent_words():
    words = [*SPECIAL_TOKENS, "[no_sex]", "[female]"]
    with pytest.raises(ValueError, match=r"`words`: \['\[male\]'\] \(1 in all\) are not among the 9 tokens"):
        TokenLayout.from_vocabulary(words, {"sex": ["female", "male"]}, GENES, 3)


def test_from_vocabulary_wants_the_special_words_first():
    words = ["[MASK]", "[PAD]", *SPECIAL_TOKENS[2:], "[no_sex]", "[female]", "[male]"]
    with pytest.raises(ValueError, match=r"`words`: the vocabulary begins with \['\[MASK\]', '\[PAD\]'"):
        TokenLayout.from_vocabulary(words, {"sex": ["female", "male"]}, GENES, 3)


def test_round_trip_through_plain_containers():
    plain = json.loads(json.dumps(LAYOUT.to_dict()))
    assert TokenLayout.from_dict(plain) == LAYOUT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"genes": ("a", "b", "a")}, r"`genes`: \['a'\] named more than once"),
        ({"phenotypes": LAYOUT.phenotypes[:1] * 2}, r"`phenotypes`: \['\w+'\] named more than once"),
        ({"n_bins": 1}, "`n_bins`: found 1, but at least 2 bins are needed"),
    ],
    ids=["gene twice", "phenotype twice", "one bin"],
)
def test_impossible_layouts_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(LAYOUT, **change)
