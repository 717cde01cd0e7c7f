"""Further measures of the field over many methods on the same documents, as one tidy table (`mlutils.measures`).

Noise floors of distances and of F1 are as good as the fitted prior. Those that hang on entropies need more of it than
three votes show: on generated truths (three beta distributions, 6,000 documents) with three annotators the attenuation
of the entropy correlation came out 14 to 19 % too low, so corrected correlations up to a quarter too high, EntCE 4 to
44 % and the Jensen-Shannon distance 3 to 39 % too high; with five annotators all three within 5 %.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd

from mlutils import metrics
from mlutils.corpora import Corpus
from mlutils.measures import MEASURES, measure
from mlutils.readouts import alignment

COLUMNS = [column for column in alignment.COLUMNS if column != "best"]
RESAMPLES, WORK = 1_000, 4_000_000  # of documents, and the most that are drawn (fewer resamples of large samples)
DRAWS, FLOOR_RESAMPLES = 100, 200  # of true shares for the noise floor, and of documents for its interval


def tabulate(
    predicted: Mapping[tuple[str, str], np.ndarray], corpus: Corpus, train: Corpus, documents: str = "", seed: int = 0
) -> pd.DataFrame:
    """Returns one row a model, method and measure, the noise floor's among them, with 95 % interval over documents.

    predicted: (model, method) -> (D, L), of documents that all have votes; no row where they have none. train: as
    `alignment.score_noise_floor`. documents: as `alignment.tabulate`. A measure that is unknown, as the correlation of
    a constant, is NaN. The interval of one that corrects another leaves out what is uncertain about the noise floor.
    """
    if not corpus.has_votes.any():
        return pd.DataFrame(columns=COLUMNS)
    counts = draw_counts(len(corpus), seed)
    found = {
        row: {name: f(values, corpus.votes) for name, f in _functions(corpus, counts).items()}
        for row, values in predicted.items()
    }
    some = _functions(corpus, counts[: 1 + FLOOR_RESAMPLES])
    floor = alignment.score_noise_floor(corpus, train, seed, some, DRAWS)
    found["", "noise_floor"] = floor
    for by_measure in found.values():
        for name, each in MEASURES.items():
            if each.corrects:
                by_measure[name] = by_measure[each.corrects] / floor[each.corrects][0]
    place = [corpus.name, documents or alignment.describe_documents(corpus)]
    rows = [
        [*place, *row, name, *_interval(by_measure[name], len(corpus)), len(corpus)]
        for row, by_measure in found.items()
        for name in MEASURES
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _functions(corpus, counts):
    """Returns name -> f(predicted, votes) -> (R,) of the measures that correct no other."""
    given = {"annotators": corpus.annotators, "single_label": corpus.single_label, "counts": counts}
    return {name: partial(measure, name, **given) for name, each in MEASURES.items() if not each.corrects}


def draw_counts(documents: int, seed: int = 0) -> np.ndarray:
    """Returns how often each document counts (R, D): once in the first row, then as in resamples."""
    resamples = int(np.clip(WORK // documents, 100, RESAMPLES))
    drawn = metrics.resample_counts(documents, resamples, seed)
    return np.concatenate([np.ones((1, documents)), *drawn])


def _interval(values, documents):
    """Returns the value of the sample, and its 95 % interval over the resamples where it is known.

    It is the percentile interval, moved by the bias of the resamples: documents that count twice make a calibration
    error larger, so much that all resamples may lie above the value. What is never below zero has no end there.
    """
    known = values[1:][~np.isnan(values[1:])]
    if np.isnan(values[0]) or not len(known) or documents == 1:
        return float(values[0]), np.nan, np.nan
    low, high = np.quantile(known, [0.025, 0.975]) + values[0] - known.mean()
    return float(values[0]), float(max(low, 0) if known.min() >= 0 else low), float(high)
