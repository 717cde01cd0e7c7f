"""Draws, tabulates and renders what readouts found: figures with their texts, tables, and pages for readers."""

from mlutils.reporting import attention, changes, hidden, sets, steps, variants

__all__ = ["attention", "changes", "hidden", "sets", "steps", "variants"]
