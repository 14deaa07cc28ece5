"""How a batch and a file move from state to state: at once, by polls or by time.

Declared by tests over the control plane, on an injected clock, so that no test has to sleep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

STAGES = ("file", "validating", "in_progress", "finalizing", "cancelling")
Kind = Literal["immediate", "polls", "time", "never"]


@dataclass(frozen=True)
class Transition:
    """When a state ends.

    Attributes:
        kind: `immediate`, after a number of `polls`, after `time` in seconds, or `never`.
        amount: The polls or seconds.
    """

    kind: Kind = "immediate"
    amount: float = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(
                f"unknown kind of transition '{self.kind}'; the kinds are "
                f"{', '.join(get_args(Kind))}"
            )

    def is_over(self, *, polls: int, seconds: float) -> bool:
        """Whether the state ends after so many polls and seconds in it."""
        match self.kind:
            case "immediate":
                return True
            case "polls":
                return polls >= self.amount
            case "time":
                return seconds >= self.amount
        return False


@dataclass(frozen=True)
class Transitions:
    """The transitions of all stages."""

    file: Transition = Transition()
    validating: Transition = Transition()
    in_progress: Transition = Transition()
    finalizing: Transition = Transition()
    cancelling: Transition = Transition()

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Transitions:
        """Read `{"validating": {"kind": "polls", "amount": 2}, …}`.

        Raises:
            ValueError: A stage or kind is unknown.
        """
        unknown = set(document) - set(STAGES)
        if unknown:
            raise ValueError(f"unknown stage {', '.join(sorted(unknown))}")
        return cls(**{stage: Transition(**value) for stage, value in document.items()})
