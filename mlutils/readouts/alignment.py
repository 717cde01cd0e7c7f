"""Alignment with annotators: scores of many methods on the same documents, as one tidy table (Tables 2 and 5)."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mlutils import metrics, noise_floor
from mlutils.corpora import Corpus
from mlutils.readouts import bradley_terry, claims, methods

COLUMNS = ["corpus", "documents", "model", "method", "metric", "mean", "low", "high", "n", "best"]
SIGNIFICANT = 0.05

Scores = dict[tuple[str, str], dict[str, np.ndarray]]  # (model, method) -> metric -> (D,)


def functions(corpus: Corpus, threshold: float = 0.5) -> dict:
    """Returns the metrics that a corpus allows, name -> f(predicted (D, L), votes (D, L)) -> (D,).

    Single-label sets have their own NLL, and accuracy as F1; a corpus without votes has F1 against gold only. The
    corrected squared error needs two annotators or more of every document. threshold: of example-F1.
    """
    f1 = partial(metrics.example_f1, threshold=threshold)
    if not corpus.has_votes.any():
        return {"f1": lambda predicted, votes: f1(predicted, corpus.gold.astype(float))}
    found = {
        "nll": metrics.nll_single if corpus.single_label else metrics.nll,
        "l1": metrics.l1,
        "f1": metrics.accuracy_single if corpus.single_label else f1,
    }
    if (corpus.annotators >= 2).all():
        found["corrected_squared_error"] = lambda predicted, votes: metrics.corrected_squared_error(
            predicted, votes, corpus.annotators
        )
    return found


def score(predicted: ArrayLike, corpus: Corpus, threshold: float = 0.5) -> dict[str, np.ndarray]:
    """Returns the scores of each document by metric, (D,) each; predicted: (D, L)."""
    return {name: function(predicted, corpus.votes) for name, function in functions(corpus, threshold).items()}


def score_noise_floor(
    corpus: Corpus, train: Corpus, seed: int = 0, wanted: Mapping[str, Callable] | None = None, draws: int = 200
) -> dict[str, np.ndarray]:
    """Returns the expected scores of a perfect predictor; the prior of the true shares is learnt from `train`.

    wanted: by name, as `noise_floor.simulate` takes them; those of `functions` otherwise.
    """
    natural = train.has_votes & (train.annotators > 0)
    prior = noise_floor.fit_prior(train.votes[natural], train.annotators[natural], corpus.single_label)
    return noise_floor.simulate(corpus.votes, corpus.annotators, prior, wanted or functions(corpus), draws, seed)


def describe_documents(corpus: Corpus, conventions: str = "ours") -> str:
    """Returns how a table names its documents: the sample (with its split if that matters), and others' conventions."""
    name = corpus.sample if corpus.sample.startswith("paper") else f"{corpus.split}, {corpus.sample}"
    return name if conventions == "ours" else f"{name}, {conventions} conventions"


def tabulate(
    scores: Scores,
    corpus: Corpus,
    compared: Collection[str] = (),
    documents: str = "",
    absent: Collection[tuple[str, str]] = (),
) -> pd.DataFrame:
    """Returns the tidy table: one row a model, method and metric, with mean, 95 % interval and n.

    `best` marks the best of the methods `compared` (none: of all) where a paired bootstrap test tells it from the
    second best (p < 0.05). documents: as `describe_documents`. absent: rows (model, method) that have no form for this
    corpus, NaN here and "N/A" in tables. Raises ValueError where scores are of different numbers of documents.
    """
    rows, place = [], [corpus.name, documents or describe_documents(corpus)]
    for (model, method), by_metric in scores.items():
        for metric, values in by_metric.items():
            if len(values) != len(corpus):
                raise ValueError(f"{model} {method} has {len(values)} scores for {len(corpus)} documents")
            rows.append([*place, model, method, metric, *metrics.bootstrap(values), len(values), False])
    measured = dict.fromkeys(metric for by_metric in scores.values() for metric in by_metric)
    nothing = [np.nan, np.nan, np.nan, len(corpus), False]
    for row in absent:
        rows += [[*place, *row, metric, *nothing] for metric in measured]
    table = pd.DataFrame(rows, columns=COLUMNS)
    for metric, group in table[table["method"].isin(compared or table["method"])].groupby("metric"):
        ranked = (
            group.dropna(subset="mean").sort_values("mean", ascending=metrics.METRICS[metric].lower_is_better).head(2)
        )
        if len(ranked) == 2 and len(corpus) > 1:
            first, second = (scores[row.model, row.method][metric] for row in ranked.itertuples())
            table.loc[ranked.index[0], "best"] = metrics.paired_difference(first, second)[3] < SIGNIFICANT
    return table


def differences(scores: Scores, metric: str, reference: tuple[str, str]) -> pd.DataFrame:
    """Returns paired differences to one row: model, method, difference (row minus reference), low, high, p."""
    rows = []
    for (model, method), by_metric in scores.items():
        if (model, method) != reference and metric in by_metric:
            difference = metrics.paired_difference(by_metric[metric], scores[reference][metric])
            rows.append([model, method, *difference])
    return pd.DataFrame(rows, columns=["model", "method", "difference", "low", "high", "p"])


def by_model(traces: Sequence, labels: Sequence[str]) -> dict[str, object]:
    """Returns traces by the name of their model.

    Raises ValueError where two are of one model, which a table cannot tell apart, or labels are not these.
    """
    found: dict[str, object] = {}
    for trace in traces:
        name = trace.settings["model"]
        if trace.labels != tuple(labels):
            raise ValueError(f"trace {trace.folder} has labels {trace.labels}, wanted {tuple(labels)}")
        if name in found:
            raise ValueError(f"{found[name].folder} and {trace.folder} are both of {name}: give one of them")
        found[name] = trace
    return found


def same_documents(traces: Mapping[str, object], corpus: Corpus) -> np.ndarray:
    """Returns which documents all rows can stand on, bool (D,): no trace failed on them, and they have votes if any do.

    Raises ValueError where a trace is of other documents.
    """
    kept = corpus.has_votes if corpus.has_votes.any() else np.ones(len(corpus), bool)
    for name, trace in traces.items():
        if list(trace.documents["id"]) != list(corpus.documents["id"]):
            raise ValueError(f"trace {name} is of other documents than the corpus: give traces of one sample")
        kept = kept & trace.complete()
    return kept


def agree_on_documents(traces: Mapping[str, object]) -> tuple[dict, dict[str, str]]:
    """Returns the traces of the documents that most of them, or else the longest, are of; and why the others are not.

    traces: of documents set aside, by model. Rows can only be stacked where all are of the same documents.
    """
    ids = {name: tuple(trace.documents["id"]) for name, trace in traces.items()}
    chosen = max(ids.values(), key=lambda each: (list(ids.values()).count(each), len(each)), default=())
    others = {
        name: f"{len(each)} documents are set aside in {traces[name].folder}, not the {len(chosen)} of other models"
        for name, each in ids.items()
        if each != chosen
    }
    return {name: trace for name, trace in traces.items() if name not in others}, others


def count_exclusions(corpus: Corpus, traces: Mapping[str, object], train: Corpus) -> pd.DataFrame:
    """Returns what is left out of a table and why, or kept with a caveat: what, how many, which (the first few)."""
    rows = [("documents asked for that are not at hand or have no votes: left out", list(corpus.missing))]
    if corpus.has_votes.any():
        rows.append(("documents without votes: left out", list(corpus.documents["id"][~corpus.has_votes])))
        alone = corpus.documents["id"][corpus.annotators == 1]
        rows.append(("documents with one annotator: kept, but no corrected squared error for any", list(alone)))
    for name, trace in traces.items():
        rows.append((f"documents that {name} failed on: left out", list(trace.documents["id"][~trace.complete()])))
        if "pairwise" in trace.settings["views"]:
            constant = bradley_terry.find_constant(trace.pairwise_wins())
            rows.append(
                (f"documents whose pairs {name} answers all alike: kept", list(trace.documents["id"][constant]))
            )
    rates = np.nanmean(np.where(train.has_votes[:, None], train.votes, train.gold), axis=0)
    never = [label for label, rate in zip(train.labels, rates, strict=True) if rate <= 0 or rate >= 1]
    rows.append(("labels never or always used in train: predicted at that rate", never))
    table = pd.DataFrame([[what, len(which), ", ".join(which[:5])] for what, which in rows])
    return table.set_axis(["what", "number", "which"], axis=1)


def judge_readouts(scores: Scores, corpus: Corpus) -> list[dict]:
    """Returns rows of the verdict table for claim C11, two for each model: see the statistics below.

    Paired over documents; the best other readout, and the best supervised row, are those of the lowest mean NLL.
    """
    ahead = claims.Statistic("C11", "NLL of max-over-generations minus the best other free readout", 0, above=False)
    behind = claims.Statistic("C11", "NLL of the best supervised row minus max-over-generations", 0, above=False)
    rows, supervised = [], [name for name, method in methods.METHODS.items() if method.group == "supervised"]
    for model in dict.fromkeys(model for model, method in scores if method == "max_over_generations"):
        nll = {row: by_metric["nll"] for row, by_metric in scores.items() if "nll" in by_metric}
        maximum = nll[model, "max_over_generations"]
        free = [nll[model, method] for method in methods.select("free") if (model, method) in nll]
        trained = [values for (_, method), values in nll.items() if method in supervised]
        for statistic, others, sign in ((ahead, free, 1), (behind, trained, -1)):
            if others:
                other = min(others, key=np.mean)
                found = metrics.paired_difference(*((maximum, other)[::sign]))[:3]
                rows.append(claims.judge(statistic, model, corpus.name, *found, len(maximum)))
    return rows


def check_same_plan(tested, aside) -> None:
    """Raises ValueError where a trace of documents set aside saw other demonstrations or settings than the tested one.

    What is fitted on one can only be applied to the other where their prompts differ in the document alone.
    """
    alike = ("plan", "labels", "form", "conventions", "pair_order", "dtype", "family")
    differ = [name for name in alike if tested.settings.get(name) != aside.settings.get(name)]
    if len({each.settings["pairs"]["design"] for each in (tested, aside) if "pairs" in each.settings}) > 1:
        differ.append("pairs")  # one of them may have asked none
    if differ:
        raise ValueError(
            f"{aside.folder} and {tested.folder} differ in {', '.join(differ)}: trace the documents set aside with the "
            "parameters of the tested ones (10_trace, only `reserve` and `asked` may differ), or take fit_on='tested'"
        )


def share_of_way(table: pd.DataFrame, constant: str) -> pd.DataFrame:
    """Returns how far each row is from a constant (0) to the noise floor (1): model, method, nll, l1.

    table: of `tabulate`; a row beyond the floor in L1 is over 1 (the median of votes beats the true share there).
    """
    means = table.pivot_table(index=["model", "method"], columns="metric", values="mean", sort=False)
    start, end = means.loc[("", constant)], means.loc[("", "noise_floor")]
    return ((start - means) / (start - end))[["nll", "l1"]].reset_index()


def against_published(scores: Scores, published: pd.DataFrame) -> pd.DataFrame:
    """Returns our rows minus the best published value of each metric, with intervals over our documents.

    published: rows of one corpus (columns method, model, metric, value). `ahead` says that the whole interval is.
    """
    rows = []
    for (model, method), by_metric in scores.items():
        for metric, values in by_metric.items():
            theirs = published[published["metric"] == metric]
            if method == "noise_floor" or theirs.empty:
                continue
            lower = metrics.METRICS[metric].lower_is_better
            best = theirs.loc[theirs["value"].idxmin() if lower else theirs["value"].idxmax()]
            mean, low, high = metrics.bootstrap(values - best["value"])
            ahead = high < 0 if lower else low > 0
            rows.append([model, method, metric, mean, low, high, ahead, best["value"], best["method"], best["model"]])
    columns = ["model", "method", "metric", "difference", "low", "high", "ahead", "published", "their method"]
    return pd.DataFrame(rows, columns=[*columns, "their model"])
