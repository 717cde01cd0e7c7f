"""What runs left behind, for the page: tables joined once, figures copied under public names, folded links."""

import pandas as pd
import pytest
from bs4 import BeautifulSoup

from mlutils.reporting import drawing
from mlutils.reporting.collected import Collected


def make_run(root, notebook, name, tables=(), figures=(), **parameters):
    """Returns the record of a run with empty figures, the name of the run in their texts."""
    folder = root / notebook / name
    folder.mkdir(parents=True)
    for table, rows in dict(tables).items():
        pd.DataFrame(rows).to_csv(folder / f"{table}.csv", index=False)
    for figure in figures:
        drawing.save(drawing.Drawing(1, 1, f"{figure} of {name}. More."), figure, folder)
    return {"notebook": notebook, "folder": folder, "parameters": parameters}


@pytest.fixture
def found(tmp_path):
    counts = {"counts": {"n": [3]}}
    changes = {"changes": {"seed": ["", "0", "all"], "tuned_on": [None, "mfrc", "mfrc"]}}
    records = [
        make_run(tmp_path, "20_steps", "p", counts, ["fig2"], family="P"),
        make_run(tmp_path, "20_steps", "c", counts, ["fig2", "fig5"], family="C"),
        make_run(tmp_path, "30_finetuning", "x", changes, ["fig2-a", "fig2-b"]),
    ]
    return Collected(records, tmp_path, tmp_path / "public")


def test_tables_are_joined_with_parameters_and_read_once(found, monkeypatch):
    table = found.table("counts", "20_steps", "family")
    assert table.to_dict("list") == {"n": [3, 3], "family": ["P", "C"]}
    monkeypatch.setattr(pd, "read_csv", None)
    assert len(found.table("counts")) == 2 and "family" not in found.table("counts")
    assert found.table("nonesuch").empty


def test_names_that_look_like_numbers_stay_names(found):
    table = found.table("changes")
    assert table["seed"].tolist() == ["", "0", "all"] and table["tuned_on"].tolist() == ["", "mfrc", "mfrc"]


def test_figures_are_copied_under_their_public_names(found):
    pictures = found.pictures("fig2", "20_steps", "fig2_P", family="P")
    assert [each.alt for each in pictures] == ["fig2 of p. More."] and pictures[0].path.name == "fig2_P.png"
    found.pictures("fig2", "30_finetuning", "tuned_{stem}-{run}")
    names = sorted(file.name for file in found.publish.iterdir())
    assert names == [f"{n}.{s}" for n in ("fig2_P", "tuned_fig2-a-x", "tuned_fig2-b-x") for s in ("json", "pdf", "png")]


def test_a_figure_is_shown_with_a_caption_or_its_first_sentence(found):
    shown = BeautifulSoup(found.show("fig5", "20_steps", "A < B").data, "html.parser")
    assert shown.figcaption.get_text() == "A < B" and shown.img["alt"] == "fig5 of c. More."
    assert BeautifulSoup(found.show("fig5", "20_steps").data, "html.parser").figcaption.get_text() == "fig5 of c."
    assert found.show("fig16", "20_steps").data == ""


def test_links_are_folded_and_say_where_there_is_none(found):
    soup = BeautifulSoup(found.links("20_steps", "30_finetuning").data, "html.parser")
    assert [a["href"] for a in soup.select("details a")][0] == "20_steps/p/report.html"
    assert soup.summary.get_text() == "3 runs behind this"
    assert found.links("41_sets").data == "<p>No run of 41_sets in this grid.</p>"
