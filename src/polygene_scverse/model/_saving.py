"""Save and load models with the interface of scvi-tools, without executable code in files."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from inspect import getattr_static
from pathlib import Path
from typing import Any, NoReturn, Self

import anndata
import mudata
from anndata import AnnData
from anndata.io import write_h5ad
from mudata import MuData
from scvi.data import AnnDataManager
from scvi.model.base import BaseModelClass

from polygene_scverse import _files
from polygene_scverse._compat import ADATA_FILE, MDATA_FILE, MODEL_NAME, plain, torch_device
from polygene_scverse._validate import check_plain_name, warn
from polygene_scverse.fit import FittedState
from polygene_scverse.model._folder import SavedModel, data_file, read_model, stage_data, write_model
from polygene_scverse.model._folder_checks import check_fitted, check_weights
from polygene_scverse.module import PolygeneModule


class NotOffered:
    """Descriptor that hides a method of scvi-tools which could only raise an error.

    Parameters
    ----------
    why
        What to use instead.
    """

    def __init__(self, why: str) -> None:
        self.why = why

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, instance: object, value: object) -> NoReturn:
        self.__get__(instance, type(instance))

    def __get__(self, instance: object, owner: type | None = None) -> NoReturn:
        raise AttributeError(f"{'' if owner is None else owner.__name__} has no {self.name}: {self.why}")


class SavingMixin(BaseModelClass):
    """`save` and `load` with plain containers only; support of pickle and `copy.deepcopy`."""

    module: PolygeneModule
    first_process = True

    convert_legacy_save = NotOffered("no version of Polygene wrote scvi-tools' old format. Pass the folder to load().")
    get_normalized_expression = NotOffered("it predicts bins of expression. See count_hidden_tokens.")
    update_setup_method_args = NotOffered("arguments belong to the data. Call setup_anndata again.")
    view_registry = NotOffered("view_anndata_setup shows what was registered.")
    differential_abundance = NotOffered("it has no distribution over cells. See predict_phenotype.")

    def __dir__(self) -> list[str]:
        return [
            name for name in super().__dir__() if not isinstance(getattr_static(type(self), name, None), NotOffered)
        ]

    def __copy__(self) -> Self:
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__getstate__())
        return other

    def __getstate__(self) -> dict[str, Any]:
        """All attributes but the trainer, which refers to data, open files and functions of the last training."""
        return {name: value for name, value in vars(self).items() if name != "trainer"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state with a new id, as scvi-tools stores data by the id of the model."""
        self.__dict__.update(state, id=str(uuid.uuid4()))
        if self._adata_manager is not None:
            self._register_manager_for_instance(self._adata_manager)

    def save(
        self,
        dir_path: str | Path,
        prefix: str | None = None,
        overwrite: bool = False,
        save_anndata: bool = False,
        save_kwargs: dict[str, Any] | None = None,
        legacy_mudata_format: bool = False,
        datamodule: Any = None,
        **anndata_write_kwargs: Any,
    ) -> None:
        """Save the model to a folder.

        Writes ``model.json``, with all plain values and the hashes of the other files, and a safetensors file with
        weights and arrays. Files are replaced atomically, so that either the previous or the new model can be loaded
        after an error. In distributed training, only the first process writes.

        Parameters
        ----------
        dir_path
            The folder.
        prefix
            Prefix of the file names, so that a folder can hold several models.
        overwrite
            Whether to write to an existing folder. Other files in it are not changed.
        save_anndata
            Whether to save the data as well, as ``adata.h5ad`` or ``mdata.h5mu``.
        save_kwargs
            Part of the scvi-tools interface; not supported, an error if passed.
        legacy_mudata_format
            Part of the scvi-tools interface: whether to write one list of genes for all modalities.
        datamodule
            As `save_kwargs`.
        **anndata_write_kwargs
            Passed to the writer of the data, e.g. ``compression``.

        Raises
        ------
        ValueError
            If the folder exists and `overwrite` is False, if it cannot be written to, if the weights are not finite, if
            an argument is not supported, or if there are no data to save.
        TypeError
            If `dir_path` is not a path.
        OSError
            If the disk is full. An existing model is kept.
        """
        _refuse_unused("save", save_kwargs=save_kwargs, datamodule=datamodule)
        if anndata_write_kwargs and not save_anndata:
            _refuse_unused("save(save_anndata=False)", **anndata_write_kwargs)
        if not self.first_process:
            return
        prefix = _checked_prefix(prefix)
        _files.check_destination(dir_path, "dir_path")
        folder = Path(dir_path)
        if folder.exists() and not overwrite:
            raise ValueError(f"`dir_path`: {folder} already exists. Pass overwrite=True, or another folder.")
        if save_anndata and self.adata is None:
            raise ValueError("`save_anndata`: the model holds no data. Pass save_anndata=False.")
        weights = self.module.state_dict()
        check_weights(weights, "model", "Train again, with a lower plan_kwargs={'lr': ...}.")

        def write(into: Path) -> None:
            staged = None
            if save_anndata:
                name = f"{prefix}{ADATA_FILE if isinstance(self.adata, AnnData) else MDATA_FILE}"
                staged = stage_data(into, name, lambda path: _write_data(self.adata, path, anndata_write_kwargs))
            write_model(
                into,
                prefix,
                class_name=type(self).__name__,
                var_names=self.get_var_names(legacy_mudata_format),
                attributes=_attributes(self),
                weights=weights,
                data=staged,
            )

        if folder.exists():
            write(folder)
        else:
            with _files.replace_folder(folder) as part:
                write(part)

    def get_var_names(self, legacy_mudata_format: bool = False) -> Any:
        """Return the gene names of the data the model was set up with.

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
        accelerator: str = "auto",
        device: int | str = "auto",
        prefix: str | None = None,
        backup_url: str | None = None,
        datamodule: Any = None,
        allowed_classes_names_list: Sequence[str] | None = None,
    ) -> Self:
        """Load a model that was saved with `save`.

        Parameters
        ----------
        dir_path
            The folder.
        adata
            Data to attach; genes are matched by name. None loads the data saved with the model, if there are any, and
            False loads no data.
        accelerator, device
            Device to load the weights to, as in scvi-tools; by default a GPU if available.
        prefix
            Prefix of the file names.
        backup_url, datamodule
            Part of the scvi-tools interface; not supported, an error if passed.
        allowed_classes_names_list
            Names of other model classes that may be loaded.

        Raises
        ------
        FileNotFoundError
            If the folder does not contain a model.
        ValueError
            If a file was changed or damaged after saving, if the model is of another class, a later release or another
            package, or if its values are invalid, such as weights that are not finite.
        TypeError
            If `dir_path` is not a path, or `adata` is not data.
        """
        _refuse_unused("load", backup_url=backup_url, datamodule=datamodule)
        prefix = _checked_prefix(prefix)
        folder = _checked_folder(dir_path)
        saved = read_model(folder, prefix)
        _check_class(cls, saved, allowed_classes_names_list)
        check_weights(saved.weights, "dir_path", "Load an earlier model, or train again.")
        model = cls._of_saved(saved.attributes)
        model.module.load_state_dict(saved.weights)
        model.to_device(torch_device(accelerator, device))
        model.module.eval()
        if adata is None:
            adata = _saved_data(folder, prefix, saved.data)
        if isinstance(adata, (AnnData, MuData)):
            model.adata = adata
        elif adata is not False:
            raise TypeError(f"`adata`: found {adata!r}. Pass AnnData, MuData, None for saved data, or False for none.")
        return model

    @classmethod
    def _of_saved(cls, attributes: dict[str, Any]) -> Self:
        """Create an untrained model with the attributes of a saved one."""
        given = attributes["init_params_"]
        keywords = {name: value for group in given["kwargs"].values() for name, value in group.items()}
        model = cls(None, registry=attributes["registry_"], **given["non_kwargs"], **keywords)
        fitted = FittedState.from_dict(attributes["fitted_"])
        check_fitted(fitted, model.module.layout)
        for name, value in attributes.items():
            if name not in ("registry_", "init_params_"):
                setattr(model, name, fitted if name == "fitted_" else value)
        return model

    @staticmethod
    def load_registry(dir_path: str | Path, prefix: str | None = None) -> dict[str, Any]:
        """Return the registry of a saved model.

        Parameters
        ----------
        dir_path
            The folder.
        prefix
            Prefix of the file names.

        Raises
        ------
        FileNotFoundError, ValueError
            As for `load`.
        """
        prefix = _checked_prefix(prefix)
        return dict(read_model(_checked_folder(dir_path), prefix).attributes["registry_"])

    @staticmethod
    def view_setup_args(dir_path: str | Path, prefix: str | None = None) -> None:
        """Print the arguments that a saved model was set up with.

        Parameters
        ----------
        dir_path
            The folder.
        prefix
            Prefix of the file names.

        Raises
        ------
        FileNotFoundError, ValueError
            As for `load`.
        """
        AnnDataManager.view_setup_method_args(SavingMixin.load_registry(dir_path, prefix))


def _check_class(asked: type, saved: SavedModel, others: Sequence[str] | None) -> None:
    """Raise an error if the model is of another class."""
    registered = str(saved.attributes["registry_"].get(MODEL_NAME, saved.class_name))
    if unknown := {saved.class_name, registered} - {asked.__name__, *(others or ())}:
        raise ValueError(
            f"`dir_path`: {saved.manifest.parent} holds a model of class {' and '.join(sorted(unknown))}, but "
            f"{asked.__name__} was asked to load it. Call load of that class, or name it in "
            "allowed_classes_names_list=."
        )


def _attributes(model: SavingMixin) -> dict[str, Any]:
    """Attributes to save: those whose names end with an underscore, as in scvi-tools."""
    found = {name: value for name, value in vars(model).items() if name.endswith("_") and not name.endswith("__")}
    return {**found, "fitted_": found["fitted_"].to_dict()}


def _checked_prefix(prefix: str | None) -> str:
    if prefix:
        check_plain_name(prefix, "prefix")
    return prefix or ""


def _checked_folder(dir_path: str | Path) -> Path:
    if not isinstance(dir_path, (str, Path)):
        raise TypeError(f"`dir_path`: found {type(dir_path).__name__}. Pass the folder that the model was saved to.")
    return Path(dir_path)


def _refuse_unused(where: str, **arguments: Any) -> None:
    """Raise an error for arguments that would have no effect."""
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise ValueError(f"`{given[0]}`: {where} does not support it. Leave it out.")


def _write_data(data: AnnData | MuData, path: Path, kwargs: dict[str, Any]) -> None:
    """Write data; backed data stay backed by their own file, and not by the new file, which is renamed afterwards."""
    if isinstance(data, AnnData) and data.isbacked:
        write_h5ad(path, data, **kwargs)
    else:
        data.write(path, **kwargs)


def _saved_data(folder: Path, prefix: str, data: dict[str, Any]) -> AnnData | MuData | bool:
    """Load the data saved with a model, or next to it; False if there are none."""
    names = {f"{prefix}{name}" for name in (ADATA_FILE, MDATA_FILE)}
    if data:
        path = data_file(folder, data)
        if path is None:
            warn(
                f"`dir_path`: {data['name']}, which was saved with the model, is no longer in {folder}. The model is "
                "loaded without data."
            )
    else:
        path = next((folder / name for name in sorted(names) if os.path.isfile(folder / name)), None)
    if path is None:
        return False
    return mudata.read_h5mu(path) if path.suffix == ".h5mu" else anndata.read_h5ad(path)
