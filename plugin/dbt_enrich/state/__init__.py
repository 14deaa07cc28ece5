"""What survives a crash: ledger, answer store, files, and who is alive."""
