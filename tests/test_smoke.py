"""What the smoke grid left behind: `make test` runs the grid first, then these checks of its pages and files."""

import json

import pandas as pd
import pytest
from bs4 import BeautifulSoup

from mlutils import grids, paths
from mlutils.traces import Trace

ROOT = paths.RESULTS / "smoke"
POINTS = grids.read_grid(paths.GRIDS / "smoke.yaml")
REPORTS = [key for key in POINTS if not key.startswith("90_paper/")]
pytestmark = pytest.mark.skipif(not (ROOT / "paper.html").exists(), reason="run `make smoke` first")


def page(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@pytest.mark.parametrize("key", POINTS)
def test_every_run_finished_with_record_and_report(key):
    record = json.loads((ROOT / key / "run.json").read_text())
    assert record["parameters"]["folder"] == f"results/smoke/{key}"
    assert (ROOT / key / "notebook.ipynb").exists()
    html = page(ROOT / key / "report.html" if key in REPORTS else ROOT / "paper.html")  # the page is 90_paper's report
    assert html.title and html.html["lang"] and html.find("h1") and html.find("nav")


@pytest.mark.parametrize("path", [*(f"{key}/report.html" for key in REPORTS), "paper.html", "index.html"])
def test_pages_are_whole_and_ask_nothing_of_a_network(path):
    html = page(ROOT / path)
    assert len(html.find_all("script")) == (path == "index.html")  # which sorts
    for tag in html.find_all(src=True):
        assert tag["src"].startswith("data:"), tag
    for tag in html.find_all("link"):
        assert not tag.get("href", "").startswith("http"), tag
    for image in html.find_all("img"):
        assert len(image.get("alt", "")) > 20, "a figure without alternative text"
    anchors = {tag["id"] for tag in html.find_all(id=True)}
    for link in html.find_all("a", href=True):
        if link["href"].startswith("#"):
            assert link["href"][1:] in anchors, link
        elif "://" not in link["href"]:
            target = (ROOT / path).parent / link["href"].partition("#")[0]
            assert target.exists(), f"{path} links to {link['href']}, which is not there"


def test_the_paper_page_has_its_tables_with_intervals_and_published_numbers():
    html = page(ROOT / "paper.html")
    titles = [tag.get_text() for tag in html.find_all(["h2", "h3"])]
    assert any("Table 1" in title for title in titles) and any("Tables 2 and 5" in title for title in titles)
    text = html.get_text()
    for row in ("Base rate", "TF-IDF", "Noise floor", "Compare-to-none", "Unary breakdown", "All zeros"):
        assert row in text
    assert html.find("table").find("th", scope="col")


def test_numbers_on_the_page_are_those_of_the_table():
    (key,) = [key for key in POINTS if key.startswith("40_alignment")]
    table = pd.read_csv(ROOT / key / "alignment.csv")
    text = page(ROOT / "paper.html").get_text()
    for row in table[table["metric"] == "nll"].itertuples():
        assert f"{row.mean:.2f}" in text, f"{row.method} {row.mean}"


def test_traces_read_back():
    for key in POINTS:
        if key.startswith("10_trace"):
            trace = Trace(ROOT / key)
            assert len(trace.documents) == POINTS[key].parameters["limit"] and trace.complete().all()
            assert set(trace.work) == set(trace.settings["views"])
