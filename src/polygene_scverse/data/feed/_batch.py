"""Assembly of a batch from tokens and a masking.

The columns of a batch are ``[CLS, phenotypes, START, END | visible genes | targets]``; each part is padded to the
longest cell. The first two parts are keys, which every token may attend to; targets are queries only, and no token
attends to them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from polygene_scverse._layout import MASK, PAD, TokenLayout
from polygene_scverse.data.feed._masking import Masking
from polygene_scverse.data.read._tokens import Cells

Batch = dict[str, NDArray[np.generic]]


def _pad(rows: NDArray[np.integer], n_rows: int) -> tuple[NDArray[np.integer], int]:
    """Column of each entry within its row, for entries sorted by row, and the number of columns."""
    lengths = np.bincount(rows, minlength=n_rows)
    starts = np.cumsum(lengths) - lengths
    return np.arange(len(rows)) - starts[rows], int(lengths.max(initial=0))


def make_batch(
    cells: Cells,
    masking: Masking,
    layout: TokenLayout,
    codes: NDArray[np.integer],
) -> Batch:
    """Assemble the padded arrays of a batch.

    Parameters
    ----------
    cells
        The cells of the batch.
    masking
        Which genes are visible and which are targets.
    layout
        Token ids and positions.
    codes
        Phenotype codes, -1 where unknown; shape (n_cells, n_phenotypes).

    Returns
    -------
    ``tokens``, ``positions`` (n_cells, n_columns); ``key_mask`` (n_cells, n_keys), False on padding;
    ``values`` (n_cells, n_visible), 0 on padding; ``target_bins`` (n_cells, n_targets), -1 on padding;
    ``zero_offset`` and ``shown_share`` (n_cells,); ``phenotypes`` and ``phenotype_hidden`` (n_cells, n_phenotypes).
    """
    n, s = len(cells), layout.n_special
    rows = cells.rows
    v_rows = rows[masking.visible]
    v_cols, n_visible = _pad(v_rows, n)
    t_rows = np.concatenate([rows[masking.target], masking.zero_rows])
    t_genes = np.concatenate([cells.genes[masking.target], masking.zero_genes])
    t_bins = np.concatenate([cells.bins[masking.target], np.zeros(len(masking.zero_rows), dtype=np.int16)])
    order = np.argsort(t_rows * layout.n_genes + t_genes)  # so that their order does not reveal the bins
    t_rows, t_genes, t_bins = t_rows[order], t_genes[order], t_bins[order]
    t_cols, n_targets = _pad(t_rows, n)
    n_keys = s + n_visible

    tokens = np.full((n, n_keys + n_targets), PAD, dtype=np.int64)
    positions = np.zeros_like(tokens)
    tokens[:, :s], positions[:, :s] = layout.special_tokens, layout.special_positions
    tokens[:, 1 : 1 + layout.n_phenotypes] = np.where(masking.hidden, MASK, layout.encode_phenotypes(codes))
    tokens[v_rows, s + v_cols] = layout.first_bin_id + cells.bins[masking.visible]
    positions[v_rows, s + v_cols] = layout.first_gene_position + cells.genes[masking.visible]
    tokens[t_rows, n_keys + t_cols] = MASK
    positions[t_rows, n_keys + t_cols] = layout.first_gene_position + t_genes

    key_mask = np.ones((n, n_keys), dtype=bool)
    key_mask[:, s:] = np.arange(n_visible) < np.bincount(v_rows, minlength=n)[:, None]
    values = np.zeros((n, n_visible), dtype=np.float32)
    values[v_rows, v_cols] = cells.values[masking.visible]
    target_bins = np.full((n, n_targets), -1, dtype=np.int64)
    target_bins[t_rows, t_cols] = t_bins
    return {
        "tokens": tokens,
        "positions": positions,
        "key_mask": key_mask,
        "values": values,
        "target_bins": target_bins,
        "zero_offset": masking.log_sampling_ratio,
        "shown_share": np.ones(n, dtype=np.float32) if masking.shown_share is None else masking.shown_share,
        "phenotypes": codes.astype(np.int64),
        "phenotype_hidden": masking.hidden,
    }
