import pytest

from polygene_scverse import get


def test_table(predicted):
    table = get.history(predicted)
    assert table.index.tolist() == [0, 1, 2]
    assert table.index.name == "epoch"
    assert list(table) == ["train_loss", "validation_loss"]
    assert table["train_loss"].tolist() == [3.0, 2.0, 1.5]
    assert table["validation_loss"].isna().tolist() == [False, False, True]


def test_no_training(simulated):
    with pytest.raises(
        KeyError, match=r"`adata`: no training history is stored in adata.uns.*Call pgs.tl.train\(adata\) first"
    ):
        get.history(simulated)


def test_metrics_stand_at_their_epoch(trained):
    table = get.history(trained)
    assert len(table) == 4
    assert table["train_loss"].notna().all()
    assert table.index[table["validation_loss"].notna()].tolist() == [1, 3]
