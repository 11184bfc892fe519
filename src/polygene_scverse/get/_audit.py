"""Results of an audit as a table."""

from __future__ import annotations

import pandas as pd
from anndata import AnnData

from polygene_scverse._constants import audit_key
from polygene_scverse._validate import check_choice
from polygene_scverse.get._lookup import note_of


def audit(adata: AnnData, phenotype: str | None = None) -> pd.DataFrame:
    """Return how well the expression of samples or cells fits their recorded phenotypes.

    Parameters
    ----------
    adata
        Data on which :func:`~polygene_scverse.tl.audit` was called.
    phenotype
        Phenotype for which to return cells instead of samples.

    Returns
    -------
    A copy of the table of :func:`~polygene_scverse.tl.audit`, with a row per sample and phenotype; the printed messages
    are in ``attrs["notes"]``. With `phenotype`, a table with a row per cell with a recorded category, most contradicted
    first, and the columns ``recorded`` and ``probability``.

    Raises
    ------
    KeyError
        If there is no audit.
    ValueError
        If the phenotype was not audited.

    Examples
    --------
    >>> pgs.get.audit(adata).query("flagged and reliable")
    >>> pgs.get.audit(adata, "cell_type").head()
    """
    stored = note_of(adata, "audit")
    if stored is None:
        raise KeyError(
            "`adata`: no audit is stored in adata.uns['polygene']['audit']. Call pgs.tl.audit(adata, "
            "sample_key=...) first."
        )
    if phenotype is None:
        table = stored["table"].reset_index(drop=True)
        table.attrs["notes"] = [str(sentence) for sentence in stored["notes"]]
        return table
    check_choice(phenotype, [str(name) for name in stored["phenotypes"]], "phenotype")
    columns = {"recorded": adata.obs[phenotype], "probability": adata.obs[audit_key(phenotype)]}
    return pd.DataFrame(columns).dropna(subset="probability").sort_values("probability", kind="stable")
