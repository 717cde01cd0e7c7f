"""Boxes: both kinds of official lines are read, and every document is replayed from its own words."""

import json
import os
import re

import numpy as np
import pytest

from mlutils import corpora, sources
from mlutils.corpora import boxes


def replay(text):
    """A simulator of its own: reads the description and the operations, returns box -> set of objects."""
    description, *operations = text.split(". ")
    query = operations.pop()
    world = {}
    for clause in description.split(", "):
        box, _, contents = clause.partition(" contains ")
        assert re.fullmatch(r"Box \d", box)
        world[box] = set() if contents == "nothing" else set(contents.split(" and "))
    for operation in operations:
        verb, rest = operation.split(" ", 1)
        if verb == "Put":
            things, target = rest.split(" into ")
            inside = set().union(*world.values())
            assert not inside & set(things.split(" and "))
        elif verb == "Remove":
            (things, source), target = rest.split(" from "), None
        else:
            assert verb == "Move"
            things, places = rest.split(" from ")
            source, target = places.split(" to ")
        moved = set(things.split(" and "))
        assert moved and list(things.split(" and ")) == sorted(moved)
        if verb != "Put":
            assert moved <= world[source]
            world[source] -= moved
        if target:
            world[target] |= moved
        assert all(len(things) <= boxes.ROOM for things in world.values())
    return {box: {thing.removeprefix("the ") for thing in things} for box, things in world.items()}, query


def check_by_replay(corpus):
    for row, text in enumerate(corpus.documents["text"]):
        world, query = replay(text)
        box = re.fullmatch(r"(Box \d) contains", query)[1]
        contents = {label for label, there in zip(corpus.labels, corpus.gold[row], strict=True) if there}
        assert contents == world[box], text
        assert len(world) == boxes.BOXES


@pytest.mark.parametrize("split", ["dev", "test"])
def test_generated_contents_follow_from_the_text(split):
    check_by_replay(corpora.load("boxes", split))


def test_generated_shape():
    corpus = corpora.load("boxes", "test")
    assert len(corpus) == 700 and 90 <= len(corpus.labels) <= 110
    assert corpus.documents["text"].is_unique and corpus.documents["id"].is_unique
    operations = [len(re.findall("Move |Put |Remove ", text)) for text in corpus.documents["text"]]
    assert set(operations) == set(range(13))
    # all of none, one, two, three objects in about a quarter of the boxes, as in the official scenarios
    share = np.bincount(corpus.gold.sum(axis=1), minlength=4) / len(corpus)
    assert len(share) == 4 and (share > 0.18).all() and (share < 0.34).all()
    assert np.isnan(corpus.votes).all() and not corpus.annotators.any()
    words = " ".join(corpus.documents["text"])
    for verb in ("Move the", "Put the", "Remove the", "contains nothing"):
        assert verb in words


def test_generated_is_a_matter_of_the_generator_seed_only():
    first, again = corpora.load("boxes", "dev"), corpora.load("boxes", "dev")
    assert first.documents.equals(again.documents)
    np.testing.assert_array_equal(first.gold, again.gold)
    other = corpora.load("boxes", "dev", generator_seed=1)
    assert not set(first.documents["text"]) & set(other.documents["text"])
    sampled = corpora.load("boxes", "dev", limit=20, seed=5)
    assert set(sampled.documents["text"]) <= set(first.documents["text"])
    check_by_replay(other.take(np.arange(70)))


def test_objects_are_disjoint_between_splits():
    names = [set(corpora.load("boxes", split).labels) for split in ("train", "dev", "test")]
    assert not names[0] & names[1] and not names[0] & names[2] and not names[1] & names[2]
    for name in set().union(*names):
        assert re.fullmatch("[a-z]+", name)
    both = corpora.load("boxes", "dev+test")
    assert set(both.labels) == names[1] | names[2] and len(both) == 1400
    check_by_replay(both)


def test_no_training_documents_where_objects_differ():
    with pytest.raises(ValueError, match="labels of split 'train' are not those"):
        corpora.training_documents(corpora.load("boxes", "test"))


STATE = (
    "Box 0 contains the pen, Box 1 contains nothing, Box 2 contains the cup and the hat, "
    "Box 3 contains nothing, Box 4 contains nothing, Box 5 contains nothing, Box 6 contains nothing. "
    "Move the cup and the hat from Box 2 to Box 1."
)


@pytest.fixture
def official(tmp_path, monkeypatch):
    """Writes the lines of an official file under its name in the catalogue; no other file is at hand."""
    files = {}

    def write(name, rows):
        files[name] = tmp_path / f"{name}.jsonl"
        files[name].write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")

    monkeypatch.setattr(sources, "at_hand", lambda name: name.replace("archive", "test") in files)
    monkeypatch.setattr(sources, "fetch", lambda name: files[name])
    return write


def test_official_query_lines(official):
    rows = [
        {
            "sentence": f"{STATE} Box {box} contains {contents}.",
            "sentence_masked": f"{STATE} Box {box} contains <extra_id_0> .",
            "masked_content": f"<extra_id_0> {contents}",
            "sample_id": 3,
            "numops": 1,
            "sentence_hash": "0",
        }
        for box, contents in ((1, "the cup and the hat"), (2, "nothing"), (0, "the pen"))
    ]
    official("boxes-test", rows)
    corpus = corpora.load("boxes", "test", source="official")
    assert corpus.labels == ("cup", "hat", "pen")
    assert corpus.documents["id"].tolist() == ["3-1-1", "3-1-2", "3-1-0"]
    assert corpus.documents["text"][0] == f"{STATE} Box 1 contains"
    assert corpus.gold.tolist() == [[True, True, False], [False] * 3, [False, False, True]]
    check_by_replay(corpus)


def test_official_scenario_lines(official):
    states = {"Box 0": ["the pen"], "Box 1": ["the cup", "the hat"]}
    states |= {f"Box {box}": ["nothing"] for box in range(2, 7)}
    official("boxes-scenarios", [{"sentence": STATE, "sample_id": 3, "final_states": states}])
    corpus = corpora.load("boxes", "all", source="official")
    assert len(corpus) == 7 and corpus.labels == ("cup", "hat", "pen")
    check_by_replay(corpus)
    for split in ("train", "dev", "dev+test"):
        with pytest.raises(sources.SourceError, match="needs the official archive"):
            corpora.load("boxes", split, source="official")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"sentence": STATE, "sample_id": 0}, "neither final_states nor masked_content"),
        (
            {"sentence_masked": f"{STATE} It <extra_id_0>", "masked_content": "x", "sample_id": 0},
            "does not end",
        ),
    ],
)
def test_official_line_of_another_form(official, row, message):
    official("boxes-test", [row])
    with pytest.raises(ValueError, match=message):
        corpora.load("boxes", "test", source="official")


@pytest.mark.skipif(not os.environ.get("ONE_LABEL_MIRROR"), reason="no mirror")
def test_official_contents_follow_from_the_text():
    corpus = corpora.load("boxes", "test", source="official")
    assert len(corpus) == 5012 and len(corpus.labels) == 100
    check_by_replay(corpus)
