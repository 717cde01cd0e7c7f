"""Logistic regressions on vote shares."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression

from mlutils.training import logistic
from mlutils.training.logistic import fit_logistic
from tests.training.test_probes import states


def test_soft_votes_are_learnt():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3000, 4)) * 0.01
    votes = rng.binomial(3, 0.3, (3000, 1)) / 3
    predicted, _ = fit_logistic(features, votes, features[:5])
    assert predicted == pytest.approx(votes.mean(), abs=0.02)  # majorities would give about 0.22


def test_logistic_equals_scikit_learn_on_hard_targets():
    train, truth = states(200, 0)
    predicted, _ = fit_logistic(train, truth, train[:9], strengths=(0.5,))
    plain = LogisticRegression(C=0.5, tol=1e-6).fit(train, truth[:, 0]).predict_proba(train[:9])[:, 1]
    assert predicted[:, 0] == pytest.approx(plain, abs=1e-3)


def test_weights_count_documents_several_times():
    train, truth = states(60, 0)
    times = np.where(truth[:, 0], 3, 1)
    weighted, _ = fit_logistic(train, truth, train[:9], strengths=(1.0,), weights=times)
    repeated, _ = fit_logistic(np.repeat(train, times, 0), np.repeat(truth, times, 0), train[:9], strengths=(1.0,))
    assert weighted == pytest.approx(repeated, abs=1e-3)


def test_strength_is_chosen_by_held_out_loss():
    rng = np.random.default_rng(0)
    noise, coin = rng.normal(size=(80, 60)), rng.random((80, 1)) < 0.5
    chosen, _ = fit_logistic(noise, coin, noise)
    weak, _ = fit_logistic(noise, coin, noise, strengths=(100.0,))
    assert np.abs(chosen - 0.5).mean() < np.abs(weak - 0.5).mean() - 0.1  # nothing to learn: the strongest wins


def test_soft_answers_are_repeated_documents():
    """Votes of 2/3 are the same as the document three times, with yes, yes and no."""
    train, _ = states(60, 3)
    votes = np.random.default_rng(0).binomial(3, 0.5, (60, 1)) / 3
    soft, _ = fit_logistic(train, votes, train, strengths=(3.0,))
    answers = np.concatenate([np.arange(3) < round(3 * share) for share in votes[:, 0]])
    repeated = LogisticRegression(C=1.0, tol=1e-6, max_iter=500).fit(np.repeat(train, 3, 0), answers)
    assert soft[:, 0] == pytest.approx(repeated.predict_proba(train)[:, 1], abs=2e-3)


@pytest.mark.parametrize("single_label", [False, True])
def test_sparse_and_dense_features_give_the_same(single_label):
    train, truth = states(120, 0)
    if single_label:
        truth = np.eye(3)[np.random.default_rng(0).integers(0, 2, 120)]
    dense, skipped = fit_logistic(train, truth, train[:9], single_label, (1.0,))
    sparse, _ = fit_logistic(csr_array(train), truth, csr_array(train[:9]), single_label, (1.0,))
    assert sparse == pytest.approx(dense, abs=2e-3) and skipped.tolist() == [False, False, True]


def test_few_documents_choose_the_strength(monkeypatch):
    train, truth = states(300, 0)
    seen, choose = [], logistic._choose
    monkeypatch.setattr(logistic, "TUNED", 50)
    monkeypatch.setattr(logistic, "_choose", lambda *given: seen.append(len(given[0])) or choose(*given))
    assert fit_logistic(train, truth, train[:5])[0].shape == (5, 3) and set(seen) == {50}


def test_bad_targets_are_refused():
    train, truth = states(30, 0)
    with pytest.raises(ValueError, match="not counts"):
        fit_logistic(train, 3 * truth.astype(int), train)
    with pytest.raises(ValueError, match="too few for 5 folds"):
        fit_logistic(train[:3], truth[:3], train)
