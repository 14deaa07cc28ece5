"""Answers and batches that the state directory does not know of (any more)."""
