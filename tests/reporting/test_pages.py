import base64
import hashlib
import json
import re

import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mlutils import fingerprints
from mlutils.reporting import drawing, pages, tables

BAD = 'joy <script>alert(1)</script> $\\alpha$ \\(x\\) <img src=x onerror=alert(2)> "end"'


def problems(html):
    """Returns what a page must not have: scripts, handlers, anything loaded from elsewhere, broken structure."""
    soup = BeautifulSoup(html, "html.parser")
    found = []
    for tag in soup.find_all(True):
        if tag.name in {"script", "link", "iframe", "object", "embed", "form", "base", "svg", "math"}:
            found.append(tag.name)
        for name, value in tag.attrs.items():
            if name.startswith("on") or name in {"srcset", "style", "srcdoc", "background", "poster"}:
                found.append(f"{tag.name} {name}")
            if name == "src" and not value.startswith("data:image/"):
                found.append(f"{tag.name} src {value[:40]}")
            if name == "href" and re.match(r"\s*(javascript|data|vbscript):", value, re.I):
                found.append(f"href {value[:40]}")
    styles = " ".join(style.get_text() for style in soup.find_all("style"))
    found += re.findall(r"@import|url\(|https?:", styles)
    found += [word for word in ("MathJax", "require.js", "mermaid") if word.lower() in html.lower()]
    anchors = [tag["id"] for tag in soup.select("[id]")]
    found += [f"id twice {a}" for a in anchors if anchors.count(a) > 1]
    found += [a["href"] for a in soup.select('a[href^="#"]') if a["href"][1:] not in anchors]
    levels = [int(h.name[1]) for h in soup.find_all(re.compile("^h[1-6]$"))]
    if levels[:1] != [1] or levels.count(1) != 1 or any(b > a + 1 for a, b in zip(levels, levels[1:], strict=False)):
        found.append(f"headings {levels}")
    found += [f"no alt {image}"[:60] for image in soup.find_all("img") if not image.get("alt")]
    found += ["table outside of a scrolling box" for t in soup.find_all("table") if t.parent.get("class") != ["scroll"]]
    if soup.html.get("lang") != "en" or not soup.title.get_text() or not soup.select_one("a.skip[href='#main']"):
        found.append("lang, title or skip link")
    return found


def visible(html):
    soup = BeautifulSoup(html, "html.parser")
    for tag in soup(["style", "title"]):
        tag.decompose()
    return soup.get_text()


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    fig = drawing.Drawing(alt="A line that rises, <b>n</b> = 2.")
    fig.subplots().plot([1, 2])
    return drawing.save(fig, "f", tmp_path_factory.mktemp("figures"))


@pytest.fixture
def executed(tmp_path, picture):
    documents = pd.DataFrame({"text": [BAD], "share": [0.25]})
    styled = "<style scoped>.dataframe td {color: red}</style>" + documents.to_html()
    handlers = (
        '<p onclick="alert(3)">clicked</p><a href="javascript:alert(4)">go</a><img src="http://x.org/i.png" alt="far">'
    )
    markdown_image = "![near](http://x.org/i.png) [link](javascript:alert(5))"
    outputs = [
        new_output("display_data", data={"text/html": styled, "text/plain": "unused"}),
        new_output("display_data", data={"text/html": handlers}),
        new_output("display_data", data={"text/html": f"<script>alert(6)</script><svg onload=alert(7)></svg>{BAD}"}),
        new_output("execute_result", data=picture._repr_mimebundle_()),
        new_output("display_data", data={"image/png": "iVBORw0KGgo=\n"}, metadata={"image/png": {"alt": BAD}}),
        new_output("display_data", data={"image/svg+xml": "<svg onload=alert(8)/>", "text/plain": "a drawing"}),
        new_output("display_data", data={"application/javascript": "alert(9)"}),
        new_output("display_data", data={"text/markdown": f"#### Answer\n\n{BAD}\n\n{markdown_image}"}),
        new_output("display_data", data={"text/plain": BAD}),
        new_output("stream", name="stdout", text=f"printed {BAD}\n"),
        new_output("stream", name="stderr", text=" 10%\r 50%\r100% done\n"),
        new_output("error", ename="E", evalue="e", traceback=[f"\x1b[31mValueError\x1b[0m: {BAD}"]),
    ]
    cells = [
        new_markdown_cell(f"# Does it *work*?\n\nWe expect {BAD}\n\n# Again a first level"),
        new_code_cell("corpus = 'mfrc'", metadata={"tags": ["parameters"]}),
        new_markdown_cell("### Numbers\n\n## Numbers\n\n| a | b |\n|---|--:|\n| x | 1 |"),
        new_code_cell("display('<script>')  # code", outputs=outputs),
        new_code_cell(""),
    ]
    book = new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    nbformat.write(book, tmp_path / "notebook.ipynb")
    record = {
        "notebook": "40_alignment",
        "parameters": {"corpus": "goemotions", "note": "<script>"},
        "commit": "0123456789abcdef",
        "dirty": True,
        "versions": {"python": "3.11.7", "numpy": "2.4"},
        "seconds": 12.34,
    }
    (tmp_path / "run.json").write_text(json.dumps(record))
    return tmp_path / "notebook.ipynb"


def test_a_run_is_safe_and_whole(executed, tmp_path):
    html = pages.render_run(executed, tmp_path / "out" / "run.html", back="../index.html").read_text(encoding="utf-8")
    # the only h3 after h1 must have become an h2, and the second h1 too: problems() looks at the order
    assert problems(html) == []
    assert "<script" not in html.lower()
    text = visible(html)
    # markdown cell, html output's table, plain, stdout, error: the script is there to be read
    # a script inside HTML goes with what it holds; in text it is there to be read
    assert text.count("<script>alert(1)</script>") >= 5
    assert text.count("$\\alpha$ \\(x\\)") >= 6
    for words in ("printed joy", "ValueError: joy", "a drawing", "100% done", "clicked", "output of a kind"):
        assert words in text, words
    assert "50%" not in text and "\x1b" not in html and "color: red" not in html
    assert len(html) < 60_000  # the page itself is tens of kilobytes


def test_a_run_shows_title_contents_and_provenance(executed, tmp_path):
    soup = BeautifulSoup(pages.render_run(executed, tmp_path / "run.html").read_text(encoding="utf-8"), "html.parser")
    assert soup.title.get_text() == soup.h1.get_text() == "Does it work?"
    links = [(a.get_text(), a["href"]) for a in soup.select("nav a")]
    assert links == [
        ("Again a first level", "#again-a-first-level"),
        ("Numbers", "#numbers"),
        ("Numbers", "#numbers-2"),
        ("Answer", "#answer"),
    ]
    line = soup.select_one(".provenance").get_text()
    for words in (
        "40_alignment",
        "corpus = goemotions",
        "<script>",
        "0123456789 with uncommitted",
        "python 3.11.7",
        "12.3 s",
    ):
        assert words in line, words
    facts = dict(zip([t.get_text() for t in soup.select("dt")], [d.get_text() for d in soup.select("dd")], strict=True))
    assert facts["versions"] == "python = 3.11.7, numpy = 2.4" and "parameters" not in facts
    folds = [s.get_text() for s in soup.select("details > summary")]
    assert folds.count("Parameters") == 1 and folds.count("Code") == 1  # an empty cell leaves nothing
    assert (
        not soup.select("details[open]") and "display('<script>')  # code" in soup.select("details.code")[0].get_text()
    )
    (table,) = [each for each in soup.select("details.facts table")]
    rows = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in table.select("tbody tr")]
    assert rows[0][:2] == ["corpus", "goemotions"] and "vignettes" in rows[0][2] and rows[1] == ["note", "<script>", ""]
    alts = [image["alt"] for image in soup.find_all("img")]
    assert "A line that rises, <b>n</b> = 2." in alts and BAD in alts


def test_a_run_without_title_or_record(tmp_path):
    nbformat.write(new_notebook(cells=[new_code_cell("1")]), tmp_path / "plain.ipynb")
    html = pages.render_run(tmp_path / "plain.ipynb", tmp_path / "x.html").read_text(encoding="utf-8")
    assert problems(html) == [] and BeautifulSoup(html, "html.parser").h1.get_text() == "plain"


def test_command_line(executed, tmp_path, capsys):
    pages.main([str(executed), str(tmp_path / "cli.html"), "--back", "i.html"])
    assert 'href="i.html"' in (tmp_path / "cli.html").read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        pages.main([str(tmp_path / "nonesuch.ipynb"), "x.html"])
    assert "nonesuch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("html", "gone"),
    [
        ("<table><tr><td title='<table <img src=x onerror=alert(1)>'>x</td></tr></table>", r"<img"),
        ("<style></style><img src=x onerror=alert(1)>", r"<img[^>]*(src=|onerror)"),
        ("<style><img src=x onerror=alert(1)></style>after", r"<img|<style"),
        ("<style>unclosed <script>alert(1)</script>", r"<style|<script"),
        ("<noscript><p title='</noscript><img src=x onerror=alert(1)>'>", r"<img|<noscript"),
        ("<svg><style><a title='</style><img src onerror=alert(1)>'>", r"<svg|<img[^>]*onerror"),
        ("<a href='data:text/html,<script>alert(1)</script>'>x</a>", r"href"),
        ("<a href='java\tscript:alert(1)'>x</a>", r"href"),
        ("<img alt='a' src='data:image/svg+xml;base64,AAAA'>", r"src"),
        ("<img alt='a' src='data:text/html;base64,AAAA'>", r"src"),
        ("<td style='background:url(http://x.org)'>x</td>", r"style|url"),
        ("<iframe srcdoc='x'></iframe>", r"<iframe"),
    ],
)
def test_clean_neutralises(html, gone):
    assert not re.search(gone, pages.clean(html), flags=re.I)


def test_clean_keeps_tables_and_images():
    frame = pd.DataFrame({"text": [BAD], "v": [np.nan]})
    html = pages.clean(
        tables.html(frame, "A caption") + '<img class="wide" alt="a" src="data:image/png;base64,iVBORw0KGgo=">'
    )
    soup = BeautifulSoup(html, "html.parser")
    assert soup.select_one("div.scroll > table caption").get_text() == "A caption"
    assert soup.select_one("tbody th[scope=row]").get_text() == BAD
    assert soup.select_one("td.number").get_text() == "–"
    assert soup.img["src"] == "data:image/png;base64,iVBORw0KGgo=" and soup.img["class"] == ["wide"]


def test_markdown_escapes_html_and_keeps_formulas():
    html = str(pages.Markdown()(f"{BAD} \\[y\\] **bold** \\*star\\* [a](#b) ![n](http://x.org/i.png)"))
    assert "<script" not in html and "<img" not in html and "<strong>bold</strong>" in html
    text = BeautifulSoup(html, "html.parser").get_text()
    assert "$\\alpha$ \\(x\\)" in text and "\\[y\\]" in text and "*star*" in text and "[image: n]" in text


@pytest.fixture
def page(tmp_path, picture):
    """An executed 90_paper in the folder of its run."""
    setup = new_code_cell("secret()", metadata={"tags": ["setup"]}, outputs=[new_output("stream", text="commit 1")])
    table = tables.html(pd.DataFrame({"document": [BAD], "share": [0.5]}), "One")
    shown = new_code_cell("show()", outputs=[new_output("display_data", data={"text/html": table + picture.html("C")})])
    cells = [new_markdown_cell(f"# Ours *beside*\n\nLead {BAD}"), setup]
    cells += [new_markdown_cell("## Data & <tables>\n\nText\n\n> **What differs.** small"), shown]
    folder = tmp_path / "results" / "toy" / "90_paper" / "run"
    folder.mkdir(parents=True)
    book = new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    nbformat.write(book, folder / "notebook.ipynb")
    parameters = {"grid": "toy", "reads": [str(folder)]}
    (folder / "run.json").write_text(json.dumps({"notebook": "90_paper", "parameters": parameters}))
    return folder / "notebook.ipynb"


def test_the_page_is_its_notebook(page, tmp_path):
    html = tmp_path / "results" / "toy" / "paper.html"
    pages.main([str(page), str(html)])
    text = html.read_text(encoding="utf-8")
    assert problems(text) == [] and "<script" not in text.lower()
    soup = BeautifulSoup(text, "html.parser")
    assert [h.get_text() for h in soup.find_all(["h1", "h2"])] == ["Ours beside", "Data & <tables>"]
    assert visible(text).count("<script>alert(1)</script> $\\alpha$ \\(x\\)") == 2  # lead, table
    assert "secret" not in text and "commit 1" not in text  # setup is not for readers
    order = [each.name for each in soup.main.find_all(["figure", "details"])]
    assert order == ["figure", "details"] and "show()" in soup.main.details.get_text()  # code stands behind its result
    assert soup.blockquote.strong.get_text() == "What differs."
    assert soup.select_one(".back a")["href"] == "index.html" and (html.parent / "index.html").exists()
    assert "Content-Security-Policy" in text and "default-src 'none'" in text and "script-src" not in text


def test_the_index_shows_what_differs_from_the_defaults_and_sorts(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprints, "read", lambda notebook: "now")
    folder = tmp_path / "00_datasets" / "a b"
    given = {"corpus": BAD, "split": "dev", "show": 7, "folder": "x", "reads": ["y"]}
    records = [
        {"notebook": "00_datasets", "parameters": given, "seconds": 12.34, "code": "now", "folder": folder},
        {
            "notebook": "00_datasets",
            "parameters": {"corpus": "vignettes"},
            "code": "then",
            "folder": folder,
            "release": {},
            "finished": "2026-01-02 03:04:05",
            "device": "2 x86_64 cores",
        },
    ]
    html = pages.render_index(records, tmp_path / "index.html", "Runs of <toy>", "paper.html").read_text("utf-8")
    soup = BeautifulSoup(html, "html.parser")
    rows = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in soup.select("tbody tr")]
    assert rows == [
        ["00_datasets", f"corpus = {BAD} · show = 7", "made here", "–", "–", "12.3"],
        ["00_datasets", "the defaults", "released, older than the code", "2026-01-02 03:04", "2 x86_64 cores", "–"],
    ]
    assert soup.select("tbody a")[0]["href"] == "00_datasets/a b/report.html"
    assert "2 runs: 1 made here, 1 released, older than the code" in soup.get_text()
    (script,) = soup.find_all("script")  # the only one, allowed by its hash
    digest = base64.b64encode(hashlib.sha256(script.string.encode()).digest()).decode()
    policy = soup.find("meta", attrs={"http-equiv": True})["content"]
    assert f"script-src 'sha256-{digest}'" in policy and problems(html) == ["script"]
