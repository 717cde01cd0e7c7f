"""First tokens of labels and the tokens that go on or stop, on two tokenizers."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers import models as kinds
from transformers import GenerationConfig, PreTrainedTokenizerFast

from mlutils.tracing import prompts, random_llama, vocabulary
from mlutils.tracing.answers import FORMS, format_answer, parse
from mlutils.tracing.engine import eos_tokens
from mlutils.tracing.vocabulary import LabelTokens

LABELS = ("joy", "anger", "angst", "anticipation")


@pytest.mark.parametrize("form", FORMS)
def test_the_token_that_starts_a_label_is_one_of_its_forms(llama, form):
    tokenizer = llama.tokenizer
    first = LabelTokens(tokenizer, LABELS, form).first
    lists = [[label] for label in LABELS] + ([] if form == "single" else [["joy", "angst"], ["anger", "joy"]])
    for labels in lists:
        for gap in ("", " ", "\n"):
            ids = vocabulary.encode(tokenizer, gap + format_answer(labels, form))
            starts = vocabulary.offsets(tokenizer, ids)
            for said in parse(tokenizer.decode(ids), LABELS, form).said:
                token = ids[vocabulary.token_at(starts, said.start)]
                assert token in first[LABELS.index(said.label)]


def test_labels_that_share_a_first_token_share_it(llama):
    first = LabelTokens(llama.tokenizer, LABELS, "json").first
    assert len(first) == len(LABELS) + 1
    assert set(first[1]) & set(first[2]), "anger and angst begin alike"
    assert not set(first[0]) & set(first[1])


@pytest.mark.parametrize("form", ["json", "comma", "the"])
def test_separators_part_going_on_from_stopping(llama, form):
    tokenizer = llama.tokenizer
    groups = LabelTokens(tokenizer, LABELS, form).separators
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


def chat(llama, named):
    """The tokenizer of a chat model: it names one end, and holds another beside it; a tag of HTML ends nothing."""
    tokenizer = copy.deepcopy(llama.tokenizer)
    tokenizer.add_tokens(["</s>"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|endoftext|>", "<|im_end|>"]})
    tokenizer.eos_token = named
    return tokenizer


@pytest.mark.parametrize("named", ["<|im_end|>", "<|endoftext|>"])
@pytest.mark.parametrize("config", [None, "eos", "both"])
def test_both_ends_of_a_chat_model_end_a_text(llama, named, config):
    """A GGUF of Qwen names `<|im_end|>` alone; a config may name one, several or none."""
    tokenizer = chat(llama, named)
    eos, both = tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    network = copy.copy(llama.network)
    network.generation_config = GenerationConfig(eos_token_id={None: None, "eos": eos, "both": both}[config])
    model = replace(llama, network=network, tokenizer=tokenizer)
    own = llama.tokenizer.convert_tokens_to_ids("<eos>")  # special and an end as well
    assert eos_tokens(model) == vocabulary.end_tokens(tokenizer) == {own, *both}
    for form in ("comma", "the"):
        assert set(both) <= set(LabelTokens(tokenizer, LABELS, form).separators["stops"])
    assert eos_tokens(llama) == {own}


def test_single_labels_decide_nothing(llama):
    tokens = LabelTokens(llama.tokenizer, LABELS, "single")
    assert tokens.separators == {}
    assert set(tokens.select) == {token for each in tokens.first for token in each}


class Longest:
    """A tokenizer that takes the longest token each time: single characters, and these words."""

    words = ("joy", " joy", "an", " an", '",', '"]', "no", " no")
    texts = [chr(i) for i in range(10, 127)] + list(words)
    eos_token_id = None

    def __len__(self):
        return len(self.texts)

    def __call__(self, text, **_):
        ids = []
        while text:
            word = max((each for each in self.texts if text.startswith(each)), key=len)
            ids.append(self.texts.index(word))
            text = text[len(word) :]
        return {"input_ids": ids}

    def decode(self, ids, **_):
        return "".join(self.texts[i] for i in ids)

    def batch_decode(self, rows):
        return list(map(self.decode, rows))


@pytest.fixture()
def tokens():
    return LabelTokens(Longest(), ("joy", "anger", "angst"), "json")


def spread(tokens, values, rest=0.0):
    """Returns an array over `select` that holds the values of some tokens, by their text, and `rest` elsewhere."""
    return np.array([values.get(Longest.texts[token], rest) for token in tokens.select])


def test_first_tokens_and_separators_by_hand(tokens):
    def read(ids):
        return {Longest.texts[i] for i in ids}

    anger = {"an", " an", "A"}
    assert [read(each) for each in tokens.first] == [{"joy", " joy", "J"}, anger, anger, {"no", " no", "N"}]
    assert {name: read(each) for name, each in tokens.separators.items()} == {
        "goes_on": {'",'}, "stops": {'"]'}, "open": {'"'}, "open_goes_on": {","}, "open_stops": {"]"},
    }  # fmt: skip
    assert len(tokens.select) == len(set(tokens.select)) == 14


def test_a_label_has_its_largest_first_token_and_a_shared_one_counts_once(tokens):
    logits = spread(tokens, {"joy": 2.0, " joy": 1.0, " an": 3.0, "no": -1.0, '"': 9.0}, rest=-np.inf)
    held = tokens.describe(logits, normaliser=4.0)
    assert held["logits"] == [2.0, 3.0, 3.0, -1.0]
    assert held["mass"] == pytest.approx(np.exp(-2) + np.exp(-3) + np.exp(-1) + np.exp(-5), rel=1e-12)


def test_what_follows_is_decided_at_once_or_behind_a_token_that_leaves_it_open(tokens):
    share = spread(tokens, {'",': 0.25, '"]': 0.125, '"': 0.5, "joy": 0.125})
    after = spread(tokens, {",": 0.75, "]": 0.125, '",': 0.125})
    assert tokens.decide(share) == (0.25, 0.125)
    opened = (tokens.separators["open"], after)
    assert tokens.decide(share, [opened]) == (0.25 + 0.5 * 0.75, 0.125 + 0.5 * 0.125)
    assert tokens.decide(share, [opened, opened]) == (0.25 + 2 * 0.5 * 0.75, 0.125 + 2 * 0.5 * 0.125)


def test_special_tokens_in_a_text_are_plain_text(llama):
    ids = vocabulary.encode(llama.tokenizer, "a <eos> b")
    assert llama.tokenizer.eos_token_id not in ids
    assert llama.tokenizer.eos_token_id not in vocabulary.encode_prompts(llama.tokenizer, ["a <eos> b"])[0]


# -- tokenizers that mark where a text begins -------------------------------------------------------------------------
def train(kind, text):
    """A tokenizer as SentencePiece makes them: blanks are marks, and a mark is put before every text."""
    special = dict(special_tokens=["<unk>", "</s>"], show_progress=False)
    if kind == "unigram":
        tokenizer = Tokenizer(kinds.Unigram())
        trainer = trainers.UnigramTrainer(vocab_size=200, unk_token="<unk>", **special)
    else:
        tokenizer, trainer = Tokenizer(kinds.BPE(unk_token="<unk>")), trainers.BpeTrainer(vocab_size=400, **special)
    scheme = "first" if kind == "first" else "always"
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    tokenizer.train_from_iterator(text * 20, trainer)
    if kind == "legacy":  # Llama 2: nothing is split before
        tokenizer.pre_tokenizer = None
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")


@pytest.fixture(scope="module", params=["legacy", "first", "unigram"])
def marking(request):
    text = [*random_llama._sentences(), " reasonable unreasonable a b and joy the anger", "Is the label reasonable: a"]
    return train(request.param, text)


def test_a_tokenizer_that_marks_a_beginning_can_be_asked_questions(marking):
    for words, question in (
        (prompts.UNARY_ANSWERS, prompts.unary_prompt([], "x", "joy")),
        (prompts.PAIRWISE_ANSWERS, prompts.pairwise_prompt([], "x", "joy", "anger")),
    ):
        tokens = vocabulary.answer_tokens(marking, words)
        assert len(set(tokens)) == 2
        before = vocabulary.encode(marking, question)
        for word, token in zip(words, tokens, strict=True):
            whole = vocabulary.encode(marking, f"{question} {word}")
            assert whole[: len(before)] == before and whole[len(before)] == token


def test_the_blank_that_a_token_holds_is_seen(marking):
    """At the beginning of a text these tokenizers drop it, and ` and` would decide nothing."""
    groups = LabelTokens(marking, ("joy", "anger"), "the").separators
    whole = vocabulary.encode(marking, "the joy and the anger.")
    at = next(i for i in range(len(whole)) if marking.decode(whole[: i + 1]).endswith("joy")) + 1
    assert whole[at] in groups["goes_on"]


def test_nothing_changes_for_tokenizers_that_mark_nothing(llama):
    words, tokenizer = prompts.UNARY_ANSWERS, llama.tokenizer
    for conventions, gap in (("ours", " "), ("released", "")):
        wanted = [vocabulary.encode(tokenizer, gap + word)[0] for word in words]
        assert vocabulary.answer_tokens(tokenizer, words, conventions) == wanted
    assert vocabulary._texts(tokenizer) == tokenizer.batch_decode([[i] for i in range(len(tokenizer))])


# -- characters of several tokens --------------------------------------------------------------------------------------
@pytest.mark.parametrize("labels", [
    ("радость", "рад", "гнев", "грусть"), ("é", "è", "ê"), ("😀", "😃", "😀😃"), ("怒り", "怒", "怖さ"),
])  # fmt: skip
@pytest.mark.parametrize("form", FORMS)
def test_labels_whose_first_character_takes_several_tokens_are_told_apart(llama, labels, form):
    """Bytes: all Cyrillic letters of a kind begin with one token, and é and è part within their only character."""
    tokens = LabelTokens(llama.tokenizer, labels, form)
    forks = tokens.forks(np.zeros(len(tokens.select)))
    rng = np.random.default_rng(0)
    behind = {path: rng.normal(size=len(tokens.tree.select)) for path in forks}
    held = tokens.describe(np.zeros(len(tokens.select)), 9.0, behind)["logits"]
    assert len(set(held)) == len(labels) + 1
    assert len(set(tokens.describe(np.zeros(len(tokens.select)), 9.0)["logits"])) == 1


class Bytes:
    """A tokenizer of bytes that decodes each byte of an unfinished character as a mark, as byte fallback does."""

    eos_token_id = None

    def __call__(self, text, **_):
        return {"input_ids": list(text.encode())}

    def __len__(self):
        return 256

    def decode(self, ids, **_):
        text = bytes(ids)
        whole = max(i for i in range(len(text) + 1) if i == len(text) or text[i] & 0xC0 != 0x80)
        try:
            return text.decode()
        except UnicodeDecodeError:
            start = max(i for i in range(whole) if text[i] >= 0xC0)
            return text[:start].decode() + "\ufffd" * (len(text) - start)

    def batch_decode(self, rows):
        return list(map(self.decode, rows))


def test_a_character_is_held_by_its_first_token_whatever_unfinished_ones_decode_to():
    ids = Bytes()("ああ, い")["input_ids"]
    starts = vocabulary.offsets(Bytes(), ids)
    assert [vocabulary.token_at(starts, i) for i in range(5)] == [0, 3, 6, 7, 8]
    path = vocabulary._find_path(Bytes(), '"ああ", "い"', 7, 8)
    assert bytes(path).decode() == "い"


def test_labels_that_a_tokenizer_cannot_tell_apart_are_refused_by_name():
    class Deaf(Bytes):
        def __call__(self, text, **_):
            return {"input_ids": [0 if b > 127 else b for b in text.encode("latin-1")]}

        def decode(self, ids, **_):
            return "".join(map(chr, ids))

    with pytest.raises(ValueError, match="writes 'é', 'è' with the tokens of another label: rename them, or take"):
        LabelTokens(Deaf(), ("é", "joy", "è"), "json")
    assert LabelTokens(Deaf(), ("é", "joy", "è"), "json", "first").first[0]


def test_tokens_that_the_network_does_not_have_are_not_asked_for(llama):
    """Qwen's class adds an end-of-text token to a tokenizer without one; some are tuned with more."""
    whole = LabelTokens(llama.tokenizer, LABELS, "comma").separators
    size = max(token for tokens in whole.values() for token in tokens)
    less = LabelTokens(llama.tokenizer, LABELS, "comma", size=size)
    assert less.separators == {name: [t for t in tokens if t != size] for name, tokens in whole.items()}
    assert less.separators != whole
