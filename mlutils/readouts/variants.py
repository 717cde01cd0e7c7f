"""What the answers of the views `ratio` and `order` say: how many labels (Fig. 6), and in which order (Table 7)."""

import numpy as np
import pandas as pd

from mlutils import metrics
from mlutils.traces import TraceError


def names(trace, view: str) -> list[str]:
    """Returns the variants of a view in a trace, in the order asked. Raises TraceError where it has no such view."""
    found = [name for name in trace.settings.get("variants", {}) if name.startswith(f"{view}=")]
    if not found:
        raise TraceError(f"{trace.folder} has no view {view}: trace with asked=[list, {view}]")
    return found


def count_several(trace) -> pd.DataFrame:
    """Returns the share of answers with two or more labels for each share of multi-label demonstrations (Fig. 6).

    Columns: ratio (0 to 1), share, low, high (95 % over documents), n, labels (mean number), unread (answers that the
    parser did not read as a list; they count as fewer than two labels). Raises TraceError without the view ratio.
    """
    rows = []
    kept = trace.complete()
    for name in names(trace, "ratio"):
        counts = trace.said(name)[kept].sum(axis=1)
        answers = trace.answers[trace.answers["variant"] == name]
        unread = int((answers["status"] == "not a list").sum())
        rows.append(
            [float(name.partition("=")[2]), *metrics.bootstrap(counts >= 2), len(counts), counts.mean(), unread]
        )
    return pd.DataFrame(rows, columns=["ratio", "share", "low", "high", "n", "labels", "unread"])


def follow(trace, seed: int = 0) -> tuple[float, float, float, int]:
    """Returns the slope of the share of multi-label answers on that of demonstrations, its 95 % interval, and n (C6).

    1 is an answer that follows its demonstrations, 0 one that does not look at them; documents are resampled.
    """
    found = names(trace, "ratio")
    ratios = np.array([float(name.partition("=")[2]) for name in found])
    several = np.stack([trace.said(name)[trace.complete()].sum(axis=1) >= 2 for name in found], axis=1)  # (D, shares)
    weights = (ratios - ratios.mean()) / ((ratios - ratios.mean()) ** 2).sum()
    slopes = several @ weights  # the slope is a mean over documents
    return (*metrics.bootstrap(slopes, seed=seed), len(slopes))


def compare_orders(trace) -> pd.DataFrame:
    """Returns for each order of labels how the labels of multi-label answers are ordered (Table 7).

    Columns: order; alphabetical, instruction (share of multi-label answers whose labels stand in that order, with _low
    and _high); n (multi-label answers); changed (share of documents whose set of labels differs from that under the
    alphabetical order, with _low, _high); documents. Random orders are one row, their answers together. An order that
    no answer shows (no multi-label answer) is NaN. Raises TraceError without the view order.
    """
    kept = trace.complete()
    plain = trace.said("order=alphabetical")[kept]
    by_order: dict[str, list] = {}
    for name in names(trace, "order"):
        listed = trace.settings["variants"][name]["label_order"]
        said = trace.answers[trace.answers["variant"] == name].set_index("document")["said"]
        several = [list(labels) for labels in said.reindex(trace.documents["id"][kept]) if np.size(labels) >= 2]
        changed = (trace.said(name)[kept] != plain).any(axis=1)
        group = "random" if name.startswith("order=random") else name.partition("=")[2]
        by_order.setdefault(group, []).append((several, listed, changed))
    rows = []
    for order, parts in by_order.items():
        alphabetical = [labels == sorted(labels) for several, _, _ in parts for labels in several]
        instructed = [labels == sorted(labels, key=listed.index) for several, listed, _ in parts for labels in several]
        changed = np.mean([changed for *_, changed in parts], axis=0)  # of a document, over the random orders
        row = {"order": order, "n": len(alphabetical), "documents": len(changed)}
        for column, values in (("alphabetical", alphabetical), ("instruction", instructed), ("changed", changed)):
            mean, low, high = metrics.bootstrap(values) if len(values) else (np.nan,) * 3
            row |= {column: mean, f"{column}_low": low, f"{column}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def reversed_gain(trace, seed: int = 0) -> tuple[float, float, float, int]:
    """Returns how much more often multi-label answers stand in a reversed instruction's order than alphabetically (C9).

    The mean over multi-label answers of (in the instruction's order) - (in alphabetical order), its 95 % interval, and
    their number; NaN and 0 where there are none.
    """
    kept = trace.documents["id"][trace.complete()]
    answers = trace.answers[(trace.answers["variant"] == "order=reversed") & trace.answers["document"].isin(kept)]
    several = [list(labels) for labels in answers["said"] if np.size(labels) >= 2]
    gains = [float(labels == sorted(labels)[::-1]) - float(labels == sorted(labels)) for labels in several]
    return (*metrics.bootstrap(gains, seed=seed), len(gains)) if gains else (np.nan, np.nan, np.nan, 0)


def changed_share(trace, seed: int = 0) -> tuple[float, float, float, int]:
    """Returns the share of documents whose set of labels another order changes, its 95 % interval, and n (C9).

    Of a document the mean over all orders but the alphabetical one, whose set is compared with.
    """
    kept = trace.complete()
    plain = trace.said("order=alphabetical")[kept]
    others = [name for name in names(trace, "order") if name != "order=alphabetical"]
    changed = np.mean([(trace.said(name)[kept] != plain).any(axis=1) for name in others], axis=0)
    return (*metrics.bootstrap(changed, seed=seed), len(changed))
