"""First tokens of labels and the tokens that go on or stop, on two tokenizers."""

import pytest

from mlutils.tracing import vocabulary
from mlutils.tracing.answers import FORMS, format_answer, parse

LABELS = ("joy", "anger", "angst", "anticipation")


@pytest.mark.parametrize("form", FORMS)
def test_the_token_that_starts_a_label_is_one_of_its_forms(llama, form):
    tokenizer = llama.tokenizer
    forms = vocabulary.label_tokens(tokenizer, LABELS, form)
    lists = [[label] for label in LABELS] + ([] if form == "single" else [["joy", "angst"], ["anger", "joy"]])
    for labels in lists:
        for gap in ("", " ", "\n"):
            ids = vocabulary.encode(tokenizer, gap + format_answer(labels, form))
            starts = vocabulary.offsets(tokenizer, ids)
            for said in parse(tokenizer.decode(ids), LABELS, form).said:
                token = ids[vocabulary.token_at(starts, said.start)]
                assert token in forms[LABELS.index(said.label)]


def test_labels_that_share_a_first_token_share_it(llama):
    forms = vocabulary.label_tokens(llama.tokenizer, LABELS, "json")
    assert len(forms) == len(LABELS) + 1
    assert set(forms[1]) & set(forms[2]), "anger and angst begin alike"
    assert not set(forms[0]) & set(forms[1])


@pytest.mark.parametrize("form", ["json", "comma", "the"])
def test_separators_part_going_on_from_stopping(llama, form):
    tokenizer = llama.tokenizer
    groups = vocabulary.separator_tokens(tokenizer, form)
    assert groups["goes_on"] or groups["open_goes_on"]
    assert not set(groups["goes_on"]) & set(groups["stops"])
    assert not set(groups["open"]) & (set(groups["goes_on"]) | set(groups["stops"]))
    for tail, name in ((["joy", "anger"], "goes_on"), (["joy"], "stops")):
        text = format_answer(tail, form) + {"json": "", "comma": "\n", "the": "."}[form]
        ids = vocabulary.encode(tokenizer, text)
        starts = vocabulary.offsets(tokenizer, ids)
        at = starts.index(text.index("joy") + 3)
        if ids[at] in groups["open"]:
            assert ids[at + 1] in groups[f"open_{name}"]
        else:
            assert ids[at] in groups[name]


def test_single_labels_decide_nothing(llama):
    assert vocabulary.separator_tokens(llama.tokenizer, "single") is None


def test_special_tokens_in_a_text_are_plain_text(llama):
    ids = vocabulary.encode(llama.tokenizer, "a <eos> b")
    assert llama.tokenizer.eos_token_id not in ids
    assert llama.tokenizer.eos_token_id not in vocabulary.encode_prompts(llama.tokenizer, ["a <eos> b"])[0]
