"""Tables of the page: what is said of a model that recites."""

import numpy as np

from mlutils.reporting import comparison
from tests.hand_made import write_lists

SETTINGS = {"corpus": "mfrc", "labels": ["care", "purity"], "single_label": False, "views": ["list"], "shots": 10}


def trace(folder, lists, model):
    """A trace of the lists, whose texts are the lists."""
    documents = [{"id": f"d{i}", "text": "t", "gold": [], "votes": [], "annotators": 0} for i in range(len(lists))]
    steps = np.zeros((sum(map(len, lists)), 3))
    found = write_lists(folder, SETTINGS | {"model": model}, documents, lists, steps)
    answers = found.answers.assign(text=[", ".join(each) for each in lists])
    answers.to_parquet(folder / "answers.parquet")
    return type(found)(folder)


def test_one_answer_for_most_documents_is_said(tmp_path):
    same = [["care"], ["care"], ["purity"]]
    recites = trace(tmp_path / "a", same, "parrot")
    half = trace(tmp_path / "b", [["care"], ["care"], ["purity"], ["care", "purity"]], "half")
    assert comparison.recited([half]) == "" and comparison.recited([]) == ""
    told = comparison.recited([recites, half])
    assert (
        told.endswith("documents: parrot (MFRC, 10 demonstrations: 2 of 3 documents, 1.9 different answers).")
        and "half (" not in told
    )
