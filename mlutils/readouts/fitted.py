"""Rows fitted on documents set aside: calibrations, prevalence shifts, a stack of views, decisions.

A row is (model, method); `predicted` holds the tested documents' probabilities (D, L) by row, `aside` those of training
documents that nothing was trained on and no demonstration shows. Where there are none, fitting is by cross-fitting on
the tested documents, and the row's name says so.

Which readouts are calibrated and shifted, and which rows are stacked, stands in `methods.METHODS`. A row whose
documents are too few or too much alike is an error, or left out and noted in `left_out`, (model, method) -> reason.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from mlutils import metrics
from mlutils.corpora import Corpus
from mlutils.readouts import calibration, methods, stacking

PREVALENCES = ("train", "natural", "demonstrations", "tested")

Rows = Mapping[tuple[str, str], np.ndarray]


def attempt(left_out: dict | None, row: tuple[str, str], fit: Callable, *arguments, **named):
    """Returns what `fit` returns for these arguments; None where nothing can be fitted, and the row is then left out.

    Without `left_out` that is the FitError that it raises.
    """
    try:
        return fit(*arguments, **named)
    except calibration.FitError as error:
        if left_out is None:
            raise
        left_out[row] = str(error)
        return None


def calibrate(
    predicted: Rows,
    votes: ArrayLike,
    aside: Rows,
    aside_votes: ArrayLike | None,
    single_label: bool = False,
    seed: int = 0,
    left_out: dict | None = None,
) -> dict:
    """Returns for each readout `_calibrated`, with one slope and offset, and `_offsets`, with one a label, shrunk.

    Readouts that are not in `aside` are fitted on other tested documents instead, and named `_crossfitted`.
    Raises ValueError as `calibration.fit` does.
    """
    rows, calibrated = {}, methods.select("calibrated")
    for (model, method), values in predicted.items():
        if method not in calibrated:
            continue
        if (model, method) not in aside:
            row = model, f"{method}_crossfitted"
            rows[row] = attempt(
                left_out, row, calibration.cross_fit, values, votes, seed=seed, single_label=single_label
            )
            continue
        for suffix, offsets in (("calibrated", False), ("offsets", True)):
            row, known = (model, f"{method}_{suffix}"), (aside[model, method], aside_votes, offsets, single_label)
            fitted = attempt(left_out, row, calibration.fit, *known, seed=seed)
            rows[row] = None if fitted is None else calibration.apply(fitted, values)
    return _without_none(rows)


def shift(predicted: Rows, prevalence: ArrayLike, single_label: bool = False) -> dict:
    """Returns for each readout `_shifted`: the mean over the tested documents is the prevalence (L,), by offsets."""
    calibrated = methods.select("calibrated")
    return {
        (model, f"{method}_shifted"): calibration.shift_prevalence(values, prevalence, single_label)
        for (model, method), values in predicted.items()
        if method in calibrated
    }


def find_prevalence(
    which: str, tested: Corpus, train: Corpus, aside: Corpus | None, shown: Iterable[str] = ()
) -> np.ndarray:
    """Returns the prevalence of each label, (L,), among whom `which` names.

    `train`: documents set aside, drawn like the tested ones; `natural`: all training documents; `demonstrations`: the
    documents whose ids are in `shown`; `tested`: the tested documents themselves (transductive). Raises ValueError for
    another name, and where there are no such documents.
    """
    groups = {
        "train": aside,
        "natural": train,
        "demonstrations": train.take(train.documents["id"].isin(list(shown)).to_numpy()),
        "tested": tested,
    }
    if which not in groups:
        raise ValueError(f"prevalence {which!r} is not known: take one of {', '.join(PREVALENCES)}")
    if groups[which] is None or not len(groups[which]):
        raise ValueError(f"there are no documents for prevalence {which!r}: take another of {', '.join(PREVALENCES)}")
    return calibration.prevalence(groups[which].votes)


def stack(
    predicted: Rows,
    votes: ArrayLike,
    aside: Rows,
    aside_votes: ArrayLike | None,
    single_label: bool = False,
    seed: int = 0,
    left_out: dict | None = None,
) -> tuple[dict, dict]:
    """Returns the stack's row of the tested documents, and of those set aside (cross-fitted, to fit decisions on).

    Views are the stacked rows that both have; where they share none, the stack is cross-fitted on the tested documents
    and named `stacking_crossfitted`. Two empty dicts where there is no view.
    """
    stacked = methods.select("stacked")
    views = {row: values for row, values in predicted.items() if row[1] in stacked}
    shared = [row for row in views if row in aside]
    if not views:
        return {}, {}
    how = {"seed": seed, "single_label": single_label}
    row = "", "stacking" if shared else "stacking_crossfitted"
    if not shared:
        return _without_none({row: attempt(left_out, row, stacking.cross_fit, _named(views, views), votes, **how)}), {}
    known = _named(aside, shared), aside_votes
    held = attempt(left_out, row, stacking.cross_fit, *known, **how)  # nested, so that it needs most documents
    if held is None:
        return {}, {}
    return {row: stacking.apply(stacking.fit_stack(*known, **how), _named(views, shared))}, {row: held}


def decide(
    values: ArrayLike,
    votes: ArrayLike,
    held: ArrayLike | None = None,
    held_votes: ArrayLike | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Returns the label sets with the best expected example-F1, bool (D, L), by chances calibrated to majorities.

    held, held_votes: what the same method predicts for documents set aside, (N, L); without them the calibration is
    cross-fitted on the tested documents. For multi-label sets.
    """
    if held is None:
        return calibration.decide(calibration.cross_fit(values, _majority(votes), seed=seed, offsets=True))
    fitted = calibration.fit(held, _majority(held_votes), offsets=True, seed=seed)
    return calibration.decide(calibration.apply(fitted, values))


def _without_none(rows):
    return {row: values for row, values in rows.items() if values is not None}


def _majority(votes):
    return metrics.label_set(votes).astype(float)


def _named(rows, chosen):
    return {f"{model} {method}".strip(): rows[model, method] for model, method in chosen}
