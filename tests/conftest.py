"""Fixtures shared by the tests: a tiny random Llama, and a small corpus."""

import os

import numpy as np
import pandas as pd
import pytest

from mlutils import paths
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


@pytest.fixture
def no_torch(tmp_path, monkeypatch):
    """Kernels that the test starts cannot import torch."""
    (tmp_path / "barred").mkdir()
    (tmp_path / "barred" / "torch.py").write_text("raise RuntimeError('an analysis loads no model')\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "barred"), str(paths.ROOT)]))
