"""Warn about phenotypes that are confounded with groups."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from polygene_scverse._validate import warn
from polygene_scverse.model import Polygene
from polygene_scverse.pp._confounding import describe_confounding


def note_confounding(
    model: Polygene, obs: pd.DataFrame, group_key: str | None, missing: str | Sequence[str] | None = None
) -> pd.DataFrame:
    """Report confounding, warn if there are problems, and store the report in the fitted state of the model.

    Parameters
    ----------
    model
        The model whose phenotypes are checked.
    obs
        obs table of the cells.
    group_key
        Obs column of the groups, or None.
    missing
        As in `tl.train`.

    Returns
    -------
    The report of :func:`~polygene_scverse.pp.confounding`; empty without groups.
    """
    if group_key is None:
        return pd.DataFrame()
    codes = {name: found[found >= 0] for name, found in model.encode(obs).items() if name in obs}
    names = [name for name, found in codes.items() if len(set(found)) > 1]  # a single label has no entropy
    if not names:
        return pd.DataFrame()
    report = describe_confounding(obs, group_key, names, missing)
    model.fitted_.confounding = {"group_key": group_key, "phenotypes": report.to_dict(orient="index")}
    notes = report["note"][report["note"] != ""]
    if len(notes):
        warn(
            f"`group_key`: phenotypes that depend on {group_key!r} cannot be separated from it. "
            + " ".join(f"{name}: {text}." for name, text in notes.items())
            + " See pgs.pp.confounding, and score on held-out groups with pgs.tl.evaluate."
        )
    return report
