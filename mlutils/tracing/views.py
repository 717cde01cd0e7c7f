"""Views: which prompts a trace consists of, and how a model's words become rows of a trace.

`list` asks for a list of labels and keeps every label step; `unary` asks about one label at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mlutils.corpora import Corpus
from mlutils.traces import Trace, TraceError, Writer
from mlutils.tracing import prompts, vocabulary
from mlutils.tracing.answers import NONE, check_labels, format_answer, is_finished, parse
from mlutils.tracing.demonstrations import Plan
from mlutils.tracing.engine import BadLogits, Draft, PackedEngine, Written
from mlutils.tracing.models import Model
from mlutils.tracing.padded import PaddedEngine

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

    def __post_init__(self):
        if self.conventions not in ("ours", "released"):
            raise ValueError(f"conventions {self.conventions!r} are not known: take ours or released")
        check_labels(self.train.labels, self.template.form)
        shown = self.train.documents
        self._texts = dict(zip(shown["id"], shown["text"], strict=True))
        self._labels = {
            document: [label for label, held in zip(self.train.labels, gold, strict=True) if held]
            for document, gold in zip(shown["id"], self.train.gold, strict=True)
        }

    def list_prompt(self, row: int) -> str:
        """Returns the prompt that asks for the labels of a document."""
        shown = [(self._texts[i], self._labels[i]) for i in self.plan.ids[self.plan.of(row)]]
        strip = self.conventions == "released"
        return prompts.list_prompt(self.template, self.corpus.labels, shown, self._text(row), strip)

    def unary_prompts(self, row: int) -> list[str]:
        """Returns the questions about a document: one a label, none last."""
        shown = [(self._texts[i], label, good) for i, label, good in self.plan.questions[self.plan.of(row)]]
        strip = self.conventions == "ours"
        return [prompts.unary_prompt(shown, self._text(row), label, strip) for label in [*self.corpus.labels, NONE]]

    def drafts(self) -> list[str]:
        """Returns answers that a model may well write: those it is shown, and each label alone."""
        shown = {i for ids in self.plan.ids for i in ids}
        said = [[label] for label in self.corpus.labels] + [[]] + [self._labels[i] for i in sorted(shown)]
        return [format_answer(labels, self.template.form) for labels in said]

    def _text(self, row: int) -> str:
        return self.corpus.documents["text"].iloc[row]


def start_engine(model: Model):
    """Returns the engine that fits a model: packed tries, or padded batches where packing would be wrong."""
    return PackedEngine(model) if model.packed else PaddedEngine(model)


class ListView:
    """Greedy lists with their label steps."""

    name = "list"

    def __init__(self, model: Model, prompting: Prompting):
        self.model, self.prompting, self.engine = model, prompting, start_engine(model)
        self.form, self.labels = prompting.template.form, prompting.corpus.labels
        tokenizer = model.tokenizer
        self.forms = vocabulary.label_tokens(tokenizer, self.labels, self.form)
        self.separators = vocabulary.separator_tokens(tokenizer, self.form) or {}
        self.select = sorted({token for tokens in [*self.forms, *self.separators.values()] for token in tokens})
        self.column = {token: i for i, token in enumerate(self.select)}

    def ask(self, rows: Sequence[int]) -> tuple[dict[str, list[dict]], np.ndarray]:
        """Returns rows of answers, steps and failures for some documents, and their first-label states."""
        ids = self.prompting.corpus.documents["id"]
        sequences = vocabulary.encode_prompts(self.model.tokenizer, [self.prompting.list_prompt(r) for r in rows])
        fits = {row: self._too_long(sequence) for row, sequence in zip(rows, sequences, strict=True)}
        asked = [(row, sequence) for row, sequence in zip(rows, sequences, strict=True) if fits[row] is None]
        outcomes = dict(fits)
        if asked:
            written = self.engine.write(
                [s for _, s in asked], self.select, self._finished, self.prompting.new_tokens, self._draft()
            )
            outcomes |= {row: said for (row, _), said in zip(asked, written, strict=True)}
        tables = {"answers": [], "steps": [], "failures": []}
        states = np.full((len(rows), self.model.network.config.hidden_size), np.nan, np.float32)
        for place, row in enumerate(rows):
            if isinstance(outcomes[row], Exception):
                tables["failures"].append({"document": ids[row], "view": self.name, "error": str(outcomes[row])})
                continue
            answer, steps, first = self._read(ids[row], outcomes[row])
            tables["answers"].append(answer)
            tables["steps"] += steps
            if first is not None:
                states[place] = outcomes[row].states[first].numpy()
        return tables, states

    def _draft(self) -> Draft:
        # Made anew for each part, so that a part does not depend on the parts before it.
        breaks = ["\n", " ", ""]
        return Draft(
            [
                vocabulary.encode(self.model.tokenizer, gap + answer + end)
                for answer in self.prompting.drafts()
                for gap in breaks
                for end in ("\n" if self.form in ("comma", "single") else "",)
            ]
        )

    def _finished(self, tokens: list[int]) -> bool:
        return is_finished(self.model.tokenizer.decode(tokens, clean_up_tokenization_spaces=False), self.form)

    def _too_long(self, sequence: Sequence[int]) -> Exception | None:
        needed = len(sequence) + self.prompting.new_tokens
        if needed <= self.model.context:
            return None
        return ValueError(f"too long: {needed} tokens with its answer, {self.model.name} holds {self.model.context}")

    def _read(self, document: str, written: Written) -> tuple[dict, list[dict], int | None]:
        """Returns the answer's row, the rows of its label steps, and the token that starts the first label."""
        tokenizer = self.model.tokenizer
        text = tokenizer.decode(written.tokens, clean_up_tokenization_spaces=False)
        answer = parse(text, self.labels, self.form, written.complete)
        starts = vocabulary.offsets(tokenizer, written.tokens)
        steps, before = [], set()
        for number, said in enumerate(answer.said, start=1):
            at = vocabulary.token_at(starts, said.start)
            logits = written.logits[at]
            share = np.exp(logits - written.normaliser[at])
            goes_on, stops = self._what_follows(written, starts, said.end)
            steps.append(
                {
                    "document": document,
                    "variant": self.name,
                    "step": number,
                    "label": said.label,
                    "repeated": said.label in before,
                    "logits": [float(logits[self._columns(tokens)].max()) for tokens in self.forms],
                    "mass": float(share[self._columns({t for tokens in self.forms for t in tokens})].sum()),
                    "goes_on": goes_on / (goes_on + stops) if goes_on + stops > 0 else np.nan,
                    "stops": stops,
                }
            )
            before.add(said.label)
        row = {
            "document": document,
            "variant": self.name,
            "text": text,
            "said": list(answer.labels),
            "status": answer.status,
            "tokens": len(written.tokens),
        }
        first = vocabulary.token_at(starts, answer.said[0].start) if answer.said else None
        return row, steps, first

    def _what_follows(self, written: Written, starts: list[int], end: int) -> tuple[float, float]:
        """Returns the mass in the full softmax of going on and of stopping after a label (0, 0 if not decided)."""
        if not self.separators or end not in starts:
            return 0.0, 0.0
        at = starts.index(end)
        if at >= len(written.normaliser):
            return 0.0, 0.0

        def mass(group: str, position: int) -> float:
            columns = self._columns(self.separators[group])
            return float(np.exp(written.logits[position, columns] - written.normaliser[position]).sum())

        goes_on, stops = mass("goes_on", at), mass("stops", at)
        left_open = at < len(written.tokens) and written.tokens[at] in self.separators["open"]
        if left_open and at + 1 < len(written.normaliser):  # a lone quotation mark: the next token decides
            goes_on += mass("open", at) * mass("open_goes_on", at + 1)
            stops += mass("open", at) * mass("open_stops", at + 1)
        return goes_on, stops

    def _columns(self, tokens) -> list[int]:
        return [self.column[token] for token in sorted(tokens)]


class UnaryView:
    """One question a label (unary breakdown)."""

    name = "unary"

    def __init__(self, model: Model, prompting: Prompting):
        self.model, self.prompting, self.engine = model, prompting, start_engine(model)
        gap = " " if prompting.conventions == "ours" else ""
        self.select = [vocabulary.encode(model.tokenizer, gap + word)[0] for word in prompts.UNARY_ANSWERS]
        if len(set(self.select)) < 2:
            raise ValueError(
                f"{model.name}'s tokenizer begins {prompts.UNARY_ANSWERS} alike: they cannot be told apart"
            )

    def ask(self, rows: Sequence[int]) -> tuple[dict[str, list[dict]], None]:
        """Returns rows of questions and failures for some documents."""
        ids = self.prompting.corpus.documents["id"]
        labels = [*self.prompting.corpus.labels, NONE]
        flat = [prompt for row in rows for prompt in self.prompting.unary_prompts(row)]
        sequences = vocabulary.encode_prompts(self.model.tokenizer, flat)
        groups = [sequences[i : i + len(labels)] for i in range(0, len(sequences), len(labels))]
        long = [max(map(len, group)) > self.model.context for group in groups]
        asked = [group for group, over in zip(groups, long, strict=True) if not over]
        answers = iter(self.engine.read(asked, self.select) if asked else [])
        tables = {"questions": [], "failures": []}
        for row, over, group in zip(rows, long, groups, strict=True):
            longest = max(map(len, group))
            outcome = ValueError(f"too long: {longest} tokens, {self.model.name} holds {self.model.context}")
            if not over:
                outcome = next(answers)
            if isinstance(outcome, (ValueError, BadLogits)):
                tables["failures"].append({"document": ids[row], "view": self.name, "error": str(outcome)})
                continue
            for label, logits, normaliser in zip(labels, *outcome, strict=True):
                tables["questions"].append(
                    {
                        "document": ids[row],
                        "kind": self.name,
                        "first": label,
                        "second": None,
                        "logits": logits.tolist(),
                        "mass": float(np.exp(logits - normaliser).sum()),
                    }
                )
        return tables, None


VIEWS = {view.name: view for view in (ListView, UnaryView)}


def write_trace(
    folder: Path | str,
    model: Model,
    prompting: Prompting,
    views: Sequence[str] = ("list", "unary"),
    **settings,
) -> tuple[Trace, dict]:
    """Asks all views and writes the trace, going on where an earlier call stopped.

    Returns the trace, and the tokens and passes that this call took per view. `settings` are stored and must be the
    same when a trace is continued. Raises ValueError for an unknown view, TraceError where more than 5 % of the
    documents fail.
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
            "plan": prompting.plan.as_json(),
            "first_prompt": prompting.list_prompt(0) if len(corpus) else "",
            **settings,
        },
    )
    if not writer.done("documents"):
        writer.add("documents", 0, {"documents": _documents(corpus)})
    starts = range(0, len(corpus), PART)
    work = {}
    for name in views:
        done = writer.done(name)
        missing = [number for number in range(len(starts)) if number not in done]
        view = VIEWS[name](model, prompting) if missing else None
        for number in tqdm(missing, desc=f"{corpus.name} {name}", unit="part"):
            rows = range(starts[number], min(starts[number] + PART, len(corpus)))
            writer.add(name, number, *view.ask(rows))
            _stop_if_failing(writer, len(corpus) * len(views))
        if view:
            work[name] = {"tokens": view.engine.tokens, "passes": view.engine.passes}
    writer.finish()
    return Trace(folder), work


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
