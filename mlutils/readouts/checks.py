"""What readouts refuse, naming the rows."""

import numpy as np


def refuse_rows(bad, problem) -> None:
    """Raises ValueError where a document is marked in `bad` (D,), with how many there are and the first of them."""
    rows = np.flatnonzero(bad)
    if rows.size:
        raise ValueError(f"{problem} in {rows.size} of {len(bad)} documents (first rows {rows[:5].tolist()})")
