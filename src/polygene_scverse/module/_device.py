"""Move arguments of a module's methods to the module's device."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


def move_arguments(method: Callable[..., Result]) -> Callable[..., Result]:
    """In evaluation mode, move tensors and lists of tensors to the device of the module's first parameter.

    scvi-tools' ``auto_move_data`` checks every parameter in every call, which takes longer than a small batch.
    """

    @wraps(method)
    def moved(*args: Any, **kwargs: Any) -> Result:
        module = args[0]
        if module.training:
            return method(*args, **kwargs)
        device = next(module.parameters()).device
        kwargs = {name: _moved(value, device) for name, value in kwargs.items()}
        return method(module, *(_moved(value, device) for value in args[1:]), **kwargs)

    return moved


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value if value.device == device else value.to(device, non_blocking=True)
    if isinstance(value, list):
        return [_moved(part, device) for part in value]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_moved(part, device) for part in value))
    return value
