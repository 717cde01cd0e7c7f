"""What the answers of the views `ratio` and `order` say: how many labels (Fig. 6), and in which order (Table 7)."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from mlutils import metrics
from mlutils.readouts import answers, steps
from mlutils.traces import TraceError


def names(trace, view: str) -> list[str]:
    """Returns the variants of a view in a trace, in the order asked. Raises TraceError where it has no such view."""
    found = [name for name in trace.settings.get("variants", {}) if name.startswith(f"{view}=")]
    if not found:
        raise TraceError(f"{trace.folder} has no view {view}: trace with asked=[list, {view}]")
    return found


def plans(trace, name: str) -> np.ndarray:
    """Returns which of a variant's plans of demonstrations each document is shown, int (D,): documents take turns.

    As `tracing.demonstrations.Plan.of` says; where a plan is shared there is one for all documents.
    """
    drawn = trace.settings["variants"][name]["plan"]["ids"]
    return np.arange(len(trace.documents)) % len(drawn)


def count_several(trace) -> pd.DataFrame:
    """Returns the share of answers with two or more labels for each share of multi-label demonstrations (Fig. 6).

    Columns: ratio (0 to 1), share, low, high (95 %), n (documents), different (answers), plans, labels (mean number),
    unread (answers that the parser did not read as a list; they count as fewer than two labels). The interval resamples
    plans with all their documents, for an answer hangs on the demonstrations shown: NaN for a single plan, a little too
    narrow for few, and the exact binomial one of as many trials as plans where all answers are alike. Raises TraceError
    without the view ratio.
    """
    rows = []
    kept = trace.complete()
    for name in names(trace, "ratio"):
        counts, shown = trace.said(name)[kept].sum(axis=1), plans(trace, name)[kept]
        given = trace.answers[trace.answers["variant"] == name]
        unread = int((given["status"] == "not a list").sum())
        share, low, high = metrics.bootstrap(counts >= 2, clusters=shown)
        number = len(np.unique(shown))
        if share in (0, 1) and number > 1:  # every resample is the same, as if nothing else could be
            low, high = binomtest(round(share * number), number).proportion_ci(0.95)
        different = answers.count_different(answers.read_lists(trace, name)[kept])
        rows.append([_ratio(name), share, low, high, len(counts), different, number, counts.mean(), unread])
    return pd.DataFrame(rows, columns=["ratio", "share", "low", "high", "n", "different", "plans", "labels", "unread"])


def count_by_plan(trace) -> pd.DataFrame:
    """Returns the share of answers with two or more labels behind each plan of demonstrations (the dots of Fig. 6).

    Columns: ratio, plan (from 0), share, n (documents). Raises TraceError without the view ratio.
    """
    kept = trace.complete()
    rows = []
    for name in names(trace, "ratio"):
        several, shown = trace.said(name)[kept].sum(axis=1) >= 2, plans(trace, name)[kept]
        found = [(plan, several[shown == plan]) for plan in np.unique(shown)]
        rows += [[_ratio(name), plan, each.mean(), len(each)] for plan, each in found]
    return pd.DataFrame(rows, columns=["ratio", "plan", "share", "n"])


def follow(trace, seed: int = 0) -> tuple[float, float, float, int]:
    """Returns the slope of the share of multi-label answers on that of demonstrations, its 95 % interval, and n (C6).

    1 is an answer that follows its demonstrations, 0 one that does not look at them. Plans are resampled, each with its
    documents and at all shares together; n counts plans. The interval is NaN for a single plan.
    """
    found = names(trace, "ratio")
    kept = trace.complete()
    ratios = np.array([_ratio(name) for name in found])
    several = np.stack([trace.said(name)[kept].sum(axis=1) >= 2 for name in found], axis=1)  # (D, shares)
    weights = (ratios - ratios.mean()) / ((ratios - ratios.mean()) ** 2).sum()
    shown = plans(trace, found[0])[kept]  # the same turns at all shares
    # The slope is a mean over documents.
    return (*metrics.bootstrap(several @ weights, seed=seed, clusters=shown), len(np.unique(shown)))


def count_different(trace, view: str) -> float:
    """Returns the effective number of different answers about documents that no view failed on, of the variant of a
    view with the fewest (C6, C9).
    """
    kept = trace.complete()
    return min(answers.count_different(answers.read_lists(trace, name)[kept]) for name in names(trace, view))


def _ratio(name: str) -> float:
    return float(name.partition("=")[2])


@dataclass(frozen=True)
class Ordered:
    """What the answers under one order of labels show."""

    alphabetical: np.ndarray  # bool (multi-label answers,): their labels stand in that order
    instruction: np.ndarray  # bool, likewise: in the order of the instruction
    changed: np.ndarray  # bool (D,): another set of labels than under the alphabetical order
    several: list[tuple]  # the multi-label answers
    answers: pd.Series  # all answers, (D,)


def read_order(trace, name: str) -> Ordered:
    """Returns how the answers of a variant of the view order are ordered, about documents no view failed on."""
    kept = trace.complete()
    listed = trace.settings["variants"][name]["label_order"]
    said = answers.read_lists(trace, name)[kept]
    several = [labels for labels in said if len(labels) >= 2]
    return Ordered(
        np.array([list(labels) == sorted(labels) for labels in several], bool),
        np.array([list(labels) == sorted(labels, key=listed.index) for labels in several], bool),
        (trace.said(name)[kept] != trace.said("order=alphabetical")[kept]).any(axis=1),
        several,
        said,
    )


def compare_orders(trace) -> pd.DataFrame:
    """Returns for each order of labels how the labels of multi-label answers are ordered (Table 7).

    Columns: order; alphabetical, instruction (share of multi-label answers whose labels stand in that order, with _low
    and _high); n (multi-label answers); different (of these); changed (share of documents whose set of labels differs
    from that under the alphabetical order, with _low, _high); documents; documents_different (answers to them, of the
    order with the fewest, the alphabetical one included). Random orders are one row, their answers together. An order
    that no answer shows (no multi-label answer) is NaN. Raises TraceError without the view order.
    """
    by_order: dict[str, list[Ordered]] = {}
    for name in names(trace, "order"):
        group = "random" if name.startswith("order=random") else name.partition("=")[2]
        by_order.setdefault(group, []).append(read_order(trace, name))
    rows = []
    for order, parts in by_order.items():
        alphabetical, instruction = (
            np.concatenate([getattr(part, which) for part in parts]) for which in ("alphabetical", "instruction")
        )
        changed = np.mean([part.changed for part in parts], axis=0)  # of a document, over the random orders
        several = [labels for part in parts for labels in part.several]
        fewest = min(answers.count_different(part.answers) for part in (*by_order["alphabetical"], *parts))
        row = {"order": order, "n": len(alphabetical), "different": answers.count_different(several)}
        row |= {"documents": len(changed), "documents_different": fewest}
        for column, values in (("alphabetical", alphabetical), ("instruction", instruction), ("changed", changed)):
            mean, low, high = metrics.bootstrap(values) if len(values) else (np.nan,) * 3
            row |= {column: mean, f"{column}_low": low, f"{column}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def drop_few(table: pd.DataFrame) -> pd.DataFrame:
    """Returns Table 7 to read: shares of ten multi-label answers or fewer are NaN, their number stays.

    table: of `compare_orders`. Shares of documents (changed) stay where there are more than ten of them.
    """
    read = table.copy()
    for share, number in (("alphabetical", "n"), ("instruction", "n"), ("changed", "documents")):
        read.loc[read[number] <= steps.FEWEST, [share, f"{share}_low", f"{share}_high"]] = np.nan
    return read


def reversed_gain(trace, seed: int = 0) -> tuple[float, float, float, int]:
    """Returns how much more often multi-label answers stand in a reversed instruction's order than alphabetically (C9).

    The mean over multi-label answers of (in the instruction's order) - (in alphabetical order), its 95 % interval, and
    their number; NaN and 0 where there are none.
    """
    found = read_order(trace, "order=reversed")
    gains = found.instruction.astype(float) - found.alphabetical
    return (*metrics.bootstrap(gains, seed=seed), len(gains)) if len(gains) else (np.nan, np.nan, np.nan, 0)


def changed_share(trace, seed: int = 0) -> tuple[float, float, float, int]:
    """Returns the share of documents whose set of labels another order changes, its 95 % interval, and n (C9).

    Of a document the mean over all orders but the alphabetical one, whose set is compared with.
    """
    others = [name for name in names(trace, "order") if name != "order=alphabetical"]
    changed = np.mean([read_order(trace, name).changed for name in others], axis=0)
    return (*metrics.bootstrap(changed, seed=seed), len(changed))
