"""How far annotators agree: the quantities of Table 1."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mlutils.corpora.corpus import Corpus


def describe(corpus: Corpus) -> dict:
    """Returns Table 1's row of a corpus: annotators, agreement, percent of documents with 0, 1, 2, 3+ gold labels.

    `kappa` is the mean pairwise Cohen's kappa where annotators are named (`kappa_kind` "cohen"), else Fleiss' kappa
    from vote shares ("fleiss"), else NaN (None); `fleiss_kappa` is given wherever there are votes, because Cohen's is
    drawn towards 0 where two annotators share few documents. `annotators_total` is NaN where they are not named.
    `undecided` counts posts of a single-label corpus that have votes but no majority.
    """
    labels = np.minimum(corpus.gold.sum(axis=1), 3)
    percent = 100 * np.bincount(labels, minlength=4) / max(len(corpus), 1)
    voted = corpus.annotators > 0
    fleiss = fleiss_kappa(corpus.votes, corpus.annotators, corpus.single_label)
    kappa, kind = fleiss, "fleiss" if voted.any() else None
    if corpus.annotations is not None and len(corpus.annotations):
        kappa, kind = cohen_kappa(corpus.annotations, corpus.labels, corpus.single_label), "cohen"
    named = corpus.annotations is not None
    return {
        "documents": len(corpus),
        "documents_with_votes": int(corpus.has_votes.sum()),
        "annotators_total": corpus.annotations["annotator"].nunique() if named else np.nan,
        "annotators_per_document": float(corpus.annotators[voted].mean()) if voted.any() else np.nan,
        "kappa": kappa,
        "kappa_kind": kind,
        "fleiss_kappa": fleiss,
        **{f"labels_{name}_pct": float(value) for name, value in zip(("0", "1", "2", "3plus"), percent, strict=True)},
        "undecided": int((voted & (labels == 0)).sum()) if corpus.single_label else 0,
    }


def cohen_kappa(annotations: pd.DataFrame, labels: tuple[str, ...], single_label: bool = False) -> float:
    """Returns the mean Cohen's kappa of pairs of annotators, weighted by the documents that they share.

    Of multi-label sets one kappa a label (chosen or not), then the mean over labels; of single-label sets one kappa
    over the classes. Pairs whose kappa is undefined (both always gave the same one answer) are left out. annotations:
    id, annotator, one bool column a label.
    """
    labels = list(labels)
    table = annotations[["id", "annotator"]].assign(row=np.arange(len(annotations)))
    pairs = table.merge(table, on="id", suffixes=("_1", "_2"))
    pairs = pairs[pairs["annotator_1"] < pairs["annotator_2"]]
    if pairs.empty:
        return float("nan")
    chosen = annotations[labels].to_numpy(dtype=bool)
    first, second = chosen[pairs["row_1"]], chosen[pairs["row_2"]]  # (pairs of annotations, L)
    group = pairs.groupby(["annotator_1", "annotator_2"]).ngroup().to_numpy()
    shared = np.bincount(group).astype(float)[:, None]  # documents a pair shares

    def mean(flags):  # (pairs of annotations, L) -> (pairs of annotators, L)
        sums = np.stack([np.bincount(group, weights=flags[:, label]) for label in range(len(labels))], axis=1)
        return sums / shared

    share_1, share_2, both = mean(first), mean(second), mean(first & second)
    if single_label:
        observed, expected = both.sum(axis=1, keepdims=True), (share_1 * share_2).sum(axis=1, keepdims=True)
    else:
        observed = 1 - share_1 - share_2 + 2 * both
        expected = share_1 * share_2 + (1 - share_1) * (1 - share_2)
    return _mean_kappa(observed, expected, shared)


def _mean_kappa(observed, expected, weights):
    """Returns the mean kappa, over pairs by weight and then over labels; (P, L) each, weights (P, 1)."""
    defined = expected < 1 - 1e-12
    kappa = np.where(defined, (observed - expected) / np.where(defined, 1 - expected, 1), 0)
    total = (weights * defined).sum(axis=0)
    means = (weights * kappa).sum(axis=0)[total > 0] / total[total > 0]
    return float(means.mean()) if means.size else float("nan")


def fleiss_kappa(votes: ArrayLike, annotators: ArrayLike, single_label: bool = False) -> float:
    """Returns Fleiss' kappa from vote shares (D, L) of n annotators (D,), documents with n >= 2, mean over labels.

    Of single-label sets one kappa over the classes. Where n varies, agreement is averaged over documents and chance
    agreement comes from all annotations together.
    """
    votes, annotators = np.asarray(votes, float), np.asarray(annotators)
    kept = (annotators >= 2) & ~np.isnan(votes).any(axis=1)
    if not kept.any():
        return float("nan")
    n = annotators[kept][:, None].astype(float)
    counts = votes[kept] * n  # (documents kept, L)
    share = counts.sum(axis=0) / n.sum()  # (L,)
    if single_label:
        observed = ((counts * (counts - 1)).sum(axis=1, keepdims=True) / (n * (n - 1))).mean(axis=0)
        expected = np.array([(share**2).sum()])
    else:
        observed = ((counts * (counts - 1) + (n - counts) * (n - counts - 1)) / (n * (n - 1))).mean(axis=0)
        expected = share**2 + (1 - share) ** 2
    return _mean_kappa(observed[None], expected[None], np.ones((1, 1)))
