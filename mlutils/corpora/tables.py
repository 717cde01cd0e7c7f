"""Tables that a corpus's own file describes: rows with their lines, and what was said of each label, as numbers."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from mlutils import sources
from mlutils.corpora.corpus import Corpus, EmptyError, reading
from mlutils.corpora.descriptions import Description
from mlutils.parameters import nearest

COLUMNS = ("id", "text", "split", "sha256", "annotator", "annotators", "labels")  # keys of a table that name a column
QUOTING = {"csv": csv.QUOTE_MINIMAL, "none": csv.QUOTE_NONE}
csv.field_size_limit(2**31 - 1)


@dataclass
class Reading:
    """What was read of a corpus: `problems` are rows that could not be, `misses` annotations of texts not found."""

    about: Description
    problems: list[str] = field(default_factory=list)
    misses: list[str] = field(default_factory=list)
    corpus: Corpus | None = None

    def refuse(self, rows: pd.DataFrame, bad: np.ndarray | pd.Series, why) -> pd.DataFrame:
        """Returns the rows that are not bad; of the others line and reason are kept. why: a text, or of a row."""
        for row in rows[np.asarray(bad)].to_dict("records"):
            self.problems.append(f"{row['file']}:{row['line']}: {why if isinstance(why, str) else why(row)}")
        return rows[~np.asarray(bad)] if np.any(bad) else rows


def read_table(found: Reading, name: str, wanted: Sequence[str]) -> pd.DataFrame | None:
    """Returns a table: file, line, the columns of COLUMNS that it has, and one a raw label: what was said, or NaN."""
    table = found.about.data.get(name)
    if not table:
        return None
    frames = []
    for part, source in found.about.files_of(name, wanted):
        rows = _read_file(found, name, table, sources.fetch(source))
        frames.append(rows if part is None else rows.assign(split=part))
    if not frames:
        raise EmptyError(
            f"{found.about.name}: no file of {name} is of {' or '.join(wanted)}: there is one of "
            f"{', '.join(table['files'])}; take such a split"
        )
    rows = pd.concat(frames, ignore_index=True)
    if "text" in rows and name == "documents" or ("text" in rows and "id" not in rows):
        rows = found.refuse(rows, rows["text"].str.strip() == "", "no text")
    if "shape" in table:
        rows = _read_labels(found, table, rows)
    return rows.reset_index(drop=True)


def _read_file(found: Reading, name: str, table: Mapping, path: Path) -> pd.DataFrame:
    about, encoding = found.about, table.get("encoding", "utf-8-sig")
    try:
        with reading(path, table.get("encoding", "UTF-8")):
            text = path.read_bytes().decode(encoding)
    except LookupError:
        raise ValueError(f"{about.file}:{table.lines['encoding']}: {name}: no encoding {encoding!r}") from None
    lines = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=table.get("delimiter", ","),
        quoting=QUOTING[table.get("quoting", "csv")],
        strict=True,
    )
    place, header, rows, begins = sources.locate(path), table.get("columns"), [], 1
    while True:
        try:
            row = next(lines)
        except StopIteration:
            break
        except csv.Error as error:
            found.problems.append(f"{place}:{begins}: cannot be read ({error})")
            begins = lines.line_num + 1
            continue
        if header is None and row:
            header = row
        elif row and len(row) != len(header):
            what = f"{len(row)} fields where {len(header)} are needed ({', '.join(header[:6])}, ...)"
            found.problems.append(f"{place}:{begins}: {what}")
        elif row:
            rows.append([*row, begins])
        begins = lines.line_num + 1
    if header is None:
        raise ValueError(f"{place} is empty, without a header: replace it there")
    columns = {key: (key, table[key]) for key in COLUMNS if isinstance(table.get(key), str)}
    if "shape" in table and "labels" not in table:
        codes = {label: code for code, label in _codes(table).items()}
        columns |= {said: ("shape", codes.get(raw, raw)) for said, raw in zip(said_of(about), about.raw, strict=True)}
    cells = pd.DataFrame(rows, columns=range(len(header) + 1), dtype=object)
    found_at = {
        as_: _find(f"{about.file}:{table.lines.get(key, table.line)}: {name}", column, header, place)
        for as_, (key, column) in columns.items()
    }
    made = {as_: cells[at] for as_, at in found_at.items()}
    return pd.DataFrame({"file": place, "line": cells[len(header)].astype(int), **made})


def _find(where: str, column: str, header: Sequence[str], place: str) -> int:
    """Returns which column of a table is meant, in any case where there is one such; raises ValueError for none."""
    alike = [at for at, each in enumerate(header) if _fold(each) == _fold(column)]
    exact = [at for at in alike if header[at] == column]
    if len(exact or alike) != 1:
        many = f"{len(alike)} columns" if alike else "no column"
        raise ValueError(f"{where}: {place} has {many} {column!r}{nearest(column, header)}; it has {', '.join(header)}")
    return (exact or alike)[0]


def _fold(name: str) -> str:
    return name.strip().casefold()


def said_of(about: Description) -> list[str]:
    """Returns the columns of what was said of each raw label; a label may be called as another column is."""
    return [f"={raw}" for raw in about.raw]


def _codes(table: Mapping) -> dict[str, str]:
    codes = table.get("codes", {})
    return {str(code): label for code, label in (codes.items() if isinstance(codes, dict) else enumerate(codes))}


# ---- labels --------------------------------------------------------------------------------------


def _read_labels(found: Reading, table: Mapping, rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows whose labels can be read, as numbers: 0 and 1, grades, counts (of `n` annotators) or shares."""
    about, said = found.about, said_of(found.about)
    if "labels" in table:
        codes = _codes(table)
        known = {_fold(raw): at for at, raw in enumerate(about.raw)}
        known = (
            {code: known[_fold(label)] for code, label in codes.items() if _fold(label) in known} if codes else known
        )
        parsed = {
            cell: _parse(cell, known, table.get("separator", ","), bool(codes)) for cell in rows["labels"].unique()
        }
        there = f"0 to {len(codes) - 1}" if isinstance(table.get("codes"), list) else ", ".join(codes or about.raw)
        unknown = rows["labels"].map(lambda cell: isinstance(parsed[cell], str))
        rows = found.refuse(
            rows,
            unknown,
            lambda row: (
                f"{table['labels']} {row['labels']!r}: {parsed[row['labels']]!r} is unknown"
                f"{nearest(parsed[row['labels']], known)}; allowed are {there}"
            ),
        )
        flags = np.zeros((len(rows), len(said)))
        for at, cell in enumerate(rows["labels"]):
            flags[at, parsed[cell]] = 1
        return rows.assign(**dict(zip(said, flags.T, strict=True)))
    cells = rows[said].to_numpy(dtype=object)
    numbers, shape = _numbers(cells), table["shape"]
    empty = (cells == "").all(axis=1) & (shape in ("counts", "shares"))
    needed, fine = {
        "counts": ("a number", (numbers >= 0) & (numbers % 1 == 0)),
        "shares": ("a share from 0 to 1", (numbers >= 0) & (numbers <= 1)),
        "grades": ("a number", ~np.isnan(numbers)),
    }.get(
        "grades flags" if shape == "grades" and "threshold" not in table else shape,
        ("0 or 1", np.isin(numbers, (0, 1))),
    )
    strange = ~fine & ~empty[:, None]

    def tell(row):
        label = next(each for each in said if row["=strange"][said.index(each)])
        return f"{label[1:]}: {row[label]!r} where {needed} is needed"

    rows = found.refuse(rows.assign(**{"=strange": list(strange)}), strange.any(axis=1), tell)
    numbers = numbers[~strange.any(axis=1)]
    rows = rows.assign(**dict(zip(said, numbers.T, strict=True)))
    return _read_annotators(found, table, rows, numbers) if shape in ("counts", "shares") else rows


def _parse(cell: str, known: Mapping[str, int], separator: str, coded: bool) -> list[int] | str:
    """Returns the labels of a cell, or the first that is not known."""
    try:
        labels = json.loads(cell or "[]") if separator == "json" else cell.split(separator)
    except ValueError:
        return cell
    labels = (
        [str(each).strip() if coded else _fold(str(each)) for each in labels] if isinstance(labels, list) else [cell]
    )
    labels = [each for each in labels if each or coded]
    unknown = [each for each in labels if each not in known]
    return unknown[0] if unknown else [known[each] for each in labels]


def _numbers(cells: np.ndarray) -> np.ndarray:
    """Returns cells as numbers, NaN where they are none."""
    codes, values = pd.factorize(cells.ravel())
    numbers = pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").to_numpy(float)
    numbers = np.where(np.isinf(numbers), np.nan, numbers)
    return numbers[codes].reshape(cells.shape)


def _read_annotators(found: Reading, table: Mapping, rows: pd.DataFrame, numbers: np.ndarray) -> pd.DataFrame:
    """Returns the rows with `n`, how many annotators there were: 0 where that is not known."""
    how, said = table.get("annotators", 0), said_of(found.about)
    if isinstance(how, Mapping):
        # Who chose `alone` chose nothing else: they and those who chose another label are different people.
        alone = said.index(f"={how['alone']}")
        least = np.delete(numbers, alone, axis=1).max(axis=1, initial=0) + numbers[:, alone]
        n = np.maximum(how["at_least"], least)
    else:
        n = _numbers(rows[["annotators"]].to_numpy(object))[:, 0] if isinstance(how, str) else np.full(len(rows), how)
    uncounted = np.isnan(numbers).all(axis=1)
    rows = rows.assign(n=np.where(uncounted, 0, n))
    rows = found.refuse(rows, np.isnan(rows["n"]), lambda row: f"annotators: {row['annotators']!r} is no number")
    over = (rows[said].max(axis=1) > rows["n"]) & (table["shape"] == "counts")
    return found.refuse(rows, over, lambda row: f"more votes for a label than its {row['n']:.0f} annotators")
