"""The report: what came out of the runs, read from warehouse and ledger, for people to look at."""
