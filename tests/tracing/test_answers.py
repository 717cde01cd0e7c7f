"""Answers: every format can be read back, and arbitrary text never raises and never invents a label."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlutils.tracing.answers import FORMS, check_labels, format_answer, is_finished, last_span, parse

EMOTIONS = ("anger", "fear", "joy", "optimism")

names = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=12)


def carries(labels, form):
    try:
        check_labels(labels, form)
    except ValueError:
        return False
    return True


@given(st.lists(names.map(str.strip), min_size=1, max_size=6), st.sampled_from(FORMS), st.data())
def test_what_is_formatted_is_read_back(labels, form, data):
    if not carries(labels, form):
        return
    most = 1 if form == "single" else len(labels)
    said = data.draw(st.lists(st.sampled_from(labels), unique=True, max_size=most))
    before, after = (
        data.draw(st.sampled_from(["", " ", "\n"])),
        data.draw(st.sampled_from(["", "\n", "\nInput: x"])),
    )
    text = before + format_answer(said, form) + after
    answer = parse(text, labels, form)
    assert answer.labels == tuple(said)
    assert answer.status == ("ok" if said else "none")
    for found in answer.said:
        if form != "json":  # JSON writes quotation marks and backslashes with an escape
            assert text[found.start : found.end] == found.label


@given(st.lists(names.map(str.strip), min_size=1, max_size=6, unique=True), st.sampled_from(FORMS))
def test_the_last_label_stands_where_the_parser_finds_it(labels, form):
    if not carries(labels, form):
        return
    said = labels[:1] if form == "single" else labels
    found = parse(format_answer(said, form), labels, form).said[-1]
    assert last_span(said, form) == (found.start, found.end)
    assert last_span([], form) == (lambda none: (none.start, none.end))(
        parse(format_answer([], form), labels, form).said[0]
    )


fragments = st.lists(
    st.sampled_from(
        [
            '{"label": ["',
            '", "',
            '"]}',
            "joy",
            "anger",
            " and ",
            "the ",
            ", ",
            "\n",
            "none",
            ".",
            "x",
            '"',
            "\\",
        ]
    )
    | st.text(max_size=5),
    max_size=14,
).map("".join)


@given(fragments, st.sampled_from(FORMS), st.booleans())
def test_arbitrary_text_never_raises_and_never_invents_a_label(text, form, complete):
    answer = parse(text, EMOTIONS, form, complete)
    assert answer.status in ("ok", "none", "unknown label", "repeated label", "cut off", "not a list")
    assert set(answer.labels) <= set(EMOTIONS)
    for said in answer.said:
        assert text[said.start : said.end].casefold() == said.label
        around = text[: said.start][-1:] + text[said.end :][:1]
        assert not any(letter.isalnum() for letter in around), "a label was found inside another word"
    is_finished(text, form)


@pytest.mark.parametrize(
    "form, text, complete, labels, status",
    [
        ("json", '\n{"label": ["joy", "anger"]}', True, ("joy", "anger"), "ok"),
        ("json", '{"label":["Joy"]}', True, ("joy",), "ok"),
        ("json", '{"label": ["none"]}', True, (), "none"),
        ("json", '{"label": ["joy", "happiness"]}', True, ("joy",), "unknown label"),
        ("json", '{"label": ["joy", "joy"]}', True, ("joy",), "repeated label"),
        ("json", '{"label": ["joy", "ang', False, ("joy",), "cut off"),
        ("json", '{"label": ["joy", "ang', True, (), "not a list"),
        ("json", '{"lab', False, (), "cut off"),
        ("json", "I feel joy", True, (), "not a list"),
        ("json", '{"label": []}', True, (), "not a list"),
        ("comma", " joy, anger\n", True, ("joy", "anger"), "ok"),
        ("comma", " scared of anger\n", True, (), "not a list"),
        ("comma", " joy, glee\n", True, ("joy",), "unknown label"),
        ("comma", " joy, ang", False, ("joy",), "cut off"),
        ("comma", " none\n", True, (), "none"),
        ("the", " the joy and the fear.", True, ("joy", "fear"), "ok"),
        ("the", " none.", True, (), "none"),
        ("the", " the hat and the ball.", True, (), "unknown label"),
        ("the", " the joy and the fe", False, ("joy",), "cut off"),
        ("the", " joy and fear.", True, (), "not a list"),
        ("single", " joy\n\nQuestion", True, ("joy",), "ok"),
        ("single", " joy, anger\n", True, (), "not a list"),
    ],
)
def test_statuses(form, text, complete, labels, status):
    answer = parse(text, EMOTIONS, form, complete)
    assert (answer.labels, answer.status) == (labels, status)


def test_formats():
    assert format_answer(["joy", "fear"], "json") == '{"label": ["joy", "fear"]}'
    assert format_answer([], "json") == '{"label": ["none"]}'
    assert format_answer(["joy", "fear"], "comma") == "joy, fear"
    assert format_answer(["map", "key"], "the") == "the map and the key"
    assert format_answer([], "the") == format_answer([], "comma") == "none"


@pytest.mark.parametrize("form, text, over", [
    ("json", '\n{"label": ["joy', False), ("json", '\n{"label": ["joy"]}', True), ("json", "\nwell\n", True),
    ("json", '\n{"label": ["a}', False), ("comma", " joy, fear", False), ("comma", " joy\n", True),
    ("the", " the map", False), ("the", " the map.", True), ("single", "\n", False),
])  # fmt: skip
def test_an_answer_ends_where_its_format_ends(form, text, over):
    assert is_finished(text, form) is over


@pytest.mark.parametrize("labels, form, word", [
    (["joy", "Joy"], "json", "twice"), (["none"], "json", "cannot be called"), (["a, b"], "comma", "','"),
    (["salt and the pepper"], "the", "and the"), (["joy"], "yaml", "yaml"),
])  # fmt: skip
def test_label_names_that_a_format_cannot_carry_are_refused(labels, form, word):
    with pytest.raises(ValueError, match=word):
        check_labels(labels, form)
