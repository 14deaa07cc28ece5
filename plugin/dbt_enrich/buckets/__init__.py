"""Buckets: objects by name, in a cloud or a directory, and what a runner may do there."""
