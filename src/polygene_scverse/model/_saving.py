"""Saving and loading, without running code that a file brings along."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import anndata
import mudata
import numpy as np
import torch
from anndata import AnnData
from mudata import MuData
from scvi.model.base import BaseModelClass

from polygene_scverse._compat import ADATA_FILE, MDATA_FILE, MODEL_FILE, check_plain_file, history_from_plain, plain
from polygene_scverse.fit import FittedState


class SavingMixin(BaseModelClass):
    """`save` and `load` on plain containers only."""

    first_process = True

    def save(self, dir_path: str | Path, *, overwrite: bool = False, save_anndata: bool = False, **kwargs: Any) -> None:
        """Write the model into a folder; of several processes that train together the first does it.

        Parameters
        ----------
        dir_path
            The folder.
        overwrite
            Whether to write into a folder that exists.
        save_anndata
            Whether to write the AnnData as well.
        **kwargs
            Passed to scvi-tools' ``save``.

        Raises
        ------
        ValueError
            If the folder exists and `overwrite` is False.
        """
        if self.first_process:
            super().save(str(dir_path), overwrite=overwrite, save_anndata=save_anndata, **kwargs)

    def _get_user_attributes(self) -> list[tuple[str, Any]]:
        found = [(n, v) for n, v in super()._get_user_attributes() if n.endswith("_") and n in vars(self)]
        return [(name, plain(_as_tensors(value.to_dict()) if name == "fitted_" else value)) for name, value in found]

    def get_var_names(self, legacy_mudata_format: bool = False) -> Any:
        """Gene names of the data the model was set up with.

        Parameters
        ----------
        legacy_mudata_format
            Part of the scvi-tools interface: whether to give one list for all modalities.
        """
        return plain(super().get_var_names(legacy_mudata_format))

    @classmethod
    def load(
        cls,
        dir_path: str | Path,
        adata: AnnData | MuData | bool | None = None,
        *,
        prefix: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Read a model that `save` wrote.

        Parameters
        ----------
        dir_path
            The folder.
        adata
            Data to attach; genes are matched by name. None takes the data saved with the model, if there are any.
            A model without data predicts any data it is given.
        prefix
            Prefix of the saved files.
        **kwargs
            Passed to scvi-tools' ``load``, e.g. ``accelerator``, ``device``.

        Raises
        ------
        FileNotFoundError
            If the folder holds no model.
        ValueError
            If the file holds more than tensors and plain values.
        """
        folder = Path(dir_path)
        check_plain_file(_model_file(dir_path, prefix))
        model = super().load(str(folder), adata=False, prefix=prefix, **kwargs)
        model.fitted_ = FittedState.from_dict(model.fitted_)
        model.history_ = None if model.history_ is None else history_from_plain(model.history_)
        if adata is None:
            adata = _saved_data(folder, prefix or "")
        if isinstance(adata, (AnnData, MuData)):
            model.adata = adata
        return model

    @staticmethod
    def load_registry(dir_path: str | Path, prefix: str | None = None) -> dict[str, Any]:
        """Registry of a saved model.

        Parameters
        ----------
        dir_path
            The folder.
        prefix
            Prefix of the saved files.

        Raises
        ------
        FileNotFoundError, ValueError
            As for `load`.
        """
        check_plain_file(_model_file(dir_path, prefix))
        return BaseModelClass.load_registry(str(dir_path), prefix)

    @staticmethod
    def view_setup_args(dir_path: str | Path, prefix: str | None = None) -> None:
        """Print the arguments that a saved model was set up with.

        Parameters
        ----------
        dir_path
            The folder.
        prefix
            Prefix of the saved files.

        Raises
        ------
        FileNotFoundError, ValueError
            As for `load`.
        """
        check_plain_file(_model_file(dir_path, prefix))
        BaseModelClass.view_setup_args(str(dir_path), prefix)

    @classmethod
    def convert_legacy_save(cls, *args: Any, **kwargs: Any) -> None:
        """Part of the scvi-tools interface; there are no models of Polygene in that old format.

        Parameters
        ----------
        *args, **kwargs
            Not used.

        Raises
        ------
        NotImplementedError
            Always: such files are read by unpickling.
        """
        raise NotImplementedError("No version of Polygene wrote scvi-tools' old format. Pass the folder to load().")


def _model_file(dir_path: str | Path, prefix: str | None) -> Path:
    return Path(dir_path) / f"{prefix or ''}{MODEL_FILE}"


def _saved_data(folder: Path, prefix: str) -> AnnData | MuData | None:
    for name, read in ((ADATA_FILE, anndata.read_h5ad), (MDATA_FILE, mudata.read_h5mu)):
        if (folder / f"{prefix}{name}").is_file():
            return read(folder / f"{prefix}{name}")
    return None


def _as_tensors(value: Any) -> Any:
    """Arrays in a mapping or list as tensors, which a saved model may hold without being unpickled."""
    if isinstance(value, dict):
        return {key: _as_tensors(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_tensors(item) for item in value]
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value
