"""The only place that touches what scvi-tools keeps private."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import rich.pretty  # noqa: F401 - scvi-tools uses it without importing it
import torch

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
    return registry[FIELD_REGISTRIES][field][STATE_REGISTRY]


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
