"""The ledger's tables, one a module."""
