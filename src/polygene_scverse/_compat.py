"""Access to private parts of scvi-tools and Lightning, which other modules do not use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pandas as pd
import rich.pretty  # noqa: F401 - scvi-tools uses it without importing it
import torch

if TYPE_CHECKING:
    from lightning.pytorch import Callback, Trainer

ADATA_FILE = "adata.h5ad"
MDATA_FILE = "mdata.h5mu"
SETUP_ARGS = "setup_args"
FIELD_REGISTRIES = "field_registries"
STATE_REGISTRY = "state_registry"
DATA_REGISTRY = "data_registry"
SUMMARY_STATS = "summary_stats"
MODEL_NAME = "model_name"


def field_state(registry: dict[str, Any], field: str) -> dict[str, Any]:
    """State of a registered field, such as the categories of the phenotypes."""
    return field_registry(registry, field)[STATE_REGISTRY]


def field_registry(registry: dict[str, Any], field: str) -> dict[str, Any]:
    """Registry entry of a field."""
    return registry[FIELD_REGISTRIES][field]


def setup_args(registry: dict[str, Any]) -> dict[str, Any]:
    """Arguments with which ``setup_anndata`` was called."""
    return registry[SETUP_ARGS]


def registry_without_data(registry: dict[str, Any], states: Sequence[tuple[Any, dict[str, Any]]]) -> dict[str, Any]:
    """Registry of a model without data, as scvi-tools would create it for fields in these states.

    Parameters
    ----------
    registry
        Registry of a manager without data.
    states
        Each field and its state.
    """
    fields = {
        field.registry_key: {
            DATA_REGISTRY: field.get_data_registry(),
            STATE_REGISTRY: state,
            SUMMARY_STATS: field.get_summary_stats(state),
        }
        for field, state in states
    }
    return {**registry, FIELD_REGISTRIES: fields}


def forget_manager(model: Any, manager: Any) -> None:
    """Remove data from scvi-tools' record of the data of a model, in which they are stored by their UUID."""
    model._per_instance_manager_store.get(model.id, {}).pop(manager.adata_uuid, None)


@contextmanager
def identifiers_restored(data: Any) -> Iterator[None]:
    """Restore the identifiers of scvi-tools in ``uns`` if an error is raised."""
    before = _identifiers(data)
    try:
        yield
    except BaseException:
        for key, value in _identifiers(data).items():
            if key not in before:
                del data.uns[key]
            elif value != before[key]:
                data.uns[key] = before[key]
        raise


def _identifiers(data: Any) -> dict[str, Any]:
    return {key: value for key, value in data.uns.items() if str(key).startswith("_scvi_")}


def plain(value: Any) -> Any:
    """Convert to plain containers, which are saved and read without pickling."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist") and not isinstance(value, torch.Tensor):  # numpy array or scalar
        return plain(value.tolist())
    if hasattr(value, "to_dict"):  # DataFrame of the history
        return {"index": plain(value.index.to_list()), "values": plain(value.iloc[:, 0].to_list())}
    return value


def history_from_plain(history: Mapping[str, Mapping[str, Any]]) -> dict[str, pd.DataFrame]:
    """Convert the output of `plain` to a training history as scvi-tools stores it."""
    return {
        name: pd.DataFrame({name: column["values"]}, index=pd.Index(column["index"], name="epoch"))
        for name, column in history.items()
    }


def add_callback(trainer: Trainer, callback: Callback) -> None:
    """Add a callback to an existing trainer; it runs after the others."""
    trainer.callbacks.append(callback)  # type: ignore[attr-defined]


def set_loop_position(
    checkpoint: dict[str, Any], position: Mapping[str, int], steps_per_epoch: int, batches_per_step: int
) -> None:
    """Set the position of Lightning's loops in a checkpoint; their counters count batches.

    Parameters
    ----------
    checkpoint
        Checkpoint as read by Lightning; modified in place.
    position
        ``epoch`` and ``step``: number of completed epochs, and of steps in the next one; ``global_step``: number of
        steps in all epochs; ``finished``: whether no epoch follows.
    steps_per_epoch, batches_per_step
        Values of the resumed training.
    """
    fit, epoch, step = checkpoint["loops"]["fit_loop"], position["epoch"], position["step"]
    within, begun = int(step > 0), int(not position["finished"])
    epochs = {"ready": epoch + begun, "started": epoch + within, "processed": epoch, "completed": epoch}
    batches = fit["epoch_loop.batch_progress"]
    batches["is_last_batch"] = False
    for kind, n_steps in (("total", step + epoch * steps_per_epoch), ("current", step)):
        fit["epoch_progress"][kind].update(epochs)
        batches[kind].update(dict.fromkeys(epochs, n_steps * batches_per_step))
    # at the start of an epoch, Lightning counts one iteration of the loop without a batch
    fit["epoch_loop.state_dict"]["_batches_that_stepped"] = position["global_step"] - begun * (1 - within)


def torch_device(accelerator: str, device: int | str) -> torch.device:
    """The device that scvi-tools selects for these two arguments."""
    from scvi.model._utils import parse_device_args

    return parse_device_args(
        accelerator=accelerator, devices=device, return_device="torch", validate_single_device=True
    )[2]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Set torch's global random state, and restore it afterwards."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
