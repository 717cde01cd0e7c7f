"""What the files at hand do not hold is said where they are read: encodings, splits, samples."""

import gzip
import json

import numpy as np
import pytest

from mlutils import corpora, paths
from mlutils.corpora import boxes, corpus
from mlutils.tracing import demonstrations
from tests.corpora.test_corpora import (  # noqa: F401
    DEV_POSTS,
    MFRC_TEXTS,
    TEST_POSTS,
    files,
    mirror,
    number,
    publish_ids,
    write_filtered,
    write_mfrc_counts,
    write_mfrc_raw,
    write_mfrc_splits,
    write_semeval,
    write_subset,
)

READ = {
    "goemotions/dev.tsv.gz": {"name": "goemotions", "annotations": "none"},
    "goemotions/goemotions_annotators_subset.csv": {"name": "goemotions", "annotations": "subset"},
    "mfrc/final_mfrc_data.csv": {"name": "mfrc"},
    "semeval2018-ec/2018-E-c-En-dev.txt": {"name": "semeval"},
    "hatexplain/dataset_val.json": {"name": "hatexplain"},
}


@pytest.fixture
def written(files):  # noqa: F811
    write_filtered(files)
    write_subset(files)
    write_mfrc_splits(files)
    write_mfrc_raw(files, [(text, "annotator00", "Care") for text in MFRC_TEXTS])
    write_semeval(files)
    files("hatexplain/dataset_val.json", json.dumps(DEV_POSTS))
    files("hatexplain/dataset_test.json", json.dumps(TEST_POSTS))
    return files


def rewrite(file, change):
    """Changes the bytes of a file of the mirror, packed or not; returns its path."""
    path = next(paths.mirror().glob(f"{file.removesuffix('.gz')}*"))
    packed = path.suffix == ".gz"
    content = change(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


@pytest.mark.parametrize("file", READ)
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_file_in_another_encoding_is_named_with_where_it_came_from(written, file, encoding):
    path = rewrite(file, lambda text: b"\xe9" + text if encoding == "latin-1" else text.decode().encode("utf-16"))
    with pytest.raises(ValueError, match=rf"sources/.* \(from {path}\) (is not in UTF-8 .*: save it|cannot be read)"):
        corpora.load(**READ[file])


@pytest.mark.parametrize("file", [file for file in READ if file.endswith((".csv", ".txt"))])  # those with a header
def test_a_file_with_a_byte_order_mark_is_utf_8(written, file):
    before = corpora.load(**READ[file])
    rewrite(file, lambda content: b"\xef\xbb\xbf" + content)
    assert corpora.load(**READ[file]).documents.equals(before.documents)


@pytest.mark.parametrize("file", READ)
@pytest.mark.parametrize("cut", [0, 9])
def test_an_empty_file_and_one_that_is_cut_are_named(written, file, cut):
    path = rewrite(file, lambda content: content[:cut])
    with pytest.raises(ValueError, match=rf"sources/|{path}") as caught:
        corpora.load(**READ[file])
    assert path.name.removesuffix(".gz") in str(caught.value) or "no document of dev" in str(caught.value)


def test_transcripts_in_another_encoding_are_named(tmp_path):
    (tmp_path / "a1.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=f"{tmp_path}/a1.txt is not in UTF-8"), corpus.reading(tmp_path / "a1.txt"):
        (tmp_path / "a1.txt").read_text(encoding="utf-8")


def test_cells_that_hold_something_else_are_named(written):
    write_mfrc_counts(written)
    rewrite("mfrc/mfrc_vote_counts.csv", lambda content: content.replace(b'said",2,', b'said",two,'))
    with pytest.raises(ValueError, match=r"mfrc_vote_counts.csv.gz:2: care: 'two' where a number is needed"):
        corpora.load("mfrc", "dev", annotations="counts")
    for emotions in ("27,x", "28", ""):
        written("goemotions/test.tsv", f"text\t{emotions}\tt1\n")
        with pytest.raises(
            ValueError, match=rf"test.tsv:1: emotions '{emotions}': '.*' is unknown.*; allowed are 0 to 27"
        ):
            corpora.load("goemotions", "test", annotations="none")


# -- splits and samples ----------------------------------------------------------------------------------------------
def test_a_release_without_a_split_says_so_and_what_there_is(written):
    written("goemotions/test.tsv", "")
    write_mfrc_counts(written)
    rewrite("mfrc/mfrc_vote_counts.csv", lambda content: content.replace(b",test,", b",validation,"))
    header = (paths.mirror() / "semeval2018-ec/2018-E-c-En-dev.txt").read_text().splitlines()[0]
    written("semeval2018-ec/2018-E-c-En-dev.txt", header + "\n")
    written("hatexplain/dataset_test.json", "{}")
    for name, options, message in (
        ("goemotions", {"annotations": "none"}, "no document of test can be read from .*test.tsv"),
        ("mfrc", {"annotations": "counts"}, "no document of test can be read .*holds 'dev', 'train', 'validation'"),
        ("semeval", {}, "no document of dev can be read from .*E-c-En-dev.txt"),
        ("hatexplain", {}, "no document of test"),
    ):
        with pytest.raises(corpus.EmptyError, match=f"{name}: split 'dev\\+test' is asked for, and {message}"):
            corpora.load(name, "dev+test", **options)
        assert len(corpora.load(name, "all", **options))  # whatever is at hand


def test_texts_that_are_not_the_published_ones_to_the_letter_are_said(written):
    write_mfrc_raw(written, [(f"{text} ", "annotator00", "Care") for text in MFRC_TEXTS])
    with pytest.raises(ValueError, match=r"none of its 3 texts is one of the 3 published ones.*\(3 are without blanks"):
        corpora.load("mfrc", "dev")
    write_mfrc_raw(written, [("Another text", "annotator00", "Care")])
    with pytest.raises(ValueError, match=r"none of its 1 texts .*\(0 are without .*take the authors' file"):
        corpora.load("mfrc", "dev")
    write_mfrc_raw(written, [(list(MFRC_TEXTS)[2], "annotator00", "Care")])  # of the test split
    with pytest.raises(corpus.EmptyError, match="no document of dev can be read from .*final_mfrc_data.csv"):
        corpora.load("mfrc", "dev")


def test_boxes_without_queries_are_said(written, monkeypatch):
    (paths.mirror() / "empty.jsonl").write_text("")
    monkeypatch.setattr(boxes, "_official_files", lambda *_: [("test", paths.mirror() / "empty.jsonl")])
    with pytest.raises(corpus.EmptyError, match="no document of test can be read from .*empty.jsonl"):
        corpora.load("boxes", "test", source="official")


def test_a_sample_without_documents_says_why(written):
    publish_ids(written, "semeval,main,s1", "hatexplain,main,h1")
    rewrite("semeval2018-ec/2018-E-c-En-dev.txt", lambda content: content.replace(b"\t1", b"\t0"))
    for arguments, message in (
        ({"name": "hatexplain", "sample": "multilabel"}, "none of the 2 documents of split 'dev' has two or more gold"),
        (
            {"name": "semeval", "sample": "multilabel", "limit": 5},
            "none of the 3 documents .* has two or more gold",
        ),
        ({"name": "semeval", "sample": "paper"}, "none of the 9 documents of split 'all' has one of the published ids"),
    ):
        with pytest.raises(ValueError, match=message):
            corpora.load(**arguments)


def test_no_document_to_set_aside_is_said(monkeypatch):
    tested = corpora.load("vignettes", "dev", limit=4)
    monkeypatch.setattr(corpora.sampling, "reserved", lambda ids: np.zeros(len(ids), bool))
    with pytest.raises(ValueError, match="of the 0 training documents that are set aside none can be drawn"):
        corpora.reserve(tested, 3)


def test_a_release_without_a_train_split_is_trained_on_what_else_there_is(written):
    write_mfrc_counts(written)
    rewrite("mfrc/mfrc_vote_counts.csv", lambda content: content.replace(b",train,", b",dev,"))
    test = corpora.load("mfrc", "test", annotations="counts")
    assert list(corpora.training_documents(test, annotations="counts").documents["id"]) == ["11", "14", "15"]


# -- copies of tested texts ------------------------------------------------------------------------------------------
def test_copies_of_tested_texts_are_nowhere_that_something_is_learnt(written):
    """Training documents, those set aside, demonstrations, gold sets that are added: the same text under another id."""
    train = [("  ok. ", number("joy"), "r2"), ("NEW", number("joy"), "r3"), ("newer", number("joy", "fear"), "r4")]
    written("goemotions/train.tsv", "".join("\t".join(row) + "\n" for row in [("THANKS!", "27", "r1"), *train]))
    dev = corpora.load("goemotions", "dev", annotations="none")
    assert corpora.find_untested(corpora.load("goemotions", "train", annotations="none"), dev).tolist() == [0, 0, 1, 1]
    left = corpora.training_documents(dev, annotations="none")
    assert list(left.documents["id"]) == ["r3", "r4"]
    learnt, aside = corpora.split_training(left)
    pool = demonstrations.pool(dev, annotations="none")
    more = corpora.add_gold(left.take([0]), [dev], 10)
    for part in (learnt, aside, pool, more):
        assert not {"r1", "r2"} & set(part.documents["id"])
    assert corpora.text_marks(dev)[0] == corpora.text_marks(corpora.load("goemotions", "train", annotations="none"))[0]


@mirror
def test_copies_in_goemotions():
    train = corpora.load("goemotions", "train", annotations="none")
    marks = set(corpora.text_marks(train))
    for split, copied in (("dev", 49), ("test", 42)):  # 43 and 37 where case and white space count
        tested = corpora.load("goemotions", split, annotations="none")
        assert sum(mark in marks for mark in corpora.text_marks(tested)) == copied
        left = corpora.training_documents(tested, annotations="none")
        assert not set(corpora.text_marks(left)) & set(corpora.text_marks(tested))
