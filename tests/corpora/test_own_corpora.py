"""Corpora that one file describes: tiny ones, made here, against values by hand; what is said where they are bad."""

import re
from itertools import pairwise

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlutils import corpora, paths, sources
from mlutils.corpora import descriptions, tabular
from mlutils.corpora.corpus import EmptyError
from mlutils.tracing import prompts

NO = np.nan


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Writes a corpus's file and the tables beside it; returns its path."""
    monkeypatch.setenv("ONE_LABEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ONE_LABEL_MIRROR", raising=False)

    def write(text, **tables):
        for name, content in tables.items():
            content = content if isinstance(content, bytes) else content.encode()
            (tmp_path / f"{name}.csv").write_bytes(content)
        given = yaml.safe_load(text)
        files = "".join(f"  {name}: {{path: {name}.csv}}\n" for name in tables)
        (tmp_path / "own.yaml").write_text(text if "files" in given else f"{text}\nfiles:\n{files}")
        return str(tmp_path / "own.yaml")

    return write


def read(path, split="all", **options):
    return tabular.read(descriptions.read(path).choose(options), split)


# -- the four shapes -------------------------------------------------------------------------------------------------
LISTS = """
labels: {joy: [glad, happy], calm: [calm]}
none: [no feeling]
gold: {share: 0.5}
annotations: {shape: lists, files: a, id: n, text: t, annotator: who, labels: said, split: part}
"""
LISTED = """n,t,who,said,part
1,"So, at last",ann,"glad, Calm",train
1,"So, at last",bob,happy,train
2,Why?,ann,no feeling,dev
2,Why?,bob,,dev
2,Why?,cem,calm,dev
3,"two
lines",ann,glad,test
3,"two
lines",ann,calm,test
"""


def test_a_row_an_annotation_with_a_list_of_labels(make):
    corpus = corpora.load(make(LISTS, a=LISTED), "all")
    assert corpus.labels == ("joy", "calm") and list(corpus.documents["id"]) == ["1", "2", "3"]
    assert list(corpus.documents["text"]) == ["So, at last", "Why?", "two\nlines"]
    # pooled for each annotator: both of document 1 said joy, in other words
    np.testing.assert_allclose(corpus.votes, [[1, 0.5], [0, 1 / 3], [1, 1]])
    assert corpus.annotators.tolist() == [2, 3, 1], "ann's two rows about document 3 are one annotator's answer"
    # gold is decided label by label as the file has them, then pooled: each of glad and happy has half
    assert corpus.gold.tolist() == [[True, True], [False, False], [True, True]]
    assert sorted(set(corpus.annotations["annotator"])) == ["ann", "bob", "cem"] and corpus.grades is None
    assert list(corpora.load(corpus.name, "dev").documents["id"]) == ["2"]


def test_a_row_an_annotation_with_graded_columns(make):
    text = """
labels: [a, b]
gold: {mean: 2.5}
annotations: {shape: grades, files: g, id: n, text: t, annotator: who, threshold: 3}
splits: {hash: {train: 0.5, dev: 0.25, test: 0.25}}
"""
    rows = "n,t,who,a,b\n1,x,p,4,0\n1,x,q,1,2.5\n2,y,p,3,1\n2,y,q,3,5\n"
    corpus = corpora.load(make(text, g=rows), "all")
    np.testing.assert_allclose(corpus.votes, [[0.5, 0], [1, 0.5]])  # three or more is a yes
    assert corpus.gold.tolist() == [[True, False], [True, True]]  # means 2.5, 1.25, 3, 3
    np.testing.assert_allclose(corpus.grades[["a", "b"]], [[4, 0], [1, 2.5], [3, 1], [3, 5]])
    assert corpus.take([1]).grades["annotator"].tolist() == ["p", "q"]
    with pytest.raises(ValueError, match=r"g.csv:3: b: '2.5' where 0 or 1 is needed"):
        corpora.load(make(text.replace(", threshold: 3", ""), g=rows.replace("4,0", "1,0")), "all")


@pytest.mark.parametrize("how, n", [("annotators: 4", [4, 4]), ("annotators: many", [2, 4])])
def test_a_row_a_document_with_counts(make, how, n):
    text = f"""
labels: {{first: [A], second: [B]}}
gold: {{count: 2}}
documents: {{shape: counts, files: c, id: n, text: t, split: part, {how}}}
"""
    corpus = corpora.load(make(text, c="n,t,part,A,B,many\n1,x,dev,2,1,2\n2,y,test,0,3,4\n3,z,dev,,,\n"), "all")
    np.testing.assert_allclose(corpus.votes, np.array([[2, 1], [0, 3]]) / np.array(n)[:, None])
    assert corpus.gold.tolist() == [[True, False], [False, True]] and corpus.annotators.tolist() == n
    assert corpus.missing == ("3",) and corpus.annotations is None


def test_a_row_a_document_with_shares(make):
    text = """
labels: [A, B]
single_label: true
gold: {share: 0.4}
documents: {shape: shares, files: s, id: n, text: t, split: part}
"""
    corpus = corpora.load(make(text, s="n,t,part,A,B\n1,x,dev,.6,.4\n2,y,dev,0.5,0.5\n"), "dev")
    np.testing.assert_allclose(corpus.votes, [[0.6, 0.4], [0.5, 0.5]])
    assert corpus.single_label and corpus.gold.tolist() == [[True, False], [False, False]], "a tie decides nothing"
    assert corpus.annotators.tolist() == [0, 0] and corpus.has_votes.all()


def test_aggregated_labels_only(make):
    text = """
labels: [A, B]
gold: published
documents: {shape: gold, files: {train: a, dev: b}, columns: [n, t, said], delimiter: ";", id: n, text: t,
  labels: said, separator: "|", codes: {x: A, y: B}}
"""
    corpus = corpora.load(make(text, a="1;one;x|y\n2;two;y\n", b="3;three;x\n"), "all")
    assert corpus.gold.tolist() == [[True, True], [False, True], [True, False]]
    assert np.isnan(corpus.votes).all() and not corpus.annotators.any() and corpus.missing == ()
    assert list(corpora.load(corpus.name, "dev").documents["text"]) == ["three"]
    with pytest.raises(EmptyError, match="no file of documents is of test: there is one of train, dev"):
        corpora.load(corpus.name, "test")


# -- two files -------------------------------------------------------------------------------------------------------
JOINED = """
labels: [a, b]
gold: RULE
documents: {SHAPEfiles: d, id: n, text: t, split: part}
annotations: {shape: lists, files: v, JOIN, annotator: who, labels: said}
"""


@pytest.mark.parametrize("rule", ["{share: 0.6}", "published"])
@pytest.mark.parametrize("join", ["id: of", "text: text"])
def test_two_files_are_joined_by_id_or_by_text(make, rule, join):
    text = JOINED.replace("RULE", rule).replace("JOIN", join)
    text = text.replace("SHAPE", "shape: gold, labels: gold, " if rule == "published" else "")
    documents = "n,t,part,gold\n1,One  day,dev,b\n2,\tUnheard,dev,a\n3,Three,test,\n"
    votes = 'of,text,who,said\n3,Three ,p,a\n1,One day,p,a\n1," One\nday",q,"a,b"\n9,Nobody,q,b\n'
    path = make(text, d=documents, v=votes)
    corpus = corpora.load(path, "all")
    if rule == "published":
        assert list(corpus.documents["id"]) == ["1", "2", "3"] and corpus.missing == ()
        np.testing.assert_allclose(corpus.votes, [[1, 0.5], [NO, NO], [1, 0]])
        assert corpus.gold.tolist() == [[False, True], [True, False], [False, False]]
    else:  # nobody voted on 2, so nobody knows its gold set
        assert list(corpus.documents["id"]) == ["1", "3"] and corpus.missing == ("2",)
        assert corpus.gold.tolist() == [[True, False], [True, False]]
    misses = read(path).misses
    assert (["v.csv:6: no document has the text 'Nobody'"] if "text" in join else []) == [
        m.split("/")[-1] for m in misses
    ]


def test_gold_sets_of_another_file_and_texts_from_the_annotations(make):
    text = """
labels: [a, b]
gold: published
documents: {shape: gold, files: d, id: n, split: part}
annotations: {shape: lists, files: v, id: n, text: t, annotator: who, labels: said}
"""
    corpus = corpora.load(
        make(text, d="n,part,a,b\n2,dev,1,0\n1,dev,0,1\n3,dev,0,0\n", v="n,t,who,said\n1,x,p,a\n2,y,p,b\n")
    )
    assert list(corpus.documents["text"]) == ["x", "y"] and corpus.gold.tolist() == [[False, True], [True, False]]
    assert corpus.votes.tolist() == [[1, 0], [0, 1]] and corpus.missing == ("3",)


# -- splits ----------------------------------------------------------------------------------------------------------
@given(st.lists(st.text("ab \n", min_size=1).filter(str.strip), min_size=1, max_size=30, unique=True))
def test_splits_by_hash_hold_each_document_once_and_copies_together(texts):
    about = descriptions.Description("x", paths.ROOT, {"splits": {"hash": {"train": 0.5, "dev": 0.2, "test": 0.3}}})
    rows = tabular.pd.DataFrame({"id": range(2 * len(texts)), "text": texts + [f" {text.upper()}" for text in texts]})
    found = tabular._split(about, rows, [])
    assert set(found) <= {"train", "dev", "test"}
    assert found[: len(texts)].tolist() == found[len(texts) :].tolist(), "copies, but for case and blanks"


def test_splits_by_hash_have_the_shares_that_are_asked_for(make):
    text = "labels: [a]\ngold: published\nsplits: {hash: {train: 0.6, dev: 0.1, test: 0.3}}\n"
    text += "documents: {shape: gold, files: d, text: t}"
    path = make(text, d="t,a\n" + "".join(f"text {i},{i % 2}\n" for i in range(2000)))
    counts = [len(corpora.load(path, split)) for split in ("train", "dev", "test", "all")]
    assert sum(counts[:3]) == counts[3] == 2000
    np.testing.assert_allclose(np.array(counts[:3]) / 2000, [0.6, 0.1, 0.3], atol=0.04)


def test_splits_that_a_column_names_otherwise(make):
    text = LISTS + "splits: {training: train, held out: test}"
    rows = LISTED.replace(",train\n", ",training\n").replace(",test\n", ",held out\n").replace(",dev\n", ",spare\n")
    path = make(text, a=rows)
    assert list(corpora.load(path, "train").documents["id"]) == ["1"]
    assert list(corpora.load(path, "test").documents["id"]) == ["3"]
    with pytest.raises(
        EmptyError, match="no document of dev can be read .*split part|part holds 'held out', 'spare', 't"
    ):
        corpora.load(path, "dev")
    assert len(corpora.load(path, "all")) == 3  # in a split or not
    with pytest.raises(ValueError, match="split 'validation' is unknown; choose one of train, dev, test"):
        corpora.load(path, "validation")


# -- labels, texts, annotators ---------------------------------------------------------------------------------------
ODD = ["with space", "a, b", 'said "so"', "[x]", "{y: z}", "id", "فرح"]


@pytest.mark.parametrize("names", [ODD, ODD[:1]])
def test_labels_of_any_name_are_read_and_asked_for(make, names):
    head = yaml.safe_dump({"labels": names, "gold": "published", "title": "Odd"}, allow_unicode=True)
    text = head + "documents: {shape: gold, files: d, id: n, text: t, labels: said, separator: json, split: part}"
    cells = [yaml.safe_dump([name], default_style='"', allow_unicode=True).strip()[2:] for name in names]
    rows = [f"{i},מה {i},train,{csv_cell('[' + cell + ']')}" for i, cell in enumerate(cells)]
    corpus = corpora.load(make(text, d="\n".join(["n,t,part,said", *rows]) + "\n"), "train")
    assert corpus.labels == tuple(names) and (corpus.gold == np.eye(len(names), dtype=bool)).all()
    assert corpus.documents["text"][0] == "מה 0"
    asked = prompts.list_prompt(prompts.template(corpus.name), corpus.labels, [("t", names[:1])], "q")
    assert prompts.join_labels(names) in asked
    if len(names) > 1:
        with pytest.raises(ValueError, match="'a, b' holds ','"):
            prompts.list_prompt(prompts.template(corpus.name, form="comma"), corpus.labels, [], "q")


def csv_cell(text):
    return '"' + text.replace('"', '""') + '"'


@pytest.mark.parametrize("annotators", [2, 50])
def test_any_number_of_annotators(make, annotators):
    rng = np.random.default_rng(annotators)
    said = rng.random((6, annotators, 2)) < 0.4
    rows = [f"{d},text {d},w{w},dev,{a:d},{b:d}" for d in range(6) for w, (a, b) in enumerate(said[d])]
    text = "labels: [a, b]\ngold: {share: 0.5}\n"
    text += "annotations: {shape: grades, files: g, id: n, text: t, annotator: who, split: part}"
    corpus = corpora.load(make(text, g="\n".join(["n,t,who,part,a,b", *rows])), "dev")
    np.testing.assert_allclose(corpus.votes, said.mean(axis=1))
    assert corpus.annotators.tolist() == [annotators] * 6 and -1 <= corpora.describe(corpus)["kappa"] <= 1
    text = text.replace(" annotator: who,", "")
    unnamed = corpora.load(make(text, g="\n".join(["n,t,who,part,a,b", *rows])), "dev")
    np.testing.assert_allclose(unnamed.votes, corpus.votes)
    assert unnamed.annotations is None and corpora.describe(unnamed)["kappa_kind"] == "fleiss"


def test_documents_without_ids_are_named_by_their_texts(make):
    text = "labels: [a]\ngold: published\ndocuments: {shape: gold, files: {dev: d}, text: t}"
    ids = list(corpora.load(make(text, d="t,a\nx,1\ny,0\nx,0\n"), "dev").documents["id"])
    assert ids[0].startswith("text-") and ids[2] == f"{ids[0]}-2" and len(set(ids)) == 3


# -- options, licences, names ----------------------------------------------------------------------------------------
def test_options_take_the_place_of_keys_and_auto_takes_what_is_at_hand(make):
    text = """
labels: [a]
gold: published
files: {old: {path: old.csv}, new: {path: new.csv}}
options:
  edition:
    auto: [new, old]
    new: {documents: {shape: gold, files: {dev: new}, id: n, text: t}}
    old: {documents: {shape: gold, files: {dev: old}, id: n, text: t}}
"""
    path = make(text, old="n,t,a\n1,old,1\n")
    assert corpora.load(path).documents["text"].tolist() == ["old"]
    make(text, new="n,t,a\n1,new,1\n")
    assert corpora.load(path).documents["text"].tolist() == ["new"]
    assert corpora.load(path, edition="old").documents["text"].tolist() == ["old"]
    with pytest.raises(ValueError, match="edition='newest' is unknown; choose one of auto, new, old"):
        corpora.load(path, edition="newest")
    with pytest.raises(ValueError, match="has no option editoin; it has edition"):
        corpora.load(path, editoin="old")


def test_an_own_corpus_is_not_ours_and_its_labels_need_a_licence(make):
    path = make(LISTS, a=LISTED)
    assert not corpora.is_ours(path) and "names no licence" in corpora.why_withheld(path)
    with pytest.raises(ValueError, match="cannot be released: its file names no licence"):
        corpora.release_labels(path)
    assert corpora.why_withheld(make(LISTS + "licence: CC BY 4.0", a=LISTED)) == ""
    assert corpora.title(path) == "own" and corpora.title("goemotions") == "GoEmotions"
    assert corpora.short_name(path) == "own"


def test_a_checksum_is_held_to_and_a_changed_file_is_said(make, capfd):
    path = make(LISTS, a=LISTED)
    corpora.load(path, "all")
    assert any("a.csv" in files for name, files in sources.used().items() if name.startswith("own-"))
    make(LISTS, a=LISTED.replace("Why?", "Why so?"))
    assert "Why so?" in list(corpora.load(path, "all").documents["text"])
    assert "has changed" in capfd.readouterr().err
    text = LISTS + "files: {a: {path: a.csv, sha256: '" + "0" * 64 + "'}}"
    make(text, a=LISTED + "\n")
    with pytest.raises(sources.SourceError, match="wrong checksum of a.csv"):
        corpora.load(path, "all")


def test_a_member_of_a_zip_beside_the_file_is_read(make, tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "all.zip", "w") as made:
        made.writestr("data/a.csv", LISTED)
    path = make(LISTS + "files: {zip: {path: all.zip}, a: {archive: zip, member: data/a.csv}}")
    assert len(corpora.load(path, "all")) == 3


# -- what is bad is named --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("none:", "nine:"), r"own.yaml:3: nine is no key \(is none meant\?\); there are title, "),
        (("annotator: who", "anotator: who"), r"own.yaml:5: annotations: anotator is no key \(is annotator meant"),
        (
            ("annotator: who", "annotator: whom"),
            r"own.yaml:5: annotations: .*a.csv has no column 'whom' \(is who meant",
        ),
        (
            ("shape: lists", "shape: list"),
            r"annotations: shape: 'list' is unknown \(is lists meant\?\); there are lists",
        ),
        (("files: a,", "files: b,"), r"own.yaml:5: annotations: files: 'b' is not in files.*: a"),
        (("calm: [calm]", "calm: calm"), r"own.yaml:2: labels: calm: 'calm' must be array"),
        (("calm: [calm]", "calm: [yes]"), r"own.yaml:2: labels: calm: 0: True must be string \(put it in quotes\)"),
        (("gold: {share: 0.5}", "gold: most"), r"own.yaml:4: gold: 'most' is unknown; there are published"),
        (("gold: {share: 0.5}", "gold: {shares: 0.5}"), r"own.yaml:4: gold: shares is no key \(is share meant"),
        (("gold: {share: 0.5}", ""), r"own.yaml:1: gold is missing: say how gold sets follow"),
        (("annotations:", "x-rows:"), r"own.yaml:1: annotations or documents is missing"),
        (("shape: lists, ", ""), r"own.yaml:5: annotations: shape is missing"),
        ((", split: part}", "}"), r"own.yaml: nothing says how documents are split: name a column"),
        (("none:", "splits: {x: tset}\nnone:"), r"own.yaml:3: splits: x: 'tset' is unknown \(is test meant"),
        (("none:", "splits: {hash: {train: 0.5}}\nnone:"), r"own.yaml:3: splits: hash: .* must add up to 1"),
        (("none:", "labels: [a]\nnone:"), r"own.yaml:3: labels is there twice, first in line 2"),
        (("none: [", "none: ["), None),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_with_its_line(make, change, message):
    path = make(LISTS.replace(*change), a=LISTED)
    if message is None:
        return corpora.load(path, "all")
    with pytest.raises(ValueError, match=message):
        corpora.load(path, "all")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("glad, Calm", "glad, Clam"),
            r"a.csv:2: said 'glad, Clam': 'clam' is unknown \(is calm meant\?\); allowed are",
        ),
        (("2,Why?,bob,,dev", "2,Why?,bob,dev"), r"a.csv:5: 4 fields where 5 are needed \(n, t, who, said, part"),
        (("2,Why?,cem", "2,What?,cem"), r"a.csv:6: another text than the first row of this id has"),
        (('3,"two\nlines",ann,glad,test', '3,"two\nlines",ann,glad,dev'), r"a.csv:9: another split than the first"),
        (('"two\nlines",ann,calm', '"two\nlines,ann,calm'), r"a.csv:9: cannot be read \(unexpected end of data\)"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_with_its_line(make, change, message):
    path = make(LISTS, a=LISTED.replace(*change))
    with pytest.raises(ValueError, match=message):
        corpora.load(path, "all")
    found = read(path)
    assert len(found.problems) == 1 and re.search(message, found.problems[0]) and len(found.corpus) >= 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("n,t,part,a\n1,x,dev,1\n1,y,dev,0\n", r"d.csv:3: id '1' is there already, in .*d.csv:2"),
        ("n,t,part,a\n1, ,dev,1\n2,y,dev,0\n", r"d.csv:2: no text"),
        ("n,t,part,a\n,x,dev,1\n2,y,dev,0\n", r"d.csv:2: no id"),
        ("n,t,part,a\n1,x,dev,yes\n2,y,dev,0\n", r"d.csv:2: a: 'yes' where 0 or 1 is needed"),
        ("n,t,part,a,a\n1,x,dev,1,0\n", r"has 2 columns 'a'"),
        ("", r"d.csv .*is empty"),
        (b"n,t,part,a\n1,x,dev,1\n2,caf\xe9,dev,1\n", r"d.csv\) is not in UTF-8 \(line 3: .*save it in UTF-8 there"),
    ],
)
def test_a_document_that_cannot_be_read_is_named(make, rows, message):
    text = "labels: [a]\ngold: published\ndocuments: {shape: gold, files: d, id: n, text: t, split: part}"
    with pytest.raises(ValueError, match=message):
        corpora.load(make(text, d=rows), "dev")


def test_another_encoding_can_be_named(make):
    text = "labels: [a]\ngold: published\ndocuments: {shape: gold, files: {dev: d}, id: n, text: t, encoding: ENCODING}"
    rows = "n,t,a\n1,café,1\n".encode("latin-1")
    path = make(text.replace("ENCODING", "latin-1"), d=rows)
    assert corpora.load(path).documents["text"].tolist() == ["café"]
    with pytest.raises(ValueError, match="own.yaml:3: documents: no encoding 'latin-one'"):
        corpora.load(make(text.replace("ENCODING", "latin-one"), d=rows))


def test_votes_that_cannot_be(make):
    text = "labels: [a]\ngold: {share: 0.5}\ndocuments: {shape: counts, files: {dev: c}, id: n, text: t, annotators: 3}"
    for cell, message in (
        ("4", "more votes for a label than its 3"),
        ("1.5", "'1.5' where a number"),
        ("-1", "'-1' wh"),
    ):
        with pytest.raises(ValueError, match=rf"c.csv:3: .*{message}"):
            corpora.load(make(text, c=f"n,t,a\n1,x,1\n2,y,{cell}\n"))
    pooled = text.replace("[a]", "{c: [a, b]}")
    with pytest.raises(ValueError, match="labels are pooled from counts, and how many annotators"):
        corpora.load(make(pooled, c="n,t,a,b\n1,x,1,1\n"))
    with pytest.raises(ValueError, match="gold is published, so documents must have the shape gold"):
        corpora.load(make(text.replace("{share: 0.5}", "published"), c="n,t,a\n1,x,1\n"))


def test_a_corpus_that_is_not_there(tmp_path):
    with pytest.raises(sources.SourceError, match="the corpus .*none.yaml is not there"):
        corpora.load(str(tmp_path / "none.yaml"))
    with pytest.raises(ValueError, match=r"no corpus is called 'semevla' \(is semeval meant\?\); there is boxes, "):
        corpora.load("semevla")


# -- the house -------------------------------------------------------------------------------------------------------
def test_every_corpus_of_the_repository_is_one_file():
    """Its name stands in its own file, in grids, in what the paper published, and in code only where it is made."""
    assert set(corpora.READERS) == {
        about["reader"] for name in corpora.names() if "reader" in (about := descriptions.read(name).data)
    }
    tables = [name for name in corpora.names() if "reader" not in descriptions.read(name).data]
    code = [*(paths.ROOT / "mlutils").rglob("*.py"), *paths.NOTEBOOKS.glob("*.ipynb")]
    for file in code:
        words = set(re.findall(r"\w+", file.read_text()))
        assert not words & set(tables) - ALLOWED.get(file.name, set()), file


ALLOWED = {"40_alignment.ipynb": {"mfrc"}, "41_sets.ipynb": {"mfrc"}, "__init__.py": {"goemotions"}}  # defaults


def test_files_of_one_name_in_two_places_are_two_corpora(make, tmp_path):
    first = make(LISTS, a=LISTED)
    (tmp_path / "other").mkdir()
    second = tmp_path / "other/own.yaml"
    second.write_text((tmp_path / "own.yaml").read_text())
    (tmp_path / "other/a.csv").write_text(LISTED.replace("Why?", "When?"))
    texts = [corpora.load(path, "dev").documents["text"][0] for path in (first, str(second))]
    assert texts == ["Why?", "When?"] and all(a != b for a, b in pairwise(texts))
