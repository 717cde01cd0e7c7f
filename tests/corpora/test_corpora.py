"""Readers against small files in the official formats, agreement against hand-worked values, the mirror."""

import gzip
import hashlib
import json
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from mlutils import corpora, paths, sources
from mlutils.corpora import agreement, descriptions
from mlutils.corpora.corpus import Corpus, concatenate, shares

mirror = pytest.mark.skipif(not os.environ.get("ONE_LABEL_MIRROR"), reason="no mirror")

EMOTIONS = tuple(descriptions.read("goemotions").data["documents"]["codes"])
SEMEVAL_LABELS = descriptions.read("semeval").data["labels"]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Puts files into an empty mirror; the catalogue is the real one without checksums and addresses."""
    entries = {
        name: {key: value for key, value in entry.items() if key not in ("sha256", "url")}
        for name, entry in sources.catalogue().items()
    }
    entries["mfrc-splits"]["path"] = str(tmp_path / "published/mfrc_splits.csv")
    monkeypatch.setattr(sources, "catalogue", lambda: entries)
    monkeypatch.setattr(sources, "_checked", set())
    monkeypatch.setenv("ONE_LABEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ONE_LABEL_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setattr(paths, "PUBLISHED", tmp_path / "published")
    paths.PUBLISHED.mkdir()

    def write(path, text, packed=False):
        path = tmp_path / path if path.startswith("published") else tmp_path / "mirror" / path
        path.parent.mkdir(parents=True, exist_ok=True)
        content = text.encode("utf-8")
        if packed:
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
        else:
            path.write_bytes(content)

    return write


def publish_ids(files, *rows):
    files("published/document_ids.csv", "dataset,set,document_id\n" + "".join(f"{row}\n" for row in rows))


def number(*names):
    return ",".join(str(EMOTIONS.index(name)) for name in names)


def write_filtered(files):
    """Four dev comments, one test comment; a text in quotes with doubled inner ones, as in the files."""
    dev = [
        ("Thanks!", number("gratitude", "approval"), "d1"),
        ('"She said ""no"", I cried\tand left"', number("sadness", "fear"), "d2"),
        ("OK.", number("neutral"), "d3"),
        ("NA", number("neutral", "love"), "d4"),
    ]
    files("goemotions/dev.tsv", "".join("\t".join(row) + "\n" for row in dev), packed=True)
    files("goemotions/train.tsv", "I  want it\t" + number("desire") + "\tr1\n")
    files("goemotions/test.tsv", "i want IT\t" + number("desire") + "\tt1\n")


RAW_COLUMNS = ["text", "id", "author", "subreddit", "link_id", "parent_id", "created_utc", "rater_id"]


def write_raw(files, ratings):
    """ratings: (id, rater, unclear, emotions); rows go to the three files in turn, so raters lie apart."""
    header = ",".join([*RAW_COLUMNS, "example_very_unclear", *EMOTIONS])
    rows = [
        f'"the ""text""",{comment},a_user,games,t3_x,t1_y,1548381039.0,{rater},{unclear},'
        + ",".join("1" if emotion in emotions else "0" for emotion in EMOTIONS)
        for comment, rater, unclear, emotions in ratings
    ]
    for part in range(3):
        files(f"goemotions/goemotions_{part + 1}.csv", "\n".join([header, *rows[part::3]]) + "\n")


RATINGS = [
    ("d1", 7, False, ["gratitude", "approval"]),
    ("d2", 7, False, ["sadness", "grief", "fear"]),
    ("d1", 8, False, ["joy"]),
    ("d2", 8, True, []),
    ("d1", 9, False, ["admiration"]),
    ("d3", 9, False, ["neutral"]),
    ("zz", 9, False, ["anger"]),  # a comment of no filtered split
    ("d2", 9, False, ["remorse", "neutral"]),
]


def test_goemotions_gold_is_the_union_of_pooled_emotions(files):
    write_filtered(files)
    corpus = corpora.load("goemotions", "dev", annotations="none")
    assert corpus.labels == ("admiration", "anger", "fear", "joy", "optimism", "sadness", "surprise")
    assert list(corpus.documents["id"]) == ["d1", "d2", "d3", "d4"]
    assert corpus.documents["text"][1] == 'She said "no", I cried\tand left'
    assert corpus.documents["text"][3] == "NA"  # a text, not a missing value
    assert said(corpus, corpus.gold) == [{"admiration"}, {"fear", "sadness"}, set(), {"joy"}]
    assert np.isnan(corpus.votes).all() and not corpus.has_votes.any() and not corpus.annotators.any()
    assert corpus.annotations is None


def said(corpus, flags):
    return [{label for label, flag in zip(corpus.labels, row, strict=True) if flag} for row in flags]


def test_goemotions_raw_votes_are_joined_by_id_and_pooled_by_rater(files):
    write_filtered(files)
    write_raw(files, RATINGS)
    corpus = corpora.load("goemotions", "dev")
    assert corpus.annotators.tolist() == [3, 3, 1, 0]
    admiration, fear, sadness = (corpus.labels.index(label) for label in ("admiration", "fear", "sadness"))
    # two of three raters chose something in the cluster, though they named different emotions
    np.testing.assert_allclose(corpus.votes[0, admiration], 2 / 3)
    # one of the three marked the comment very unclear: a rater without a label
    np.testing.assert_allclose(corpus.votes[1, [fear, sadness]], [1 / 3, 2 / 3])
    assert corpus.votes[2].tolist() == [0] * 7
    assert corpus.has_votes.tolist() == [True, True, True, False]
    assert list(corpus.annotations) == ["id", "annotator", *corpus.labels]
    assert set(corpus.annotations["annotator"]) == {"7", "8", "9"}
    assert not corpus.annotations["id"].isin(["zz"]).any()
    assert "a_user" not in corpus.annotations.to_csv()


def test_goemotions_27_labels(files):
    write_filtered(files)
    write_raw(files, RATINGS)
    corpus = corpora.load("goemotions", "dev", labels="27")
    assert corpus.labels == EMOTIONS[:-1] and "neutral" not in corpus.labels
    assert said(corpus, corpus.gold)[0] == {"gratitude", "approval"}
    np.testing.assert_allclose(corpus.votes[0, corpus.labels.index("approval")], 1 / 3)


def test_goemotions_without_the_raw_files_says_what_else_there_is(files):
    write_filtered(files)
    with pytest.raises(sources.SourceError, match="annotations='subset'.*annotations='none'"):
        corpora.load("goemotions", "dev")


def test_goemotions_cell_that_is_no_flag(files):
    write_filtered(files)
    write_raw(files, RATINGS)
    content = (paths.mirror() / "goemotions/goemotions_1.csv").read_text().replace(",0,0,0\n", ",0,0,2\n")
    files("goemotions/goemotions_1.csv", content)
    with pytest.raises(ValueError, match="'2' where 0 or 1 is needed"):
        corpora.load("goemotions", "dev")


SUBSET = [
    # text, id, filtered split, rater, emotions
    ("Thanks!", "d1", "dev", 1, ["gratitude"]),
    ("Thanks!", "d1", "dev", 2, ["gratitude", "approval"]),
    ("Thanks!", "d1", "dev", 3, ["approval", "joy"]),
    ("Well, well.", "", "", 1, ["surprise"]),
    ("Well, well.", "", "", 2, ["confusion"]),
    ("Oh no", "r9", "train", 2, ["fear"]),
    ("Oh no", "r9", "train", 1, []),
    ("Oh no", "r9", "train", 3, ["fear"]),
]


def write_subset(files):
    header = ",".join(["text,id,filtered_split,subset,rater_id,example_very_unclear", *EMOTIONS])
    rows = [
        f'"{text}",{comment},{split},rnd,{rater},{not emotions},'
        + ",".join("1" if emotion in emotions else "0" for emotion in EMOTIONS)
        for text, comment, split, rater, emotions in SUBSET
    ]
    files("goemotions/goemotions_annotators_subset.csv", "\n".join([header, *rows]) + "\n")


def test_goemotions_subset(files):
    write_subset(files)
    corpus = corpora.load("goemotions", "all", annotations="subset")
    hashed = "text-" + hashlib.sha256(b"Well, well.").hexdigest()[:16]
    assert list(corpus.documents["id"]) == ["d1", hashed, "r9"]
    # two votes for one emotion make it gold; one each for two emotions of a cluster do not
    assert said(corpus, corpus.gold) == [{"admiration"}, set(), {"fear"}]
    assert corpus.annotators.tolist() == [3, 2, 3]
    np.testing.assert_allclose(corpus.votes[:, corpus.labels.index("surprise")], [0, 1, 0])
    np.testing.assert_allclose(corpus.votes[2, corpus.labels.index("fear")], 2 / 3)
    assert list(corpora.load("goemotions", "dev", annotations="subset").documents["id"]) == ["d1"]


def test_goemotions_paper_documents_keep_texts_without_votes(files):
    write_filtered(files)
    write_subset(files)
    publish_ids(files, "goemotions,main,d2", "goemotions,main,d1", "goemotions,main,gone", "mfrc,main,d3")
    corpus = corpora.load("goemotions", "train", sample="paper", annotations="subset")
    assert list(corpus.documents["id"]) == ["d2", "d1"]  # the published order, looked up in all splits
    assert corpus.split == "all" and corpus.sample == "paper"
    assert corpus.missing == ("gone",)
    assert corpus.has_votes.tolist() == [False, True]
    assert set(corpus.annotations["id"]) == {"d1"}


MFRC_TEXTS = {
    'You owe them, "friend".\nReally': ("11", "dev"),
    "So it goes": ("12", "dev"),
    "No": ("13", "test"),
}


def write_mfrc_splits(files):
    rows = [f"{hashlib.sha256(text.encode()).hexdigest()[:16]},{i},{s}" for text, (i, s) in MFRC_TEXTS.items()]
    files("published/mfrc_splits.csv", "\n".join(["text_sha256_16,document_id,split", *rows]) + "\n")


def quote(text):
    return '"' + text.replace('"', '""') + '"'


def write_mfrc_raw(files, annotations):
    rows = [f'{quote(text)},games,Everyday,{who},"{said}",Confident' for text, who, said in annotations]
    files(
        "mfrc/final_mfrc_data.csv",
        "\n".join(["text,subreddit,bucket,annotator,annotation,confidence", *rows]),
    )


def test_mfrc_raw(files):
    write_mfrc_splits(files)
    owe, goes, no = MFRC_TEXTS
    annotations = [
        (owe, "annotator00", "Care,Equality"),
        (owe, "annotator01", "Thin Morality"),
        (goes, "annotator00", "Non-Moral"),
        (owe, "annotator03", "Proportionality, Care"),
        (owe, "annotator04", "Non-Moral"),
        (no, "annotator00", "Purity"),
        ("Unknown text", "annotator00", "Purity"),
    ]
    write_mfrc_raw(files, annotations)
    corpus = corpora.load("mfrc", "dev")
    assert corpus.labels == ("authority", "care", "equality", "loyalty", "proportionality", "purity")
    assert list(corpus.documents["id"]) == ["11", "12"]
    assert list(corpus.documents["text"]) == [owe, goes]
    np.testing.assert_allclose(corpus.votes[0], [0, 0.5, 0.25, 0, 0.25, 0])
    assert said(corpus, corpus.gold) == [{"care"}, set()]  # half of the annotators is enough
    assert corpus.annotators.tolist() == [4, 1]
    assert corpus.annotations["annotator"].nunique() == 4
    assert corpus.missing == ()
    assert said(corpora.load("mfrc", "test"), corpora.load("mfrc", "test").gold) == [{"purity"}]
    write_mfrc_raw(files, [(owe, "annotator00", "Caring")])
    (paths.cache() / "sources" / "mfrc-raw.json").unlink()
    sources._checked.clear()
    with pytest.raises(ValueError, match=r"annotation 'Caring': 'caring' is unknown .is care meant"):
        corpora.load("mfrc", "dev")


def write_mfrc_counts(files):
    header = "id,split,text,Care,Equality,Proportionality,Loyalty,Authority,Purity,Thin Morality,Non-Moral"
    rows = [
        '11,dev,"You owe, they said",2,0,1,0,0,0,0,1',
        "12,dev,So it goes,,,,,,,,",
        "13,test,No,0,1,0,0,0,3,0,0",
        "14,train,Four of them,0,0,0,0,0,0,0,4",
        "15,train,Three and one,1,0,0,0,0,1,1,3",
    ]
    files("mfrc/mfrc_vote_counts.csv", "\n".join([header, *rows]) + "\n", packed=True)


def test_mfrc_counts(files):
    write_mfrc_counts(files)
    corpus = corpora.load("mfrc", "all")
    assert list(corpus.documents["id"]) == ["11", "13", "14", "15"]
    assert corpus.missing == ("12",)
    assert corpus.annotators.tolist() == [3, 3, 4, 4]  # nobody chooses non-moral and another label
    assert said(corpus, corpus.gold) == [{"care"}, {"purity"}, set(), set()]
    np.testing.assert_allclose(corpus.votes[0], [0, 2 / 3, 0, 0, 1 / 3, 0])
    np.testing.assert_allclose(corpus.votes[3, [1, -1]], 1 / 4)
    assert corpus.annotations is None
    publish_ids(files, "mfrc,main,13", "mfrc,main,12", "mfrc,multilabel,11")
    paper = corpora.load("mfrc", sample="paper")
    assert list(paper.documents["id"]) == ["13"]
    assert paper.missing == ("12",)  # it exists, but has neither votes nor gold
    assert corpora.load("mfrc", sample="paper_multilabel").documents["id"].tolist() == ["11"]


def test_mfrc_auto_prefers_the_official_file(files):
    write_mfrc_counts(files)
    write_mfrc_splits(files)
    assert corpora.load("mfrc", "dev").annotations is None
    write_mfrc_raw(files, [(text, "annotator00", "Care") for text in MFRC_TEXTS])
    assert corpora.load("mfrc", "dev").annotations is not None
    assert corpora.load("mfrc", "dev", annotations="counts").annotations is None


def write_semeval(files):
    header = "\t".join(["ID", "Tweet", *SEMEVAL_LABELS])
    for part, name in (("train", "train"), ("dev", "dev"), ("test", "test-gold")):
        rows = [
            f'{part}-1\t"Never unbalanced \\n #fun\t' + "\t".join("10000000000"),
            f"{part}-2\tNA\t" + "\t".join("00000000011"),
            f"{part}-3\tone\x85line\t" + "\t".join("00000000000"),
        ]
        text = "\r\n".join([header, *rows]) + "\r\n"
        files(f"semeval2018-ec/2018-E-c-En-{name}.txt", text)


def test_semeval(files):
    write_semeval(files)
    corpus = corpora.load("semeval", "dev")
    assert list(corpus.documents["text"]) == ['"Never unbalanced \\n #fun', "NA", "one\x85line"]
    assert said(corpus, corpus.gold) == [{"anger"}, {"surprise", "trust"}, set()]
    assert np.isnan(corpus.votes).all()
    both = corpora.load("semeval", "dev+test")
    assert list(both.documents["id"]) == ["dev-1", "dev-2", "dev-3", "test-1", "test-2", "test-3"]
    assert len(corpora.load("semeval", "all")) == 9


def test_semeval_unlabelled_file_is_refused(files):
    write_semeval(files)
    header = "\t".join(["ID", "Tweet", *SEMEVAL_LABELS])
    files("semeval2018-ec/2018-E-c-En-dev.txt", header + "\r\nx\ty\t" + "\t".join(["NONE"] * 11) + "\r\n")
    with pytest.raises(ValueError, match="'NONE' where 0 or 1 is needed"):
        corpora.load("semeval", "dev")


def post(name, *labels, tokens=("a", "b")):
    annotators = [{"label": label, "annotator_id": i, "target": ["None"]} for i, label in enumerate(labels)]
    return {name: {"post_id": name, "annotators": annotators, "rationales": [], "post_tokens": list(tokens)}}


DEV_POSTS = post("v1", "hatespeech", "hatespeech", "normal", tokens=["so", "it", "<user>"]) | post(
    "v2", "normal", "offensive", "hatespeech"
)
TEST_POSTS = post("t1", "offensive", "offensive", "offensive") | post(
    "t2", *["normal"] * 3, tokens=["So", "it", "<user>"]
)


def test_hatexplain_parts(files):
    files("hatexplain/dataset_val.json", json.dumps(DEV_POSTS), packed=True)
    files("hatexplain/dataset_test.json", json.dumps(TEST_POSTS))
    corpus = corpora.load("hatexplain", "all")
    assert corpus.labels == ("hate", "normal", "offensive") and corpus.single_label
    assert list(corpus.documents["text"]) == ["so it <user>", "a b", "a b", "So it <user>"]
    np.testing.assert_allclose(corpus.votes[:2], [[2 / 3, 1 / 3, 0], [1 / 3, 1 / 3, 1 / 3]])
    assert said(corpus, corpus.gold) == [{"hate"}, set(), {"offensive"}, {"normal"}]
    assert corpora.describe(corpus)["undecided"] == 1
    assert list(corpora.load("hatexplain", "dev").documents["id"]) == ["v1", "v2"]
    with pytest.raises(sources.SourceError, match="needs the official dataset.json"):
        corpora.load("hatexplain", "train")


def test_hatexplain_official(files):
    files("hatexplain/dataset_val.json", json.dumps(DEV_POSTS))
    files("hatexplain/dataset_test.json", json.dumps(TEST_POSTS))
    files(
        "hatexplain/dataset.json",
        json.dumps(DEV_POSTS | TEST_POSTS | post("r1", "normal", "normal", "normal")),
    )
    files(
        "hatexplain/post_id_divisions.json",
        json.dumps({"train": ["r1", "gone"], "val": ["v1"], "test": ["t1"]}),
    )
    corpus = corpora.load("hatexplain", "train")
    assert list(corpus.documents["id"]) == ["r1"] and corpus.missing == ("gone",)
    assert list(corpora.load("hatexplain", "dev+test").documents["id"]) == ["v1", "t1"]
    assert list(corpora.load("hatexplain", "dev", files="parts").documents["id"]) == ["v1", "v2"]


def test_hatexplain_unknown_label(files):
    files("hatexplain/dataset_val.json", json.dumps(post("v1", "toxic")))
    files("hatexplain/dataset_test.json", json.dumps(TEST_POSTS))
    with pytest.raises(ValueError, match="v1 has the label 'toxic'"):
        corpora.load("hatexplain", "dev")


def test_training_documents_share_no_id_and_no_text_with_the_test(files):
    write_filtered(files)  # the train comment differs from the test comment in case and white space only
    test = corpora.load("goemotions", "test", annotations="none")
    left = corpora.training_documents(test, annotations="none")
    assert list(left.documents["id"]) == ["d1", "d2", "d3", "d4"]  # nothing of train is left, so all others
    dev = corpora.load("goemotions", "dev", annotations="none")
    assert list(corpora.training_documents(dev, annotations="none").documents["id"]) == ["r1"]
    everything = corpora.load("goemotions", "all", annotations="none")
    with pytest.raises(ValueError, match="none is left to train on"):
        corpora.training_documents(everything, annotations="none")


def test_training_documents_of_a_set_without_train_split(files):
    files("hatexplain/dataset_val.json", json.dumps(DEV_POSTS))
    files("hatexplain/dataset_test.json", json.dumps(TEST_POSTS))
    test = corpora.load("hatexplain", "all").take([2])
    # v2 is "a b" as well
    assert list(corpora.training_documents(test).documents["id"]) == ["v1", "t2"]


def test_training_documents_of_several_test_sets(files):
    write_filtered(files)
    first, second = (corpora.load("goemotions", split, annotations="none") for split in ("test", "dev"))
    left = corpora.training_documents(first, second.take([0]), annotations="none")
    assert list(left.documents["id"]) == ["d2", "d3", "d4"]


def test_gold_sets_stand_for_votes_where_they_are_asked_for(files):
    write_filtered(files)
    write_subset(files)
    dev = corpora.load("goemotions", "dev", annotations="none")
    known = corpora.training_documents(corpora.load("goemotions", "dev", annotations="subset"), annotations="subset")
    more = corpora.add_gold(known, [dev], 10)
    added = more.take(np.arange(len(known), len(more)))
    assert (
        list(added.documents["id"]) == ["r1"] and (added.votes == added.gold).all() and added.annotators.tolist() == [0]
    )
    assert list(more.documents["id"][: len(known)]) == list(known.documents["id"])
    with pytest.raises(ValueError, match="leave gold_limit at 0"):
        corpora.add_gold(corpora.load("vignettes", "dev"), [], 10)


def test_a_text_that_stands_twice_is_on_one_side_of_what_is_set_aside():
    made = corpora.load("vignettes", "dev")
    aside = corpora.split_training(made)[1]
    texts = made.documents["text"].copy()
    texts[0 if made.documents["id"][0] != aside.documents["id"][0] else 1] = aside.documents["text"][0].upper() + " "
    learnt, again = corpora.split_training(replace(made, documents=made.documents.assign(text=texts)))
    assert list(again.documents["id"]) == list(aside.documents["id"]) and len(learnt) + len(again) == len(made) - 1


def test_training_documents_have_votes_where_any_have(files):
    write_filtered(files)
    write_subset(files)
    test = corpora.load("goemotions", "dev", annotations="subset")
    left = corpora.training_documents(test, annotations="subset")
    assert len(left) == 2 and left.has_votes.all() and left.sample == "training"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "goemotion"}, "no corpus is called 'goemotion'.*goemotions"),
        ({"name": "semeval", "annotations": "raw"}, "semeval has no option annotations"),
        ({"name": "goemotions", "annotations": "some"}, "annotations='some'.*raw, subset, none"),
        ({"name": "goemotions", "labels": "28"}, "labels='28'"),
        ({"name": "semeval", "split": "validation"}, "split 'validation' is unknown.*dev\\+test"),
        ({"name": "boxes", "sample": "half"}, "sample 'half' is unknown"),
        ({"name": "boxes", "limit": 0}, "limit=0"),
        ({"name": "boxes", "sample": "paper"}, "'boxes' are not published"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        corpora.load(**arguments)


def small(**changed):
    fields = {
        "name": "small",
        "split": "dev",
        "sample": "all",
        "labels": ("a", "b"),
        "documents": pd.DataFrame({"id": ["1", "2"], "text": ["x", "y"]}),
        "gold": np.array([[True, False], [True, True]]),
        "votes": np.array([[1.0, 0.0], [0.5, 1.0]]),
        "annotators": np.array([2, 2]),
    }
    return Corpus(**(fields | changed))


def test_corpus_refuses_arrays_that_do_not_fit():
    with pytest.raises(ValueError, match="gold has shape"):
        small(gold=np.zeros((3, 2), dtype=bool))
    with pytest.raises(ValueError, match="annotators has shape"):
        small(annotators=np.zeros(3, dtype=int))
    with pytest.raises(ValueError, match="needs bool"):
        small(gold=np.zeros((2, 2)))
    with pytest.raises(ValueError, match="there twice"):
        small(documents=pd.DataFrame({"id": ["1", "1"], "text": ["x", "y"]}))


def test_take_keeps_rows_together():
    truth = np.array([[0.1, 0.2], [0.3, 0.4]])
    annotations = pd.DataFrame({"id": ["1", "2", "2"], "annotator": ["p", "p", "q"], "a": True, "b": False})
    corpus = small(truth=truth, annotations=annotations, missing=("9",))
    turned = corpus.take([1, 0], "turned")
    assert turned.documents["id"].tolist() == ["2", "1"] and turned.sample == "turned"
    np.testing.assert_array_equal(turned.truth, truth[::-1])
    one = corpus.take(np.array([False, True]))
    assert len(one) == 1 and len(one.annotations) == 2 and one.sample == "all" and one.missing == ("9",)
    assert one.votes.tolist() == [[0.5, 1.0]]


def test_concatenate_widens_labels():
    other = small(
        labels=("c", "a"),
        documents=pd.DataFrame({"id": ["3"], "text": ["z"]}),
        gold=np.array([[True, False]]),
        votes=np.array([[1.0, 0.5]]),
        annotators=np.array([2]),
    )
    both = concatenate([small(), other], "all")
    assert both.labels == ("a", "b", "c") and both.split == "all"
    assert both.gold.tolist() == [[True, False, False], [True, True, False], [False, False, True]]
    assert both.votes[2, 0] == 0.5 and np.isnan(both.votes[2, 1])


def random_annotations(seed, raters=5, documents=40, labels=3):
    """Raters who see about half of the documents each, and lean on a hidden truth."""
    rng = np.random.default_rng(seed)
    truth = rng.random((documents, labels)) < 0.4
    rows = []
    for rater in range(raters):
        for document in np.flatnonzero(rng.random(documents) < 0.6):
            flags = truth[document] ^ (rng.random(labels) < 0.25)
            rows.append((f"d{document}", f"r{rater}", *flags.tolist()))
    return pd.DataFrame(rows, columns=["id", "annotator", "a", "b", "c"])


@pytest.mark.parametrize("seed", range(3))
def test_cohen_kappa_against_scikit_learn(seed):
    annotations = random_annotations(seed)
    per_label = []
    for label in "abc":
        table = annotations.pivot(index="id", columns="annotator", values=label)
        kappas, weights = [], []
        for i, first in enumerate(table):
            for second in list(table)[i + 1 :]:
                pair = table[[first, second]].dropna().astype(bool)
                kappas.append(cohen_kappa_score(pair[first], pair[second]))
                weights.append(len(pair))
        per_label.append(np.average(kappas, weights=weights))
    np.testing.assert_allclose(agreement.cohen_kappa(annotations, ("a", "b", "c")), np.mean(per_label))


def test_cohen_kappa_of_classes_against_scikit_learn():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 3, 50)
    second = np.where(rng.random(50) < 0.6, first, rng.integers(0, 3, 50))
    rows = pd.concat(
        [
            pd.DataFrame(np.eye(3, dtype=bool)[said], columns=list("abc")).assign(annotator=who)
            for said, who in ((first, "p"), (second, "q"))
        ]
    )
    rows["id"] = np.tile(np.arange(50), 2).astype(str)
    kappa = agreement.cohen_kappa(rows.reset_index(drop=True), ("a", "b", "c"), single_label=True)
    np.testing.assert_allclose(kappa, cohen_kappa_score(first, second))


def test_cohen_kappa_leaves_out_pairs_without_a_kappa():
    rows = pd.DataFrame({"id": ["1", "1", "2", "2"], "annotator": ["p", "q"] * 2, "a": [False] * 4})
    assert np.isnan(agreement.cohen_kappa(rows, ("a",)))
    assert np.isnan(agreement.cohen_kappa(rows[rows["annotator"] == "p"], ("a",)))


def test_fleiss_kappa_of_the_textbook():
    """Fleiss (1971) as worked in many textbooks: 10 subjects, 14 raters, 5 classes, kappa 0.210."""
    counts = np.array(
        [[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
         [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]]
    )  # fmt: skip
    kappa = agreement.fleiss_kappa(counts / 14, np.full(10, 14), single_label=True)
    np.testing.assert_allclose(kappa, 0.210, atol=0.0005)


def test_fleiss_kappa_by_hand():
    # One label, two annotators, shares 1, 1/2, 0: agreement 2/3; chance 1/2; kappa 1/3.
    kappa = agreement.fleiss_kappa(np.array([[1.0], [0.5], [0.0]]), np.array([2, 2, 2]))
    np.testing.assert_allclose(kappa, 1 / 3)
    # a single annotator and unknown votes say nothing about agreement
    votes, annotators = np.array([[1.0], [0.5], [0.0], [1.0], [np.nan]]), np.array([2, 2, 2, 1, 0])
    np.testing.assert_allclose(agreement.fleiss_kappa(votes, annotators), 1 / 3)


def test_a_label_that_nobody_or_everybody_chose_has_no_kappa():
    votes, annotators = np.array([[1.0, 0.0, 1.0], [0.5, 0.0, 1.0], [0.0, 0.0, 1.0]]), np.array([2, 2, 2])
    np.testing.assert_allclose(agreement.fleiss_kappa(votes, annotators), 1 / 3)  # of the first label alone
    assert np.isnan(agreement.fleiss_kappa(votes[:, 1:], annotators))
    rows = pd.DataFrame({"id": ["1", "1", "2", "2", "3", "3"], "annotator": ["p", "q"] * 3})
    rows = rows.assign(a=[True, True, True, False, False, False], b=False, c=True)
    alone = agreement.cohen_kappa(rows, ("a",))
    assert alone == pytest.approx(0.4) and agreement.cohen_kappa(rows, ("a", "b", "c")) == alone
    assert np.isnan(agreement.cohen_kappa(rows, ("b", "c")))


def test_describe():
    annotations = pd.DataFrame(
        {
            "id": ["1", "1", "2", "2"],
            "annotator": ["p", "q"] * 2,
            "a": [True] * 3 + [False],
            "b": [False, False, True, True],
        }
    )
    votes, annotators = shares(annotations, pd.Series(["1", "2"]), ("a", "b"))
    row = corpora.describe(small(annotations=annotations, votes=votes, annotators=annotators))
    assert row["documents"] == row["documents_with_votes"] == row["annotators_total"] == 2
    assert row["annotators_per_document"] == 2 and row["kappa_kind"] == "cohen"
    np.testing.assert_allclose(row["kappa"], (0 + 1) / 2)  # label a: as much as chance, label b: all
    assert (row["labels_0_pct"], row["labels_1_pct"], row["labels_2_pct"]) == (0, 50, 50)
    unnamed = corpora.describe(small(votes=votes, annotators=annotators))
    assert unnamed["kappa_kind"] == "fleiss" and unnamed["kappa"] == row["fleiss_kappa"]
    assert np.isnan(unnamed["annotators_total"])
    nothing = corpora.describe(small(votes=np.full((2, 2), np.nan), annotators=np.zeros(2, dtype=int)))
    assert nothing["kappa_kind"] is None and np.isnan(nothing["kappa"])


# ---- the real files --------------------------------------------------------------------------------


def label_percents(corpus):
    row = corpora.describe(corpus)
    return [round(row[f"labels_{name}_pct"], 1) for name in ("0", "1", "2", "3plus")]


@mirror
def test_label_counts_of_the_real_files():
    goemotions = corpora.load("goemotions", "dev", annotations="none")
    assert len(goemotions) == 5426 and label_percents(goemotions) == [29.3, 62.4, 7.7, 0.5]
    semeval = corpora.load("semeval", "dev")
    assert len(semeval) == 886 and label_percents(semeval) == [1.6, 13.2, 39.6, 45.6]
    mfrc = corpora.load("mfrc", "all", annotations="counts")
    assert len(mfrc) == 17455 and label_percents(mfrc) == [79.2, 17.8, 2.7, 0.3] and len(mfrc.missing) == 431
    assert list(mfrc.documents["id"][mfrc.annotators == 4]) == ["968", "1121", "1495", "2400", "3466"]
    assert set(mfrc.annotators) == {3, 4}
    hatexplain = corpora.load("hatexplain", "all", files="parts")
    assert hatexplain.labels == ("hate", "normal", "offensive") and len(hatexplain) == 3846
    assert hatexplain.gold.sum(axis=0).tolist() == [1187, 1563, 1096]  # all: none has three different labels
    assert corpora.describe(hatexplain)["undecided"] == 0


@mirror
def test_paper_documents_of_the_real_files():
    mfrc = corpora.load("mfrc", sample="paper", annotations="counts")
    assert (mfrc.has_votes.sum(), len(mfrc), len(mfrc.missing)) == (190, 190, 12)
    hatexplain = corpora.load("hatexplain", sample="paper", files="parts")
    assert (hatexplain.has_votes.sum(), len(hatexplain), hatexplain.missing) == (200, 200, ())
    semeval = corpora.load("semeval", sample="paper")
    assert (len(semeval), semeval.missing) == (185, ())
    goemotions = corpora.load("goemotions", sample="paper", annotations="none")
    assert (len(goemotions), goemotions.missing) == (231, ())
    several = corpora.load("goemotions", sample="paper_multilabel", annotations="none")
    assert len(several) == 446 and (several.gold.sum(axis=1) >= 2).all()
    assert len(corpora.training_documents(hatexplain, files="parts")) == 3645  # 3,646 others, one text twice
    assert len(corpora.training_documents(mfrc, annotations="counts")) == 15128


@mirror
def test_goemotions_subset_agrees_with_the_filtered_gold():
    subset = corpora.load("goemotions", "all", annotations="subset", labels="27")
    assert len(subset) == 1565 and subset.has_votes.all()
    assert np.bincount(subset.annotators)[4:].tolist() == [146, 1419]
    filtered = corpora.load("goemotions", "all", annotations="none", labels="27")
    row = pd.Series(np.arange(len(filtered)), index=filtered.documents["id"]).reindex(subset.documents["id"])
    known = row.notna().to_numpy()
    assert known.sum() == 1286
    np.testing.assert_array_equal(subset.gold[known], filtered.gold[row[known].astype(int)])


@mirror
def test_mfrc_ids_and_splits_are_those_of_the_counted_table():
    """The raw reader finds ids by the text's hash: the hash table and the table of votes must agree."""
    table = pd.read_csv(sources.fetch("mfrc-counts"), dtype=str, keep_default_na=False)
    known = pd.read_csv(paths.PUBLISHED / "mfrc_splits.csv", dtype=str).set_index("text_sha256_16")
    hashed = known.loc[[hashlib.sha256(text.encode()).hexdigest()[:16] for text in table["text"]]]
    assert (hashed["document_id"].to_numpy() == table["id"].to_numpy()).all()
    assert (hashed["split"].to_numpy() == table["split"].to_numpy()).all()
