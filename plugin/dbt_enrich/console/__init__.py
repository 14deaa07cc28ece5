"""All that a user reads while a run waits."""
