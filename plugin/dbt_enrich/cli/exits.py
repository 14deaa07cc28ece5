"""The exit codes of the commands."""

from __future__ import annotations

# Everything that was asked is answered.
DONE = 0
# Something is wrong; the message says what. click itself uses 2 for a wrong command line.
ERROR = 1
# Batches are still at the service.
PENDING = 3
# Rows failed for good.
FAILED_ROWS = 4
