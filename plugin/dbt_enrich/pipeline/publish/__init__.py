"""Publish: the answers of the staged rows as SQL that builds the tables."""
