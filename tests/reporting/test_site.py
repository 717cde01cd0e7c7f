"""The site: pages with pictures beside them, links that lead somewhere, nothing of third parties; and docs itself."""

import base64
import json
import re

import pytest
from bs4 import BeautifulSoup

from mlutils import paths
from mlutils.reporting import site

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PAGE = (
    '<html><head><meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:;"></head>'
    '<body><p class="back"><a href="index.html">All runs</a></p><img alt="a" src="data:image/png;base64,{picture}">'
    "{links}</body></html>"
)


def write(path, links=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PAGE.format(picture=PIXEL, links=links))


@pytest.fixture
def results(tmp_path):
    root = tmp_path / "toy"
    for key, parameters in {
        "20_steps/P-aaaaaa": {},
        "20_steps/C-bbbbbb": {},
        "41_sets/vignettes-cccccc": {"corpus": "vignettes"},
        "10_trace/few-dddddd": {"corpus": "vignettes", "asked": ["list"], "reserve": 0},
        "10_trace/many-eeeeee": {"corpus": "vignettes", "asked": ["list", "sets"], "reserve": 0},
        "07_encoder/x-ffffff": {"corpus": "vignettes"},
    }.items():
        write(root / key / "report.html", '<a href="../../index.html">back</a>')
        (root / key / "run.json").write_text(json.dumps({"notebook": key.partition("/")[0], "parameters": parameters}))
    noise = '<details class="messages"><pre>/home/me/lib.py: warning</pre></details>'
    links = noise + "".join(
        f'<a href="{key}/report.html">{key}</a>' for key in ("20_steps/P-aaaaaa", "10_trace/few-dddddd")
    )
    write(root / "paper.html", links + '<a href="https://arxiv.org">paper</a><a href="#here">here</a>')
    write(root / "index.html", '<a href="paper.html">page</a>')
    return root


def test_pages_share_pictures_and_lead_to_each_other(results, tmp_path):
    docs = tmp_path / "docs"
    write(docs / "old.html")
    (docs / "DEVELOPERS.md").write_text("kept")
    pages = site.build(results, docs)
    reports = {"20_steps-P.html", "20_steps-C.html", "41_sets.html", "10_trace.html"}
    assert {page.name for page in pages} == {"index.html", "runs.html"} | reports
    assert not (docs / "old.html").exists() and (docs / "DEVELOPERS.md").exists()
    assert [file.read_bytes() for file in (docs / "pictures").iterdir()] == [base64.b64decode(PIXEL)]
    page = BeautifulSoup((docs / "index.html").read_text(), "html.parser")
    assert [a["href"] for a in page.find_all("a")] == [
        "runs.html", "../README.md", "20_steps-P.html", "https://arxiv.org", "#here"
    ]  # fmt: skip
    assert "10_trace/few-dddddd" in page.get_text()  # a run that is left out stays as text
    assert "/home/me" not in str(page)  # nothing of the machine that built it
    assert page.img["src"].startswith("pictures/") and "img-src 'self'" in page.meta["content"]
    assert BeautifulSoup((docs / "20_steps-P.html").read_text(), "html.parser").find_all("a")[0]["href"] == "runs.html"


def test_what_cannot_be_a_site(results, tmp_path, monkeypatch):
    with pytest.raises(site.SiteError, match="make paper GRID=none"):
        site.build(tmp_path / "none", tmp_path / "docs")
    with monkeypatch.context() as patch, pytest.raises(site.SiteError, match="more than 100"):
        patch.setattr(site, "LARGEST", 100)
        site.build(results, tmp_path / "docs")
    record = {"notebook": "40_alignment", "parameters": {"corpus": "semeval"}}
    write(results / "40_alignment" / "s-aaaaaa" / "report.html")
    (results / "40_alignment" / "s-aaaaaa" / "run.json").write_text(json.dumps(record))
    with pytest.raises(site.SiteError, match="semeval, which are not ours"):
        site.build(results, tmp_path / "docs")
    assert not (tmp_path / "docs").exists()


SHIPPED = sorted(paths.DOCS.glob("*.html"))


def test_the_shipped_site_is_small_and_whole():
    assert {"index.html", "runs.html", "10_trace.html"} < {page.name for page in SHIPPED}
    assert sum(file.stat().st_size for file in paths.DOCS.rglob("*") if file.is_file()) < site.LARGEST
    soups = [BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser") for page in SHIPPED]
    shown = {image["src"] for soup in soups for image in soup.find_all("img")}
    assert shown == {f"pictures/{file.name}" for file in (paths.DOCS / "pictures").iterdir()}


@pytest.mark.parametrize("page", SHIPPED, ids=lambda page: page.name)
def test_links_of_the_shipped_site_lead_somewhere(page):
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    known = {tag["id"] for tag in soup.find_all(id=True)}
    for link in soup.find_all("a", href=True):
        place, _, anchor = link["href"].partition("#")
        if "://" in place:
            assert re.match("https://arxiv.org/", place)
        elif place:
            assert (page.parent / place).resolve().is_file(), link["href"]
        else:
            assert anchor in known
