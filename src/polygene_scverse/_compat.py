"""The only place that touches what scvi-tools and Lightning keep private."""

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
    """State that a registered field keeps, e.g. the categories of the phenotypes."""
    return field_registry(registry, field)[STATE_REGISTRY]


def field_registry(registry: dict[str, Any], field: str) -> dict[str, Any]:
    """All that is registered of a field."""
    return registry[FIELD_REGISTRIES][field]


def setup_args(registry: dict[str, Any]) -> dict[str, Any]:
    """Arguments that ``setup_anndata`` was called with."""
    return registry[SETUP_ARGS]


def registry_without_data(registry: dict[str, Any], states: Sequence[tuple[Any, dict[str, Any]]]) -> dict[str, Any]:
    """Registry of a model that has seen no data, as scvi-tools would keep it for fields in these states.

    Parameters
    ----------
    registry
        Registry of a manager that was given no data.
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
    """Take data out of scvi-tools' list of what a model reads, in which they stand by their number."""
    model._per_instance_manager_store.get(model.id, {}).pop(manager.adata_uuid, None)


def plain(value: Any) -> Any:
    """Plain containers, so that they are saved and read without pickling."""
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
    """The history of a training as scvi-tools keeps it, of what `plain` made of it."""
    return {
        name: pd.DataFrame({name: column["values"]}, index=pd.Index(column["index"], name="epoch"))
        for name, column in history.items()
    }


def add_callback(trainer: Trainer, callback: Callback) -> None:
    """Add a callback to a trainer that was made; it runs after the others."""
    trainer.callbacks.append(callback)  # type: ignore[attr-defined]


def set_loop_position(
    checkpoint: dict[str, Any], position: Mapping[str, int], steps_per_epoch: int, batches_per_step: int
) -> None:
    """Write a position into the counters that Lightning's loops keep in a checkpoint; they count batches.

    Parameters
    ----------
    checkpoint
        What Lightning read; it is changed.
    position
        ``epoch`` and ``step``: epochs that are over, and steps of the one after them; ``global_step``: steps of all
        epochs; ``finished``: whether no epoch follows.
    steps_per_epoch, batches_per_step
        Of the training that goes on.
    """
    fit, epoch, step = checkpoint["loops"]["fit_loop"], position["epoch"], position["step"]
    within, begun = int(step > 0), int(not position["finished"])
    epochs = {"ready": epoch + begun, "started": epoch + within, "processed": epoch, "completed": epoch}
    batches = fit["epoch_loop.batch_progress"]
    batches["is_last_batch"] = False
    for kind, n_steps in (("total", step + epoch * steps_per_epoch), ("current", step)):
        fit["epoch_progress"][kind].update(epochs)
        batches[kind].update(dict.fromkeys(epochs, n_steps * batches_per_step))
    # at the beginning of an epoch Lightning goes once around the loop without a batch, and counts it
    fit["epoch_loop.state_dict"]["_batches_that_stepped"] = position["global_step"] - begun * (1 - within)


def torch_device(accelerator: str, device: int | str) -> torch.device:
    """The device that scvi-tools means by these two arguments."""
    from scvi.model._utils import parse_device_args

    found: torch.device = parse_device_args(
        accelerator=accelerator, devices=device, return_device="torch", validate_single_device=True
    )[2]
    return found


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's global random state set for a while, and given back."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
