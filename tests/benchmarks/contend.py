"""One contender in a process of its own.

    python -m benchmarks.contend NAME DIRECTORY [ARGUMENT ...]

It prints its figures as JSON. What it needs is imported, and lies in the directory, before its
clock starts.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.measuring import Clock


def main(name: str, directory: Path, arguments: list[str]) -> None:
    """Run the contender of a name."""
    if name == "dbt-enrich":
        from benchmarks import engine

        clock = Clock()
        engine.run(directory, clock)
    elif name == "notebook":
        from benchmarks import notebook

        clock = Clock()
        notebook.run(directory, clock)
    elif name == "floor":
        from benchmarks import floor

        clock = Clock()
        floor.run(directory, clock, *map(int, arguments))
    elif name == "nothing-new":
        from benchmarks import engine

        clock = Clock()
        with engine.open_warehouse(directory / "movies.duckdb") as warehouse:
            for mode, step in (("plan", "plan"), ("run", "rebuild")):
                with clock.step(step):
                    engine.enrich(Path(arguments[0]), warehouse, mode)
    else:
        raise SystemExit(f"no contender is named {name}")
    clock.report()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
