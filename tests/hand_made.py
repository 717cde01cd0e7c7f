"""Traces made by hand, for tests of what reads them."""

from mlutils.traces import Trace
from mlutils.writer import Writer


def write_lists(folder, settings, documents, lists, logits, status="ok"):
    """A trace of one list a document; logits: one row (L + 1) a label step, in the order of the documents.

    documents: rows of id, text, gold, votes, annotators. Labels have 0.4 of the full softmax at first steps, then 0.9.
    """
    rows, names = iter(logits), [each["id"] for each in documents]
    answers = [
        {"document": name, "variant": "list", "text": "", "said": [label for label in said if label != "none"]}
        | {"status": status, "tokens": 9}
        for name, said in zip(names, lists, strict=True)
    ]
    found = [
        {"document": name, "variant": "list", "step": r, "label": label, "repeated": label in said[: r - 1]}
        | {"logits": [float(x) for x in next(rows)], "mass": 0.4 if r == 1 else 0.9, "goes_on": 0.5, "stops": 0.5}
        for name, said in zip(names, lists, strict=True)
        for r, label in enumerate(said, 1)
    ]
    writer = Writer(folder, settings)
    writer.add("documents", 0, {"documents": documents})
    writer.add("list", 0, {"answers": answers, "steps": found})
    writer.finish()
    return Trace(folder)
