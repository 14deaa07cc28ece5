"""One contender in a process of its own.

    python -m benchmarks.contend NAME DIRECTORY [--shape usual] [--scarce] [BYTES ...]

It prints its figures as JSON. What it needs is imported, and lies in the directory, before its
clock starts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.measuring import Clock
from benchmarks.movies import SHAPES


def main() -> None:
    """Run the contender of a name."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=("dbt-enrich", "notebook", "floor"))
    parser.add_argument("directory", type=Path)
    parser.add_argument("bytes", type=int, nargs="*", help="of the floor's requests and responses")
    parser.add_argument("--shape", choices=SHAPES, default="usual")
    parser.add_argument("--scarce", action="store_true", help="whether memory is scarce")
    given = parser.parse_args()
    if given.name == "dbt-enrich":
        from benchmarks import engine

        clock = Clock()
        engine.run(given.directory, clock, given.shape, memory_is_scarce=given.scarce)
    elif given.name == "notebook":
        from benchmarks import notebook

        clock = Clock()
        notebook.run(given.directory, clock, given.shape)
    else:
        from benchmarks import floor

        clock = Clock()
        floor.run(given.directory, clock, *given.bytes)
    clock.report()


if __name__ == "__main__":
    main()
