"""Reads answers out of traces: label steps to quantities, stored logits to label probabilities. Loads no model."""

from mlutils.readouts import alignment, attention, bradley_terry, changes, claims, medusa, sets, steps, ties, variants
from mlutils.readouts.methods import METHODS, Method, from_trace, readable, select
from mlutils.readouts.probabilities import (
    compare_to_none,
    first_step_softmax,
    hard,
    hard_single,
    max_over_generations,
    pairwise,
    pairwise_single,
    pairwise_with_position,
    path_marginal,
    step_distributions,
    unary,
    unary_single,
)

__all__ = [
    "METHODS",
    "Method",
    "alignment",
    "attention",
    "bradley_terry",
    "changes",
    "claims",
    "compare_to_none",
    "first_step_softmax",
    "from_trace",
    "hard",
    "hard_single",
    "max_over_generations",
    "medusa",
    "pairwise",
    "pairwise_single",
    "pairwise_with_position",
    "path_marginal",
    "readable",
    "select",
    "sets",
    "step_distributions",
    "steps",
    "ties",
    "unary",
    "unary_single",
    "variants",
]
