"""The sections of the page about how lists are written (section 4 of the paper): steps, steering, attention, probes."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mlutils import readouts
from mlutils.reporting import attention, drawing, published, steps, tables, variants
from mlutils.reporting.collected import gather, reports
from mlutils.reporting.drawing import Picture
from mlutils.reporting.pages import Section

STEPS = {  # figures of 20_steps on the page, and the paper's prompts; Fig. 9 shows Fig. 2 and 3 once more
    "fig2": ("C", "Fig. 2: the largest step probability, last against intermediate steps"),
    "fig3": ("C", "Fig. 3: the second-highest probability, and what becomes of the second label"),
    "fig5": ("P", "Fig. 5: accuracy of the first and the second label said"),
    "fig10": ("C", "Fig. 10: entropy of step distributions"),
    "fig11": ("C", "Fig. 11: rank, at the first step, of the labels said second and third"),
    "fig16": ("C", "Fig. 16: the largest step probability by decoding head"),
}
PROBES = {  # figures of 24_linear_probes, and their names beside the others
    "probes": ("fig7", "Fig. 7: micro F1 of probes of gold sets and of the model's predictions, and controls"),
    "layers": ("fig7_layers", "The same probes, layer by layer"),
    "following": ("fig7_following", "Does the first hidden state tell that another label follows?"),
}


def publish(record: dict, name: str, folder: Path, public: str = "") -> Picture | None:
    """Returns a figure of a run, copied into `folder` with its PDF and text; None where the run drew none.

    public: its name there, where that differs.
    """
    if not (record["folder"] / f"{name}.png").exists():
        return None
    for suffix in ("png", "pdf", "json"):
        shutil.copyfile(record["folder"] / f"{name}.{suffix}", folder / f"{public or name}.{suffix}")
    return drawing.load(folder / f"{public or name}.png")


def sections(records: Sequence[dict], folder: Path, root: Path) -> list[Section]:
    """Returns the sections that there are runs for, in the paper's order; their figures are copied into `folder`."""
    made = {"20_steps": _steps, "21_demonstrations": _steered, "22_label_order": _ordered}
    made |= {"23_attention": _attention, "24_linear_probes": _probes}
    return [
        build(found, folder, reports(records, notebook, root))
        for notebook, build in made.items()
        if (found := [record for record in records if record["notebook"] == notebook])
    ]


def _steps(records, folder, links) -> Section:
    """Returns the section of 20_steps, which has a run for each family of prompts: the paper's comes first."""
    shown = []
    for name, (family, caption) in STEPS.items():
        for place, record in enumerate(sorted(records, key=lambda each: each["parameters"]["family"] != family)):
            prompts = record["parameters"]["family"]
            public = f"{name}_{prompts}" if place else name
            if (picture := publish(record, name, folder, public)) is not None:
                shown.append((picture, f"{caption}; prompts of family {prompts}"))
    counts, table4 = (
        pd.concat([gather([r], name).assign(prompts=r["parameters"]["family"]) for r in records], ignore_index=True)
        for name in ("counts", "table4")
    )
    paper = published.never_predicted().pivot(index="corpus", columns="model", values="value").reset_index()
    ours = table4[table4["source"] == "ours"].reset_index(drop=True)
    told = steps.write_never_said(ours).assign(prompts=ours["prompts"]).merge(paper, "left", "corpus")
    for table in (counts, told):
        table["corpus"] = table["corpus"].map(published.corpus_title)
        table.insert(2, "prompts", table.pop("prompts"))
    kept = [column for column in told if column != "source" and told[column].notna().any()]
    caption = "Table 4: percent of second labels, not said next, that are never said later; published beside."
    return Section(
        "Figures 2 to 5, 9 to 11, 16, Table 4: one label at a time",
        "At each label step the model's logits over the labels and none give a distribution. Is it spiky, does it know "
        "whether another label follows, and does it rank the labels that come later? A step is *last* if no label "
        "follows, and *intermediate* otherwise. Ten cases or fewer are not drawn as a share or a shape.",
        (tables.html(counts, "What there is to read."), *shown, tables.html(told[kept], caption)),
        "The label of a step is the one that was written, not the argmax. Only labels said later count in Table 4 (the "
        "released code also counts those said before).",
        links,
    )


def _steered(records, folder, links) -> Section:
    picture = publish(records[-1], "fig6", folder)
    return Section(
        "Fig. 6: do the demonstrations set the number of labels?",
        "The share of answers with two or more labels, where 0, 20, ... 100 % of the demonstrations have two or more. "
        "For each share some plans of demonstrations are drawn, and documents take turns with them; light dots are the "
        "plans one by one. Intervals are over plans, each with its documents.",
        (picture,) if picture else (),
        "An answer that the strict parser cannot read counts as having fewer than two labels.",
        links,
    )


def _ordered(records, folder, links) -> Section:
    table = gather(records[-1:], "table7")
    shown = ()
    if len(table):
        told = variants.label_order(readouts.variants.drop_few(table), published.label_order())
        shown = (tables.html(told, "Answers with two or more labels; ours with 95 % intervals, published beside."),)
    return Section(
        "Table 7: does the order in the instruction steer the answer?",
        "Labels are listed alphabetically, reversed, or at random, in the instruction and the demonstrations' answers.",
        shown,
        "Random orders are three seeds, their answers together. Intervals are over answers; shares of ten answers or "
        "fewer are not shown.",
        links,
    )


def _attention(records, folder, links) -> Section:
    table = attention.beside_published(gather(records[-1:], "table6"), published.attention())
    drawn = [picture] if (picture := publish(records[-1], "attention_by_layer", folder)) else []
    return Section(
        "Table 6: where do later labels look?",
        "Mean attention per token, in percent, of the rows that begin a label from the second on: on the input, on the "
        "answer so far, and on the first tokens of the labels said so far; mean over layers and heads.",
        (
            tables.html(table, "Ours with 95 % intervals over documents, published beside."),
            *drawn,
        ),
        "*Shifted* reads the first tokens one position too early, as the released code does.",
        links,
    )


def _probes(records, folder, links) -> Section:
    shown = [
        (picture, caption)
        for name, (public, caption) in PROBES.items()
        if (picture := publish(records[-1], name, folder, public)) is not None
    ]
    return Section(
        "Figures 7 and 15: what does the first hidden state know?",
        "Linear probes on the hidden state that predicts the first label, on held-out documents: of gold sets, of the "
        "model's own predictions, of these without the first label; and controls with shuffled labels.",
        tuple(shown),
        "Probes are trained on training documents set aside behind the same demonstrations, not on all of train.",
        links,
    )
