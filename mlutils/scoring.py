"""Scores anybody's predictions beside constants, the paper's rows and the noise floor: `make score PREDICTIONS=file`.

The file holds a row a document and label (`readouts.predictions.load`); `data/README.md` describes it. Documents and
numbers are those of `40_alignment` with the same parameters. Where a corpus is not at hand, the labels of `data/labels`
will do.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from mlutils import corpora
from mlutils.archives import SourceError
from mlutils.metrics import PRINTED
from mlutils.readouts import alignment, measures, predictions
from mlutils.reporting import looks, published, tables
from mlutils.reporting.published import SIZES, corpus_title
from mlutils.training import baselines

EXAMPLE = '{"annotations": "subset"}'


def score(
    path: Path | str,
    corpus: str,
    split: str = "dev",
    sample: str = "paper",
    limit: int = 0,
    options: Mapping | None = None,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the tables of `alignment.tabulate` and `measures.tabulate` of a file of predictions and reference rows.

    corpus, split, sample, limit, options, seed: as `corpora.load` and the parameters of `40_alignment`. Raises
    ValueError as `predictions.load` and `corpora.load` do, SourceError where neither files nor labels are at hand.
    """
    options = dict(options or {})
    whole = corpora.load(corpus, split, sample, limit or None, seed, texts=False, **options)
    documents = whole.take(alignment.same_documents({}, whole))
    given = predictions.load(path, documents)
    training = corpora.training_documents(whole, **options)
    train = corpora.split_training(training)[0]
    shares = np.where(train.has_votes[:, None], train.votes, train.gold)
    predicted = references(shares, len(documents), documents.single_label) | given
    scores = {row: alignment.score(values, documents) for row, values in predicted.items()}
    if documents.has_votes.any():
        scores["", "noise_floor"] = alignment.score_noise_floor(documents, training, seed)
    return alignment.tabulate(scores, documents), measures.tabulate(predicted, documents, training, seed=seed)


def references(
    train_shares: np.ndarray, documents: int, single_label: bool = False
) -> dict[tuple[str, str], np.ndarray]:
    """Returns rows that know nothing of a document, by (model, method): constants and the base rate, (documents, L).

    train_shares: (D, L) of training documents. Raises ValueError as `baselines.base_rate` does.
    """
    labels = np.shape(train_shares)[1]
    values = {"uniform": 1 / labels} if single_label else {"zeros": 0.0, "constant_0.1": 0.1}
    rows = {("", name): baselines.constant(value, documents, labels) for name, value in values.items()}
    return rows | {("", "base_rate"): baselines.base_rate(train_shares, documents)}


def show(table: pd.DataFrame, theirs: pd.DataFrame | None = None, digits: int = 2) -> pd.DataFrame:
    """Returns such a table as texts: a row a method and model, a column a metric with its interval.

    theirs: rows of `published.alignment()`, which stand behind.
    """
    rows = {}
    for row in table.itertuples():
        text = tables.interval(row.mean, row.low, row.high, digits)
        rows.setdefault(_title(row.method, row.model), {})[tables.KNOWN[row.metric].heading] = text
    for row in theirs.itertuples() if theirs is not None else ():
        name = f"published: {_title(row.method, SIZES[row.model])}"
        rows.setdefault(name, {})[tables.KNOWN[row.metric].heading] = f"{row.value:.{digits}f}"
    return pd.DataFrame.from_dict(rows, orient="index").fillna(tables.MISSING)


def _title(method, model):
    """Returns how a row is written; a method that is not ours keeps its name."""
    try:
        name = looks.look(method).title
    except ValueError:
        name = method
    return name + (f" ({model})" if model else "")


def _read_options(text):
    try:
        options = json.loads(text)
    except ValueError:
        options = None
    if not isinstance(options, dict):
        raise argparse.ArgumentTypeError(f"{text} is no JSON object, such as {EXAMPLE}")
    return options


def _lay_out(frame):
    return frame.to_markdown(disable_numparse=True) + "\n"


def main(arguments: list[str]) -> None:
    """Prints both tables for a file and a corpus."""
    parser = argparse.ArgumentParser(prog="python -m mlutils.scoring", description=__doc__.partition("\n")[0])
    parser.add_argument("predictions", help="a .parquet or .csv file: document, label, probability")
    parser.add_argument("--corpus", default="mfrc", help=", ".join(corpora.NAMES))
    parser.add_argument("--split", default="dev")
    parser.add_argument("--sample", default="paper")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--options", type=_read_options, default={}, help=f"of the corpus: {EXAMPLE}")
    parser.add_argument("--seed", type=int, default=0)
    given = vars(parser.parse_args(arguments))
    if not given["predictions"]:
        parser.error("give a file of predictions: make score PREDICTIONS=file (data/README.md says how it looks)")
    table, further = score(given.pop("predictions"), **given)
    theirs = published.alignment()
    theirs = theirs[theirs["corpus"] == given["corpus"]]
    place = f"{corpus_title(given['corpus'])} ({table['documents'].iloc[0]}), n = {table['n'].iloc[0]}"
    print(f"{place}: means with 95 % intervals over documents\n")
    print(_lay_out(show(table[table["metric"].isin(PRINTED)], theirs)))
    if len(theirs) and not given["sample"].startswith("paper"):
        print("Published rows are of the paper's documents (SAMPLE=paper), not of these.\n")
    if len(further):
        print("Other measures of the field\n\n" + _lay_out(show(further, digits=3).T))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (SourceError, ValueError) as problem:
        sys.exit(f"{problem}")
