"""The verdict table at the top of the page: each claim of the paper, what decides it, and what our runs say."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mlutils.reporting import published, tables
from mlutils.reporting.collected import gather, reports
from mlutils.reporting.pages import Section

CLAIMS = {
    "C1": "At each step one label gets nearly all of the probability, more so in larger and in tuned models.",
    "C2": "Second and later steps are as spiky as the first.",
    "C3": "Step distributions look the same whether or not another label follows.",
    "C4": "The second-most-probable label is often not said next, and then mostly never.",
    "C5": "The first label said is right more often than the second.",
    "C6": "The share of multi-label answers follows that of the demonstrations.",
    "C7": "The hidden state at the first label knows that label, not the later ones.",
    "C8": "Later labels attend to earlier labels ten times as much, per token, as to the input.",
    "C9": "The order of labels in the instruction steers the order, and the choice, of labels.",
    "C10": "With scale and tuning, entropy falls and the ranking of labels improves.",
    "C11": "Max-over-generations aligns best of the free readouts; supervised methods lead.",
    "C12": "Tuned models have better F1, and worse NLL for readouts of label logits.",
    "C13": "The same holds for other model families and for several decoding heads.",
}


COLUMNS = ["Claim", "Statistic", "holds where", "Model", "Corpus", "Value", "n", "Verdict"]


def verdicts(records: Sequence[dict], root: Path) -> Section:
    """Returns the verdict table of all runs that judge a claim; claims without a run are listed as not measured."""
    table = gather(records, "claims")
    rows = []
    for claim in CLAIMS:
        found = table[table["claim"] == claim] if len(table) else table
        for row in found.itertuples():
            value = "–" if pd.isna(row.value) else f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]"
            corpus = published.corpus_title(row.corpus)
            rows.append([claim, row.statistic, row.decides, row.model, corpus, value, f"{row.n:,}", row.verdict])
        if found.empty:
            rows.append([claim, "no run of this grid measures it", *[""] * 5, "not measured"])
    claims = tables.html(pd.DataFrame(CLAIMS.items(), columns=["Claim", "The paper says"]), "The claims in our words.")
    notebooks = dict.fromkeys(each["notebook"] for each in records if (each["folder"] / "claims.csv").exists())
    return Section(
        "Verdicts",
        "Each claim is decided by a statistic that its notebook defines before any result is seen: it *holds* or *does "
        "not hold* where the whole 95 % interval says so, and *cannot be told here* otherwise, or where fewer than ten "
        "cases are at hand. The paper's claims are about models of 1 to 72 billion parameters: a verdict here says "
        "whether the same can be seen in the models traced in this grid.",
        (
            tables.html(
                pd.DataFrame(rows, columns=COLUMNS), "Value with 95 % interval; n: documents, answers or steps."
            ),
            claims,
        ),
        "The thresholds are ours; the paper argues from figures.",
        tuple(link for name in notebooks for link in reports(records, name, root)),
    )


def write(records: Sequence[dict], folder: Path) -> list[Path]:
    """Writes `claims.csv`, the rows of all runs in the order of the claims; returns the files."""
    table = gather(records, "claims")
    if table.empty:
        return []
    file = folder / "claims.csv"
    table = table.sort_values("claim", key=lambda claims: claims.str[1:].astype(int), kind="stable")
    table.to_csv(file, index=False, float_format="%.4f", lineterminator="\n")
    return [file]
