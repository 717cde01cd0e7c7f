"""The verdict table: every claim has a row, judged or not measured."""

from bs4 import BeautifulSoup

from mlutils.readouts import claims
from mlutils.readouts.claims import Statistic, judge
from mlutils.reporting import verdicts


def test_every_claim_has_a_row(tmp_path):
    folder = tmp_path / "20_steps" / "run"
    folder.mkdir(parents=True)
    rows = [judge(Statistic(claim, "s", 0), "m", "mfrc", 1.0, 0.5, 1.5, 40) for claim in ("C10", "C2")]
    claims.tabulate(rows).to_csv(folder / "claims.csv", index=False)
    records = [{"notebook": "20_steps", "folder": folder}, {"notebook": "10_trace", "folder": tmp_path}]
    section = verdicts.verdicts(records, tmp_path)
    html = BeautifulSoup(section.blocks[0], "html.parser")
    found = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in html.find("tbody").find_all("tr")]
    assert [row[0] for row in found] == list(verdicts.CLAIMS)
    assert found[1][1:] == ["s", "above 0", "m", "MFRC", "1.00 [0.50, 1.50]", "40", "holds"]
    assert found[0][1] == "no run of this grid measures it" and found[0][-1] == "not measured"
    assert section.runs == (("20_steps: run", "20_steps/run/report.html"),)
    (file,) = verdicts.write(records, tmp_path)
    assert [line.split(",")[0] for line in file.read_text().splitlines()] == ["claim", "C2", "C10"]
    assert verdicts.write([], tmp_path) == []
