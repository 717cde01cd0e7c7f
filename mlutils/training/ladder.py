"""The ladder: miniatures saved as folders that `10_trace` reads, and what each of them is worth."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import f1_score

from mlutils.corpora import Corpus
from mlutils.files import checksum, making, read_json, write_json
from mlutils.traces import Trace
from mlutils.tracing import demonstrations, models, prompts, views
from mlutils.tracing.prompting import Prompting
from mlutils.training.episodes import settle
from mlutils.training.miniatures import MIX, Miniature

AGAIN = "train it again with 05_miniatures, or get it again from git"


def save(miniature: Miniature, folder: Path) -> Path:
    """Writes a miniature as a folder of transformers (float16) with `manifest.json`, and returns the folder.

    The manifest holds the recipe, what it was trained on, the last row of the curve, and the SHA-256 of each file.
    """
    with making(folder) as made:
        copy.deepcopy(miniature.network).half().save_pretrained(made)
        miniature.tokenizer.save_pretrained(made)
        recipe, ids, last = miniature.recipe, miniature.documents["id"], miniature.curve.iloc[-1].to_dict()
        record = {
            "base": None,
            "recipe": dataclasses.asdict(recipe),
            "mix": MIX,
            "fingerprint": recipe.fingerprint,
            "seed": recipe.seed,
            "parameters": miniature.network.num_parameters(),
            **{name: int(last[name]) for name in ("step", "tokens")},
            "seconds": float(last["seconds"]),
            "held_out_bits": {n.removeprefix("bits_"): round(v, 4) for n, v in last.items() if n.startswith("bits_")},
            "documents": {"number": len(ids), "sha256": miniature.hashes["documents"]},
            "stream": miniature.hashes["stream"],
            "trained_on": {"vignettes": [each for each in ids if ":" not in each], "boxes": []},
            "files": {file.name: checksum(file) for file in sorted(made.iterdir())},
        }
        write_json(made / "manifest.json", record)
    return folder


def add_scores(folder: Path, scores: dict) -> None:
    """Adds scores to the manifest of a miniature."""
    record = read_json(folder / "manifest.json", ValueError, AGAIN)
    write_json(folder / "manifest.json", {**record, "scores": scores})


def ask(folder: Path, tested: Corpus, trace: Path, shots: int = 10) -> Trace:
    """Returns the trace (view list) of the model in a folder, with demonstrations drawn at random for each document.

    So as many of them as of the tested documents have several labels, and no one draw of them decides: the number of
    labels that they show, which a model learns to follow, misleads none.
    """
    pool = demonstrations.pool(tested)
    plan = demonstrations.draw(pool, shots, "random", shared=False, queries=len(tested))
    prompting = Prompting(tested, pool, plan, prompts.template(tested.name))
    model = models.load(str(folder), "cpu", "float32", pack=True)
    return views.write_trace(trace, model, prompting, ["list"], shots=shots)


def score(trace: Trace, tested: Corpus) -> dict:
    """Returns micro F1 of the lists of a trace, the best constant answer's, and how often each status came.

    `micro_f1` is against gold sets, which are partly chance (few annotators); `settled_f1` against those that follow
    from the true shares (`episodes.settle`).
    """
    answer, constant = best_constant(trace.gold)
    settings = trace.settings
    return {
        "tested": f"{settings['corpus']} {settings['split']} {settings['sample']}",
        "n": len(trace.documents),
        "shots": settings["shots"],
        "micro_f1": round(micro_f1(trace.gold, trace.said()), 4),
        "settled_f1": round(micro_f1(settle(tested).gold, trace.said()), 4),
        "best_constant": round(constant, 4),
        "constant": [label for label, said in zip(trace.labels, answer, strict=True) if said],
        "statuses": {status: int(count) for status, count in trace.answers["status"].value_counts().items()},
        "two_or_more": int((trace.said().sum(1) >= 2).sum()),
    }


def describe(folder: Path) -> dict:
    """Returns a row of the ladder: size, cost, held-out bits and scores of the miniature in a folder."""
    record = read_json(folder / "manifest.json", ValueError, AGAIN)
    bits = {f"held-out bits, {kind}": value for kind, value in record["held_out_bits"].items()}
    return {name: record[name] for name in ("parameters", "step", "tokens", "seconds")} | bits | record["scores"]


def micro_f1(gold: ArrayLike, said: ArrayLike) -> float:
    """Returns micro F1 of what was said against gold sets, bool (D, L) both; 0 where nothing is said."""
    return float(f1_score(gold, said, average="micro", zero_division=0))


def best_constant(gold: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the one answer, bool (L,), that has the best micro F1 if it is given for every document (D, L), and that.

    It is known from the tested documents themselves, so no constant answer does better. Of answers of one size, that of
    the most frequent labels is best.
    """
    order = np.argsort(-gold.sum(0), kind="stable")
    answers = [np.isin(np.arange(len(order)), order[:size]) for size in range(1, len(order) + 1)]
    scores = [micro_f1(gold, np.tile(answer, (len(gold), 1))) for answer in answers]
    return answers[int(np.argmax(scores))], max(scores)
