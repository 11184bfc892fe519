"""Draw what is in AnnData."""

from polygene_scverse.pl._confusion import confusion
from polygene_scverse.pl._history import history
from polygene_scverse.pl._umap import umap

__all__ = ["confusion", "history", "umap"]
