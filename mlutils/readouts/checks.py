"""What readouts refuse, naming the rows."""

import numpy as np
from numpy.typing import ArrayLike


def refuse_rows(bad: ArrayLike, problem: str) -> None:
    """Raises ValueError where a document is marked in `bad` (D,), with how many there are and the first of them."""
    rows = np.flatnonzero(bad)
    if rows.size:
        raise ValueError(f"{problem} in {rows.size} of {len(bad)} documents (first rows {rows[:5].tolist()})")


def check_steps(steps: ArrayLike, bounded: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Returns the steps (D, R, L + 1) and which of them are there, bool (D, R).

    Raises ValueError for what cannot be a padded list, and, where `bounded`, for probabilities outside [0, 1].
    """
    steps = np.asarray(steps, dtype=float)
    if steps.ndim != 3 or steps.shape[2] < 2:
        raise ValueError(f"steps must have shape (D, R, L + 1), none last; got {steps.shape}")
    present = ~np.isnan(steps).all(axis=2)
    broken = present & ~np.isfinite(steps).all(axis=2)
    refuse_rows(broken.any(axis=1), "a label step is NaN in part or infinite")
    refuse_rows((present[:, 1:] & ~present[:, :-1]).any(axis=1), "a label step comes after a missing one")
    if bounded:
        outside = present & ((steps < -1e-9) | (steps > 1 + 1e-9)).any(axis=2)
        refuse_rows(outside.any(axis=1), "a step probability is outside [0, 1]; pass logits through step_distributions")
    return steps, present
