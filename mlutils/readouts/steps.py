"""Label steps as one tidy table, and the paper's numbers read from it (Fig. 2, 3, 5, 9, 10, 11, Table 4).

All of it is arithmetic on whole arrays: a trace of 43,000 documents takes seconds.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import entropy

from mlutils.readouts import answers, claims, intervals
from mlutils.readouts.claims import Statistic
from mlutils.readouts.probabilities import step_distributions
from mlutils.traces import matrix

NONE = "none"
GROUPS = ("last", "intermediate")
QUANTITIES = ("first", "second", "next_said", "second_next", "second_is_next", "entropy")
SHARES = ("second_is_next",)  # quantities that are yes or no
HIGH = 0.9  # a step probability above it is counted as spiky
FEWEST = 10  # Fig. 5 drops points with so many documents or fewer
# What tells traces apart but their documents.
APART = ("family", "form", "shots", "new_tokens", "seed", "conventions", "label_tokens")
KEYS = ["model", "corpus"]
STATISTICS = {
    "spiky": Statistic("C1", "median over documents of the largest step probability at r = 1", 0.9),
    "later spiky": Statistic("C2", "median over documents of the largest step probability at r = 2", 0.9),
    "as spiky": Statistic("C2", "largest step probability at r = 2 minus at r = 1, mean over documents", -0.05),
    "told at 1": Statistic("C3", "AUC, largest probability telling last from intermediate steps, r = 1", 0.7, False),
    "told at 2": Statistic("C3", "AUC, largest probability telling last from intermediate steps, r = 2", 0.7, False),
    "not next": Statistic("C4", "share of intermediate steps whose second label is not said next", 0.2),
    "never": Statistic("C4", "of those, share whose second label is never said later (Table 4)", 0.5),
    "first better": Statistic("C5", "accuracy of the first label said minus the second, two or more gold labels", 0.0),
}


def tabulate(trace, variant: str = "list", conventions: str = "ours", repeats: str = "excluded") -> pd.DataFrame:
    """Returns one row a label step of a trace: the columns of `derive`, with labels by name, and document, mass (of the
    labels in the full softmax) and status (of the answer); documents without a label step have no row.

    conventions: ours takes the label that was generated, released the argmax of the step distribution, as in the
    paper's code. repeats: a label said again in its answer is no label step, and the steps behind it move up; kept
    reads it as one, as the paper does (`answers.number_steps`). Raises ValueError for a trace without the view list or
    the variant, and for steps that `derive` refuses.
    """
    if "list" not in trace.settings["views"]:
        raise ValueError(f"{trace.folder} has the views {trace.settings['views']}: trace with asked=[list, ...]")
    if conventions not in ("ours", "released"):
        raise ValueError(f"conventions {conventions!r} are not known: take ours or released")
    asked = trace.answers[trace.answers["variant"] == variant]
    if asked.empty:
        held = ", ".join(sorted(set(trace.answers["variant"])))
        raise ValueError(f"{trace.folder} has no answers of the variant {variant!r}: it has {held or 'none'}")
    steps, names = trace.steps[trace.steps["variant"] == variant], np.array([*trace.labels, NONE], dtype=object)
    rows = pd.Index(trace.documents["id"]).get_indexer(steps["document"])
    order = np.lexsort((steps["step"], rows))
    steps, rows = steps.iloc[order], rows[order]
    said = pd.Index(names).get_indexer(steps["label"])
    if (said < 0).any() or (rows < 0).any():
        raise ValueError(f"{trace.folder} has steps of labels or documents that are not its own: trace it again")
    logits = matrix(steps["logits"], len(names))  # (steps, L + 1)
    label = logits.argmax(axis=1) if conventions == "released" else said
    number = answers.number_steps(steps.assign(label=label), repeats).to_numpy()
    kept = number > 0
    steps, rows, number, said, logits = (each[kept] for each in (steps, rows, number, said, logits))
    columns = derive(rows, number, said, logits, trace.gold, conventions)
    for name in ("label", "top1", "second_label"):
        columns[name] = names[columns[name]]
    columns["next_label"] = np.where(columns["last"], None, names[columns["next_label"]])
    columns |= {"document": steps["document"].to_numpy(), "mass": steps["mass"].to_numpy(float)}
    columns["status"] = asked.set_index("document")["status"].reindex(steps["document"]).to_numpy()
    return pd.DataFrame({"document": columns.pop("document"), "step": columns.pop("step"), **columns})


def derive(
    document: ArrayLike,
    step: ArrayLike,
    said: ArrayLike,
    logits: np.ndarray,
    gold: np.ndarray,
    conventions: str = "ours",
) -> dict[str, np.ndarray]:
    """Returns what Fig. 2, 3, 5, 9, 10, 11 and Table 4 need of N label steps, as arrays (N,) under the columns' names.

    document (N,): rows of gold (D, L), ascending; step (N,): r, from 1 upwards within a document; said (N,): columns
    of logits (N, L + 1), none last. Labels come back as such columns (next_label of a last step means nothing); other
    missing values are NaN. Ties for a rank go to the first in the order of the labels, none last; `tied` marks steps
    whose second label shares its logit with another. `position` counts the distinct labels of an answer without none,
    0 for none and repeated labels; `answer` is the number of the list that the document's answer is (its different
    labels in their order), equal for equal lists. All steps given count: `tabulate` takes out repeated labels before.
    Raises ValueError for logits that are not finite and for steps that leave a gap.
    """
    document, step, said = (np.asarray(each, int) for each in (document, step, said))
    at = np.arange(len(step))
    follows = np.append(document[1:] == document[:-1], False)[: len(at)]  # the next row is of the same document
    start = answers.find_starts(document, step)
    probabilities = step_distributions(logits[:, None])[:, 0]  # (N, L + 1); refuses what is not finite
    ranked = np.argsort(-logits, axis=1, kind="stable")  # of logits: small probabilities may be equal by rounding
    top, second, after = ranked[:, 0], ranked[:, 1], np.where(follows, at + 1, at)
    label = top if conventions == "released" else said
    lists = np.full((len(gold), step.max(initial=1)), -1)  # (D, steps of the longest list)
    lists[document, step - 1] = label
    lists, ahead = lists[document], np.arange(1, lists.shape[1] + 1) - step[:, None]  # (N, steps of the longest list)
    second_later = (lists == second[:, None]) & (ahead > 0)
    repeated = ((lists == label[:, None]) & (ahead < 0)).any(axis=1)
    new = ~repeated & (label < gold.shape[1])
    running = np.cumsum(new)
    position = np.where(new, running - (running - new)[start], 0)
    listed = np.full((len(gold), lists.shape[1]), -1)  # (D, steps of the longest list), different labels only
    listed[document[new], position[new] - 1] = label[new]
    right = np.column_stack([gold, ~gold.any(axis=1)])  # (D, L + 1): none is right where no label is gold
    count = np.bincount(document, minlength=len(gold))
    distinct = np.bincount(document, weights=new, minlength=len(gold)).astype(int)
    return {
        "step": step,
        "steps": count[document],
        "last": ~follows,
        "label": label,
        "top1": top,
        "said_is_top1": said == top,
        "first": probabilities[at, top],
        "second": probabilities[at, second],
        "second_label": second,
        "tied": (logits == logits[at, second][:, None]).sum(axis=1) > 1,
        "entropy": entropy(probabilities, axis=1, base=2),  # bits, over the labels and none
        "next_label": label[after],
        "next_said": np.where(follows, probabilities[at, label[after]], np.nan),
        "second_next": np.where(follows, probabilities[after, second], np.nan),
        "second_is_next": np.where(follows, second == label[after], np.nan),
        "second_later": second_later.any(axis=1),
        "second_before": ((lists == second[:, None]) & (ahead < 0)).any(axis=1),
        "second_at": np.where(second_later.any(axis=1), second_later.argmax(axis=1) + 1, np.nan),
        "first_rank": 1 + (ranked[start] == label[:, None]).argmax(axis=1),  # rank of the said label at r = 1
        "gold": right[document, label],
        "gold_second": right[document, second],
        "gold_labels": gold.sum(axis=1)[document],
        "repeated": repeated,
        "distinct": distinct[document],
        "position": position,
        "answer": np.unique(listed, axis=0, return_inverse=True)[1].reshape(-1)[document],
    }


def gather(
    traces: Sequence, variant: str = "list", conventions: str = "ours", repeats: str = "excluded"
) -> pd.DataFrame:
    """Returns the rows of `tabulate` of several traces, with model and corpus; traces that share both are told apart
    by the settings in which they differ, written behind the model's name.

    Raises ValueError for two traces of one corpus with different label sets, for two that differ in nothing, and
    where there is no trace.
    """
    if not traces:
        raise ValueError("no trace with the view list: give folders of 10_trace in reads")
    frames, of_corpus = [], {}
    for name, trace in zip(name_models(traces), traces, strict=True):
        other = of_corpus.setdefault(trace.settings["corpus"], trace)
        if trace.labels != other.labels:
            raise ValueError(
                f"{other.folder} and {trace.folder} have different labels ({', '.join(other.labels)} against "
                f"{', '.join(trace.labels)}): one figure compares one label set, run the notebook for each"
            )
        frames.append(
            tabulate(trace, variant, conventions, repeats).assign(model=name, corpus=trace.settings["corpus"])
        )
    return pd.concat(frames, ignore_index=True)


def choose(traces: Sequence) -> list:
    """Returns the traces whose lists are worth reading: multi-label ones with the view list of documents that were not
    set aside; of several that differ in nothing but their documents, the one with most of them.
    """
    kept = {}
    for trace in sorted(traces, key=lambda each: len(each.documents)):
        if "list" in trace.settings["views"] and trace.settings["sample"] != "reserve" and not trace.single_label:
            kept[_place(trace)] = trace  # the largest comes last
    return [trace for trace in traces if kept.get(_place(trace)) is trace]


def name_models(traces: Sequence) -> list[str]:
    """Returns a name for the model of each trace, unique within its corpus; see `gather`."""
    names = []
    for trace in traces:
        same = [t for t in traces if all(t.settings[key] == trace.settings[key] for key in KEYS)]
        differ = [key for key in APART if len({str(t.settings.get(key)) for t in same}) > 1]
        names.append(", ".join([trace.settings["model"], *(f"{key}={trace.settings.get(key)}" for key in differ)]))
        if [_place(t) for t in same].count(_place(trace)) > 1:
            place = f"{trace.settings['model']} on {trace.settings['corpus']}"
            raise ValueError(f"{trace.folder}: two traces of {place} with the same settings, give one (see choose)")
    return names


def _place(trace):
    return tuple(str(trace.settings.get(key)) for key in (*KEYS, *APART))


def select(table: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Returns the steps for which a quantity of Fig. 2, 3, 10 is defined: next_said (`r+1 pred`) and second_next only
    at intermediate steps, next_said only where the label said next is not the most probable at r.
    """
    kept = table[quantity].notna()
    return table[kept & (table["next_label"] != table["top1"])] if quantity == "next_said" else table[kept]


def summarise(table: pd.DataFrame, steps: Sequence[int] = (1, 2, 3), seed: int = 0) -> pd.DataFrame:
    """Returns the numbers of Fig. 2, 3, 9, 10: model, corpus, step, group (last, intermediate), quantity, mean with
    low and high (bootstrap over documents), median with its exact interval, share above 0.9 with its own, n, and
    different (answers among them).

    At one r each document has one step, so that n is a number of documents too. A group without a step has n = 0.
    Entropy is in bits; second_is_next is a share: its mean is all that counts.
    """
    rows = []
    for (model, corpus), found in table.groupby(KEYS, sort=False):
        for step, group, quantity in product(steps, GROUPS, QUANTITIES):
            if group == "last" and quantity in ("next_said", "second_next", *SHARES):
                continue
            kept = select(found[(found["step"] == step) & (found["last"] == (group == "last"))], quantity)
            values = kept[quantity].to_numpy(float)
            row = {"model": model, "corpus": corpus, "step": step, "group": group, "quantity": quantity}
            row["mean"], row["low"], row["high"] = intervals.mean(values == 1 if quantity in SHARES else values, seed)
            if quantity not in SHARES:
                row["median"], row["median_low"], row["median_high"] = intervals.median(values)
            if quantity not in (*SHARES, "entropy"):
                row["above"], row["above_low"], row["above_high"] = intervals.mean(values > HIGH, seed)
            rows.append(row | {"n": len(values), "different": answers.count_different(kept["answer"])})
    return pd.DataFrame(rows)


def never_said(table: pd.DataFrame, conventions: str = "ours", seed: int = 0) -> pd.DataFrame:
    """Returns Table 4: model, corpus, value (percent of the intermediate steps whose second label is not said next at
    which it is never said afterwards), low, high (documents resampled), n (steps), documents, different (answers of
    these), and not_next (percent of all intermediate steps, C4) with not_next_low, not_next_high, intermediate (their
    number), intermediate_different.

    conventions: released counts a label said before r as said. A table without such steps has NaN rows.
    """
    rows = []
    for (model, corpus), found in table.groupby(KEYS, sort=False):
        going = found[~found["last"]]
        missed = going[going["second_is_next"] == 0]
        said = missed["second_later"] | (missed["second_before"] if conventions == "released" else False)
        shares = (100 * np.array(intervals.pool(~said, missed["document"], seed))).tolist()
        others = (100 * np.array(intervals.pool(going["second_is_next"] == 0, going["document"], seed))).tolist()
        each, every = (answers.count_different(part.drop_duplicates("document")["answer"]) for part in (missed, going))
        counts = len(missed), missed["document"].nunique(), each
        rows.append([model, corpus, *shares, *counts, *others, len(going), every])
    shown = ["not_next", "not_next_low", "not_next_high", "intermediate", "intermediate_different"]
    return pd.DataFrame(rows, columns=[*KEYS, "value", "low", "high", "n", "documents", "different", *shown])


def first_two(table: pd.DataFrame, fewest_gold: int = 2) -> pd.DataFrame:
    """Returns whether the first and the second distinct label said are gold, a row a multi-label answer of a document
    with at least so many gold labels: model, corpus, document, answer, first, second (Fig. 5).
    """
    kept = table[(table["distinct"] >= 2) & table["position"].isin([1, 2]) & (table["gold_labels"] >= fewest_gold)]
    wide = kept.pivot(index=[*KEYS, "document", "answer"], columns="position", values="gold").reindex(columns=[1, 2])
    return wide.rename(columns={1: "first", 2: "second"}).rename_axis(columns=None).reset_index()


def accuracy(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Returns Fig. 5: model, corpus, gold (documents with two or more gold labels, as in the paper, or any), label
    (first, second), mean, low, high, n, different (answers), and shown (more than ten documents).
    """
    rows = []
    for (gold, fewest), (key, _) in product({"two or more": 2, "any": 0}.items(), table.groupby(KEYS, sort=False)):
        pairs = first_two(table, fewest)
        pairs = pairs[(pairs["model"] == key[0]) & (pairs["corpus"] == key[1])]
        for label in ("first", "second"):
            found = intervals.mean(pairs[label].to_numpy(bool), seed)
            rows.append([*key, gold, label, *found, *_count(pairs), len(pairs) > FEWEST])
    return pd.DataFrame(rows, columns=[*KEYS, "gold", "label", "mean", "low", "high", "n", "different", "shown"])


def ranks(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Returns Fig. 11 in both readings: model, corpus, reading, label, place, mean, low, high (share), n (answers),
    different (of them).

    Multi-label answers only. A: rank in the first step's distribution (place) of the label said second or third
    (label). B: position (place) at which the label is said that was second at the first step; place 0: it never is,
    as a share of all answers; the others are shares of the answers in which it is said. n = 0 where there is none.
    """
    rows = []
    for key, found in table.groupby(KEYS, sort=False):
        found = found[found["distinct"] >= 2]
        for label in (2, 3):
            there = found[found["position"] == label]
            values, counts = there["first_rank"].to_numpy(), _count(there)
            for place in range(1, int(values.max(initial=0)) + 1):
                rows.append([*key, "A", label, place, *intervals.mean(values == place, seed), *counts])
        first = found[found["step"] == 1]
        said = first.dropna(subset="second_at")
        rows.append([*key, "B", 0, 0, *intervals.mean(first["second_at"].isna().to_numpy(), seed), *_count(first)])
        for place in range(2, int(said["second_at"].max()) + 1 if len(said) else 0):
            share = intervals.mean((said["second_at"] == place).to_numpy(), seed)
            rows.append([*key, "B", 0, place, *share, *_count(said)])
    columns = [*KEYS, "reading", "label", "place", "mean", "low", "high", "n", "different"]
    return pd.DataFrame(rows, columns=columns)


def _count(table: pd.DataFrame) -> tuple[int, float]:
    """Returns of rows of different documents how many there are, and the effective number of different answers."""
    return len(table), answers.count_different(table["answer"])


def judge(table: pd.DataFrame, conventions: str = "ours", seed: int = 0, place: str = "") -> list[dict]:
    """Returns the verdicts on C1-C5, rows of `claims.judge`, by the STATISTICS; n is the number of documents, in the
    smaller group where two are compared, and different that of their answers, in the group with the fewest.
    conventions: of Table 4; place: as there.
    """
    rows, never, pairs = [], never_said(table, conventions, seed).set_index(KEYS), first_two(table)
    for key, found in table.groupby(KEYS, sort=False):
        one, two = (found[found["step"] == step].set_index("document") for step in (1, 2))
        share, here = never.loc[key], pairs[(pairs["model"] == key[0]) & (pairs["corpus"] == key[1])]
        going = found.loc[~found["last"], "document"].nunique()
        values = {
            "spiky": (*intervals.median(one["first"]), *_count(one)),
            "later spiky": (*intervals.median(two["first"]), *_count(two)),
            "as spiky": (*intervals.mean(two["first"] - one["first"].reindex(two.index), seed), *_count(two)),
            "not next": (
                *share[["not_next", "not_next_low", "not_next_high"]] / 100,
                going,
                share["intermediate_different"],
            ),
            "never": (*share[["value", "low", "high"]] / 100, int(share["documents"]), share["different"]),
            "first better": (*intervals.mean(here["first"].astype(float) - here["second"], seed), *_count(here)),
        }
        for name, at in (("told at 1", one), ("told at 2", two)):
            ends, goes = at[at["last"]], at[~at["last"]]
            fewest = map(min, _count(ends), _count(goes))
            values[name] = *intervals.separation(ends["first"], goes["first"]), *fewest
        for name, statistic in STATISTICS.items():
            *numbers, different = values[name]
            rows.append(claims.judge(statistic, *key, *numbers, place, different))
    return rows
