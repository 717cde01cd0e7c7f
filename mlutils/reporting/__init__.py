"""Draws, tabulates and renders what readouts found: figures with their texts, tables, and pages for readers."""

from mlutils.reporting import (
    alignment,
    attention,
    changes,
    changes_tables,
    corpora,
    drawing,
    hidden,
    learning,
    medusa,
    sets,
    steps,
    variants,
)

__all__ = [
    "alignment",
    "attention",
    "changes",
    "changes_tables",
    "corpora",
    "drawing",
    "hidden",
    "learning",
    "medusa",
    "sets",
    "steps",
    "variants",
]
