"""Verdicts to be read: every claim has a row, a cell counts places, statistics stand behind it."""

import pandas as pd
from markupsafe import Markup

from mlutils.readouts import claims
from mlutils.readouts.claims import Statistic, judge
from mlutils.reporting import verdicts

NAN = float("nan")


def row(claim, name, value, corpus="mfrc", model="m"):
    return judge(Statistic(claim, name, 0), model, corpus, value, value - 0.1, value + 0.1, 40, different=6.25)


def texts(rows):
    """Returns the matrix of some rows, cells as plain texts, by claim."""
    found = verdicts.matrix(claims.tabulate(rows), lambda told, claim: f"{', '.join(told.values())} ({claim})")
    return found.set_index("Claim")


def test_every_claim_has_a_row_and_a_cell_says_where_it_holds():
    rows = [row("C4", "a (prompts C)", 1.0), row("C4", "b (Table 4) (prompts C)", -1.0)]  # one statistic fails: not
    rows += [row("C4", "a (prompts P)", 1.0), row("C4", "a", 0.0, "boxes"), row("C4", "b", 1.0, "boxes")]
    rows += [row("C10", "s", 1.0, model="n+sft-mfrc, 10 shots, seed 0")]
    found = texts(rows)
    assert list(found.index) == list(verdicts.CLAIMS) and list(found) == ["The paper says", "m", "n: SFT"]
    assert found.loc["C4", "m"] == "1 holds, 1 does not, 1 open (C4)" and found.loc["C4", "n: SFT"] == "–"
    assert found.loc["C10", "n: SFT"] == "holds (C10)"  # a single place needs no number
    assert (found.loc[found.index.drop(["C4", "C10"]), ["m", "n: SFT"]] == "–").all().all()
    several = texts([row("C2", "a", -1.0, corpus) for corpus in ("mfrc", "boxes", "semeval")])
    assert several.loc["C2", "m"] == "3 do not (C2)"


def test_cells_of_the_page_are_coloured_and_escaped():
    told = {claims.VERDICTS[0]: "2 hold", claims.VERDICTS[2]: "1 <open>"}
    cell = verdicts.colour(told, "C1")
    assert cell == '<span class="holds">2 hold</span><br><span class="open">1 &lt;open&gt;</span>'
    assert isinstance(cell, Markup)


def test_the_sentence_sorts_claims_by_where_they_hold():
    rows = [row("C1", "a", 1.0), row("C2", "a", -1.0), row("C3", "a", 1.0), row("C3", "a", -1.0, "boxes")]
    rows += [row("C4", "a", 0.0), row("C1", "a", 0.0, "boxes")]
    said = verdicts.sum_up(claims.tabulate(rows))
    assert "C1 hold wherever they can be told; C2 hold nowhere; C3 hold in part; C4, C5" in said


def test_details_leave_out_rows_without_a_case():
    rows = [row("C10", "s", 1.0), row("C2", "s", 1.0)]
    rows.append(judge(Statistic("C2", "of nothing", 0), "m", "boxes", NAN, NAN, NAN, 0))
    found = verdicts.details(claims.tabulate(rows))
    assert found["Claim"].tolist() == ["C2", "C10"]
    assert found.iloc[0].tolist() == ["C2", "s", "above 0", "m", "MFRC", "1.00 [0.90, 1.10]", "40", "6.2", "holds"]
    scored = verdicts.details(claims.tabulate([row("C12", "s", 1.0)])).iloc[0]
    assert (scored["different"], scored["Verdict"]) == ("–", "holds")  # about documents
    old = verdicts.details(claims.tabulate(rows).drop(columns="different"))  # of a run older than the number
    assert set(old["different"]) == {"–"}


def test_finetuning_has_a_row_a_tuned_model():
    name = "largest step probability at r = 1, tuned minus base"
    rows = [row("C1", name, 0.25, model="m+sft-mfrc"), row("C1", "largest step probability at r = 1, median", 0.9)]
    found = verdicts.finetuning(claims.tabulate(rows))
    assert len(found) == 1 and found["Model"].tolist() == ["m+sft-mfrc"]
    assert found["largest step probability at r = 1"].tolist() == ["0.25 [0.15, 0.35]"]
    assert verdicts.finetuning(pd.DataFrame(columns=claims.COLUMNS)).empty
