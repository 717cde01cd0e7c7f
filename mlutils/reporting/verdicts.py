"""The verdict table at the top of the page: each claim of the paper, what decides it, and what our runs say."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mlutils.readouts.claims import VERDICTS
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
PLACE = r"(?P<statistic>.*?)(?: \((?P<place>[^()]*)\))?$"  # notebooks say in parentheses which prompts or documents
BASE = r"([^+,]*)"  # of a model, in front of how it was tuned and asked


def verdicts(records: Sequence[dict], root: Path) -> Section:
    """Returns the verdicts of all runs that judge a claim: where each claim holds, and the values behind."""
    table = gather(records, "claims")
    notebooks = dict.fromkeys(each["notebook"] for each in records if (each["folder"] / "claims.csv").exists())
    told = table[table["n"] > 0]
    rows = [
        [
            row.claim,
            row.statistic,
            row.decides,
            row.model,
            published.corpus_title(row.corpus),
            "–" if pd.isna(row.value) else f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]",
            f"{row.n:,}",
            row.verdict,
        ]
        for row in told.sort_values("claim", key=_number, kind="stable").itertuples()
    ]
    caption = (
        "Value with 95 % interval; n: documents, answers, steps or plans of demonstrations. "
        f"{len(table) - len(told)} of {len(table)} rows have no case at all and stand in claims.csv only."
    )
    return Section(
        "Verdicts",
        "Each claim is decided by statistics that its notebook defines before any result is seen: a row *holds* or "
        "*does not hold* where the whole 95 % interval says so, and *cannot be told here* otherwise, or where fewer "
        "than ten cases are at hand. A claim holds for a model and corpus where all rows do, and does not where one "
        "does not. The paper's claims are about models of 1 to 72 billion parameters: a verdict here says whether the "
        "same can be seen in the models traced in this grid.",
        (
            tables.html(summarise(table), "The claims in our words, and where they hold."),
            tables.html(pd.DataFrame(rows, columns=COLUMNS), caption),
        ),
        "The thresholds are ours; the paper argues from figures.",
        tuple(link for name in notebooks for link in reports(records, name, root)),
    )


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Returns a row a claim: the paper's words, and the corpora (models, prompts) where it holds and where not.

    table: of `claims.csv`, rows of all runs. A claim that no run measures says so. Of one base model, and models tuned
    from it, only the tuning is named.
    """
    table = table.join(table["statistic"].str.extract(PLACE)["place"].fillna("").rename("place"))
    bases = table["model"].str.extract(BASE)[0].unique()
    common = bases[0] if len(bases) == 1 else ""
    rows = []
    for claim, words in CLAIMS.items():
        where: dict[str, dict[str, list[str]]] = {verdict: {} for verdict in VERDICTS}
        found = table[table["claim"] == claim]
        for (model, corpus, place), group in found.groupby(["model", "corpus", "place"], sort=False):
            known = set(group["verdict"])
            verdict = next((each for each in (VERDICTS[1], VERDICTS[2]) if each in known), VERDICTS[0])
            named = model.removeprefix(common).removeprefix("+")
            asked = ", ".join(each for each in (named, place) if each)
            where[verdict].setdefault(asked, []).append(published.corpus_title(corpus))
        cells = ["; ".join(_write(asked, corpora) for asked, corpora in each.items()) or "–" for each in where.values()]
        rows.append([claim, words, *(cells if len(found) else ["not measured in this grid", "–", "–"])])
    return pd.DataFrame(rows, columns=["Claim", "The paper says", *(verdict.capitalize() for verdict in VERDICTS)])


def _write(asked: str, corpora: Sequence[str]) -> str:
    return ", ".join(corpora) + (f" ({asked})" if asked else "")


def _number(claims: pd.Series) -> pd.Series:
    return claims.str[1:].astype(int)


def write(records: Sequence[dict], folder: Path) -> list[Path]:
    """Writes `claims.csv`, rows of all runs in the order of the claims, and `verdicts.md`, which the README holds."""
    table = gather(records, "claims")
    if table.empty:
        return []
    rows = table.sort_values("claim", key=_number, kind="stable")
    return tables.write(
        {
            folder / "claims.csv": rows.to_csv(index=False, float_format="%.4f", lineterminator="\n"),
            folder / "verdicts.md": tables.markdown(summarise(table)) + "\n",
        }
    )
