"""The progress bar of a training."""

from types import SimpleNamespace

from lightning.pytorch.callbacks import RichProgressBar

from polygene_scverse.model.training._progress import ProgressBar


def test_shows_losses_and_no_run_number():
    trainer = SimpleNamespace(loggers=[SimpleNamespace(version=3)], progress_bar_metrics={"train_loss": 1.5})
    assert "v_num" in RichProgressBar().get_metrics(trainer, None)
    assert ProgressBar().get_metrics(trainer, None) == {"train_loss": 1.5}
