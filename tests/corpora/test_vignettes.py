import hashlib
import re

import numpy as np
import pytest
from scipy.special import expit

from mlutils.corpora import vignettes
from mlutils.corpora.agreement import cohen_kappa, fleiss_kappa
from mlutils.corpora.vignettes import LABELS

SHA256 = "2232519ba259da88012970063f9c17f7efe6677a27fea5cd529b6696e5f26227"  # changes with the grammar


@pytest.fixture(scope="module")
def everything():
    return vignettes.load("all")


@pytest.fixture(scope="module")
def evidence():
    return vignettes.write_documents(5000, np.random.default_rng([0, 0]))[1]


def fingerprint(corpus):
    lines = [*corpus.documents["text"], corpus.votes.tobytes().hex(), corpus.truth.round(9).tobytes().hex()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_same_seed_gives_the_same_bytes(everything):
    assert hashlib.sha256("\n".join(everything.documents["text"]).encode()).hexdigest() == SHA256
    before = fingerprint(everything)
    vignettes._generate.cache_clear()
    vignettes.read_grammar.cache_clear()
    assert fingerprint(vignettes.load("all")) == before


def test_another_seed_gives_another_corpus(everything):
    other = vignettes.load("all", seed=1)
    assert fingerprint(other) != fingerprint(everything)
    assert len(set(other.documents["text"]) & set(everything.documents["text"])) < 1500


def test_splits_have_their_sizes_and_share_no_document(everything):
    splits = {name: vignettes.load(name) for name in ("train", "dev", "test")}
    assert {name: len(corpus) for name, corpus in splits.items()} == {"train": 4000, "dev": 500, "test": 500}
    texts = [text.lower() for corpus in splits.values() for text in corpus.documents["text"]]
    assert len(set(texts)) == 5000
    assert {id for corpus in splits.values() for id in corpus.documents["id"]} == set(everything.documents["id"])
    for name, corpus in splits.items():
        assert corpus.split == name
        assert set(corpus.annotations["id"]) == set(corpus.documents["id"])
    with pytest.raises(ValueError, match="'validation'"):
        vignettes.load("validation")


def test_texts_are_clean_sentences(everything):
    for text in everything.documents["text"]:
        assert 8 <= len(text.split()) <= 40, text
        assert not re.search(r"[{}|=>\n]|\d\)|  | [,.?!]|[?!,]\.|,,|,$", text), text
        assert not re.search(r"\ba (?!one)[aeio]|\b(\w+) \1\b", text.lower()), text


def test_every_phrase_can_be_filled():
    grammar = vignettes.read_grammar()
    situations = grammar["situations"]
    assert len(situations) >= 200
    assert len({situation["id"] for situation in situations}) == len(situations)
    for situation in situations:
        slots = grammar["slots"] | {"very": grammar["intensifiers"]} | situation.get("slots", {})
        phrases = situation["say"] + [phrase for choices in situation["then"] for phrase in choices]
        for name in situation["with"]:
            phrases = phrases + grammar["attitudes"][name]["leads"] + grammar["attitudes"][name]["lines"]
        for text, phrase_evidence in phrases + grammar["openers"] + grammar["closers"]:
            bound = dict(vignettes.PRONOUNS[situation["who"]]) if "who" in situation else {}
            filled, factor = vignettes.fill(text, slots, bound, np.random.default_rng(0))
            assert filled and not set(filled) & set("{}|"), situation["id"]
            assert phrase_evidence.shape == (len(LABELS),) and factor > 0


def test_every_situation_and_attitude_is_used(monkeypatch):
    grammar = vignettes.read_grammar()
    named = {name for situation in grammar["situations"] for name in situation["with"]}
    assert named == set(grammar["attitudes"])
    written, original = set(), vignettes.write_document

    def spy(situation, rng):
        written.add(situation["id"])
        return original(situation, rng)

    monkeypatch.setattr(vignettes, "write_document", spy)
    vignettes.write_documents(2 * len(grammar["situations"]), np.random.default_rng(0))
    assert written == {situation["id"] for situation in grammar["situations"]}


def test_unknown_slot_or_label_is_an_error():
    with pytest.raises(ValueError, match="{colour}"):
        vignettes.fill("a {colour} car", {}, {}, np.random.default_rng(0))
    with pytest.raises(ValueError, match="'envy'"):
        vignettes.read_phrase("she has a boat => envy 2")


def test_phrases_are_read_by_hand():
    text, amounts = vignettes.read_phrase("it rained => sadness 1.5, joy -.5")
    assert text == "it rained"
    np.testing.assert_allclose(amounts, [0, 0, 0, -0.5, 0, 1.5, 0])
    slots = {"who": ["Ana"], "very": [["so", 1.5]]}
    filled, factor = vignettes.fill("{who} is {very} late", slots, {}, np.random.default_rng(0))
    assert (filled, factor) == ("Ana is so late", 1.5)


@pytest.mark.parametrize("split", ["dev", "test", "all"])
def test_gold_label_counts_are_those_of_goemotions(split):
    gold = vignettes.load(split).gold
    percent = 100 * np.bincount(np.minimum(gold.sum(1), 3), minlength=4) / len(gold)
    np.testing.assert_allclose(percent, [29, 62, 8, 1], atol=2)


def test_agreement_is_that_of_goemotions(everything):
    # mean over labels of Cohen's kappa of pairs of annotators, weighted by shared documents; Fleiss' beside it
    assert cohen_kappa(everything.annotations, LABELS) == pytest.approx(0.27, abs=0.03)
    assert fleiss_kappa(everything.votes, everything.annotators) == pytest.approx(0.27, abs=0.03)
    assert fleiss_kappa(vignettes.load("dev").votes, vignettes.load("dev").annotators) == pytest.approx(0.27, abs=0.05)


def test_all_labels_are_there(everything):
    share = everything.gold.mean(0)
    assert everything.labels == LABELS == tuple(sorted(LABELS))
    assert (share > 0.05).all() and (share < 0.2).all()
    assert {LABELS[i] for i in np.argsort(share)[:2]} == {"optimism", "surprise"}


def test_marks_follow_the_formula_by_hand():
    annotators = vignettes.Annotators(np.array([2.0, 1.0]), np.array([[1.0] * 7, [0.5] * 7]))
    model = vignettes.read_grammar()["annotators"]
    documents = np.array([[2.0, 1.0, 0, 0, 0, 0, 0], [0.0] * 7])
    probability = vignettes.mark_probability(documents, annotators)
    rivalry, nothing = model["rivalry"], model["nothing"]
    assert nothing < 2  # so that it rivals the empty document only
    np.testing.assert_allclose(probability[0, 0, 0], expit(2 * (2 - rivalry * 1 - 1)))
    np.testing.assert_allclose(probability[1, 0, 1], expit(1 - rivalry * 2 - 0.5))
    np.testing.assert_allclose(probability[1, 0, 6], expit(0 - rivalry * 2 - 0.5))
    np.testing.assert_allclose(probability[0, 1], expit(2 * (0 - rivalry * nothing - 1)))


def test_truth_is_the_share_of_many_new_annotations(everything, evidence):
    rows = np.arange(0, 5000, 100)
    probability = vignettes.mark_probability(evidence[rows], vignettes.draw_population(np.random.default_rng([0, 1])))
    rng = np.random.default_rng(7)
    rounds = 400
    marks = np.zeros((len(rows), len(LABELS)))
    drawn = np.zeros(len(rows))
    for _ in range(rounds):
        document, _, mark = vignettes.draw_marks(probability, rng)
        np.add.at(marks, document, mark)
        drawn += np.bincount(document, minlength=len(rows))
    share = marks / drawn[:, None]
    # annotators of one panel are alike, so the variance is at most that of one independent draw a round
    error = np.sqrt(everything.truth[rows] * (1 - everything.truth[rows]) / drawn[:, None])
    z = (share - everything.truth[rows]) / error
    assert np.abs(z).max() < 4.5 and np.sqrt((z**2).mean()) < 1.2


def test_observed_votes_are_unbiased(everything):
    n = everything.annotators[:, None]
    error = np.sqrt((everything.truth * (1 - everything.truth) / n).sum(0)) / len(everything)
    assert (np.abs((everything.votes - everything.truth).mean(0)) < 4 * error).all()


def test_labels_of_one_annotator_are_correlated(everything):
    # an annotator who marks more admiration, fear, optimism, surprise than the truth also marks more of the others
    table = everything.annotations
    rows = everything.documents.reset_index().set_index("id")["index"].loc[table["id"]]
    surplus = table[list(LABELS)].to_numpy(float) - everything.truth[rows]

    def correlation(annotators):
        means = [[surplus[annotators == a][:, half::2].mean() for half in (0, 1)] for a in np.unique(annotators)]
        return np.corrcoef(np.transpose(means))[0, 1]

    annotators = table["annotator"].to_numpy()
    assert correlation(annotators) > 0.7  # chance: 0 +- 0.11 for 80 annotators; without `tendency`: 0.62
    assert abs(correlation(np.random.default_rng(0).permutation(annotators))) < 0.4


def test_votes_gold_and_annotations_agree(everything):
    table = everything.annotations
    assert table.columns.tolist() == ["id", "annotator", *LABELS]
    assert not table.duplicated(["id", "annotator"]).any()
    groups = table.groupby("id")[list(LABELS)]
    ids = everything.documents["id"]
    np.testing.assert_allclose(groups.mean().loc[ids].to_numpy(float), everything.votes)
    np.testing.assert_array_equal(groups.size().loc[ids], everything.annotators)
    np.testing.assert_array_equal(groups.sum().loc[ids] >= 2, everything.gold)
    share = np.bincount(everything.annotators, minlength=6)[3:] / len(everything)
    np.testing.assert_allclose(share, [0.62, 0.18, 0.20], atol=0.025)
    assert table["annotator"].nunique() == 80
