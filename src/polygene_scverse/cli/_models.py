"""The model that a command uses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from polygene_scverse._quiet import quiet
from polygene_scverse.cli._errors import UserError
from polygene_scverse.cli._settings import OneModelSettings, check_model_folder, needed
from polygene_scverse.cli._train_arguments import device_of

if TYPE_CHECKING:
    from polygene_scverse.model import Polygene


def read_model(s: OneModelSettings, files: Sequence[Path] = ()) -> Polygene:
    """Read a saved model, or a checkpoint of the original.

    Parameters
    ----------
    s
        Settings that name the model.
    files
        Files of cells; the first one provides the order of a checkpoint's genes if it is not given otherwise.

    Raises
    ------
    UserError
        If the folder has neither, or if a checkpoint is given without its vocabulary.
    """
    (folder,) = needed(s, "model")
    saved = check_model_folder(folder, s.vocabulary)
    device = device_of(s.device)
    from polygene_scverse.model import Polygene

    if saved:
        one = {"device": device["devices"][0]} if "devices" in device else {}
        accelerator = {"accelerator": device["accelerator"]} if device else {}
        with quiet("scvi"):  # suppresses "already downloaded" for a local file
            return Polygene.load(folder, adata=False, **accelerator, **one)
    if s.vocabulary is None:
        raise UserError(f"--vocabulary is required, because {folder} is a checkpoint of the original.")
    if s.genes is None and not files:
        raise UserError(f"--genes is required, because {folder} is a checkpoint of the original without gene names.")
    genes = s.genes if s.genes is not None else str(files[0])
    model = Polygene.from_original(folder, vocabulary=s.vocabulary, genes=genes, threshold=_threshold(s, folder))
    if device.get("accelerator") == "gpu":
        model.to_device(f"cuda:{device['devices'][0]}" if "devices" in device else "cuda")
    return model


def _threshold(s: OneModelSettings, folder: Path) -> float | None:
    """Threshold for two bins, None for more: the original's command always passes one, which more bins do not use."""
    import json

    from polygene_scverse.model.original._files import read_vocabulary

    if s.threshold is None or s.vocabulary is None:
        return None
    n_tokens = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("vocab_size", 0)
    return s.threshold if n_tokens - len(read_vocabulary(s.vocabulary)[0]) == 2 else None
