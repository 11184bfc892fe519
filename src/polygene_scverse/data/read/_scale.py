"""What the values of an expression matrix are: told from some rows of it, and turned into log1p of counts per 10,000.

Three kinds of evidence are looked at, under each transformation that the values may have gone through. Undone, rows of
normalised data have one sum. Undone, the values of a cell are whole multiples of its smallest one, because they were
whole numbers once; and that one count stands for ``target / total`` tells the target also where genes were cut after
the normalisation. Counts with decimals, as ambient removal and RSEM leave them, lie near whole numbers or are larger
than any logarithm.
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
"""What a log1p value may exceed the largest one of its target by: the target may be a thousand times larger."""
STANDARD: Final = (1e3, 1e4, 1e5, 1e6)
"""Sums that cells are usually normalised to, besides the median of the data set."""
SAME_SUM, NEARLY_SAME = 1e-3, 1e-4
"""Largest spread of row sums that are one constant; and how near to a usual sum it is taken for that."""
MULTIPLES: Final = (1.5, 50.0)
"""Multiples of the smallest value of a cell that are looked at: below, all are 1; above, whole numbers lie close."""
FEWEST_VALUES, FEWEST_OF_ROW, FEWEST_OF_CONSTANT = 10, 3, 4
LARGEST_RESIDUE: Final = 0.05
"""Mean distance from the nearest whole number up to which values are multiples; it is 0.25 by chance."""
MIXED: Final = 0.05
"""Share of the rows from which on a second scale among them is an error."""
LARGEST_LOG: Final = 20.0
"""Larger than log2 of a million: no logarithm of expression."""


@dataclass(frozen=True)
class Scale:
    """What stored values are.

    Parameters
    ----------
    kind
        ``"counts"``, whole or with decimals, or proportional to counts within each cell; or ``"log"``, the logarithm
        of 1 + normalised counts.
    base
        Base of the logarithm.
    target
        Sum that cells were normalised to; None if each cell has its own, that of all columns: counts, their logarithms
        without a normalisation, and samples that were normalised one by one.
    complete
        Whether the sum over all columns is that of the cell: not if genes were cut after the normalisation.
    told
        Whether the target was told by the values; else 10,000 is taken.
    whole
        Whether values are whole numbers, as counts mostly are.
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
        """Whether values are log1p of counts per 10,000 as they stand."""
        return self.kind == "log" and self.base == math.e and self.target == TARGET_SUM

    @property
    def largest(self) -> float:
        """Values above cannot be of this scale."""
        if self.kind == "counts":
            return math.inf
        return (math.log1p(max(self.target or 0.0, TARGET_SUM)) + LOG_SLACK) / math.log(self.base)

    def counts(self, x: sp.csr_matrix) -> tuple[Floats, NDArray[np.float64]]:
        """Counts of some cells, and the total of each, up to a factor that is one for a cell.

        Where all values of a cell are whole multiples of its smallest one, but for rounding, these multiples are
        returned: so that whatever was done to counts, what follows from them is the same to the last bit.

        Parameters
        ----------
        x
            Expression without stored zeros; shape (n_cells, n_vars).

        Returns
        -------
        One value for each stored one of `x`, and the totals; shape (n_cells,).
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
        # what rounding to single precision does to a value once the logarithm is undone, and to the smallest one
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
        """log1p of counts per 10,000 of the stored values of some cells; those that are so already stay as they are.

        Parameters
        ----------
        x
            Expression without stored zeros; shape (n_cells, n_vars).
        totals
            Total of each cell in units of `counts`, shape (n_cells,); by default as `counts` tells it.
        keep
            Which stored values are wanted; all by default.

        Returns
        -------
        One value for each stored one of `x` that is wanted, in its order.
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
        """Refuse values that cannot be of this scale.

        Parameters
        ----------
        values
            Stored values.
        where
            Name of their place, for the error.
        remedy
            What else to read, for the error; begins with a comma.

        Raises
        ------
        ValueError
            If a value is NaN, infinite, negative, or larger than any of this scale.
        """
        check_finite(values, where, remedy)
        check_not_negative(values, where, remedy)
        if (highest := float(values.max(initial=0.0))) > self.largest:
            raise ValueError(
                f"`adata`: {where} was read as {self}, but has values that reach {highest:.4g}, which such data cannot "
                f"have. Bring all cells to one scale, best to raw counts{remedy}."
            )


COUNTS: Final = Scale("counts", whole=True)
DECIMALS: Final = Scale("counts")
OURS: Final = Scale("log", target=TARGET_SUM)


@dataclass(frozen=True)
class Evidence:
    """What some rows look like when one transformation is undone.

    Parameters
    ----------
    sums
        Sum of each row; shape (n_rows,).
    units
        What one count is in each row, NaN where it cannot be told; shape (n_rows,).
    residues
        Mean distance of a row's values from multiples of its unit, NaN where there are too few; shape (n_rows,).
    n_values
        Values that the residues are of.
    """

    sums: NDArray[np.float64]
    units: NDArray[np.float64]
    residues: NDArray[np.float64]
    n_values: int

    @classmethod
    def of(cls, rows: list[NDArray[np.float64]]) -> Evidence:
        """Look at rows of values with the transformation undone."""
        found = [_unit(row) for row in rows]
        return cls(
            np.array([row.sum() for row in rows]),
            np.array([unit for unit, _, _ in found]),
            np.array([residue for _, residue, _ in found]),
            sum(n for _, _, n in found),
        )

    @property
    def spread(self) -> float:
        """Range of the row sums, over their median; infinite for one row, of which nothing follows."""
        if len(self.sums) < 2 or not np.isfinite(self.sums).all():
            return math.inf
        return float(np.ptp(self.sums) / np.median(self.sums))

    @property
    def few_sums(self) -> bool:
        """Whether the sums are few constants, as of samples that were normalised one by one."""
        if not np.isfinite(self.sums).all():
            return False
        gaps = np.diff(np.sort(self.sums)) > NEARLY_SAME * np.median(self.sums)
        sizes = np.diff(np.concatenate([[0], np.flatnonzero(gaps) + 1, [len(self.sums)]]))
        return bool((sizes >= FEWEST_OF_CONSTANT).mean() > 1 - MIXED)

    @property
    def residue(self) -> float:
        """Mean of the residues; infinite if there is too little to go by."""
        known = self.residues[np.isfinite(self.residues)]
        return float(known.mean()) if self.n_values >= FEWEST_VALUES and len(known) else math.inf

    @property
    def fits(self) -> NDArray[np.bool_]:
        """Rows whose values are multiples of one count; shape (n_rows,)."""
        return self.residues < LARGEST_RESIDUE


def _unit(row: NDArray[np.float64]) -> tuple[float, float, int]:
    """One count of a cell, the mean distance of its values from multiples of that, and of how many values."""
    smallest = row.min()
    best = (math.nan, math.nan, 0)
    if not math.isfinite(float(row.max())):
        return best
    for parts in (1, 2, 3):  # the smallest value is one count nearly always
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
        return float(smallest), math.nan, 0  # ones only
    return best


Inverse = Callable[[NDArray[np.float64]], NDArray[np.float64]]
REFUSED: Final[Mapping[str, tuple[Inverse, str]]] = {
    "square roots of counts": (np.square, "Square them, as in adata.X = adata.X.power(2)"),
    "logarithms of logarithms": (
        lambda v: np.expm1(np.expm1(v)),
        "Undo one of them, as in adata.X.data = np.expm1(adata.X.data)",
    ),
    "inverse hyperbolic sines": (np.sinh, "Undo it, as in adata.X.data = np.sinh(adata.X.data)"),
}
"""Transformations that are detected and not supported, with their inverse and what to do."""


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
        Rows from all over a data set, all their columns, without stored zeros; shape (n_rows, n_vars).
    where
        Name of their place, for the error.
    remedy
        What else to read, for the error; begins with a comma.
    noted
        ``uns["log1p"]``, in which scanpy notes that values are logarithms, and of which base. None if there is none.
    depths
        Columns of obs that may hold the total count of each row; shape (n_rows,) each.

    Raises
    ------
    ValueError
        If a value is NaN, infinite or negative, if all are 0, or if values are no counts and no logarithms of
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
    with np.errstate(over="ignore", invalid="ignore"):  # of transformations that cannot be
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
    for b in logs:  # a few genes left out after the normalisation
        target = _nearly_complete(evidence[b])
        if target is not None:
            return Scale("log", b, target, complete=False)
    if noted is not None and len(rows) == 1:  # a cell that was normalised to a median of counts
        total = float(evidence[base or math.e].sums[0])
        if _rounded(total) != total:
            return Scale("log", base or math.e, _rounded(total))
    if noted is not None and not _of_unit_variance(x):
        return Scale("log", base or math.e, TARGET_SUM, complete=False, told=False)
    raise ValueError(
        f"`adata`: the scale of {where} cannot be determined. The values are not integers, and they are not "
        "consistent with logarithms of normalised counts (base e, 2 or 10). If these are counts with decimals, round "
        "them, as in adata.X.data = np.round(adata.X.data). Otherwise use the raw counts, or normalise and "
        f"log1p-transform them without scaling, correction or imputation afterwards{remedy}."
    )


def _noted_base(noted: Mapping[str, Any] | None) -> float | None:
    """Base that scanpy noted; None for the natural logarithm, or if nothing was noted."""
    try:
        base = float(np.ravel(np.asarray((noted or {}).get("base")))[0])
    except (TypeError, ValueError, IndexError, AttributeError):
        return None
    return base if base > 1 and base != math.e else None


def _check_one_scale(evidence: Mapping[Any, Evidence], whole: NDArray[np.bool_], where: str, remedy: str) -> None:
    """Refuse raw counts in some rows and logarithms in others."""
    logs = [of for name, of in evidence.items() if isinstance(name, float)]
    logged = np.any([of.fits & ~(of.residues >= evidence["counts"].residues) for of in logs], axis=0) & ~whole
    if min(whole.mean(), logged.mean()) > MIXED and (whole | logged).mean() > 0.8:
        raise ValueError(
            f"`adata`: of {len(whole)} sampled rows of {where}, {int(whole.sum())} contain counts and "
            f"{int(logged.sum())} logarithms of normalised counts. Bring all cells to one scale, best to raw "
            f"counts{remedy}."
        )


def _explanation(evidence: Mapping[Any, Evidence]) -> tuple[Any, bool]:
    """Which transformation explains the rows, None if none does; and whether their sums are constants."""
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
    """The scale of logarithms, with the target if it can be told."""
    if complete and len(of.sums) > 1:
        middle = float(np.median(of.sums))
        return Scale("log", base, _rounded(middle) if of.spread < SAME_SUM else None)
    units = of.units[np.isfinite(of.units)]
    if len(units) > 1 and np.ptp(units) < SAME_SUM * units[0]:  # one count is the same in all cells: not normalised
        return Scale("log", base)
    target = _target(of, depths)
    if target is None and complete:  # one cell
        target = _rounded(float(of.sums[0]))
    if target is None:
        return Scale("log", base, TARGET_SUM, complete=False, told=False)
    return Scale("log", base, target, complete=bool(np.allclose(of.sums, target, rtol=SAME_SUM)))


def _usual(value: float, tolerance: float) -> float | None:
    """The usual sum that a value stands for, None if it is none."""
    return next((t for t in STANDARD if abs(value - t) <= tolerance * t), None)


def _rounded(total: float) -> float:
    """A sum in single precision as what it was: a usual one, or a whole number or half, as medians of counts are."""
    half = round(2 * total) / 2
    return _usual(total, NEARLY_SAME) or (half if abs(half - total) < 1e-5 * total else total)


def _nearly_complete(of: Evidence) -> float | None:
    """The usual sum that rows come near to, and do not exceed."""
    highest, middle = float(of.sums.max()), float(np.median(of.sums))
    near = [t for t in STANDARD if 0.9 * t < middle and highest <= (1 + NEARLY_SAME) * t]
    return near[0] if near and len(of.sums) > 2 else None


def _target(of: Evidence, depths: Mapping[str, Floats]) -> float | None:
    """Target of a normalisation after which genes were cut: that which makes the totals whole numbers.

    A cell's total is ``target / unit``; it is no less than the counts of the genes that are there. If obs holds totals,
    these tell it too.
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
    for start in range(max(math.floor(2 * least), 2), 400_000, 50_000):  # medians of whole numbers: halves
        candidates: NDArray[np.float64] = np.arange(start, min(start + 50_000, 400_000)) / 2
        fits = np.flatnonzero(_whole_totals(candidates, units, 10))
        if len(fits):
            return float(candidates[fits[0]])
    return None


def _whole_totals(targets: NDArray[np.float64], units: NDArray[np.float64], fewest: int) -> NDArray[np.bool_]:
    """For each target whether totals of cells are whole numbers; few cells are enough for a single target."""
    fits = np.zeros(len(targets), dtype=bool)
    alive = np.arange(len(targets))
    used, misses = np.zeros(len(targets), dtype=int), np.zeros(len(targets), dtype=int)
    for unit in units:
        totals = targets[alive] / unit
        # log1p in single precision errs by 6e-8 of the value, the normalisation before by as much
        error = totals * 3e-7 * (1 + (1 + unit) / unit * math.log1p(unit))
        tolerance = np.clip(5 * error, 0.002, 0.05)
        clear = error < 0.02
        used[alive] += clear
        misses[alive] += clear & (np.abs(totals - np.rint(totals)) > tolerance)
        alive = alive[misses[alive] <= MIXED * len(units)]
        if not len(alive):
            break
    fits[alive] = (used[alive] >= fewest) & (misses[alive] <= MIXED * used[alive])  # of those that tell
    return fits


def _near_whole_numbers(values: Floats) -> bool:
    """Whether values lie about whole numbers, as counts with decimals do; those of a logarithm do not.

    Looked at is the mean direction of the decimals on a circle, of values that are not near 0.
    """
    values = values[values >= 0.5].astype(np.float64)
    if len(values) < FEWEST_VALUES:
        return False
    return float(np.cos(2 * np.pi * values).mean()) > 0.4


def _of_unit_variance(x: sp.csr_matrix) -> bool:
    """Whether columns were divided by their standard deviation; few rows tell it roughly."""
    n = np.bincount(x.indices, minlength=x.shape[1])
    used = n >= 0.3 * x.shape[0]
    if x.shape[0] < FEWEST_VALUES or used.sum() < FEWEST_VALUES:
        return False
    values = x.data.astype(np.float64)
    mean = np.bincount(x.indices, weights=values, minlength=x.shape[1])[used] / x.shape[0]
    square = np.bincount(x.indices, weights=values**2, minlength=x.shape[1])[used] / x.shape[0]
    low, high = np.quantile(np.sqrt(np.maximum(square - mean**2, 0)), [0.1, 0.9])
    return bool(low > 0.7 and high < 1.4)
