"""Which documents encoders learn from, and how much each counts: thinned, weighted by a design, never tested ones."""

import re
from collections.abc import Sequence

import numpy as np

from mlutils.corpora import Corpus
from mlutils.corpora.sampling import share_evenly, strata
from mlutils.training.encoder.network import EncoderError

MAIN = 200  # documents of the paper's main test set


def check_disjoint(corpus: Corpus, tested: Sequence[Corpus]) -> None:
    """Raises EncoderError where a training document is tested, by id or by text, or where labels differ."""
    for other in tested:
        if other.labels != corpus.labels:
            raise EncoderError(f"labels differ: trained on {corpus.labels}, tested on {other.labels}")
        for kind, plain in (("id", str), ("text", lambda text: re.sub(r"\s+", " ", text).strip().casefold())):
            known = set(map(plain, other.documents[kind]))
            shared = [each for each in corpus.documents[kind] if plain(each) in known]
            if shared:
                raise EncoderError(
                    f"{len(shared)} training documents are also tested, by {kind}, e.g. {shared[0][:60]!r}; "
                    "take corpora.training_documents(tested), and split_training of that"
                )


def design_weights(corpus: Corpus, pool: int | None = None) -> np.ndarray:
    """Returns weights (D,), mean 1, under which a natural sample looks like the paper's main test set.

    That set is as even as possible over {no, one, several labels} x {agree, disagree}: a stratum's weight is its share
    of such a sample, drawn from `pool` documents (not given: as many as here) in which strata are as frequent as here,
    over its share here. Only the published design is used, no test document. Documents in no stratum weigh 0.
    """
    stratum = strata(corpus)
    found, sizes = np.unique(stratum[stratum >= 0], return_counts=True)
    room = sizes * (1 if pool is None else pool / sizes.sum())
    quotas = share_evenly([max(1, round(each)) for each in room], MAIN)
    by_stratum = dict(zip(found, np.array(quotas) / sizes, strict=True))
    designed = np.array([by_stratum.get(each, 0.0) for each in stratum])
    return designed / designed.mean()


def thin(corpus: Corpus, share: float, seed: int = 0) -> tuple[Corpus, np.ndarray]:
    """Returns the corpus with only a share of the documents on which all annotators agree that no label holds,
    and weights (D,) that make up for those left out: less to train on, nearly nothing lost.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1; got {share}")
    easy = np.flatnonzero(corpus.has_votes & (corpus.votes == 0).all(axis=1))
    left_out = np.random.default_rng(seed).permutation(easy)[round(share * len(easy)) :]
    weights = np.ones(len(corpus))
    weights[easy] = len(easy) / max(1, len(easy) - len(left_out))
    kept = np.setdiff1d(np.arange(len(corpus)), left_out)
    return corpus.take(kept), weights[kept]
