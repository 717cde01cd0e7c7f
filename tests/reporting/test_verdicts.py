"""The verdict table: every claim has a row, judged or not measured."""

from bs4 import BeautifulSoup

from mlutils.readouts import claims
from mlutils.readouts.claims import Statistic, judge
from mlutils.reporting import verdicts


def cells(block):
    rows = BeautifulSoup(block, "html.parser").find("tbody").find_all("tr")
    return [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in rows]


def test_every_claim_has_a_row(tmp_path):
    folder = tmp_path / "20_steps" / "run"
    folder.mkdir(parents=True)
    rows = [judge(Statistic(claim, "s", 0), "m", "mfrc", 1.0, 0.5, 1.5, 40) for claim in ("C10", "C2")]
    rows.append(judge(Statistic("C2", "of nothing", 0), "m", "boxes", float("nan"), float("nan"), float("nan"), 0))
    claims.tabulate(rows).to_csv(folder / "claims.csv", index=False)
    records = [{"notebook": "20_steps", "folder": folder}, {"notebook": "10_trace", "folder": tmp_path}]
    section = verdicts.verdicts(records, tmp_path)
    summary, values = (cells(block) for block in section.blocks)
    assert [row[0] for row in summary] == list(verdicts.CLAIMS)
    assert summary[1][2:] == ["MFRC", "–", "Boxes"] and summary[9][2:] == ["MFRC", "–", "–"]
    assert summary[0][2] == "not measured in this grid"
    assert [row[0] for row in values] == ["C2", "C10"]  # nothing stands behind a row without a case
    assert values[0][1:] == ["s", "above 0", "m", "MFRC", "1.00 [0.50, 1.50]", "40", "holds"]
    assert "1 of 3 rows" in section.blocks[1]
    assert section.runs == (("20_steps: run", "20_steps/run/report.html"),)
    file, summary = verdicts.write(records, tmp_path)
    assert [line.split(",")[0] for line in file.read_text().splitlines()] == ["claim", "C2", "C2", "C10"]
    assert "| C2 |" in summary.read_text()
    assert verdicts.write([], tmp_path) == []


def test_a_claim_holds_where_all_its_rows_do():
    def row(name, value, corpus="mfrc", model="m"):
        return judge(Statistic("C4", name, 0), model, corpus, value, value - 0.1, value + 0.1, 40)

    rows = [row("a (prompts C)", 1.0), row("b (Table 4) (prompts C)", -1.0), row("a (prompts P)", 1.0)]
    rows += [row("a", 0.0, "boxes"), row("b", 1.0, "boxes")]
    found = verdicts.summarise(claims.tabulate(rows)).set_index("Claim").loc["C4"]
    assert found["Holds"] == "MFRC (prompts P)" and found["Does not hold"] == "MFRC (prompts C)"
    assert found["Cannot be told here"] == "Boxes"
    both = verdicts.summarise(claims.tabulate([row("a (prompts P)", 1.0), row("a", -1.0, model="n")]))
    assert both.set_index("Claim").loc["C4", "Holds"] == "MFRC (m, prompts P)"
    tuned = verdicts.summarise(
        claims.tabulate([row("a (prompts P)", 1.0), row("b", 1.0, model="m+sft-mfrc, 10 shots")])
    )
    assert tuned.set_index("Claim").loc["C4", "Holds"] == "MFRC (prompts P); MFRC (sft-mfrc, 10 shots)"
