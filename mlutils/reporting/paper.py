"""The page that readers see: what the runs of a grid found, in the paper's order, beside the published numbers."""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mlutils.reporting import figures, pages, pictures, published, tables
from mlutils.reporting.looks import look
from mlutils.reporting.pages import Section
from mlutils.reporting.pictures import Picture

LEAD = """This page shows what a language model believes while it writes lists of labels, beside what annotators said
about the same documents. It follows the paper *Large Language Models Do Multi-Label Classification Differently*
(EMNLP 2025): published numbers stand beside ours, and below each table a line says what differs. Every number
comes from a run of a notebook; the links lead to it."""


def gather(records: Sequence[dict], name: str) -> pd.DataFrame:
    """Returns the rows of a table (`<name>.csv`) of all runs that have it, joined; empty where none has."""
    found = [pd.read_csv(file) for record in records if (file := record["folder"] / f"{name}.csv").exists()]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def reports(records: Sequence[dict], notebook: str, root: Path) -> tuple[tuple[str, str], ...]:
    """Returns text and link of the reports of a notebook's runs, relative to the page."""
    return tuple(
        (f"{notebook}: {record['folder'].name}", os.path.relpath(record["folder"] / "report.html", root))
        for record in records
        if record["notebook"] == notebook
    )


def datasets(records: Sequence[dict], root: Path) -> Section:
    """Returns Table 1: annotators, agreement and labels of each corpus, published numbers beside."""
    table = gather(records, "datasets")
    theirs = published.datasets().set_index(["corpus", "statistic"])["printed"]
    names = {
        "annotators_total": ("annotators_total", "Annotators", "{:.0f}"),
        "annotators_per_document": ("annotators_per_example", "a document", "{:.2f}"),
        "kappa": ("cohen_kappa", "Kappa", "{:.2f}"),
    }
    for k in ("0", "1", "2", "3plus"):
        names[f"labels_{k}_pct"] = (f"labels_{k}_pct", f"{k.replace('plus', '+')} labels, %", "{:.1f}")
    rows = []
    for row in table.to_dict("records"):
        cells = {
            "Corpus": f"{published.corpus_title(row['corpus'])}, {row['split']}",
            "n": f"{row['documents']:,}",
        }
        for ours, (statistic, title, form) in names.items():
            value = "–" if pd.isna(row[ours]) else form.format(row[ours])
            if ours == "kappa" and row["kappa_kind"] == "fleiss":
                value += " (Fleiss)"
            beside = theirs.get((row["corpus"], statistic))
            cells[title] = value if beside is None or pd.isna(beside) else f"{value} / {beside}"
        rows.append(cells)
    floor = gather(records, "noise_floor")
    blocks = [tables.html(pd.DataFrame(rows), "Ours / published where the paper has this corpus.")]
    if len(floor):
        floor["value"] = [f"{r.mean:.2f} [{r.low:.2f}, {r.high:.2f}]" for r in floor.itertuples()]
        keys = ["corpus", "split", "row", "n"]
        wide = floor.pivot(index=keys, columns="metric", values="value").reset_index()
        wide["corpus"] = wide["corpus"].map(published.corpus_title)
        metrics = {name: title for name, title in published.METRICS.items() if name in wide}
        blocks.append(
            tables.html(
                wide[[*keys, *metrics]].rename(columns=metrics),
                "What a perfect predictor would score against the annotators at hand, mean and 95 % interval.",
            )
        )
    return Section(
        "Table 1: what annotators say",
        "How many labels documents carry and how far annotators agree. The *noise floor* is the score of a perfect "
        "predictor: with about three annotators a document it is far from zero.",
        tuple(blocks),
        "Kappa is Cohen's, pooled over pairs of named annotators, or Fleiss' where only counts of votes are "
        "public. *Vignettes* and generated *Boxes* are this repository's own synthetic corpora.",
        reports(records, "00_datasets", root),
    )


def alignment(table: pd.DataFrame, pictures_shown: Sequence[Picture], records: Sequence[dict], root: Path) -> Section:
    """Returns Tables 2 and 5 with their figures."""
    parts = [
        tables.alignment_html(
            rows,
            _published(corpus),
            f"{published.corpus_title(corpus)} ({documents}): mean [95 % interval over documents]; bold: best "
            "zero-shot method, where a paired test tells it from the second.",
        )
        for (corpus, documents), rows in table.groupby(["corpus", "documents"], sort=False)
    ]
    return Section(
        "Tables 2 and 5: which readout matches the annotators",
        "NLL and L1 measure the distance between predicted label probabilities and the share of annotators (lower is "
        "better), example-F1 the overlap of label sets (higher is better). Constants do well in NLL and L1: a method "
        "has learnt something about a document only where it beats the base rate.\n\n" + headline(table),
        (*pictures_shown, *parts),
        "All rows of a table stand on the same documents, ours in this repository's default model; published rows are "
        "of 8B and 70B models on the paper's documents (supervised rows maybe on others). Answers are parsed strictly, "
        "demonstrations are shared by all documents, and `none` is never shown, as in the paper. A corpus without "
        "annotators (SemEval) has F1 against its gold sets only.",
        reports(records, "40_alignment", root),
    )


def progress(records: Sequence[dict], root: Path) -> Section:
    """Returns how far methods are from a constant to the noise floor, and which are ahead of all published rows."""
    way = gather(records, "way").fillna({"model": ""})
    way = way[~way["method"].isin(["noise_floor", "zeros"])]
    way["Corpus"] = [f"{published.corpus_title(r.corpus)} ({r.documents})" for r in way.itertuples()]
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
        ahead = ahead.fillna({"model": ""})
        keys = ["corpus", "documents", "model", "method"]
        best = ahead.pivot_table(index=keys, columns="metric", values="difference", sort=False)
        sure = ahead.pivot_table(index=keys, columns="metric", values="ahead", aggfunc="all", sort=False)
        leading = (best[["nll", "l1"]] < 0).all(axis=1) | (best["nll"] < 0) & (best["f1"] > 0)
        rows = []
        for key, row in best[leading].iterrows():
            corpus, documents, model, method = key
            cells = {
                "Corpus": f"{published.corpus_title(corpus)} ({documents})",
                "Method": look(method).title,
                "Model": model,
            }
            for metric in ("nll", "l1", "f1"):
                mark = " (sure)" if sure.loc[key, metric] else ""
                cells[published.METRICS[metric]] = f"{row[metric]:+.2f}{mark}"
            rows.append(cells)
        if rows:
            caption = "Ours minus the best published value (any row, 8B or 70B); sure: the whole 95 % interval."
            blocks.append(tables.html(pd.DataFrame(rows), caption))
    return Section(
        "How far on the way to a perfect predictor",
        "The share of the way from a constant (0.1, or uniform for single labels) to the noise floor. Calibrated and "
        "stacked rows are cross-fitted on the test documents (never on the one that they are applied to); encoders are "
        "trained and tuned on other documents only.",
        tuple(blocks),
        "Published supervised rows probably stand on another, more natural set of documents than published zero-shot "
        "rows; ours are shown for both where there are both.",
        reports(records, "07_encoder", root),
    )


def headline(table: pd.DataFrame) -> str:
    """Returns a sentence a corpus: best zero-shot readout, base rate and noise floor in NLL (or F1)."""
    lines = []
    for (corpus, _), rows in table.groupby(["corpus", "documents"], sort=False):
        metric = "nll" if (rows["metric"] == "nll").any() else "f1"
        values = rows[rows["metric"] == metric]
        zero_shot = values[[look(method).group == "zero-shot" for method in values["method"]]]
        if zero_shot.empty:
            continue
        best = zero_shot.loc[zero_shot["mean"].idxmin() if metric == "nll" else zero_shot["mean"].idxmax()]
        fixed = values.set_index("method")["mean"]
        beside = [
            f"{look(m).title.lower()} {fixed[m]:.2f}" for m in ("base_rate", "tfidf", "noise_floor") if m in fixed
        ]
        lines.append(
            f"- **{published.corpus_title(corpus)}** (n = {best['n']}): best zero-shot readout in "
            f"{published.METRICS[metric]} is {look(best['method']).title.lower()} of {best['model']} with "
            f"{best['mean']:.2f} [{best['low']:.2f}, {best['high']:.2f}]; {', '.join(beside)}."
        )
    return "\n".join(lines)


def traces(records: Sequence[dict], root: Path) -> Section:
    """Returns how the models answered: statuses of answers, label steps, and Figure 4."""
    rows, shown = [], []
    for record in records:
        if record["notebook"] != "10_trace":
            continue
        summary = pd.read_csv(record["folder"] / "summary.csv").iloc[0]
        status = pd.read_csv(record["folder"] / "statuses.csv").set_index("status")["documents"]
        corpus = published.corpus_title(record["parameters"]["corpus"])
        rows.append(
            {
                "Model": record["model"]["name"],
                "Corpus": corpus,
                "n": int(summary["documents"]),
                "failed": int(summary["failed"]),
                "read": f"{(status.get('ok', 0) + status.get('none', 0)) / status.sum():.1%}",
                "steps a document": f"{summary['steps a document']:.2f}",
                "two or more labels": int(summary["answers with two or more labels"]),
                "different answers": int(summary["different answers"]),
                "label mass": f"{summary['mean mass of the labels in the full softmax']:.3f}",
                "tokens": f"{sum(view['tokens'] for view in record['work'].values()):,}",
                "seconds": f"{sum(view['seconds'] for view in record['work'].values()):.0f}",
            }
        )
        if (record["folder"] / "first_step.png").exists():
            shown.append((pictures.load(record["folder"] / "first_step.png"), f"{record['model']['name']}, {corpus}"))
    return Section(
        "How the model answers",
        "Share of answers that the strict parser reads, label steps, answers with two or more labels, and the mass of "
        "all label tokens in the full softmax at label steps. A model that gives few different answers says little "
        "about single documents, whatever is read out of it. The figures show the probabilities of all labels at the "
        "first step, sorted, one line a document (Fig. 4).",
        (tables.html(pd.DataFrame(rows), "Greedy lists; tokens and seconds of all questions together."), *shown),
        "Demonstrations are drawn once and shared; the paper draws new ones for each document. Up to 40 new tokens; "
        "the paper allows 18.",
        reports(records, "10_trace", root),
    )


def build(records: Sequence[dict], grid: str, root: Path, publish: Path | None, code: str) -> list[Path]:
    """Writes `paper.html` and `index.html` into root, and figures and tables into `publish`; returns the files.

    records: of the finished runs (`runs.collect`); code: `runs.code_fingerprint()`, by which older runs are marked.
    """
    shown = publish or root / "figures"
    shown.mkdir(parents=True, exist_ok=True)
    sections, written = [], []
    if any(record["notebook"] == "10_trace" for record in records):
        sections.append(traces(records, root))
    table = gather(records, "alignment")
    if len(table):
        sections.append(alignment(table, _alignment_pictures(table, grid, shown), records, root))
        written += _write_tables(table, shown)
        if len(gather(records, "way")):
            sections.append(progress(records, root))
    if len(gather(records, "datasets")):
        sections.insert(0, datasets(records, root))
    written.append(pages.render_page(sections, root / "paper.html", f"One Label at a Time: {grid}", LEAD, "index.html"))
    runs = [
        pages.Run(
            record["notebook"],
            record["parameters"],
            "done" if record.get("code") == code else "older than the code",
            record.get("seconds"),
            os.path.relpath(record["folder"] / "report.html", root),
        )
        for record in records
    ]
    written.append(pages.render_index(runs, root / "index.html", f"Runs of the grid {grid}", "paper.html"))
    return written


def _alignment_pictures(table: pd.DataFrame, grid: str, folder: Path) -> list[Picture]:
    drawn = traced(table[table["metric"] != "corrected_squared_error"])
    shown = [
        pictures.save(
            figures.alignment_bars(drawn, _published(*table["corpus"].unique())),
            "alignment",
            f"Dots with intervals for each method, metric and corpus of the grid {grid}; published values are hollow. "
            + headline(table).replace("*", ""),
            folder,
        )
    ]
    voted = drawn[drawn["corpus"].isin(drawn.loc[drawn["metric"] == "nll", "corpus"])]
    if len(voted):
        shown.append(
            pictures.save(
                figures.alignment_scatter(voted, _published(*voted["corpus"].unique())),
                "alignment_scatter",
                f"L1 against NLL of each method, a panel a corpus, of the grid {grid}; lines cross at the noise floor, "
                "published values are hollow.",
                folder,
            )
        )
    return shown


def traced(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows about the documents that a model was traced on: one set of documents a corpus, for figures."""
    zero_shot = table[[look(method).group == "zero-shot" for method in table["method"]]]
    sets = set(zip(zero_shot["corpus"], zero_shot["documents"], strict=True))
    return table[[pair in sets for pair in zip(table["corpus"], table["documents"], strict=True)]]


def _published(*corpora: str) -> pd.DataFrame | None:
    theirs = published.alignment()
    theirs = theirs[theirs["corpus"].isin(corpora)]
    return theirs if len(theirs) else None


def _write_tables(table: pd.DataFrame, folder: Path) -> list[Path]:
    """Writes the tidy table, and as Markdown the one that the README holds."""
    csv, markdown = folder / "alignment.csv", folder / "alignment.md"
    table.drop(columns="best").to_csv(csv, index=False, float_format="%.4f", lineterminator="\n")
    drawn = table[table["metric"] != "corrected_squared_error"]
    markdown.write_text(tables.alignment_markdown(drawn, published.alignment()) + "\n", encoding="utf-8")
    return [csv, markdown]
