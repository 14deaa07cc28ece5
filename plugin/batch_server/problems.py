"""What keeps the batch server from its work, for those who start it; `errors.py` has its replies.

BatchServerError
└── SetupError      an option, a file or an installation is wrong; nothing was done
"""

from __future__ import annotations


class BatchServerError(Exception):
    """The batch server cannot go on. Its text says what happened and what to do.

    Attributes:
        problem: What is wrong, and of which option, file or address.
        fix: What to do about it, as an imperative phrase; empty where nothing can be done.
    """

    def __init__(self, problem: str, *, fix: str = "") -> None:
        super().__init__(f"{problem}; {fix}" if fix else problem)
        self.problem = problem
        self.fix = fix


class SetupError(BatchServerError):
    """An option, a file or an installation is wrong. Raised before anything is done."""
