"""The views `unary` and `pairwise`: questions about a document that one of two words answers.

All questions about a document go to the engine as one group, so its text, and the beginnings that questions share, are
computed once. Kept are the logits of both answers.
"""

from collections.abc import Sequence

import numpy as np

from mlutils.tracing import prompts, vocabulary
from mlutils.tracing.answers import NONE
from mlutils.tracing.engine import BadLogits
from mlutils.tracing.engines import start_engine, too_long
from mlutils.tracing.models import Model
from mlutils.tracing.prompting import Prompting

MOST = 1000  # questions a document: those about one document are held together


class Questions:
    """Asks each document the same questions, (first, second) each, and keeps the logits of the two answers."""

    name: str
    words: tuple[str, str]
    advice: str = ""  # what else can be done where there are too many questions

    def __init__(self, model: Model, prompting: Prompting):
        self.model, self.prompting, self.engine = model, prompting, start_engine(model)
        self.asked = self.keys()
        if len(self.asked) > MOST:
            corpus = prompting.corpus
            raise ValueError(
                f"the view {self.name} would ask {len(self.asked)} questions a document, more than {MOST}: "
                f"{self.advice}leave it out for {corpus.name}, which has {len(corpus.labels)} labels"
            )
        self.select = vocabulary.answer_tokens(model.tokenizer, self.words, prompting.conventions)
        if len(set(self.select)) < 2:
            raise ValueError(f"{model.name}'s tokenizer begins {self.words} alike: they cannot be told apart")

    def keys(self) -> list[tuple[str, str | None]]:
        """Returns what is asked about each document, as it stands in the trace."""
        raise NotImplementedError

    def prompts(self, row: int) -> list[str]:
        """Returns the prompts about a document, in the order of `keys`."""
        raise NotImplementedError

    def ask(self, rows: Sequence[int]) -> tuple[dict[str, list[dict]], None]:
        """Returns rows of questions and failures for some documents."""
        ids, size = self.prompting.corpus.documents["id"], len(self.asked)
        sequences = vocabulary.encode_prompts(self.model.tokenizer, [p for row in rows for p in self.prompts(row)])
        groups = [sequences[i : i + size] for i in range(0, len(sequences), size)]
        failed = [too_long(self.model, max(map(len, group))) for group in groups]
        fitting = [group for group, failure in zip(groups, failed, strict=True) if failure is None]
        answers = iter(self.engine.read(fitting, self.select) if fitting else [])
        tables = {"questions": [], "failures": []}
        for row, failure in zip(rows, failed, strict=True):
            outcome = failure or next(answers)
            if isinstance(outcome, (ValueError, BadLogits)):
                tables["failures"].append({"document": ids[row], "view": self.name, "error": str(outcome)})
                continue
            for (first, second), logits, normaliser in zip(self.asked, *outcome, strict=True):
                tables["questions"].append(
                    {
                        "document": ids[row],
                        "kind": self.name,
                        "first": first,
                        "second": second,
                        "logits": logits.tolist(),
                        "mass": float(np.exp(logits - normaliser).sum()),
                    }
                )
        return tables, None


class UnaryView(Questions):
    """One question a label (unary breakdown)."""

    name, words = "unary", prompts.UNARY_ANSWERS

    def keys(self):
        return [(label, None) for label in [*self.prompting.corpus.labels, NONE]]

    def prompts(self, row):
        return self.prompting.unary_prompts(row)


class PairwiseView(Questions):
    """One question a pair of labels (pairwise, or binary, breakdown)."""

    name, words, advice = "pairwise", prompts.PAIRWISE_ANSWERS, "take pairs sparse, or "

    def keys(self):
        return self.prompting.pairs

    def prompts(self, row):
        return self.prompting.pairwise_prompts(row)
