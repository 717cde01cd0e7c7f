"""The page that readers see: what the runs of a grid found, in the paper's order, beside the published numbers."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from mlutils.reporting import comparison, drawing, finetuning, generation, pages, published, tables, verdicts
from mlutils.reporting.collected import gather, reports
from mlutils.reporting.pages import Section

LEAD = """This page shows what a language model believes while it writes lists of labels, beside what annotators said
about the same documents. It follows the paper *Large Language Models Do Multi-Label Classification Differently*
(EMNLP 2025): published numbers stand beside ours, and below each table a line says what differs. Every number
comes from a run of a notebook; the links lead to it."""


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


def traces(records: Sequence[dict], root: Path) -> Section:
    """Returns how the models answered: statuses of answers, label steps, and Figure 4."""
    rows, shown = [], []
    for record in records:
        if record["notebook"] != "10_trace":
            continue
        summary = pd.read_csv(record["folder"] / "summary.csv").iloc[0]
        status = pd.read_csv(record["folder"] / "statuses.csv").set_index("status")["documents"]
        given = record["parameters"]
        corpus = published.corpus_title(given["corpus"])
        drawn = "set aside" if given["reserve"] else f"{given['split']}, {given['sample']}"
        others = f", {given['conventions']}" if given["conventions"] != "ours" else ""
        rows.append(
            {
                "Model": record["model"]["name"],
                "Corpus": corpus,
                "Documents": drawn,
                "Prompts": f"family {given['family']}{others}, {given['shots']} shots",
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
        # Fig. 4 is of family P; traces of other documents look the same.
        main = given["family"] == "P" and "unary" in given["asked"] and not given["reserve"] and not others
        main = main and "+" not in record["model"]["name"]
        if main and (record["folder"] / "first_step.png").exists():
            shown.append((drawing.load(record["folder"] / "first_step.png"), f"{record['model']['name']}, {corpus}"))
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


def build(
    records: Sequence[dict],
    grid: str,
    root: Path,
    publish: Path | None,
    code: str,
    pairs: Mapping[str, str] | None = None,
) -> list[Path]:
    """Writes `paper.html` and `index.html` into root, and figures and tables into `publish`; returns the files.

    records: of the finished runs (`runs.collect`); code: `runs.code_fingerprint()`, by which older runs are marked;
    pairs: base model -> tuned model, for Fig. 12.
    """
    shown = publish or root / "figures"
    shown.mkdir(parents=True, exist_ok=True)
    sections, written = [], []
    if len(gather(records, "claims")):
        sections.append(verdicts.verdicts(records, root))
        written += verdicts.write(records, shown)
    if len(gather(records, "datasets")):
        sections.append(datasets(records, root))
    if any(record["notebook"] == "10_trace" for record in records):
        sections.append(traces(records, root))
    sections += generation.sections(records, shown, root)
    sections += finetuning.sections(records, shown, root)
    table = gather(records, "alignment")
    if len(table):
        sections.append(comparison.alignment(records, grid, shown, root))
        written += comparison.write_tables(table, shown)
        if len(gather(records, "way")):
            sections.append(comparison.progress(records, root))
        sections += [fig8] if (fig8 := comparison.pairwise(records, shown, root)) else []
        sections.append(comparison.decisions(records, root))
        if pairs:
            sections.append(comparison.tuned(records, pairs, shown, root))
    if any(record["notebook"] == "41_sets" for record in records):
        sections.append(comparison.sets(records, root))
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
