"""Predictions come back in the order that is asked for, of their own test set, and whole."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mlutils.readouts import predictions


def test_predictions_are_read_by_document(tmp_path):
    values = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    predictions.write(tmp_path, "dev-all", ["a", "b", "c"], ["x", "y"], {"encoder_soft": values})
    found = predictions.read(tmp_path, "dev-all", ["c", "a"], ["x", "y"])
    assert (found["encoder_soft"] == values[[2, 0]]).all()
    assert predictions.read(tmp_path, "all-paper", ["c"], ["x", "y"]) == {}
    with pytest.raises(ValueError, match="wanted"):
        predictions.read(tmp_path, "dev-all", ["a"], ["y", "x"])
    with pytest.raises(ValueError, match="lacks 1 documents, e.g. z"):
        predictions.read(tmp_path, "dev-all", ["a", "z"], ["x", "y"])
    file = tmp_path / "predictions-dev-all.parquet"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(ValueError, match=f"{file} cannot be read .*delete it and run 07_encoder in its folder again"):
        predictions.read(tmp_path, "dev-all", ["a"], ["x", "y"])


def mine(corpus, **columns):
    """Returns predictions of a corpus as anybody might write them: a row a document and label."""
    rows = [(document, label, 0.25) for document in corpus.documents["id"] for label in corpus.labels]
    return pd.DataFrame(rows, columns=["document", "label", "probability"]).assign(**columns)


def test_predictions_go_out_and_come_back_as_exact_as_they_were(tmp_path, corpus):
    rng = np.random.default_rng(0)
    predicted = {("m", "unary_breakdown"): rng.random((40, 3)), ("", "zeros"): np.zeros((40, 3))}
    predictions.export(tmp_path / "predictions.parquet", predicted, corpus)
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    assert list(table) == ["document", "label", "share", "model", "method", "probability"] and len(table) == 240
    row = table.query("document == 'd7' and label == 'fear' and model == 'm'").iloc[0]
    assert (row["share"], row["probability"]) == (corpus.votes[7, 1], predicted["m", "unary_breakdown"][7, 1])
    table.sample(frac=1, random_state=0).to_csv(tmp_path / "shuffled.csv", index=False)
    for name in ("predictions.parquet", "shuffled.csv"):
        found = predictions.load(tmp_path / name, corpus)
        assert set(found) == set(predicted) and all((found[row] == predicted[row]).all() for row in found)


def test_a_file_needs_three_columns_and_may_hold_other_documents(tmp_path, corpus):
    numbered = replace(corpus, documents=corpus.documents.assign(id=[str(i) for i in range(40)]))
    mine(numbered).astype({"document": int}).to_parquet(tmp_path / "numbers.parquet")
    (found,) = predictions.load(tmp_path / "numbers.parquet", numbered.take([5, 2])).items()
    assert found[0] == ("", "numbers") and (found[1] == np.full((2, 3), 0.25)).all()
    called = replace(corpus, labels=("NA", "none", "null"))  # which pandas takes for missing, unless told otherwise
    mine(called).to_csv(tmp_path / "called.csv", index=False)
    assert list(predictions.load(tmp_path / "called.csv", called)) == [("", "called")]


BROKEN = {
    "a label": (lambda t: t.replace({"label": {"joy": "glee"}}), "label 'glee' of document 'd0'.*are anger, fear, joy"),
    "above": (
        lambda t: t.assign(probability=1.5),
        "label 'anger' of document 'd0' .*has the probability 1.5; .*0 to 1",
    ),
    "below": (lambda t: t.assign(probability=-0.1), "has the probability -0.1"),
    "unknown": (lambda t: t.assign(probability=np.nan), "has the probability nan"),
    "twice": (lambda t: pd.concat([t, t.iloc[4:5]]), r"label 'fear' of document 'd1' \(mine\) is there twice"),
    "a document": (lambda t: t[t["document"] != "d3"], "lacks 1 of 40 documents, e.g. 'd3'"),
    "its label": (lambda t: t.drop(index=4), "no probability of label 'fear' for document 'd1'.*anger, fear, joy"),
    "a column": (lambda t: t.drop(columns="label"), "lacks the columns label; it has document, probability"),
    "rows": (lambda t: t.iloc[:0], "holds no prediction"),
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_what_is_wrong_with_a_file_is_named(tmp_path, corpus, broken, suffix):
    breaks, message = BROKEN[broken]
    table, file = breaks(mine(corpus)), tmp_path / f"mine.{suffix}"
    table.to_csv(file, index=False) if suffix == "csv" else table.to_parquet(file)
    with pytest.raises(ValueError, match=message):
        predictions.load(file, corpus)


def test_files_of_another_form_are_refused(tmp_path, corpus):
    with pytest.raises(ValueError, match="nothing.csv: there is no such file"):
        predictions.load(tmp_path / "nothing.csv", corpus)
    for name in ("mine.json", "mine.parquet", "mine.csv"):
        (tmp_path / name).write_bytes(b'{"document": \xff}')
    with pytest.raises(ValueError, match="neither .parquet nor .csv: data/README.md"):
        predictions.load(tmp_path / "mine.json", corpus)
    for name in ("mine.parquet", "mine.csv"):
        with pytest.raises(ValueError, match="cannot be read as .*data/README.md"):
            predictions.load(tmp_path / name, corpus)
    single = replace(corpus, single_label=True)
    mine(single).to_csv(tmp_path / "mine.csv", index=False)
    with pytest.raises(ValueError, match=r"document 'd0' \(mine\) sum to 0.7500; foxes has one label"):
        predictions.load(tmp_path / "mine.csv", single)
