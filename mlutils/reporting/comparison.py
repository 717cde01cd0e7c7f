"""The sections of the page about alignment: Tables 2 and 5, Fig. 8 and 12, the headline, and how far methods are."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from mlutils import reporting
from mlutils.readouts import changes
from mlutils.reporting import changes_tables, drawing, published, tables
from mlutils.reporting.collected import gather, reports
from mlutils.reporting.drawing import Drawing, Picture
from mlutils.reporting.looks import is_drawn, look
from mlutils.reporting.pages import Section

HEADLINE = ("encoder_blend", "stacking")  # fixed for all corpora, not chosen by their scores
SFT = ("sft_outputs", "sft_max_over_generations")
OTHERS = "conventions"  # in the name of documents read with other conventions than ours


def alignment(records: Sequence[dict], grid: str, folder: Path, root: Path) -> Section:
    """Returns Tables 2 and 5 with their figures, which are saved in `folder`."""
    table = gather(records, "alignment")
    parts = [
        tables.alignment_html(
            rows,
            theirs(corpus),
            f"{_corpus(corpus, documents)}: mean [95 % interval over documents]; bold: best zero-shot method, where a "
            "paired test tells it from the second.",
        )
        for (corpus, documents), rows in table.groupby(["corpus", "documents"], sort=False)
    ]
    return Section(
        "Tables 2 and 5: which readout matches the annotators",
        "NLL and L1 measure the distance between predicted label probabilities and the share of annotators (lower is "
        "better), example-F1 the overlap of label sets (higher is better). Constants do well in NLL and L1: a method "
        "has learnt something about a document only where it beats the base rate.\n\n" + summary(table),
        (*_pictures(table, grid, folder), *parts),
        "All rows of a table stand on the same documents, ours in this repository's default model; published rows are "
        "of 8B and 70B models on the paper's documents (supervised rows maybe on others). Answers are parsed strictly, "
        "demonstrations are shared by all documents, and `none` is never shown, as in the paper. A corpus without "
        "annotators (SemEval) has F1 against its gold sets only. Tables *with released conventions* use the strings, "
        "answer tokens, pair order, probes and Demux threshold of the paper's code; all others are ours.",
        reports(records, "40_alignment", root),
    )


def headline(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the README's first table: for each corpus the best published values, ours, and the noise floor.

    Ours are the rows of HEADLINE, the same for all corpora, with 95 % intervals.
    """
    rows = []
    for (corpus, documents), ours in table.groupby(["corpus", "documents"], sort=False):
        paper = published.alignment().query("corpus == @corpus")
        if paper.empty or OTHERS in documents or not ours["method"].isin(HEADLINE).any():
            continue
        free = paper[paper["group"] != "supervised"]
        for title, of in (("Published, best zero-shot row for each metric", free), ("Published, best of all", paper)):
            best = {m: of[of["metric"] == m]["value"].agg("max" if m == "f1" else "min") for m in ("nll", "l1", "f1")}
            rows.append([corpus, documents, title, *(f"{value:.2f}" for value in best.values())])
        for method in (*HEADLINE, "noise_floor"):
            found = ours[ours["method"] == method].set_index("metric")
            cells = [f"{r['mean']:.2f} [{r['low']:.2f}, {r['high']:.2f}]" for _, r in found.iterrows()]
            cells = dict(zip(found.index, cells, strict=True))
            if cells:
                rows.append([corpus, documents, look(method).title, *(cells.get(m, "–") for m in ("nll", "l1", "f1"))])
    frame = pd.DataFrame(rows, columns=["corpus", "documents", "Row", "NLL", "L1", "Example-F1"])
    counts = table.groupby(["corpus", "documents"])["n"].max()
    frame.insert(
        0, "Corpus", [f"{_corpus(c, d)}, n = {counts[c, d]}" for c, d in frame[["corpus", "documents"]].values]
    )
    return frame.drop(columns=["corpus", "documents"])


def progress(records: Sequence[dict], root: Path) -> Section:
    """Returns how far methods are from a constant to the noise floor, and which are ahead of all published rows."""
    way = gather(records, "way").fillna({"model": ""})
    way = way[~way["method"].isin(["noise_floor", "zeros"]) & ~way["documents"].str.contains(OTHERS)]
    way["Corpus"] = [_corpus(row.corpus, row.documents) for row in way.itertuples()]
    way["Method"] = [look(row.method).title + (f", {row.model}" if row.model else "") for row in way.itertuples()]
    blocks = []
    for metric in ("nll", "l1"):
        wide = way.pivot_table(index="Method", columns="Corpus", values=metric, sort=False)
        wide = wide.loc[wide.mean(axis=1).sort_values(ascending=False).index].reset_index()
        caption = (
            f"{published.METRICS[metric]}: 0 is a constant, 1 the noise floor; below 0 is worse than the constant."
        )
        blocks.append(tables.html(wide, caption, {name: "{:.2f}" for name in wide.columns[1:]}))
    ahead = gather(records, "against_published")
    if len(ahead):
        blocks += _ahead(ahead.fillna({"model": ""}))
    return Section(
        "How far on the way to a perfect predictor",
        "The share of the way from a constant (0.1, or uniform for single labels) to the noise floor. Calibrated, "
        "shifted and stacked rows are fitted on training documents set aside, drawn like the tested ones; rows that "
        "are cross-fitted on tested documents say so. Encoders are trained and tuned on other documents only.",
        tuple(blocks),
        "Published supervised rows probably stand on another, more natural set of documents than published zero-shot "
        "rows; ours are shown for both where there are both.",
        reports(records, "07_encoder", root),
    )


def _ahead(ahead):
    """Returns a table of our rows that lead the best published value in two metrics or more, as a list of blocks."""
    ahead = ahead[~ahead["documents"].str.contains(OTHERS)]
    rows = []
    for (corpus, documents, model, method), found in ahead.groupby(
        ["corpus", "documents", "model", "method"], sort=False
    ):
        by = found.set_index("metric")
        leads = [(row.difference > 0) if metric == "f1" else (row.difference < 0) for metric, row in by.iterrows()]
        if sum(leads) < 2:
            continue
        cells = {"Corpus": _corpus(corpus, documents), "Method": look(method).title, "Model": model}
        for metric in ("nll", "l1", "f1"):
            row = by.loc[metric]
            mark = " (sure)" if row["ahead"] else ""
            cells[published.METRICS[metric]] = f"{row['difference']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]{mark}"
        rows.append(cells)
    caption = (
        "Ours minus the best published value of each metric (any row, 8B or 70B), with 95 % intervals over our "
        "documents; sure: the whole interval is ahead. Rows that lead in two metrics or more."
    )
    return [tables.html(pd.DataFrame(rows), caption)] if rows else []


def pairwise(records: Sequence[dict], folder: Path, root: Path) -> Section | None:
    """Returns Fig. 8, saved in `folder`, or None where no run has both variants of the pairwise breakdown."""
    table = main_documents(gather(records, "alignment"))
    if not set(reporting.alignment.PAIRWISE) <= set(table["method"]):
        return None
    shown = table[table["corpus"].isin(table.loc[table["method"] == "binary_breakdown_outcomes", "corpus"])]
    picture = drawing.save(reporting.alignment.outcomes_against_probabilities(shown), "fig8", folder)
    return Section(
        "Fig. 8: the pairwise breakdown, probabilities against outcomes",
        "Bradley-Terry scores fitted to probabilities that one label beats another, or to outcomes (0 or 1).",
        (picture,),
        "Scores are the exact ridge optimum. The order of the labels of a pair is drawn from the plan's seed.",
        reports(records, "40_alignment", root),
    )


def decisions(records: Sequence[dict], root: Path) -> Section:
    """Returns F1 with other decisions than the threshold 0.5, and macro F1."""
    table = gather(records, "decisions").fillna({"model": "", "fitted_on": ""})
    table = table[table["method"].map(is_drawn) & ~table["documents"].str.contains(OTHERS)]
    rows = [
        {
            "Corpus": _corpus(row.corpus, row.documents),
            "Method": look(row.method).title,
            "F1 at 0.5": f"{row.f1:.2f}",
            "F1, decided": "–" if pd.isna(row.decided) else f"{row.decided:.2f} [{row.low:.2f}, {row.high:.2f}]",
            "fitted on": {"set aside": "train, set aside", "cross-fitted": "tested, cross-fitted"}.get(
                row.fitted_on, "–"
            ),
            "macro F1 at 0.5": f"{row.macro_f1:.2f}",
        }
        for row in table.itertuples()
    ]
    return Section(
        "F1 with better decisions",
        "Example-F1 of the label sets that maximise its expectation, by chances calibrated to what majorities choose, "
        "beside the threshold 0.5 of the paper. The two are never mixed in one column.",
        (tables.html(pd.DataFrame(rows), "Mean [95 % interval over documents]; macro F1 is over labels."),),
        "The paper has the threshold 0.5 only, and does not say which F1 it prints for single-label sets.",
        reports(records, "40_alignment", root),
    )


def tuned(records: Sequence[dict], pairs: Mapping[str, str], folder: Path, root: Path) -> Section:
    """Returns Fig. 12 for pairs of a base model and its tuned model, saved in `folder`."""
    paired = changes_tables.pair_up(main_documents(gather(records, "alignment")), list(pairs.items()))
    picture = drawing.save(reporting.changes.base_against_tuned(paired), "fig12", folder)
    return Section(
        "Fig. 12: base against tuned models",
        "The paper finds that tuned models have better F1, and worse NLL for the readouts of label logits.",
        (picture,),
        "Means are over the corpora that both models were traced on.",
        reports(records, "40_alignment", root),
    )


def sets(records: Sequence[dict], root: Path) -> Section:
    """Returns what exact set marginals say about greedy lists, and the expected number of labels."""
    shares = gather(records, "greedy_shares")
    shares["value"] = [f"{row.mean:.2f} [{row.low:.2f}, {row.high:.2f}]" for row in shares.itertuples()]
    wide = shares.pivot(index=["corpus", "n"], columns="what", values="value").reset_index()
    wide["corpus"] = wide["corpus"].map(published.corpus_title)
    shown = [
        drawing.load(file)
        for record in records
        if (file := record["folder"] / "expected_sizes.png").exists() and record["notebook"] == "41_sets"
    ]
    return Section(
        "Exact set marginals",
        "The tree of lists, expanded best first with certified bounds: is the greedy list the most probable set, and "
        "how many labels does the model expect?",
        (tables.html(wide, "Share of documents, mean [95 % interval over documents]."), *shown),
        "Not in the paper. Step distributions are over labels and none; the list goes on by the mass of separators.",
        reports(records, "41_sets", root),
    )


def summary(table: pd.DataFrame) -> str:
    """Returns a sentence a corpus: best zero-shot readout, base rate and noise floor in NLL (or F1)."""
    lines = []
    for (corpus, documents), rows in table.groupby(["corpus", "documents"], sort=False):
        metric = "nll" if (rows["metric"] == "nll").any() else "f1"
        values = rows[rows["metric"] == metric]
        zero_shot = values[[look(method).group == "zero-shot" for method in values["method"]]].dropna(subset="mean")
        if zero_shot.empty or OTHERS in documents:
            continue
        best = zero_shot.loc[zero_shot["mean"].idxmin() if metric == "nll" else zero_shot["mean"].idxmax()]
        fixed = values.set_index("method")["mean"]
        beside = [
            f"{look(m).title.lower()} {fixed[m]:.2f}"
            for m in ("base_rate", "tfidf", "encoder_blend", "noise_floor")
            if m in fixed
        ]
        lines.append(
            f"- **{published.corpus_title(corpus)}** (n = {best['n']}): best zero-shot readout in "
            f"{published.METRICS[metric]} is {look(best['method']).title.lower()} of {best['model']} with "
            f"{best['mean']:.2f} [{best['low']:.2f}, {best['high']:.2f}]; {', '.join(beside)}."
        )
    return "\n".join(lines)


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
    names = named["model"].map(changes.parse)
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


def write_tables(table: pd.DataFrame, folder: Path) -> list[Path]:
    """Writes the tidy table, and as Markdown the whole one and the headline that the README holds."""
    drawn = table[table["metric"] != "corrected_squared_error"]
    csv = table.drop(columns="best").to_csv(index=False, float_format="%.4f", lineterminator="\n")
    markdown = tables.alignment_markdown(drawn, published.alignment())
    texts = {folder / "alignment.csv": csv, folder / "alignment.md": markdown + "\n"}
    if len(best := headline(table)):  # none where the paper has none of the corpora
        texts[folder / "headline.md"] = tables.markdown(best) + "\n"
    return tables.write(texts)


def _pictures(table: pd.DataFrame, grid: str, folder: Path) -> list[Picture]:
    drawn = main_documents(for_figures(table[table["metric"] != "corrected_squared_error"].dropna(subset="mean")))
    voted = drawn[drawn["corpus"].isin(drawn.loc[drawn["metric"] == "nll", "corpus"])]
    shown: dict[str, Drawing] = {}
    if len(voted):
        shown["alignment_scatter"] = reporting.alignment.scatter(voted, theirs(*voted["corpus"].unique()))
    shown["alignment"] = reporting.alignment.bars(drawn, theirs(*table["corpus"].unique()))
    for fig in shown.values():
        fig.alt += f" The grid {grid}: " + summary(drawn).replace("*", "")
    return [drawing.save(fig, name, folder) for name, fig in shown.items()]


def _corpus(corpus: str, documents: str) -> str:
    return f"{published.corpus_title(corpus)} ({documents})"
