"""What the state at the first label knows: probes with held-out documents, controls, intervals (Fig. 7 and 15).

Probes are trained on the trace of training documents that are set aside, and tested on the trace of the same model and
demonstrations over other documents. Scores are numbers of a whole sample, so they come as *draws*, (1 + B,): the value
on all documents first, then on B resamples of the documents. Draws of one seed use the same resamples, so differences
between them are paired.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import log_softmax

from mlutils import corpora, metrics
from mlutils.readouts import alignment, answers
from mlutils.traces import Trace
from mlutils.training.logistic import fit_logistic
from mlutils.training.probes import probe

FEWEST = 20  # documents with a label step below which nothing is trained or tested
RESAMPLES = 2_000
CONTROLS = 5  # shuffles that a control is the mean of
DIFFERENCES = {  # each of draws, as plus and minus
    "selectivity_gold": ("gold", "control_gold"),
    "selectivity_pred": ("pred", "control_pred"),
    "selectivity_pred_2plus": ("pred_2plus", "control_pred_2plus"),
    "pred_minus_2plus": ("pred", "pred_2plus"),
    "pred_2plus_minus_first_label": ("pred_2plus", "first_label_2plus"),
    "selectivity_pred_minus_2plus": ("selectivity_pred", "selectivity_pred_2plus"),
}
VARIED = ("family", "form", "shots", "seed", "new_tokens")  # what else tells traces of the same documents apart
ASKED = ("model", "corpus", "conventions", "plan", *VARIED)
SOURCES = ("state", "distribution", "first_label")  # what "another label will follow" is told from


@dataclass(frozen=True)
class Sample:
    """The D documents of a trace that have a label step, and so a state: arrays over them."""

    states: np.ndarray  # (D, K, H), of one or of all layers
    gold: np.ndarray  # bool (D, L)
    said: np.ndarray  # bool (D, L)
    first: np.ndarray  # bool (D, L): the first label said alone; no label for an empty answer
    distributions: np.ndarray  # (D, L + 1) log-probabilities of the first step, none last
    single_label: bool
    lists: pd.Series  # tuples (D,): the different labels of the answer, in their order

    def __len__(self) -> int:
        return len(self.gold)


def gather(trace: Trace, layers: bool = False) -> Sample:
    """Returns the documents of a trace that can be probed: no view failed and the answer has a label step.

    layers: states of all layers (the view hidden) in place of the last one (the view list).
    """
    states = trace.layer_states() if layers else trace.states()[:, None]
    kept = trace.complete() & np.isfinite(states).all(axis=(1, 2))
    lists = answers.read_lists(trace)
    first = np.array([next(iter(said), "") for said in lists])[:, None] == np.array(trace.labels)
    steps = log_softmax(trace.step_logits()[kept, 0], axis=-1)
    said, lists = trace.said()[kept], lists[kept].reset_index(drop=True)
    return Sample(states[kept], trace.gold[kept], said, first[kept], steps, trace.single_label, lists)


def has_layers(pair: Sequence[Trace]) -> bool:
    """Returns whether both traces of a pair hold the states of all layers."""
    return all(trace.has_layers for trace in pair)


def pair_up(traces: Sequence[Trace]) -> tuple[list[tuple], pd.DataFrame]:
    """Returns pairs of traces (tested, set aside) that probes can be trained and tested on, and why others are alone.

    A pair is of one model and corpus, with the same demonstrations and settings, and no document in common. Of several
    that asked the same, those whose documents are all in another are left out; of the same documents one is taken, with
    states of all layers if there is one. Table: trace, reason.
    """
    asides = [trace for trace in traces if trace.settings["sample"] == "reserve"]
    pairs, alone = [], []
    for tested in (trace for trace in traces if trace.settings["sample"] != "reserve"):
        fitting, reasons = [], ["no trace of its model and corpus is of documents set aside (10_trace, reserve)"]
        for aside in asides:
            if any(tested.settings[name] != aside.settings[name] for name in ("model", "revision", "corpus")):
                continue
            reason = _misfit(tested, aside)
            reasons.append(reason)
            fitting += [(tested, aside)] if reason == "" else []
        if not fitting:
            alone.append([str(tested.folder), reasons[-1]])
            continue
        pairs.append(max(fitting, key=lambda pair: (has_layers(pair), len(pair[1].documents))))
    kept = [pair for i, pair in enumerate(pairs) if not any(_covers(pairs, j, i) for j in range(len(pairs)))]
    return kept, pd.DataFrame(alone, columns=["trace", "reason"])


def _covers(pairs: Sequence[tuple], one: int, other: int) -> bool:
    """Returns whether a pair makes another one needless: the same was asked of more documents, or of the same ones with
    states of more layers; of two alike the first covers the second.
    """
    first, second = pairs[one][0], pairs[other][0]
    asked = [[each.settings.get(name) for name in ASKED] for each in (first, second)]
    more, less = (set(each.documents["id"]) for each in (first, second))
    ranks = [(has_layers(pairs[i]), -i) for i in (one, other)]
    return asked[0] == asked[1] and (more > less or (more == less and ranks[0] > ranks[1]))


def name_pairs(pairs: Sequence[tuple]) -> list[dict[str, str]]:
    """Returns model, corpus and documents of each pair; where that names two alike, `documents` says what differs."""
    names = [
        {
            "model": tested.settings["model"],
            "corpus": tested.settings["corpus"],
            "documents": alignment.describe_documents(tested.corpus, tested.settings["conventions"]),
        }
        for tested, _ in pairs
    ]
    told = []
    for name, (tested, _) in zip(names, pairs, strict=True):
        alike = [other.settings for each, (other, _) in zip(names, pairs, strict=True) if each == name]
        differ = [key for key in VARIED if len({str(settings.get(key)) for settings in alike}) > 1]
        also = "".join(f", {key} {tested.settings.get(key)}" for key in differ)
        told.append(name | {"documents": name["documents"] + also})
    return told


def _misfit(tested, aside) -> str:
    """Returns why two traces are no pair, or nothing."""
    try:
        alignment.check_same_plan(tested, aside)
    except ValueError as error:
        return str(error)
    both = aside.documents["id"][~corpora.find_untested(aside.corpus, tested.corpus)]
    if len(both):
        return f"{len(both)} documents are tested and set aside, such as {min(both)} (or its text is): draw them anew"
    for trace in (tested, aside):
        if "list" not in trace.settings["views"]:
            return f"{trace.folder} has no view list: nothing was said"
        if (found := len(gather(trace))) < FEWEST:
            return f"{found} documents of {trace.folder} have a label step, probes need {FEWEST}"
    return ""


# -- scores with intervals -----------------------------------------------------------------------------------------
def count(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns labels in both, predicted, and true of each document: (D, 3), from bool (D, L) each."""
    return np.stack([predicted & truth, predicted, truth], axis=-1).sum(axis=1)


def draw_f1(counts: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Returns draws of the micro F1, (1 + resamples,), each over all labels of its resample; counts: of `count`.

    NaN where a sample has no true label: there is nothing to find, whatever was predicted.
    """
    counts = np.asarray(counts, dtype=float)
    both, predicted, true = np.concatenate([w @ counts for w in _weights(len(counts), resamples, seed)]).T
    return np.where(true > 0, 2 * both / np.maximum(predicted + true, 1e-12), np.nan)


def draw_auc(scores: ArrayLike, truth: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Returns draws of the area under the ROC curve, (1 + resamples,), ties counting half; NaN for one class alone.

    scores: (D,); truth: bool (D,).
    """
    order = np.argsort(scores)
    truth = np.asarray(truth, dtype=float)[order]
    starts = np.flatnonzero(np.diff(np.asarray(scores, dtype=float)[order], prepend=-np.inf) > 0)
    draws = []
    for weights in _weights(len(truth), resamples, seed):
        weights = weights[:, order]  # (resamples, documents)
        yes, no = (np.add.reduceat(weights * kind, starts, axis=1) for kind in (truth, 1 - truth))
        below = np.cumsum(no, axis=1) - no / 2
        pairs = yes.sum(axis=1) * no.sum(axis=1)
        draws.append(np.where(pairs > 0, (yes * below).sum(axis=1) / np.maximum(pairs, 1e-12), np.nan))
    return np.concatenate(draws)


def summarise(draws: np.ndarray) -> tuple[float, float, float]:
    """Returns the value and its 95 % percentile interval; resamples without a value are left out of the interval."""
    if np.isnan(draws[0]):
        return np.nan, np.nan, np.nan
    low, high = np.nanquantile(draws[1:], [0.025, 0.975])
    return float(draws[0]), float(low), float(high)


def _weights(documents: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yields how often each document is drawn, float (some, D), all once first: the draws of `metrics.bootstrap`."""
    yield np.ones((1, documents))
    for times in metrics.resample_counts(documents, resamples, seed):
        yield times.astype(float)


# -- probes --------------------------------------------------------------------------------------------------------
def probe_sets(
    tested: Sample, aside: Sample, layer: int = -1, controls: int = CONTROLS, seed: int = 0, conventions: str = "ours"
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns counts (D, 3) by measure, and the labels skipped by target, bool (L,): the probes of Fig. 7.

    *gold* and *pred* are trained and tested on gold sets and on what the model said; *pred_2plus* is pred with each
    document's first label taken out of truth and prediction (of single labels nothing would be left, so there is none);
    *first_label_2plus* finds the same from which label came first, as lists that are always the same allow; *perf* is
    what the model said against gold; *control_...* have their training labels shuffled over documents, mean
    of `controls` shuffles. Labels of one class on train are skipped: in probes they count neither as found nor as
    missed, in perf they do. Sets: probability of a half or more, for single labels the most probable.
    """
    rng = np.random.default_rng(seed)
    shuffles = [rng.permutation(len(aside)) for _ in range(controls)]
    counts, skips = {}, {}
    for name, known, truth in (("gold", aside.gold, tested.gold), ("pred", aside.said, tested.said)):
        found, skipped = _predict_sets(tested, aside, layer, known, seed, conventions)
        shuffled = [_predict_sets(tested, aside, layer, known[order], seed, conventions)[0] for order in shuffles]
        rest = {"": np.ones_like(truth)} | (
            {"_2plus": ~tested.first} if name == "pred" and not tested.single_label else {}
        )
        for suffix, left in rest.items():
            used = left & ~skipped
            counts[name + suffix] = count(found & used, truth & used)
            counts[f"control_{name}{suffix}"] = np.mean([count(each & used, truth & used) for each in shuffled], axis=0)
        skips[name] = skipped
        if "_2plus" in rest:  # the same labels told from the name of the first one, without any state
            told = metrics.label_set(fit_logistic(aside.first.astype(float), known, tested.first.astype(float))[0])
            counts["first_label_2plus"] = count(told & used, truth & used)
    counts["perf"] = count(tested.said, tested.gold)
    return counts, skips


def _predict_sets(tested, aside, layer, targets, seed, conventions):
    """Returns the sets that a probe predicts, bool (D, L), and the labels it skipped."""
    train, test = aside.states[:, layer], tested.states[:, layer]
    predicted, skipped = probe(train, targets, test, tested.single_label, seed=seed, conventions=conventions)
    if tested.single_label:
        return np.eye(targets.shape[1], dtype=bool)[predicted.argmax(axis=1)], skipped
    return metrics.label_set(predicted), skipped


def tabulate_sets(
    tested: Sample,
    aside: Sample,
    layers: Sequence[int] = (-1,),
    controls: int = CONTROLS,
    seed: int = 0,
    conventions: str = "ours",
) -> pd.DataFrame:
    """Returns micro F1 of all measures and their differences with 95 % intervals, a row a layer and measure (Fig. 7).

    Columns: layer, measure, value, low, high, n (documents tested), to_find (of these, those with a label to find),
    different (answers to them), train (documents), labels (probed), skipped (labels). Differences are paired over
    documents.
    """
    rows = []
    for layer in layers:
        counts, skips = probe_sets(tested, aside, layer, controls, seed, conventions)
        draws = {name: draw_f1(each, seed=seed) for name, each in counts.items()}
        told = {name: each[:, 2] > 0 for name, each in counts.items()}
        found = {name: (int(each.sum()), answers.count_different(tested.lists[each])) for name, each in told.items()}
        for name, (plus, minus) in DIFFERENCES.items():
            if plus in draws and minus in draws:
                draws[name] = draws[plus] - draws[minus]
                found[name] = tuple(map(min, found[plus], found[minus]))
        for name, each in draws.items():
            skipped = int(skips["pred" if "pred" in name or "2plus" in name else "gold"].sum())
            skipped = 0 if name == "perf" else skipped
            sizes = [len(tested), *found[name], len(aside), tested.gold.shape[1] - skipped, skipped]
            rows.append([layer, name, *summarise(each), *sizes])
    columns = ["layer", "measure", "value", "low", "high", "n", "to_find", "different", "train", "labels", "skipped"]
    return pd.DataFrame(rows, columns=columns)


def probe_following(
    tested: Sample, aside: Sample, layer: int = -1, seed: int = 0, conventions: str = "ours"
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns by source the probability that another label follows the first, (D',), and whether one does, bool (D',).

    D' are the tested documents of which a label was said. Sources: the state; the first step's distribution, that is a
    logistic regression on its log-probabilities; and which label came first. No source where
    all training documents go one way.
    """
    known, asked = aside.first.any(axis=1), tested.first.any(axis=1)
    targets = (aside.said.sum(axis=1) >= 2)[known, None]
    truth = (tested.said.sum(axis=1) >= 2)[asked]
    if not 0 < targets.sum() < len(targets) or not len(truth):
        return {}, truth
    states = (aside.states[known, layer], targets, tested.states[asked, layer])
    found = {"state": probe(*states, seed=seed, conventions=conventions)[0][:, 0]}
    for name, train, test in (
        ("distribution", aside.distributions, tested.distributions),
        ("first_label", aside.first.astype(float), tested.first.astype(float)),
    ):
        found[name] = fit_logistic(train[known], targets, test[asked], seed=seed)[0][:, 0]
    return found, truth


def tabulate_following(
    tested: Sample, aside: Sample, layers: Sequence[int] = (-1,), seed: int = 0, conventions: str = "ours"
) -> pd.DataFrame:
    """Returns how well "another label will follow" is told: AUC with 95 % intervals, a row a layer and source.

    Columns: layer, source, value, low, high, n (documents that say a label), follow (of these, those with another),
    different (answers, of those with another or those without, where they are fewer), majority (share of the larger
    class), train. `state_minus_first_label` is a paired difference.
    """
    rows = []
    for layer in layers:
        scores, truth = probe_following(tested, aside, layer, seed, conventions)
        draws = {name: draw_auc(each, truth, seed=seed) for name, each in scores.items()}
        if not draws:
            draws = dict.fromkeys(SOURCES, np.array([np.nan]))
        draws["state_minus_first_label"] = draws["state"] - draws["first_label"]
        majority = max(truth.mean(), 1 - truth.mean()) if len(truth) else np.nan
        said = tested.lists[tested.first.any(axis=1)]
        fewest = min(answers.count_different(said[kind]) for kind in (truth, ~truth))
        sizes = [len(truth), int(truth.sum()), fewest, majority, int(aside.first.any(axis=1).sum())]
        rows += [[layer, name, *summarise(each), *sizes] for name, each in draws.items()]
    columns = ["layer", "source", "value", "low", "high", "n", "follow", "different", "majority", "train"]
    return pd.DataFrame(rows, columns=columns)
