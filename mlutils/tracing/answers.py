"""Answers: how a list of labels is written, and a strict parser with a status for every answer.

The parser works on any text that a model may write: it never raises, and it never finds a label that was not
written as an element of the list.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

NONE = "none"
FORMS = ("json", "comma", "the", "single")

_STRING = r'"(?:[^"\\\n]|\\[^\n])*"'


@dataclass(frozen=True)
class Said:
    """A label as it stands in an answer: `label` is a name of the label set or none."""

    label: str
    start: int  # characters, from the answer's beginning
    end: int


@dataclass(frozen=True)
class Answer:
    """A parsed answer: what was said, in order, repetitions included."""

    said: tuple[Said, ...]
    status: str  # ok | none | unknown label | repeated label | cut off | not a list

    @property
    def labels(self) -> tuple[str, ...]:
        """Returns the distinct labels said, in order, without none."""
        return tuple(dict.fromkeys(said.label for said in self.said if said.label != NONE))


def check_labels(labels: Sequence[str], form: str) -> None:
    """Raises ValueError where an answer format is unknown or cannot carry a label's name."""
    if form not in FORMS:
        raise ValueError(f"answer format {form!r} is not known: take one of {', '.join(FORMS)}")
    folded = [label.casefold() for label in labels]
    for label in labels:
        if folded.count(label.casefold()) > 1:
            raise ValueError(f"label {label!r} is there twice: rename one of them")
        if label.casefold() == NONE or not label or label != label.strip() or "\n" in label:
            raise ValueError(f"a label cannot be called {label!r}: none, empty, blank or broken names are taken")
        # "the a and the b." is split at " and the ", and ends at its full stop.
        breaks = {"comma": [","], "the": [" and the ", "."], "json": [], "single": []}[form]
        for text in breaks:
            if text in (f"{label} " if form == "the" else label):
                raise ValueError(f"label {label!r} holds {text!r}, which format {form!r} cannot carry: use json")


def format_answer(labels: Sequence[str], form: str) -> str:
    """Returns the answer that lists the labels; an empty list is written none."""
    labels = list(labels) or [NONE]
    if form == "json":
        return json.dumps({"label": labels}, ensure_ascii=False)
    if form == "the":
        return NONE if labels == [NONE] else " and ".join(f"the {label}" for label in labels)
    return ", ".join(labels)


def last_span(labels: Sequence[str], form: str) -> tuple[int, int]:
    """Returns where the last label begins and ends in `format_answer`; JSON writes some characters with an escape."""
    last = (list(labels) or [NONE])[-1]
    written, closing = (json.dumps(last, ensure_ascii=False)[1:-1], '"]}') if form == "json" else (last, "")
    end = len(format_answer(labels, form)) - len(closing)
    return end - len(written), end


def is_finished(text: str, form: str) -> bool:
    """Returns whether an answer has ended, because its format closed or its line did."""
    body = text.lstrip()
    if "\n" in body:
        return True
    if form == "json":
        return bool(re.match(rf"\{{(?:{_STRING}|[^\"}}])*\}}", body))
    return form == "the" and "." in body


def parse(text: str, labels: Sequence[str], form: str, complete: bool = True) -> Answer:
    """Returns the labels said and the status of an answer.

    `complete=False` says that the answer was cut at the token limit: a list without its end is then cut off, and
    its last, maybe unfinished element is left out. Names are compared without regard to case.
    """
    names = {label.casefold(): label for label in labels} | {NONE: NONE}
    elements, closed = {"json": _json, "comma": _comma, "the": _the, "single": _single}[form](text, complete)
    said, unknown = [], 0
    for element, start, end in elements:
        label = names.get(element.casefold())
        if label is None:
            unknown += 1
        else:
            said.append(Said(label, start, end))
    real = [s.label for s in said if s.label != NONE]
    # A sentence is a comma list of one unknown element: without any known element it is no list.
    listless = closed is None or (form in ("comma", "single") and not said and closed)
    if listless:
        return Answer((), "not a list")
    if not closed:
        status = "cut off"
    elif unknown:
        status = "unknown label"
    elif len(set(real)) < len(real):
        status = "repeated label"
    else:
        status = "ok" if real else "none"
    return Answer(tuple(said), status)


Elements = tuple[list[tuple[str, int, int]], bool | None]  # (element, start, end) ...; closed, None = not a list


def _json(text: str, complete: bool) -> Elements:
    head = re.match(r'\s*\{\s*"label"\s*:\s*\[\s*', text)
    if not head:
        # A beginning of the opening, cut at the limit, is a list that was cut off.
        opening = "".join(text.split())
        return [], (None if complete or not '{"label":['.startswith(opening) else False)
    elements, at = [], head.end()
    element = re.compile(rf"({_STRING})\s*")
    while found := element.match(text, at):
        try:
            elements.append((json.loads(found[1]), found.start(1) + 1, found.end(1) - 1))
        except json.JSONDecodeError:  # an escape that JSON does not have
            return [], None
        at = found.end()
        if comma := re.compile(r",\s*").match(text, at):
            at = comma.end()
        else:
            break
    if elements and re.compile(r"\]\s*\}").match(text, at):
        return elements, True
    rest = text[at:]
    unfinished = re.fullmatch(r'\s*(\]\s*)?|"(?:[^"\\\n]|\\[^\n])*\\?', rest)
    return (elements, False) if not complete and unfinished else ([], None)


def _line(text: str) -> tuple[str, int, bool]:
    """Returns the first line that is not blank, where it starts, and whether it ends."""
    start = len(text) - len(text.lstrip())
    line, newline, _ = text[start:].partition("\n")
    return line, start, bool(newline)


def _cut(pieces: list[tuple[str, int]], offset: int, ended: bool) -> Elements:
    """Returns stripped elements with their places; of an answer without its end the last element is dropped."""
    kept = pieces if ended else pieces[:-1]
    elements = []
    for piece, at in kept:
        body = piece.strip()
        start = offset + at + len(piece) - len(piece.lstrip())
        elements.append((body, start, start + len(body)))
    return elements, ended


def _comma(text: str, complete: bool) -> Elements:
    line, start, newline = _line(text)
    if not line:
        return [], (None if complete else False)
    pieces = [(match[0], match.start()) for match in re.finditer(r"[^,]+|(?<=,)(?=,|$)", line)]
    return _cut(pieces, start, newline or complete)


def _the(text: str, complete: bool) -> Elements:
    line, start, newline = _line(text)
    if not line:
        return [], (None if complete else False)
    line, stop, _ = line.partition(".")
    ended = bool(stop) or newline or complete
    if line.strip().casefold() == NONE:
        return [(line.strip(), start, start + len(line.strip()))], ended
    if not line.startswith("the "):
        return [], (None if ended else False)
    cuts = [0, *(match.start() + len(" and ") for match in re.finditer(r" and the ", line))]
    ends = [*(cut - len(" and ") for cut in cuts[1:]), len(line)]
    pieces = [(line[a + 4 : b], a + 4) for a, b in zip(cuts, ends, strict=True)]
    return _cut(pieces, start, ended)


def _single(text: str, complete: bool) -> Elements:
    line, start, newline = _line(text)
    if not line:
        return [], (None if complete else False)
    return _cut([(line, 0)], start, newline or complete)
