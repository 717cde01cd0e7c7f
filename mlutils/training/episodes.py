"""Episodes: a stream of prompts with all their answers, from which `miniatures` learn to read demonstrations.

An episode is a prompt of the paper as `tracing.prompts` words it, with the answer behind its last query. Each of its
documents is a demonstration for those after it, so an episode of eleven documents asks with 0, 1, ... 10 shots. Some
first documents are drawn as `tracing.demonstrations` draws them, those behind them mostly as they come. Settled sets
answer lists, annotators drawn at random the questions behind the demonstrations. Nothing of dev, test or the set-aside
training documents is in it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mlutils import corpora
from mlutils.corpora import boxes
from mlutils.corpora.corpus import Corpus, concatenate
from mlutils.corpora.vignettes import letters
from mlutils.tracing import demonstrations, prompts
from mlutils.tracing.answers import NONE, format_answer

KINDS = ("list", "unary", "pairwise", "boxes")
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # of demonstrations with two or more labels, as in the view `ratio`
EMPTY = (0.0, 0.0, 0.1, 0.2, 0.3)  # of demonstrations without a label; none, as in the paper, twice as often
SHOTS = (0, 2, 4, 6, 8, 10, 10, 10, 10, 10)  # documents drawn as demonstrations are; all but two of an episode at most
SHORT = 3  # documents of an episode that has no documents drawn as demonstrations are
NO_PLAN = demonstrations.Plan(0, "random", True, ((),), ((),), ((),))
DOCUMENTS = 12  # of an episode; it has half as many settings of Boxes, which are longer
NAMES = 75  # object names that a setting is written with


@dataclass(frozen=True)
class Episode:
    """A text and where its answers stand in it, as (start, end) characters, from the space before to the stop after."""

    kind: str
    text: str
    answers: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Source:
    """What episodes are made of: vignettes, the share of annotators that marked nothing (D,), and object names."""

    vignettes: Corpus
    nothing: np.ndarray
    names: tuple[str, ...]

    @cached_property
    def rows(self) -> dict[str, int]:
        """Returns the row of each document by its id."""
        return {each: row for row, each in enumerate(self.vignettes.documents["id"])}

    @cached_property
    def groups(self) -> list[np.ndarray]:
        """Returns the rows of the documents of each label and, last, of those without a label."""
        gold = self.vignettes.gold
        return [np.flatnonzero(has) for has in (*gold.T, ~gold.any(1)) if has.any()]


def training_vignettes(seeds: int) -> Corpus:
    """Returns the vignettes that a miniature may see: the train split less the set-aside tenth, and more like it.

    `seeds` counts the corpora: the first is the corpus that is tested, the others (`generator_seed` 1, 2, ...) have
    other texts and other annotators; of their train splits, texts stay that the first corpus has in dev, in test or
    set aside in no other spelling. Their ids begin with the seed, `3:v0012`. Gold sets are settled. Raises ValueError
    for less than one corpus.
    """
    if seeds < 1:
        raise ValueError(f"seeds={seeds} must be 1 or more: the first is the corpus that is tested")
    tested = corpora.load("vignettes", "dev+test")
    train, aside = corpora.split_training(corpora.training_documents(tested))
    barred = {letters(text) for part in (tested, aside) for text in part.documents["text"]}
    parts = [train.take([letters(text) not in barred for text in train.documents["text"]])]
    for seed in range(1, seeds):
        more = corpora.load("vignettes", "train", generator_seed=seed)
        named = {
            "documents": more.documents.assign(id=f"{seed}:" + more.documents["id"]),
            "annotations": more.annotations.assign(id=f"{seed}:" + more.annotations["id"]),
        }
        parts.append(replace(more, **named).take([letters(text) not in barred for text in more.documents["text"]]))
    return settle(concatenate(parts, "train"))


def settle(corpus: Corpus) -> Corpus:
    """Returns a corpus with gold sets that follow from the true shares alone, as many of each size as before.

    The r-th most chosen label is in the sets of as many documents as have r labels or more: of those that have r - 1,
    the ones where its share is largest. Who sat on a panel of five then decides nothing, so a text tells its set.
    """
    order, sizes = np.argsort(-corpus.truth, axis=1, kind="stable"), corpus.gold.sum(1)
    gold, kept = np.zeros_like(corpus.gold), np.arange(len(corpus))
    for rank in range(sizes.max()):
        labels = order[kept, rank]
        firm = np.argsort(-corpus.truth[kept, labels], kind="stable")[: (sizes > rank).sum()]
        kept, labels = kept[firm], labels[firm]
        gold[kept, labels] = True
    return replace(corpus, gold=gold)


def gather(seeds: int) -> Source:
    """Returns the source of all episodes; object names are those of Boxes' train split and words of vignettes.

    So that no name means anything but itself, each setting has its own draw of names; none is an object of dev or test.
    """
    vignettes = training_vignettes(seeds)
    objects = {split: set(names.split()) for split, names in boxes.OBJECTS.items()}
    words = {word for text in vignettes.documents["text"] for word in re.findall(r"\b[a-z]{3,10}\b", text.lower())}
    names = (words | objects["train"]) - objects["dev"] - objects["test"] - {NONE, "and", "the", "nothing"}
    return Source(vignettes, _nothing(vignettes), tuple(sorted(names)))


def gather_held_out() -> Source:
    """Returns the source of episodes to measure the loss on: vignettes set aside, object names of Boxes' dev split."""
    tested = corpora.load("vignettes", "dev+test")
    aside = settle(corpora.split_training(corpora.training_documents(tested))[1])
    return Source(aside, _nothing(aside), tuple(boxes.OBJECTS["dev"].split()))


def _nothing(corpus: Corpus) -> np.ndarray:
    """Returns the share of annotators who marked no label, (D,)."""
    marked = corpus.annotations[list(corpus.labels)].any(axis=1)
    return 1 - marked.groupby(corpus.annotations["id"]).mean().reindex(corpus.documents["id"]).to_numpy(float)


def stream(
    source: Source, kinds: dict[str, float], seed: int, start: int = 0, documents: int = DOCUMENTS
) -> Iterator[Episode]:
    """Yields episodes without end; the k-th depends on the seed, k and `documents`, so a stream can begin anywhere.

    kinds: how often each of KINDS comes, any positive numbers. Raises ValueError for a kind that does not exist.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ValueError(f"episodes of kind {', '.join(unknown)} do not exist: take some of {', '.join(KINDS)}")
    chance = np.array(list(kinds.values())) / sum(kinds.values())
    while True:
        rng = np.random.default_rng([seed, documents, start])
        yield draw(source, str(rng.choice(list(kinds), p=chance)), rng, documents)
        start += 1


def draw(source: Source, kind: str, rng: np.random.Generator, documents: int = DOCUMENTS) -> Episode:
    """Returns an episode of a kind, of so many documents; up to SHORT come without a plan, more with one."""
    if kind == "boxes":
        return ask_boxes(source, rng, max(1, documents // 2))
    plan = NO_PLAN if documents <= SHORT else _plan(source.vignettes, rng, documents)
    return {"list": ask_lists, "unary": ask_unary, "pairwise": ask_pairs}[kind](source, plan, rng, documents)


def ask_lists(source: Source, plan: demonstrations.Plan, rng: np.random.Generator, documents: int) -> Episode:
    """Returns an episode of lists: both families, JSON or commas, labels in alphabetical or any order.

    Answers are the source's gold sets in the order of the instruction. Behind the demonstrations, half of the episodes
    go on with documents drawn like them and half with documents as they come.
    """
    corpus, labels = source.vignettes, sorted(source.vignettes.labels)
    template = prompts.template("vignettes", str(rng.choice(["P", "C"])), str(rng.choice(["json", "json", "comma"])))
    order = [str(label) for label in rng.permutation(labels)] if rng.random() < 0.5 else labels
    shown = []
    for row in _rows(source, plan, rng, documents, designed=rng.random() < 0.5):
        said = [label for label in order if corpus.gold[row, corpus.labels.index(label)]]
        shown.append((corpus.documents["text"].iat[row], said))
    return _join(
        "list",
        [prompts.list_prompt(template, order, shown[:i], text) for i, (text, _) in enumerate(shown)],
        [_gap(template) + format_answer(said, template.form) for _, said in shown],
        _stop(template),
    )


def ask_unary(source: Source, plan: demonstrations.Plan, rng: np.random.Generator, documents: int) -> Episode:
    """Returns an episode of unary questions: of the demonstrations as planned, then about any label, or none.

    What follows the demonstrations is answered by an annotator drawn at random: reasonable as often as the label's
    vote share says (for none, the share that marked nothing).
    """
    corpus, shown = source.vignettes, []
    texts, options = corpus.documents["text"], [*corpus.labels, NONE]
    for document, label, good in plan.questions[0]:
        shown.append((texts.iat[source.rows[document]], label, good))
    for row in _rows(source, plan, rng, documents)[len(shown) :]:
        shares = _shares(source, row)
        asked = int(rng.choice(np.flatnonzero(shares) if rng.random() < 0.5 else len(options)))
        shown.append((texts.iat[row], options[asked], bool(rng.random() < shares[asked])))
    return _join(
        "unary",
        [prompts.unary_prompt(shown[:i], text, label) for i, (text, label, _) in enumerate(shown)],
        [f" {prompts.UNARY_ANSWERS[0 if good else 1]}" for *_, good in shown],
        "\n",
    )


def ask_pairs(source: Source, plan: demonstrations.Plan, rng: np.random.Generator, documents: int) -> Episode:
    """Returns an episode of pairwise questions: of the demonstrations as planned, then about any two options.

    What follows the demonstrations is answered by vote shares: the one label as often as share / (sum of both), and
    either where nobody chose any of them.
    """
    corpus, shown = source.vignettes, []
    texts, options = corpus.documents["text"], [*corpus.labels, NONE]
    for document, a, b, answer in plan.pairs[0]:
        shown.append((texts.iat[source.rows[document]], a, b, answer))
    for row in _rows(source, plan, rng, documents)[len(shown) :]:
        first, second = rng.choice(len(options), 2, replace=False)
        share = _shares(source, row)[[first, second]]
        chance = share[0] / share.sum() if share.sum() else 0.5
        shown.append((texts.iat[row], options[first], options[second], "a" if rng.random() < chance else "b"))
    return _join(
        "pairwise",
        [prompts.pairwise_prompt(shown[:i], text, a, b) for i, (text, a, b, _) in enumerate(shown)],
        [f" {answer}" for *_, answer in shown],
        "\n",
    )


def ask_boxes(source: Source, rng: np.random.Generator, settings: int) -> Episode:
    """Returns an episode of Boxes: new settings with names drawn anew; half of the episodes ask for filled boxes only.

    The number of operations is the smaller of two draws: short settings, which teach copying, come more often.
    """
    names = [str(name) for name in rng.choice(source.names, NAMES, replace=False)]
    template, filled = prompts.template("boxes"), rng.random() < 0.5
    shown = []
    for _ in range(settings):
        sentences, contents = boxes.scenario(rng, names, int(rng.integers(boxes.OPERATIONS + 1, size=2).min()))
        asked = [box for box, things in enumerate(contents) if things or not filled] or [0]
        box = int(rng.choice(asked))
        shown.append((f"{' '.join(sentences)} Box {box} contains", contents[box]))
    return _join(
        "boxes",
        [prompts.list_prompt(template, names, shown[:i], text) for i, (text, _) in enumerate(shown)],
        [_gap(template) + format_answer(things, template.form) for _, things in shown],
        _stop(template),
    )


def _plan(corpus: Corpus, rng: np.random.Generator, documents: int) -> demonstrations.Plan:
    """Returns demonstrations as family C draws them (random), or as family P does, with other shares each time."""
    shots, seed = min(int(rng.choice(SHOTS)), documents - 2), int(rng.integers(2**31))
    if rng.random() < 0.3:
        return demonstrations.draw(corpus, shots, "random", seed=seed)
    several = float(rng.choice(SHARES))
    none = min(float(rng.choice(EMPTY)), 1 - several)
    return demonstrations.draw(corpus, shots, "multilabel", several, none, seed=seed)


def _rows(
    source: Source, plan: demonstrations.Plan, rng: np.random.Generator, documents: int, designed: bool = False
) -> list[int]:
    """Returns the rows of so many documents: the plan's, then more.

    Each of these has as many labels as some document of the plan (designed), or comes as documents do. In a short
    episode, which has no plan, each is of a label, or none, drawn evenly: so rare labels are learned soon.
    """
    rows = [source.rows[document] for document in plan.ids[0]]
    shots, counts = len(rows), source.vignettes.gold.sum(1)
    while len(rows) < documents:
        if designed and shots:
            rows.append(int(rng.choice(np.flatnonzero(counts == counts[rng.choice(rows[:shots])]))))
        elif documents <= SHORT:
            rows.append(int(rng.choice(source.groups[rng.integers(len(source.groups))])))
        else:
            rows.append(int(rng.integers(len(counts))))
    return rows


def _shares(source: Source, row: int) -> np.ndarray:
    """Returns the share of annotators who chose each label, or nothing (last)."""
    return np.append(source.vignettes.votes[row], source.nothing[row])


def _gap(template: prompts.Template) -> str:
    """Returns the space between a prompt and its answer, which belongs to the answer."""
    return " " if template.demonstration.partition("{answer}")[0].endswith(" ") else ""


def _stop(template: prompts.Template) -> str:
    """Returns the character by which a demonstration ends an answer."""
    return template.demonstration.partition("{answer}")[2][:1]


def _join(kind: str, asked: list[str], answers: list[str], stop: str) -> Episode:
    """Returns the longest prompt with its answer and stop, and the places of all answers, their stops included."""
    spans = [(len(prompt), len(prompt) + len(answer + stop)) for prompt, answer in zip(asked, answers, strict=True)]
    return Episode(kind, asked[-1] + answers[-1] + stop, tuple(spans))
