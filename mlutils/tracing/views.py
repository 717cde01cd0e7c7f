"""Views: which prompts a trace consists of, and how a model's words become rows of a trace.

`list` asks for a list of labels and keeps every label step; `unary` asks about one label at a time; `pairwise` asks
which of two labels is better; `ratio` and `order` ask for lists behind other demonstrations, or with labels in another
order; `sets` reads what follows likely lists, `attention` where the model looks when it begins a later label,
`hidden` the states of all layers at the first label; `medusa` reads the later heads of a Medusa model at label steps.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from mlutils.corpora import Corpus
from mlutils.traces import Trace, TraceError, Writer
from mlutils.tracing import prompts
from mlutils.tracing.answers import NONE, check_labels, format_answer
from mlutils.tracing.attention import AttentionView
from mlutils.tracing.demonstrations import Plan
from mlutils.tracing.hidden import HiddenView
from mlutils.tracing.lists import ListView
from mlutils.tracing.medusa import MedusaView
from mlutils.tracing.models import Model
from mlutils.tracing.questions import ORDERS, PairwiseView, UnaryView, pair_up
from mlutils.tracing.sets import SetsView
from mlutils.tracing.variants import OrderView, RatioView

PART = 32  # documents a part: what a killed run loses at most
FAILING = 0.05  # share of documents that may fail before a run stops


@dataclass
class Prompting:
    """All that fixes the prompts of a trace."""

    corpus: Corpus
    train: Corpus  # where demonstrations come from
    plan: Plan
    template: prompts.Template
    new_tokens: int = 40  # the paper allows 18 (SemEval 25) and cuts some answers off
    conventions: str = "ours"  # released: lists without the line break before the answer, questions with a space
    pair_order: str = "plan"  # a name of `questions.ORDERS`; conventions="released" makes it released
    label_order: tuple[str, ...] = ()  # how the instruction lists the labels; empty: as the corpus does
    answer_order: str = "instruction"  # of labels in the demonstrations' answers: instruction | alphabetical

    def __post_init__(self):
        if self.conventions not in ("ours", "released"):
            raise ValueError(f"conventions {self.conventions!r} are not known: take ours or released")
        if self.pair_order not in ORDERS:
            raise ValueError(f"pair order {self.pair_order!r} is not known: take one of {', '.join(ORDERS)}")
        if self.answer_order not in ("instruction", "alphabetical"):
            raise ValueError(f"answer order {self.answer_order!r} is not known: take instruction or alphabetical")
        if self.label_order and set(self.label_order) != set(self.corpus.labels):
            raise ValueError(f"label order {self.label_order} must hold exactly the labels {self.corpus.labels}")
        if self.conventions == "released":
            self.pair_order = "released"
        # None takes no part in single-label sets.
        options = [*self.corpus.labels, *([] if self.corpus.single_label else [NONE])]
        self.pairs = pair_up(options, self.pair_order, self.plan.seed)  # (label at a, label at b), for all documents
        check_labels(self.train.labels, self.template.form)
        shown = self.train.documents
        self._texts = dict(zip(shown["id"], shown["text"], strict=True))
        listed = self.label_order if self.label_order and self.answer_order == "instruction" else self.train.labels
        columns = [(label, self.train.labels.index(label)) for label in listed]
        self._labels = {
            document: [label for label, column in columns if gold[column]]
            for document, gold in zip(shown["id"], self.train.gold, strict=True)
        }

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


KINDS = (ListView, UnaryView, PairwiseView, SetsView, RatioView, OrderView, AttentionView, HiddenView, MedusaView)
VIEWS = {view.name: view for view in KINDS}


def write_trace(
    folder: Path | str,
    model: Model,
    prompting: Prompting,
    views: Sequence[str] = ("list", "unary"),
    **settings,
) -> Trace:
    """Asks all views and writes the trace, going on where an earlier call stopped.

    `settings` are stored and must be the same when a trace is continued; what each view took is in `Trace.work`.
    Raises ValueError for an unknown view, TraceError where more than 5 % of the documents fail.
    """
    unknown = [view for view in views if view not in VIEWS]
    if unknown or not views:
        raise ValueError(f"views {list(views)}: take some of {', '.join(VIEWS)}")
    corpus = prompting.corpus
    writer = Writer(
        Path(folder),
        {
            "model": model.name,
            "revision": model.revision,
            "dtype": str(model.dtype).removeprefix("torch."),
            "corpus": corpus.name,
            "split": corpus.split,
            "sample": corpus.sample,
            "ids": list(corpus.documents["id"]),
            "labels": list(corpus.labels),
            "single_label": corpus.single_label,
            "views": list(views),
            "form": prompting.template.form,
            "new_tokens": prompting.new_tokens,
            "conventions": prompting.conventions,
            "pair_order": prompting.pair_order,
            "plan": prompting.plan.as_json(),
            "first_prompt": prompting.list_prompt(0) if len(corpus) else "",
            **_describe_variants(prompting, views),
            **settings,
        },
    )
    if not writer.done("documents"):
        writer.add("documents", 0, {"documents": _documents(corpus)})
    starts = range(0, len(corpus), PART)
    for name in views:
        done = writer.done(name)
        missing = [number for number in range(len(starts)) if number not in done]
        view = VIEWS[name](model, prompting) if missing else None
        for number in tqdm(missing, desc=f"{corpus.name} {name}", unit="part"):
            rows = range(starts[number], min(starts[number] + PART, len(corpus)))
            started, tokens, passes = time.perf_counter(), view.engine.tokens, view.engine.passes
            tables, states = view.ask(rows)
            work = {
                "tokens": view.engine.tokens - tokens,
                "passes": view.engine.passes - passes,
                "seconds": round(time.perf_counter() - started, 2),
            }
            writer.add(name, number, tables, states, work)
            _stop_if_failing(writer, len(corpus) * len(views))
    writer.finish()
    return Trace(folder)


def _describe_variants(prompting: Prompting, views: Sequence[str]) -> dict:
    """Returns the plans and orders of labels of all variants that are asked, as settings; {} where there are none."""
    plans = {
        name: {"plan": varied.plan.as_json(), "label_order": list(varied.label_order)}
        for view in views
        if hasattr(VIEWS[view], "vary")
        for name, varied in VIEWS[view].vary(prompting).items()
    }
    return {"answer_order": prompting.answer_order, "variants": plans} if plans else {}


def _documents(corpus: Corpus) -> list[dict]:
    columns = (corpus.documents["id"], corpus.documents["text"], corpus.gold, corpus.votes, corpus.annotators)
    return [
        {"id": i, "text": text, "gold": gold.tolist(), "votes": votes.tolist(), "annotators": int(n)}
        for i, text, gold, votes, n in zip(*columns, strict=True)
    ]


def _stop_if_failing(writer: Writer, asked: int) -> None:
    failures = writer.failures()
    if len(failures) > FAILING * asked:
        kinds = "; ".join(f"{n} x {error}" for error, n in failures["error"].value_counts().head(3).items())
        raise TraceError(
            f"{len(failures)} of {asked} documents and views failed, more than {FAILING:.0%}: {kinds}. "
            f"Finished parts are kept in {writer.folder}"
        )
