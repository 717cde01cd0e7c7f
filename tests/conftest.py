"""Fixtures shared by the tests: a tiny random Llama, and a small corpus."""

import numpy as np
import pandas as pd
import pytest

from mlutils.corpora import Corpus
from mlutils.tracing import models


@pytest.fixture(scope="session")
def llama():
    """A random Llama in float32: exact, small, and as undecided as a model can be."""
    return models.load(models.RANDOM, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def corpus():
    """Forty documents of different length, three labels, three annotators each."""
    rng = np.random.default_rng(0)
    words = "a fox ran over the wet field while nobody looked up from their tea".split()  # noqa: SIM905
    texts = [f"{i} " + " ".join(rng.choice(words, rng.integers(3, 30))) for i in range(40)]
    votes = rng.integers(0, 4, (40, 3)) / 3
    return Corpus(
        name="foxes",
        split="dev",
        sample="all",
        labels=("anger", "fear", "joy"),
        documents=pd.DataFrame({"id": [f"d{i}" for i in range(40)], "text": texts}),
        gold=votes >= 0.5,
        votes=votes,
        annotators=np.full(40, 3),
    )
