"""Tables as HTML and as Markdown: all text is escaped, numbers have fixed decimals; and how notebooks show frames."""

import re
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from IPython import get_ipython
from markupsafe import Markup, escape

from mlutils.measures import MEASURES
from mlutils.metrics import METRICS
from mlutils.reporting.looks import GROUPS, look, order
from mlutils.reporting.published import SIZES, corpus_title

MISSING = "–"  # ours is unknown
ABSENT = "N/A"  # the paper has no such number
NUMBER = re.compile(r"[+\-−]?[\d.,]+( ?%)?\*?( ?\[[^\]]*\])?( \([^)]*\))?|–|N/A|")  # with an interval, with a count
KNOWN = METRICS | MEASURES
SHOWN = 60  # rows of a frame that a notebook shows at most


def html(frame: pd.DataFrame, caption: str = "", formats: dict | None = None, groups: Sequence[str] = ()) -> str:
    """Returns a frame as an HTML table, its first column as row headers; the index is not shown.

    formats: column -> format string (`"{:.2f}"`) or function of the value; NaN and None become an en dash. groups: a
    title for each row; rows of one title stand under it. Columns of two levels give two header rows. Text that is
    `Markup` stays as it is. Raises ValueError for a format without its column.
    """
    texts = _texts(frame, formats)
    columns = list(zip(*texts, strict=True)) if texts else [()] * frame.shape[1]
    numeric = [all(NUMBER.fullmatch(Markup(text).striptags()) for text in column) for column in columns]
    rows = [[_cell(text, *kind) for text, *kind in zip(row, numeric, _widths(columns), strict=True)] for row in texts]
    rows = ["".join([_head(row[0]), *row[1:]]) for row in rows]
    parts = [Markup("<caption><span>{}</span></caption>").format(caption) if caption else "", "<thead>"]
    parts += [f"<tr>{line}</tr>" for line in _header(frame.columns, numeric)] + ["</thead>"]
    titles = list(groups) or [""] * len(rows)
    for number, (title, row) in enumerate(zip(titles, rows, strict=True)):
        if number == 0 or title != titles[number - 1]:
            parts.append("</tbody><tbody>" if number else "<tbody>")
            if title:
                group = '<tr class="group"><th scope="rowgroup" colspan="{}">{}</th></tr>'
                parts.append(Markup(group).format(frame.shape[1], title))
        parts.append(f"<tr>{row}</tr>")
    return f"<table>{''.join(parts)}{'</tbody>' if rows else ''}</table>"


def markdown(frame: pd.DataFrame, formats: dict | None = None) -> str:
    """Returns a frame as a Markdown table (GitHub); arguments as `html`, levels of columns are joined. Text that is
    `Markup` stays as it is.
    """
    names = [" ".join(map(str, name)).strip() if isinstance(name, tuple) else str(name) for name in frame]
    texts = [[_escape_markdown(text) for text in row] for row in _texts(frame, formats)]
    numeric = [all(NUMBER.fullmatch(text.replace("\\", "")) for text in column) for column in zip(*texts, strict=True)]
    table = pd.DataFrame(texts, columns=[_escape_markdown(name) for name in names])
    aligned = ["right" if each else "left" for each in numeric or [False] * len(names)]
    return table.to_markdown(index=False, tablefmt="pipe", disable_numparse=True, colalign=aligned) + "\n"


def use_style() -> None:
    """Makes notebooks show frames as `html` does: no row numbers, counts whole, other numbers to three digits."""
    if (shell := get_ipython()) is not None:
        shell.display_formatter.formatters["text/html"].for_type(pd.DataFrame, show)


def show(frame: pd.DataFrame) -> str:
    """Returns a frame of a notebook as HTML: index levels that have names are columns, and at most SHOWN rows."""
    named = [name is not None for name in frame.index.names]
    if any(named) or not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index() if any(named) else frame.rename_axis("").reset_index()
    cut = f"The first {SHOWN} of {len(frame):,} rows." if len(frame) > SHOWN else ""
    return html(frame.head(SHOWN), cut, {name: _format(frame[name]) for name in dict.fromkeys(frame.columns)})


def _format(column: pd.Series) -> Callable:
    """Returns how the values of a column are written."""
    floats = [each for each in column if isinstance(each, float) and np.isfinite(each)]
    whole = pd.api.types.is_float_dtype(column.dtype) and all(each == round(each) for each in floats)
    digits = 0 if whole or max(map(abs, floats), default=0) >= 1000 else 3

    def write(value) -> str:
        if isinstance(value, float):
            return f"{value:,.{digits}f}"
        if isinstance(value, (list, np.ndarray)):
            return ", ".join(map(str, value))
        return f"{value:,}" if isinstance(value, (int, np.integer)) and not isinstance(value, bool) else str(value)

    return write


def alignment_html(table: pd.DataFrame, published: pd.DataFrame | None = None, caption: str = "") -> str:
    """Returns Tables 2 and 5: rows are models and methods, published 8B and 70B beside each metric.

    table: corpus, documents, model, method, metric, mean, low, high, n, and best (bool; those are bold).
    published: rows of `published.alignment()`. Ours that are unknown are an en dash, the paper's `N/A`.
    """
    return _grouped(_alignment(table, published, _mark_up), caption)


def measures_html(table: pd.DataFrame, title: str = "Other measures of the field") -> str:
    """Returns the other measures of the field as such a table, folded under a title; arrows say which way is better.

    table: as `alignment_html`, of `readouts.measures.tabulate`.
    """
    frame = _alignment(table, None, _mark_up, digits=3)
    headings = {each.title: each.heading for each in KNOWN.values()}
    fold = Markup("<details><summary>{}</summary>{}</details>")
    return fold.format(title, Markup(_grouped(frame, "Means with 95 % intervals over documents.", headings)))


def _mark_up(mean: str, interval: str, best: bool) -> Markup:
    """Returns a mean, bold where it is the best, with its interval in small letters."""
    mean = Markup("<strong>{}</strong>").format(mean) if best else escape(mean)
    return Markup("{} <small>{}</small>").format(mean, interval) if interval else mean


def _grouped(frame: pd.DataFrame, caption: str, headings: dict | None = None) -> str:
    """Returns the frame of `_alignment` as HTML: a group of rows a corpus and kind of method.

    headings: of one header row, by a metric's title; without them there are two rows.
    """
    titles = frame["", "Corpus"] + ": " + frame["", "Group"].str.lower()
    frame = frame.drop(columns=[("", "Corpus"), ("", "Group")])
    if headings:
        frame.columns = [headings.get(metric, name) for metric, name in frame.columns]
    return html(frame, caption, groups=titles.tolist())


def alignment_markdown(table: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """Returns `alignment_html`'s table as Markdown, with the corpus as the first column."""

    def write(mean: str, interval: str, best: bool) -> Markup:
        return Markup(f"{f'**{mean}**' if best else mean} {_escape_markdown(interval)}".strip())

    frame = _alignment(table, published, write).drop(columns=[("", "Group")])
    names = [metric if name == "ours" else f"paper, {name}" if metric else name for metric, name in frame.columns]
    return markdown(frame.set_axis(names, axis=1))


def _alignment(table: pd.DataFrame, published: pd.DataFrame | None, write: Callable, digits: int = 2) -> pd.DataFrame:
    """Returns Corpus, Group, Method, Model, and of each metric ours, 8B and 70B, as texts; columns of two levels."""
    needed = ["corpus", "model", "method", "metric", "mean", "low", "high", "n"]
    if missing := [column for column in needed if column not in table]:
        raise ValueError(f"table lacks the columns {missing}; it has {list(table)}")
    table = table.assign(model=table["model"].fillna("").astype(str))
    if "documents" not in table:
        table["documents"] = ""
    keys = ["corpus", "documents", "model", "method", "metric"]
    if table.duplicated(keys).any():
        twice = table[table.duplicated(keys)].iloc[0]
        raise ValueError("two rows for " + ", ".join(f"{key} {twice[key]!r}" for key in keys))
    metrics = [metric for metric in KNOWN if metric in set(table["metric"])]
    if unknown := set(table["metric"]) - set(metrics):
        raise ValueError(f"unknown metrics {sorted(unknown)}; METRICS and MEASURES have {list(KNOWN)}")
    theirs = {} if published is None else _lookup(published, ["corpus", "method", "metric", "model"])
    printed = set() if published is None else set(published["metric"])
    rows = []
    for (corpus, documents), block in table.groupby(["corpus", "documents"], sort=False, dropna=False):
        ours = _lookup(block, ["model", "method", "metric"])
        pairs = set(zip(block["model"], block["method"], strict=True))
        known = {method for _, method in pairs}
        pairs |= {("", key[1]) for key in theirs if key[0] == corpus and key[1] not in known}  # only the paper's
        n = sorted({int(n) for n in block["n"].dropna()})
        many = "" if not n else f", n = {n[0]}" if len(n) == 1 else f", n = {n[0]}-{n[-1]}"
        head = corpus_title(corpus) + (f" ({documents})" if isinstance(documents, str) and documents else "") + many
        ranks = list(GROUPS)
        for model, method in sorted(pairs, key=lambda p: (ranks.index(look(p[1]).group), order(p[1]), p[0])):
            row = {("", "Corpus"): head, ("", "Group"): GROUPS[look(method).group]}
            row |= {("", "Method"): look(method).title, ("", "Model"): model or MISSING}
            for metric in metrics:
                row[KNOWN[metric].title, "ours"] = write(*_ours(ours.get((model, method, metric)), digits))
                for name, size in SIZES.items() if metric in printed else ():
                    beside = theirs.get((corpus, method, metric, name))
                    row[KNOWN[metric].title, size] = ABSENT if beside is None else f"{beside.value:.2f}"
            rows.append(row)
    columns = pd.MultiIndex.from_tuples(rows[0])
    return pd.DataFrame([list(row.values()) for row in rows], columns=columns, dtype=object)  # Markup is kept


def _lookup(frame: pd.DataFrame, keys: Sequence[str]) -> dict:
    return {tuple(getattr(row, key) for key in keys): row for row in frame.itertuples()}


def _ours(row, digits: int) -> tuple[str, str, bool]:
    if row is None or np.isnan(row.mean):
        return MISSING if row is None else ABSENT, "", False
    known = not np.isnan([row.low, row.high]).any()
    interval = f"[{row.low:.{digits}f}, {row.high:.{digits}f}]" if known else ""
    return f"{row.mean:.{digits}f}", interval, bool(getattr(row, "best", False))


def interval(mean: float, low: float, high: float, digits: int = 2) -> str:
    """Returns a mean with its 95 % interval as text; a dash where the mean is unknown, no interval where that is."""
    if pd.isna(mean):
        return MISSING
    return f"{mean:.{digits}f}" + ("" if pd.isna(low) else f" [{low:.{digits}f}, {high:.{digits}f}]")


def write_count(n: int, different: float) -> str:
    """Returns a number of cases, and of the different answers among them: `40 (3.2 different)`."""
    return f"{n:,.0f}" + ("" if pd.isna(different) else f" ({different:.1f} different)")


def _texts(frame: pd.DataFrame, formats: dict | None) -> list[tuple]:
    formats = formats or {}
    if unknown := [column for column in formats if column not in frame]:
        raise ValueError(f"formats for columns that are not there: {unknown}; the table has {list(frame)}")
    columns = [_column(frame.iloc[:, j], formats.get(name)) for j, name in enumerate(frame.columns)]
    return list(zip(*columns, strict=True))


def _column(values: pd.Series, form: str | Callable | None) -> list[str]:
    if form is None:
        form = "{:.2f}" if pd.api.types.is_float_dtype(values.dtype) else lambda value: value
    write = form.format if isinstance(form, str) else form
    texts = [MISSING if pd.api.types.is_scalar(value) and pd.isna(value) else write(value) for value in values]
    return [text if isinstance(text, Markup) else str(text) for text in texts]


def _widths(columns: Sequence[Sequence[str]]) -> list[list[str]]:
    """Returns the class of each column that should not be squeezed: of sentences, and of names."""
    longest = [max((len(Markup(text).striptags()) for text in column), default=0) for column in columns]
    return [["text"] if length > 60 else ["name"] if length > 16 else [] for length in longest]


def _cell(text: str, number: bool, width: Sequence[str]) -> str:
    names = ["number"] * number + ["absent"] * (text in (MISSING, ABSENT)) + [*width] * (not number)
    return f"<td{_kind(names)}>{escape(text)}</td>"


def _head(cell: str) -> str:
    return re.sub(r"^<td(.*)</td>$", r'<th scope="row"\1</th>', cell, flags=re.S)


def _kind(names: Sequence[str]) -> str:
    return f' class="{" ".join(names)}"' if names else ""


def _header(columns: pd.Index, numeric: Sequence[bool]) -> list[str]:
    """Returns a header row a level of the columns; equal neighbours of an upper level are one cell."""
    names = [name if isinstance(name, tuple) else (name,) for name in columns]
    lines = []
    for level in range(len(names[0]) if names else 1):
        line, j = "", 0
        while j < len(names):
            last = level == len(names[j]) - 1
            end = next((k for k in range(j, len(names)) if names[k][: level + 1] != names[j][: level + 1]), len(names))
            end = j + 1 if last else end
            kind = f' scope="col"{_kind(["number"] * numeric[j])}' if last else f' scope="colgroup" colspan="{end - j}"'
            line += f"<th{kind}>{escape(str(names[j][level]))}</th>"
            j = end
        lines.append(line)
    return lines


def _escape_markdown(text: str) -> str:
    if isinstance(text, Markup):
        return str(text)
    text = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]>|$~])", r"\\\1", text)
