"""An argument that does nothing is not swallowed."""

import mudata as md
import pytest

from polygene_scverse.datasets import simulate
from polygene_scverse.model import Polygene


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("name", "remedy"),
    [("batch_key", r"train\(group_key="), ("labels_key", "phenotype_keys="), ("moon", "Leave it out")],
)
def test_unknown_arguments_are_refused(name, remedy):
    cells = simulate(20, 10)
    with pytest.raises(TypeError, match=rf"`{name}`: unknown argument; the arguments are .*{remedy}"):
        Polygene.setup_anndata(cells, **{name: "donor"})
    with pytest.raises(TypeError, match=rf"`{name}`: unknown argument; the arguments are .*{remedy}"):
        Polygene.setup_mudata(md.MuData({"rna": cells}), **{name: "donor"})
    assert not any("scvi" in key for key in cells.uns)
