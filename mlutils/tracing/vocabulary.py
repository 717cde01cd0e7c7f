"""Which tokens of a vocabulary begin a label, and which decide that a list goes on or stops."""

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.cluster.hierarchy import DisjointSet

from mlutils.tracing.answers import NONE, format_answer, last_span
from mlutils.tracing.tree import Behind, LabelTree, Path

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
    lengths = [len(tokenizer.decode(ids[:i], clean_up_tokenization_spaces=False)) for i in range(len(ids) + 1)]
    # Of a character in several tokens some tokenizers decode more than one mark as long as it is not whole.
    return np.minimum.accumulate(lengths[::-1])[::-1].tolist()


def token_at(starts: Sequence[int], character: int) -> int:
    """Returns the index of the token that holds a character, given `offsets`."""
    return next(i for i in range(len(starts) - 1) if starts[i] <= character < starts[i + 1])


class LabelTokens:
    """The tokens of a vocabulary that begin a label or decide what follows it, and what a model holds of them.

    `first` holds the first tokens of each label, none last, in the forms that can occur: `joy`, ` joy`, `Joy`, ` Joy`,
    and as the first or a later element of an answer. `separators` holds the tokens that decide what follows a label:
    `goes_on`, `stops`, and `open` those that both begin with (a lone quotation mark before `,` or `]`), after which
    `open_goes_on` and `open_stops` decide. It is empty for single labels, where nothing is decided. `select` lists all
    of these tokens once: K columns of logits are enough. `tree` tells labels apart that begin with the same token; by
    `label_tokens` first, as in the paper, it is empty, and they share that token's logit.
    """

    def __init__(
        self, tokenizer, labels: Sequence[str], form: str, label_tokens: str = "whole", size: int | None = None
    ):
        """size: tokens that the model knows, where its tokenizer has more. Raises ValueError where two labels have the
        same tokens.
        """
        paths = _label_paths(tokenizer, labels, form)
        self.first = [sorted({path[0] for path in each}) for each in paths]
        self.separators = {
            name: [token for token in tokens if size is None or token < size]
            for name, tokens in _separators(tokenizer, form).items()
        }
        self.select = sorted({token for tokens in [*self.first, *self.separators.values()] for token in tokens})
        self._column = {token: column for column, token in enumerate(self.select)}
        whole = label_tokens == "whole"
        self.tree = LabelTree(paths if whole else [], _end_tokens(tokenizer, self.separators) if whole else [])
        self._own = [[token for token in tokens if token not in self.tree.labels] for tokens in self.first]
        told = {label for labels in self.tree.labels.values() for label in labels}
        alike = [label for i, label in enumerate([*labels, NONE]) if not self._own[i] and i not in told]
        if alike:
            raise ValueError(
                f"the tokenizer writes {', '.join(map(repr, alike))} with the tokens of another label: rename them, or "
                "take label_tokens first, by which they share a logit"
            )

    def forks(self, logits: ArrayLike) -> list[Path]:
        """Returns the tokens to read behind a position, given its logits (K,), so that all labels are told apart."""
        return [path for token in self._shared(np.asarray(logits)) for path in self.tree.forks(token)]

    def describe(self, logits: ArrayLike, normaliser: float, behind: Behind | None = None) -> dict:
        """Returns what a model holds of the labels at a position, given logits (K,) of `select` and the log-sum-exp.

        `logits`: of each label, none last, the largest over its first tokens; to the logit of a token that several
        labels begin with, the logarithm of the label's share of it is added, so that it counts once. `mass`: of all
        first tokens together in the full softmax. `behind`: what the model holds after each of `forks`; None where
        that cannot be read, and labels that begin with the same token share its logit.
        """
        logits = np.asarray(logits)
        mass = self._sum(np.exp(logits - normaliser), {token for tokens in self.first for token in tokens})
        if behind is None:
            return {"logits": [float(logits[self._columns(tokens)].max()) for tokens in self.first], "mass": mass}
        held = [[float(each) for each in logits[self._columns(tokens)]] for tokens in self._own]
        for token in self._shared(logits):
            for label, share in self.tree.shares(token, behind).items():
                held[label].append(float(logits[self._column[token]]) + share)
        return {"logits": [max(each) for each in held], "mass": mass}

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

    def _shared(self, logits: np.ndarray) -> list[int]:
        """Returns the first tokens of several labels that may be the best of one: above all tokens of its own."""
        if not self.tree.labels:
            return []
        least = [logits[self._columns(tokens)].max(initial=-np.inf) for tokens in self._own]
        return [
            token
            for token, labels in self.tree.labels.items()
            if any(logits[self._column[token]] > least[label] for label in labels)
        ]

    def _columns(self, tokens: Iterable[int]) -> list[int]:
        return [self._column[token] for token in sorted(tokens)]

    def _sum(self, share: ArrayLike, tokens: Iterable[int]) -> float:
        return float(np.asarray(share)[self._columns(tokens)].sum())


def begin_alike(tokenizer, labels: Sequence[str], form: str, gap: str = "") -> list[list[str]]:
    """Returns the groups of labels, none included, that begin with the same token as the first or as a later element of
    an answer that begins with `gap`.
    """
    names = [*labels, NONE]
    found = DisjointSet(names)
    for later in (False, True):
        first: dict[int, str] = {}
        for label in labels if later else names:
            said = [] if label == NONE else [*_another(label, labels), label] if later else [label]
            start, end = last_span(said, form)
            path = _find_path(tokenizer, gap + format_answer(said, form), len(gap) + start, len(gap) + end)
            if path:
                found.merge(label, first.setdefault(path[0], label))
    return [[name for name in names if name in group] for group in found.subsets() if len(group) > 1]


def _another(label: str, labels: Sequence[str]) -> list[str]:
    return [next((name for name in labels if name != label), label)]


def _label_paths(tokenizer, labels: Sequence[str], form: str) -> list[list[Path]]:
    """Returns the tokens of each label, none last, in the forms that can occur: those that hold its characters."""
    paths = []
    for label in [*labels, NONE]:
        texts = [(word, 0, len(word)) for word in (label, label[:1].upper() + label[1:])]
        for said in [[]] if label == NONE else [[label], [*_another(label, labels), label]]:
            texts.append((format_answer(said, form), *last_span(said, form)))
        found = {
            _find_path(tokenizer, gap + text, start + len(gap), end + len(gap))
            for text, start, end in texts
            for gap in ("", " ", "\n")
        }
        paths.append(sorted(found - {None}))
    return paths


def _find_path(tokenizer, text: str, start: int, end: int) -> Path | None:
    """Returns the tokens that hold the characters from `start` to `end`; None where the first holds more before them
    than a space.
    """
    ids = encode(tokenizer, text)
    starts = offsets(tokenizer, ids)
    shift = starts[-1] - len(text)  # some tokenizers drop a leading space when they decode
    first = token_at(starts, start + shift)
    if text[starts[first] - shift : start].strip():
        return None
    reached = next(at for at in starts if at >= end + shift)
    behind = len(starts) - 1 - starts[::-1].index(reached)  # the last character may stand in several tokens
    return tuple(ids[first:behind])


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


def _end_tokens(tokenizer, separators: dict[str, list[int]]) -> set[int]:
    """Returns the tokens that may follow a whole label; behind a single label its line or the text ends."""
    if separators:
        return {token for name in ("goes_on", "stops", "open") for token in separators[name]}
    ends = {token for token, text in enumerate(_texts(tokenizer)) if text.startswith("\n")}
    return ends if tokenizer.eos_token_id is None else ends | {tokenizer.eos_token_id}
