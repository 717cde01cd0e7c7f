"""What tests of encoders train on: made-up documents, and a quick recipe."""

import numpy as np
import pandas as pd

from mlutils.corpora import Corpus
from mlutils.training.encoder import Recipe

LABELS = ("joy", "fear", "disgust")
WORDS = ["today", "train", "home", "happy", "scared", "joy", "fear", "dis", "##gust", "##gut", "the"]


def corpus(documents, seed, prefix, single_label=False):
    """Documents whose words tell the first two labels; nobody ever chooses the third."""
    rng = np.random.default_rng(seed)
    joy = rng.random(documents) < 0.5
    fear = ~joy if single_label else rng.random(documents) < 0.5
    texts = [
        " ".join(
            ["the", *(["happy"] if j else []), *(["scared"] if f else []), *rng.choice(WORDS[:3], 3), f"{prefix}{i}"]
        )
        for i, (j, f) in enumerate(zip(joy, fear, strict=True))
    ]
    gold = np.stack([joy, fear, np.zeros(documents, bool)], axis=1)
    return Corpus(
        name="made",
        split="train",
        sample="all",
        labels=LABELS,
        documents=pd.DataFrame({"id": [f"{prefix}{i}" for i in range(documents)], "text": texts}),
        gold=gold,
        votes=gold.astype(float),
        annotators=np.full(documents, 3),
        single_label=single_label,
    )


def recipe(tiny, **given):
    usual = {"encoder": str(tiny), "epochs": 8, "batch": 8, "encoder_rate": 1e-3, "head_rate": 1e-2, "max_tokens": 16}
    return Recipe(**(usual | given))
