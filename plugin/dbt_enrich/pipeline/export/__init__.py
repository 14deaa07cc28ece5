"""Export: what is new, claimed in the ledger and written as request files."""
