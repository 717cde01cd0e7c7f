"""The page about how lists are written: figures and tables of both families of prompts, the paper's first."""

import numpy as np
import pandas as pd
import pytest

from mlutils.reporting import drawing, generation

COLUMNS = ["value", "low", "high", "n", "not_next", "not_next_low", "not_next_high", "intermediate"]


def steps_run(folder, family, figures):
    """A run of 20_steps that drew some figures."""
    folder.mkdir()
    for name in figures:
        drawing.save(drawing.Drawing(1, 1, f"{name} {family}"), name, folder)
    rows = pd.DataFrame([[90.0, 80, 95, 30, 50, 40, 60, 60], [100.0, 2, 100, 3, 1, 0, 2, 300]], columns=COLUMNS)
    table4 = rows.assign(source="ours", model="m", corpus=["semeval", "mfrc"], published_not_next=[None, "1 to 2"])
    table4.to_csv(folder / "table4.csv", index=False)
    pd.DataFrame({"model": ["m"], "corpus": ["semeval"], "documents": [40]}).to_csv(folder / "counts.csv", index=False)
    return {"notebook": "20_steps", "folder": folder, "parameters": {"family": family}}


@pytest.fixture
def shown(tmp_path):
    (tmp_path / "public").mkdir()
    return tmp_path / "public"


def test_a_run_of_each_family_is_shown_the_papers_first(tmp_path, shown):
    p = steps_run(tmp_path / "p", "P", ["fig2", "fig5", "fig16"])
    c = steps_run(tmp_path / "c", "C", ["fig2", "fig5"])
    for records in ([p, c], [c, p]):
        (section,) = generation.sections(records, shown, tmp_path)
        drawn = [(block[0].alt, block[0].path.name) for block in section.blocks if isinstance(block, tuple)]
        assert drawn == [
            ("fig2 C", "fig2.png"), ("fig2 P", "fig2_P.png"), ("fig5 P", "fig5.png"), ("fig5 C", "fig5_C.png"),
            ("fig16 P", "fig16_P.png"),
        ]  # fmt: skip
        assert [block[1].rpartition(" ")[2] for block in section.blocks if isinstance(block, tuple)] == list("CPPCP")
        assert len(section.runs) == 2
        counts, table = section.blocks[0], section.blocks[-1]
        assert counts.count("<td") and "prompts" in counts
        assert table.count("90.0 [80.0, 95.0]") == 2 and table.count("too few (n = 3)") == 2


def test_one_run_has_the_papers_names(tmp_path, shown):
    (section,) = generation.sections([steps_run(tmp_path / "p", "P", ["fig2", "fig5"])], shown, tmp_path)
    assert sorted(file.name for file in shown.glob("*.png")) == ["fig2.png", "fig5.png"]
    assert "family P" in section.blocks[1][1]


def test_the_latest_run_of_other_notebooks_is_shown_and_no_run_is_no_section(tmp_path, shown):
    assert generation.sections([], shown, tmp_path) == []
    records = []
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        drawing.save(drawing.Drawing(1, 1, name), "fig6", tmp_path / name)
        records.append({"notebook": "21_demonstrations", "folder": tmp_path / name, "parameters": {}})
    (section,) = generation.sections(records, shown, tmp_path)
    assert section.blocks[0].alt == "new" and "plans" in section.text
    pd.DataFrame({"order": np.array([])}).to_csv(tmp_path / "new" / "table7.csv", index=False)
    records[1]["notebook"] = "22_label_order"
    assert generation.sections(records[1:], shown, tmp_path)[0].blocks == ()
