"""Our own reading, ranking, binning and layout give the token ids of the original, for every case."""

import json

import anndata as ad
import h5py
import numpy as np
import pytest

from polygene_scverse._constants import RANK
from polygene_scverse._layout import TokenLayout
from polygene_scverse.data.feed._batch import make_batch
from polygene_scverse.data.feed._masking import ask
from polygene_scverse.data.read._binning import digitize, make_edges
from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._phenotypes import encode_all
from polygene_scverse.data.read._ranking import genes_by_rank
from polygene_scverse.data.read._scale import OURS
from polygene_scverse.data.read._source import read_rows
from polygene_scverse.data.read._tokens import Tokenizer
from polygene_scverse.model.original._files import (
    CATEGORY_FILES,
    ORIGINAL_COLUMNS,
    read_genes,
    read_vocabulary,
    read_words,
    write_vocabulary,
)

N_GENES = 64
CASES = {
    "binned": ("original", 10),
    "binned5": ("original", 5),
    "binned_noage": ("original", 10),
    "binary01": ([0.0, 0.1], 2),
    "binary05": ([0.0, 0.5], 2),
}


@pytest.fixture
def cells(original):
    """The original's cells; the infinite value, which we refuse, replaced by another one of the last bin."""
    adata = ad.read_h5ad(original.cells)
    assert np.isinf(adata.X.data).sum() == 1
    adata.X.data[np.isinf(adata.X.data)] = 9.5
    return adata


def vectors_batch(adata, folder, binning, n_bins, without=()):
    """Ragged batch with everything shown, and its layout."""
    x = Expression.of(adata).matrix
    words, categories = read_vocabulary(folder)
    layout = TokenLayout.from_vocabulary(words, categories, genes_by_rank(adata.var[RANK], N_GENES), n_bins)
    tokenizer = Tokenizer.match(layout.genes, adata.var_names, OURS, make_edges(binning, n_bins, x.data))
    cells = tokenizer(read_rows(x, np.arange(adata.n_obs)))
    columns = {ORIGINAL_COLUMNS[name]: known for name, known in categories.items()}
    codes, unseen = encode_all(adata.obs.drop(columns=list(without)), columns)
    assert unseen == {}
    return make_batch(
        cells, ask(cells, np.zeros(0, dtype=np.int64), np.zeros(codes.shape, dtype=bool)), layout, codes
    ), layout


def to_dense(batch, layout):
    """The (N + P + 3)-token sentence and who is visible in it: genes that are left out stand in bin 0."""
    n_cells = len(batch["tokens"])
    ids = np.full((n_cells, layout.length), layout.first_bin_id)
    visible = np.zeros((n_cells, layout.length), dtype=bool)
    row, column = np.nonzero(batch["key_mask"])
    position = batch["positions"][row, column]
    ids[row, position] = batch["tokens"][row, column]
    visible[row, position] = True
    return ids, visible


@pytest.mark.parametrize("case", CASES)
def test_token_ids_and_visibility_are_those_of_the_original(case, cells, original):
    binning, n_bins = CASES[case]
    without = ["development_stage"] if case == "binned_noage" else []
    ids, visible = to_dense(*vectors_batch(cells, original.vocabulary, binning, n_bins, without))
    np.testing.assert_array_equal(ids, original.tokens[f"{case}_input_ids"])
    np.testing.assert_array_equal(visible, original.tokens[f"{case}_attention_mask"].astype(bool))


@pytest.mark.parametrize("case", CASES)
def test_values_are_those_of_the_original(case, cells, original):
    batch, layout = vectors_batch(cells, original.vocabulary, *CASES[case])
    row, column = np.nonzero(batch["key_mask"][:, layout.n_special :])
    gene = batch["positions"][row, column + layout.n_special] - layout.first_gene_position
    expected = np.where(np.isinf(original.tokens[f"{case}_X"]), np.float32(9.5), original.tokens[f"{case}_X"])
    np.testing.assert_array_equal(batch["values"][row, column], expected[row, gene])


def test_genes_stand_in_the_order_of_the_original(cells, original):
    assert genes_by_rank(cells.var[RANK], N_GENES) == original.tokens["binned_gene_order"].tolist()


def test_edges_and_edge_values(original):
    """Values at and beside edges, and infinity."""
    edges = make_edges("original", 10, np.zeros(0))
    np.testing.assert_array_equal(edges, original.tokens["bin_edges"])
    bins = digitize(original.tokens["edge_values"], edges)
    np.testing.assert_array_equal(bins, original.tokens["binned_input_ids"][0, 7:27] - 274)


def test_layout_expresses_the_vocabulary(original):
    words, categories = read_vocabulary(original.vocabulary)
    layout = TokenLayout.from_vocabulary(words, categories, [f"g{i}" for i in range(N_GENES)], 10)
    assert {word: i for i, word in enumerate(layout.vocabulary)} == json.loads(original.vocab_json.read_text())
    assert layout.phenotype_names == ("sex", "tissue", "cell_type", "age", "disease")
    assert layout.length == N_GENES + 8
    sex, tissue, cell_type, age, disease = layout.phenotypes
    assert tissue.ids == tuple(range(21, 66))
    assert cell_type.ids == tuple(range(66, 227))
    assert age.ids == tuple(range(227, 241))
    assert sex.ids == (241, 242)
    assert disease.ids[0] == 243
    assert [slot.no_value_id for slot in layout.phenotypes] == [7, 8, 9, 10, 11]
    assert layout.first_bin_id == 274


def test_strict_reading_refuses_the_infinite_value(original):
    adata = ad.read_h5ad(original.cells)
    with pytest.raises(ValueError, match=r"`adata`: 1 values of adata\.X are infinite"):
        Expression.of(adata).rows(np.arange(adata.n_obs))


# the same reader without the original's files

LISTS = {
    "sex": ["female", "male"],
    "tissue": ["liver", "eye"],
    "cell_type": ["B cell", "T cell"],
    "age": ["young", "old"],
    "disease": ["normal"],
}


@pytest.fixture
def folder(tmp_path):
    """A vocabulary folder with ids in another order than the slots."""
    words = ["[PAD]", "[MASK]", "[SEP]", "[CLS]", "[UNK]", "[START]", "[END]"]
    words += [f"[no_{name}]" for name in LISTS]
    words += [f"[{label.replace(' ', '_')}]" for name in reversed(LISTS) for label in LISTS[name]]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    for name, file in CATEGORY_FILES.items():
        (tmp_path / file).write_text("\n".join(LISTS[name]))
    return tmp_path


def test_read_vocabulary(folder):
    words, categories = read_vocabulary(folder)
    assert words[6:9] == ["[END]", "[no_sex]", "[no_tissue]"]
    assert words[-1] == "[male]"
    assert categories == LISTS
    assert list(categories) == list(ORIGINAL_COLUMNS)


def test_simulated_cells_in_that_vocabulary(folder, pbmc):
    """The twin of the vectors: token ids of real cells against a dense one-liner."""
    labels = {
        column: np.array(LISTS[name])[np.arange(pbmc.n_obs) % len(LISTS[name])]
        for name, column in ORIGINAL_COLUMNS.items()
    }
    pbmc.obs = pbmc.obs.assign(**labels).drop(columns="development_stage")
    pbmc.var[RANK] = np.random.default_rng(0).permutation(pbmc.n_vars).astype(float)
    ids, visible = to_dense(*vectors_batch(pbmc, folder, "original", 10))
    words, _ = read_vocabulary(folder)
    x = pbmc.X.toarray()[:, np.argsort(pbmc.var[RANK])][:, :N_GENES]
    edges = np.concatenate([[0], np.linspace(0.1, 9.0, 9)])
    bins = np.digitize(x, edges) - 1
    np.testing.assert_array_equal(ids[:, 7:-1], len(words) + bins)
    np.testing.assert_array_equal(visible[:, 7:-1], bins > 0)
    assert visible[:, [*range(7), -1]].all()
    first = ["[CLS]", "[female]", "[liver]", "[B_cell]", "[no_age]", "[normal]", "[START]"]
    assert [words[i] for i in ids[0, :7]] == first
    assert set(ids[:, -1]) == {words.index("[END]")}


@pytest.mark.parametrize("name", ["vocab.txt", "cell_types.txt"])
def test_a_missing_file_is_named(name, folder):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"`folder`: \['{name}'\] not in .* vocabulary folder of the original"):
        read_vocabulary(folder)


@pytest.mark.parametrize(
    ("text", "message"), [("", "is empty"), ("male\nfemale\nmale\n", "holds a line twice")], ids=["empty", "twice"]
)
def test_a_damaged_file_is_refused(text, message, folder):
    (folder / "sex_types.txt").write_text(text)
    with pytest.raises(ValueError, match=rf"`folder`: .*sex_types\.txt {message}"):
        read_vocabulary(folder)


def test_words_alone(folder):
    words = read_words(folder)
    assert words == read_vocabulary(folder)[0]
    for name in CATEGORY_FILES.values():
        (folder / name).unlink()
    assert read_words(str(folder)) == words
    (folder / "vocab.txt").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"`vocabulary`: there is no vocab\.txt in .* Pass the folder that holds"
    ):
        read_words(folder)


def test_a_written_vocabulary_is_read_again(folder, tmp_path):
    words, categories = read_vocabulary(folder)
    layout = TokenLayout.from_vocabulary(words, categories, ["g"], 10)
    (tmp_path / "out").mkdir()
    write_vocabulary(layout, tmp_path / "out")
    assert read_vocabulary(tmp_path / "out") == (words, categories)


def test_of_other_phenotypes_the_words_alone_are_written(tmp_path):
    layout = TokenLayout.build({"phase": ["G1", "S"]}, ["g"], 3)
    write_vocabulary(layout, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["vocab.txt"]
    assert (tmp_path / "vocab.txt").read_text().splitlines() == list(layout.vocabulary[:-3])


# genes


def test_genes_of_the_original_s_cells(original):
    assert read_genes(original.cells, N_GENES) == original.tokens["binned_gene_order"].tolist()


def test_genes_of_an_h5ad_file_are_the_lowest_ranks(pbmc, tmp_path):
    """The twin: shuffled ranks, some genes without one."""
    ranks = np.random.default_rng(0).permutation(pbmc.n_vars).astype(float)
    pbmc.var[RANK] = np.where(ranks < 500, ranks, np.nan)
    pbmc.write_h5ad(tmp_path / "cells.h5ad")
    expected = pbmc.var[RANK].nsmallest(17).index.tolist()
    assert read_genes(tmp_path / "cells.h5ad", 17) == expected


def test_only_var_of_an_h5ad_file_is_read(pbmc, tmp_path):
    pbmc.var[RANK] = np.arange(pbmc.n_vars, dtype=float)
    pbmc.write_h5ad(tmp_path / "cells.h5ad")
    with h5py.File(tmp_path / "cells.h5ad", "a") as file:
        for name in list(file):
            if name != "var":
                del file[name]
    assert read_genes(tmp_path / "cells.h5ad", 3) == pbmc.var_names[:3].tolist()


def test_genes_of_a_text_file_and_of_a_list(tmp_path):
    (tmp_path / "genes.txt").write_text("B\nA \r\n\nC\n")
    assert read_genes(str(tmp_path / "genes.txt"), 3) == ["B", "A", "C"]
    assert read_genes(np.array(["B", "A", "C"]), 2) == ["B", "A"]


def test_too_few_genes_are_refused(tmp_path):
    (tmp_path / "genes.txt").write_text("B\nA\n")
    with pytest.raises(ValueError, match=r"`genes`: found 2, \['B', 'A'\], but the checkpoint has 3 genes"):
        read_genes(tmp_path / "genes.txt", 3)


def test_a_gene_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`genes`: there is no file .*genes\.txt"):
        read_genes(tmp_path / "genes.txt", 3)


def test_an_h5ad_file_without_ranks_is_refused(pbmc, tmp_path):
    pbmc.var["n_counts"] = 1
    pbmc.write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(KeyError, match=r"var\['highly_variable_rank'\] is not among the columns \['n_counts'\]"):
        read_genes(tmp_path / "cells.h5ad", 3)


def test_a_gene_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "genes.txt.gz").write_bytes(b"\x1f\x8b\xff\xfe")
    with pytest.raises(ValueError, match="is neither an h5ad file nor text"):
        read_genes(tmp_path / "genes.txt.gz", 3)
