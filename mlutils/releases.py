"""Releases: what finished runs found, kept in the repository (`data/runs/<grid>`), and used in place of running them.

A released run holds what later notebooks read and no third party's text: documents are ids with the SHA-256 of their
texts, answers that the parser could not read are left out, as they may quote a document. Weights are not kept, nor
states of all layers (too large), nor labels where a licence forbids it. Where the corpus is at hand, `Trace` joins
texts and such labels by id again. Each run is a folder with checksums of its own, so two releases never meet.

`python -m mlutils.releases release GRID` collects, `python -m mlutils.releases plan GRID` says what a grid would do.
"""

import hashlib
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from mlutils import corpora, files, fingerprints, grids, paths, sources
from mlutils.fingerprints import ASKING
from mlutils.traces import COLUMNS, HEAD, STATES, WORK, Trace, has_trace

FORM = 1  # of a released run
LARGEST_RUN, LARGEST = 2_000_000, 40_000_000  # bytes of a run, and of all
PAGE = "90_paper"  # always run: it reads all others
LABELS = ("40_alignment",)  # notebooks that do with labels where texts are not at hand
LAYERS = ("24_linear_probes",)  # notebooks that read states of all layers
PLACES = {"folder", "reads", "grid", "publish"}  # parameters that say where, not what
WHICH = ("corpus", "split", "sample", "options", "family", "conventions")  # parameters that say what is read
WRITTEN = (".csv", ".png", ".pdf", ".json")  # files of a run that are kept as they are
READABLE = ("ok", "none")  # statuses of answers that hold labels and nothing else
WITHHELD = "⟨not released⟩"
AGAIN = "get it again (git checkout {folder}), or delete it to have the run made here"


class ReleaseError(ValueError):
    """Raised where a released run is damaged, too large, of another form, or not what a grid asks for."""


# -- what a grid takes from releases -----------------------------------------------------------------------------------
def place(grid: str, key: str) -> Path:
    """Returns the folder of a released run."""
    return paths.RELEASES / grid / key


def read_record(folder: Path | str) -> dict:
    """Returns the `run.json` of a released run, checked: its form and the checksums of all its files.

    Raises ReleaseError that names the file, and what to do.
    """
    folder = Path(folder)
    again = AGAIN.format(folder=folder)
    record = files.read_json(folder / "run.json", ReleaseError, again)
    known = record.get("release", {})
    if known.get("form") != FORM:
        raise ReleaseError(f"{folder} is of form {known.get('form')}, this code reads {FORM}: update one of them")
    missing, damaged = files.find_damaged(folder, known["files"])
    foreign = {file.name for file in folder.iterdir()} - {"run.json", ".lock", *known["files"]}
    for names, problem in (
        (missing, "is missing"),
        (damaged, "is not what was released, its checksum differs"),
        (sorted(foreign), "does not belong here"),
    ):
        if names:
            raise ReleaseError(f"{folder / names[0]} {problem}: {again}")
    return record


def is_released(folder: Path | str) -> bool:
    """Returns whether a folder lies among the released runs."""
    return paths.RELEASES.resolve() in Path(folder).resolve().parents


def is_older(record: Mapping) -> bool:
    """Returns whether the code that decides what a run finds has changed since, and since it was last verified."""
    verified = record.get("release", {}).get("verified", {})
    return fingerprints.read(record["notebook"]) not in (record.get("code"), verified.get("code"))


def confirm(folder: Path, record: dict, documents: int, apart: float) -> None:
    """Notes in the record of a released run that the code as it is now found the same about some documents.

    apart: the largest difference of a number.
    """
    code, day = fingerprints.read(record["notebook"]), time.strftime("%Y-%m-%d", time.gmtime())
    record["release"]["verified"] = {"code": code, "documents": documents, "apart": apart, "finished": day}
    files.write_json(folder / "run.json", record)


def lacking(record: Mapping) -> list[str]:
    """Returns what a run of an analysis would need, and is not at hand: files of corpora, states of all layers."""
    needs = record["release"]["needs"]
    return [each for each in needs if each not in sources.catalogue() or not sources.at_hand(each)]


def choose(grid: str, points: Mapping[str, grids.Point], fresh: bool = False) -> set[str]:
    """Returns the points (keys) of a grid that are taken from releases.

    Runs that ask a model are, unless `fresh`; a finetuning is not where a run that asks its adapter has to be made, as
    weights are not released. Analyses are taken where they cannot be made again, as what they need is not at hand.
    Raises ReleaseError for a damaged run, and for one that was released with other parameters.
    """
    if fresh:
        return set()
    records = {key: read_record(place(grid, key)) for key in points if (place(grid, key) / "run.json").exists()}
    for key, record in records.items():
        _refuse_other(grid, key, record["parameters"], points[key].checked)
    taken = {key for key in records if points[key].notebook in ASKING}
    asked = {key: point for key, point in points.items() if point.notebook in ASKING}
    while without := {read for key, point in asked.items() if key not in taken for read in point.reads} & taken:
        taken -= without
    for key, record in records.items():
        made = [read for read in points[key].reads if read in asked and read not in taken]
        if key not in asked and not made and lacking(record):
            taken.add(key)
    return taken


def find_reads(notebook: str, parameters: Mapping) -> list[Path]:
    """Returns the released runs that a notebook reads when nobody says which: those of the first point of a released
    grid that is of the same documents, prompts and conventions, without those whose labels are not at hand.

    Empty where there is no such point. Raises ReleaseError for a damaged run.
    """
    for path in sorted(paths.GRIDS.glob("*.yaml")):
        if not (paths.RELEASES / path.stem).is_dir():
            continue
        for point in grids.read_grid(path).values():
            alike = all(parameters.get(name) == point.checked.get(name) for name in WHICH)
            if point.notebook == notebook and alike:
                found = [place(path.stem, key) for key in point.reads if place(path.stem, key).is_dir()]
                return [folder for folder in found if _is_readable(read_record(folder))]
    return []


def _is_readable(record: Mapping) -> bool:
    """Returns whether the labels of a released run's documents are there, or at hand."""
    return "labels" not in record["release"]["withheld"] or all(map(sources.at_hand, _corpus_files(record)))


def _refuse_other(grid: str, key: str, released: Mapping, wanted: Mapping) -> None:
    names = sorted(set(released) & set(wanted) - PLACES)
    differing = [f"{name}={released[name]!r}, not {wanted[name]!r}" for name in names if released[name] != wanted[name]]
    if differing:
        raise ReleaseError(
            f"{place(grid, key)} was released with {'; '.join(differing)}: delete it to have the run made here, then "
            f"release it again (make release GRID={grid})"
        )


# -- releasing ---------------------------------------------------------------------------------------------------------
def release(grid: str) -> pd.DataFrame:
    """Packs all finished runs of a grid that were made here, and returns a row a run: run, bytes, and what was done.

    An analysis is released only where it has read releases, so that whoever makes it again from them finds the same.
    Raises ReleaseError, and releases nothing more, where a run or all together are too large.
    """
    points = grids.read_grid(paths.GRIDS / f"{grid}.yaml", paths.RESULTS / grid)
    rows = []
    for key, point in points.items():
        folder, target = paths.RESULTS / grid / key, place(grid, key)
        if point.notebook == PAGE or not (folder / "run.json").exists():
            done = "is made from the others" if point.notebook == PAGE else "released" if target.exists() else "to make"
        elif point.notebook not in ASKING and not all(map(is_released, _reads(folder))):
            done = f"has read runs that are not released: make paper GRID={grid}, then release again"
        else:
            pack(folder, target)
            done = "released now"
        rows.append([key, size(target) if target.exists() else 0, done])
    for name, options in {_labelled(point) for point in points.values() if point.notebook in LABELS}:
        options = json.loads(options)
        if not corpora.is_ours(name, options) and not corpora.why_withheld(name, options):
            file = corpora.release_labels(name, **options)
            rows.append([f"labels/{file.stem}", file.stat().st_size, "released now"])
    return pd.DataFrame(rows, columns=["run", "bytes", "state"])


def _labelled(point: grids.Point) -> tuple[str, str]:
    return point.checked["corpus"], json.dumps(point.checked.get("options", {}), sort_keys=True)


def size(folder: Path) -> int:
    """Returns the bytes of the files of a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _reads(folder: Path) -> list[Path]:
    record = files.read_json(folder / "run.json", ReleaseError, "delete it and have its notebook run again")
    return [paths.ROOT / read for read in record["parameters"].get("reads", [])]


def pack(folder: Path, target: Path) -> None:
    """Writes the release of a finished run. Raises ReleaseError where it is too large, alone or beside all others."""
    record = files.read_json(folder / "run.json", ReleaseError, "delete it and have its notebook run again")
    notebook, needs = record["notebook"], set()
    with files.making(target) as made:
        withheld = {}
        if has_trace(folder):
            withheld = _pack_trace(Trace(folder), made)
        for file in sorted(folder.iterdir()):
            if file.suffix in WRITTEN and file.name not in ("run.json", HEAD, WORK):
                shutil.copyfile(file, made / file.name)
        for file in sorted(folder.glob("predictions-*.parquet")):
            files.write_table(made / file.name, pd.read_parquet(file))
        if notebook not in ASKING:
            needs |= _corpus_files(record)
            for read in map(read_record, _reads(folder)):
                gone = read["release"]["withheld"]
                needs |= _corpus_files(read) if "labels" in gone else set()
                needs |= {"states of all layers"} if "layers" in gone and notebook in LAYERS else set()
        known = {
            "form": FORM,
            "withheld": withheld,
            "needs": sorted(needs),
            "files": {file.name: files.checksum(file) for file in sorted(made.iterdir())},
        }
        if (target / "run.json").exists():
            before = files.read_json(target / "run.json", ReleaseError, AGAIN.format(folder=target))["release"]
            if "verified" in before and before["files"] == known["files"]:
                known["verified"] = before["verified"]
        files.write_json(made / "run.json", {**record, "release": known})
        others = sum(size(each) for each in paths.RELEASES.glob("*/*/[!.]*") if each != target)  # . is under way
        if (taken := size(made)) > min(LARGEST_RUN, LARGEST - others):
            what = (
                f"more than the {LARGEST_RUN:,} of a run" if taken > LARGEST_RUN else f"all together over {LARGEST:,}"
            )
            raise ReleaseError(f"{folder} takes {taken:,} bytes released, {what}: leave out documents, or views")


def _corpus_files(record: Mapping) -> set[str]:
    """Returns the sources of a run that are no models: those of its corpus."""
    return {name for name in record["needs"] if name.partition("-")[0] in corpora.NAMES}


def _pack_trace(trace: Trace, made: Path) -> dict[str, str]:
    """Writes a trace without texts, and returns what is left out, and why."""
    given = trace.settings
    ours = corpora.is_ours(given["corpus"], given.get("options"))
    texts = "this repository makes them" if ours else "they are third parties'"
    withheld = {"texts": texts, "first_prompt": "it shows documents"}
    head = {name: value for name, value in given.items() if name != "first_prompt"}
    files.write_json(made / HEAD, {**head, "first_prompt": WITHHELD, "released": True})
    documents = trace.documents
    sums = [hashlib.sha256(text.encode()).hexdigest() for text in documents["text"]]
    documents = documents.drop(columns="text").assign(sha256=sums, mark=corpora.text_marks(trace.corpus))
    if why := corpora.why_withheld(given["corpus"], given.get("options")):
        documents, withheld["labels"] = documents[["id", "sha256", "mark"]], why
    files.write_table(made / "documents.parquet", documents, exact=True)
    answers = trace.answers
    if not ours:
        marks = [hashlib.sha256(text.strip().encode()).hexdigest()[:16] for text in answers["text"]]
        kept = answers["status"].isin(READABLE)
        answers = answers.assign(text=answers["text"].where(kept, [f"{WITHHELD} {mark}" for mark in marks]))
    files.write_table(made / "answers.parquet", answers)
    for name in set(COLUMNS) - {"documents", "answers"}:
        files.write_table(made / f"{name}.parquet", trace.table(name))
    files.write_json(made / WORK, trace.work)
    if (trace.folder / STATES).exists():
        states = {"first_label": trace.states().astype(np.float16)} if "list" in given["views"] else {}
        if "hidden" in given["views"]:
            withheld["layers"] = "they are too large"
        if states:
            with files.replacing(made / STATES) as draft:
                save_file(states, draft)
    return withheld


# -- the command -------------------------------------------------------------------------------------------------------
def plan(grid: str) -> pd.DataFrame:
    """Returns a row a point of a grid: run, state, minutes it took where that is known.

    State: released; done (made here, or made again from releases); to make; each with `older than the code` where that
    has changed since (`is_older`).
    """
    points = grids.read_grid(paths.GRIDS / f"{grid}.yaml", paths.RESULTS / grid)
    taken, rows = choose(grid, points), []
    for key in points:
        folder = place(grid, key) if key in taken else paths.RESULTS / grid / key
        record = {}
        if (folder / "run.json").exists():
            record = files.read_json(folder / "run.json", ReleaseError, AGAIN.format(folder=folder))
        state = "released" if key in taken else "done" if record else "to make"
        if record and is_older(record):
            state += ", older than the code"
        minutes = record.get("seconds", np.nan) / 60
        rows.append([key, state, minutes])
    return pd.DataFrame(rows, columns=["run", "state", "minutes"])


def main(arguments: list[str]) -> None:
    """Prints the table of `release` or `plan`, and their sums."""
    table = {"release": release, "plan": plan}[arguments[0]](arguments[1])
    print(table.to_string(index=False, float_format=lambda value: f"{value:.1f}"))
    print(", ".join(f"{count} {state}" for state, count in Counter(table["state"]).items()), end="")
    print(f"; {table['bytes'].sum():,} bytes" if "bytes" in table else "")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ReleaseError, ValueError) as problem:
        sys.exit(f"{problem}")
