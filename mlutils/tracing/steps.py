"""The view `list`: greedy lists of labels, and what the model held at every label step."""

from collections.abc import Sequence

import numpy as np

from mlutils.tracing import vocabulary
from mlutils.tracing.answers import Answer, is_finished, parse
from mlutils.tracing.engine import Draft, Written
from mlutils.tracing.engines import read_on, start_engine, too_long
from mlutils.tracing.models import Model
from mlutils.tracing.prompting import Prompting
from mlutils.tracing.tree import Behind
from mlutils.tracing.vocabulary import LabelTokens


class ListView:
    """Greedy lists with their label steps; `variant` names their rows where several kinds of prompts are asked."""

    name = "list"

    def __init__(self, model: Model, prompting: Prompting, variant: str = name):
        self.variant, self.model, self.prompting, self.engine = variant, model, prompting, start_engine(model)
        self.form, self.labels = prompting.template.form, prompting.corpus.labels
        self.state_shape = (model.config.hidden_size,)  # of what the engine keeps at a position
        self.label_tokens = LabelTokens(model.tokenizer, self.labels, self.form, prompting.label_tokens, model.words)

    def ask(self, rows: Sequence[int]) -> tuple[dict[str, list[dict]], np.ndarray]:
        """Returns rows of answers, steps and failures for some documents, and their first-label states."""
        ids = self.prompting.corpus.documents["id"]
        prompts, outcomes = self.write(rows)
        places = {row: self._places(prompts[row], each) for row, each in outcomes.items() if isinstance(each, Written)}
        behind = read_on(self.model, self.engine, self.label_tokens, places)
        outcomes |= {row: error for row, error in behind.items() if isinstance(error, Exception)}
        tables = {"answers": [], "steps": [], "failures": []}
        states = np.full((len(rows), *self.state_shape), np.nan, np.float32)
        for place, row in enumerate(rows):
            if isinstance(outcomes[row], Exception):
                tables["failures"].append({"document": ids[row], "view": self.name, "error": str(outcomes[row])})
                continue
            answer, steps, first = self._read(ids[row], outcomes[row], behind[row])
            tables["answers"].append(answer)
            tables["steps"] += steps
            if first is not None:
                states[place] = outcomes[row].states[first].numpy()
        return tables, states

    def write(self, rows: Sequence[int]) -> tuple[dict[int, list[int]], dict[int, Written | Exception]]:
        """Returns the prompt tokens of each document, and its greedy answer or the error that it fails with."""
        sequences = vocabulary.encode_prompts(self.model.tokenizer, [self.prompting.list_prompt(r) for r in rows])
        new, prompts = self.prompting.new_tokens, dict(zip(rows, sequences, strict=True))
        outcomes = {row: too_long(self.model, len(sequence) + new) for row, sequence in prompts.items()}
        asked = [row for row in rows if outcomes[row] is None]
        if asked:
            select = self.label_tokens.select
            written = self.engine.write([prompts[r] for r in asked], select, self._finished, new, self._draft())
            outcomes |= dict(zip(asked, written, strict=True))
        return prompts, outcomes

    def find_labels(self, written: Written) -> tuple[Answer, list[int]]:
        """Returns a parsed answer, and which of its tokens begins each label said, none and repetitions included."""
        text = self.model.tokenizer.decode(written.tokens, clean_up_tokenization_spaces=False)
        answer = parse(text, self.labels, self.form, written.complete)
        starts = vocabulary.offsets(self.model.tokenizer, written.tokens)
        return answer, [vocabulary.token_at(starts, said.start) for said in answer.said]

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

    def _places(self, prompt: list[int], written: Written) -> list[tuple[list[int], np.ndarray]]:
        """Returns the tokens before each label said, and the logits (K,) there."""
        return [([*prompt, *written.tokens[:at]], written.logits[at]) for at in self.find_labels(written)[1]]

    def _read(
        self, document: str, written: Written, behind: Sequence[Behind] | None = None
    ) -> tuple[dict, list[dict], int | None]:
        """Returns the answer's row, the rows of its label steps, and the token that starts the first label.

        behind: for each label step, as `LabelTokens.describe` takes it; None where nothing further was read.
        """
        tokenizer = self.model.tokenizer
        text = tokenizer.decode(written.tokens, clean_up_tokenization_spaces=False)
        answer, firsts = self.find_labels(written)
        starts = vocabulary.offsets(tokenizer, written.tokens)
        steps, before = [], set()
        for number, (said, at, further) in enumerate(
            zip(answer.said, firsts, behind or [None] * len(firsts), strict=True), 1
        ):
            goes_on, stops = self._what_follows(written, starts, said.end)
            steps.append(
                {
                    "document": document,
                    "variant": self.variant,
                    "step": number,
                    "label": said.label,
                    "repeated": said.label in before,
                    **self.label_tokens.describe(written.logits[at], written.normaliser[at], further),
                    "goes_on": goes_on / (goes_on + stops) if goes_on + stops > 0 else np.nan,
                    "stops": stops,
                }
            )
            before.add(said.label)
        row = {
            "document": document,
            "variant": self.variant,
            "text": text,
            "said": list(answer.labels),
            "status": answer.status,
            "tokens": len(written.tokens),
        }
        return row, steps, firsts[0] if firsts else None

    def _what_follows(self, written: Written, starts: list[int], end: int) -> tuple[float, float]:
        """Returns the mass in the full softmax of going on and of stopping after a label (0, 0 if not decided)."""
        separators = self.label_tokens.separators
        if not separators or end not in starts:
            return 0.0, 0.0
        at = starts.index(end)
        if at >= len(written.normaliser):
            return 0.0, 0.0
        share = np.exp(written.logits[at : at + 2] - written.normaliser[at : at + 2, None])
        left_open = at < len(written.tokens) and written.tokens[at] in separators["open"]
        # Only what was written is known: the token after a lone quotation mark decides for all that leave it open.
        opened = [(separators["open"], share[1])] if left_open and len(share) > 1 else []
        return self.label_tokens.decide(share[0], opened)
