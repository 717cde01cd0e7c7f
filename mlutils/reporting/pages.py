"""Pages for readers: a run, the paper, the index. One HTML file each, no scripts, no network (section 9).

Text of documents and models reaches these pages in outputs of notebooks and in tables. Every way in goes
through one of three doors: `clean` (HTML made by pandas and by `tables`), `Markdown` (ours; HTML in it is shown
as text), or the escaping of the templates. No formula is ever typeset, so `$x$` stays `$x$`.
"""

import argparse
import copy
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import bleach
import jinja2
import mistune
import nbformat
from bleach.html5lib_shim import Filter
from markupsafe import Markup
from nbconvert import HTMLExporter

from mlutils import paths
from mlutils.files import write_text
from mlutils.reporting.drawing import Picture

IMAGE = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=\s]+")
SCROLL = {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": "Table"}
TEXT_TAGS = [
    "a",
    "abbr",
    "b",
    "blockquote",
    "br",
    "code",
    "del",
    "details",
    "div",
    "em",
    "figcaption",
    "figure",
    "h2",
]
TEXT_TAGS += [
    "h3",
    "h4",
    "hr",
    "i",
    "img",
    "li",
    "ol",
    "p",
    "pre",
    "small",
    "span",
    "strong",
    "sub",
    "summary",
    "sup",
]
TABLE_TAGS = ["caption", "col", "colgroup", "table", "tbody", "td", "tfoot", "th", "thead", "tr"]
TAGS = {*TEXT_TAGS, *TABLE_TAGS, "dd", "dl", "dt", "style", "u", "ul"}  # style goes later, with what is in it
ATTRIBUTES = {
    "alt",
    "aria-label",
    "class",
    "colspan",
    "height",
    "role",
    "rowspan",
    "scope",
    "tabindex",
    "title",
    "width",
}


@dataclass(frozen=True)
class Section:
    """A part of the paper page: text, then tables and figures in order, what differs, links to runs."""

    title: str
    text: str = ""  # Markdown, ours
    blocks: tuple = ()  # HTML of `tables`, a Picture, or (Picture, caption)
    differs: str = ""  # Markdown, ours: what differs from the paper
    runs: tuple = ()  # (text, relative link)
    level: int = 2


@dataclass(frozen=True)
class Run:
    """A row of the index: one notebook with one set of parameters."""

    notebook: str
    parameters: dict = field(default_factory=dict)
    state: str = "done"  # done, failed, missing, older than the code
    seconds: float | None = None
    link: str | None = None


class _Tables(Filter):
    """Puts each table into a box that scrolls by itself; drops style sheets and images without source."""

    def __iter__(self):
        inside_style = False
        for token in super().__iter__():
            name, kind = token.get("name"), token["type"]
            if name == "style":
                inside_style = kind == "StartTag"
            elif name == "table" and kind == "StartTag":
                yield {**token, "name": "div", "data": {(None, key): value for key, value in SCROLL.items()}}
                yield token
            elif name == "table" and kind == "EndTag":
                yield token
                yield {**token, "name": "div"}
            elif not inside_style and (name != "img" or (None, "src") in token["data"]):
                yield token


def clean(html: str) -> str:
    """Returns HTML with known tags only: tables and inlined images stay, scripts are shown, handlers go."""
    cleaner = bleach.Cleaner(TAGS, _may_stay, protocols={"http", "https", "mailto", "data"}, filters=[_Tables])
    return cleaner.clean(html)


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
    def __init__(self, page):
        super().__init__(escape=True)
        self._page = page

    def heading(self, text, level, **attributes):
        level, anchor = self._page.heading(text, level)
        return f'<h{level} id="{anchor}">{text}</h{level}>\n'

    def table(self, text):
        box = " ".join(f'{name}="{value}"' for name, value in SCROLL.items())
        return f"<div {box}><table>{text}</table></div>\n"

    def table_cell(self, text, align=None, head=False):
        kind = ' class="number"' if align == "right" else ""
        return f'<th scope="col"{kind}>{text}</th>' if head else f"<td{kind}>{text}</td>"

    def link(self, text, url, title=None):
        return super().link(text, url, title) if self.safe_url(url) != "#harmful-link" else text

    def image(self, text, url, title=None):
        # Only an image that is inside the page may load.
        return super().image(text, url, title) if IMAGE.fullmatch(url) else f"[image: {text}]"


def render_run(notebook, html, back: str | None = None) -> Path:
    """Writes the report of one executed notebook: title, provenance, contents, results, code folded.

    notebook: path of the .ipynb; `run.json` beside it gives parameters, commit, versions, seconds.
    back: relative link to the index. Raises FileNotFoundError without the notebook.
    """
    notebook = Path(notebook)
    book = copy.deepcopy(nbformat.read(notebook, as_version=4))
    record_file = notebook.with_name("run.json")
    record = json.loads(record_file.read_text(encoding="utf-8")) if record_file.exists() else {}
    return write_text(html, run_html(book, record, notebook.stem, back))


def run_html(book, record: dict, name: str, back: str | None = None) -> str:
    """Returns the report of an executed notebook (changed in place) as one string; see `render_run`."""
    markdown = Markdown()
    title = _take_title(book) or name
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
    record = {**record, "notebook": record.get("notebook", name)}
    page = {
        "title": _inline(title).striptags(),
        "heading": _inline(title),
        "back": back,
        "headings": markdown.headings,
        "line": _provenance(record),
        "facts": [(key, _fact(value)) for key, value in record.items()],
    }
    return exporter.from_notebook_node(book, resources={"page": page})[0]


def render_page(sections, html, title: str, lead: str = "", index: str | None = None) -> Path:
    """Writes the paper page. lead: Markdown under the title; index: relative link to the index of runs."""
    markdown = Markdown()
    parts = []
    for section in sections:
        level, anchor = markdown.heading(str(Markup.escape(section.title)), section.level)
        parts.append(
            {
                "level": level,
                "anchor": anchor,
                "title": section.title,
                "text": markdown(section.text),
                "blocks": [_block(block) for block in section.blocks],
                "differs": markdown(section.differs),
                "runs": section.runs,
            }
        )
    page = {
        "title": title,
        "back": index,
        "headings": markdown.headings,
        "lead": Markdown()(lead),
        "parts": parts,
    }
    return write_text(html, _template("page/paper.html.j2").render(page=page))


def render_index(runs, html, title: str = "Runs", back: str | None = None) -> Path:
    """Writes the table of all `Run`s of a grid. back: relative link to the paper page."""
    states = Counter(run.state for run in runs)
    line = f"{len(runs)} runs: " + ", ".join(f"{count} {state}" for state, count in states.items())
    page = {"title": title, "back": back, "line": line, "runs": runs, "write": _fact}
    return write_text(html, _template("page/index.html.j2").render(page=page))


def _block(block):
    if isinstance(block, Picture):
        return Markup(block.html())
    if isinstance(block, tuple):
        picture, caption = block
        return Markup(picture.html(caption))
    return Markup(clean(block))


def _may_stay(tag, name, value):
    if tag == "img" and name == "src":
        return bool(IMAGE.fullmatch(value))
    if tag == "a" and name == "href":
        return not value.lower().lstrip().startswith("data:")
    return name in ATTRIBUTES


def _take_title(book):
    """Takes the first heading of level one out of the first Markdown cell that has one."""
    for cell in book.cells:
        if cell.cell_type == "markdown":
            found = re.search(r"^#[ \t]+(.+?)[ \t#]*$", cell.source, flags=re.M)
            if found:
                cell.source = cell.source[: found.start()] + cell.source[found.end() :]
                return found[1]
    return None


def _inline(text):
    """Returns one line of Markdown without a paragraph round it."""
    html = Markdown()(text).strip()
    return Markup(html[3:-4]) if html.startswith("<p>") and html.count("<p>") == 1 else Markup.escape(text)


def _prepare(output, markdown):
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


def _provenance(record):
    words = [record["notebook"]]
    words += [f"{key} = {_fact(value)}" for key, value in record.get("parameters", {}).items() if key != "folder"]
    if record.get("commit"):
        dirty = " with uncommitted changes" if record.get("dirty") else ""
        words.append(f"commit {str(record['commit'])[:10]}{dirty}")
    versions = record.get("versions") or {}
    words += [f"{name} {versions[name]}" for name in ("python", "torch", "transformers") if name in versions]
    if isinstance(record.get("seconds"), (int, float)):
        words.append(f"{record['seconds']:.1f} s")
    return words


def _fact(value):
    if isinstance(value, dict):
        return ", ".join(f"{key} = {_fact(item)}" for key, item in value.items())
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 500 else text[:500] + " …"


def _template(name):
    loader = jinja2.FileSystemLoader(paths.TEMPLATES)
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined).get_template(name)


def main(arguments=None) -> None:
    """Renders one run: `python -m mlutils.reporting.pages run NOTEBOOK HTML [--back LINK]`."""
    parser = argparse.ArgumentParser(prog="python -m mlutils.reporting.pages", description="Writes HTML reports.")
    run = parser.add_subparsers(required=True, metavar="run").add_parser("run", help="report of an executed notebook")
    run.add_argument("notebook", type=Path)
    run.add_argument("html", type=Path)
    run.add_argument("--back", help="relative link to the index of runs")
    chosen = parser.parse_args(arguments)
    if not chosen.notebook.is_file():
        parser.error(f"no notebook at {chosen.notebook}")
    render_run(chosen.notebook, chosen.html, chosen.back)


if __name__ == "__main__":
    main()
