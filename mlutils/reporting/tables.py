"""Tables as HTML and as Markdown: all text is escaped, numbers have fixed decimals (Tables 1, 2, 5)."""

import os
import re
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from mlutils.reporting.looks import GROUPS, look, order
from mlutils.reporting.published import METRICS, SIZES, corpus_title

MISSING = "–"  # ours is unknown
ABSENT = "N/A"  # the paper has no such number
CAPTION = "Alignment with the annotators' vote shares; ours with 95 % intervals, 8B and 70B as published."


def html(frame: pd.DataFrame, caption: str, formats: dict | None = None) -> str:
    """Returns a frame as an HTML table, its first column as row headers; the index is not shown.

    formats: column -> format string (`"{:.2f}"`) or function of the value; NaN and None become an en dash.
    Columns of two levels give two header rows. Raises ValueError for a format without its column.
    """
    texts = _texts(frame, formats)
    numeric = [pd.api.types.is_numeric_dtype(frame.dtypes.iloc[j]) for j in range(frame.shape[1])]
    rows = [[_cell(text, numeric[j]) for j, text in enumerate(row)] for row in texts]
    return _html(caption, _header(frame.columns, numeric), [(None, rows)])


def markdown(frame: pd.DataFrame, formats: dict | None = None) -> str:
    """Returns a frame as a Markdown table (GitHub); arguments as `html`, levels of columns are joined."""
    columns = [" ".join(map(str, name)).strip() if isinstance(name, tuple) else str(name) for name in frame]
    rows = [[_escape_markdown(text) for text in row] for row in _texts(frame, formats)]
    numeric = [pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes]
    return _markdown([_escape_markdown(name) for name in columns], rows, numeric)


def write(texts: Mapping[Path, str]) -> list[Path]:
    """Writes texts, each under a temporary name that is then renamed, and returns the files."""
    for file, text in texts.items():
        draft = file.with_name(f".{file.name}.tmp")
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, file)
    return list(texts)


def alignment_html(table: pd.DataFrame, published: pd.DataFrame | None = None, caption: str = "") -> str:
    """Returns Tables 2 and 5: rows are models and methods, published 8B and 70B beside each metric.

    table: corpus, documents, model, method, metric, mean, low, high, n, and best (bool; those are bold).
    published: rows of `published.alignment()`. Ours that are unknown are an en dash, the paper's `N/A`.
    """
    metrics, groups = _alignment(table, published)
    names = ["Model", "Method"]
    spans = ""
    for metric in metrics:
        sizes = _sizes(metric, published)
        names += ["ours", *sizes]
        spans += f'<th scope="colgroup" colspan="{1 + len(sizes)}">{escape(METRICS[metric])}</th>'
    header = [
        f'<td colspan="2"></td>{spans}',
        "".join(f'<th scope="col"{_NUMBER if j > 1 else ""}>{escape(name)}</th>' for j, name in enumerate(names)),
    ]
    bodies = []
    for title, group, rows in groups:
        lines = []
        for model, method, cells in rows:
            line = [_cell(model), _cell(method)]
            for (mean, interval, best), *theirs in cells:
                mean = f"<strong>{escape(mean)}</strong>" if best else escape(mean)
                line.append(f"<td{_NUMBER}>{mean}{f' <small>{escape(interval)}</small>' if interval else ''}</td>")
                line += [_cell(text, True) for text in theirs]
            lines.append(line)
        bodies.append((f"{title}: {group.lower()}", lines))
    return _html(caption or CAPTION, header, bodies, header_column=1)


def alignment_markdown(table: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """Returns `alignment_html`'s table as Markdown for the README, with the corpus as the first column."""
    metrics, groups = _alignment(table, published)
    columns = ["Corpus", "Model", "Method"]
    for metric in metrics:
        columns += [METRICS[metric], *(f"paper, {size}" for size in _sizes(metric, published))]
    rows = []
    for title, _, lines in groups:
        for model, method, cells in lines:
            row = [_escape_markdown(text) for text in (title, model, method)]
            for (mean, interval, best), *theirs in cells:
                mean = f"**{mean}**" if best else mean
                row += [f"{mean} {_escape_markdown(interval)}".strip(), *theirs]
            rows.append(row)
    return _markdown(columns, rows, [j > 2 for j in range(len(columns))])


_NUMBER = ' class="number"'


def _sizes(metric, published):
    """Returns the published models to show beside a metric: none where the paper does not print it."""
    return list(SIZES.values()) if published is not None and metric in set(published["metric"]) else []


def _alignment(table, published):
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
    metrics = [metric for metric in METRICS if metric in set(table["metric"])]
    if unknown := set(table["metric"]) - set(metrics):
        raise ValueError(f"unknown metrics {sorted(unknown)}; METRICS has {list(METRICS)}")
    theirs = {} if published is None else _lookup(published, ["corpus", "method", "metric", "model"])
    groups = []
    for (corpus, documents), block in table.groupby(["corpus", "documents"], sort=False, dropna=False):
        ours = _lookup(block, ["model", "method", "metric"])
        pairs = sorted(set(zip(block["model"], block["method"], strict=True)), key=lambda p: (order(p[1]), p[0]))
        if published is not None:  # methods only the paper has: a row of its own, ours unknown
            there = {method for _, method in pairs}
            only = {key[1] for key in theirs if key[0] == corpus and key[1] not in there}
            pairs = sorted([*pairs, *(("", method) for method in only)], key=lambda p: (order(p[1]), p[0]))
        n = sorted({int(n) for n in block["n"].dropna()})
        many = "" if not n else f", n = {n[0]}" if len(n) == 1 else f", n = {n[0]}-{n[-1]}"
        head = corpus_title(corpus) + (f" ({documents})" if isinstance(documents, str) and documents else "") + many
        for group, title in GROUPS.items():
            rows = []
            for model, method in pairs:
                if look(method).group != group:
                    continue
                cells = []
                for metric in metrics:
                    cell = [_ours(ours.get((model, method, metric)))]
                    found = [theirs.get((corpus, method, metric, name)) for name in SIZES]
                    cell += [ABSENT if row is None else f"{row.value:.2f}" for row in found][
                        : len(_sizes(metric, published))
                    ]
                    cells.append(cell)
                rows.append((model or MISSING, look(method).title, cells))
            if rows:
                groups.append((head, title, rows))
    return metrics, groups


def _lookup(frame, keys):
    return {tuple(getattr(row, key) for key in keys): row for row in frame.itertuples()}


def _ours(row):
    if row is None or np.isnan(row.mean):
        return MISSING if row is None else ABSENT, "", False
    known = not np.isnan([row.low, row.high]).any()
    interval = f"[{row.low:.2f}, {row.high:.2f}]" if known else ""
    return f"{row.mean:.2f}", interval, bool(getattr(row, "best", False))


def _texts(frame, formats):
    formats = formats or {}
    if unknown := [column for column in formats if column not in frame]:
        raise ValueError(f"formats for columns that are not there: {unknown}; the table has {list(frame)}")
    columns = [_column(frame.iloc[:, j], formats.get(name)) for j, name in enumerate(frame.columns)]
    return list(zip(*columns, strict=True))


def _column(values, form: str | Callable | None):
    if form is None:
        form = "{:.2f}" if pd.api.types.is_float_dtype(values.dtype) else "{}"
    write = form.format if isinstance(form, str) else form
    return [MISSING if pd.api.types.is_scalar(value) and pd.isna(value) else str(write(value)) for value in values]


def _cell(text, number=False):
    names = " ".join(["number"] * number + ["absent"] * (text in (MISSING, ABSENT)))
    kind = f' class="{names}"' if names else ""
    return f"<td{kind}>{escape(str(text))}</td>"


def _header(columns, numeric):
    kinds = [_NUMBER if number else "" for number in numeric]
    if columns.nlevels == 1:
        return [
            "".join(
                f'<th scope="col"{kind}>{escape(str(name))}</th>' for name, kind in zip(columns, kinds, strict=True)
            )
        ]
    lines = []
    for level in range(columns.nlevels):
        names, line = [name[: level + 1] for name in columns], ""
        for j, name in enumerate(names):
            if j and level < columns.nlevels - 1 and names[j - 1] == name:
                continue
            span = next((k for k in range(j, len(names)) if names[k] != name), len(names)) - j
            last = level == columns.nlevels - 1
            kind = f' scope="col"{kinds[j]}' if last else f' scope="colgroup" colspan="{span}"'
            line += f"<th{kind}>{escape(str(name[-1]))}</th>"
        lines.append(line)
    return lines


def _html(caption, header, bodies, header_column=0):
    columns = header[-1].count("<th")
    parts = [
        f"<table><caption><span>{escape(caption)}</span></caption><thead>",
        *(f"<tr>{line}</tr>" for line in header),
        "</thead>",
    ]
    for title, rows in bodies:
        parts.append("<tbody>")
        if title is not None:
            parts.append(f'<tr class="group"><th scope="rowgroup" colspan="{columns}">{escape(title)}</th></tr>')
        for row in rows:
            row = list(row)
            row[header_column] = re.sub(r"^<td(.*)</td>$", r'<th scope="row"\1</th>', row[header_column], flags=re.S)
            parts.append(f"<tr>{''.join(row)}</tr>")
        parts.append("</tbody>")
    return "".join(parts) + "</table>"


def _markdown(columns, rows, numeric):
    lines = [columns, ["--:" if number else ":--" for number in numeric], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _escape_markdown(text):
    text = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]>|$~])", r"\\\1", text)
