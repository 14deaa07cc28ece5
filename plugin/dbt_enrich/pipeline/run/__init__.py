"""Run: files to the service, batches awaited, answers downloaded."""
