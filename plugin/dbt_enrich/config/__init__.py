"""The profile's block: what a user may set, read and checked once."""
