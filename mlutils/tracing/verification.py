"""Asks models again about a few documents of released traces, and compares what they say now with what was released.

`python -m mlutils.tracing.verification GRID DOCUMENTS` is `make verify`.
"""

import json
import sys
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mlutils import paths, releases
from mlutils.parameters import complete, read_parameters
from mlutils.sources import SourceError
from mlutils.traces import COLUMNS, Trace, has_trace
from mlutils.tracing import models
from mlutils.tracing.models import Model
from mlutils.tracing.prompting import prepare
from mlutils.tracing.views import VIEWS

APART = {"float32": 1e-4, "bfloat16": 0.25, "float16": 0.05}  # differences of logits that numbers of this kind explain
KEYS = {  # what tells the rows of a table apart
    "answers": ["document", "variant"],
    "steps": ["document", "variant", "step"],
    "questions": ["document", "kind", "first", "second"],
    "nodes": ["document", "prefix"],
    "attention": ["document", "step"],
}
SAME = ("said", "status", "label")  # columns that must be the same; others are numbers


def verify(grid: str, documents: int = 5, seed: int = 0) -> pd.DataFrame:
    """Returns a row a released trace: run, documents asked, largest difference of a number, answers that differ, and
    whether it agrees, which is noted in its record, or what was not at hand.

    documents: of each trace, drawn by the seed. A trace is asked with its own parameters; its demonstrations must be
    those that were recorded. Raises ReleaseError for a damaged run.
    """
    rows, loaded = [], {}
    for folder in sorted((paths.RELEASES / grid / "10_trace").glob("*")):
        if has_trace(folder):
            record = releases.read_record(folder)
            given = complete(read_parameters("10_trace"), record["parameters"])
            asked, apart, differing, state = _verify_one(Trace(folder), given, documents, seed, loaded)
            if state == "agrees":
                releases.confirm(folder, record, asked, apart)
            rows.append([folder.name, asked, apart, differing, state])
    return pd.DataFrame(rows, columns=["run", "documents", "apart", "answers that differ", "state"])


def _verify_one(trace: Trace, parameters: Mapping, documents: int, seed: int, loaded: dict) -> list:
    try:
        prompting = prepare(parameters)
        model = _load(parameters, loaded)
    except (SourceError, OSError, ValueError) as error:
        return [0, np.nan, 0, f"not at hand: {str(error).splitlines()[0]}"]
    if json.loads(json.dumps(prompting.plan.as_json())) != trace.settings["plan"]:
        return [0, np.nan, 0, "other demonstrations are drawn than were recorded"]
    ids = list(trace.documents["id"])
    if list(prompting.corpus.documents["id"]) != ids:
        return [0, np.nan, 0, "other documents are drawn than were traced"]
    rows = sorted(np.random.default_rng(seed).permutation(len(ids))[:documents].tolist())
    apart, differing = compare(trace, model, prompting, rows)
    agrees = apart <= APART[trace.settings["dtype"]] and not differing
    return [len(rows), apart, differing, "agrees" if agrees else "DIFFERS"]


def _load(parameters: Mapping, loaded: dict) -> Model:
    name = parameters["model"]
    if name not in loaded:
        loaded.clear()  # one model at a time in memory
        reads = [str(paths.ROOT / read) for read in parameters["reads"] if (paths.ROOT / read).is_dir()]
        loaded[name] = models.load(name, parameters["device"], parameters["dtype"], reads, pack=True)
    return loaded[name]


def compare(trace: Trace, model: Model, prompting, rows: Sequence[int]) -> tuple[float, int]:
    """Returns the largest difference of a number, and in how many rows words differ or are missing, between a trace and
    what the model says now about some of its documents, in all views of the trace.
    """
    asked, apart, differing = {trace.documents["id"].iloc[row] for row in rows}, 0.0, 0
    for view in trace.settings["views"]:
        asks = VIEWS[view](model, prompting)
        order = getattr(asks, "order", range(len(prompting.corpus)))  # the one in which a view counts its documents
        tables, _ = asks.ask([list(order).index(row) for row in rows])
        for table, found in tables.items():
            if table not in KEYS:
                continue
            new, old = (
                _by_key(table, frame) for frame in (pd.DataFrame(found, columns=COLUMNS[table]), trace.table(table))
            )
            old = {key: row for key, row in old.items() if key[0] in asked and _is_of(view, table, key)}
            differing += len(set(new) ^ set(old))
            for key in set(new) & set(old):
                now, then = new[key], old[key]
                differing += any(_plain(now[name]) != _plain(then[name]) for name in SAME if name in then)
                apart = max(apart, *(_distance(now[name], then[name]) for name in then if name not in SAME), 0.0)
    return apart, differing


def _is_of(view: str, table: str, key: tuple) -> bool:
    """Returns whether a row of a table is of a view: several write answers, steps and questions."""
    if table == "questions":
        return key[1] == view
    if table in ("answers", "steps"):
        return key[1] == view if view == "list" else key[1].startswith(view)
    return True


def _by_key(table: str, frame: pd.DataFrame) -> dict[tuple, dict]:
    keys = KEYS[table]
    rows = frame.drop(columns="text", errors="ignore").to_dict("records")
    names = frame[keys].astype(object).where(frame[keys].notna(), None).map(_plain).astype(str)  # NaN in a file is None
    return dict(zip(names.itertuples(index=False, name=None), rows, strict=True))


def _plain(value):
    return value.tolist() if isinstance(value, np.ndarray) else value


def _distance(new, old) -> float:
    """Returns the largest difference of two numbers or lists of them: infinite where one of two is NaN, 0 for words."""
    try:
        now, then = (np.atleast_1d(np.asarray(value, float)) for value in (new, old))
    except (TypeError, ValueError):
        return 0.0
    if now.shape != then.shape or (np.isnan(now) != np.isnan(then)).any():
        return np.inf
    return float(np.abs(now - then)[~np.isnan(now)].max(initial=0.0))


def main(grid: str, documents: str = "5") -> None:
    """Prints the table of `verify`; ends with 1 where a trace differs."""
    table = verify(grid, int(documents))
    print(table.to_string(index=False, float_format=lambda value: f"{value:.1e}"))
    agree, differ = ((table["state"] == word).sum() for word in ("agrees", "DIFFERS"))
    print(f"{agree} of {len(table)} released traces agree, {differ} differ, {len(table) - agree - differ} not asked")
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
