"""Prompts: documents, labels and demonstrations as the text that a model reads (the paper's appendix on prompts).

Prompts are plain text, also for chat models. They are stripped of the space before the answer, which belongs to the
answer's first token. A line break before the answer stays (ours): without it a small model first ends the text's last
sentence. The released code strips that too (`strip=True`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mlutils.corpora import descriptions
from mlutils.tracing.answers import check_labels, format_answer

CLASSIFY = "Classify the following inputs into none, one, or multiple the following {noun} per input: {{labels}}."
EXACTLY = " Output exactly these {noun} and no others."
ONE_OPTION = (
    "Classify the following inputs into one of the following options per input: {labels}. "
    "Output exactly one label and no others.\n\n"
)


@dataclass(frozen=True)
class Template:
    """How a list prompt is worded: instruction with `{labels}`, demonstration with `{text}` and `{answer}`."""

    instruction: str
    demonstration: str
    form: str  # how an answer is written: a name of `answers.FORMS`


UNARY = (
    'Classify the following question-label pairs as either "reasonable" or "unreasonable". '
    'Output either "reasonable" or "unreasonable" and nothing else.\n\n'
)
UNARY_QUESTION = "Question: {text}\nLabel: {label}\nIs the label reasonable:"
UNARY_ANSWERS = ("reasonable", "unreasonable")

PAIRWISE = (
    "Classify the following question into one of the two following labels. "
    'Output either "a" or "b" depending on which label is better and nothing else.\n\n'
)
PAIRWISE_QUESTION = "Question: {text}\na. {a}\nb. {b}\nCorrect Label:"
PAIRWISE_ANSWERS = ("a", "b")


def template(corpus: str, family: str = "P", form: str = "auto") -> Template:
    """Returns the wording for a corpus, as `prompt` in its file says; `form` replaces the answer format.

    Family P asks for Tables 2 and 5 and Figures 4 to 6, family C for Figures 2, 3, 7, 9, 10 and Tables 4 and 6. A
    corpus without a file gets the general wording. Raises ValueError where the family is unknown or the paper has no
    such prompt.
    """
    if family not in ("P", "C"):
        raise ValueError(f"prompt family {family!r} is not known: take P (Tables 2, 5) or C (Figures 2, 3)")
    about = descriptions.read(corpus).data if descriptions.has(corpus) else {}
    words = {"noun": "labels", "form": "json", "exactly": True, "demonstration": "Input: {text}\n{answer}\n"}
    words |= about.get("prompt", {})
    if about.get("single_label"):
        if family == "C":
            raise ValueError(f"family C has no prompt for {corpus}: take family P")
        found = Template(ONE_OPTION, "Question: {text}\nAnswer: {answer}\n\n", "single")
    elif "instruction" in words:
        found = Template(words["instruction"], words["demonstration"], words["form"])
    elif family == "C":
        found = Template(CLASSIFY.format(**words) + "\n\n", "Input: `{text}`\n{answer}\n\n", "json")
    else:
        asked = CLASSIFY + EXACTLY if words["exactly"] else CLASSIFY
        found = Template(asked.format(**words) + "\n", words["demonstration"], words["form"])
    return found if form == "auto" else Template(found.instruction, found.demonstration, form)


def join_labels(labels: Sequence[str]) -> str:
    """Returns `a, b and c`."""
    return " and ".join([", ".join(labels[:-1]), labels[-1]] if len(labels) > 1 else labels)


def list_prompt(
    template: Template,
    labels: Sequence[str],
    demonstrations: Sequence[tuple[str, Sequence[str]]],
    text: str,
    strip: bool = False,
) -> str:
    """Returns the prompt that asks for a list of labels.

    `demonstrations` are pairs of text and labels, in the order in which they are shown. `strip` also takes away the
    line break before an answer on a line of its own. Raises ValueError for labels that the format cannot carry.
    """
    check_labels(labels, template.form)
    shown = [
        _fill(template.demonstration, text=shown, answer=format_answer(said, template.form))
        for shown, said in demonstrations
    ]
    # A query is a demonstration without its answer; what follows the answer goes with it.
    query = _fill(template.demonstration.partition("{answer}")[0], text=text)
    instruction = _fill(template.instruction, labels=join_labels(labels))
    return (instruction + "".join(shown) + query).rstrip(None if strip else " ")


def unary_prompt(demonstrations: Sequence[tuple[str, str, bool]], text: str, label: str, strip: bool = True) -> str:
    """Returns the question whether one label is reasonable (unary breakdown).

    `demonstrations` are triples of text, label and whether it is reasonable. `strip=False` leaves the space before
    the answer, as the released code does.
    """
    shown = [
        _fill(UNARY_QUESTION, text=shown, label=asked) + f" {UNARY_ANSWERS[0 if good else 1]}\n\n"
        for shown, asked, good in demonstrations
    ]
    return UNARY + "".join(shown) + _fill(UNARY_QUESTION, text=text, label=label) + ("" if strip else " ")


def pairwise_prompt(
    demonstrations: Sequence[tuple[str, str, str, str]], text: str, a: str, b: str, strip: bool = True
) -> str:
    """Returns the question which of two labels is better (pairwise breakdown).

    `demonstrations` are text, label at a, label at b, and `a` or `b`. `strip=False` leaves the space before the
    answer, as the released code does.
    """
    shown = [
        _fill(PAIRWISE_QUESTION, text=shown, a=first, b=second) + f" {answer}\n\n"
        for shown, first, second, answer in demonstrations
    ]
    return PAIRWISE + "".join(shown) + _fill(PAIRWISE_QUESTION, text=text, a=a, b=b) + ("" if strip else " ")


def _fill(pattern: str, **values: str) -> str:
    """Returns the pattern with its fields replaced in one pass: a text that holds `{label}` stays as it is."""
    return re.sub(r"\{(\w+)\}", lambda field: values[field[1]], pattern)
