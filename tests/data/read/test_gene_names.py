"""Each name has one right answer, which stands in GENCODE."""

import gzip

import numpy as np
import pandas as pd
import pytest

from polygene_scverse.data.read._gene_names import TABLE, gene_id, gene_table, match_names, species_of

SYMBOLS = ["CD3E", "CD19", "NKG7", "MS4A1", "GNLY"]
IDS = ["ENSG00000198851", "ENSG00000177455", "ENSG00000105374", "ENSG00000156738", "ENSG00000115523"]
MOUSE = {"Cd3e": "ENSMUSG00000032093", "Cd19": "ENSMUSG00000030724", "Nkg7": "ENSMUSG00000004612"}


def match(own, known, var=None, **kwargs):
    return match_names(pd.Index(own), known, var, **kwargs)


def test_the_table_is_what_it_says():
    with gzip.open(TABLE, "rt") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    assert all(len(row) == 2 and row[1].startswith(("ENSG0", "ENSMUSG0")) for row in rows)
    assert len({tuple(row) for row in rows}) == len(rows)
    assert {name: len(table) for name, table in gene_table().items()} == {"human": 25_745, "mouse": 33_397}
    assert "MIT License" in (TABLE.parent / "LICENSE.txt").read_text()


UNUSUAL = ["HLA_DRA", "MT_CO1", "NKX2_1", "GRCh38_CD3D", "AL928768_3"]
CASES = {
    "names": (SYMBOLS, SYMBOLS, "name"),
    "symbols of ids": (IDS, SYMBOLS, "Ensembl id and symbol"),
    "ids of symbols": (SYMBOLS, IDS, "Ensembl id and symbol"),
    "versions": ([f"{name}.{i}" for i, name in enumerate(IDS)], IDS, "version or case"),
    "versions, the other way": (IDS, [f"{name}.{i}" for i, name in enumerate(IDS)], "version or case"),
    "versions and symbols": ([f"{name}.12" for name in IDS], SYMBOLS, "Ensembl id and symbol"),
    "case": ([name.lower() for name in SYMBOLS], SYMBOLS, "version or case"),
    "dashes of Seurat": ([name.replace("_", "-") for name in UNUSUAL], UNUSUAL, "version or case"),
    "dots of R": ([n.replace("_", ".") for n in UNUSUAL], [n.replace("_", "-") for n in UNUSUAL], "version or case"),
    "spaces": ([f"{name} " for name in SYMBOLS], SYMBOLS, "version or case"),
    "case and ids": ([name.lower() for name in SYMBOLS], IDS, "Ensembl id and symbol"),
    "mouse": (list(MOUSE), list(MOUSE.values()), "Ensembl id and symbol"),
    "mouse, back": (list(MOUSE.values()), list(MOUSE), "Ensembl id and symbol"),
}


@pytest.mark.parametrize(("own", "known", "way"), CASES.values(), ids=CASES)
def test_genes_are_matched_whatever_they_are_called(own, known, way):
    order = np.random.default_rng(0).permutation(len(own))
    found = match([own[i] for i in order] + ["nonsense"], known)
    assert list(found.names) == [known[i] for i in order] + ["nonsense"]
    assert found.matched.tolist() == [True] * len(own) + [False]
    assert found.how == {way: len(own)}
    assert bool(found.note) == (way != "name")


def test_a_symbol_of_two_ids_is_left_out_and_said():
    (symbol,) = [name for name, ids in gene_table()["human"].items() if len(ids) == 2][:1]
    first, second = gene_table()["human"][symbol]
    for own, known in (([symbol, *SYMBOLS], [first, *IDS]), ([symbol, *SYMBOLS], [first, second, *IDS])):
        found = match(own, known)
        assert not found.matched[0]
        assert found.matched[1:].all()
        assert found.ambiguous == (symbol,)
        assert "1 names are ambiguous and left out" in found.note
    assert not match([first, *IDS], [symbol, *SYMBOLS]).matched[0]
    assert gene_id(symbol, "human") is None


def test_equal_names_win_and_no_gene_is_matched_twice():
    found = match(["CD3E", IDS[0], f"{IDS[1]}.1", f"{IDS[1]}.2"], SYMBOLS)
    assert found.matched.tolist() == [True, False, False, False]  # which of two versions is meant is not told
    assert found.ambiguous == (f"{IDS[1]}.1", f"{IDS[1]}.2")
    assert found.names.is_unique


def test_genes_of_another_species_are_not_matched_by_case():
    found = match(list(MOUSE), SYMBOLS)
    assert not found.matched.any()
    assert "mouse gene names and the model has human gene names" in found.note
    assert not match(list(MOUSE.values()), SYMBOLS).matched.any()
    assert not match(list(MOUSE), IDS).matched.any()


def test_species_is_told_by_most_names():
    assert species_of(SYMBOLS) == species_of(IDS) == "human"
    assert species_of(list(MOUSE)) == species_of(list(MOUSE.values())) == "mouse"
    assert species_of(["a", "b", "c"]) is None
    assert species_of(SYMBOLS[:1]) is None


def test_columns_of_var():
    var = pd.DataFrame({"gene_ids": IDS, "probe": SYMBOLS[::-1]})
    found = match(list("abcde"), IDS, var)
    assert list(found.names) == IDS
    assert found.how == {"var['gene_ids']": 5}
    found = match(SYMBOLS, SYMBOLS, var, gene_symbols="probe")  # what is asked for goes before names
    assert list(found.names) == SYMBOLS[::-1]
    probes = pd.DataFrame({"probe": ["CD3E", *"pqrs"]})
    found = match(["x", "y", "z", "CD3E", "w"], SYMBOLS, probes, gene_symbols="probe")
    assert list(found.names) == ["CD3E", "y", "z", "CD3E (not matched)", "w"]
    assert found.note == ""
    found = match(IDS, SYMBOLS, pd.DataFrame({"probe": [SYMBOLS[0], *"pqrs"]}), gene_symbols="probe")
    assert "1 by var['probe'], 4 by Ensembl id and symbol" in found.note  # what was not asked for is said
    with pytest.raises(KeyError, match=r"`gene_ids`: 'ensembl' is not a column of adata\.var.*gene_ids"):
        match(SYMBOLS, IDS, var, gene_ids="ensembl")


def test_missing_values_and_odd_columns_match_nothing():
    var = pd.DataFrame({"gene_ids": [IDS[0], None, np.nan, "", IDS[0]], "symbol": pd.Categorical(list("abcde"))})
    found = match(list("vwxyz"), IDS, var)
    assert not found.matched.any()
    assert found.ambiguous == ("v", "z")
