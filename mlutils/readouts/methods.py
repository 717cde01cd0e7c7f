"""Turns logits into label probabilities: one function a method (section 6, Tables 2 and 5), and a registry of
them.

The functions take arrays and know no trace. Where a step holds L + 1 numbers, none is last. A document
without a label step says nothing about its labels and gets 1/L for each (section 4).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import expit, softmax

from mlutils.readouts import bradley_terry, sets
from mlutils.readouts.checks import refuse_rows


def compare_to_none(label_logits, none_logits) -> np.ndarray:
    """Returns sigmoid(s_l - s_none) at the first label step.

    label_logits: (D, L), none_logits: (D,). Returns (D, L), rows need not sum to one.
    Raises ValueError for logits that are not finite and for shapes that do not fit.
    """
    label_logits = _finite("label_logits", label_logits, 2)
    none_logits = _finite("none_logits", none_logits, 1)
    if len(none_logits) != len(label_logits):
        raise ValueError(f"label_logits have {len(label_logits)} documents and none_logits {len(none_logits)}")
    return expit(label_logits - none_logits[:, None])


def first_step_softmax(label_logits) -> np.ndarray:
    """Returns the softmax over the labels at the first label step: compare-to-none for single-label sets.

    label_logits: (D, L) without none. Returns (D, L), rows sum to one. Raises ValueError for logits not
    finite.
    """
    return softmax(_finite("label_logits", label_logits, 2), axis=1)


def hard(said, eps=1e-8) -> np.ndarray:
    """Returns 1 - eps for labels in the answer and eps for the others.

    said: bool (D, L). Returns (D, L). Raises ValueError for another type or shape.
    """
    return np.where(_said(said), 1 - eps, eps)


def hard_single(said, eps=1e-8) -> np.ndarray:
    """Returns the label said as a one-hot row clipped to [eps, 1 - eps], for single-label sets.

    Several labels said share the row evenly; no label said gives 1/L. said: bool (D, L). Returns (D, L).
    Raises ValueError for another type or shape.
    """
    said = _said(said)
    said = np.where(said.any(axis=1, keepdims=True), said, True)
    return np.clip(said / said.sum(axis=1, keepdims=True), eps, 1 - eps)


def max_over_generations(step_probabilities) -> np.ndarray:
    """Returns each label's largest probability over the label steps; 1/L for a document without a step.

    step_probabilities: (D, R, L + 1), a missing step is NaN throughout, none last. Returns (D, L).
    Raises ValueError for a step that is missing in part or before another, or outside [0, 1].
    """
    steps, present = _steps(step_probabilities)
    largest = np.where(present[..., None], steps, 0.0)[..., :-1].max(axis=1, initial=0.0)
    return _uniform_where(~present.any(axis=1), largest)


def path_marginal(step_probabilities, goes_on) -> np.ndarray:
    """Returns P(l is in the answer) along the greedy path (section 7): the sum over steps of P(step is
    reached) p(l | step).

    A step is reached if the list went on after every earlier one. Sums over one are cut to one (a model can
    give a label mass twice); 1/L for a document without a step. step_probabilities: (D, R, L + 1) as in
    `max_over_generations`; goes_on: (D, R), probability that another label follows step r, read only where
    step r + 1 exists. Returns (D, L). Raises ValueError as `max_over_generations` does, and where goes_on is
    needed and missing or outside [0, 1].
    """
    steps, present = _steps(step_probabilities)
    goes_on = np.asarray(goes_on, dtype=float)
    if goes_on.shape != present.shape:
        raise ValueError(f"goes_on must have shape {present.shape}, one number a step; got {goes_on.shape}")
    going = np.where(present[:, 1:], goes_on[:, :-1], 0.0)
    refuse_rows(~((going >= 0) & (going <= 1)).all(axis=1), "goes_on is missing or outside [0, 1] before a later step")
    reached = np.ones(present.shape)
    reached[:, 1:] = np.cumprod(going, axis=1)
    total = (reached[..., None] * np.where(present[..., None], steps, 0.0))[..., :-1].sum(axis=1)
    return _uniform_where(~present.any(axis=1), np.minimum(total, 1.0))


def unary(yes_logits, no_logits) -> np.ndarray:
    """Returns P(reasonable) against unreasonable for each label: the unary breakdown.

    yes_logits, no_logits: (D, L). Returns (D, L). Raises ValueError for logits not finite or of different
    shape.
    """
    return expit(_log_odds(yes_logits, no_logits))


def unary_single(yes_logits, no_logits, conventions="ours") -> np.ndarray:
    """Returns the softmax over labels of the log-odds of reasonable, for single-label sets (section 8).

    `conventions="released"`: of the probabilities, as the code of the paper, which is nearly uniform whatever the model
    says. yes_logits, no_logits: (D, L). Returns (D, L), rows sum to one. Raises ValueError as `unary` does.
    """
    odds = _log_odds(yes_logits, no_logits)
    return softmax(expit(odds) if conventions == "released" else odds, axis=1)


def pairwise(wins, outcomes=False) -> np.ndarray:
    """Returns sigmoid(score_l - score_none) of the Bradley-Terry scores: the pairwise (binary) breakdown.

    wins: (D, L + 1, L + 1), wins[d, i, j] = P(i beats j), none last, NaN where a pair was not asked. `outcomes` rounds
    them to 0 and 1 first; a tie stays one half. Pairs that are all one half give 0.5. Returns (D, L), rows need not sum
    to one. Raises ValueError as `bradley_terry.fit` does, and where a label or none is in no pair.
    """
    scores = _scores(wins, outcomes)
    return expit(scores[:, :-1] - scores[:, -1:])


def pairwise_with_position(first_wins) -> np.ndarray:
    """Returns `pairwise` with a preference for whichever label stands first, one for all documents, taken out.

    first_wins: (D, L + 1, L + 1), [d, i, j] = P(i beats j) where i stood at a, pairs asked in both orders. Returns
    (D, L). Raises ValueError as `bradley_terry.fit_with_position` does.
    """
    scores = bradley_terry.fit_with_position(first_wins)[0]
    return expit(scores[:, :-1] - scores[:, -1:])


def pairwise_single(wins, outcomes=False) -> np.ndarray:
    """Returns the softmax of the labels' Bradley-Terry scores, for single-label sets, where none takes no part.

    wins: (D, L, L), else as `pairwise`. Returns (D, L), rows sum to one.
    """
    return softmax(_scores(wins, outcomes), axis=1)


def step_distributions(step_logits) -> np.ndarray:
    """Returns the softmax of each label step over the labels and none (section 4); missing steps stay NaN.

    step_logits: (D, R, L + 1), a missing step is NaN throughout. Returns the same shape.
    Raises ValueError for a step that is missing in part, infinite, or before another.
    """
    logits, present = _steps(step_logits, bounded=False)
    return np.where(present[..., None], softmax(np.where(present[..., None], logits, 0.0), axis=-1), np.nan)


@dataclass(frozen=True)
class Method:
    """A way to read label probabilities out of a trace; `single_label` is None where it has no such form."""

    name: str
    title: str
    views: tuple[str, ...]
    multi_label: Callable
    single_label: Callable | None
    both_orders: bool = False  # needs pairs that were asked in both orders


def from_trace(trace, method, conventions="ours") -> np.ndarray:
    """Returns the label probabilities of a trace by a method of METHODS, in the form that the trace's labels
    need.

    Returns (D, L), rows in the order of trace.documents, columns in that of trace.labels. Methods that ask questions
    give NaN where the trace records that a document failed (`alignment.same_documents` leaves it out).
    `conventions="released"` reads the unary breakdown of single-label sets as the code of the paper does.
    Raises ValueError for an unknown method or convention, or a method that has no form for single-label sets.
    """
    if conventions not in ("ours", "released"):
        raise ValueError(f"conventions {conventions!r} are not known: take ours or released")
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; choose one of {', '.join(METHODS)}")
    chosen = METHODS[method]
    read = chosen.single_label if trace.single_label else chosen.multi_label
    if read is None:
        raise ValueError(f"{method} has no form for single-label sets; leave it out for this trace")
    return read(trace, conventions) if read is _unary_single else read(trace)


def readable(trace) -> list[str]:
    """Returns the methods of METHODS that a trace has the views for, and a form for its kind of labels."""
    return [
        name
        for name, method in METHODS.items()
        if set(method.views) <= set(trace.settings["views"])
        and (trace.settings["pair_order"] == "both" or not method.both_orders)
        and (method.single_label if trace.single_label else method.multi_label) is not None
    ]


def _compare_to_none(trace):
    logits, present = _first_step(trace)
    return _uniform_where(~present, compare_to_none(logits[:, :-1], logits[:, -1]))


def _first_step_softmax(trace):
    logits, present = _first_step(trace)
    return _uniform_where(~present, first_step_softmax(logits[:, :-1]))


def _hard(trace):
    return hard(trace.said())


def _hard_single(trace):
    return hard_single(trace.said())


def _max_over_generations(trace):
    return max_over_generations(step_distributions(trace.step_logits()))


def _path_marginal(trace):
    return path_marginal(step_distributions(trace.step_logits()), trace.goes_on())


def _set_marginal(trace):
    return sets.middle(sets.from_trace(trace))


def _unary(trace):
    return _answered(trace, unary, *_label_columns(trace))


def _unary_single(trace, conventions):
    return _answered(trace, partial(unary_single, conventions=conventions), *_label_columns(trace))


def _pairwise(trace, outcomes=False):
    return _answered(trace, partial(pairwise, outcomes=outcomes), trace.pairwise_wins())


def _pairwise_with_position(trace):
    return _answered(trace, pairwise_with_position, trace.pairwise_wins(ordered=True))


def _pairwise_single(trace, outcomes=False):
    return _answered(trace, partial(pairwise_single, outcomes=outcomes), trace.pairwise_wins()[:, :-1, :-1])


# Names and titles as in the paper's tables (data/published/table2_table5_alignment.csv), so that rows can be
# joined.
METHODS = {
    method.name: method
    for method in (
        Method("compare_to_none", "Compare-to-none", ("list",), _compare_to_none, _first_step_softmax),
        Method("hard_predictions", "Hard predictions", ("list",), _hard, _hard_single),
        Method("unary_breakdown", "Unary breakdown", ("unary",), _unary, _unary_single),
        Method("binary_breakdown", "Binary breakdown", ("pairwise",), _pairwise, _pairwise_single),
        Method(
            "binary_breakdown_outcomes",
            "Binary breakdown (outcomes)",
            ("pairwise",),
            partial(_pairwise, outcomes=True),
            partial(_pairwise_single, outcomes=True),
        ),
        Method(
            "binary_breakdown_position",
            "Binary breakdown (position term)",
            ("pairwise",),
            _pairwise_with_position,
            None,
            both_orders=True,
        ),
        Method("max_over_generations", "Max-over-generations", ("list",), _max_over_generations, None),
        Method("path_marginal", "Path marginal", ("list",), _path_marginal, None),
        Method("set_marginal", "Exact set marginals", ("sets",), _set_marginal, None),
    )
}


def _first_step(trace):
    """Returns the first step's logits (D, L + 1), zeros where there is none, and who has one."""
    logits, present = _steps(trace.step_logits(), bounded=False)
    if not present.shape[1]:  # no document of the trace has a step
        return np.zeros((len(logits), logits.shape[2])), np.zeros(len(logits), dtype=bool)
    return np.where(present[:, :1], logits[:, 0], 0.0), present[:, 0]


def _label_columns(trace):
    """Returns the unary logits of the labels, without none's: it is a question, not a label that can be
    chosen.
    """
    labels = len(trace.labels)
    return tuple(np.asarray(logits)[:, :labels] for logits in trace.unary_logits())


def _answered(trace, read, *arrays):
    """Returns read(*arrays) (D, L), with NaN for documents whose failure the trace records: they had no question."""
    kept = trace.complete()
    predicted = np.full((len(kept), len(trace.labels)), np.nan)
    predicted[kept] = read(*(array[kept] for array in arrays))
    return predicted


def _scores(wins, outcomes):
    wins = np.asarray(wins, dtype=float)
    scores = bradley_terry.fit(bradley_terry.round_wins(wins) if outcomes else wins)  # checks the shape, too
    known = ~np.isnan(wins) & ~np.eye(wins.shape[1], dtype=bool)
    refuse_rows(~(known | known.transpose(0, 2, 1)).any(axis=2).all(axis=1), "a label or none is in no pair")
    return scores


def _log_odds(yes_logits, no_logits):
    yes_logits, no_logits = _finite("yes_logits", yes_logits, 2), _finite("no_logits", no_logits, 2)
    if yes_logits.shape != no_logits.shape:
        raise ValueError(f"yes_logits and no_logits must have one shape; got {yes_logits.shape}, {no_logits.shape}")
    return yes_logits - no_logits


def _uniform_where(rows, probabilities):
    return np.where(rows[:, None], 1 / probabilities.shape[1], probabilities)


def _said(said):
    said = np.asarray(said)
    if said.dtype != bool or said.ndim != 2:
        raise ValueError(f"said must be bool of shape (D, L); got {said.dtype} of shape {said.shape}")
    return said


def _finite(name, logits, dimensions):
    logits = np.asarray(logits, dtype=float)
    if logits.ndim != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimensions; got shape {logits.shape}")
    refuse_rows(~np.isfinite(logits.reshape(len(logits), -1)).all(axis=1), f"{name} is NaN or infinite")
    return logits


def _steps(steps, bounded=True):
    """Returns the steps (D, R, L + 1) and which of them are there (D, R), or refuses what cannot be a padded
    list.
    """
    steps = np.asarray(steps, dtype=float)
    if steps.ndim != 3 or steps.shape[2] < 2:
        raise ValueError(f"steps must have shape (D, R, L + 1), none last; got {steps.shape}")
    present = ~np.isnan(steps).all(axis=2)
    broken = present & ~np.isfinite(steps).all(axis=2)
    refuse_rows(broken.any(axis=1), "a label step is NaN in part or infinite")
    refuse_rows((present[:, 1:] & ~present[:, :-1]).any(axis=1), "a label step comes after a missing one")
    if bounded:
        outside = present & ((steps < -1e-9) | (steps > 1 + 1e-9)).any(axis=2)
        refuse_rows(
            outside.any(axis=1),
            "a step probability is outside [0, 1]; pass logits through step_distributions",
        )
    return steps, present
