"""Documents with labels and annotators' votes, by name."""

import contextlib
import functools
import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from mlutils import sources
from mlutils.corpora import boxes, descriptions, hatexplain, labels, msp_podcast, sampling, tabular, vignettes
from mlutils.corpora.agreement import describe
from mlutils.corpora.corpus import Corpus, EmptyError, concatenate, parts, plain
from mlutils.corpora.descriptions import names, short_name, title
from mlutils.sources import SourceError

__all__ = [
    "Corpus",
    "add_gold",
    "describe",
    "find_untested",
    "is_ours",
    "join_released",
    "load",
    "names",
    "plain",
    "release_labels",
    "reserve",
    "short_name",
    "split_training",
    "text_marks",
    "title",
    "training_documents",
    "why_withheld",
]


def _load_vignettes(split: str = "dev", generator_seed: int = 0) -> Corpus:
    return concatenate([vignettes.load(part, seed=generator_seed) for part in parts(split)], split)


READERS = {  # of corpora that are no tables, by `reader` in their files
    "vignettes": _load_vignettes,
    "hatexplain": hatexplain.load,
    "boxes": boxes.load,
    "msp_podcast": msp_podcast.load,
}


def load(
    name: str,
    split: str = "dev",
    sample: str = "all",
    limit: int | None = None,
    seed: int = 0,
    texts: bool = True,
    **options,
) -> Corpus:
    """Returns a corpus, or a sample of it.

    name: of `data/corpora`, or the path of such a file. split: train, dev, test, dev+test or all. sample: all, uniform,
    multilabel, paper or paper_multilabel (the last two look for the published ids in all splits at hand, whatever
    `split` says). limit: at most so many documents. seed: of the sample; synthetic corpora have their own
    `generator_seed`, so that another sample is of the same documents. texts: False: released labels will do (`labels`),
    where the files are not at hand; nothing is downloaded then.
    options: of the corpus, e.g. annotations="subset" (GoEmotions), source="official" (Boxes). Raises ValueError for a
    name, option or value that does not exist and for a sample without documents, EmptyError for a split without them,
    SourceError where a file cannot be had.
    """
    if sample in sampling.PAPER_SETS:
        split, options = "all", {**descriptions.read(name).data.get("paper", {}), **options}
    reader = _reader(name, options, texts)
    whole = reader(split)
    drawn = sampling.sample_corpus(whole, sample, limit, seed)
    if not len(drawn):
        raise ValueError(
            f"{name}: sample {sample!r} is asked for, and none of the {len(whole):,} documents of split {split!r} "
            f"{sampling.WHO[sample]}: take another sample or split"
        )
    return drawn


def is_ours(name: str, options: Mapping | None = None) -> bool:
    """Returns whether a corpus was written here, so that its texts may be shown anywhere."""
    try:
        return descriptions.read(name).choose(options or {}).data.get("ours", False)
    except SourceError:
        return False


def why_withheld(name: str, options: Mapping | None = None) -> str:
    """Returns why labels and votes of a corpus may stand in no other repository; empty where they may."""
    if is_ours(name, options):
        return ""
    try:
        about = descriptions.read(name).data
    except SourceError as error:
        return str(error)
    return about.get("withheld", "" if "licence" in about else "its file names no licence that allows it")


def join_released(documents: pd.DataFrame, settings: Mapping) -> pd.DataFrame:
    """Returns the documents of a released trace with their texts, and with labels where it was released without.

    documents: columns id, sha256 and mark of the text, and gold, votes, annotators where they were released. settings:
    of the trace. Marks stand for texts, and such labels are missing, where the corpus is not at hand. Raises ValueError
    where it lacks a document, or has another text of that id.
    """
    name, options = settings["corpus"], settings.get("options") or {}
    sample = settings["sample"] if settings["sample"] in sampling.PAPER_SETS else "all"
    try:
        with sources.at_hand_only():
            whole = _load_once(name, sample, json.dumps(options, sort_keys=True))
    except SourceError:
        return documents.assign(text=documents["mark"].map(labels.stand_in))
    rows = pd.Index(whole.documents["id"]).get_indexer(documents["id"])
    if (rows < 0).any():
        lost = list(documents["id"][rows < 0][:3])
        raise ValueError(f"{name} at hand has no document {', '.join(lost)}: it is another edition than was traced")
    texts = whole.documents["text"].to_numpy()[rows]
    changed = [
        each
        for each, text, known in zip(documents["id"], texts, documents["sha256"], strict=True)
        if hashlib.sha256(text.encode()).hexdigest() != known
    ]
    if changed:
        raise ValueError(
            f"{name} at hand has another text of document {', '.join(changed[:3])} than was traced ({len(changed)} of "
            f"{len(documents)} differ): take the edition that its file names"
        )
    joined = documents.assign(text=texts)
    if "gold" not in joined:
        joined["gold"], joined["votes"] = list(whole.gold[rows]), list(whole.votes[rows])
        joined["annotators"] = whole.annotators[rows]
    return joined


@functools.cache
def _load_once(name: str, sample: str, options: str) -> Corpus:
    return load(name, split="all", sample=sample, **json.loads(options))


def _reader(name, options, texts=True):
    about = descriptions.read(name)
    made = READERS.get(about.data.get("reader"))
    allowed = inspect.signature(made).parameters if made else about.data.get("options", {})
    allowed = [option for option in allowed if option != "split"]
    unknown = [option for option in options if option not in allowed]
    if unknown:
        raise ValueError(f"{name} has no option {', '.join(unknown)}; it has {', '.join(allowed) or 'none'}")
    about = about.choose(options)
    if made is None:
        read = functools.partial(tabular.load, about)
    else:
        read = functools.partial(made, **{**options, **about.options})
    return read if texts else functools.partial(_read_or_labels, name, read, options)


def _read_or_labels(name, read, options, split):
    with sources.at_hand_only():
        try:
            return read(split)
        except SourceError:
            return labels.read(name, split, options)


def release_labels(name: str, **options) -> Path:
    """Writes the labels of a corpus, and marks of its texts, to where `load(..., texts=False)` finds them.

    Raises ValueError where its licence does not allow it.
    """
    if why := why_withheld(name, options):
        raise ValueError(f"labels of {name} cannot be released: {why}")
    by_split = {}
    for split in (*parts("all"), "all"):
        with contextlib.suppress(EmptyError, SourceError):
            by_split[split] = load(name, split=split, **options)
    return labels.write(by_split, options, text_marks(by_split["all"]))


def training_documents(corpus: Corpus, *others: Corpus, **options) -> Corpus:
    """Returns the documents that a baseline may be trained on before it is tested on `corpus` (and others of its name).

    The train split, or everything at hand where that has no train split (HateXplain's parts), little of it (GoEmotions'
    subset) or none that is not tested. Documents with votes if any have votes, else all (gold only). Never a tested
    document, by id and by text (case and white space apart). options: as given to `load`. Raises ValueError where
    nothing is left, or where the labels differ (Boxes: objects are disjoint between splits).
    """
    reader = _reader(corpus.name, options, corpus.texts)
    few = descriptions.read(corpus.name).choose(options).data.get("training") == "all"
    for split in ("all",) if few else ("train", "all"):
        try:
            candidates = reader(split)
        except EmptyError:
            if split == "all":
                raise
            continue  # a release without a train split
        if set(candidates.labels) != set(corpus.labels):
            raise ValueError(
                f"{corpus.name}: the labels of split {split!r} are not those of the test documents "
                f"({corpus.split!r}), so nothing can be learned about them; a baseline needs the same labels"
            )
        left = find_untested(candidates, corpus, *others)
        if candidates.has_votes.any():
            left &= candidates.has_votes
        if left.any():
            return candidates.take(left, "training")
    raise ValueError(
        f"{corpus.name}: all documents at hand are tested, none is left to train on; take a smaller sample"
    )


def split_training(training: Corpus) -> tuple[Corpus, Corpus]:
    """Returns the documents to train on and to draw demonstrations from, and those set aside (`sampling.reserved`).

    What is fitted after training (calibrations, blends, stacks, decisions) is fitted on the second part, which no
    encoder and no demonstration has seen.
    """
    aside = training.take(sampling.reserved(training.documents["id"]), "reserve")
    return training.take(find_untested(training, aside)), aside  # a text that stands twice is on one side only


def add_gold(training: Corpus, others: Sequence[Corpus], limit: int, seed: int = 0) -> Corpus:
    """Returns the training documents and, behind them, at most `limit` of which only gold sets are known, as votes.

    They are of the train split by the options `gold_only` of the corpus's file, drawn by seed, and in none of `others`;
    their number of annotators is 0. Raises ValueError for corpora without such, as their votes come with all documents
    or none.
    """
    known = descriptions.read(training.name).data.get("gold_only")
    if known is None:
        raise ValueError(f"{training.name} has no further documents with gold sets only: leave gold_limit at 0")
    known = load(training.name, "train", **known)
    rows = np.flatnonzero(find_untested(known, training, *others))
    known = known.take(np.random.default_rng(seed).permutation(rows)[:limit])
    return concatenate([training, replace(known, votes=known.gold.astype(float))], training.split)


def reserve(tested: Corpus, limit: int | None = None, seed: int = 0, **options) -> Corpus:
    """Returns training documents that are set aside, drawn like the tested ones: as even over strata, or as natural.

    limit: at most so many; options: as given to `load`. Raises ValueError as `training_documents` does.
    """
    aside = split_training(training_documents(tested, **options))[1]
    drawn = sampling.sample_corpus(aside, sampling.DRAWN_AS.get(tested.sample, tested.sample), limit, seed)
    if not len(drawn):
        raise ValueError(
            f"{tested.name}: of the {len(aside):,} training documents that are set aside none can be drawn as the "
            f"sample {tested.sample!r} is: take another sample, or none (reserve=0, fit_on='tested')"
        )
    return drawn.take(np.arange(len(drawn)), "reserve")


def text_marks(corpus: Corpus) -> list[str]:
    """Returns a mark of each document's text, the same for copies: it names a text in a record without showing it."""
    return [hashlib.sha256(plain(text).encode()).hexdigest()[:16] for text in corpus.documents["text"]]


def find_untested(candidates: Corpus, *tested: Corpus) -> np.ndarray:
    """Returns which documents are not tested, nor a copy of the text of one that is: bool (D,)."""
    ids = {document for corpus in tested for document in corpus.documents["id"]}
    texts = {plain(text) for corpus in tested for text in corpus.documents["text"]}
    left = [not (each.id in ids or plain(each.text) in texts) for each in candidates.documents.itertuples(index=False)]
    return np.array(left, dtype=bool)
