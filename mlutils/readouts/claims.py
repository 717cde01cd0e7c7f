"""Verdicts on the paper's claims C1-C13: a statistic, named before looking, against the value that decides it.

Twenty copies of one answer are one case. So beside n stands how many *different answers* its cases come to: the
exponential of the entropy of how often each list is given to the documents that n counts (each once; a list is the
different labels that are said, in their order), and in the smallest group where groups are compared. A claim about
lists cannot be told below FEWEST_ANSWERS of them, whatever n is. About lists are C1 to C10: their statistics read what
generated answers say, or label steps of them. C11 and C12 score readouts against annotators: they are about documents,
and their number of different answers stays empty.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

VERDICTS = ("holds", "does not hold", "cannot be told here")
FEWEST = 10  # documents or steps below which nothing is said
FEWEST_ANSWERS = 5  # different answers below which nothing is said about lists
ABOUT_DOCUMENTS = ("C11", "C12")  # all others are about lists
COLUMNS = ["claim", "model", "corpus", "statistic", "value", "low", "high", "n", "different", "decides", "verdict"]


@dataclass(frozen=True)
class Statistic:
    """What decides a claim: it holds where the value is `above` (or not above) `than`."""

    claim: str  # C1 ... C13
    name: str
    than: float
    above: bool = True

    @property
    def is_about_lists(self) -> bool:
        """Returns whether what it reads are answers or label steps of them."""
        return self.claim not in ABOUT_DOCUMENTS

    @property
    def rule(self) -> str:
        """Returns the rule in words."""
        return f"{'above' if self.above else 'below'} {self.than:g}"


def judge(
    statistic: Statistic,
    model: str,
    corpus: str,
    value: float,
    low: float,
    high: float,
    n: int,
    place: str = "",
    different: float = np.nan,
) -> dict:
    """Returns a row of the verdict table: COLUMNS.

    The claim holds (or does not) where the whole 95 % interval says so; otherwise, for fewer than FEWEST cases, and
    about lists for fewer than FEWEST_ANSWERS different answers (or an unknown number), it cannot be told here. Missing
    values (NaN) cannot be told. place: which prompts or documents, where a corpus is judged more than once; in
    parentheses behind the statistic's name. different: `answers.count_different` of the n cases, in the group with the
    fewest where groups are compared; left empty where the claim is about documents.
    """
    low, high = (value if np.isnan(end) else end for end in (low, high))
    right = (low > statistic.than, high < statistic.than)
    yes, no = right if statistic.above else right[::-1]
    different = different if statistic.is_about_lists else np.nan
    told = n >= FEWEST and not np.isnan(value) and (different >= FEWEST_ANSWERS or not statistic.is_about_lists)
    verdict = VERDICTS[0] if told and yes else VERDICTS[1] if told and no else VERDICTS[2]
    named = {
        "claim": statistic.claim,
        "statistic": f"{statistic.name} ({place})" if place else statistic.name,
        "decides": statistic.rule,
    }
    row = {"model": model, "corpus": corpus, "value": value, "low": low, "high": high, "n": n, "different": different}
    return {name: (named | row | {"verdict": verdict})[name] for name in COLUMNS}


def tabulate(rows: list[dict]) -> pd.DataFrame:
    """Returns rows of `judge` as a table in the order of the claims."""
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.sort_values("claim", key=lambda claims: claims.str[1:].astype(int), kind="stable", ignore_index=True)
