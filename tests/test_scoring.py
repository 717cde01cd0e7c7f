"""Anybody's predictions are scored as our own are; `test_small_samples` scores the file that `40_alignment` writes."""

import json
import subprocess

import numpy as np
import pytest

from mlutils import corpora, paths, scoring
from mlutils.readouts import predictions


@pytest.fixture
def mine(tmp_path):
    """Predictions of eight documents of MFRC that are off by a tenth; released labels, no text."""
    corpus = corpora.load("mfrc", sample="paper", limit=8, texts=False)
    corpus = corpus.take(corpus.has_votes)
    file = tmp_path / "mine.parquet"
    predictions.export(file, {("", "mine"): np.abs(corpus.votes - 0.1)}, corpus)
    return file, corpus


def test_what_is_printed(mine, capsys):
    file, corpus = mine
    scoring.main([str(file), "--corpus", "mfrc", "--sample", "paper", "--limit", "8"])
    printed = capsys.readouterr().out
    rows = {line.split("|")[1].strip(): line for line in printed.splitlines() if line.startswith("|")}
    assert printed.startswith(f"MFRC (paper), n = {len(corpus)}")
    assert {"mine", "Base rate", "All zeros", "Noise floor", "DistCE ↓", "Soft micro F1 ↑"} <= set(rows)
    off = np.abs(np.abs(corpus.votes - 0.1) - corpus.votes).sum(axis=1).mean()
    assert f"| {off:.2f} [" in rows["mine"]
    assert "2.87" in rows["published: Max-over-generations (8B)"]
    assert "not of these" not in printed


def test_published_rows_of_other_documents_are_marked(tmp_path, capsys):
    corpus = corpora.load("mfrc", split="dev", limit=5, texts=False)
    predictions.export(tmp_path / "mine.parquet", {("", "mine_calibrated"): corpus.votes}, corpus)
    scoring.main([str(tmp_path / "mine.parquet"), "--split", "dev", "--sample", "all", "--limit", "5"])
    printed = capsys.readouterr().out
    assert "Published rows are of the paper's documents (SAMPLE=paper), not of these." in printed
    assert "| mine_calibrated " in printed  # a name like one of ours


def test_make_hands_on_what_is_given():
    words = ["PREDICTIONS=my file.csv", "CORPUS=goemotions", "SPLIT=all", "SAMPLE=uniform", "LIMIT=7"]
    options = {"annotations": "subset"}
    words.append(f"OPTIONS={json.dumps(options)}")
    done = subprocess.run(
        ["make", "-n", "-o", ".venv/ready", "score", *words], cwd=paths.ROOT, capture_output=True, text=True
    )
    shown = subprocess.run(
        ["sh", "-c", f"python() {{ printf '%s\\n' \"$@\"; }}; {done.stdout}"], capture_output=True, text=True
    ).stdout.splitlines()
    assert shown[:3] == ["-m", "mlutils.scoring", "my file.csv"]
    given = dict(zip(shown[3::2], shown[4::2], strict=True))
    assert json.loads(given.pop("--options")) == options
    assert given == {"--corpus": "goemotions", "--split": "all", "--sample": "uniform", "--limit": "7"}


@pytest.mark.parametrize("arguments, message", [
    ([""], "give a file of predictions"),
    (["mine.csv", "--options", "annotations=subset"], "annotations=subset is no JSON object"),
])  # fmt: skip
def test_commands_that_cannot_be_followed_say_why(arguments, message, capsys):
    with pytest.raises(SystemExit):
        scoring.main(arguments)
    assert message in capsys.readouterr().err


def test_references_are_the_constants_of_a_kind_of_set():
    shares = np.array([[1.0, 0.0], [0.5, 0.5]])
    rows = scoring.references(shares, 3)
    assert {name: values[2].tolist() for (_, name), values in rows.items()} == {
        "zeros": [0, 0],
        "constant_0.1": [0.1, 0.1],
        "base_rate": [0.75, 0.25],
    }
    assert [name for _, name in scoring.references(shares, 3, single_label=True)] == ["uniform", "base_rate"]
    assert (scoring.references(shares, 3, single_label=True)["", "uniform"] == 0.5).all()
