"""The static site in `docs/`: the page of a grid and reports of its runs, pictures as files that pages share.

`python -m mlutils.reporting.site GRID` makes it from `results/GRID`, as `make paper` left it.
"""

import argparse
import base64
import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bs4 import BeautifulSoup

from mlutils import files, paths
from mlutils.corpora import is_ours

LARGEST = 6_000_000  # bytes of the whole site
READING = re.compile(r"(00|2\d|30|4\d)_")  # notebooks whose every run is shown; of 10_trace, one
POLICY = "img-src data:"  # of the pages' Content-Security-Policy
NAMES = {"paper.html": "index.html", "index.html": "runs.html"}


class SiteError(ValueError):
    """Raised where a site cannot be made: what is missing, too large, or not ours to show."""


def build(results: Path, docs: Path) -> list[Path]:
    """Writes the site of a grid's results and returns its pages: `index.html` (the page), `runs.html`, the reports of
    all analyses and of one trace, and `pictures/`. Pages and pictures of an earlier site go.

    Raises SiteError where the grid is not built, a run shows a corpus that is not ours, or the site is over LARGEST.
    """
    if not (results / "paper.html").exists():
        raise SiteError(f"{results}/paper.html is not there: run make paper GRID={results.name} first")
    pages = {results / name: target for name, target in NAMES.items()}
    chosen = _choose(results)
    several = Counter(folder.parent.name for folder in chosen)
    pages |= {folder / "report.html": _name(folder, several[folder.parent.name] > 1) for folder in chosen}
    for page in pages:
        if not page.exists():
            raise SiteError(f"{page} is not there: run make paper GRID={results.name} first")
    made = {target: _rewrite(page, pages) for page, target in pages.items()}
    pictures = {name: data for _, found in made.values() for name, data in found.items()}
    size = sum(len(html.encode()) for html, _ in made.values()) + sum(map(len, pictures.values()))
    if size > LARGEST:
        raise SiteError(f"the site would have {size:,} bytes, more than {LARGEST:,}: take a smaller grid")
    for old in docs.glob("*.html"):
        old.unlink()
    shutil.rmtree(docs / "pictures", ignore_errors=True)
    for name, data in pictures.items():
        file = docs / "pictures" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(file) as draft:
            draft.write_bytes(data)
    return [files.write_text(docs / target, html) for target, (html, _) in made.items()]


def _choose(results: Path) -> list[Path]:
    """Returns the folders of the runs to show; one trace: of the most views, and the first of those."""
    folders, traces = [], []
    for file in sorted(results.glob("*/*/run.json")):
        record = files.read_json(
            file, SiteError, "delete it and notebook.ipynb beside it to have the notebook run again"
        )
        given = record["parameters"]
        if READING.match(record["notebook"]):
            folders.append(file.parent)
        elif record["notebook"] == "10_trace":
            traces.append((-len(given["asked"]), given["reserve"], file.parent))
        else:
            continue
        if "corpus" in given and not is_ours(given["corpus"], given.get("options", {})):
            raise SiteError(f"{file.parent} shows texts of {given['corpus']}, which are not ours: take another grid")
    return [*folders, *([min(traces)[2]] if traces else [])]


def _name(folder: Path, several: bool) -> str:
    """Returns the file of a report: its notebook, and its axes where there are several, without the hash behind."""
    axes = re.sub(r"[^A-Za-z0-9_.-]+", "_", folder.name.rpartition("-")[0])
    return f"{folder.parent.name}{f'-{axes}' if several else ''}.html"


def _rewrite(page: Path, pages: dict[Path, str]) -> tuple[str, dict[str, bytes]]:
    """Returns a page whose pictures are files and whose links lead to pages of the site, and its pictures by name."""
    soup, pictures = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser"), {}
    for image in soup.find_all("img", src=re.compile("^data:image/")):
        data = base64.b64decode(image["src"].partition(",")[2])
        name = (
            f"{hashlib.sha256(data).hexdigest()[:16]}.{'png' if image['src'].startswith('data:image/png') else 'jpg'}"
        )
        pictures[name] = data
        image["src"], image["loading"] = f"pictures/{name}", "lazy"
    for messages in soup.select("details.messages"):
        messages.decompose()  # warnings of libraries, with paths of the machine that built them
    known = {place.resolve(): target for place, target in pages.items()}
    for link in soup.find_all("a", href=True):
        if link["href"].startswith("#") or "://" in link["href"]:
            continue
        target = known.get(Path(os.path.normpath(page.parent / link["href"])).resolve())
        if target is None:
            link.unwrap()  # a run that the site leaves out
        else:
            link["href"] = target
    policy = soup.find("meta", attrs={"http-equiv": "Content-Security-Policy"})
    policy["content"] = policy["content"].replace(POLICY, "img-src 'self'")
    if pages[page] == NAMES["paper.html"]:
        readme = soup.new_tag("a", href="../README.md")
        readme.string = "README"
        soup.select_one("p.back").extend([" · ", readme])
    return str(soup), pictures


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the site of a grid: `python -m mlutils.reporting.site GRID`."""
    parser = argparse.ArgumentParser(prog="python -m mlutils.reporting.site", description="Makes docs/ of a grid.")
    parser.add_argument("grid")
    grid = parser.parse_args(arguments).grid
    try:
        pages = build(paths.RESULTS / grid, paths.DOCS)
    except SiteError as error:
        parser.error(str(error))
    size = sum(file.stat().st_size for file in paths.DOCS.rglob("*") if file.is_file())
    print(f"{len(pages)} pages, {size / 1e6:.1f} MB in {paths.DOCS}")


if __name__ == "__main__":
    main()
