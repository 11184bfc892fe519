"""Registration; more of it in `test_polygene_data`."""

import pytest
from mudata import MuData

import polygene_scverse as pgs
from polygene_scverse.model import Polygene


def test_a_view_is_refused(cells):
    with pytest.raises(ValueError, match="`adata`: found a view of another AnnData"):
        Polygene.setup_anndata(cells(40)[:20], phenotype_keys="sex")
    with pytest.raises(ValueError, match=r"`mdata`: found a view of another MuData.*Pass mdata\.copy\(\)"):
        Polygene.setup_mudata(MuData({"rna": cells(40)})[:20], phenotype_keys="sex")


def test_a_modality_of_fewer_cells(cells):
    other = cells(30)[:, :5].copy()
    other.var_names = [f"protein_{i}" for i in range(5)]
    data = MuData({"rna": cells(40), "protein": other})
    with pytest.raises(ValueError, match=r"`mdata`: \['protein'\] lack some of the 40 cells.*mdata\['rna'\]"):
        Polygene.setup_mudata(data, phenotype_keys="sex")


def test_a_model_of_one_kind_of_data_and_data_of_the_other(cells, model_of, tmp_path):
    data = MuData({"gex": cells(40)})
    Polygene.setup_mudata(data, mod="gex", phenotype_keys="sex")
    genes, network = list(data["gex"].var_names), {"n_hidden": 16, "n_layers": 1, "n_heads": 2}
    Polygene(data, genes=genes, **network).save(tmp_path / "multimodal")
    with pytest.raises(TypeError, match=r"found AnnData, but MuData is needed\. Pass MuData\(\{'gex': adata\}\)"):
        Polygene.load(tmp_path / "multimodal", adata=data["gex"])
    model_of(cells(40)).save(tmp_path / "unimodal")
    with pytest.raises(TypeError, match=r"found MuData, but AnnData is needed\. Pass one modality"):
        Polygene.load(tmp_path / "unimodal", adata=data)


def test_ordered_in_words(cells, model_of):
    adata = cells(40)
    order = ["cell_type_2", "cell_type_0", "cell_type_1"]
    model = model_of(adata, setup={"ordered": {"cell_type": order}})
    assert model.ordered == {"cell_type": {"values": [1.0, 2.0, 0.0], "numeric": False}}


def test_ordered_in_a_modality(cells):
    data = MuData({"rna": cells(40)})
    data.mod["rna"].obs["age"] = ["20-29", "5-9"] * 20
    Polygene.setup_mudata(data, phenotype_keys=["age", "sex"], ordered="age")
    model = Polygene(data, genes=list(data.mod["rna"].var_names), n_hidden=16, n_layers=1, n_heads=2)
    values = dict(zip(model.categories["age"], model.ordered["age"]["values"], strict=True))
    assert values == {"20-29": 24.5, "5-9": 7.0}


def test_no_order(cells):
    with pytest.raises(ValueError, match="`ordered`: the order of 'cell_type' is unknown"):
        Polygene.setup_anndata(cells(40), phenotype_keys=["cell_type", "sex"], ordered=["cell_type"])


def test_no_modality(cells):
    with pytest.raises(KeyError, match="`mod`: 'atac' is not one of the modalities"):
        Polygene.setup_mudata(MuData({"rna": cells(40)}), phenotype_keys="sex", mod="atac")


def test_the_setup_is_shown(cells, model_of, trained, capsys):
    adata = cells(40)
    model = pgs.tl.train(adata, phenotypes="sex", max_epochs=1, n_genes=10, verbose=False)
    for shown in (model, trained()):
        shown.view_anndata_setup()
        assert "sex_1" in capsys.readouterr().out
    model.view_anndata_setup(adata, hide_state_registries=True)
    assert "sex_1" not in capsys.readouterr().out
    with pytest.raises(ValueError, match="`adata`: these data were not set up for this model"):
        model.view_anndata_setup(cells(40))
    with pytest.raises(ValueError, match="`adata`: the model holds no data"):
        model.without_data().view_anndata_setup()
