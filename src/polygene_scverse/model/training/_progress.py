"""Progress bar of training."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import RichProgressBar


class ProgressBar(RichProgressBar):
    """Lightning's progress bar without the version number of the run, which is not informative here."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=10, leave=False)

    def get_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Losses to show, by name."""
        return {name: value for name, value in super().get_metrics(*args, **kwargs).items() if name != "v_num"}
