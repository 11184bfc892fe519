"""Detection of the scale of an expression matrix from some of its rows, and conversion to log1p of counts per 10,000.

Three kinds of evidence are examined under the inverse of each possible transformation. First, rows of normalised data
have the same sum. Second, the values of a cell are integer multiples of its smallest value, because they were integer
counts once; as one count equals ``target / total``, this reveals the target even if genes were removed after the
normalisation. Third, decimal counts, as from ambient RNA removal or RSEM, are close to integers or larger than any
logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from polygene_scverse._constants import TARGET_SUM
from polygene_scverse._validate import check_finite, check_not_negative
from polygene_scverse.data.read._binning import normalize

Kind = Literal["counts", "log"]
Floats = NDArray[np.floating]

LOG_SLACK: Final = 5.0
"""Tolerance by which a log1p value may exceed the maximum for its target: the target may be a thousand times larger."""
STANDARD: Final = (1e3, 1e4, 1e5, 1e6)
"""Usual target sums of a normalisation, in addition to the median of the data set."""
SAME_SUM, NEARLY_SAME = 1e-3, 1e-4
"""Largest relative spread of row sums that counts as constant; and largest relative distance from a usual sum."""
MULTIPLES: Final = (1.5, 50.0)
"""Multiples of the smallest value of a cell that are used: below, all are 1; above, integers are too close."""
FEWEST_VALUES, FEWEST_OF_ROW, FEWEST_OF_CONSTANT = 10, 3, 4
LARGEST_RESIDUE: Final = 0.05
"""Mean distance from the nearest integer up to which values count as multiples; 0.25 is expected by chance."""
MIXED: Final = 0.05
"""Minimum share of rows with a second scale for an error about mixed scales."""
MOST_ONES: Final = 1000
"""Minimum number of values for which it is no coincidence that all counts are 1."""
MANY_GENES, NO_ZEROS = 200, 0.99
"""Number of genes that no single cell expresses all of, and share of values above 0 that counts as all."""
LARGEST_SHARE: Final = 1.0
"""Largest value of genes that were scaled to 0 … 1; logarithms of normalised counts exceed it."""
LARGEST_LOG: Final = 20.0
"""Exceeds log2 of a million, so no logarithm of expression is larger."""


@dataclass(frozen=True)
class Scale:
    """Scale of stored values.

    Parameters
    ----------
    kind
        ``"counts"``, integer or decimal, or proportional to counts within each cell; or ``"log"``, the logarithm of
        1 + normalised counts.
    base
        Base of the logarithm.
    target
        Sum to which cells were normalised; None if it differs by cell and is the sum of all columns, as for counts,
        logarithms of counts without normalisation, and separately normalised samples.
    complete
        Whether the sum over all columns is the total of the cell; False if genes were removed after the normalisation.
    told
        Whether the target was detected from the values; otherwise 10,000 is assumed.
    whole
        Whether values are integers, as counts usually are.
    """

    kind: Kind
    base: float = math.e
    target: float | None = None
    complete: bool = True
    told: bool = True
    whole: bool = False

    def __str__(self) -> str:
        if self.kind == "counts":
            return "counts"
        name = "log1p" if self.base == math.e else f"log{self.base:g}(1 + x)"
        per = "" if self.target is None else f" per {round(self.target, 1):,}"
        return f"{name} of counts{per.removesuffix('.0')}"

    @property
    def is_ours(self) -> bool:
        """Whether values are log1p of counts per 10,000 already."""
        return self.kind == "log" and self.base == math.e and self.target == TARGET_SUM

    @property
    def largest(self) -> float:
        """Largest possible value of this scale."""
        if self.kind == "counts":
            return math.inf
        return (math.log1p(max(self.target or 0.0, TARGET_SUM)) + LOG_SLACK) / math.log(self.base)

    def counts(self, x: sp.csr_matrix) -> tuple[Floats, NDArray[np.float64]]:
        """Counts of some cells and the total of each, up to a factor per cell.

        If all values of a cell are integer multiples of its smallest value up to rounding, these integers are returned,
        so that results are bitwise equal however the counts were transformed.

        Parameters
        ----------
        x
            Expression without stored zeros; shape (n_cells, n_vars).

        Returns
        -------
        One value for each stored value of `x`, and the totals; shape (n_cells,).
        """
        row = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
        if self.whole:
            return x.data, np.bincount(row, weights=x.data, minlength=x.shape[0]).astype(np.float64)
        linear = x.data.astype(np.float64)
        if self.kind == "log":
            linear = np.expm1(linear * math.log(self.base))
        sums: NDArray[np.float64] = np.bincount(row, weights=linear, minlength=x.shape[0]).astype(np.float64)
        totals = sums if self.target is None else np.where(sums > 0, self.target, 0.0)
        filled = np.flatnonzero(np.diff(x.indptr))
        unit = np.ones(x.shape[0])
        if len(filled):
            unit[filled] = np.minimum.reduceat(linear, x.indptr[filled])
        multiples = np.rint(linear / unit[row])
        n: NDArray[np.float64] = np.bincount(row, weights=multiples, minlength=x.shape[0]).astype(np.float64)
        unit[filled] = sums[filled] / n[filled]
        # amplification of single-precision rounding when the logarithm is undone, for a value and for the smallest one
        growth = 1.0 if self.kind == "counts" else (1 + linear) / linear * np.log1p(linear)
        error = np.abs(linear / unit[row] - multiples) > 1e-4 + 5e-7 * multiples * (growth + 1)
        exact = np.bincount(row, weights=error, minlength=x.shape[0]) == 0
        whole_totals = n
        if self.target is not None and not self.complete:
            whole_totals = totals / unit
            near = np.rint(whole_totals)
            whole_totals = np.where(np.abs(whole_totals - near) < 1e-3 + 1e-5 * near, near, whole_totals)
        return np.where(exact[row], multiples, linear), np.where(exact, whole_totals, totals)

    def to_log1p(
        self, x: sp.csr_matrix, totals: Floats | None = None, keep: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """log1p of counts per 10,000 of the stored values of some cells; values already on that scale are not changed.

        Parameters
        ----------
        x
            Expression without stored zeros; shape (n_cells, n_vars).
        totals
            Total of each cell in units of `counts`, shape (n_cells,); by default the totals from `counts`.
        keep
            Mask of the stored values to return; all by default.

        Returns
        -------
        One value for each selected stored value of `x`, in the same order.
        """
        if self.is_ours and totals is None:
            return x.data if keep is None else x.data[keep]
        row = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
        values, own = self.counts(x)
        totals = own if totals is None else totals
        if keep is not None:
            row, values = row[keep], values[keep]
        return normalize(values.astype(np.float32, copy=False), np.where(totals > 0, totals, 1.0)[row])

    def check(self, values: Floats, where: str = "adata.X", remedy: str = "") -> None:
        """Raise an error for values that this scale cannot have.

        Parameters
        ----------
        values
            Stored values.
        where
            Name of the matrix, for the error message.
        remedy
            What to read instead, for the error message; begins with a comma.

        Raises
        ------
        ValueError
            If a value is NaN, infinite, negative, or larger than any of this scale.
        """
        check_finite(values, where, remedy)
        check_not_negative(values, where, remedy)
        if (highest := float(values.max(initial=0.0))) > self.largest:
            raise ValueError(
                f"`adata`: {where} was read as {self}, but has values up to {highest:.4g}, which such data cannot "
                f"have. Bring all cells to one scale, preferably raw counts{remedy}."
            )


COUNTS: Final = Scale("counts", whole=True)
DECIMALS: Final = Scale("counts")
OURS: Final = Scale("log", target=TARGET_SUM)


@dataclass(frozen=True)
class Evidence:
    """Evidence from some rows under the inverse of one transformation.

    Parameters
    ----------
    sums
        Sum of each row; shape (n_rows,).
    units
        Value of one count in each row, NaN if unknown; shape (n_rows,).
    residues
        Mean distance of a row's values from multiples of its unit, NaN if there are too few; shape (n_rows,).
    n_values
        Number of values from which the residues are computed.
    """

    sums: NDArray[np.float64]
    units: NDArray[np.float64]
    residues: NDArray[np.float64]
    n_values: int

    @classmethod
    def of(cls, rows: list[NDArray[np.float64]]) -> Evidence:
        """Compute the evidence from rows of back-transformed values."""
        found = [_unit(row) for row in rows]
        return cls(
            np.array([row.sum() for row in rows]),
            np.array([unit for unit, _, _ in found]),
            np.array([residue for _, residue, _ in found]),
            sum(n for _, _, n in found),
        )

    @property
    def spread(self) -> float:
        """Range of the row sums over their median; infinite for a single row, which is no evidence."""
        if len(self.sums) < 2 or not np.isfinite(self.sums).all():
            return math.inf
        return float(np.ptp(self.sums) / np.median(self.sums))

    @property
    def few_sums(self) -> bool:
        """Whether the sums take a few constant values, as for separately normalised samples."""
        if not np.isfinite(self.sums).all():
            return False
        gaps = np.diff(np.sort(self.sums)) > NEARLY_SAME * np.median(self.sums)
        sizes = np.diff(np.concatenate([[0], np.flatnonzero(gaps) + 1, [len(self.sums)]]))
        return bool((sizes >= FEWEST_OF_CONSTANT).mean() > 1 - MIXED)

    @property
    def residue(self) -> float:
        """Mean of the residues; infinite if there are too few values."""
        known = self.residues[np.isfinite(self.residues)]
        return float(known.mean()) if self.n_values >= FEWEST_VALUES and len(known) else math.inf

    @property
    def fits(self) -> NDArray[np.bool_]:
        """Rows whose values are integer multiples of their unit; shape (n_rows,)."""
        return self.residues < LARGEST_RESIDUE


def _unit(row: NDArray[np.float64]) -> tuple[float, float, int]:
    """Value of one count in a cell, mean distance of the values from its multiples, and the number of values used."""
    smallest = row.min()
    best = (math.nan, math.nan, 0)
    if not math.isfinite(float(row.max())):
        return best
    for parts in (1, 2, 3):  # the smallest value is nearly always one count
        ratio = row * (parts / smallest)
        ratio = ratio[(ratio > MULTIPLES[0] * parts) & (ratio <= MULTIPLES[1])]
        if len(ratio) < FEWEST_OF_ROW * parts:
            continue
        whole = np.rint(ratio)
        residue = float(np.abs(ratio - whole).mean())
        if parts == 1 or (residue < 0.01 and best[1] > LARGEST_RESIDUE):
            unit = float(np.median(ratio / whole)) * smallest / parts
            best = (unit, residue, len(ratio))
    if math.isnan(best[0]) and np.ptp(row) <= 1e-5 * smallest:
        return float(smallest), math.nan, 0  # all values are one count
    return best


Inverse = Callable[[NDArray[np.float64]], NDArray[np.float64]]
REFUSED: Final[Mapping[str, tuple[Inverse, str]]] = {
    "square roots of counts": (np.square, "Square them, as in adata.X = adata.X.power(2)"),
    "logarithms of logarithms": (
        lambda v: np.expm1(np.expm1(v)),
        "Undo one of them, as in adata.X.data = np.expm1(adata.X.data)",
    ),
    "Freeman-Tukey transformed counts, sqrt(x) + sqrt(x + 1) - 1": (
        lambda v: (((v + 1) - 1 / (v + 1)) / 2) ** 2,
        "Undo it, as in y = adata.X.data + 1; adata.X.data = ((y - 1 / y) / 2) ** 2",
    ),
    "inverse hyperbolic sines": (np.sinh, "Undo it, as in adata.X.data = np.sinh(adata.X.data)"),
}
"""Transformations that are detected but not supported, each with its inverse and the advice for the error."""


def detect_scale(
    x: sp.csr_matrix,
    where: str = "adata.X",
    remedy: str = "",
    *,
    noted: Mapping[str, Any] | None = None,
    depths: Mapping[str, Floats] | None = None,
) -> Scale:
    """Detect the scale of expression values.

    Parameters
    ----------
    x
        Rows spread over a data set, with all columns and without stored zeros; shape (n_rows, n_vars).
    where
        Name of the matrix, for the error message.
    remedy
        What to read instead, for the error message; begins with a comma.
    noted
        ``uns["log1p"]``, in which scanpy records a log transformation and its base. None if there is none.
    depths
        Obs columns that may have the total count of each row; shape (n_rows,) each.

    Raises
    ------
    ValueError
        If a value is NaN, infinite or negative, if all are 0, or if the values are neither counts nor logarithms of
        normalised counts.
    """
    check_finite(x.data, where, remedy)
    check_not_negative(x.data, where, remedy)
    filled = np.flatnonzero(np.diff(x.indptr))
    if not len(filled):
        raise ValueError(
            f"`adata`: {where} has no value above 0, so there is nothing to read. Check how it was computed{remedy}."
        )
    rows = [x.data[x.indptr[i] : x.indptr[i + 1]].astype(np.float64) for i in filled]
    whole = np.array([np.array_equal(row, np.rint(row)) for row in rows])
    if whole.all():
        return COUNTS
    base = _noted_base(noted)
    logs = dict.fromkeys([base or math.e, math.e, 2.0, 10.0])
    inverses: dict[Any, Inverse] = {"counts": lambda v: v}
    inverses |= {b: (lambda v, b=b: np.expm1(v * math.log(b))) for b in logs}  # type: ignore[misc]
    inverses |= {name: inverse for name, (inverse, _) in REFUSED.items()}
    with np.errstate(over="ignore", invalid="ignore"):  # from transformations that do not apply
        evidence = {name: Evidence.of([inverse(row) for row in rows]) for name, inverse in inverses.items()}
        _check_one_scale(evidence, whole, where, remedy)
        name, complete = _explanation(evidence)
    if name in REFUSED:
        raise ValueError(
            f"`adata`: {where} holds {name}, but raw counts or log1p of normalised counts are needed. "
            f"{REFUSED[name][1]}{remedy}."
        )
    if isinstance(name, float):
        return _log_scale(evidence[name], name, complete, {k: v[filled] for k, v in (depths or {}).items()})
    if name == "counts" or _near_whole_numbers(x.data) or float(x.data.max()) > LARGEST_LOG:
        return DECIMALS
    for b in logs:  # a few genes were removed after the normalisation
        target = _nearly_complete(evidence[b])
        if target is not None:
            return Scale("log", b, target, complete=False)
    if noted is not None and len(rows) == 1:  # a single cell that was normalised to a median of counts
        total = float(evidence[base or math.e].sums[0])
        if _rounded(total) != total:
            return Scale("log", base or math.e, _rounded(total))
    if noted is not None and x.data.max() > LARGEST_SHARE and not _of_unit_variance(x):
        return Scale("log", base or math.e, TARGET_SUM, complete=False, told=False)
    raise ValueError(
        f"`adata`: the scale of {where} cannot be determined. The values are not integers, and they are not "
        "consistent with logarithms of normalised counts (base e, 2 or 10). If these are counts with decimals, round "
        "them, as in adata.X.data = np.round(adata.X.data). Otherwise use the raw counts, or normalise and "
        f"log1p-transform them without scaling, correction or imputation afterwards{remedy}."
    )


def unlike_cells(x: sp.csr_matrix) -> str:
    """Describe values that have a scale, but are not those of single cells; empty if there is nothing to report.

    Parameters
    ----------
    x
        Rows spread over a data set, with all columns and without stored zeros; shape (n_rows, n_vars).
    """
    if x.nnz >= MOST_ONES and x.data.max() == 1 and x.data.min() == 1:
        return "has only the values 0 and 1, as in binarised data, so the level of expression is lost"
    if x.shape[1] >= MANY_GENES and x.shape[0] >= FEWEST_VALUES and x.nnz >= NO_ZEROS * x.shape[0] * x.shape[1]:
        return "has hardly any zeros, as in imputed or denoised data and in sums over many cells"
    return ""


def _noted_base(noted: Mapping[str, Any] | None) -> float | None:
    """Base that scanpy recorded; None for the natural logarithm, or if nothing was recorded."""
    try:
        base = float(np.ravel(np.asarray((noted or {}).get("base")))[0])
    except (TypeError, ValueError, IndexError, AttributeError):
        return None
    return base if base > 1 and base != math.e else None


def _check_one_scale(evidence: Mapping[Any, Evidence], whole: NDArray[np.bool_], where: str, remedy: str) -> None:
    """Raise an error if some rows are raw counts and others are logarithms."""
    logs = [of for name, of in evidence.items() if isinstance(name, float)]
    logged = np.any([of.fits & ~(of.residues >= evidence["counts"].residues) for of in logs], axis=0) & ~whole
    if min(whole.mean(), logged.mean()) > MIXED and (whole | logged).mean() > 0.8:
        raise ValueError(
            f"`adata`: of {len(whole)} sampled rows of {where}, {int(whole.sum())} contain counts and "
            f"{int(logged.sum())} logarithms of normalised counts. Bring all cells to one scale, preferably "
            f"raw counts{remedy}."
        )


def _explanation(evidence: Mapping[Any, Evidence]) -> tuple[Any, bool]:
    """Transformation that explains the rows, None if none does; and whether the row sums are constant."""
    of_one_row = len(next(iter(evidence.values())).sums) == 1
    for name, of in evidence.items():
        if of_one_row and name not in REFUSED and _usual(float(of.sums[0]), NEARLY_SAME) is not None:
            return name, True
    by_sum = min(evidence, key=lambda name: evidence[name].spread)
    if evidence[by_sum].spread < SAME_SUM:
        return by_sum, True
    if constants := [name for name, of in evidence.items() if of.few_sums]:
        return constants[0], True
    by_unit = min(evidence, key=lambda name: evidence[name].residue)
    of = evidence[by_unit]
    known = np.isfinite(of.residues)
    if of.residue < LARGEST_RESIDUE and of.fits[known].mean() > 1 - MIXED:
        return by_unit, of_one_row
    return None, False


def _log_scale(of: Evidence, base: float, complete: bool, depths: Mapping[str, Floats]) -> Scale:
    """Scale of log-transformed data, with the target if it can be detected."""
    if complete and len(of.sums) > 1:
        middle = float(np.median(of.sums))
        return Scale("log", base, _rounded(middle) if of.spread < SAME_SUM else None)
    units = of.units[np.isfinite(of.units)]
    if len(units) > 1 and np.ptp(units) < SAME_SUM * units[0]:  # one count is the same in all cells: not normalised
        return Scale("log", base)
    target = _target(of, depths)
    if target is None and complete:  # a single cell
        target = _rounded(float(of.sums[0]))
    if target is None:
        return Scale("log", base, TARGET_SUM, complete=False, told=False)
    return Scale("log", base, target, complete=bool(np.allclose(of.sums, target, rtol=SAME_SUM)))


def _usual(value: float, tolerance: float) -> float | None:
    """Usual target sum that equals a value within a relative tolerance, None if there is none."""
    return next((t for t in STANDARD if abs(value - t) <= tolerance * t), None)


def _rounded(total: float) -> float:
    """Undo single-precision rounding of a sum: to a usual target, or a half-integer as the median of counts is."""
    half = round(2 * total) / 2
    return _usual(total, NEARLY_SAME) or (half if abs(half - total) < 1e-5 * total else total)


def _nearly_complete(of: Evidence) -> float | None:
    """Usual target sum that row sums approach but do not exceed."""
    highest, middle = float(of.sums.max()), float(np.median(of.sums))
    near = [t for t in STANDARD if 0.9 * t < middle and highest <= (1 + NEARLY_SAME) * t]
    return near[0] if near and len(of.sums) > 2 else None


def _target(of: Evidence, depths: Mapping[str, Floats]) -> float | None:
    """Target of a normalisation after which genes were removed: the target that makes the totals integers.

    The total of a cell is ``target / unit``, and at least the counts of the genes that are present. Totals in obs are
    used as well.
    """
    known = np.isfinite(of.units) & ~(of.residues >= LARGEST_RESIDUE)
    units, least = of.units[known], float(of.sums[known].max(initial=0.0))
    if not len(units) or not math.isfinite(least):
        return None
    for t in STANDARD:
        if t >= least * (1 - SAME_SUM) and _whole_totals(np.array([t]), units, max(3, min(8, len(of.sums))))[0]:
            return t
    for depth in depths.values():
        targets = depth[known] * units
        middle = float(np.median(targets))
        if np.isfinite(middle) and middle >= least * (1 - SAME_SUM):
            near = np.abs(targets / middle - 1) < 0.01
            if near.mean() > 1 - MIXED and len(targets) > 2:
                return _usual(middle, 0.005) or middle
    for start in range(max(math.floor(2 * least), 2), 400_000, 50_000):  # medians of integers: half-integers
        candidates: NDArray[np.float64] = np.arange(start, min(start + 50_000, 400_000)) / 2
        fits = np.flatnonzero(_whole_totals(candidates, units, 10))
        if len(fits):
            return float(candidates[fits[0]])
    return None


def _whole_totals(targets: NDArray[np.float64], units: NDArray[np.float64], fewest: int) -> NDArray[np.bool_]:
    """Whether each target makes the totals of the cells integers; a few cells suffice for a single target."""
    fits = np.zeros(len(targets), dtype=bool)
    alive = np.arange(len(targets))
    used, misses = np.zeros(len(targets), dtype=int), np.zeros(len(targets), dtype=int)
    for unit in units:
        totals = targets[alive] / unit
        # log1p in single precision has a relative error of 6e-8, and so has the normalisation before it
        error = totals * 3e-7 * (1 + (1 + unit) / unit * math.log1p(unit))
        tolerance = np.clip(5 * error, 0.002, 0.05)
        clear = error < 0.02
        used[alive] += clear
        misses[alive] += clear & (np.abs(totals - np.rint(totals)) > tolerance)
        alive = alive[misses[alive] <= MIXED * len(units)]
        if not len(alive):
            break
    fits[alive] = (used[alive] >= fewest) & (misses[alive] <= MIXED * used[alive])  # among informative cells
    return fits


def _near_whole_numbers(values: Floats) -> bool:
    """Whether values are close to integers, as decimal counts are; logarithms are not.

    Computed from the mean direction of the decimals on a circle, for values that are not near 0.
    """
    values = values[values >= 0.5].astype(np.float64)
    if len(values) < FEWEST_VALUES:
        return False
    return float(np.cos(2 * np.pi * values).mean()) > 0.4


def _of_unit_variance(x: sp.csr_matrix) -> bool:
    """Whether columns were divided by their standard deviation, which a few rows show roughly."""
    n = np.bincount(x.indices, minlength=x.shape[1])
    used = n >= 0.3 * x.shape[0]
    if x.shape[0] < FEWEST_VALUES or used.sum() < FEWEST_VALUES:
        return False
    values = x.data.astype(np.float64)
    mean = np.bincount(x.indices, weights=values, minlength=x.shape[1])[used] / x.shape[0]
    square = np.bincount(x.indices, weights=values**2, minlength=x.shape[1])[used] / x.shape[0]
    low, high = np.quantile(np.sqrt(np.maximum(square - mean**2, 0)), [0.1, 0.9])
    return bool(low > 0.7 and high < 1.4)
