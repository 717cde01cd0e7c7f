"""What all finetuning shares: an order that a resumed run follows again, and recipes that are checked."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlutils.training import adaptation
from mlutils.training.adaptation import FinetuningError, Recipe


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=120),
    documents=st.integers(1, 60),
    batch=st.integers(1, 9),
    seed=st.integers(0, 3),
)
def test_the_order_holds_every_example_once_and_pass_after_pass(lengths, documents, batch, seed):
    order = adaptation.arrange(lengths, documents, batch, seed)
    assert sorted(order) == list(range(len(lengths))) and order == adaptation.arrange(lengths, documents, batch, seed)
    if documents % (32 * batch) == 0:
        assert [each // documents for each in order] == sorted(each // documents for each in range(len(order)))


def test_batches_are_of_similar_length_and_come_in_any_order():
    lengths = np.random.default_rng(0).permutation(256)
    batches = np.array(adaptation.arrange(lengths, 256, 8, 0)).reshape(32, 8)
    assert all(np.ptp(lengths[batch]) == 7 for batch in batches)
    starts = [lengths[batch].min() for batch in batches]
    assert starts != sorted(starts) and sorted(starts) == list(range(0, 256, 8))
    assert adaptation.arrange(lengths, 256, 8, 1) != adaptation.arrange(lengths, 256, 8, 0)


def test_recipes_that_are_not_known_are_refused():
    for given_, message in (
        ({"layers": "all"}, "layers='all' is not known: take one of all-linear, default"),
        ({"loss_on": "prompt"}, "loss_on='prompt'"),
        ({"rank": 0}, "rank=0 must be 1 or more"),
        ({"rate": 0.0}, "rate=0.0 above 0"),
        ({"train_shots": -1}, "train_shots=-1"),
    ):
        with pytest.raises(FinetuningError, match=message):
            Recipe(**given_)
    assert (Recipe().rank, Recipe().alpha, Recipe().dropout, Recipe().rate, Recipe().epochs) == (64, 16, 0.1, 2e-4, 3)
    assert adaptation.lora(Recipe()).target_modules == "all-linear"
    assert adaptation.lora(Recipe(layers="default")).target_modules is None
