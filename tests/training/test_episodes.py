"""Episodes: worded by the prompts' functions, and of no document that is tested or set aside."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest

from mlutils import corpora
from mlutils.corpora import boxes
from mlutils.tracing import demonstrations, prompts
from mlutils.tracing.answers import parse
from mlutils.training import episodes


@pytest.fixture(scope="module")
def source():
    return episodes.gather(2)


@pytest.fixture(scope="module")
def drawn(source):
    return list(itertools.islice(episodes.stream(source, dict.fromkeys(episodes.KINDS, 1), seed=3), 60))


def answers(episode):
    return [episode.text[start:end] for start, end in episode.answers]


def test_lists_are_the_prompts_of_a_trace(source):
    rng = np.random.default_rng(1)
    plan = demonstrations.draw(source.vignettes, 3, seed=5)
    found = episodes.ask_lists(source, plan, rng, 4)
    texts = source.vignettes.documents.set_index("id")["text"]
    labels = source.vignettes.labels
    template, order, shown = None, None, []
    for family, form in itertools.product("PC", ("json", "comma")):
        each = prompts.template("vignettes", family, form)
        head = each.instruction.partition("{labels}")
        if found.text.startswith(head[0]) and head[2] in found.text:
            said = found.text[len(head[0]) :].partition(head[2].partition("\n")[0])[0]
            named = said.replace(" and ", ", ").split(", ")
            if set(named) == set(labels) and len(parse(answers(found)[0], labels, form).said):
                template, order = each, named
    assert template is not None
    for i, (start, end) in enumerate(found.answers[:3]):
        text = texts[plan.ids[0][i]]
        assert found.text[:start] == prompts.list_prompt(template, order, shown, text)
        gold = source.vignettes.gold[source.rows[plan.ids[0][i]]]
        said = [label for label in order if gold[labels.index(label)]]
        answer = parse(found.text[start:end], labels, template.form)
        assert list(answer.labels) == said  # gold, in the order of the instruction
        assert found.text[start:end].endswith("\n")
        shown.append((text, said))


def test_questions_are_the_prompts_of_a_trace(source):
    plan = demonstrations.draw(source.vignettes, 3, seed=5)
    texts = source.vignettes.documents.set_index("id")["text"]
    rng = np.random.default_rng(0)
    unary = episodes.ask_unary(source, plan, rng, 5)
    (document, label, good), (second, asked, _), *_ = plan.questions[0]
    start = unary.answers[1][0]
    assert unary.text[:start] == prompts.unary_prompt([(texts[document], label, good)], texts[second], asked)
    assert answers(unary)[0] == (" reasonable\n" if good else " unreasonable\n")
    pairs = episodes.ask_pairs(source, plan, rng, 5)
    (document, a, b, answer), (second, c, d, _), *_ = plan.pairs[0]
    start = pairs.answers[1][0]
    assert pairs.text[:start] == prompts.pairwise_prompt([(texts[document], a, b, answer)], texts[second], c, d)
    assert answers(pairs)[0] == f" {answer}\n"
    assert len(unary.answers) == len(pairs.answers) == 5


def follow(setting):
    """Returns what is in the box that a setting asks for, by carrying out its sentences one by one."""
    *sentences, question = setting.split(". ")
    boxes = {int(box): things(part) for box, part in re.findall(r"Box (\d) contains ([^,.]*)", sentences[0])}
    for sentence in sentences[1:]:
        numbers = [int(box) for box in re.findall(r"Box (\d)", sentence)]
        if not sentence.startswith("Put"):
            boxes[numbers[0]] -= things(sentence)
        if not sentence.startswith("Remove"):
            boxes[numbers[-1]] |= things(sentence)
    return boxes[int(re.search(r"\d", question)[0])]


def things(text):
    return set(re.findall(r"\bthe (\w+)", text))


def test_boxes_say_what_is_in_the_box(source):
    template = prompts.template("boxes")
    for seed in range(4):
        found, shown = episodes.ask_boxes(source, np.random.default_rng(seed), 6), []
        for start, end in found.answers:
            setting = found.text[:start].rpartition("Setting: ")[2].removesuffix("?\nResponse:")
            assert found.text[:start] == prompts.list_prompt(template, ["x"], shown, setting)
            answer = found.text[start:end]
            assert answer.startswith(" ") and answer.endswith(".")
            assert things(answer) == follow(setting)
            assert bool(things(answer)) != (answer == " none.")
            shown.append((setting, sorted(things(answer))))


def test_answers_of_all_kinds_are_found_and_finished(drawn):
    assert {episode.kind for episode in drawn} == set(episodes.KINDS)
    for episode in drawn:
        assert len(episode.answers) == (episodes.DOCUMENTS // 2 if episode.kind == "boxes" else episodes.DOCUMENTS)
        assert episode.answers[-1][1] == len(episode.text)
        if episode.kind in ("unary", "pairwise"):
            allowed = prompts.UNARY_ANSWERS if episode.kind == "unary" else prompts.PAIRWISE_ANSWERS
            assert {answer.strip() for answer in answers(episode)} <= set(allowed)


def test_no_tested_or_reserved_document_is_in_an_episode(source, drawn):
    tested = corpora.load("vignettes", "dev+test")
    train, aside = corpora.split_training(corpora.training_documents(tested))
    barred = {episodes.letters(text) for part in (tested, aside) for text in part.documents["text"]}
    used = source.vignettes.documents
    assert not barred & set(map(episodes.letters, used["text"]))
    first = {each for each in used["id"] if ":" not in each}
    assert first == set(train.documents["id"])
    assert not first & (set(tested.documents["id"]) | set(aside.documents["id"]))
    shown = {text for episode in drawn for text in re.findall(r"^(?:Question|Input): (.*)$", episode.text, re.M)}
    assert len(shown) > 300
    assert not barred & set(map(episodes.letters, shown))
    kept = set(boxes.OBJECTS["dev"].split()) | set(boxes.OBJECTS["test"].split())
    assert not kept & set(source.names)
    assert set(boxes.OBJECTS["train"].split()) <= set(source.names)


def test_a_stream_can_begin_anywhere(source):
    mix = dict.fromkeys(episodes.KINDS, 1)
    whole = list(itertools.islice(episodes.stream(source, mix, seed=0), 6))
    assert whole[4:] == list(itertools.islice(episodes.stream(source, mix, seed=0, start=4), 2))
    assert whole != list(itertools.islice(episodes.stream(source, mix, seed=1), 6))


def test_documents_of_short_episodes_are_drawn_evenly_over_labels_and_none(source):
    rng, corpus = np.random.default_rng(0), source.vignettes
    drawn = corpus.gold[[episodes._rows(source, episodes.NO_PLAN, rng, 1)[0] for _ in range(800)]]
    assert (~drawn.any(1)).mean() == pytest.approx(1 / 8, abs=0.05)  # of all documents, almost a third
    assert (drawn.mean(0) > 0.09).all()


def test_behind_demonstrations_documents_come_as_they_are_or_with_as_many_labels(source):
    rng, sizes = np.random.default_rng(0), source.vignettes.gold.sum(1)
    plan = demonstrations.draw(source.vignettes, 4, several=1.0)  # all have two or more labels
    shown, drawn = [], {True: [], False: []}
    for designed in drawn:
        for _ in range(60):
            rows = episodes._rows(source, plan, rng, 12, designed)
            shown.append([source.vignettes.documents["id"].iat[row] for row in rows[:4]])
            drawn[designed] += [sizes[row] for row in rows[4:]]
    assert {tuple(ids) for ids in shown} == {plan.ids[0]}
    assert min(drawn[True]) >= 2
    for size in (0, 1):
        assert np.mean(np.equal(drawn[False], size)) == pytest.approx((sizes == size).mean(), abs=0.08)


def test_settled_sets_follow_from_true_shares_and_keep_their_sizes():
    corpus = replace(
        corpora.load("vignettes", "dev", limit=4),
        truth=np.array([[0.9, 0.5, 0, 0, 0, 0, 0], [0, 0, 0.3, 0, 0, 0.8, 0], [0.2, 0.1, 0, 0, 0, 0, 0], [0] * 7]),
        gold=np.array([[1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0], [0] * 7], bool),
    )
    # two documents have a label and one has two: the two firmest first labels, the firmest second label of these
    expected = np.zeros((4, 7), bool)
    expected[0, [0, 1]] = expected[1, 5] = True
    assert (episodes.settle(corpus).gold == expected).all()
    whole = corpora.load("vignettes", "dev+test")
    settled = episodes.settle(whole)
    assert (np.bincount(settled.gold.sum(1)) == np.bincount(whole.gold.sum(1))).all()
    said, left = np.where(settled.gold, settled.truth, np.inf), np.where(settled.gold, -np.inf, settled.truth)
    assert (said.min(1) >= left.max(1)).all()  # no label is left out for one that fewer would choose


def test_short_episodes_have_no_demonstrations_by_plan(source):
    for documents, kind in itertools.product((1, episodes.SHORT), ("list", "unary", "pairwise")):
        found = episodes.draw(source, kind, np.random.default_rng(0), documents)
        assert len(found.answers) == documents
        assert found.answers[-1][1] == len(found.text)


def test_annotators_decide_unary_questions(source):
    """Where all annotators agree on a label, the answer behind the demonstrations is certain."""
    rng = np.random.default_rng(0)
    plan = demonstrations.draw(source.vignettes, 0)
    rows = {text: row for row, text in enumerate(source.vignettes.documents["text"])}
    certain = 0
    for _ in range(20):
        found = episodes.ask_unary(source, plan, rng, 12)
        blocks = found.text[len(prompts.UNARY) :].split("\n\n")
        for block in blocks:
            text, label, answer = (line.partition(": ")[2] for line in block.strip().split("\n"))
            shares = dict(zip([*source.vignettes.labels, "none"], episodes._shares(source, rows[text]), strict=True))
            if shares[label] in (0, 1):
                assert answer == ("reasonable" if shares[label] else "unreasonable")
                certain += 1
    assert certain > 50


def test_the_share_of_nothing_is_what_annotators_left_empty(source):
    corpus = source.vignettes
    marks = corpus.annotations.groupby("id")
    for row in (0, 5, len(corpus) - 1):
        group = marks.get_group(corpus.documents["id"].iat[row])
        assert source.nothing[row] == pytest.approx((group[list(corpus.labels)].sum(axis=1) == 0).mean())


def test_unknown_kinds_and_no_corpus_are_refused(source):
    with pytest.raises(ValueError, match="songs.*list, unary"):
        next(episodes.stream(source, {"songs": 1}, seed=0))
    with pytest.raises(ValueError, match="seeds=0"):
        episodes.training_vignettes(0)
