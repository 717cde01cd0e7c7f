"""Measures by hand, against libraries, and against samples in which documents are repeated."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cityblock, jensenshannon
from scipy.stats import entropy, pearsonr
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, f1_score

from mlutils import measures
from mlutils.measures import MEASURES, measure

LOG2_3 = math.log2(3)
LN = math.log
DISTANCES = ("js_distance", "js_divergence", "dist_ce", "manhattan", "ent_ce", "ece")
MEASURED = [name for name, each in MEASURES.items() if not each.corrects]


def value(name, predicted, votes, single_label=False, annotators=None):
    annotators = np.full(len(predicted), 4) if annotators is None else annotators
    return measure(name, predicted, votes, annotators, single_label, np.ones((1, len(predicted))))[0]


def sample(documents=60, labels=4, annotators=5, single_label=False, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet(np.full(labels, 0.6), documents)
    votes = rng.multinomial(annotators, truth) / annotators
    predicted = (truth + rng.dirichlet(np.ones(labels), documents)) / 2
    return (predicted, votes) if single_label else (predicted, rng.binomial(annotators, truth) / annotators)


# -- by hand -----------------------------------------------------------------------------------------------------------
def test_jensen_shannon_by_hand():
    # (1/2, 1/2) and (1, 0), middle (3/4, 1/4): 3/2 - 3/4 log2 3; the second label is predicted as it is
    bits = 1.5 - 0.75 * LOG2_3
    pair = [[0.5, 0.25]], [[1.0, 0.25]]
    assert measures.jensen_shannon_divergence(*pair) == pytest.approx([bits / 2])
    assert measures.jensen_shannon_distance(*pair) == pytest.approx([math.sqrt(bits) / 2])
    assert measures.jensen_shannon_divergence([[0.5, 0.5, 0]], [[1, 0, 0]], True) == pytest.approx([bits])
    assert measures.jensen_shannon_divergence([[1, 0]], [[0, 1]], True) == pytest.approx([1])
    assert measures.jensen_shannon_divergence([[5e-324]], [[0.0]]) == pytest.approx([0])


def test_distances_by_hand():
    pair = [[0.5, 0.25]], [[1.0, 0.0]]
    assert measures.total_variation(*pair) == pytest.approx([(0.5 + 0.25) / 2])
    assert measures.manhattan(*pair) == pytest.approx([0.5 + 0.25])  # of yes and of no, mean over two labels
    single = [[0.5, 0.25, 0.25]], [[1.0, 0.0, 0.0]]
    assert measures.total_variation(*single, True) == pytest.approx([0.5])
    assert measures.manhattan(*single, True) == pytest.approx([1.0])
    assert measures.entropy_error([[0.5, 0.0]], [[1.0, 0.5]]) == pytest.approx([LN(2)])
    assert measures.entropy_error([[0.5, 0.25, 0.25]], [[1.0, 0.0, 0.0]], True) == pytest.approx([1.5 * LN(2)])


def test_brier_by_hand():
    # three annotators, two of whom chose the label: two outcomes 1 and one 0
    assert measures.brier([[0.5]], [[2 / 3]]) == pytest.approx([0.25])
    assert measures.brier([[0.0, 1.0]], [[2 / 3, 1.0]]) == pytest.approx([(2 / 3) / 2])
    assert measures.brier([[0.5, 0.5, 0.0]], [[1.0, 0.0, 0.0]], True) == pytest.approx([0.5])


def test_ranks_by_hand():
    votes = [[1.0, 1 / 3, 1 / 3]] * 4 + [[0.0, 0.0, 0.0]]
    predicted = [[0.9, 0.2, 0.1], [0.9, 0.1, 0.2], [0.3, 0.4, 0.1], [0.5, 0.5, 0.1], [0.5, 0.5, 0.5]]
    assert measures.rank_agreement(predicted, votes).tolist() == [1, 1, 0, 0, 1]


def test_soft_f1_by_hand():
    predicted, votes = [[0.5, 0.0, 0.0], [0.5, 1.0, 0.0]], [[1.0, 0.0, 0.0], [0.25, 0.5, 0.0]]
    # label 0: min 0.5 + 0.25 of sums 1 + 1.25; label 1: 0.5 of 1 + 0.5; label 2 does not occur
    assert value("soft_micro_f1", predicted, votes) == pytest.approx(2 * 1.25 / (2 + 1.75))
    assert value("soft_macro_f1", predicted, votes) == pytest.approx((1.5 / 2.25 + 1 / 1.5) / 2)
    assert math.isnan(value("soft_micro_f1", [[0.0]], [[0.0]])) and math.isnan(value("soft_macro_f1", [[0.0]], [[0.0]]))


def test_entropy_correlation_by_hand():
    votes = np.array([[0.0, 0.5], [0.5, 0.5], [1.0, 0.5]])  # entropies 0, ln 2, 0; the second label has one throughout
    assert value("entropy_correlation", [[0.0, 0.1], [0.5, 0.2], [0.0, 0.3]], votes) == pytest.approx(1)
    assert value("entropy_correlation", [[0.5, 0.1], [0.0, 0.2], [0.5, 0.3]], votes) == pytest.approx(-1)
    assert math.isnan(value("entropy_correlation", np.full((3, 2), 0.1), votes))


def test_calibration_by_hand():
    # bins (0, 0.1] and (0.4, 0.5]: gaps 0.1 - 1 and, together, 0.9 - 1.25
    predicted, votes = [[0.1], [0.45], [0.45]], [[1.0], [0.25], [1.0]]
    assert value("ece", predicted, votes) == pytest.approx((0.9 + 0.35) / 3)
    spread = [0.1 * 0.9 / 4, 2 * 0.45 * 0.55 / 4]
    by_chance = sum(math.sqrt(2 / math.pi * each) for each in spread) / 3
    assert value("ece_by_chance", predicted, votes) == pytest.approx(by_chance)
    # single label: the most probable one only
    assert value("ece", [[0.75, 0.25], [0.25, 0.75]], [[1.0, 0.0], [0.5, 0.5]], True) == pytest.approx(0)
    assert value("ece", [[0.75, 0.25]], [[0.5, 0.5]], True) == pytest.approx(0.25)


def test_risk_coverage_by_hand():
    votes = [[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]
    predicted = [[0.9, 0.1], [0.4, 0.6], [0.8, 0.2]]  # the least confident one is wrong
    assert value("aurc", predicted, votes) == pytest.approx((0 + 0 + 1 / 3) / 3)
    assert value("aurc", predicted, votes, True) == pytest.approx((0 + 0 + 1 / 3) / 3)
    predicted = [[0.9, 0.1], [0.1, 0.9], [0.8, 0.2]]  # one of the two most confident ones is wrong
    assert value("aurc", predicted, votes, True) == pytest.approx((1 / 2 + 1 / 2 + 1 / 3) / 3)


# -- against libraries and slow versions -------------------------------------------------------------------------------
@pytest.mark.parametrize("single_label", [False, True])
def test_libraries_give_the_same_numbers(single_label):
    """Jensen-Shannon, Manhattan and total variation of scipy.spatial.distance, entropies and Pearson's r of
    scipy.stats, the Brier score and calibration curve of scikit-learn on one row a vote: to 10 digits."""
    predicted, votes = sample(single_label=single_label)

    def compare(name, expected):
        assert value(name, predicted, votes, single_label) == pytest.approx(expected, rel=1e-10, abs=1e-10)

    def distributions(row):
        return [row] if single_label else [[each, 1 - each] for each in row]

    pairs = [list(zip(*map(distributions, pair), strict=True)) for pair in zip(predicted, votes, strict=True)]
    distances = np.array([[jensenshannon(p, h, base=2) for p, h in row] for row in pairs])
    compare("js_distance", distances.mean())
    compare("js_divergence", (distances**2).mean())
    compare("manhattan", np.mean([[cityblock(p, h) for p, h in row] for row in pairs]))
    compare("dist_ce", np.mean([[cityblock(p, h) / 2 for p, h in row] for row in pairs]))
    entropies = np.array([[(entropy(p), entropy(h)) for p, h in row] for row in pairs])
    compare("ent_ce", np.abs(entropies[..., 0] - entropies[..., 1]).mean())
    correlations = [pearsonr(*entropies[:, label].T).statistic for label in range(entropies.shape[1])]
    compare("entropy_correlation", np.mean(correlations))

    counts = np.round(votes * 5).astype(int)
    if single_label:
        chosen = np.concatenate([np.repeat(np.arange(4), row) for row in counts])
        compare("brier", brier_score_loss(chosen, np.repeat(predicted, 5, axis=0), labels=np.arange(4)))
        top = predicted.argmax(axis=1)
        probabilities, yes = predicted.max(axis=1), counts[np.arange(len(top)), top]
    else:
        probabilities, yes = predicted.ravel(), counts.ravel()
    outcomes = np.concatenate([np.repeat([1, 0], [each, 5 - each]) for each in yes])
    if not single_label:
        compare("brier", brier_score_loss(outcomes, np.repeat(probabilities, 5)))
    share, mean = calibration_curve(outcomes, np.repeat(probabilities, 5), n_bins=10)
    weights = np.histogram(probabilities, np.linspace(0, 1, 11))[0]
    compare("ece", (np.abs(share - mean) * weights[weights > 0]).sum() / weights.sum())


def test_soft_f1_of_sets_is_f1():
    """Where shares and predictions are 0 or 1, soft F1 is scikit-learn's F1, to 12 digits."""
    rng = np.random.default_rng(0)
    predicted, votes = (rng.random((2, 80, 5)) < 0.3).astype(float)
    for average in ("micro", "macro"):
        expected = f1_score(votes, predicted, average=average)
        assert value(f"soft_{average}_f1", predicted, votes) == pytest.approx(expected, rel=1e-12)


def test_ranks_without_ties_are_those_of_argsort():
    rng = np.random.default_rng(0)
    votes = rng.dirichlet(np.ones(3), 500)
    predicted = (votes + rng.dirichlet(np.ones(3), 500)) / 2
    expected = (predicted.argsort(axis=1) == votes.argsort(axis=1)).all(axis=1)
    assert 0.2 < expected.mean() < 0.9
    assert (measures.rank_agreement(predicted, votes, True) == expected).all()


def test_risk_coverage_is_the_mean_over_all_orders_of_tied_documents():
    rng = np.random.default_rng(1)
    votes, predicted = np.eye(2)[[0, 0, 0, 0, 1]], rng.choice([0.2, 0.4, 0.6], (5, 1))
    predicted = np.hstack([predicted, 1 - predicted])
    confidence, wrong = predicted.max(axis=1), predicted.argmax(axis=1) != votes.argmax(axis=1)
    areas = []
    for order in itertools.permutations(range(5)):
        if (np.diff(confidence[list(order)]) <= 0).all():
            areas.append((wrong[list(order)].cumsum() / np.arange(1, 6)).mean())
    assert len(areas) > 1 and 0 < wrong.mean() < 1
    assert value("aurc", predicted, votes, True) == pytest.approx(np.mean(areas))


def test_calibration_by_chance_is_that_of_drawn_votes():
    rng = np.random.default_rng(0)
    predicted = rng.beta(0.5, 1.5, (200, 6))
    drawn = [value("ece", predicted, rng.binomial(3, predicted) / 3) for _ in range(400)]
    by_chance = value("ece_by_chance", predicted, predicted, annotators=np.full(200, 3))
    assert by_chance == pytest.approx(np.mean(drawn), rel=0.03)


# -- all of them -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", MEASURED)
@pytest.mark.parametrize("single_label", [False, True])
def test_a_document_that_counts_twice_is_there_twice(name, single_label):
    predicted, votes = sample(30, single_label=single_label)
    predicted[3], votes[4] = predicted[5], votes[2]
    annotators = np.arange(30) % 4 + 2
    counts = np.random.default_rng(2).multinomial(30, np.full(30, 1 / 30), 8).astype(float)
    found = measure(name, predicted, votes, annotators, single_label, counts)
    for row, count in zip(found, counts.astype(int), strict=True):
        repeated = [np.repeat(each, count, axis=0) for each in (predicted, votes)]
        assert row == pytest.approx(value(name, *repeated, single_label, np.repeat(annotators, count)), rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(arrays(float, (6, 3), elements=st.floats(0, 1)), st.booleans())
def test_right_predictions_have_the_best_scores(votes, single_label):
    if single_label:
        votes = (votes + 0.01) / (votes + 0.01).sum(axis=1, keepdims=True)
    for name in DISTANCES:
        assert value(name, votes, votes, single_label) == pytest.approx(0, abs=1e-7)
    assert value("rank_cs", votes, votes, single_label) == 1
    if votes.sum() > 0:
        assert value("soft_micro_f1", votes, votes, single_label) == pytest.approx(1)
        assert value("soft_macro_f1", votes, votes, single_label) == pytest.approx(1)


def test_measures_are_folded_away_and_refuse_what_metrics_refuse():
    assert not any(each.printed for each in MEASURES.values())
    assert all((each.function is None) == bool(each.corrects) for each in MEASURES.values())
    for name in MEASURED:
        with pytest.raises(ValueError, match="sum to one"):
            value(name, [[0.9, 0.9]], [[1.0, 0.0]], True)
        with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
            value(name, [[1.2, 0.9]], [[1.0, 0.0]])
