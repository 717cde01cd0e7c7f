"""Label probabilities as files: of supervised methods, to stand beside readouts of traces; of a table, to go elsewhere.

`write` and `read` are for runs that read each other. `export` and `load` are for anybody: a row a document, label and
method, documented in `data/README.md`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pyarrow import ArrowException

from mlutils.corpora import Corpus
from mlutils.files import replacing, write_table
from mlutils.metrics import TIE, find_unnormalised

Rows = Mapping[tuple[str, str], np.ndarray]  # (model, method) -> (D, L)

FORM = "data/README.md, section Predictions, describes the form"
NAMES = ("model", "method")  # columns that may be left out
NEEDED = ("document", "label", "probability")


def write(folder: Path, name: str, ids: Sequence[str], labels: Sequence[str], predicted: dict[str, np.ndarray]) -> None:
    """Writes the probabilities (D, L) of each method for one test set, by document id, into a run's folder."""
    rows = [
        {"document": document, "method": method, "labels": list(labels), "probabilities": list(map(float, row))}
        for method, values in predicted.items()
        for document, row in zip(ids, values, strict=True)
    ]
    with replacing(Path(folder) / f"predictions-{name}.parquet") as draft:
        pd.DataFrame(rows).to_parquet(draft)


def read(folder: Path, name: str, ids: Sequence[str], labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the probabilities (D, L) of each method for a test set, in the order of `ids`; {} where there are none.

    Raises ValueError where labels are others, a document is missing, or the file is damaged.
    """
    file = Path(folder) / f"predictions-{name}.parquet"
    if not file.exists():
        return {}
    try:
        table = pd.read_parquet(file)
    except (OSError, ArrowException) as error:
        raise ValueError(
            f"{file} cannot be read ({error}): delete it and run 07_encoder in its folder again"
        ) from error
    found = {}
    for method, rows in table.groupby("method", sort=False):
        if list(rows["labels"].iloc[0]) != list(labels):
            raise ValueError(f"{file}: {method} predicts {list(rows['labels'].iloc[0])}, wanted {list(labels)}")
        by_document = rows.set_index("document")["probabilities"]
        if missing := set(ids) - set(by_document.index):
            raise ValueError(f"{file}: {method} lacks {len(missing)} documents, e.g. {min(missing)}: run it again")
        found[method] = np.array([by_document[document] for document in ids])
    return found


def export(path: Path, predicted: Rows, corpus: Corpus) -> None:
    """Writes the probabilities of all rows as one Parquet table: document, label, share, model, method, probability.

    predicted: of the documents of the corpus, in their order; share: of annotators who chose the label, NaN where
    unknown. Numbers are as exact as they were.
    """
    documents, labels = corpus.gold.shape
    same = {
        "document": np.repeat(corpus.documents["id"].to_numpy(), labels),
        "label": np.tile(corpus.labels, documents),
        "share": corpus.votes.ravel(),
    }
    tables = [
        pd.DataFrame({**same, "model": model, "method": method, "probability": np.asarray(values, float).ravel()})
        for (model, method), values in predicted.items()
    ]
    write_table(path, pd.concat(tables, ignore_index=True), exact=True)


def load(path: Path, corpus: Corpus) -> dict[tuple[str, str], np.ndarray]:
    """Returns the probabilities (D, L) in a file of anybody's, by model and method, in the order of the corpus.

    Parquet or CSV with a row a document and label; without a column `method` all are one, called by the file's name.
    Documents that are not in the corpus are left out. Raises ValueError that names the first problem: no such file,
    another form, a label that is not there, a probability outside 0 to 1, a document twice or missing, a label missing,
    and in single-label sets probabilities that do not sum to one.
    """
    path = Path(path)
    table = _read_rows(path)
    unknown = table[~table["label"].isin(corpus.labels)]
    if len(unknown):
        raise ValueError(f"{path}: {_name(unknown)}: the labels of {corpus.name} are {', '.join(corpus.labels)}")
    outside = table[~table["probability"].between(-TIE, 1 + TIE)]  # the tolerance of metrics
    if len(outside):
        value = outside["probability"].iloc[0]
        raise ValueError(f"{path}: {_name(outside)} has the probability {value}; it must be a number from 0 to 1")
    twice = table[table.duplicated([*NAMES, "document", "label"])]
    if len(twice):
        raise ValueError(
            f"{path}: {_name(twice)} is there twice ({len(twice)} such rows): leave one out, or tell methods apart by "
            "the columns model and method"
        )
    return {row: _arrange(path, row, rows, corpus) for row, rows in table.groupby(list(NAMES), sort=False)}


def _read_rows(path):
    """Returns the columns that count, as texts and numbers."""
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        elif path.suffix == ".csv":
            table = pd.read_csv(path, dtype=str, keep_default_na=False)  # a label may be called none or NA
        else:
            raise ValueError(f"{path} is neither .parquet nor .csv: {FORM}")
    except (OSError, ArrowException, UnicodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path} cannot be read as {path.suffix[1:]} ({error}): {FORM}") from error
    if missing := [name for name in NEEDED if name not in table]:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(map(str, table))}: {FORM}")
    if table.empty:
        raise ValueError(f"{path} holds no prediction: {FORM}")
    named = {"model": table.get("model", ""), "method": table.get("method", path.stem)}
    table = table.assign(**named)[[*NAMES, *NEEDED]]
    texts = table.drop(columns="probability").fillna("").astype(str)
    return texts.assign(probability=pd.to_numeric(table["probability"], errors="coerce"))


def _name(rows):
    """Returns the first of some rows in words."""
    row = rows.iloc[0]
    of = " ".join(filter(None, (row["model"], row["method"])))
    return f"label {row['label']!r} of document {row['document']!r} ({of})"


def _arrange(path, row, rows, corpus):
    """Returns the probabilities of one method, (D, L)."""
    of = " ".join(filter(None, row))
    at = pd.Index(corpus.documents["id"]).get_indexer(rows["document"])
    values = np.full(corpus.gold.shape, np.nan)
    here = at >= 0
    values[at[here], pd.Index(corpus.labels).get_indexer(rows["label"][here])] = rows["probability"][here]
    known = ~np.isnan(values)
    if not known.any(axis=1).all():
        lost = corpus.documents["id"][~known.any(axis=1)]
        raise ValueError(
            f"{path}: {of} lacks {len(lost)} of {len(corpus)} documents, e.g. {lost.iloc[0]!r}: predict them all, or "
            "score the sample that you predicted (SAMPLE, SPLIT, LIMIT)"
        )
    if not known.all():
        document, label = np.argwhere(~known)[0]
        raise ValueError(
            f"{path}: {of} has no probability of label {corpus.labels[label]!r} for document "
            f"{corpus.documents['id'].iloc[document]!r}: each document needs all of {', '.join(corpus.labels)}"
        )
    wrong = find_unnormalised(values) if corpus.single_label else []
    if len(wrong):
        raise ValueError(
            f"{path}: the probabilities of document {corpus.documents['id'].iloc[wrong[0]]!r} ({of}) sum to "
            f"{values[wrong[0]].sum():.4f}; {corpus.name} has one label a document, so they must sum to 1"
        )
    return values
