"""The view `sets`: asks the model what follows each of its likely lists, for exact set marginals.

It reads the readout's own model of a list. The format's opening is taken for granted. What comes next is the paper's
step distribution: the softmax over the first tokens of the labels and none; labels that begin with the same token are
told apart by what follows it. Whether the list goes on after a label is the mass of the separators' tokens, going on
against stopping. The rest of the vocabulary is ignored; `mass` and `goes_on` + `stops` say how much that is. A list's
tokens are those of the prompt and the canonical tokens of the answer's text, as the model writes it.

Lists are asked for in waves, all documents of a part at once; which ones, `mlutils.sets` decides.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from mlutils.sets import Expansion, Prefix
from mlutils.tracing import vocabulary
from mlutils.tracing.answers import NONE, format_answer, last_span
from mlutils.tracing.engine import BadLogits
from mlutils.tracing.engines import read_on, start_engine, too_long
from mlutils.tracing.models import Model
from mlutils.tracing.prompting import Prompting
from mlutils.tracing.tree import Behind
from mlutils.tracing.vocabulary import LabelTokens

TOLERANCE = 0.02  # width of the bounds that is good enough
MOST = 60  # lists asked about a document


@dataclass(frozen=True)
class Ends:
    """The token sequences to read after a list: at its end, after each open token there, and before the next label."""

    end: list[int] | None  # None where nothing is decided: the empty list, single labels
    opened: list[list[int]]
    following: list[int]

    @property
    def sequences(self) -> list[list[int]]:
        return [self.following, *([] if self.end is None else [self.end]), *self.opened]


class SetsView:
    """What the model holds after its likely lists of labels."""

    name = "sets"

    def __init__(self, model: Model, prompting: Prompting, most: int = MOST):
        self.model, self.prompting, self.engine, self.most = model, prompting, start_engine(model), most
        self.form, self.labels = prompting.template.form, prompting.corpus.labels
        self.label_tokens = LabelTokens(model.tokenizer, self.labels, self.form, prompting.label_tokens, model.words)
        self._ends: dict[Prefix, Ends] = {}
        query, self.gap = prompting.template.demonstration.partition("{answer}")[0], prompting.gap
        self.anchor = query.removesuffix(self.gap).rpartition("}")[2]

    def ask(self, rows: Sequence[int]) -> tuple[dict[str, list[dict]], None]:
        """Returns rows of nodes and failures for some documents."""
        ids = self.prompting.corpus.documents["id"]
        sequences = vocabulary.encode_prompts(self.model.tokenizer, [self.prompting.list_prompt(r) for r in rows])
        prompts = dict(zip(rows, sequences, strict=True))
        longest = 1 if self.form == "single" else None
        expansions = {row: Expansion(len(self.labels), TOLERANCE, self.most, longest=longest) for row in rows}
        new = self.prompting.new_tokens
        failed = {row: error for row in rows if (error := too_long(self.model, len(prompts[row]) + new))}
        nodes = {row: [] for row in rows}
        while waves := {r: wave for r, each in expansions.items() if r not in failed and (wave := each.wave())}:
            groups = [
                [prompts[row] + tail for prefix in wave for tail in self._ends_of(prefix).sequences]
                for row, wave in waves.items()
            ]
            outcomes = dict(zip(waves, self.engine.read(groups, self.label_tokens.select), strict=True))
            failed |= {row: error for row, error in outcomes.items() if isinstance(error, BadLogits)}
            places = {
                row: self._places(prompts[row], waves[row], outcomes[row][0]) for row in waves if row not in failed
            }
            behind = read_on(self.model, self.engine, self.label_tokens, places)
            failed |= {row: error for row, error in behind.items() if isinstance(error, Exception)}
            for row, wave in waves.items():
                if row in failed:
                    continue
                found = self._read(wave, *outcomes[row], behind[row])
                nodes[row] += [{"document": ids[row], **node} for node in found]
                expansions[row].take(wave, [(softmax(node["logits"]), 1 - node["goes_on"]) for node in found])
        failures = [{"document": ids[r], "view": self.name, "error": str(failed[r])} for r in rows if r in failed]
        return {"nodes": [node for r in rows if r not in failed for node in nodes[r]], "failures": failures}, None

    def _places(self, prompt: list[int], wave: Sequence[Prefix], logits: np.ndarray) -> list:
        """Returns for each list of a wave the tokens before the next label, and the logits (K,) there."""
        places, at = [], 0
        for ends in map(self._ends_of, wave):
            places.append(([*prompt, *ends.following], logits[at]))
            at += len(ends.sequences)
        return places

    def _read(
        self, wave: Sequence[Prefix], logits: np.ndarray, normaliser: np.ndarray, behind: Sequence[Behind]
    ) -> list[dict]:
        """Returns the nodes of a document's wave, given what the model holds after all its sequences, and behind the
        first tokens of the next label.
        """
        nodes, at = [], 0
        for prefix, further in zip(wave, behind, strict=True):
            ends = self._ends_of(prefix)
            read = slice(at, at + len(ends.sequences))
            share = np.exp(logits[read] - normaliser[read, None])  # (sequences, K)
            goes_on = stops = np.nan
            if ends.end is not None:
                tokens = ([token] for token in self.label_tokens.separators["open"])
                opened = zip(tokens, share[2:], strict=True)
                goes_on, stops = self.label_tokens.decide(share[1], opened)
            nodes.append(
                {
                    "prefix": [self.labels[label] for label in prefix],
                    **self.label_tokens.describe(logits[at], normaliser[at], further),
                    "goes_on": goes_on / (goes_on + stops),
                    "stops": stops,
                }
            )
            at = read.stop
        return nodes

    def _ends_of(self, prefix: Prefix) -> Ends:
        if prefix not in self._ends:
            self._ends[prefix] = self._find_ends(prefix)
        return self._ends[prefix]

    def _find_ends(self, prefix: Prefix) -> Ends:
        """Returns where to read after a list, by most of the labels that may come next.

        Raises ValueError where the tokenizer glues all labels to what is before them, or to what follows them.
        """
        said = [self.labels[label] for label in prefix]
        length = len(self.gap) + last_span(said, self.form)[1] if said else 0
        decided = bool(said and self.label_tokens.separators)
        following, ends = Counter(), Counter()
        for label in [*self.labels, *([] if said else [NONE])]:
            listed = [*said, label] if label != NONE else []
            text = self.gap + format_answer(listed, self.form)
            tokens = self._answer_tokens(text)
            starts = vocabulary.offsets(self.model.tokenizer, tokens)
            shift = starts[-1] - len(text)  # some tokenizers drop a leading space when they decode
            at = len(self.gap) + last_span(listed, self.form)[0]
            first = vocabulary.token_at(starts, at + shift)
            if not text[max(starts[first] - shift, 0) : at].strip():
                following[tuple(tokens[:first])] += 1
            if decided and length + shift in starts:
                ends[tuple(tokens[: starts.index(length + shift)])] += 1
        if not following or (decided and not ends):
            raise ValueError(f"{self.model.name}'s tokenizer has no boundary around the labels after {said}")
        end = list(ends.most_common(1)[0][0]) if decided else None
        opened = [[*end, token] for token in self.label_tokens.separators["open"]] if decided else []
        return Ends(end, opened, list(following.most_common(1)[0][0]))

    def _answer_tokens(self, text: str) -> list[int]:
        """Returns the tokens of an answer's text as they stand behind a prompt's end."""
        before = vocabulary.encode(self.model.tokenizer, f"x{self.anchor}")
        whole = vocabulary.encode(self.model.tokenizer, f"x{self.anchor}{text}")
        if whole[: len(before)] == before:
            return whole[len(before) :]
        return vocabulary.encode(self.model.tokenizer, text)
