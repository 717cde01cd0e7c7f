"""What tuning, and size, change: quantities of traces before and after, with intervals over documents and seeds.

Every quantity is a ratio of two sums over documents: one draw of documents serves all quantities of all traces of a
group, so that differences are paired whatever is compared. Reads traces; no model is loaded.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from mlutils import metrics
from mlutils.readouts import alignment, answers, claims, methods, steps
from mlutils.readouts.claims import Statistic
from mlutils.readouts.model_names import BASE, name_tuned, parse

ALL = "all"  # the seed of a row over all seeds
FEWEST_SEEDS = 3  # for a row over all seeds
RESAMPLES, WORK, CHUNK = 10_000, 20_000_000, 4_000_000  # of documents; numbers drawn in all, and at a time
KEYS = ["corpus", "documents", "base", "tuning", "tuned_on", "shots", "seed"]
COLUMNS = [*KEYS, "seeds", "quantity", "mean", "low", "high", "n", "different"]
TUNED = {
    "top1_first": Statistic("C1", "largest step probability at r = 1, tuned minus base", 0),
    "entropy_first": Statistic("C10", "entropy at r = 1 in bits, tuned minus base", 0, above=False),
    "f1 hard_predictions": Statistic("C12", "example-F1 of the answer, tuned minus base", 0),
    "nll compare_to_none": Statistic("C12", "NLL of compare-to-none, tuned minus base", 0),
    "nll max_over_generations": Statistic("C12", "NLL of max-over-generations, tuned minus base", 0),
}
LADDER = {
    "entropy_first": Statistic("C10", "entropy at r = 1 in bits, change per tenfold parameters", 0, above=False),
    "second_next": Statistic("C10", "share of second labels said next, change per tenfold parameters", 0),
}


@dataclass(frozen=True)
class Quantity:
    """How a quantity of `count` is written."""

    title: str
    percent: bool = False  # a share of cases that are yes or no, written in percent
    drawn: bool = True  # before and after tuning

    @property
    def decimals(self) -> int:
        """Returns how many decimals are written."""
        return 1 if self.percent else 2


QUANTITIES = {
    "top1_first": Quantity("Largest probability, first step"),
    "top1_later": Quantity("Largest probability, later steps"),
    "entropy_first": Quantity("Entropy, first step, bits"),
    "entropy_later": Quantity("Entropy, later steps, bits", drawn=False),
    "second_next": Quantity("Second said next, %", percent=True),
    "second_never": Quantity("Second never said, %", percent=True),
    "alphabetical": Quantity("Alphabetical order, %", percent=True),
    "several": Quantity("Two or more labels, %", percent=True, drawn=False),
    "labels": Quantity("Labels an answer"),
    "unread": Quantity("Unread answers, %", percent=True),
    "micro_f1": Quantity("Micro F1 of the answers", drawn=False),
    "f1 hard_predictions": Quantity("Example-F1 of the answers"),
}
FOLLOWED = sorted(methods.select("followed"), key=lambda name: methods.METHODS[name].followed)
QUANTITIES |= {  # scores; the answers' example-F1 has its own title and place above
    f"{metric} {readout}": Quantity(
        f"{metrics.METRICS[metric].title}, {methods.METHODS[readout].title.lower()}",
        drawn=metric == "nll" and readout != "hard_predictions",
    )
    for readout in FOLLOWED
    for metric in metrics.PRINTED
    if f"{metric} {readout}" not in QUANTITIES
}


def choose(traces: Sequence) -> list:
    """Returns the multi-label traces with the view list of documents that were not set aside; of several of one model,
    sample and number of demonstrations the one with most documents.

    Raises ValueError where two of these have as many, and nothing tells which is meant.
    """
    places: dict[tuple, list] = {}
    for trace in traces:
        if "list" in trace.settings["views"] and trace.settings["sample"] != "reserve" and not trace.single_label:
            places.setdefault(_place(trace), []).append(trace)
    kept = []
    for place, found in places.items():
        most = max(len(trace.documents) for trace in found)
        largest = [trace for trace in found if len(trace.documents) == most]
        if len(largest) > 1:
            raise ValueError(f"{' and '.join(str(t.folder) for t in largest)} are all of {place}: give one of them")
        kept += largest
    return kept


def _place(trace):
    name = parse(trace.settings["model"])
    return (*_group(trace), name.tuning, name.tuned_on, trace.settings["shots"], name.seed)


def _group(trace):
    corpus = trace.corpus
    return corpus.name, alignment.describe_documents(corpus), parse(trace.settings["model"]).base


def separate(traces: Sequence) -> tuple[list, dict[str, object]]:
    """Returns the traces that make zero-shot rows of Tables 2 and 5, and by name those that make the rows SFT outputs
    and SFT max-over-generations.

    Zero-shot: of models that are not tuned, those with most demonstrations. SFT: seed 0, all numbers of demonstrations
    (`<model>, <k> shots`). Models tuned otherwise, and further seeds, stand in the table of `compare` only.
    """
    named = [(parse(trace.settings["model"]), trace) for trace in traces]
    most: dict[str, int] = {}
    for name, trace in named:
        most[name.base] = max(most.get(name.base, 0), trace.settings["shots"] if name.tuning == BASE else 0)
    tuned = {
        f"{trace.settings['model']}, {trace.settings['shots']} shots": trace
        for name, trace in named
        if name.tuning.startswith("sft") and "+" not in name.tuning and name.seed == "0"
    }
    plain = [t for name, t in named if name.tuning == BASE and t.settings["shots"] == most[name.base]]
    return plain, tuned


def count(trace, conventions: str = "ours", repeats: str = "excluded") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the sums and the counts whose ratio each quantity is, documents (index) by quantities.

    top1_first, top1_later, entropy_first, entropy_later (bits): of the label steps r = 1 and r >= 2 (repeats: as in
    `steps.tabulate`); second_next: of the intermediate steps, those whose second label is said next; second_never: of
    the others, those whose second label is never said later (Table 4). alphabetical: of the answers with two or more
    labels; several: answers with two or more labels; labels: distinct labels of an answer; unread: answers with another
    status than ok or none; micro_f1: against gold. `<metric> <readout>`: NLL, L1, example-F1 against vote shares (F1
    against gold where there are none).
    """
    documents = pd.Index(trace.documents["id"])
    table = steps.tabulate(trace, conventions=conventions, repeats=repeats)
    at, sums, counts = documents.get_indexer(table["document"]), {}, {}

    def add(name, where, values):
        where = np.asarray(where, bool)
        sums[name] = np.bincount(at[where], np.asarray(values, float)[where], len(documents))
        counts[name] = np.bincount(at[where], minlength=len(documents)).astype(float)

    for name, where in (("first", table["step"] == 1), ("later", table["step"] > 1)):
        add(f"top1_{name}", where, table["first"])
        add(f"entropy_{name}", where, table["entropy"])
    said = table["second_later"] | (table["second_before"] if conventions == "released" else False)
    add("second_next", ~table["last"], table["second_is_next"])
    add("second_never", table["second_is_next"] == 0, ~said)

    given = trace.answers[trace.answers["variant"] == "list"].set_index("document").reindex(documents)
    asked = given["status"].notna().to_numpy()
    several = given["said"].map(np.size).to_numpy() * asked >= 2
    ordered = [i for i in np.flatnonzero(several) if list(said := given["said"].iloc[i]) == sorted(said)]
    answered, gold = trace.said(), trace.gold
    sizes = answered.sum(axis=1) + gold.sum(axis=1)
    for name, above, below in (
        ("alphabetical", np.isin(np.arange(len(documents)), ordered), several),
        ("several", several, asked),
        ("labels", answered.sum(axis=1), asked),
        ("unread", ~given["status"].isin(["ok", "none"]).to_numpy(), asked),
        ("micro_f1", 2 * (answered & gold).sum(axis=1), sizes),
    ):
        sums[name], counts[name] = np.where(asked, above, 0.0), np.where(asked, below, 0.0)

    corpus = trace.corpus
    scored = trace.complete() & (corpus.has_votes if corpus.has_votes.any() else True)
    for readout in (name for name in FOLLOWED if name in methods.readable(trace)):
        scores = alignment.score(methods.from_trace(trace, readout, conventions)[scored], corpus.take(scored))
        for name in (f"{metric} {readout}" for metric in metrics.PRINTED if metric in scores):
            sums[name], counts[name] = np.zeros(len(documents)), scored.astype(float)
            sums[name][scored] = scores[name.split()[0]]
    return pd.DataFrame(sums, index=documents), pd.DataFrame(counts, index=documents)


def compare(
    traces: Sequence, conventions: str = "ours", seed: int = 0, repeats: str = "excluded"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns two tables of COLUMNS: the level of each quantity for every trace, and tuned minus base.

    All traces of one base model and sample stand on the documents that all of them have; intervals (95 %) resample
    documents, the same for all of them, so that differences are paired. Three or more seeds have a row `all`: the mean
    over seeds, its interval from resampling seeds and documents together. A tuned model is compared with its base asked
    with as many demonstrations; without one it has no difference. n: documents that have a say; different: answers to
    them, of the model and seed with the fewest. A share of 0 or 1 has the exact interval of as many documents. Raises
    ValueError as `choose` does, and where traces share no document.
    """
    chosen, levels, differences = choose(traces), [], []
    for group in dict.fromkeys(map(_group, chosen)):
        members = [trace for trace in chosen if _group(trace) == group]
        names = [(parse(trace.settings["model"]), int(trace.settings["shots"])) for trace in members]
        places = pd.DataFrame([[n.tuning, n.tuned_on, shots, n.seed] for n, shots in names], columns=KEYS[3:])
        values, drawn, counted, quantities, different = _resample(members, conventions, seed, repeats)
        for (tuning, tuned_on, shots), found in places.groupby(KEYS[3:6], sort=False):
            sets = {each: [i] for i, each in found["seed"].items()}
            sets |= {ALL: list(found.index)} if len(sets) >= FEWEST_SEEDS else {}
            base = places.index[(places["tuning"] == BASE) & (places["shots"] == shots)]
            for each, rows in sets.items():
                key = [*group, tuning, tuned_on, shots, each, len(rows)]
                level = _average(values[rows], drawn[:, rows], seed)
                n = counted[rows].any(axis=0).sum(axis=0)
                levels += _rows(key, quantities, *level, n, np.fmin.reduce(different[rows]), exact=True)
                if len(base) and tuning != BASE:
                    change = (level[0] - values[base[0]], level[1] - drawn[:, base[0]])
                    both = np.minimum(n, counted[base[0]].sum(axis=0)), np.fmin.reduce(different[[base[0], *rows]])
                    differences += _rows(key, quantities, *change, *both)
    return pd.DataFrame(levels, columns=COLUMNS), pd.DataFrame(differences, columns=COLUMNS)


def climb(
    traces: Sequence,
    sizes: Mapping[str, int],
    ladder: Sequence[str],
    conventions: str = "ours",
    seed: int = 0,
    repeats: str = "excluded",
) -> list[dict]:
    """Returns rows of `claims.judge` on C10 for base models of one kind and different size, by the statistics LADDER:
    the slope of a quantity on log10 of the parameters, least squares, documents resampled.

    sizes: parameters by model; ladder: its models. A row for each sample traced with two of them or more, at the
    largest number of demonstrations that these share; n: documents that have a say for every model.
    """
    rows, chosen = [], [trace for trace in choose(traces) if trace.settings["model"] in ladder]
    for place in dict.fromkeys(_group(trace)[:2] for trace in chosen):
        here = [t for t in chosen if _group(t)[:2] == place and sizes.get(t.settings["model"])]
        by_shots = {int(t.settings["shots"]): [] for t in here}
        for trace in here:
            by_shots[int(trace.settings["shots"])].append(trace)
        shots, members = max(by_shots.items(), key=lambda each: (len(each[1]), each[0]), default=(0, []))
        if len(members) < 2:
            continue
        members.sort(key=lambda each: sizes[each.settings["model"]])
        values, drawn, counted, quantities, different = _resample(members, conventions, seed, repeats)
        tenfold = np.log10([sizes[each.settings["model"]] for each in members])
        weights = (tenfold - tenfold.mean()) / ((tenfold - tenfold.mean()) ** 2).sum()
        model = f"{members[0].settings['model']} to {members[-1].settings['model']}, {shots} shots"
        for name, statistic in LADDER.items():
            i = quantities.index(name)
            ends = _ends(np.tensordot(drawn[..., i], weights, ([1], [0])))
            numbers = (float(weights @ values[:, i]), *ends, int(counted[..., i].all(axis=0).sum()))
            rows.append(claims.judge(statistic, model, place[0], *numbers, different=np.fmin.reduce(different)[i]))
    return rows


def judge(differences: pd.DataFrame) -> list[dict]:
    """Returns rows of `claims.judge` on C1, C10 and C12 for tuned models, by the statistics TUNED.

    differences: of `compare`; of each model those with most demonstrations, over all seeds where there is such a row.
    A statistic that a corpus does not have (NLL where there are no votes) is a row without a case, so that its claim
    cannot be told.
    """
    found = final(differences)
    most = found.groupby(KEYS[:5])["shots"].transform("max")
    samples = found.groupby("corpus")["documents"].nunique()
    rows = []
    for key, group in found[found["shots"] == most].groupby(KEYS, sort=False):
        corpus, documents, base, tuning, tuned_on, shots, seed = key
        model = f"{name_tuned(base, tuning, tuned_on)}, {shots} shots"
        model += "" if seed == ALL else f", seed {seed}"
        model += f", {documents}" if samples[corpus] > 1 else ""
        told = group.set_index("quantity")[["mean", "low", "high", "n", "different"]].reindex(TUNED)
        for quantity, row in told.iterrows():
            numbers = (row["mean"], row["low"], row["high"], int(np.nan_to_num(row["n"])))
            rows.append(claims.judge(TUNED[quantity], model, corpus, *numbers, different=row["different"]))
    return rows


def final(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows to read: those over all seeds, and of models without such a row those of each seed."""
    pooled = table.groupby([key for key in KEYS if key != "seed"])["seed"].transform(lambda seeds: (seeds == ALL).any())
    return table[(table["seed"] == ALL) | ~pooled.astype(bool)]


def find_sizes(records: Iterable[dict]) -> dict[str, int]:
    """Returns the number of parameters by base model, from the records of runs of 10_trace that hold it."""
    models = [record.get("model") for record in records if record["notebook"] == "10_trace"]
    return {parse(model["name"]).base: int(model["parameters"]) for model in models if model.get("parameters")}


def _resample(traces, conventions, seed, repeats):
    """Returns the values (T, Q) on the documents that all T traces have, as many resampled ones (resamples, T, Q),
    which documents have a say, bool (T, D, Q), the names of the Q quantities, and `_count_different` of them, (T, Q).
    """
    shared = traces[0].documents["id"]
    for trace in traces:
        shared = shared[shared.isin(trace.documents["id"][trace.complete()])]
    if shared.empty:
        raise ValueError(f"{', '.join(str(t.folder) for t in traces)} share no document: trace them on one sample")
    found = [count(trace, conventions, repeats) for trace in traces]
    quantities = list(dict.fromkeys(name for sums, _ in found for name in sums))
    above, below = (  # (T, D, Q) each
        np.stack([pair[i].reindex(index=shared, columns=quantities).fillna(0).to_numpy() for pair in found])
        for i in (0, 1)
    )
    size, rng, parts = len(shared), np.random.default_rng(seed), []
    number = int(np.clip(WORK // size, 1_000, RESAMPLES))
    for start in range(0, number, rows := max(1, CHUNK // size)):
        # How often each document is drawn (rows, D), and with that the ratios (rows, T, Q).
        draws = rng.multinomial(size, np.full(size, 1 / size), min(rows, number - start)).astype(float)
        parts.append(_divide(*(np.tensordot(draws, part, ([1], [1])) for part in (above, below))))
    lists = [answers.read_lists(trace).set_axis(trace.documents["id"])[shared] for trace in traces]
    different = np.array(list(map(_count_different, lists, below > 0, [quantities] * len(traces))))
    return _divide(above.sum(axis=1), below.sum(axis=1)), np.concatenate(parts), below > 0, quantities, different


def _count_different(said, counted, quantities):
    """Returns how many different answers, said (D,), documents counted, bool (D, Q), get: (Q,), NaN for scores."""
    asked = zip(quantities, counted.T, strict=True)
    return [np.nan if " " in name else answers.count_different(said[each]) or np.nan for name, each in asked]


def _divide(above, below):
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)


def _average(values, drawn, seed):
    """Returns the mean over seeds (Q,), and the same of seeds drawn anew for each resample (resamples, Q).

    values: (seeds, Q); drawn: (resamples, seeds, Q). A seed without such a quantity does not count.
    """
    seeds = len(values)
    picked = np.random.default_rng([seed, 1]).multinomial(seeds, np.full(seeds, 1 / seeds), len(drawn))[..., None]
    known = ~np.isnan(drawn)  # (resamples, seeds, Q); picked: (resamples, seeds, 1)
    resampled = _divide((picked * np.where(known, drawn, 0)).sum(axis=1), (picked * known).sum(axis=1))
    known = ~np.isnan(values)
    return _divide(np.where(known, values, 0).sum(axis=0), known.sum(axis=0)), resampled


def _rows(key, quantities, values, drawn, n, different, exact=False):
    """Returns rows of COLUMNS, NaN for quantities without a case.

    exact: shares of 0 or 1, which no resample moves, have the exact binomial interval.
    """
    rows = []
    for i, name in enumerate(quantities):
        low, high = _ends(drawn[:, i]) if n[i] > 1 else (np.nan, np.nan)
        if exact and QUANTITIES[name].percent and values[i] in (0, 1) and n[i] > 1:
            low, high = binomtest(round(values[i] * n[i]), int(n[i])).proportion_ci(0.95)
        rows.append([*key, name, float(values[i].round(12)), float(low), float(high), int(n[i]), different[i]])
    return rows


def _ends(drawn):
    """Returns the 95 % interval of resampled values (resamples,), those without a case left out."""
    known = drawn[~np.isnan(drawn)].round(12)  # equal traces differ by nothing, not by rounding
    return tuple(map(float, np.quantile(known, [0.025, 0.975]))) if len(known) else (np.nan, np.nan)
