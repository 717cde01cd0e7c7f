import pandas as pd
import pytest

from mlutils import metrics, paths, readouts
from mlutils.reporting import published


def test_alignment_holds_the_printed_numbers():
    table = published.alignment()
    assert list(table) == ["table", "model", "group", "method", "corpus", "metric", "value"]

    def value(model, method, corpus, metric):
        rows = table.query("model == @model and method == @method and corpus == @corpus and metric == @metric")
        assert len(rows) == 1
        return rows["value"].item()

    assert value("Llama 3.3 70B Instruct", "compare_to_none", "hatexplain", "nll") == 1.66
    assert value("Llama 3.1 8B Instruct", "max_over_generations", "mfrc", "l1") == 1.58
    assert value("Llama 3.1 8B Instruct", "sft_outputs", "goemotions", "f1") == 0.58
    assert len(table) == 56 * 3  # 28 rows in each of the two tables, all complete


def test_alignment_uses_our_names():
    table = published.alignment()
    assert set(table["corpus"]) == {"goemotions", "mfrc", "hatexplain", "msp_podcast"}
    assert set(table["metric"]) == {"nll", "l1", "f1"} == set(metrics.PRINTED)
    assert set(table["model"]) == set(published.SIZES)
    assert set(table["method"]) <= set(readouts.METHODS)
    assert not table.duplicated(["model", "method", "corpus", "metric"]).any()


def test_hard_rows_satisfy_the_clipping_identity():
    # For hard predictions NLL = -ln(1e-8) x L1; the tables print two decimals.
    wide = published.alignment().pivot(index=["model", "method", "corpus"], columns="metric", values="value")
    hard = wide.xs("hard_predictions", level="method").query("corpus in ['goemotions', 'mfrc']")
    assert len(hard) == 4
    assert ((hard["nll"] - 18.42 * hard["l1"]).abs() < 18.42 * 0.0051).all()


def test_datasets_marks_upper_bounds():
    table = published.datasets().set_index(["corpus", "statistic"])
    assert table.loc[("goemotions", "cohen_kappa"), "value"] == 0.27
    assert table.loc[("semeval", "labels_3plus_pct"), "value"] == 46
    bound = table.loc[("mfrc", "labels_3plus_pct")]
    assert bound["below"] and bound["value"] == 1 and bound["printed"] == "<1"
    assert table["below"].sum() == 1
    assert ("semeval", "cohen_kappa") not in table.index


def test_other_tables():
    never = published.never_predicted().set_index(["corpus", "model"])["value"]
    assert never["boxes", "Llama3 70B Instruct"] == 56.8
    assert published.attention().set_index(["corpus", "model"]).loc[("mfrc", "Llama3 8B Base"), "label_avg_pct"] == 2.01
    assert published.label_order().shape == (3, 3)


def test_an_unknown_data_set_is_an_error(tmp_path, monkeypatch):
    pd.DataFrame({"dataset": ["Nonesuch"], "annotators_total": ["1"]}).to_csv(tmp_path / "table1_datasets.csv")
    monkeypatch.setattr(paths, "PUBLISHED", tmp_path)
    with pytest.raises(ValueError, match="Nonesuch"):
        published.datasets()
