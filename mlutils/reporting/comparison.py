"""Tables of the page: ours beside published, how far methods are, what a model's answers are like."""

from collections.abc import Sequence

import pandas as pd

from mlutils.metrics import METRICS, PRINTED
from mlutils.readouts import methods
from mlutils.readouts.answers import count_different, read_lists
from mlutils.readouts.model_names import parse
from mlutils.reporting import published
from mlutils.reporting.looks import is_drawn, look
from mlutils.reporting.steps import write_never_said
from mlutils.reporting.tables import MISSING, interval

HEADLINE, SFT = methods.select("headline"), methods.select("after_sft")
OTHERS = "conventions"  # in the name of documents read with other conventions than ours
COUNTED = {"annotators_total": ("annotators_total", "Annotators", "{:.0f}")}
COUNTED |= {"annotators_per_document": ("annotators_per_example", "a document", "{:.2f}")}
COUNTED |= {"kappa": ("cohen_kappa", "Kappa", "{:.2f}")}
COUNTED |= {f"labels_{k}_pct": (f"labels_{k}_pct", f"{k.replace('plus', '+')} labels, %", "{:.1f}") for k in "012"}
COUNTED |= {"labels_3plus_pct": ("labels_3plus_pct", "3+ labels, %", "{:.1f}")}


def datasets(table: pd.DataFrame) -> pd.DataFrame:
    """Returns Table 1: annotators, agreement and labels of each corpus, ours / published where the paper has it.

    table: rows of `corpora.describe` with corpus and split.
    """
    theirs = published.datasets().set_index(["corpus", "statistic"])["printed"]
    rows = []
    for row in table.to_dict("records"):
        cells = {"Corpus": f"{published.corpus_title(row['corpus'])}, {row['split']}", "n": f"{row['documents']:,}"}
        for ours, (statistic, title, form) in COUNTED.items():
            value = MISSING if pd.isna(row[ours]) else form.format(row[ours])
            if ours == "kappa" and row["kappa_kind"] == "fleiss":
                value += " (Fleiss)"
            beside = theirs.get((row["corpus"], statistic))
            cells[title] = value if beside is None or pd.isna(beside) else f"{value} / {beside}"
        rows.append(cells)
    return pd.DataFrame(rows)


def noise_floors(table: pd.DataFrame) -> pd.DataFrame:
    """Returns what a perfect predictor scores against the annotators at hand, a column a metric, with intervals.

    table: corpus, split, row, metric, mean, low, high, n.
    """
    keys = ["corpus", "split", "row", "n"]
    told = [interval(r.mean, r.low, r.high) for r in table.itertuples()]
    wide = table.assign(told=told).pivot(index=keys, columns="metric", values="told").reset_index()
    metrics = {name: metric.title for name, metric in METRICS.items() if name in wide}
    return wide.assign(corpus=wide["corpus"].map(published.corpus_title))[[*keys, *metrics]].rename(columns=metrics)


def answers(records: Sequence[dict], tables: Sequence[tuple[pd.DataFrame, pd.DataFrame]]) -> pd.DataFrame:
    """Returns a row a trace: how its answers read, how many labels they have, and what they took.

    records: of the runs of 10_trace; tables: `summary.csv` and `statuses.csv` of each.
    """
    rows = []
    for record, (summaries, statuses) in zip(records, tables, strict=True):
        summary, status, given = summaries.iloc[0], statuses.set_index("status")["documents"], record["parameters"]
        drawn = "set aside" if given["reserve"] else f"{given['split']}, {given['sample']}"
        others = f", {given['conventions']}" if given["conventions"] != "ours" else ""
        row = {"Model": record["model"]["name"], "Corpus": published.corpus_title(given["corpus"]), "Documents": drawn}
        row |= {"Prompts": f"{given['family']}{others}, {given['shots']} shots", "n": f"{summary['documents']:.0f}"}
        row |= {"failed": f"{summary['failed']:.0f}"}
        row |= {"read": f"{(status.get('ok', 0) + status.get('none', 0)) / status.sum():.1%}"}
        row |= {"steps a document": f"{summary['steps a document']:.2f}"}
        row |= {"two or more labels": f"{summary['answers with two or more labels']:.0f}"}
        row |= {"different answers": f"{summary['different answers']:.0f}"}
        row |= {"label mass": f"{summary['mean mass of the labels in the full softmax']:.3f}"}
        work = record["work"].values()
        row |= {"tokens": f"{sum(view['tokens'] for view in work):,}"}
        rows.append(row | {"seconds": f"{sum(view['seconds'] for view in work):.0f}"})
    return pd.DataFrame(rows)


def recited(traces: Sequence) -> str:
    """Returns which models give one and the same answer to more than half of their documents, and how many different
    answers theirs come to, in a sentence; empty where none does. Whatever is read out of such answers says little about
    single documents.
    """
    told = []
    for trace in traces:
        lists = trace.answers[trace.answers["variant"] == "list"]["text"].str.strip()
        most = lists.value_counts().max() if len(lists) else 0
        different = f"{count_different(read_lists(trace)):.1f} different answers"
        if 2 * most > len(trace.documents):
            given = trace.settings
            where = f"{published.corpus_title(given['corpus'])}, {given['shots']} demonstrations"
            told.append(f"{given['model']} ({where}: {most} of {len(trace.documents)} documents, {different})")
    return f"One and the same answer for more than half of the documents: {'; '.join(told)}." if told else ""


def never_said(table: pd.DataFrame) -> pd.DataFrame:
    """Returns Table 4 of both families of prompts, the published percents beside.

    table: rows of `table4.csv` with family.
    """
    paper = published.never_predicted().pivot(index="corpus", columns="model", values="value").reset_index()
    ours = table[table["source"] == "ours"].reset_index(drop=True)
    told = write_never_said(ours).assign(prompts=ours["family"]).merge(paper, "left", "corpus")
    told["corpus"] = told["corpus"].map(published.corpus_title)
    told.insert(2, "prompts", told.pop("prompts"))
    return told[[column for column in told if column != "source" and told[column].notna().any()]]


def headline(table: pd.DataFrame) -> pd.DataFrame:
    """Returns for each corpus the best published values, ours, and the noise floor: Corpus, Row, NLL, L1, Example-F1.

    Ours are the rows of HEADLINE, the same for all corpora, with 95 % intervals.
    """
    rows, theirs = [], published.alignment()
    for (corpus, documents), ours in table.groupby(["corpus", "documents"], sort=False):
        paper = theirs[theirs["corpus"] == corpus]
        if paper.empty or OTHERS in documents or not ours["method"].isin(HEADLINE).any():
            continue
        head = f"{_corpus(corpus, documents)}, n = {ours['n'].max()}"
        place = "" if documents == "paper" else " (on the paper's documents)"
        free = paper[paper["group"] != "supervised"]
        for title, of in (("Published, best zero-shot row for each metric", free), ("Published, best of all", paper)):
            best = [of[of["metric"] == m]["value"].agg(METRICS[m].best) for m in PRINTED]
            rows.append([head, title + place, *(f"{value:.2f}" for value in best)])
        for method in (*HEADLINE, "base_rate", "noise_floor"):
            found = ours[ours["method"] == method].set_index("metric")
            if len(found):
                cells = found.reindex(list(PRINTED))[["mean", "low", "high"]].to_numpy()
                rows.append([head, look(method).title, *(interval(*cell) for cell in cells)])
    return pd.DataFrame(rows, columns=["Corpus", "Row", *(METRICS[m].title for m in PRINTED)])


def way(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Returns the share of the way from a constant (0) to the noise floor (1), a row a method, a column a corpus.

    table: rows of `alignment.share_of_way` with corpus and documents.
    """
    table = table.fillna({"model": ""})
    table = table[~table["method"].isin(["noise_floor", "zeros"]) & ~table["documents"].str.contains(OTHERS)]
    table = table.assign(
        Corpus=[_corpus(row.corpus, row.documents) for row in table.itertuples()],
        Method=[look(row.method).title + (f", {row.model}" if row.model else "") for row in table.itertuples()],
    )
    wide = table.pivot_table(index="Method", columns="Corpus", values=metric, sort=False)
    return wide.loc[wide.mean(axis=1).sort_values(ascending=False).index].reset_index().rename_axis(columns=None)


def ahead(table: pd.DataFrame) -> pd.DataFrame:
    """Returns our rows that lead the best published value in two metrics or more: ours minus theirs, with intervals.

    table: rows of `alignment.against_published` with corpus and documents.
    """
    rows, keys = [], ["corpus", "documents", "model", "method"]
    table = table.fillna({"model": ""})
    for (corpus, documents, model, method), found in table.groupby(keys, sort=False):
        by = found.set_index("metric")
        leads = [(-row.difference if METRICS[m].lower_is_better else row.difference) > 0 for m, row in by.iterrows()]
        if sum(leads) < 2 or OTHERS in documents:
            continue
        cells = {"Corpus": _corpus(corpus, documents), "Method": look(method).title, "Model": model or MISSING}
        for metric in PRINTED:
            row = by.loc[metric]
            mark = "*" if row["ahead"] else ""
            told = f"{row['difference']:+.2f}{mark} [{row['low']:+.2f}, {row['high']:+.2f}]"
            cells[METRICS[metric].title] = told
        rows.append(cells)
    return pd.DataFrame(rows)


def decisions(table: pd.DataFrame) -> pd.DataFrame:
    """Returns example-F1 at the threshold 0.5 and with better decisions, and macro F1, a row a corpus and method."""
    table = table.fillna({"model": "", "fitted_on": ""})
    table = table[table["method"].map(is_drawn) & ~table["documents"].str.contains(OTHERS)]
    places = {"set aside": "train, set aside", "cross-fitted": "tested, cross-fitted"}
    rows = [
        [_corpus(row.corpus, row.documents), look(row.method).title, f"{row.f1:.2f}"]
        + [interval(row.decided, row.low, row.high), places.get(row.fitted_on, MISSING), f"{row.macro_f1:.2f}"]
        for row in table.itertuples()
    ]
    columns = ["Corpus", "Method", "F1 at 0.5", "F1, decided", "fitted on", "macro F1 at 0.5"]
    return pd.DataFrame(rows, columns=columns)


def greedy_shares(table: pd.DataFrame) -> pd.DataFrame:
    """Returns how often the greedy list is the most probable set, a row a corpus, with intervals."""
    told = [interval(row.mean, row.low, row.high) for row in table.itertuples()]
    wide = table.assign(told=told).pivot(index=["corpus", "n"], columns="what", values="told").reset_index()
    return wide.assign(corpus=wide["corpus"].map(published.corpus_title)).rename_axis(columns=None)


def summary(table: pd.DataFrame) -> str:
    """Returns a sentence a corpus: best zero-shot readout, base rate and noise floor in NLL (or F1)."""
    lines = []
    for (corpus, documents), rows in table.groupby(["corpus", "documents"], sort=False):
        metric = "nll" if (rows["metric"] == "nll").any() else "f1"
        values = rows[rows["metric"] == metric]
        zero_shot = values[[look(method).group == "zero-shot" for method in values["method"]]].dropna(subset="mean")
        if zero_shot.empty or OTHERS in documents:
            continue
        best = zero_shot.loc[zero_shot["mean"].agg(f"idx{METRICS[metric].best}")]
        fixed = values.set_index("method")["mean"]
        beside = [
            f"{look(m).title.lower()} {fixed[m]:.2f}"
            for m in ("base_rate", "tfidf", "encoder_blend", "noise_floor")
            if m in fixed
        ]
        lines.append(
            f"{published.corpus_title(corpus)} (n = {best['n']}): best zero-shot readout in "
            f"{METRICS[metric].title} is {look(best['method']).title.lower()} of {best['model']} with "
            f"{best['mean']:.2f} [{best['low']:.2f}, {best['high']:.2f}]; {', '.join(beside)}."
        )
    return " ".join(lines)


def main_documents(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows about documents that a model was traced on with our conventions: a set a corpus, for figures."""
    if table.empty:
        return table
    zero_shot = table[[look(method).group == "zero-shot" for method in table["method"]]]
    kept = set(zip(zero_shot["corpus"], zero_shot["documents"], strict=True))
    pairs = zip(table["corpus"], table["documents"], strict=True)
    return table[[pair in kept and OTHERS not in pair[1] for pair in pairs]]


def for_figures(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows that figures show: those of SFT under the name of their base model, with most demonstrations;
    in-context SFT, and fewer demonstrations, stand in tables only.
    """
    table = table.assign(model=table["model"].fillna(""))
    rows = table[table["method"].isin(SFT)]
    if rows.empty:
        return table
    named = rows["model"].str.extract(r"(?P<model>.*), (?P<shots>\d+) shots")
    names = named["model"].map(parse)
    rows = rows.assign(model=[name.base for name in names], shots=named["shots"].astype(int))
    rows = rows[[name.tuning == "sft" for name in names]]
    most = rows.groupby(["corpus", "documents", "model"])["shots"].transform("max")
    rows = rows[rows["shots"] == most].drop(columns="shots")
    return pd.concat([table[~table["method"].isin(SFT)], rows])


def theirs(*corpora: str) -> pd.DataFrame | None:
    """Returns the published rows of some corpora, None where there are none."""
    found = published.alignment()
    found = found[found["corpus"].isin(corpora)]
    return found if len(found) else None


def _corpus(corpus: str, documents: str) -> str:
    return f"{published.corpus_title(corpus)} ({documents})"
