"""A warning of what groups alone determine, noted with the model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import pandas as pd
from anndata import AnnData

from polygene_scverse.model import Polygene
from polygene_scverse.pp import confounding


def note_confounding(model: Polygene, data: AnnData, phenotypes: Sequence[str], group_key: str | None) -> pd.DataFrame:
    """Report, warn in words where there is reason to, and keep the report as ``confounding_`` of the model.

    Returns
    -------
    The report of :func:`~polygene_scverse.pp.confounding`; empty without groups.
    """
    if group_key is None:
        return pd.DataFrame()
    report = confounding(data, group_key=group_key, phenotypes=phenotypes)
    model.confounding_ = {"group_key": group_key, "phenotypes": report.to_dict(orient="index")}
    words = report["words"][report["words"] != ""]
    if len(words):
        warnings.warn(
            f"`group_key`: what {group_key!r} determines cannot be told from it by a model. "
            + " ".join(f"{name}: {text}." for name, text in words.items())
            + " See pgs.pp.confounding, and score on held-out groups with pgs.tl.evaluate.",
            UserWarning,
            stacklevel=3,
        )
    return report
