"""The views `ratio` and `order`: greedy lists again, with other demonstrations or labels in another order.

`ratio` changes the share of demonstrations with two or more labels (Fig. 6), `order` the order of labels in the
instruction and in the demonstrations' answers (Table 7). Each variant is a list view of its own; rows carry its name.

Which documents are shown may matter as much as how many of them have several labels. So `ratio` draws PLANS plans for
each share, and documents take turns: document i is shown plan i mod PLANS. They are asked plan by plan, so that the
engine computes the demonstrations of each plan once a run.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from mlutils.tracing import demonstrations
from mlutils.tracing.models import Model
from mlutils.tracing.prompting import Prompting
from mlutils.tracing.steps import ListView

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # of demonstrations with two or more labels
PLANS = 10  # of demonstrations, for each share
SEEDS = (1, 2, 3)  # of random orders


def vary_ratio(prompting: Prompting) -> dict:
    """Returns a prompting for each share of multi-label demonstrations, by the name of its variant, `ratio=0.2`.

    Plans are drawn from the seed of the prompting's own plan: PLANS for each share, which documents take turns with, or
    one a document where the prompting's is. Raises ValueError for single-label sets, and where train has too few
    documents of a kind.
    """
    if prompting.corpus.single_label:
        raise ValueError(f"{prompting.corpus.name} has one label a document: the view ratio has nothing to vary")
    plan, asked = prompting.plan, prompting.corpus.documents["id"]
    shots, queries = len(plan.ids[0]), min(PLANS, len(asked)) if plan.shared else len(plan.ids)
    found = {}
    for share in SHARES:
        drawn = demonstrations.draw(
            prompting.train, shots, "multilabel", share, shared=False, queries=queries, seed=plan.seed, exclude=asked
        )
        found[f"ratio={share:g}"] = replace(prompting, plan=drawn)
    return found


def vary_order(prompting: Prompting) -> dict:
    """Returns a prompting for each order of labels, by the name of its variant, `order=reversed`.

    Labels are listed alphabetically, reversed, and in SEEDS random orders; demonstrations' answers follow the
    instruction, or stay alphabetical where `prompting.answer_order` says so.
    """
    labels = sorted(prompting.corpus.labels)
    orders = {"alphabetical": labels, "reversed": labels[::-1]}
    orders |= {f"random-{seed}": np.random.default_rng(seed).permutation(labels).tolist() for seed in SEEDS}
    return {f"order={name}": replace(prompting, label_order=tuple(order)) for name, order in orders.items()}


class Total:
    """The work of several engines as one."""

    def __init__(self, engines: Sequence):
        self.engines = list(engines)

    @property
    def tokens(self) -> int:
        """Returns the tokens that all of them ran."""
        return sum(engine.tokens for engine in self.engines)

    @property
    def passes(self) -> int:
        """Returns the passes that all of them took."""
        return sum(engine.passes for engine in self.engines)


class VariantsView:
    """Greedy lists for each variant of the prompts."""

    name: str

    def __init__(self, model: Model, prompting: Prompting):
        self.views = [ListView(model, varied, name) for name, varied in self.vary(prompting).items()]
        self.engine = Total([view.engine for view in self.views])
        self.plan_of = self.views[0].prompting.plan.of  # the same for all variants
        self.order = sorted(range(len(prompting.corpus)), key=self.plan_of)

    @staticmethod
    def vary(prompting: Prompting) -> dict:
        """Returns the promptings of the variants by name."""
        raise NotImplementedError

    def ask(self, rows: Sequence[int]) -> tuple[dict[str, list[dict]], None]:
        """Returns rows of answers, steps and failures of all variants for some documents.

        `rows` are places in the order of asking, `order`: documents that are shown the same plan stand together, and an
        engine keeps what they share from one call to the next.
        """
        tables = {"answers": [], "steps": [], "failures": []}
        for view in self.views:
            for _, together in groupby((self.order[row] for row in rows), self.plan_of):
                for name, found in view.ask(list(together))[0].items():
                    tables[name] += found
        return tables, None


class RatioView(VariantsView):
    """Greedy lists behind demonstrations of which 0, 20, ... 100 % have two or more labels (Fig. 6)."""

    name, vary = "ratio", staticmethod(vary_ratio)


class OrderView(VariantsView):
    """Greedy lists with labels listed in other orders (Table 7)."""

    name, vary = "order", staticmethod(vary_order)
