"""HateXplain (Mathew et al. 2021): one label a post, three annotators each."""

import json

import numpy as np
import pandas as pd

from mlutils import sources
from mlutils.corpora.corpus import Corpus, check_filled, parts, reading, shares

LABELS = ("hate", "normal", "offensive")
FILE_LABELS = {"hatespeech": "hate", "normal": "normal", "offensive": "offensive"}
DIVISIONS = {"train": "train", "dev": "val", "test": "test"}


def load(split: str = "dev", files: str = "official") -> Corpus:
    """Returns HateXplain: text = tokens joined by a space, votes = share of annotators, gold = their majority.

    files: "official" (dataset.json) or "parts" (the dev and test posts of a mirror folder). A post without a majority
    has no gold label (`describe` counts them as undecided); dev and test hold none. With `files="parts"` split "all" is
    everything at hand (dev and test); "train" raises SourceError.
    """
    wanted = parts(split)
    if files == "official":
        posts, divisions = _read("hatexplain-dataset"), _read("hatexplain-divisions")
        by_part = {part: divisions.get(DIVISIONS[part], []) for part in wanted}
    else:
        if split == "train":
            raise sources.SourceError(
                "hatexplain: the train split needs the official dataset.json, only dev and test are at hand; "
                "put it into the mirror as hatexplain/dataset.json, or load with files='official'"
            )
        read = {part: _read(f"hatexplain-{part}") for part in wanted if part != "train"}
        posts = {post: content for part in read.values() for post, content in part.items()}
        by_part = {part: list(read[part]) for part in read}
    at_hand = {part: sum(post in posts for post in ids) for part, ids in by_part.items()}
    check_filled("hatexplain", split, at_hand, f"{len(posts):,} posts")
    ids = [post for part in by_part.values() for post in part]

    missing = tuple(post for post in ids if post not in posts)
    ids = [post for post in ids if post in posts]
    rows = [
        (post, str(each["annotator_id"]), *(label == _label(post, each["label"]) for label in LABELS))
        for post in ids
        for each in posts[post]["annotators"]
    ]
    annotations = pd.DataFrame(rows, columns=["id", "annotator", *LABELS])
    documents = pd.DataFrame({"id": ids, "text": [" ".join(posts[post]["post_tokens"]) for post in ids]}, dtype=str)
    votes, annotators = shares(annotations, documents["id"], LABELS)
    return Corpus(
        name="hatexplain",
        split=split,
        sample="all",
        labels=LABELS,
        documents=documents,
        gold=np.nan_to_num(votes) > 0.5,
        votes=votes,
        annotators=annotators,
        single_label=True,
        annotations=annotations,
        missing=missing,
    )


def _read(source):
    path = sources.fetch(source)
    with reading(path):
        return json.loads(path.read_text(encoding="utf-8"))


def _label(post, label):
    if label not in FILE_LABELS:
        raise ValueError(f"hatexplain: post {post} has the label {label!r}; known are {sorted(FILE_LABELS)}")
    return FILE_LABELS[label]
