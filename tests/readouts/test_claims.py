"""Verdicts by hand."""

import math

import pytest

from mlutils.readouts import claims
from mlutils.readouts.claims import Statistic, judge


@pytest.mark.parametrize(
    ("value", "low", "high", "n", "verdict"),
    [
        (0.9, 0.8, 0.95, 50, "holds"),
        (0.4, 0.3, 0.49, 50, "does not hold"),
        (0.52, 0.45, 0.6, 50, "cannot be told here"),
        (0.9, 0.8, 0.95, 9, "cannot be told here"),  # too few
        (math.nan, math.nan, math.nan, 50, "cannot be told here"),
    ],
)
def test_the_whole_interval_decides(value, low, high, n, verdict):
    spiky = Statistic("C1", "median of the largest step probability", 0.5)
    row = judge(spiky, "m", "mfrc", value, low, high, n, different=5)
    assert list(row) == claims.COLUMNS and row["verdict"] == verdict and row["decides"] == "above 0.5"
    opposite = judge(Statistic("C1", "entropy", 0.5, above=False), "m", "mfrc", value, low, high, n, different=5)[
        "verdict"
    ]
    swapped = {"holds": "does not hold", "does not hold": "holds"}
    assert opposite == swapped.get(verdict, verdict)


def test_claims_come_in_their_order():
    rows = [judge(Statistic(claim, "s", 0), "m", "c", 1, 1, 1, 20) for claim in ("C10", "C2", "C1")]
    assert claims.tabulate(rows)["claim"].tolist() == ["C1", "C2", "C10"]
    assert claims.tabulate([]).columns.tolist() == claims.COLUMNS


@pytest.mark.parametrize("claim", [f"C{number}" for number in range(1, 14)])
def test_below_five_different_answers_nothing_is_said_about_lists(claim):
    """All claims but C11 and C12, which score documents, are about lists; n is no help."""
    rows = [judge(Statistic(claim, "s", 0), "m", "c", 1, 0.9, 1.1, 1000, "p", k) for k in (4.99, math.nan, 5)]
    about_documents = claim in ("C11", "C12")
    assert [row["verdict"] for row in rows] == [claims.VERDICTS[0 if about_documents else 2]] * 2 + [claims.VERDICTS[0]]
    assert [math.isnan(row["different"]) for row in rows] == [about_documents, True, about_documents]
