"""Token layout of a cell: slots, vocabulary, ids and positions.

``[CLS] [phenotype 1] … [phenotype P] [START] gene 1 … gene N [END]``

A slot is identified by its position. The token in a gene's slot is its expression bin; the token in a phenotype's slot
is one of the phenotype's categories, or its "no value" token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

PAD, MASK, SEP, CLS, UNK, START, END = range(7)
SPECIAL_TOKENS = ("[PAD]", "[MASK]", "[SEP]", "[CLS]", "[UNK]", "[START]", "[END]")


def token_text(label: str) -> str:
    """Token of a label, spelled as in the original: ``"B cell"`` -> ``"[B_cell]"``."""
    return f"[{label.replace(' ', '_')}]"


@dataclass(frozen=True)
class PhenotypeSlot:
    """A phenotype with its name, its categories and their token ids.

    Parameters
    ----------
    name
        Obs column from which the phenotype is learned.
    categories
        Labels, in the order of their codes 0, 1, …
    ids
        Token id of each category.
    no_value_id
        Token id that is shown if the value is missing.
    """

    name: str
    categories: tuple[str, ...]
    ids: tuple[int, ...]
    no_value_id: int

    def encode(self, codes: NDArray[np.integer]) -> NDArray[np.int64]:
        """Token ids of category codes; the code -1 (unknown) is replaced by the "no value" id."""
        table = np.array([*self.ids, self.no_value_id], dtype=np.int64)
        return table[codes]  # -1 selects the last row of the table


@dataclass(frozen=True)
class TokenLayout:
    """Slots, vocabulary, ids and positions of the token sequence.

    Parameters
    ----------
    phenotypes
        Phenotype slots, in order.
    genes
        Gene names, in order (most variable first).
    n_bins
        Number of expression bins, including bin 0 ("not expressed").
    first_bin_id
        Token id of bin 0; the ids of the other bins follow.
    vocabulary
        Token of each id.
    """

    phenotypes: tuple[PhenotypeSlot, ...]
    genes: tuple[str, ...]
    n_bins: int
    first_bin_id: int
    vocabulary: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.genes)) != len(self.genes):
            raise ValueError(f"`genes`: {_twice(self.genes)} named more than once. Name each gene once.")
        if len(set(self.phenotype_names)) != len(self.phenotypes):
            raise ValueError(f"`phenotypes`: {_twice(self.phenotype_names)} named more than once. Name each once.")
        if self.n_bins < 2:
            raise ValueError(f"`n_bins`: found {self.n_bins}, but at least 2 bins are needed. Pass 2 for binary.")

    @classmethod
    def build(cls, phenotypes: Mapping[str, Sequence[str]], genes: Sequence[str], n_bins: int) -> TokenLayout:
        """Create a layout for any phenotypes and genes.

        Parameters
        ----------
        phenotypes
            Name of each phenotype and its categories.
        genes
            Gene names, most variable first.
        n_bins
            Number of expression bins.
        """
        words = [*SPECIAL_TOKENS, *(token_text(f"no_{name}") for name in phenotypes)]
        slots = []
        for i, (name, categories) in enumerate(phenotypes.items()):
            ids = tuple(range(len(words), len(words) + len(categories)))
            slots.append(PhenotypeSlot(name, tuple(categories), ids, len(SPECIAL_TOKENS) + i))
            words += [token_text(f"{name}={category}") for category in categories]
        first_bin_id = len(words)
        words += [str(b) for b in range(n_bins)]
        return cls(tuple(slots), tuple(genes), n_bins, first_bin_id, tuple(words))

    @classmethod
    def from_vocabulary(
        cls, words: Sequence[str], phenotypes: Mapping[str, Sequence[str]], genes: Sequence[str], n_bins: int
    ) -> TokenLayout:
        """Create a layout from a given vocabulary, in which ids are the indices of tokens; bins are added at the end.

        Parameters
        ----------
        words
            The vocabulary without bins, as the lines of the original's ``vocab.txt``.
        phenotypes
            Name of each phenotype and its categories; `words` must contain ``[no_<name>]`` and the token of each
            category.
        genes
            Gene names, most variable first.
        n_bins
            Number of expression bins.

        Raises
        ------
        ValueError
            If a token is not in the vocabulary, or if it does not begin with the special tokens.
        """
        ids = {word: i for i, word in enumerate(words)}
        wanted = [token_text(f"no_{name}") for name in phenotypes]
        wanted += [token_text(c) for categories in phenotypes.values() for c in categories]
        absent = [word for word in (*SPECIAL_TOKENS, *wanted) if word not in ids]
        if list(words[: len(SPECIAL_TOKENS)]) != list(SPECIAL_TOKENS) and not absent:
            raise ValueError(
                f"`words`: the vocabulary begins with {list(words[: len(SPECIAL_TOKENS)])}, but it must begin with "
                f"{list(SPECIAL_TOKENS)}. Pass a vocabulary in the order of the original's."
            )
        if absent:
            raise ValueError(
                f"`words`: {absent[:5]} ({len(absent)} in all) are not among the {len(words)} tokens of the "
                "vocabulary. Pass the vocabulary that belongs to these phenotypes."
            )
        slots = tuple(
            PhenotypeSlot(
                name, tuple(categories), tuple(ids[token_text(c)] for c in categories), ids[token_text(f"no_{name}")]
            )
            for name, categories in phenotypes.items()
        )
        return cls(slots, tuple(genes), n_bins, len(words), (*words, *(str(b) for b in range(n_bins))))

    def grown(self, categories: Mapping[str, Sequence[str]], genes: Sequence[str] = ()) -> TokenLayout:
        """Add categories, phenotypes and genes to the layout; existing codes are not changed.

        New tokens are inserted before the bins, new phenotypes and genes after the existing ones.

        Parameters
        ----------
        categories
            New categories of each phenotype; unknown names become new phenotypes.
        genes
            New genes.
        """
        words, slots = list(self.vocabulary[: self.first_bin_id]), []
        for slot in self.phenotypes:
            new = tuple(categories.get(slot.name, ()))
            plain = bool(slot.ids) and words[slot.ids[0]] == token_text(slot.categories[0])  # as the original spells it
            ids = tuple(range(len(words), len(words) + len(new)))
            words += [token_text(c if plain else f"{slot.name}={c}") for c in new]
            slots.append(PhenotypeSlot(slot.name, slot.categories + new, slot.ids + ids, slot.no_value_id))
        for name in [name for name in categories if name not in self.phenotype_names]:
            words.append(token_text(f"no_{name}"))
            ids = tuple(range(len(words), len(words) + len(categories[name])))
            words += [token_text(f"{name}={c}") for c in categories[name]]
            slots.append(PhenotypeSlot(name, tuple(categories[name]), ids, ids[0] - 1))
        bins = self.vocabulary[self.first_bin_id :]
        return TokenLayout(tuple(slots), (*self.genes, *genes), self.n_bins, len(words), (*words, *bins))

    @property
    def phenotype_names(self) -> tuple[str, ...]:
        """Names of the phenotypes, in the order of their slots."""
        return tuple(slot.name for slot in self.phenotypes)

    @property
    def n_phenotypes(self) -> int:
        """Number of phenotype slots, P."""
        return len(self.phenotypes)

    @property
    def n_genes(self) -> int:
        """Number of gene slots, N."""
        return len(self.genes)

    @property
    def n_tokens(self) -> int:
        """Size of the vocabulary."""
        return len(self.vocabulary)

    @property
    def length(self) -> int:
        """Number of slots, N + P + 3."""
        return self.n_genes + self.n_phenotypes + 3

    @property
    def first_gene_position(self) -> int:
        """Position of the first gene slot."""
        return self.n_phenotypes + 2

    @property
    def n_special(self) -> int:
        """Number of slots that are not genes: CLS, phenotypes, START, END."""
        return self.n_phenotypes + 3

    @cached_property
    def special_tokens(self) -> NDArray[np.int64]:
        """Token ids of the slots that are not genes, with every phenotype masked; shape (n_special,)."""
        return np.array([CLS, *[MASK] * self.n_phenotypes, START, END], dtype=np.int64)

    @cached_property
    def special_positions(self) -> NDArray[np.int64]:
        """Positions of the slots that are not genes; shape (n_special,)."""
        return np.array([*range(self.first_gene_position), self.length - 1], dtype=np.int64)

    def encode_phenotypes(self, codes: NDArray[np.integer]) -> NDArray[np.int64]:
        """Token ids of phenotype codes.

        Parameters
        ----------
        codes
            Category codes, -1 where the value is missing; shape (n_cells, n_phenotypes).
        """
        columns = [slot.encode(codes[:, i]) for i, slot in enumerate(self.phenotypes)]
        return np.stack(columns, axis=1) if columns else np.empty((len(codes), 0), dtype=np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain containers for saving; `from_dict` reads them."""
        plain = asdict(self)
        plain["phenotypes"] = [
            {"name": s.name, "categories": list(s.categories), "ids": list(s.ids), "no_value_id": s.no_value_id}
            for s in self.phenotypes
        ]
        return plain | {"genes": list(self.genes), "vocabulary": list(self.vocabulary)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> TokenLayout:
        """Read the output of `to_dict`."""
        slots = tuple(
            PhenotypeSlot(s["name"], tuple(s["categories"]), tuple(s["ids"]), s["no_value_id"])
            for s in plain["phenotypes"]
        )
        return cls(slots, tuple(plain["genes"]), plain["n_bins"], plain["first_bin_id"], tuple(plain["vocabulary"]))


def _twice(names: Sequence[str]) -> list[str]:
    """Up to three names that occur more than once."""
    return [name for name, n in Counter(names).items() if n > 1][:3]
