"""All that fixes the prompts of a trace: corpus, demonstrations, wording, conventions, orders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from mlutils import corpora
from mlutils.corpora import Corpus
from mlutils.tracing import demonstrations, prompts
from mlutils.tracing.answers import NONE, check_labels, format_answer
from mlutils.tracing.demonstrations import Plan

ORDERS = ("plan", "both", "released")
DESIGNS = ("all", "sparse")  # of pairs: each label against every other one, or against some and none
MOST_PAIRS = 400  # that `auto` asks all of: the 27 labels of GoEmotions and none have 378
OTHERS = 8  # labels that each label meets in the sparse design, an even number


def choose_design(design: str, names: Sequence[str]) -> str:
    """Returns the design by which names are paired: `auto` is all up to `MOST_PAIRS`, then sparse.

    Where sparse would leave no pair out, it is all. Raises ValueError for a design that is not known.
    """
    if design not in ("auto", *DESIGNS):
        raise ValueError(f"pairs {design!r} are not known: take auto, {' or '.join(DESIGNS)}")
    if design == "auto":
        design = "all" if comb(len(names), 2) <= MOST_PAIRS else "sparse"
    return design if len(set(names) - {NONE}) > OTHERS + 1 else "all"


def pair_up(names: Sequence[str], order: str, seed: int, design: str = "all") -> list[tuple[str, str]]:
    """Returns pairs of names as (at a, at b): all, or those of the sparse design.

    Sparse: each label against none, where it is among the names, and against exactly `OTHERS` other labels. Labels
    stand around a circle, in an order drawn from the seed, and each meets those at the same distances before and behind
    it, neighbours among them: so all are linked, and no label is better compared than another.

    `plan` draws one order a pair from the seed, such that each name stands at a in half of its pairs (one more where
    their number is odd): a model that prefers a favours no label then. `both` asks each pair twice, `released` has the
    earlier name at a.
    """
    rng, labels = np.random.default_rng(seed), [name for name in names if name != NONE]
    if design == "sparse":
        around = rng.permutation(labels).tolist()
        # Near and far: neighbours alone would link two sides of a circle by a long chain, along which errors add up.
        distances = np.geomspace(1, (len(labels) - 1) // 2, OTHERS // 2).round().astype(int).tolist()
        met = [(NONE, label)[:: 1 if i % 2 else -1] for i, label in enumerate(around) if NONE in names]
    else:
        around = rng.permutation(list(names)).tolist()
        half, odd = divmod(len(names), 2)
        distances = range(1, half + odd)
        met = [] if odd else list(zip(around[:half], around[half:], strict=True))  # opposite each other
    # Each stands at a against those that follow it.
    leads = {(a, around[(i + ahead) % len(around)]) for i, a in enumerate(around) for ahead in distances} | set(met)
    pairs = [(a, b) for a, b in combinations(names, 2) if (a, b) in leads or (b, a) in leads]
    if order == "both":
        return pairs + [(b, a) for a, b in pairs]
    if order == "released":
        return pairs
    return [(a, b) if (a, b) in leads else (b, a) for a, b in pairs]


@dataclass
class Prompting:
    """All that fixes the prompts of a trace."""

    corpus: Corpus
    train: Corpus  # where demonstrations come from
    plan: Plan
    template: prompts.Template
    new_tokens: int = 40  # the paper allows 18 (SemEval 25) and cuts some answers off
    conventions: str = "ours"  # released: lists without the line break before the answer, questions with a space
    pair_order: str = "plan"  # a name of ORDERS; conventions="released" makes it released
    label_order: tuple[str, ...] = ()  # how the instruction lists the labels; empty: as the corpus does
    answer_order: str = "instruction"  # of labels in the demonstrations' answers: instruction | alphabetical
    label_tokens: str = (
        "auto"  # which tell labels apart: whole | first; auto: whole, or first by conventions="released"
    )
    pair_design: str = "auto"  # which pairs are asked: auto | all | sparse, see `choose_design`

    def __post_init__(self):
        if self.new_tokens < 1:
            raise ValueError(f"new_tokens {self.new_tokens}: an answer takes 1 or more")
        if self.conventions not in ("ours", "released"):
            raise ValueError(f"conventions {self.conventions!r} are not known: take ours or released")
        if self.pair_order not in ORDERS:
            raise ValueError(f"pair order {self.pair_order!r} is not known: take one of {', '.join(ORDERS)}")
        if self.answer_order not in ("instruction", "alphabetical"):
            raise ValueError(f"answer order {self.answer_order!r} is not known: take instruction or alphabetical")
        if self.label_tokens not in ("auto", "whole", "first"):
            raise ValueError(f"label tokens {self.label_tokens!r} are not known: take auto, whole or first")
        if self.label_tokens == "auto":
            self.label_tokens = "first" if self.conventions == "released" else "whole"
        if self.label_order and set(self.label_order) != set(self.corpus.labels):
            raise ValueError(f"label order {self.label_order} must hold exactly the labels {self.corpus.labels}")
        if self.conventions == "released":
            self.pair_order = "released"
        # None takes no part in single-label sets.
        options = [*self.corpus.labels, *([] if self.corpus.single_label else [NONE])]
        self.pair_design = choose_design(self.pair_design, options)
        # (label at a, label at b), for all documents
        self.pairs = pair_up(options, self.pair_order, self.plan.seed, self.pair_design)
        check_labels(self.train.labels, self.template.form)
        shown = self.train.documents
        self._texts = dict(zip(shown["id"], shown["text"], strict=True))
        listed = self.label_order if self.label_order and self.answer_order == "instruction" else self.train.labels
        columns = [(label, self.train.labels.index(label)) for label in listed]
        self._labels = {
            document: [label for label, column in columns if gold[column]]
            for document, gold in zip(shown["id"], self.train.gold, strict=True)
        }

    @property
    def gap(self) -> str:
        """Returns what a list prompt loses at its end, which comes back as the beginning of the answer."""
        query = self.template.demonstration.partition("{answer}")[0]
        return query[len(query.rstrip(None if self.conventions == "released" else " ")) :]

    def list_prompt(self, row: int) -> str:
        """Returns the prompt that asks for the labels of a document."""
        shown = [(self._texts[i], self._labels[i]) for i in self.plan.ids[self.plan.of(row)]]
        strip = self.conventions == "released"
        return prompts.list_prompt(self.template, self.label_order or self.corpus.labels, shown, self._text(row), strip)

    def unary_prompts(self, row: int) -> list[str]:
        """Returns the questions about a document: one a label, none last."""
        shown = [(self._texts[i], label, good) for i, label, good in self.plan.questions[self.plan.of(row)]]
        strip = self.conventions == "ours"
        return [prompts.unary_prompt(shown, self._text(row), label, strip) for label in [*self.corpus.labels, NONE]]

    def pairwise_prompts(self, row: int) -> list[str]:
        """Returns the questions about a document: one a pair, in the order of `pairs`."""
        shown = [(self._texts[i], a, b, answer) for i, a, b, answer in self.plan.pairs[self.plan.of(row)]]
        strip = self.conventions == "ours"
        return [prompts.pairwise_prompt(shown, self._text(row), a, b, strip) for a, b in self.pairs]

    def drafts(self) -> list[str]:
        """Returns answers that a model may well write: those it is shown, and each label alone."""
        shown = {i for ids in self.plan.ids for i in ids}
        said = [[label] for label in self.corpus.labels] + [[]] + [self._labels[i] for i in sorted(shown)]
        return [format_answer(labels, self.template.form) for labels in said]

    def _text(self, row: int) -> str:
        return self.corpus.documents["text"].iloc[row]


def prepare(parameters: Mapping) -> Prompting:
    """Returns the prompting that parameters of `10_trace` stand for: its documents, demonstrations and wording.

    Documents set aside see the demonstrations that the tested ones see. Raises what `corpora.load`, `corpora.reserve`
    and `demonstrations.draw` raise.
    """
    given, options = parameters, parameters["options"]
    drawn = {name: given[name] for name in ("split", "sample", "seed")}
    tested = corpora.load(given["corpus"], limit=given["limit"] or None, **drawn, **options)
    pool = demonstrations.pool(tested, **options)
    documents = tested
    if given["reserve"]:
        documents = corpora.reserve(tested, given["reserve"], given["seed"], **options)
    chosen = [given[name] for name in ("shots", "strategy", "several", "none", "shared")]
    plan = demonstrations.draw(pool, *chosen, len(documents), given["seed"], exclude=documents.documents["id"])
    return Prompting(
        documents,
        pool,
        plan,
        prompts.template(given["corpus"], given["family"], given["form"]),
        pair_design=given["pairs"],
        **{name: given[name] for name in ("new_tokens", "conventions", "pair_order", "answer_order", "label_tokens")},
    )
