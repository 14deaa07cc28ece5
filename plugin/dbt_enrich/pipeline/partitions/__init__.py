"""Rows that are worked on where they lie: what is done there, and what the driver makes of it."""
