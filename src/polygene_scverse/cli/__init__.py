"""The `polygene` command."""

from polygene_scverse.cli._app import app

__all__ = ["app"]
