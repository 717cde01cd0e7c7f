"""Pages for readers: a run, the paper, the index of runs. One HTML file each; nothing is loaded from a network.

All three are made from executed notebooks and their `run.json`. Text of documents and models reaches a page in outputs
of notebooks only. Every way in goes through one of three doors: `clean` (HTML), `Markdown` (ours; HTML in it is shown
as text), or the escaping of the templates. No formula is ever typeset, so `$x$` stays `$x$`.
"""

import argparse
import base64
import copy
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import jinja2
import mistune
import nbformat
import nh3
import pandas as pd
from bs4 import BeautifulSoup
from markupsafe import Markup
from nbconvert import HTMLExporter
from PIL import Image

from mlutils import paths, releases, runs
from mlutils.files import read_json, write_text
from mlutils.parameters import read_parameters

IMAGE = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=\s]+")
BOX = {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": "Table"}
TAGS = nh3.ALLOWED_TAGS - {"h1", "area", "map"}
ATTRIBUTES = {"alt", "aria-label", "class", "colspan", "height", "href", "role", "rowspan", "scope", "src", "tabindex"}
ATTRIBUTES |= {"title", "width"}
PAGE_NOTEBOOK = "90_paper"
MOST = 60  # rows of a table of a released run that are shown
HIDDEN = {"setup", "parameters", "injected-parameters"}  # tags of cells that a page does not show


def clean(html: str) -> str:
    """Returns HTML with known tags only: tables (each in a box that scrolls) and inlined images stay; scripts, styles
    and handlers go.
    """
    safe = nh3.clean(
        html,
        tags=TAGS,
        clean_content_tags={"script", "style"},
        attributes={"*": ATTRIBUTES},
        attribute_filter=_may_stay,
        url_schemes={"http", "https", "mailto", "data"},
        link_rel=None,
    )
    soup = BeautifulSoup(safe, "html.parser")
    for image in soup.find_all("img", src=False):
        image.decompose()
    for table in soup.find_all("table"):
        if table.parent.get("class") != ["scroll"]:
            table.wrap(soup.new_tag("div", attrs=BOX))
    return str(soup)


def _may_stay(tag: str, name: str, value: str) -> str | None:
    if tag == "img" and name == "src":
        return value if IMAGE.fullmatch(value) else None
    if name in ("href", "src"):
        return None if tag != "a" or value.lower().lstrip().startswith("data:") else value
    return value


class Markdown:
    """Renders the Markdown of one page: HTML in it is escaped, headings get anchors and stand in order."""

    def __init__(self):
        self.headings = []  # (level, text, anchor)
        self._taken = Counter()
        self._render = mistune.create_markdown(renderer=_Renderer(self), plugins=["table", "strikethrough"])
        # A backslash before ( ) [ or ] stays, so that a formula is shown as it was written.
        self._render.inline.specification["escape"] = r"(?:\\[!-'*-/:-@\\^-`{-~])+"

    def __call__(self, text: str) -> Markup:
        return Markup(self._render(text))

    def heading(self, text: str, level: int) -> tuple[int, str]:
        """Returns level and anchor of a heading (HTML): no level is skipped, no anchor is there twice."""
        plain = Markup(text).striptags()
        level = min(max(level, 2), self.headings[-1][0] + 1 if self.headings else 2)
        slug = re.sub(r"[^\w]+", "-", plain.lower()).strip("-") or "part"
        self._taken[slug] += 1
        anchor = slug if self._taken[slug] == 1 else f"{slug}-{self._taken[slug]}"
        self._taken[anchor] += anchor != slug
        self.headings.append((level, plain, anchor))
        return level, anchor


class _Renderer(mistune.HTMLRenderer):
    def __init__(self, page: Markdown):
        super().__init__(escape=True)
        self._page = page

    def heading(self, text, level, **attributes):
        level, anchor = self._page.heading(text, level)
        return f'<h{level} id="{anchor}">{text}</h{level}>\n'

    def table(self, text):
        box = " ".join(f'{name}="{value}"' for name, value in BOX.items())
        return f"<div {box}><table>{text}</table></div>\n"

    def table_cell(self, text, align=None, head=False):
        kind = ' class="number"' if align == "right" else ""
        return f'<th scope="col"{kind}>{text}</th>' if head else f"<td{kind}>{text}</td>"

    def link(self, text, url, title=None):
        return super().link(text, url, title) if self.safe_url(url) != "#harmful-link" else text

    def image(self, text, url, title=None):
        # Only an image that is inside the page may load.
        return super().image(text, url, title) if IMAGE.fullmatch(url) else f"[image: {text}]"


def render_run(notebook: Path, html: Path, back: str | None = None) -> Path:
    """Writes the report of an executed notebook: title, provenance, contents, results, code folded.

    `run.json` beside the notebook gives parameters, commit, versions, seconds. back: relative link to the index of
    runs. Raises FileNotFoundError without the notebook.
    """
    book, record = _read(notebook)
    page = {"kind": "run", "back": back, "back_title": "All runs", "line": _provenance(record)}
    page |= {"facts": _facts(record), "parameters": _parameters(book, record)}
    return write_text(html, _render(book, page, record.get("notebook", Path(notebook).stem)))


def render_page(notebook: Path, html: Path, index: str | None = None) -> Path:
    """Writes the page of a grid from the executed notebook `90_paper`: its text and outputs, code folded.

    index: relative link to the index of runs.
    """
    book, record = _read(notebook)
    page = {"kind": "page", "back": index, "back_title": "All runs of this grid", "line": []}
    title = _take_title(book) or "page"  # the cell that holds it is not shown: it tells how to run the notebook
    book.cells = [cell for cell in book.cells if not HIDDEN & set(cell.metadata.get("tags", []))]
    return write_text(html, _render(book, page, title))


def render_index(records: Sequence[dict], html: Path, title: str = "Runs", back: str | None = None) -> Path:
    """Writes the table of a grid's runs, which sorts by its columns: of each run only what differs from the notebook's
    defaults is shown.

    records: of the finished runs (`runs.collect`). back: relative link to the page. Runs older than the code say so.
    """
    rows = []
    for record in records:
        state = "released" if "release" in record else "made here"
        if releases.is_older(record):
            state += ", older than the code"
        link = os.path.relpath(runs.find_report(record, Path(html).parent), Path(html).parent)
        rows.append({**record, "state": state, "link": link, "differs": differing(record)})
    counted = Counter(row["state"] for row in rows)
    line = f"{len(rows)} runs: " + ", ".join(f"{count} {state}" for state, count in counted.items())
    script = (paths.TEMPLATES / "page" / "sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = {"title": title, "back": back, "line": line, "runs": rows, "script": script, "script_hash": digest}
    loader = jinja2.FileSystemLoader(paths.TEMPLATES)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return write_text(html, environment.get_template("page/index.html.j2").render(page=page))


def differing(record: dict) -> list[tuple[str, str]]:
    """Returns the parameters of a run, name and value, that are not the notebook's defaults (nor folders)."""
    defaults = {each.name: each.default for each in read_parameters(record["notebook"])}
    given = record.get("parameters", {})
    return [
        (name, _fact(value))
        for name, value in given.items()
        if name not in ("folder", "reads") and (name not in defaults or defaults[name] != value)
    ]


def _read(notebook: Path) -> tuple:
    """Returns an executed notebook and the record of its run ({} where there is none).

    In place of the notebook the `run.json` of a released run may be given.
    """
    notebook = Path(notebook)
    if notebook.name == "run.json":
        record = releases.read_record(notebook.parent)
        return _show_released(notebook.parent, record), record
    book = copy.deepcopy(nbformat.read(notebook, as_version=4))
    record = notebook.with_name("run.json")
    again = f"delete it and {notebook} to have the notebook run again"
    return book, read_json(record, ValueError, again) if record.exists() else {}


def _show_released(folder: Path, record: dict):
    """Returns a notebook that shows what was released of a run: its tables and pictures."""
    known = record["release"]
    first = nbformat.read(paths.NOTEBOOKS / f"{record['notebook']}.ipynb", as_version=4).cells[0]
    told = f"*Released, not made here: on {record['finished']} UTC, on {record['device']}.*"
    if lacks := releases.lacking(record):
        told += f" It cannot be made again without {', '.join(lacks)}."
    if known["withheld"]:
        left_out = "; ".join(f"{name.replace('_', ' ')} ({why})" for name, why in known["withheld"].items())
        told += f"\n\nNot released: {left_out}."
    cells = [first, nbformat.v4.new_markdown_cell(told)]
    for file in sorted(folder.glob("*.csv")):
        table = pd.read_csv(file)
        output = nbformat.v4.new_output("display_data", {"text/html": table.head(MOST).to_html(index=False)})
        cut = f"; the first {MOST} of {len(table):,} rows" if len(table) > MOST else ""
        cells += [nbformat.v4.new_markdown_cell(f"### {file.stem}{cut}"), nbformat.v4.new_code_cell(outputs=[output])]
    for file in sorted(folder.glob("*.png")):
        data = {"image/png": base64.b64encode(file.read_bytes()).decode()}
        with Image.open(file) as image:
            alt = image.info.get("Description", "")
        output = nbformat.v4.new_output("display_data", data, metadata={"image/png": {"alt": alt}})
        cells += [nbformat.v4.new_markdown_cell(f"### {file.stem}"), nbformat.v4.new_code_cell(outputs=[output])]
    return nbformat.v4.new_notebook(cells=cells)


def _render(book, page: dict, name: str) -> str:
    """Returns a notebook (changed in place) as one string of HTML."""
    markdown = Markdown()
    heading = _inline(_take_title(book) or name)
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = markdown(cell.source)
        for output in cell.get("outputs", []):
            _prepare(output, markdown)
    exporter = HTMLExporter(
        template_name="report",
        extra_template_basedirs=[str(paths.TEMPLATES)],
        extra_template_paths=[str(paths.TEMPLATES)],
    )
    page = {**page, "title": heading.striptags(), "heading": heading, "headings": markdown.headings}
    return exporter.from_notebook_node(book, resources={"page": page})[0]


def _take_title(book) -> str | None:
    """Takes the first heading of level one out of the first Markdown cell that has one."""
    for cell in book.cells:
        if cell.cell_type == "markdown":
            found = re.search(r"^#[ \t]+(.+?)[ \t#]*$", cell.source, flags=re.M)
            if found:
                cell.source = cell.source[: found.start()] + cell.source[found.end() :]
                return found[1]
    return None


def _inline(text: str) -> Markup:
    """Returns one line of Markdown without a paragraph round it."""
    html = Markdown()(text).strip()
    return Markup(html[3:-4]) if html.startswith("<p>") and html.count("<p>") == 1 else Markup.escape(text)


def _prepare(output, markdown: Markdown) -> None:
    """Makes an output safe to print: one kind of content stays, HTML is cleaned, progress bars end."""
    if output.output_type == "stream":
        output.text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in output.text.split("\n"))
    if "data" not in output:
        return
    data = output.data
    if "text/html" in data:
        kept = {"text/html": clean("".join(data["text/html"]))}
    elif "text/markdown" in data:
        kept = {"text/html": markdown("".join(data["text/markdown"]))}
    elif image := next((kind for kind in ("image/png", "image/jpeg") if kind in data), None):
        details = output.get("metadata", {}).get(image, {})
        alt = details.get("alt") or "Figure without a description"
        source = f"data:{image};base64,{re.sub(r'[^A-Za-z0-9+/=]', '', data[image])}"
        kept = {"text/html": f'<figure class="picture"><img alt="{Markup.escape(alt)}" src="{source}"></figure>'}
    else:
        kept = {"text/plain": "".join(data.get("text/plain", "[output of a kind that this page does not show]"))}
    output.data = nbformat.from_dict(kept)


def _provenance(record: dict) -> list[str]:
    words = [record["notebook"], *(f"{name} = {value}" for name, value in differing(record))] if record else []
    if record.get("commit"):
        dirty = " with uncommitted changes" if record.get("dirty") else ""
        words.append(f"commit {str(record['commit'])[:10]}{dirty}")
    versions = record.get("versions") or {}
    words += [f"{name} {versions[name]}" for name in ("python", "torch", "transformers") if name in versions]
    if isinstance(record.get("seconds"), (int, float)):
        words.append(f"{record['seconds']:.1f} s")
    return words


def _facts(record: dict) -> list[tuple[str, str]]:
    return [(key, _fact(value)) for key, value in record.items() if key != "parameters"]


def _parameters(book, record: dict) -> list[tuple[str, str, str]]:
    """Returns name, value and comment of each parameter, and takes the cells that set them out of the notebook."""
    book.cells = [cell for cell in book.cells if not HIDDEN & set(cell.metadata.get("tags", [])) - {"setup"}]
    if not record:
        return []
    comments = {each.name: each.comment for each in read_parameters(record["notebook"])}
    return [(name, _fact(value), comments.get(name, "")) for name, value in record.get("parameters", {}).items()]


def _fact(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} = {_fact(item)}" for key, item in value.items())
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 500 else text[:500] + " …"


def main(arguments: Sequence[str] | None = None) -> None:
    """Renders a run, or the page of a grid with the index of its runs beside it:

    `python -m mlutils.reporting.pages NOTEBOOK HTML [--back LINK]`; or released runs, by their `run.json`, into the
    results of a grid: `... RECORD ... RESULTS [--back LINK]`.
    """
    parser = argparse.ArgumentParser(prog="python -m mlutils.reporting.pages", description="Writes HTML pages.")
    parser.add_argument("notebooks", type=Path, nargs="+", help="an executed notebook, or run.json of released runs")
    parser.add_argument("html", type=Path)
    parser.add_argument("--back", help="relative link to the index of runs")
    chosen = parser.parse_args(arguments)
    for missing in [each for each in chosen.notebooks if not each.is_file()]:
        parser.error(f"no notebook at {missing}")
    notebook, *_ = chosen.notebooks
    if notebook.name == "run.json":
        for each in chosen.notebooks:
            render_run(each, chosen.html.joinpath(*each.parent.parts[-2:], "report.html"), chosen.back)
        return
    _, record = _read(notebook)
    if record.get("notebook") != PAGE_NOTEBOOK:
        render_run(notebook, chosen.html, chosen.back)
        return
    render_page(notebook, chosen.html, "index.html")
    title = f"Runs of the grid {record['parameters']['grid']}"
    render_index(runs.collect(record["parameters"]["reads"]), chosen.html.with_name("index.html"), title, "paper.html")


if __name__ == "__main__":
    main()
