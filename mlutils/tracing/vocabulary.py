"""Which tokens of a vocabulary begin a label, and which decide that a list goes on or stops."""

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from mlutils.tracing.answers import NONE, format_answer, last_span

# What follows a label when another one comes, and when none does.
SEPARATORS = {"json": ('",', '"]'), "comma": (",", "\n"), "the": (" and", "."), "single": None}
# Special tokens that end a text or a turn. A chat model writes either, but its tokenizer names one of them, and so does
# a GGUF; its generation config mostly names both.
ENDS = ("<|endoftext|>", "<|im_end|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<eos>", "<end_of_turn>", "</s>")


def encode(tokenizer, text: str) -> list[int]:
    """Returns token ids without special tokens; a text that spells one (`<|im_end|>`) is read as plain text."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def encode_prompts(tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Returns the token ids of whole prompts, with the beginning-of-text token where the model has one.

    An end-of-text token that the tokenizer puts behind every text is left out: an answer goes on from its prompt.
    """
    if not texts:
        return []
    _, behind = framing(tokenizer)
    ids = tokenizer(list(texts), split_special_tokens=True)["input_ids"]
    return [each[: len(each) - len(behind)] for each in ids] if behind else ids


def framing(tokenizer) -> tuple[list[int], list[int]]:
    """Returns the special tokens that a tokenizer puts before and behind every text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    at = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
    return whole[:at], whole[at + len(bare) :]


def end_tokens(tokenizer) -> set[int]:
    """Returns the special tokens that end a text or a turn: the tokenizer's own and, of its others, those of `ENDS`."""
    known = {each.content: token for token, each in tokenizer.added_tokens_decoder.items() if each.special}
    return {known[name] for name in ENDS if name in known} | {tokenizer.eos_token_id} - {None}


def answer_tokens(tokenizer, words: Sequence[str], conventions: str = "ours") -> list[int]:
    """Returns the first token of each word as it answers a question, which ends in a colon.

    It is read behind the colon: some tokenizers mark where a text begins, and all words would begin with that mark.
    By the `released` conventions the question ends in a blank, and a word has none before it.
    """
    colon = encode(tokenizer, ":")
    tokens = []
    for word in words:
        text = word if conventions == "released" else f" {word}"
        whole = encode(tokenizer, f":{text}")
        behind = whole[len(colon) :] if whole[: len(colon)] == colon else []
        tokens.append((behind or encode(tokenizer, text))[0])
    return tokens


def offsets(tokenizer, ids: Sequence[int]) -> list[int]:
    """Returns the character at which each token of an answer starts, and the answer's length last."""
    return [len(tokenizer.decode(ids[:i], clean_up_tokenization_spaces=False)) for i in range(len(ids) + 1)]


def token_at(starts: Sequence[int], character: int) -> int:
    """Returns the index of the token that holds a character, given `offsets`."""
    return next(i for i in range(len(starts) - 1) if starts[i] <= character < starts[i + 1])


class LabelTokens:
    """The tokens of a vocabulary that begin a label or decide what follows it, and what a model holds of them.

    `first` holds the first tokens of each label, none last, in the forms that can occur: `joy`, ` joy`, `Joy`, ` Joy`,
    and as the first or a later element of an answer. `separators` holds the tokens that decide what follows a label:
    `goes_on`, `stops`, and `open` those that both begin with (a lone quotation mark before `,` or `]`), after which
    `open_goes_on` and `open_stops` decide. It is empty for single labels, where nothing is decided. `select` lists all
    of these tokens once: K columns of logits are enough.
    """

    def __init__(self, tokenizer, labels: Sequence[str], form: str):
        self.first = _first_tokens(tokenizer, labels, form)
        self.separators = _separators(tokenizer, form)
        self.select = sorted({token for tokens in [*self.first, *self.separators.values()] for token in tokens})
        self._column = {token: column for column, token in enumerate(self.select)}

    def describe(self, logits: ArrayLike, normaliser: float) -> dict:
        """Returns what a model holds of the labels at a position, given logits (K,) of `select` and the log-sum-exp.

        `logits`: of each label, none last, the largest over its first tokens; `mass`: of all their first tokens
        together in the full softmax, so that a token which several labels begin with counts once.
        """
        logits = np.asarray(logits)
        share = np.exp(logits - normaliser)
        return {
            "logits": [float(logits[self._columns(tokens)].max()) for tokens in self.first],
            "mass": self._sum(share, {token for tokens in self.first for token in tokens}),
        }

    def decide(self, share: ArrayLike, opened: Iterable[tuple[Sequence[int], ArrayLike]] = ()) -> tuple[float, float]:
        """Returns the mass in the full softmax of going on and of stopping, at a label's end.

        share (K,): the full softmax at the tokens of `select`; `opened`: tokens that leave it open, with the share (K,)
        after them.
        """
        goes_on, stops = (self._sum(share, self.separators[name]) for name in ("goes_on", "stops"))
        for tokens, after in opened:
            weight = self._sum(share, tokens)
            goes_on += weight * self._sum(after, self.separators["open_goes_on"])
            stops += weight * self._sum(after, self.separators["open_stops"])
        return goes_on, stops

    def _columns(self, tokens: Iterable[int]) -> list[int]:
        return [self._column[token] for token in sorted(tokens)]

    def _sum(self, share: ArrayLike, tokens: Iterable[int]) -> float:
        return float(np.asarray(share)[self._columns(tokens)].sum())


def _first_tokens(tokenizer, labels: Sequence[str], form: str) -> list[list[int]]:
    tokens = []
    for label in [*labels, NONE]:
        other = next((name for name in labels if name != label), label)
        texts = [(word, 0) for word in (label, label[:1].upper() + label[1:])]
        for said in [[]] if label == NONE else [[label], [other, label]]:
            texts.append((format_answer(said, form), last_span(said, form)[0]))
        found = {_starting_token(tokenizer, gap + text, at + len(gap)) for text, at in texts for gap in ("", " ", "\n")}
        tokens.append(sorted(found - {None}))
    return tokens


def _starting_token(tokenizer, text: str, at: int) -> int | None:
    """Returns the token that holds a character; None where it holds more before it than a space."""
    ids = encode(tokenizer, text)
    starts = offsets(tokenizer, ids)
    shift = starts[-1] - len(text)  # some tokenizers drop a leading space when they decode
    token = token_at(starts, at + shift)
    return None if text[starts[token] - shift : at].strip() else ids[token]


@lru_cache(maxsize=4)
def _texts(tokenizer) -> list[str]:
    """Returns the text of each token within a text: at its beginning some tokenizers drop a blank."""
    before = encode(tokenizer, "x")
    length = len(tokenizer.decode(before))
    return [text[length:] for text in tokenizer.batch_decode([[*before, i] for i in range(len(tokenizer))])]


def _separators(tokenizer, form: str) -> dict[str, list[int]]:
    if SEPARATORS[form] is None:
        return {}
    go, stop = SEPARATORS[form]
    common = next((i for i, (a, b) in enumerate(zip(go, stop, strict=False)) if a != b), min(len(go), len(stop)))
    groups = {name: [] for name in ("goes_on", "stops", "open", "open_goes_on", "open_stops")}
    for token, text in enumerate(_texts(tokenizer)):
        if not text:
            continue
        if common and go[:common].startswith(text):
            groups["open"].append(token)
        for name, whole in (("goes_on", go), ("stops", stop)):
            if len(text) > common and (text.startswith(whole) or whole.startswith(text)):
                groups[name].append(token)
            rest = whole[common:]
            if common and (text.startswith(rest) or rest.startswith(text)):
                groups[f"open_{name}"].append(token)
    if form != "json":
        groups["stops"] = sorted({*groups["stops"], *end_tokens(tokenizer)})
    return groups
