"""The multi-label sets that come as tables: GoEmotions, MFRC, SemEval-2018 E-c."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from mlutils import paths, sources
from mlutils.corpora.corpus import Corpus, check_filled, choose, parts, reading, shares

# The authors' order: the filtered files give emotions by number.
_EMOTIONS = (
    "admiration amusement anger annoyance approval caring confusion curiosity desire disappointment "
    "disapproval disgust embarrassment excitement fear gratitude grief joy love nervousness optimism "
    "pride realization relief remorse sadness surprise neutral"
)
EMOTIONS = tuple(_EMOTIONS.split())
POOLED = {
    "admiration": ["admiration", "pride", "gratitude", "relief", "approval", "realization"],
    "anger": ["anger", "disgust", "annoyance", "disapproval"],
    "fear": ["fear", "nervousness"],
    "joy": ["joy", "amusement", "excitement", "love"],
    "optimism": ["optimism", "desire", "caring"],
    "sadness": ["sadness", "remorse", "embarrassment", "disappointment", "grief"],
    "surprise": ["surprise", "confusion", "curiosity"],
}
FOUNDATIONS = ("authority", "care", "equality", "loyalty", "proportionality", "purity")
WITHOUT_LABEL = ("thin morality", "non-moral")  # what MFRC's annotators may choose beside the foundations
SEMEVAL_LABELS = (
    *("anger", "anticipation", "disgust", "fear", "joy", "love"),
    *("optimism", "pessimism", "sadness", "surprise", "trust"),
)


def _read(path: Path, needed, **options) -> pd.DataFrame:
    with reading(path):
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8", **options)
    absent = [column for column in needed if column not in table]
    if absent:
        raise ValueError(f"{path} has no columns {absent}; its columns are {list(table)}")
    return table


def _flags(table: pd.DataFrame, columns, path: Path) -> np.ndarray:
    """Returns the cells "0" and "1" of columns as bool; raises ValueError for anything else."""
    cells = table[list(columns)].to_numpy(dtype=str)
    strange = ~np.isin(cells, ["0", "1"])
    if strange.any():
        raise ValueError(f"{path}: {str(cells[strange][0])!r} where 0 or 1 is needed, in {strange.sum()} cells")
    return cells == "1"


def _counts(table: pd.DataFrame, columns, path: Path) -> np.ndarray:
    """Returns the cells of columns as numbers; raises ValueError for anything else."""
    cells = table[list(columns)].to_numpy(dtype=str)
    strange = ~np.char.isdigit(cells)
    if strange.any():
        raise ValueError(f"{path}: {str(cells[strange][0])!r} where a number is needed, in {strange.sum()} cells")
    return cells.astype(int)


def _documents(ids, texts) -> pd.DataFrame:
    return pd.DataFrame({"id": pd.Series(list(ids), dtype=str), "text": pd.Series(list(texts), dtype=str)})


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# ---- GoEmotions ----------------------------------------------------------------------------------


def load_goemotions(split: str = "dev", annotations: str = "raw", labels: str = "7", only_voted: bool = True) -> Corpus:
    """Returns GoEmotions (Demszky et al. 2020): the filtered splits, their gold sets, and the raters' votes.

    annotations: "raw" (votes from the three official files, 43 MB), "subset" (1,565 comments of a mirror folder),
    "none" (gold only, votes NaN). labels: "7" pooled by union, in gold and for each rater, or "27". A rater who marked
    a comment very unclear is a rater who chose no label; neutral is no label. With "subset" the documents are the
    comments of that file (split "all": all of them), gold is two votes or more (equal to the filtered gold where both
    exist); `only_voted=False` takes the filtered splits' documents instead.
    """
    choose("labels", labels, ("7", "27"))
    choose("annotations", annotations, ("raw", "subset", "none"))
    wanted = parts(split)
    names = tuple(POOLED) if labels == "7" else EMOTIONS[:-1]
    if annotations == "subset" and only_voted:
        table, gold, votes, annotators, ratings = _subset_comments(split, wanted, labels, names)
    else:
        table, gold, votes, annotators, ratings = _filtered_comments(split, wanted, annotations, labels, names)
    return Corpus(
        name="goemotions",
        split=split,
        sample="all",
        labels=names,
        documents=_documents(table["id"], table["text"]),
        gold=gold,
        votes=votes,
        annotators=annotators,
        annotations=ratings,
    )


def _filtered_comments(split, wanted, annotations, labels, names):
    tables, files = [], {part: sources.fetch(f"goemotions-{part}") for part in wanted}
    known = {str(number) for number in range(len(EMOTIONS))}
    for path in files.values():
        tables.append(_read(path, (), sep="\t", names=["text", "emotions", "id"]))
        if (nameless := (tables[-1]["id"] == "").sum()) > 0:
            raise ValueError(f"{sources.describe(path)}: {nameless} rows have no id: it is cut, replace it there")
        for numbers in tables[-1]["emotions"]:
            if not known.issuperset(str(numbers).split(",")):
                raise ValueError(f"{path}: emotions {numbers!r}, where numbers from 0 to {len(known) - 1} are needed")
    counts = dict(zip(files, map(len, tables), strict=True))
    check_filled("goemotions", split, counts, ", ".join(map(sources.describe, files.values())))
    table = pd.concat(tables, ignore_index=True)
    chosen = np.zeros((len(table), len(EMOTIONS)), dtype=bool)
    for row, numbers in enumerate(table["emotions"]):
        chosen[row, [int(number) for number in numbers.split(",")]] = True

    votes, annotators = np.full((len(table), len(names)), np.nan), np.zeros(len(table), dtype=int)
    ratings = None
    if annotations != "none":
        ratings = _ratings(annotations, labels, names)
        ratings = ratings[ratings["id"].isin(table["id"])].reset_index(drop=True)
        votes, annotators = shares(ratings, table["id"], names)
    return table, _pool(chosen, labels), votes, annotators, ratings


def _pool(chosen: np.ndarray, labels: str) -> np.ndarray:
    """Returns the 28 emotions (N, 28) as the 27 without neutral, or as the 7 unions."""
    if labels == "27":
        return chosen[:, :-1]
    columns = [[EMOTIONS.index(emotion) for emotion in group] for group in POOLED.values()]
    return np.stack([chosen[:, group].any(axis=1) for group in columns], axis=1)


def _raw_ratings() -> tuple[pd.DataFrame, np.ndarray]:
    columns = ["id", "rater_id", *EMOTIONS]  # user names, times and threads are never read
    try:
        files = [sources.fetch(f"goemotions-raw-{number}") for number in (1, 2, 3)]
    except sources.SourceError as error:
        raise sources.SourceError(
            f"{error}\nWithout the raw annotations: load('goemotions', annotations='subset') takes votes on "
            "1,565 comments from a mirror folder, annotations='none' takes the gold sets only"
        ) from error
    tables = [_read(path, columns, usecols=lambda column: column in columns) for path in files]
    table = pd.concat(tables, ignore_index=True)
    return table, _flags(table, EMOTIONS, files[0])


def _subset_ratings() -> tuple[pd.DataFrame, np.ndarray]:
    path = sources.fetch("goemotions-subset")
    table = _read(path, ["text", "id", "filtered_split", "rater_id", *EMOTIONS])
    table["id"] = table["id"].where(table["id"] != "", "text-" + table["text"].map(_hash))
    return table, _flags(table, EMOTIONS, path)


def _ratings(annotations, labels, names):
    table, chosen = _raw_ratings() if annotations == "raw" else _subset_ratings()
    return _annotation_rows(table["id"], table["rater_id"], _pool(chosen, labels), names)


def _annotation_rows(ids, annotators, chosen, labels) -> pd.DataFrame:
    rows = pd.DataFrame(chosen, columns=list(labels))
    rows.insert(0, "id", list(ids))
    rows.insert(1, "annotator", list(annotators))
    return rows


def _subset_comments(split, wanted, labels, names):
    table, chosen = _subset_ratings()
    if split != "all":
        kept = table["filtered_split"].isin(wanted).to_numpy()
        found = table["filtered_split"].value_counts()
        where = f"the subset of annotations, whose filtered_split holds {', '.join(map(repr, sorted(found.index)))}"
        check_filled("goemotions", split, {part: found.get(part, 0) for part in wanted}, where)
        table, chosen = table[kept].reset_index(drop=True), chosen[kept]
    documents = table.drop_duplicates("id").reset_index(drop=True)
    ratings = _annotation_rows(table["id"], table["rater_id"], _pool(chosen, labels), names)
    votes, annotators = shares(ratings, documents["id"], names)
    counts = pd.DataFrame(chosen).groupby(table["id"].to_numpy()).sum().reindex(documents["id"]).to_numpy()
    return documents, _pool(counts >= 2, labels), votes, annotators, ratings


# ---- MFRC ----------------------------------------------------------------------------------------


def load_mfrc(split: str = "dev", annotations: str = "auto") -> Corpus:
    """Returns MFRC (Trager et al. 2022) with gold = half or more of the annotators; thin and non-moral are no label.

    annotations: "raw" (the official file, annotators named), "counts" (votes counted, of a mirror folder), or "auto":
    raw if the file is at hand, else counts if that is, else raw from the network. Documents without a vote are left out
    and listed in `missing`. Ids and splits are the paper's, found by the text's hash.
    """
    choose("annotations", annotations, ("auto", "raw", "counts"))
    wanted = parts(split)
    if annotations == "auto":
        at_hand = not sources.at_hand("mfrc-raw") and sources.at_hand("mfrc-counts")
        annotations = "counts" if at_hand else "raw"
    read = _mfrc_counts if annotations == "counts" else _mfrc_raw
    table, votes, annotators, rows, missing = read(split, wanted)
    return Corpus(
        name="mfrc",
        split=split,
        sample="all",
        labels=FOUNDATIONS,
        documents=_documents(table["id"], table["text"]),
        gold=votes >= 0.5,
        votes=votes,
        annotators=annotators,
        annotations=rows,
        missing=missing,
    )


def _mfrc_counts(split, wanted):
    names = [label.capitalize() for label in FOUNDATIONS]
    beside = ["Thin Morality", "Non-Moral"]
    path = sources.fetch("mfrc-counts")
    table = _read(path, ["id", "split", "text", *names, *beside])
    splits = ", ".join(map(repr, sorted(set(table["split"]))))
    table = table[table["split"].isin(wanted)]
    counted = table[names[0]] != ""
    missing = tuple(table["id"][~counted])
    table = table[counted].reset_index(drop=True)
    found = {part: int((table["split"] == part).sum()) for part in wanted}
    check_filled("mfrc", split, found, f"{sources.describe(path)}, whose column split holds {splits}")
    counts = _counts(table, names, path)
    # The table does not say how many annotators there were. Nearly every document has three, each of whom may choose
    # several labels, but none beside non-moral: those who chose it and those who chose another label are different
    # people, of which five documents have four.
    others, (*_, non_moral) = _counts(table, [*names, beside[0]], path), _counts(table, beside, path).T
    annotators = np.maximum(3, others.max(axis=1, initial=0) + non_moral)
    return table, counts / annotators[:, None], annotators, None, missing


def _mfrc_raw(split, wanted):
    path = sources.fetch("mfrc-raw")
    table = _read(path, ["text", "annotator", "annotation"])
    known = pd.read_csv(paths.PUBLISHED / "mfrc_splits.csv", dtype=str).set_index("text_sha256_16")
    table["hash"] = table["text"].map(_hash)
    at_hand = known[known.index.isin(table["hash"])]
    if at_hand.empty:
        bare = known.index.isin(table["text"].str.strip().map(_hash)).sum()
        raise ValueError(
            f"{sources.describe(path)}: none of its {table['text'].nunique():,} texts is one of the {len(known):,} "
            f"published ones to the letter ({bare:,} are without blanks at their ends): take the authors' file as it is"
        )
    found = {part: int((at_hand["split"] == part).sum()) for part in wanted}
    check_filled("mfrc", split, found, sources.describe(path))
    known = known[known["split"].isin(wanted)]
    table = table[table["hash"].isin(known.index)]
    table["id"] = table["hash"].map(known["document_id"])
    missing = tuple(known["document_id"][~known.index.isin(table["hash"])])

    allowed = {*FOUNDATIONS, *WITHOUT_LABEL, ""}
    chosen = np.zeros((len(table), len(FOUNDATIONS)), dtype=bool)
    for row, annotation in enumerate(table["annotation"]):
        said = [label.strip().lower() for label in annotation.split(",")]
        if not allowed.issuperset(said):
            raise ValueError(f"{path}: annotation {annotation!r} is unknown; allowed are {sorted(allowed - {''})}")
        chosen[row] = [label in said for label in FOUNDATIONS]
    rows = _annotation_rows(table["id"], table["annotator"], chosen, FOUNDATIONS)
    rows = rows.groupby(["id", "annotator"], sort=False, as_index=False).any()  # one row an annotator
    documents = table.drop_duplicates("id").reset_index(drop=True)
    votes, annotators = shares(rows, documents["id"], FOUNDATIONS)
    return documents, votes, annotators, rows, missing


# ---- SemEval -------------------------------------------------------------------------------------


def load_semeval(split: str = "dev") -> Corpus:
    """Returns SemEval-2018 Task 1 E-c, English (Mohammad et al. 2018): gold sets only, no annotators released."""
    tables, gold, files = [], [], {part: sources.fetch(f"semeval-{part}") for part in parts(split)}
    for path in files.values():
        # quotes are literal; lines end in CRLF
        table = _read(path, ["ID", "Tweet", *SEMEVAL_LABELS], sep="\t", quoting=csv.QUOTE_NONE)
        tables.append(table)
        gold.append(_flags(table, SEMEVAL_LABELS, path))
    counts = dict(zip(files, map(len, tables), strict=True))
    check_filled("semeval", split, counts, ", ".join(map(sources.describe, files.values())))
    table, gold = pd.concat(tables, ignore_index=True), np.concatenate(gold)
    return Corpus(
        name="semeval",
        split=split,
        sample="all",
        labels=SEMEVAL_LABELS,
        documents=_documents(table["ID"], table["Tweet"]),
        gold=gold,
        votes=np.full(gold.shape, np.nan),
        annotators=np.zeros(len(gold), dtype=int),
    )
