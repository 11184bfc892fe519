"""Models on the Hugging Face hub, through the hub classes of scvi-tools where possible.

scvi-tools reads and writes ``model.pt``, which this package does not use, and its card helper knows its own classes
only. The card is therefore written here, and the whole folder is downloaded.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from polygene_scverse._layout import TokenLayout
from polygene_scverse._validate import shorten
from polygene_scverse.fit import FittedState
from polygene_scverse.model.training._final_scores import score_name

PARENT: str = "polygene_scverse.model"
"""Module in which scvi-tools finds the class of the model."""
USE = """## Use

```python
import polygene_scverse as pgs

model = pgs.model.Polygene.from_hub({repo_name})
pgs.tl.check(adata, model=model)  # do the data fit the model?
pgs.tl.predict_phenotype(adata, model=model)
```"""
LIMITS = """## Limitations

* The model only knows the categories above. A cell of any other type is assigned one of them; see `pgs.tl.novelty`.
* The scores hold for cells like the training cells. Expect lower accuracy for other laboratories and protocols.
* A phenotype that is constant within donors may be predicted by recognising donors instead of biology."""
EVERY_FILE_OF_DATA = ("*.h5ad", "*.h5mu")


class Described(Protocol):
    """Attributes of a model that are read for its card."""

    layout: TokenLayout
    fitted_: FittedState
    history_: dict[str, pd.DataFrame] | None

    @property
    def calibration_(self) -> dict[str, dict[str, Any]]: ...
    @property
    def columns(self) -> dict[str, str]: ...


def hub_modules() -> tuple[Any, Any]:
    """Import ``huggingface_hub`` and ``scvi.hub`` on demand.

    Raises
    ------
    ImportError
        If ``huggingface_hub`` is not installed.
    """
    try:
        return import_module("huggingface_hub"), import_module("scvi.hub")
    except ImportError as error:
        raise ImportError(
            "The hub needs huggingface_hub, which is not installed. Run pip install 'polygene-scverse[hub]'."
        ) from error


def push_folder(
    folder: Path, repo_name: str, card: str, class_name: str, scvi_version: str, token: str | None, private: bool
) -> None:
    """Upload a saved model with its card and the metadata that scvi-tools requires.

    Parameters
    ----------
    folder
        Folder of the saved model.
    repo_name
        ``"user/name"``; created if it does not exist.
    card
        Text of the card.
    class_name, scvi_version
        Class of the model, and the version of scvi-tools that it was made with.
    token
        Token with write access; by default that of ``huggingface-cli login``.
    private
        Whether a new repository is private.
    """
    api, hub = hub_modules()
    metadata = hub.HubMetadata(scvi_version, version("anndata"), class_name, model_parent_module=PARENT)
    pushed = hub.HubModel(str(folder), repo_name=repo_name, metadata=metadata, model_card=api.ModelCard(card))
    pushed.save(overwrite=True)
    with warnings.catch_warnings():  # scvi-tools has collections of its own models only
        warnings.filterwarnings("ignore", message="No collection found", category=UserWarning)
        pushed.push_to_huggingface_hub(
            repo_name,
            repo_token=token,
            repo_create=True,
            repo_create_kwargs={"exist_ok": True, "private": private},
            push_anndata=False,
        )


def pull_folder(
    repo_name: str, model_cls: type, revision: str | None, cache_dir: Path | None, token: str | None
) -> Path:
    """Download a model, without data, and return its folder; arguments as in `Polygene.from_hub`.

    Raises
    ------
    ValueError
        If the model is of another class.
    """
    api, hub = hub_modules()
    where = None if cache_dir is None else str(cache_dir)
    found = api.snapshot_download(
        repo_id=repo_name, revision=revision, cache_dir=where, token=token, ignore_patterns=list(EVERY_FILE_OF_DATA)
    )
    try:
        name = hub.HubModel(str(found)).metadata.model_cls_name
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"`repo_name`: {repo_name!r} was not created by push_to_hub: {error}. Pass another one."
        ) from error
    if name != model_cls.__name__:
        raise ValueError(
            f"`repo_name`: {repo_name!r} holds a model of class {name}, not {model_cls.__name__}. Pass another one."
        )
    return Path(found)


def model_card(
    model: Described, *, repo_name: str, license_name: str, description: str, evaluation: pd.DataFrame | None, scvi: str
) -> str:
    """Text of a model card: predicted phenotypes, training data, accuracy, and limitations.

    Parameters
    ----------
    model
        The model.
    repo_name, license_name, description, evaluation
        As in `Polygene.push_to_hub`.
    scvi
        Version of scvi-tools that the model was made with.
    """
    layout, versions = model.layout, {name: version(name) for name in ("polygene-scverse", "anndata")}
    tags = ["biology", "genomics", "single-cell", "model_cls_name:Polygene", f"scvi_version:{scvi}"]
    tags += [f"anndata_version:{versions['anndata']}"]
    head = [
        "---",
        f"license: {license_name}",
        "library_name: scvi-tools",
        "tags:",
        *(f"- {tag}" for tag in tags),
        "---",
    ]
    parts = ["\n".join(head), f"# {repo_name}"]
    parts.append(description or "No description was given.")
    parts.append(USE.format(repo_name=repr(repo_name)))
    parts.append("## Phenotypes\n\n" + markdown(_phenotypes(model)))
    counts = model.fitted_.category_counts
    n_cells = f"{_n_cells(model):,.0f} training cells" if counts else "an unknown number of training cells"
    parts.append(
        f"## Training data\n\n{n_cells}; {layout.n_genes:,} genes, such as {shorten(layout.genes, 3)}, in "
        f"{layout.n_bins} bins of expression. polygene-scverse {versions['polygene-scverse']}, scvi-tools {scvi}. "
        "The files contain no cells, but frequencies of counts and of combinations of categories, from which cells "
        "similar to the training cells can be generated."
    )
    scores = _scores(model)
    parts.append("## Accuracy on held-out cells\n\n" + (markdown(scores) if len(scores) else "No cells were held out."))
    if notes := [f"* {name}: {entry['note']}" for name, entry in model.calibration_.items()]:
        parts.append("Calibration:\n\n" + "\n".join(notes))
    if evaluation is not None:
        parts.append("## Evaluation\n\n" + markdown(evaluation))
    parts.append(LIMITS)
    return "\n\n".join(parts) + "\n"


def _n_cells(model: Described) -> float:
    """Number of training cells with a label."""
    return max((float(np.sum(c)) for c in model.fitted_.category_counts), default=0.0)


def _phenotypes(model: Described) -> pd.DataFrame:
    counts: Sequence[Any] = model.fitted_.category_counts or [None] * model.layout.n_phenotypes
    return pd.DataFrame(
        [
            {
                "phenotype": slot.name,
                "obs column": model.columns[slot.name],
                "categories (training cells)": ", ".join(
                    label if n is None else f"{label} ({n[i]:,.0f})" for i, label in enumerate(slot.categories)
                ),
            }
            for slot, n in zip(model.layout.phenotypes, counts, strict=True)
        ]
    )


def _scores(model: Described) -> pd.DataFrame:
    """Accuracy and macro-F1 of the finished model on held-out cells."""
    rows, history = [], model.history_ or {}
    for name in model.layout.phenotype_names:
        keys = {score: f"{score_name(name, score)}_final" for score in ("accuracy", "macro_f1")}
        if all(key in history for key in keys.values()):
            found = {score: f"{history[key].to_numpy(dtype=float)[-1, 0]:.3f}" for score, key in keys.items()}
            rows.append({"phenotype": name, **found})
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame | Mapping[str, Any]) -> str:
    """Format a table in markdown; numbers have three decimals."""
    frame = pd.DataFrame(table)
    lines = [[str(c) for c in frame.columns], ["---"] * frame.shape[1]]
    for row in frame.to_numpy(dtype=object).tolist():
        lines.append([f"{v:.3f}" if isinstance(v, float) else str(v) for v in row])
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)
