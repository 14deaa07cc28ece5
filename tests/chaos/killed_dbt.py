"""dbt in a process that kills itself with SIGKILL at one moment of the ledger.

KILL_AT is `<step>:before` or `<step>:after`: before a step is written, so that what it stands for
has happened and nothing says so; or after, so that what it announces has not happened yet.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from dbt.cli.main import cli
from dbt_enrich.ledger import Ledger, Shard, Step

_STEP, _MOMENT = os.environ["KILL_AT"].split(":")


def _killing(method: Callable[..., Any], step_of: Callable[..., Step]) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **named: Any) -> Any:
        hit = step_of(*arguments, **named) == _STEP
        if hit and _MOMENT == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = method(*arguments, **named)
        if hit and _MOMENT == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return wrapped


def _added(_: Ledger, shard: Shard, **__: Any) -> Step:
    return shard.step


def _recorded(_: Ledger, __: str, step: Step, **___: Any) -> Step:
    return step


def _stored(*_: Any, **__: Any) -> Step:
    return Step.STORED


Ledger.add = _killing(Ledger.add, _added)  # type: ignore[method-assign]
Ledger.record = _killing(Ledger.record, _recorded)  # type: ignore[method-assign]
Ledger.store = _killing(Ledger.store, _stored)  # type: ignore[method-assign]
cli()
