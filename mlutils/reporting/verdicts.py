"""Verdicts on the paper's claims, to be read: a matrix of claims and models, and the statistics behind each cell."""

from collections.abc import Callable

import pandas as pd
from markupsafe import Markup

from mlutils.readouts import changes
from mlutils.readouts.claims import COLUMNS, VERDICTS
from mlutils.readouts.model_names import BASE, parse
from mlutils.reporting.changes_tables import tuning_title
from mlutils.reporting.published import corpus_title
from mlutils.reporting.tables import MISSING, interval

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
WORDS = dict(zip(VERDICTS, (("holds", "hold"), ("does not", "do not"), ("open", "open")), strict=True))  # one, several
PLACE = r"(?P<statistic>.*?)(?: \((?P<place>[^()]*)\))?$"  # notebooks say in parentheses which prompts or documents


def matrix(table: pd.DataFrame, write: Callable[[dict[str, str], str], str]) -> pd.DataFrame:
    """Returns claims down and models across, and in each cell on how many corpora (and prompts) the claim holds, does
    not hold, or is open because it cannot be told.

    table: rows of `claims.tabulate`. A claim holds for a model and corpus where all its statistics do, and does not
    where one does not. write(told, claim): how a cell is written, told: `2 hold` and the like by verdict.
    """
    judged = _judge_places(table)
    models = list(dict.fromkeys(sorted(judged["Model"], key=lambda name: (name.partition(":")[0], len(name)))))
    rows = []
    for claim, sentence in CLAIMS.items():
        row = {"Claim": claim, "The paper says": sentence}
        for model in models:
            counts = judged[(judged["claim"] == claim) & (judged["Model"] == model)]["verdict"].value_counts()
            several = counts.sum() > 1
            told = {
                verdict: f"{counts[verdict]} {WORDS[verdict][int(counts[verdict] > 1)]}" if several else words[0]
                for verdict, words in WORDS.items()
                if verdict in counts
            }
            row[model] = write(told, claim) if told else MISSING
        rows.append(row)
    return pd.DataFrame(rows, dtype=object)


def colour(told: dict[str, str], claim: str) -> Markup:
    """Returns a cell of `matrix` as HTML."""
    spans = [
        Markup('<span class="{}">{}</span>').format(WORDS[verdict][0].split()[0], text)
        for verdict, text in told.items()
    ]
    return Markup("<br>").join(spans)


def sum_up(table: pd.DataFrame) -> str:
    """Returns in a sentence which claims hold wherever they can be told, which nowhere, and which depend."""
    judged = _judge_places(table)
    groups: dict[str, list[str]] = {"hold wherever they can be told": [], "hold nowhere": [], "hold in part": []}
    groups["cannot be told, or are not measured here"] = []
    for claim in CLAIMS:
        told = set(judged[judged["claim"] == claim]["verdict"]) - {VERDICTS[2]}
        place = 3 if not told else 2 if len(told) > 1 else 0 if VERDICTS[0] in told else 1
        list(groups.values())[place].append(claim)
    said = [f"{', '.join(claims)} {words}" for words, claims in groups.items() if claims]
    return f"Of the paper's {len(CLAIMS)} claims, {'; '.join(said)}."


def details(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the statistics that decide the claims, a row each that has a case: value with 95 % interval, n, and of
    claims about lists the number of different answers.
    """
    told = table.reindex(columns=COLUMNS).query("n > 0").sort_values("claim", key=_number, kind="stable")
    rows = [
        [r.claim, r.statistic, r.decides, r.model, corpus_title(r.corpus), interval(r.value, r.low, r.high)]
        + [f"{r.n:,}", MISSING if pd.isna(r.different) else f"{r.different:.1f}", r.verdict]
        for r in told.itertuples()
    ]
    columns = ["Claim", "Statistic", "holds where", "Model", "Corpus", "Value", "n", "different", "Verdict"]
    return pd.DataFrame(rows, columns=columns)


def order(table: pd.DataFrame) -> pd.DataFrame:
    """Returns rows of all runs in the order of the claims."""
    return table.sort_values("claim", key=_number, kind="stable") if len(table) else pd.DataFrame(columns=COLUMNS)


def finetuning(table: pd.DataFrame) -> pd.DataFrame:
    """Returns what tuning changes (claims C1, C10, C12), a row a corpus and tuned model: tuned minus base, 95 %."""
    titles = {statistic.name: statistic.name.partition(",")[0] for statistic in changes.TUNED.values()}
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for r in table[table["statistic"].isin(titles)].itertuples():
        row = rows.setdefault((r.corpus, r.model), {"Corpus": corpus_title(r.corpus), "Model": r.model})
        row[titles[r.statistic]] = interval(r.value, r.low, r.high)
    return pd.DataFrame(list(rows.values()), columns=["Corpus", "Model", *titles.values()])


def _judge_places(table: pd.DataFrame) -> pd.DataFrame:
    """Returns claim, Model (base and tuning) and verdict, a row for each place where a claim is judged."""
    places = table["statistic"].str.extract(PLACE)["place"].fillna("")
    rows = []
    for (claim, model, corpus, _), group in table.groupby(["claim", "model", "corpus", places], sort=False):
        known = set(group["verdict"])
        verdict = next((each for each in (VERDICTS[1], VERDICTS[2]) if each in known), VERDICTS[0])
        name = parse(model.partition(",")[0])
        tuned = "" if name.tuning == BASE else f": {tuning_title(name.tuning, '', corpus)}"
        rows.append([claim, name.base + tuned, verdict])
    return pd.DataFrame(rows, columns=["claim", "Model", "verdict"])


def _number(claims: pd.Series) -> pd.Series:
    return claims.str[1:].astype(int)
