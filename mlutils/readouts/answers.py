"""What answers come to as cases: label steps without labels said again, and how many different lists there are.

A label said again in its answer is no label step (docs/DEVELOPERS.md): this is the one place that takes such steps out.
"""

from collections.abc import Hashable, Iterable

import numpy as np
import pandas as pd
from scipy.stats import entropy

from mlutils.sets import REPEATS


def find_starts(document: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Returns for each of N label steps the row of its answer's first one, int (N,).

    document (N,): rows of one document stand together; step (N,): from 1 upwards. Raises ValueError for a gap.
    """
    start = np.arange(len(step)) - step + 1
    follows = document[1:] == document[:-1]
    if (start < 0).any() or (document[start] != document).any() or (np.diff(step)[follows] != 1).any():
        raise ValueError("the label steps of a document must be 1, 2, ... without a gap: trace it again")
    return start


def number_steps(steps: pd.DataFrame, repeats: str = "excluded") -> pd.Series:
    """Returns r, the number of each label step in its answer, by the rows of `steps`: document, step, label.

    repeats: excluded numbers the steps whose label (or none) is said for the first time, and gives 0 to those at which
    it is said again; kept numbers all, as the paper does. Raises ValueError for other repeats, and as `find_starts`.
    """
    if repeats not in REPEATS:
        raise ValueError(f"repeats {repeats!r} are not known: take one of {', '.join(REPEATS)}")
    ordered = steps.sort_values(["document", "step"], kind="stable")
    step = ordered["step"].to_numpy(int)
    start = find_starts(pd.factorize(ordered["document"])[0], step)
    again = ordered.duplicated(["document", "label"]).to_numpy() & (repeats == "excluded")
    before = np.cumsum(again)
    number = np.where(again, 0, step - before + before[start])  # the first step of an answer is never taken out
    return pd.Series(number, ordered.index).reindex(steps.index)


def read_lists(trace, variant: str = "list") -> pd.Series:
    """Returns the different labels that each document's answer says, in their order: tuples by row, () for none."""
    answers = trace.answers[trace.answers["variant"] == variant]
    said = dict(zip(answers["document"], answers["said"], strict=True))
    return pd.Series([tuple(said.get(document, ())) for document in trace.documents["id"]], dtype=object)


def count_different(answers: Iterable[Hashable]) -> float:
    """Returns the effective number of different answers among cases, a value a case: the exponential of the entropy of
    how often each is given; 1 where all are alike, k where k are equally frequent, 0 without a case.
    """
    counts = pd.Series(answers, dtype=object).value_counts()
    return round(float(np.exp(entropy(counts))), 9) if len(counts) else 0.0  # five are 5, not 4.999...
