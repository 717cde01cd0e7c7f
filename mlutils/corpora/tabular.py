"""Corpora that come as tables: their documents, joined with what annotators said; votes and gold.

A row of `annotations` is one annotator's answer about one document (lists, grades) or the votes on it (counts, shares),
a row of `documents` is a document, with its gold set (gold), its votes, or neither. `data/README.md` tells the format.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mlutils import sources
from mlutils.corpora.corpus import Corpus, check_filled, parts, plain, shares
from mlutils.corpora.descriptions import TABLES, Description
from mlutils.corpora.tables import Reading, read_table, said_of


def load(about: Description, split: str) -> Corpus:
    """Returns a split of a corpus. Raises ValueError that names file, line and reason where a row cannot be read,
    EmptyError where there is no document, SourceError where a file cannot be had.
    """
    found = read(about, split)
    if found.problems:
        more = f" (and {len(found.problems) - 1} more rows: make check-corpus lists them)"
        raise ValueError(found.problems[0] + (more if found.problems[1:] else ""))
    return found.corpus


def read(about: Description, split: str) -> Reading:
    """Returns a split of a corpus and what of its files could not be read; raises as `load` does, rows apart."""
    found, wanted = Reading(about), parts(split)
    documents, annotations = (read_table(found, table, wanted) for table in TABLES)
    if documents is not None:
        documents = _number(found, documents).reset_index(drop=True)
    if annotations is not None:
        annotations = _identify(found, annotations, documents)
    from_votes = about.data["gold"] != "published"
    if not from_votes and (about.data.get("documents") or {}).get("shape") != "gold":
        raise ValueError(f"{about.file}: gold is published, so documents must have the shape gold, which holds it")
    bare = documents is None or "text" not in documents
    texts = annotations.drop_duplicates("id") if bare else documents
    known = [table for table in (documents, annotations) if table is not None]
    if bare and documents is not None:
        texts = texts[texts["id"].isin(documents["id"])]
    part = _split(about, texts, known)
    kept = np.ones(len(texts), bool) if split == "all" else part.isin(wanted).to_numpy()
    texts, part = texts[kept].reset_index(drop=True), part[kept].reset_index(drop=True)
    ids = texts["id"]

    voted = documents if annotations is None else annotations
    table = about.data["documents" if annotations is None else "annotations"]
    votes, gold, annotators, rows, grades = _count(found, table, voted, ids)
    if from_votes:
        chosen = ~np.isnan(votes).any(axis=1)
        texts, part = (each[chosen].reset_index(drop=True) for each in (texts, part))
        votes, gold, annotators = (each[chosen] for each in (votes, gold, annotators))
    else:
        gold = about.pool(documents.set_index("id").reindex(ids)[said_of(about)].to_numpy(float) == 1)
    asked = texts if documents is None else documents
    asked = asked["id"] if split == "all" else asked["id"][_split(about, asked, known).isin(wanted).to_numpy()]
    counts = {each: int((part == each).sum()) for each in wanted}
    if found.problems and not len(texts):
        return found
    if split != "all" or not len(texts):
        check_filled(about.name, split, counts, _where(about, known, wanted))
    of_these = [
        table if table is None else table[table["id"].astype(object).isin(set(texts["id"]))] for table in (rows, grades)
    ]
    found.corpus = Corpus(
        name=about.name,
        split=split,
        sample="all",
        labels=tuple(about.pools),
        documents=pd.DataFrame({"id": texts["id"], "text": texts["text"]}, dtype=str),
        gold=gold,
        votes=votes,
        annotators=annotators,
        single_label=about.data.get("single_label", False),
        annotations=None if of_these[0] is None else of_these[0].reset_index(drop=True),
        grades=None if of_these[1] is None else of_these[1].reset_index(drop=True),
        missing=tuple(asked[~asked.isin(texts["id"])]),
    )
    return found


# ---- documents -----------------------------------------------------------------------------------


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _own_ids(texts: pd.Series) -> pd.Series:
    """Returns ids for texts that have none."""
    return "text-" + texts.map(lambda text: _hash(text)[:16])


def _number(found: Reading, rows: pd.DataFrame) -> pd.DataFrame:
    """Returns documents with an id each; those without one, or with one that is there already, are refused."""
    if "id" not in rows:
        rows = rows.assign(id=_own_ids(rows["text"]))
        again = rows.groupby("id").cumcount()
        return rows.assign(id=rows["id"] + again.map(lambda count: f"-{count + 1}" if count else ""))
    rows = found.refuse(rows, rows["id"] == "", "no id")
    first = rows.drop_duplicates("id").set_index("id")
    return found.refuse(
        rows,
        rows["id"].duplicated(),
        lambda row: f"id {row['id']!r} is there already, in {first['file'][row['id']]}:{first['line'][row['id']]}",
    )


def _identify(found: Reading, rows: pd.DataFrame, documents: pd.DataFrame | None) -> pd.DataFrame:
    """Returns annotations with the ids of their documents: their own, by the text's hash, or by the text."""
    if documents is not None and "sha256" in documents:
        return _find_by_hash(rows, documents)
    if "id" in rows:
        if "text" in rows:
            rows = rows.assign(id=rows["id"].where(rows["id"] != "", _own_ids(rows["text"])))
        rows = found.refuse(rows, rows["id"] == "", "no id")
    elif documents is None:
        rows = rows.assign(id=_own_ids(rows["text"]))
    else:
        folded = documents["text"].map(_unbroken)
        by_text = pd.DataFrame({"folded": folded, "id": documents["id"]})
        rows = rows.assign(folded=rows["text"].map(_unbroken))
        lost = rows[~rows["folded"].isin(folded)]
        found.misses += [
            f"{row.file}:{row.line}: no document has the text {row.text[:60]!r}" for row in lost.itertuples()
        ]
        rows = rows.merge(by_text, on="folded", how="inner")
    for key in ("text", "split"):
        if key in rows and (documents is None or key not in documents):
            first = rows.groupby("id")[key].transform("first")
            rows = found.refuse(rows, rows[key] != first, f"another {key} than the first row of this id has")
    return rows


def _unbroken(text: str) -> str:
    return " ".join(text.split())


def _find_by_hash(rows: pd.DataFrame, documents: pd.DataFrame) -> pd.DataFrame:
    known = documents.set_index("sha256")["id"]
    digits = len(known.index[0]) if len(known) else 16
    marks = rows["text"].map(lambda text: _hash(text)[:digits])
    if len(rows) and not marks.isin(known.index).any():
        bare = known.index.isin(rows["text"].str.strip().map(lambda text: _hash(text)[:digits])).sum()
        raise ValueError(
            f"{rows['file'].iloc[0]}: none of its {rows['text'].nunique():,} texts is one of the {len(known):,} "
            f"published ones to the letter ({bare:,} are without blanks at their ends): take the authors' file as it is"
        )
    return rows.assign(id=marks.map(known))[marks.isin(known.index)]


def _split(about: Description, rows: pd.DataFrame, tables: Sequence[pd.DataFrame]) -> pd.Series:
    """Returns the split of each document, empty where it is in none."""
    rules = about.data.get("splits", {})
    for table in tables:
        if "split" in table:
            named = table.drop_duplicates("id").set_index("id")["split"].reindex(rows["id"])
            return named.map(lambda value: rules.get(value, value)).reset_index(drop=True)
    if "hash" not in rules:
        raise ValueError(
            f"{about.file}: nothing says how documents are split: name a column (split: COLUMN), a file for each split "
            "(files: {train: ..., dev: ..., test: ...}), or splits: {hash: {train: 0.8, dev: 0.1, test: 0.1}}"
        )
    names, edges = list(rules["hash"]), np.cumsum(list(rules["hash"].values()))
    # Of the text, so that its copies are on one side.
    marks = [int(_hash(f"split {plain(text)}")[:8], 16) / 16**8 for text in rows.get("text", [])]
    found = [names[min(np.searchsorted(edges, mark, "right"), len(names) - 1)] for mark in marks]
    return pd.Series(found or [""] * len(rows), dtype=object)


def _where(about: Description, tables: Sequence[pd.DataFrame], wanted: Sequence[str]) -> str:
    """Returns which files were read, and which splits they name."""
    read = [source for table in TABLES for _, source in about.files_of(table, wanted)]
    where = ", ".join(sources.describe(sources.fetch(source)) for source in read)
    columns = [about.data[table]["split"] for table in TABLES if "split" in (about.data.get(table) or ())]
    values = sorted({value for table in tables if "split" in table for value in table["split"]})
    return where + (f", whose column {columns[0]} holds {', '.join(map(repr, values))}" if columns else "")


# ---- votes ---------------------------------------------------------------------------------------


def _count(found: Reading, table: Mapping, rows: pd.DataFrame, ids: pd.Series):
    """Returns votes (D, L), gold (D, L) by the rule that the corpus states, annotators (D,), annotations and grades."""
    about, said, labels = found.about, said_of(found.about), list(found.about.pools)
    shape, annotations, grades = table.get("shape"), None, None
    if shape in ("lists", "grades"):
        rows = rows[rows["id"].isin(ids)]
        named = rows["annotator"] if "annotator" in rows else pd.Series(range(len(rows)), index=rows.index).astype(str)
        key = pd.DataFrame({"id": rows["id"], "annotator": named}, dtype=str).reset_index(drop=True)
        values = rows[said].to_numpy(float)
        again = key.duplicated().any()

        def merge(array, columns):  # one row an annotator, who chose what was chosen in any of several
            merged = pd.concat([key, pd.DataFrame(array, columns=columns)], axis=1)
            return merged.groupby(["id", "annotator"], sort=False, as_index=False).max() if again else merged

        chosen = merge(values >= table.get("threshold", 1), said)
        flags = chosen[said].to_numpy(bool)
        annotations = pd.concat([chosen[["id", "annotator"]], pd.DataFrame(about.pool(flags), columns=labels)], axis=1)
        votes, annotators = shares(annotations, ids, labels)
        share, _ = shares(chosen, ids, said)
        mean, _ = shares(merge(values, said), ids, said)
        if "threshold" in table:
            grades = pd.concat([key, pd.DataFrame(about.pool(values), columns=labels)], axis=1)
        if "annotator" not in rows:
            annotations = None
    elif shape in ("counts", "shares"):
        if any(len(pool) > 1 for pool in about.pools.values()):
            raise ValueError(
                f"{about.file}: labels are pooled from {shape}, and how many annotators chose one of several is not "
                "known: give their answers (lists, grades), or leave the labels apart"
            )
        of_these = rows.set_index("id").reindex(ids)
        annotators = of_these["n"].fillna(0).to_numpy(int)
        numbers = of_these[said].to_numpy(float)
        share = mean = numbers / np.maximum(annotators, 1)[:, None] if shape == "counts" else numbers
        votes = about.pool(share)
    else:
        nothing = np.full((len(ids), len(labels)), np.nan)
        return nothing, None, np.zeros(len(ids), int), None, None
    ((rule, least),) = about.data["gold"].items() if isinstance(about.data["gold"], dict) else [("share", 0.5)]
    counted = {"share": share, "count": np.rint(share * annotators[:, None]), "mean": mean}[rule]
    gold = about.pool(counted >= least)
    if about.data.get("single_label"):  # the one that most chose, where it is one
        most = votes == votes.max(axis=1, keepdims=True)
        gold &= most & (most.sum(axis=1, keepdims=True) == 1)
    return votes, gold, annotators, annotations, grades
