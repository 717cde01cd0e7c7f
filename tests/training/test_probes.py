import numpy as np
import pytest

from mlutils.training import probes
from mlutils.training.logistic import fit_logistic
from mlutils.training.probes import ProbeError, probe


def states(documents, seed, dimensions=24):
    """Hidden states of which two directions tell two labels."""
    rng = np.random.default_rng(seed)
    present = rng.random((documents, 3)) < 0.4
    present[:, 2] = False
    found = rng.normal(size=(documents, dimensions)) * 0.3
    found[:, :2] += 3 * present[:, :2] - 1.5
    return found * rng.uniform(0.5, 2, (documents, 1)), present  # lengths tell nothing


def test_probe_finds_labels_and_skips_the_unused():
    train, truth = states(400, 0)
    test, wanted = states(200, 1)
    predicted, skipped = probe(train, truth, test)
    assert predicted.shape == (200, 3)
    assert skipped.tolist() == [False, False, True] and (predicted[:, 2] == 0).all()
    assert ((predicted >= 0.5) == wanted).mean() > 0.95


def test_probe_does_not_see_lengths():
    train, truth = states(100, 0)
    test, _ = states(20, 1)
    predicted, _ = probe(train, truth, test)
    longer, _ = probe(train * np.linspace(1, 9, 100)[:, None], truth, 5 * test)
    assert longer == pytest.approx(predicted, abs=1e-6)


def test_probe_keeps_a_quarter_of_the_dimensions(monkeypatch):
    seen = []

    def spy(features, *given, **named):
        seen.append(features.shape[1])
        return fit_logistic(features, *given, **named)

    monkeypatch.setattr(probes, "fit_logistic", spy)
    train, truth = states(100, 0)
    probe(train, truth, train[:3])
    assert seen == [6] and train.shape[1] == 24


def test_single_label_rows_sum_to_one():
    train, _ = states(300, 0)
    classes = np.stack([train[:, 0] > 0, train[:, 0] <= 0, np.zeros(300, bool)], axis=1)
    predicted, skipped = probe(train, classes, train[:50], single_label=True)
    assert predicted.sum(axis=1) == pytest.approx(np.ones(50))
    assert skipped.tolist() == [False, False, True] and (predicted[:, 2] == 0).all()
    assert (predicted.argmax(axis=1) == classes[:50].argmax(axis=1)).mean() > 0.9


def test_all_labels_of_one_class():
    predicted, skipped = probe(np.eye(6), np.ones((6, 2), bool), np.eye(6)[:2])
    assert skipped.all() and (predicted == 1).all()


def test_bad_arrays_are_refused():
    train, truth = states(30, 0)
    with pytest.raises(ProbeError, match="24 dimensions, test states 9"):
        probe(train, truth, train[:, :9])
    with pytest.raises(ProbeError, match="targets of shape"):
        probe(train, truth[:5], train)
    with pytest.raises(ProbeError, match="not counts"):
        probe(train, 3 * truth.astype(int), train)
    with pytest.raises(ProbeError, match="finite"):
        probe(np.where(train > 2, np.inf, train), truth, train)
    with pytest.raises(ProbeError, match="too few"):
        probe(train[:3], truth[:3], train)


def test_documents_without_targets_are_left_out():
    train, truth = states(100, 0)
    soft = truth.astype(float)
    holes = np.vstack([soft, np.full((1, 3), np.nan)])
    whole, _ = probe(train, soft, train[:5])
    assert probe(np.vstack([train, train[:1]]), holes, train[:5])[0] == pytest.approx(whole, abs=1e-6)


def test_released_conventions_regularise_nothing_and_hold_a_fifth_back():
    train, truth = states(100, 0)
    released, skipped = probe(train, truth, train[:9], conventions="released")
    assert skipped.tolist() == [False, False, True] and ((released >= 0.5) == truth[:9]).mean() > 0.9
    halved, _ = probe(train * 0.5, truth, train[:9] * 0.5, conventions="released")  # deviations are divided out
    assert halved == pytest.approx(released, abs=1e-3)
    rng = np.random.default_rng(0)
    noise, coin = rng.normal(size=(80, 60)), rng.random((80, 1)) < 0.5
    found = probe(noise, coin, noise, conventions="released")[0]
    assert np.abs(found - 0.5).min() > 0.4  # nothing holds the weights back
    assert 0.82 < ((found >= 0.5) == coin).mean() < 0.98  # right on those fitted on, by chance on the fifth held back
    assert not (np.abs(probe(noise, coin, noise)[0] - 0.5) > 0.49).any()
    with pytest.raises(ProbeError, match="take ours or released"):
        probe(train, truth, train, conventions="theirs")
