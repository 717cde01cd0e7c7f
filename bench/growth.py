"""Measures how the work of a trace grows: with documents, labels, demonstrations and the length of documents.

    python bench/growth.py FOLDER      writes FOLDER/growth.json and figures/bench/growth.*: some minutes of a core

One process and one thread; texts and labels are words of the model's vocabulary, drawn at random. A killed run goes on
with what is missing in FOLDER.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mlutils.corpora import Corpus
from mlutils.reporting import growth
from mlutils.tracing import demonstrations, models, prompts, views
from mlutils.tracing.prompting import Prompting

# What one sweep changes while the rest stays: documents, labels, demonstrations, words a document.
START = {"documents": 2, "labels": 5, "demonstrations": 10, "length": 20}
# Model, values, and what else is other than at the start; a small model where many documents are asked.
SWEEPS = {
    "documents": ("miniature-m", [50, 200, 800], {"labels": 3}),
    "labels": ("miniature-m", [3, 10, 27, 60], {"documents": 8}),
    "demonstrations": (models.DEFAULT, [0, 10, 25, 50], {}),
    "length": (models.DEFAULT, [10, 100, 500, 2000], {}),
}
TOKENS = 16  # at most, of a list


def find_words(tokenizer) -> list[str]:
    """Returns words that are one token each behind a blank, in an order drawn from a seed."""
    words = sorted(
        word[1:] for word in tokenizer.get_vocab() if word[0] == "Ġ" and word[1:].isalpha() and word[1:].islower()
    )
    words = [word for word in words if word.isascii() and 4 <= len(word) <= 8 and word != "none"]
    return np.random.default_rng(0).permutation(words).tolist()


def write_corpus(words: list[str], documents: int, labels: int, length: int, seed: int) -> Corpus:
    """Returns documents of `length` words, with one or two of the labels each."""
    rng = np.random.default_rng(seed)
    gold = np.zeros((documents, labels), bool)
    for row in gold:
        row[rng.choice(labels, rng.integers(1, 3), replace=False)] = True
    texts = [" ".join(rng.choice(words[100:], length)) for _ in range(documents)]
    return Corpus(
        name="words", split="test", sample="all", labels=tuple(words[:labels]),
        documents=pd.DataFrame({"id": [f"{seed}-{n}" for n in range(documents)], "text": texts}),
        gold=gold, votes=gold * 1.0, annotators=np.ones(documents, int),
    )  # fmt: skip


def measure(model: models.Model, words: list[str], view: str, size: dict) -> dict:
    """Returns tokens, passes and CPU seconds of a view, asked in parts as a trace is."""
    tested = write_corpus(words, size["documents"], size["labels"], size["length"], 1)
    pool = write_corpus(words, 60, size["labels"], START["length"], 2)
    plan = demonstrations.draw(pool, size["demonstrations"], "random")
    prompting = Prompting(tested, pool, plan, prompts.template("words"), TOKENS)
    asked = views.VIEWS[view](model, prompting)
    started = time.process_time()
    for first in range(0, len(tested), views.PART):
        tables, _ = asked.ask(range(first, min(first + views.PART, len(tested))))
        if tables["failures"]:
            raise RuntimeError(f"{view}, {size}: {tables['failures'][0]}")
    taken = {"tokens": asked.engine.tokens, "passes": asked.engine.passes, "seconds": time.process_time() - started}
    return taken | {"pairs": prompting.pair_design if view == "pairwise" else ""}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    known = folder / "growth.json"
    records = json.loads(known.read_text(encoding="utf-8")) if known.exists() else []
    done, model, words = {(each["sweep"], each[each["sweep"]], each["view"]) for each in records}, None, []
    for sweep, (name, values, others) in SWEEPS.items():
        if model is None or model.name != name:
            model = models.load(name, "cpu", "float32", pack=True)
            words = find_words(model.tokenizer)
            measure(model, words, "list", START)  # not counted: memory is taken, kernels are chosen
        for value in values:
            for view in growth.VIEWS:
                if (sweep, value, view) in done:
                    continue
                size = START | others | {sweep: value}
                found = {"sweep": sweep, "view": view, **size, **measure(model, words, view, size)}
                records.append(found | {"model": model.name, "products": model.products})
                print(sweep, value, view, f"{found['tokens']} tokens, {found['seconds']:.1f} s", flush=True)
                known.write_text(json.dumps(records), encoding="utf-8")
    print(growth.write(records).to_markdown(index=False, floatfmt=".3g"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
