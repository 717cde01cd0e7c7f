"""What a corpus is before anything is asked about it: `python -m mlutils.tracing.corpus_check NAME [MODEL] [OPTIONS]`.

Statistics, documents, the prompt, the first tokens of its labels, lengths, rows that cannot be read, copies of texts.
"""

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import yaml
from transformers import AutoConfig, AutoTokenizer

from mlutils import corpora, parameters
from mlutils.corpora import Corpus, descriptions, tabular
from mlutils.corpora.corpus import SPLITS, EmptyError
from mlutils.sources import SourceError
from mlutils.tracing import models, vocabulary
from mlutils.tracing.answers import NONE
from mlutils.tracing.prompting import Prompting, prepare

MODEL = "miniature-xs"  # nothing is downloaded for it
SHOWN = 20  # lines of a kind, at most


def check(name: str, model: str = MODEL, options: Mapping | None = None) -> tuple[str, int]:
    """Returns a report on a corpus, as text, and how many rows of its files could not be read.

    model: whose tokenizer cuts the texts; options: of the corpus. Raises what `corpora.load` raises, rows apart.
    """
    options, about = dict(options or {}), descriptions.read(name)
    if "reader" in about.data:
        found = tabular.Reading(about, corpus=corpora.load(name, "all", **options))
    else:
        found = tabular.read(about.choose(options), "all")
    lines = [f"{about.title}: {about.file}", *_section("Rows that could not be read", found.problems)]
    lines += _section("Annotations of no document at hand", found.misses)
    if found.corpus is not None:
        splits = {} if found.problems else dict(_read_splits(name, options))
        lines += _section("Statistics", _describe({**splits, "all": found.corpus}).splitlines(), None)
        lines += _section("Left out, nobody voted on them", found.corpus.missing)
        lines += _section("Copies of texts", _find_copies({"all": found.corpus} if found.problems else splits))
        lines += _section("Documents", _show(found.corpus), None)
    if found.corpus is not None and not found.problems:
        lines += _section("Tokens", _cut(name, found.corpus, model, options), None)
    return "\n".join(lines), len(found.problems)


def _section(title: str, lines, most: int | None = SHOWN) -> list[str]:
    """Returns a title with how many lines there are, and the first of them."""
    lines = list(lines)
    if most is None:
        return ["", f"== {title}", *lines]
    more = [f"... and {len(lines) - most} more"] if len(lines) > most else []
    return ["", f"== {title}: {len(lines) or 'none'}", *lines[:most], *more]


def _read_splits(name: str, options: Mapping) -> Iterator[tuple[str, Corpus]]:
    for split in SPLITS["all"]:
        try:
            yield split, corpora.load(name, split, **options)
        except (EmptyError, SourceError) as error:
            print(f"{split}: {error}", file=sys.stderr)


def _describe(splits: Mapping[str, Corpus]) -> str:
    rows = {}
    for split, corpus in splits.items():
        percents = dict(zip(corpus.labels, 100 * corpus.gold.mean(axis=0), strict=True))
        rows[split] = corpora.describe(corpus) | {f"gold {label}, %": float(each) for label, each in percents.items()}

    def write(value):
        number = isinstance(value, float) and not value.is_integer() and value == value
        return f"{value:.2f}" if number else "" if value is None or value != value else str(value).removesuffix(".0")

    return pd.DataFrame(rows, dtype=object).map(write).to_string()


def _find_copies(splits: Mapping[str, Corpus]) -> Iterator[str]:
    """Yields a line for each text that several documents have, those in several splits first."""
    places = defaultdict(list)
    for split, corpus in splits.items():
        for each, mark in zip(corpus.documents["id"], corpora.text_marks(corpus), strict=True):
            places[mark].append((split, each))
    copies = [each for each in places.values() if len(each) > 1]
    for copied in sorted(copies, key=lambda each: -len({split for split, _ in each})):
        where = " and ".join(sorted({split for split, _ in copied}))
        yield f"in {where}: {', '.join(each for _, each in copied[:6])}"


def _show(corpus: Corpus) -> Iterator[str]:
    """Yields five documents, with gold sets and votes."""
    for row in np.unique(np.linspace(0, len(corpus) - 1, 5).astype(int)):
        gold = [label for label, flag in zip(corpus.labels, corpus.gold[row], strict=True) if flag]
        known = corpus.has_votes[row]
        votes = {label: f"{vote:.2f}" for label, vote in zip(corpus.labels, corpus.votes[row], strict=True) if vote > 0}
        said = f"votes {votes or 'for no label'} of {corpus.annotators[row]}" if known else "no votes"
        yield f"{corpus.documents['id'][row]}: {corpus.documents['text'][row]!r}\n    gold {gold or 'no label'}; {said}"


def _cut(name: str, corpus: Corpus, model: str, options: Mapping) -> Iterator[str]:
    """Yields how a model's tokenizer cuts labels, texts and the prompt that `10_trace` makes by its defaults."""
    source, _ = models.locate(model)
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    config = AutoConfig.from_pretrained(source, trust_remote_code=False).get_text_config()
    context = next((found for each in models.CONTEXT if (found := getattr(config, each, None))), None)
    lengths = np.array([len(ids) for ids in vocabulary.encode_prompts(tokenizer, list(corpus.documents["text"]))])
    yield (
        f"tokens a document by {model}: {np.median(lengths):.0f} in the median, {lengths.max()} at most "
        f"({corpus.documents['id'][int(lengths.argmax())]}); the model reads {context or 'any number'}"
    )
    given = {"corpus": name, "options": dict(options), "sample": "all", "limit": 5}
    try:
        prompting = _prepare(given)
    except (ValueError, SourceError) as error:
        yield f"no prompt can be made as 10_trace would by its defaults: {error}"
        return
    prompt = prompting.list_prompt(0)
    cut = len(vocabulary.encode_prompts(tokenizer, [prompt])[0])
    most = cut - lengths[corpus.documents["id"].tolist().index(prompting.corpus.documents["id"][0])] + lengths.max()
    yield f"a prompt with {len(prompting.plan.ids[0])} demonstrations has {cut} tokens, the longest about {most}"
    if context and most + prompting.new_tokens > context:
        yield f"that is more than the {context} of {model} less {prompting.new_tokens} for the answer: show fewer"
    yield "first tokens of the labels:"
    labels, form = prompting.corpus.labels, prompting.template.form
    first = vocabulary.LabelTokens(tokenizer, labels, form, "first").first
    for label, tokens in zip([*labels, NONE], first, strict=True):
        yield f"    {label}: {', '.join(repr(tokenizer.decode([token])) for token in tokens)}"
    alike = vocabulary.begin_alike(tokenizer, labels, form, prompting.gap)
    yield f"labels that begin with one token: {'; '.join(map(', '.join, alike)) or 'none'}"
    yield f"\n== The prompt of {prompting.corpus.documents['id'][0]}, as 10_trace makes it\n{prompt}"


def _prepare(given: Mapping) -> Prompting:
    return prepare(parameters.check_parameters("10_trace", given))


if __name__ == "__main__":
    asked, *others = sys.argv[1:]
    try:
        report, unread = check(asked, (others[:1] or [MODEL])[0] or MODEL, yaml.safe_load("".join(others[1:2])))
    except (ValueError, SourceError, OSError) as cause:
        sys.exit(str(cause))
    print(report)
    sys.exit(f"{unread} rows could not be read" if unread else 0)
