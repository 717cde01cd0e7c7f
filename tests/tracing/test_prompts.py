"""Prompts, to the letter of the paper."""

import pytest

from mlutils.tracing import prompts

LABELS = ("anger", "fear", "joy")


def test_family_p_of_goemotions():
    asked = prompts.list_prompt(prompts.template("goemotions"), LABELS, [("So glad!", ["joy"]), ("Hm.", [])], "Help me")
    assert asked == (
        "Classify the following inputs into none, one, or multiple the following emotions per input: "
        "anger, fear and joy. Output exactly these emotions and no others.\n"
        'Input: So glad!\n{"label": ["joy"]}\n'
        'Input: Hm.\n{"label": ["none"]}\n'
        "Input: Help me\n"
    )
    shown = [("So glad!", ["joy"]), ("Hm.", [])]
    released = prompts.list_prompt(prompts.template("goemotions"), LABELS, shown, "Help me", strip=True)
    assert released == asked[:-1]


def test_family_p_of_mfrc_semeval_and_hatexplain():
    asked = prompts.list_prompt(prompts.template("mfrc"), ("care", "purity"), [("Be kind", ["care"])], "No")
    assert asked == (
        "Classify the following inputs into none, one, or multiple the following moral foundations per input: "
        "care and purity.\nInput: Be kind\nMoral foundation(s): care\nInput: No\nMoral foundation(s):"
    )
    asked = prompts.list_prompt(prompts.template("semeval"), LABELS, [("Yes", ["fear", "joy"])], "No")
    assert asked.endswith("per input: anger, fear and joy.\nInput: Yes\nfear, joy\nInput: No\n")
    asked = prompts.list_prompt(prompts.template("hatexplain"), ("hate", "normal"), [("Hi", ["normal"])], "No")
    assert asked == (
        "Classify the following inputs into one of the following options per input: hate and normal. "
        "Output exactly one label and no others.\n\nQuestion: Hi\nAnswer: normal\n\nQuestion: No\nAnswer:"
    )


def test_family_c_and_boxes():
    asked = prompts.list_prompt(prompts.template("mfrc", "C"), LABELS, [("Yes", ["fear"])], "No")
    assert asked == (
        "Classify the following inputs into none, one, or multiple the following moral foundations per input: "
        'anger, fear and joy.\n\nInput: `Yes`\n{"label": ["fear"]}\n\nInput: `No`\n'
    )
    box = prompts.template("boxes", "C")
    asked = prompts.list_prompt(box, ("map", "key"), [("Box 0 has it. Box 0 contains", ["map", "key"])], "Box 1")
    assert asked.endswith(
        "Setting: Box 0 has it. Box 0 contains?\nResponse: the map and the key.\n\nSetting: Box 1?\nResponse:"
    )


def test_unary():
    asked = prompts.unary_prompt([("Yes", "joy", True), ("No", "fear", False)], "Maybe", "anger")
    assert asked == (
        'Classify the following question-label pairs as either "reasonable" or "unreasonable". '
        'Output either "reasonable" or "unreasonable" and nothing else.\n\n'
        "Question: Yes\nLabel: joy\nIs the label reasonable: reasonable\n\n"
        "Question: No\nLabel: fear\nIs the label reasonable: unreasonable\n\n"
        "Question: Maybe\nLabel: anger\nIs the label reasonable:"
    )
    assert prompts.unary_prompt([], "Maybe", "anger", strip=False) == prompts.unary_prompt([], "Maybe", "anger") + " "


def test_pairwise():
    shown = [("Yes", "joy", "fear", "a"), ("No", "anger", "joy", "b")]
    asked = prompts.pairwise_prompt(shown, "Maybe", "anger", "none")
    assert asked == (
        "Classify the following question into one of the two following labels. "
        'Output either "a" or "b" depending on which label is better and nothing else.\n\n'
        "Question: Yes\na. joy\nb. fear\nCorrect Label: a\n\n"
        "Question: No\na. anger\nb. joy\nCorrect Label: b\n\n"
        "Question: Maybe\na. anger\nb. none\nCorrect Label:"
    )
    assert prompts.pairwise_prompt(shown, "Maybe", "anger", "none", strip=False) == asked + " "
    assert "{a}" in prompts.pairwise_prompt([], "{a} {text}", "joy", "fear")


def test_texts_that_look_like_fields_stay_as_they_are():
    asked = prompts.list_prompt(prompts.template("goemotions"), LABELS, [("{answer} {labels}", ["joy"])], "{text}")
    assert asked.endswith('Input: {answer} {labels}\n{"label": ["joy"]}\nInput: {text}\n')


def test_other_corpora_get_general_words_and_other_formats():
    own = prompts.template("my_corpus", form="comma")
    assert prompts.list_prompt(own, LABELS, [("a", ["joy", "fear"])], "b").endswith("Input: a\njoy, fear\nInput: b\n")


@pytest.mark.parametrize("arguments, word", [(("goemotions", "X"), "family 'X'"), (("hatexplain", "C"), "hatexplain")])
def test_unknown_prompts_are_refused(arguments, word):
    with pytest.raises(ValueError, match=word):
        prompts.template(*arguments)


def test_labels_are_joined():
    assert [prompts.join_labels(LABELS[:n]) for n in (1, 2, 3)] == [
        "anger",
        "anger and fear",
        "anger, fear and joy",
    ]
