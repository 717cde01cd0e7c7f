"""Where later labels look: attention at the label steps from the second on, per token and segment (Table 6, C8)."""

import numpy as np
import pandas as pd

from mlutils import metrics
from mlutils.readouts import answers
from mlutils.readouts.claims import Statistic
from mlutils.traces import Trace, TraceError, matrix

SEGMENTS = {"input": "input_tokens", "answer": "answer_tokens", "first": "first_tokens", "shifted": "first_tokens"}
C8 = Statistic("C8", "attention per token: first tokens of earlier labels over input", 10)  # an order of magnitude


def summarise(trace: Trace, resamples: int = 10_000, seed: int = 0, repeats: str = "excluded") -> pd.DataFrame:
    """Returns Table 6, a row a quantity: segment, quantity, mean, low, high, steps, documents, different (answers).

    per_token (input, answer, first, shifted): percent of the attention that a token of the segment gets, mean over
    heads, layers, the label steps of a document, and documents. share (input, answer): percent on the whole segment.
    ratio (answer, first, shifted): per_token over that of input. low, high: 95 % bootstrap interval over documents,
    NaN for fewer than two; all NaN where no answer has a second label. repeats: as in `steps.tabulate`; without the
    view list nothing tells which labels are said again: all steps count, and different is NaN. Raises TraceError
    without the view attention.
    """
    table = read(trace, repeats)
    masses = _masses(table).mean(axis=2)
    per_token = 100 * masses / _tokens(table)
    means, drawn = _resample(_by_document(table, np.hstack([per_token, 100 * masses[:, :2]])), resamples, seed)
    quantities = [(name, "per_token") for name in SEGMENTS] + [("input", "share"), ("answer", "share")]
    ratios = [(name, "ratio") for name in list(SEGMENTS)[1:]]
    means, drawn = (np.concatenate([each, each[..., 1:4] / each[..., :1]], axis=-1) for each in (means, drawn))
    return _tabulate(trace, table, pd.DataFrame([*quantities, *ratios], columns=["segment", "quantity"]), means, drawn)


def by_layer(trace: Trace, resamples: int = 10_000, seed: int = 0, repeats: str = "excluded") -> pd.DataFrame:
    """Returns Table 6 layer by layer: layer (from 1), segment, mean, low, high, steps, documents, different.

    The mean is in percent per token, as `summarise` has it before it averages over layers; no rows where no answer has
    a second label. Raises TraceError without the view attention.
    """
    table = read(trace, repeats)
    masses = _masses(table)
    per_token = 100 * masses / _tokens(table)[:, :, None]
    names = pd.MultiIndex.from_product([SEGMENTS, range(1, 1 + masses.shape[2])], names=["segment", "layer"])
    means, drawn = _resample(_by_document(table, per_token.reshape(len(table), len(names))), resamples, seed)
    found = _tabulate(trace, table, names.to_frame(index=False)[["layer", "segment"]], means, drawn)
    return found if len(table) else found.iloc[:0]


def read(trace: Trace, repeats: str = "excluded") -> pd.DataFrame:
    """Returns the rows of the view attention at the label steps from the second on, r as `answers.number_steps` has it;
    see `summarise`.
    """
    if "attention" not in trace.settings["views"]:
        raise TraceError(f"{trace.folder} has no view attention: trace with asked=[list, attention]")
    table = trace.table("attention")
    if "list" not in trace.settings["views"]:
        return table
    steps = trace.steps[trace.steps["variant"] == "list"]
    numbers = steps[["document", "step"]].assign(number=answers.number_steps(steps, repeats))
    table = table.merge(numbers[numbers["number"] > 0], on=["document", "step"])
    return table.assign(step=table.pop("number"))


def _masses(table: pd.DataFrame) -> np.ndarray:
    """Returns the mass by step, segment and layer, (N, 4, layers)."""
    layers = len(table["input"].iloc[0]) if len(table) else 1
    return np.stack([matrix(table[name], layers) for name in SEGMENTS], axis=1)


def _tokens(table: pd.DataFrame) -> np.ndarray:
    """Returns the number of tokens by step and segment, (N, 4)."""
    return table[list(SEGMENTS.values())].to_numpy(float)


def _by_document(table: pd.DataFrame, values: np.ndarray) -> np.ndarray:
    """Returns the means over the steps of each document, (D, columns): steps of a document are not independent."""
    return pd.DataFrame(values).groupby(table["document"].to_numpy(), sort=False).mean().to_numpy()


def _resample(values: np.ndarray, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the column means of (D, C) values, and of their resamples over documents, (resamples, C).

    All columns are drawn together, with the draws of `metrics.bootstrap`.
    """
    count, columns = values.shape
    if count < 2:
        means = values[0] if count else np.full(columns, np.nan)
        return means, np.full((1, columns), np.nan)
    drawn = [times @ values / count for times in metrics.resample_counts(count, resamples, seed)]
    return values.mean(axis=0), np.concatenate(drawn)


def _tabulate(
    trace: Trace, table: pd.DataFrame, names: pd.DataFrame, means: np.ndarray, drawn: np.ndarray
) -> pd.DataFrame:
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    counts = {"steps": len(table), "documents": table["document"].nunique(), "different": np.nan}
    if "list" in trace.settings["views"]:
        later = trace.documents["id"].isin(table["document"])
        counts["different"] = answers.count_different(answers.read_lists(trace)[later])
    return names.assign(mean=means, low=low, high=high, **counts)
