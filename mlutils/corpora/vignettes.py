"""The embedded subjective corpus: short first-person posts with a known true share per label.

A grammar (`data/vignettes.yaml`) writes the posts. Every phrase says what it adds to the evidence e_l for each
label: an ironic line adds to what is meant and, fainter, to what is said; an understatement scales the situation
down; what other people feel adds a little. The annotator model turns evidence into marks:

    P(annotator a marks label l) = sigmoid(sensitivity_a * (e_l - rivalry * rival_l - threshold_al))
    threshold_al = threshold_l + tendency * z_a + threshold_spread * z_al

rival_l is the evidence of the strongest other label, or of "nothing in particular" (`nothing` less the strongest
evidence of all) where that is more: an annotator rarely marks two labels, so of two equal emotions some annotators
mark one and some the other. The shared z_a makes some annotators mark much and others little, so the labels of one
annotator are correlated over documents; given the annotator and the document they are independent. The true share
of a label is the mean of P over the whole population, exactly. A document goes to a random panel of five, of whom
three to five mark it: `votes` is their share, and a label is gold if at least two mark it (GoEmotions' rule).
"""

import re
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
import yaml
from scipy.special import expit

from mlutils.corpora.corpus import Corpus, parts
from mlutils.paths import DATA

LABELS = ("admiration", "anger", "fear", "joy", "optimism", "sadness", "surprise")
SPLITS = {"train": 4000, "dev": 500, "test": 500}
WORDS = (8, 40)
MIN_MARKS = 2
GRAVE = {"sad_loss", "sad_plain"}  # situations with these attitudes get no chatty opener or closer
PRONOUNS = {
    "she": {"she": "she", "her": "her", "hers": "her"},
    "he": {"she": "he", "her": "him", "hers": "his"},
}
SLOT = re.compile(r"\{([^{}]*)\}")
TAG = re.compile(r"(?:(\d+)\))?")


@dataclass(frozen=True)
class Annotators:
    """A population: sensitivity (A,) and threshold (A, L), both in units of evidence."""

    sensitivity: np.ndarray
    threshold: np.ndarray


def load(split: str = "dev", seed: int = 0) -> Corpus:
    """Returns one split (4,000 train, 500 dev, 500 test documents) with truth, votes, gold and annotations.

    The same seed gives the same bytes; another seed gives other texts and other annotators. The splits `dev+test`
    and `all` are several together. Raises ValueError for an unknown split.
    """
    chosen = parts(split)
    corpus, splits = _generate(seed)
    return replace(corpus.take(np.isin(splits, chosen)), split=split)


@cache
def read_grammar() -> dict:
    """Returns the parsed grammar: phrases as (text, evidence (L,)), `then` one list for each way to `say` it."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    grammar = yaml.load((DATA / "vignettes.yaml").read_text(encoding="utf-8"), loader)
    for pool in grammar["attitudes"].values():
        feel = read_evidence(pool.get("feel", ""))
        for key in ("leads", "lines"):
            pool[key] = [read_phrase(line, feel) for line in pool.get(key, [])]
    for key in ("openers", "closers"):
        grammar[key] = [read_phrase(line) for line in grammar[key]]
    for situation in grammar["situations"]:
        situation["feel"] = read_evidence(situation["feel"])
        situation["with"] = situation["with"].split()
        tagged = [(line, TAG.match(line)[1] or "") for line in situation["then"]]
        situation["say"] = [read_phrase(line) for line in situation["say"]]
        situation["then"] = [
            [
                read_phrase(line[len(tag) + 1 :] if tag else line)
                for line, tag in tagged
                if not tag or str(number) in tag
            ]
            for number in range(1, 1 + len(situation["say"]))
        ]
    return grammar


def read_evidence(text: str) -> np.ndarray:
    """Returns evidence (L,) from "anger 1.2, joy .5"; raises ValueError for an unknown label."""
    evidence = np.zeros(len(LABELS))
    for item in filter(None, (part.strip() for part in text.split(","))):
        label, amount = item.split()
        if label not in LABELS:
            raise ValueError(f"unknown label {label!r} in {text!r} of vignettes.yaml; labels are {', '.join(LABELS)}")
        evidence[LABELS.index(label)] += float(amount)
    return evidence


def read_phrase(line: str, default: np.ndarray | None = None) -> tuple[str, np.ndarray]:
    """Returns (text, evidence (L,)) of "text => label amount"; without amounts the default, else none."""
    text, arrow, stated = line.partition("=>")
    evidence = read_evidence(stated) if arrow or default is None else default
    return text.strip(), evidence


def fill(text: str, slots: dict, bound: dict, rng: np.random.Generator) -> tuple[str, float]:
    """Returns the text with its slots filled and the factor of its intensifiers.

    Named slots keep one value a document, in `bound`. Raises ValueError for a slot that neither the situation
    nor the grammar knows.
    """
    factor = 1.0

    def choose(match):
        nonlocal factor
        name = match[1]
        if "|" in name:
            return pick(rng, name.split("|"))
        if name == "very":
            word, gain = pick(rng, slots["very"])
            factor *= gain
            return word
        if name not in bound:
            if name not in slots:
                raise ValueError(f"unknown slot {{{name}}} in {text!r} of vignettes.yaml; define it under `slots`")
            bound[name] = str(pick(rng, slots[name]))
        return bound[name]

    while SLOT.search(text):
        text = SLOT.sub(choose, text)
    return " ".join(text.split()), factor


def letters(text: str) -> str:
    """Returns the letters of a text, small: texts that have the same are the same text in another spelling."""
    return re.sub(r"[^a-z]+", "", text.lower())


def pick(rng: np.random.Generator, items: list):
    """Returns one item, all equally likely."""
    return items[rng.integers(len(items))]


def write_document(situation: dict, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Returns the text of one post about the situation and its evidence (L,)."""
    grammar = read_grammar()
    slots = grammar["slots"] | {"very": grammar["intensifiers"]} | situation.get("slots", {})
    bound = dict(PRONOUNS[situation["who"]]) if "who" in situation else {}
    weights = np.array([weight for weight, _ in grammar["shapes"]], dtype=float)
    shape = grammar["shapes"][rng.choice(len(weights), p=weights / weights.sum())][1].split()

    parts, remarks, scale, turned = [], np.zeros(len(LABELS)), 1.0, False
    told = rng.integers(len(situation["say"]))
    for part in shape:
        phrase, gain = choose_phrase(part, situation, told, rng)
        if phrase is None or (part == "attitude" and turned):
            continue  # after a change of mood a general remark would contradict it
        text, factor = fill(phrase[0], slots, bound, rng)
        parts.append((part, text))
        evidence = factor * phrase[1]
        if part == "situation":
            base = evidence + situation["feel"]
            continue
        remarks += evidence
        scale *= gain
        if text.split()[0] in grammar["turns"]:
            scale *= grammar["contrast"]
            turned = True
        elif part == "then" and evidence.any():
            turned = situation["feel"][evidence.argmax()] <= 0
    evidence = scale * base + remarks
    text, exclaimed = punctuate(parts, evidence, rng)
    return text, evidence * (grammar["exclaimed_gain"] if exclaimed else 1.0)


def choose_phrase(part: str, situation: dict, told: int, rng: np.random.Generator) -> tuple[tuple | None, float]:
    """Returns a phrase for one part of the post, None if there is none, and the scale of its attitude."""
    grammar = read_grammar()
    if part == "situation":
        return situation["say"][told], 1.0
    if part == "then":
        fitting = situation["then"][told]
        return (pick(rng, fitting) if fitting else None), 1.0
    if part in ("opener", "closer"):
        grave = GRAVE.intersection(situation["with"])
        return (None if grave else pick(rng, grammar[part + "s"])), 1.0
    key = {"lead": "leads", "attitude": "lines"}[part]
    pools = [grammar["attitudes"][name] for name in situation["with"]]
    pools = [pool for pool in pools if pool[key]]
    if not pools:
        return None, 1.0
    pool = pick(rng, pools)
    return pick(rng, pool[key]), pool.get("scale", 1.0)


def punctuate(parts: list, evidence: np.ndarray, rng: np.random.Generator) -> tuple[str, bool]:
    """Returns the parts as one text in some register, and whether an exclamation mark was added."""
    grammar = read_grammar()
    share = grammar["registers"]
    text = ""
    for i, (part, phrase) in enumerate(parts):
        linked = phrase.split()[0] in grammar["conjunctions"]
        chance = share["joined"] if linked else share["spliced"] if part == "then" else 0.0
        if i and parts[i - 1][0] == "opener":
            text += " " + phrase
        elif i and text[-1] not in "?!" and rng.random() < chance:
            text += ", " + phrase
        else:
            stop = "" if not i else " " if text[-1] in "?!" else ". "
            text += stop + phrase[0].upper() + phrase[1:]
    strong = evidence.max() > 1.5 and LABELS[evidence.argmax()] in ("joy", "admiration", "surprise", "anger")
    exclaimed = bool(text[-1] not in "?!" and strong and rng.random() < share["exclaimed"])
    lower = rng.random() < share["lower"]
    if exclaimed:
        text += "!"
    elif text[-1] not in "?!" and not (lower and rng.random() < share["no_full_stop"]):
        text += "."
    if lower:
        text = text.lower()
        if rng.random() < share["no_apostrophe"]:
            text = re.sub(r"(?<=n)'(?=t\b)|(?<=\bi)'(?=m\b)|(?<=\bthat)'(?=s\b)|(?<=\bit)'(?=s\b)", "", text)
    return text, exclaimed


def write_documents(count: int, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """Returns different texts of 8 to 40 words and their evidence (D, L); all situations come up equally often."""
    situations = read_grammar()["situations"]
    texts, rows, seen = [], [], set()
    while len(texts) < count:
        for index in rng.permutation(len(situations)):
            text, evidence = write_document(situations[index], rng)
            key = letters(text)
            if len(texts) < count and key not in seen and WORDS[0] <= len(text.split()) <= WORDS[1]:
                seen.add(key)
                texts.append(text)
                rows.append(evidence)
    return texts, np.array(rows)


def draw_population(rng: np.random.Generator) -> Annotators:
    """Returns the population of annotators of one corpus."""
    model = read_grammar()["annotators"]
    size = model["population"]
    sensitivity = model["sensitivity"] * np.exp(model["sensitivity_spread"] * rng.standard_normal(size))
    base = np.array([model["threshold"][label] for label in LABELS])
    tendency = model["tendency"] * rng.standard_normal((size, 1))
    own = model["threshold_spread"] * rng.standard_normal((size, len(LABELS)))
    spread = tendency + own
    return Annotators(sensitivity, base + spread - spread.mean(0))  # centred: no population is generous as a whole


def mark_probability(evidence: np.ndarray, annotators: Annotators) -> np.ndarray:
    """Returns P(annotator a marks l | document), (A, D, L), for evidence (D, L)."""
    model = read_grammar()["annotators"]
    two = np.sort(evidence, axis=1)[:, -2:]  # second strongest, strongest
    strongest = evidence == two[:, 1:]
    nothing = (model["nothing"] - two[:, 1:]).clip(min=0)
    rival = np.maximum(np.where(strongest, two[:, :1], two[:, 1:]), nothing)
    distance = evidence - model["rivalry"] * rival - annotators.threshold[:, None]
    return expit(annotators.sensitivity[:, None, None] * distance)


def draw_marks(probability: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns one row an annotation: document (N,), annotator (N,), marks bool (N, L), from P (A, D, L)."""
    population, documents, _ = probability.shape
    model = read_grammar()["annotators"]
    size, drawn = model["panel"], model["drawn"]
    counts = rng.choice(list(drawn), size=documents, p=list(drawn.values()))
    panel = rng.integers(population // size, size=documents)
    seats = rng.random((documents, size)).argsort(axis=1, kind="stable")
    document = np.repeat(np.arange(documents), counts)
    seated = np.concatenate([row[:count] for row, count in zip(seats, counts, strict=True)])
    annotator = panel[document] * size + seated
    chance = probability[annotator, document]
    return document, annotator, rng.random(chance.shape) < chance


def split_documents(gold: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the split of each document (D,), stratified: all have the same shares of 0, 1, 2, ... gold labels."""
    order = rng.permutation(len(gold))
    order = order[np.argsort(gold.sum(1)[order], kind="stable")]
    period = sum(SPLITS.values()) // SPLITS["dev"]
    splits = np.full(len(gold), "train", dtype=object)
    splits[order[0::period]] = "dev"
    splits[order[period // 2 :: period]] = "test"
    return splits


@cache
def _generate(seed: int) -> tuple[Corpus, np.ndarray]:
    """Returns the corpus of all splits and the split of each document, once a process and seed."""
    texts, evidence = write_documents(sum(SPLITS.values()), np.random.default_rng([seed, 0]))
    probability = mark_probability(evidence, draw_population(np.random.default_rng([seed, 1])))
    document, annotator, marks = draw_marks(probability, np.random.default_rng([seed, 2]))
    annotators = np.bincount(document, minlength=len(texts))
    tally = np.zeros(evidence.shape)
    np.add.at(tally, document, marks)
    gold = tally >= MIN_MARKS
    ids = np.array([f"v{i:04d}" for i in range(len(texts))], dtype=object)
    annotations = pd.DataFrame({"id": ids[document], "annotator": [f"a{a:02d}" for a in annotator]})
    corpus = Corpus(
        name="vignettes",
        split="all",
        sample="all",
        labels=LABELS,
        documents=pd.DataFrame({"id": ids, "text": texts}),
        gold=gold,
        votes=tally / annotators[:, None],
        annotators=annotators,
        truth=probability.mean(0),
        annotations=annotations.assign(**dict(zip(LABELS, marks.T, strict=True))),
    )
    return corpus, split_documents(gold, np.random.default_rng([seed, 3]))
