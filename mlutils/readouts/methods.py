"""The rows of Tables 2 and 5, each in one place: how it is written, drawn and compared, and, for a readout, how a trace
is read. Everything else (fitted rows, claims, figures, tables) asks here; a new row is a new entry of METHODS.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from mlutils.readouts import probabilities, sets
from mlutils.readouts.checks import check_steps

CONVENTIONS = ("ours", "released")


@dataclass(frozen=True)
class Method:
    """A row of Tables 2 and 5; one without functions is not read out of a trace: a constant, an encoder."""

    name: str
    title: str
    group: str  # reference | zero-shot | supervised
    colour: str  # by its name in reporting.looks; unique together with the marker
    marker: str
    views: tuple[str, ...] = ()  # of a trace, that it needs
    multi_label: Callable | None = None  # trace -> (D, L)
    single_label: Callable | None = None  # likewise; None: it has no such form
    released: Callable | None = None  # the single-label form in the paper's code, where it is another one
    both_orders: bool = False  # needs pairs that were asked in both orders
    calibrated: bool = False  # also as a row calibrated on a few votes, and shifted to a prevalence
    stacked: bool = False  # a view of the stack
    free: bool = False  # what max-over-generations is compared with in claim C11
    followed: int = 0  # through tuning: its place among the readouts of 30_finetuning, 0 where it is not
    after_sft: str = ""  # the readout that makes this row of a model after SFT
    headline: bool = False  # in the first tables of RESULTS.md, for all corpora, whatever its scores

    @property
    def is_readout(self) -> bool:
        """Returns whether the row is read out of a trace."""
        return self.multi_label is not None


def select(field: str) -> list[str]:
    """Returns the names of the rows of METHODS that have a field (`is_readout`, `calibrated`, ...), in their order."""
    return [name for name, method in METHODS.items() if getattr(method, field)]


def readable(trace) -> list[str]:
    """Returns the readouts that a trace has the views for, and that have a form for its kind of labels."""
    return [
        name
        for name in select("is_readout")
        if set(METHODS[name].views) <= set(trace.settings["views"])
        and (trace.settings["pair_order"] == "both" or not METHODS[name].both_orders)
        and (METHODS[name].single_label or not trace.single_label)
    ]


def from_trace(trace, method: str, conventions: str = "ours") -> np.ndarray:
    """Returns the label probabilities of a trace by a readout, in the form that the trace's labels need.

    Returns (D, L), rows in the order of trace.documents, columns in that of trace.labels. Methods that ask questions
    give NaN where the trace records that a document failed (`alignment.same_documents` leaves it out).
    `conventions="released"` reads the unary breakdown of single-label sets as the code of the paper does. Raises
    ValueError for an unknown readout or convention, or a readout that has no form for single-label sets.
    """
    if conventions not in CONVENTIONS:
        raise ValueError(f"conventions {conventions!r} are not known: take {' or '.join(CONVENTIONS)}")
    if method not in (known := select("is_readout")):
        raise ValueError(f"unknown method {method!r}; choose one of {', '.join(known)}")
    chosen = METHODS[method]
    read = chosen.single_label if trace.single_label else chosen.multi_label
    if read is None:
        raise ValueError(f"{method} has no form for single-label sets; leave it out for this trace")
    if trace.single_label and conventions == "released":
        read = chosen.released or read
    return read(trace)


def _compare_to_none(trace):
    logits, present = _first_step(trace)
    return probabilities.uniform_where(~present, probabilities.compare_to_none(logits[:, :-1], logits[:, -1]))


def _first_step_softmax(trace):
    logits, present = _first_step(trace)
    return probabilities.uniform_where(~present, probabilities.first_step_softmax(logits[:, :-1]))


def _hard(trace):
    return probabilities.hard(trace.said())


def _hard_single(trace):
    return probabilities.hard_single(trace.said())


def _max_over_generations(trace):
    return probabilities.max_over_generations(probabilities.step_distributions(trace.step_logits()))


def _path_marginal(trace):
    return probabilities.path_marginal(probabilities.step_distributions(trace.step_logits()), trace.goes_on())


def _set_marginal(trace):
    return sets.middle(sets.from_trace(trace))


def _unary(trace):
    return _answered(trace, probabilities.unary, *_label_columns(trace))


def _unary_single(trace, conventions="ours"):
    return _answered(trace, partial(probabilities.unary_single, conventions=conventions), *_label_columns(trace))


def _pairwise(trace, outcomes=False):
    return _answered(trace, partial(probabilities.pairwise, outcomes=outcomes), trace.pairwise_wins())


def _pairwise_with_position(trace):
    return _answered(trace, probabilities.pairwise_with_position, trace.pairwise_wins(ordered=True))


def _pairwise_single(trace, outcomes=False):
    # Without the last row and column: none takes no part.
    wins = trace.pairwise_wins()[:, :-1, :-1]
    return _answered(trace, partial(probabilities.pairwise_single, outcomes=outcomes), wins)


def _first_step(trace):
    """Returns the first step's logits (D, L + 1), zeros where there is none, and who has one, bool (D,)."""
    logits, present = check_steps(trace.step_logits(), bounded=False)
    if not present.shape[1]:  # no document of the trace has a step
        return np.zeros((len(logits), logits.shape[2])), np.zeros(len(logits), dtype=bool)
    return np.where(present[:, :1], logits[:, 0], 0.0), present[:, 0]


def _label_columns(trace):
    """Returns the unary logits (D, L) of both answers, without none's: a question, not a label that can be chosen."""
    labels = len(trace.labels)
    return tuple(np.asarray(logits)[:, :labels] for logits in trace.unary_logits())


def _answered(trace, read, *arrays):
    """Returns read(*arrays) (D, L), with NaN for documents whose failure the trace records: they had no question."""
    kept = trace.complete()
    predicted = np.full((len(kept), len(trace.labels)), np.nan)
    predicted[kept] = read(*(array[kept] for array in arrays))
    return predicted


# The order is that of rows in tables. Names are those of data/published/table2_table5_alignment.csv where the paper has
# the row, so that rows can be joined.
METHODS = {
    method.name: method
    for method in (
        Method("zeros", "All zeros", "reference", "grey", "+"),
        Method("constant_0.1", "Constant 0.1", "reference", "grey", "x"),
        Method("uniform", "Uniform", "reference", "grey", "4"),
        Method("base_rate", "Base rate", "reference", "grey", "1"),
        Method("tfidf", "TF-IDF", "reference", "grey", "d", stacked=True),
        Method("noise_floor", "Noise floor", "reference", "black", "|"),
        Method(
            "compare_to_none",
            "Compare-to-none",
            "zero-shot",
            "blue",
            "o",
            views=("list",),
            multi_label=_compare_to_none,
            single_label=_first_step_softmax,
            calibrated=True,
            stacked=True,
            free=True,
            followed=3,
        ),
        Method(
            "hard_predictions",
            "Hard predictions",
            "zero-shot",
            "red",
            "X",
            views=("list",),
            multi_label=_hard,
            single_label=_hard_single,
            free=True,
            followed=1,
        ),
        Method(
            "unary_breakdown",
            "Unary breakdown",
            "zero-shot",
            "green",
            "s",
            views=("unary",),
            multi_label=_unary,
            single_label=_unary_single,
            released=partial(_unary_single, conventions="released"),
            calibrated=True,
            stacked=True,
            free=True,
            followed=4,
        ),
        Method(
            "binary_breakdown",
            "Binary breakdown",
            "zero-shot",
            "orange",
            "^",
            views=("pairwise",),
            multi_label=_pairwise,
            single_label=_pairwise_single,
            calibrated=True,
            stacked=True,
            free=True,
        ),
        Method(
            "binary_breakdown_outcomes",
            "Binary breakdown (outcomes)",
            "zero-shot",
            "orange",
            "v",
            views=("pairwise",),
            multi_label=partial(_pairwise, outcomes=True),
            single_label=partial(_pairwise_single, outcomes=True),
        ),
        Method(
            "binary_breakdown_position",
            "Binary breakdown (position term)",
            "zero-shot",
            "orange",
            "<",
            views=("pairwise",),
            multi_label=_pairwise_with_position,
            both_orders=True,
        ),
        Method(
            "max_over_generations",
            "Max-over-generations",
            "zero-shot",
            "pink",
            "D",
            views=("list",),
            multi_label=_max_over_generations,
            calibrated=True,
            stacked=True,
            followed=2,
        ),
        Method("path_marginal", "Path marginal", "zero-shot", "sky", "P", ("list",), _path_marginal),
        Method("set_marginal", "Set marginal", "zero-shot", "brown", "h", ("sets",), _set_marginal),
        Method("linear_probing", "Linear probing", "supervised", "blue", "<"),
        Method("bert_demux", "BERT (Demux)", "supervised", "green", ">"),
        Method("demux_soft", "Demux, soft targets", "supervised", "pink", ">", stacked=True),
        Method("encoder_soft", "Encoder, soft targets", "supervised", "sky", "p", stacked=True),
        Method("encoder_blend", "Encoder and TF-IDF, blended", "supervised", "green", "8", headline=True),
        Method("frozen_encoder", "Frozen encoder", "supervised", "orange", "p", stacked=True),
        Method("stacking", "Stacking", "supervised", "brown", "*", headline=True),
        Method("sft_outputs", "SFT outputs", "supervised", "red", "P", after_sft="hard_predictions"),
        Method(
            "sft_max_over_generations",
            "SFT max-over-generations",
            "supervised",
            "pink",
            "H",
            after_sft="max_over_generations",
        ),
    )
}
