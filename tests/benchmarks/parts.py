"""The parts of the benchmarks: who contends, at which sizes, and how often."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import dbt_run, emulator, quality, tokens
from benchmarks.contest import Contest, contest
from benchmarks.engine import make_answers
from benchmarks.films import make_films
from benchmarks.measuring import REPOSITORY, Figures, in_fresh_process
from benchmarks.peers.environments import PEERS, Peer, environment
from benchmarks.results import Result
from benchmarks.service import running_service

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
# At this many rows three rounds are enough, and the notebook's memory is not.
_LARGEST = 10_000_000
_RUNS, _RUNS_OF_LARGEST = 5, 3
# Answers to one row that is there, and files that hold them, for one file of the smallest store.
_STORES = (1, 3, 10)
_STORE_FILES = 100
# Films that the packaged model is asked about, of a thousand.
_FILMS_ASKED = 60
FILMS = REPOSITORY.parent / "shared" / "data" / "imdb_top_1000.csv"


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        root: Where environments, scratch files and results are.
        sizes: Rows of export and load.
        rows: Rows of the other parts, in place of their own.
        runs: Rounds, in place of the usual five and three.
        films: The CSV file of real films.
    """

    root: Path
    sizes: tuple[int, ...] = SIZES
    rows: int | None = None
    runs: int | None = None
    films: Path = FILMS

    @property
    def scratch(self) -> Path:
        """Where files are that are removed afterwards."""
        return self.root / "scratch"

    def rounds(self, rows: int) -> range:
        """Return the numbers of the rounds at so many rows."""
        usual = _RUNS_OF_LARGEST if rows >= _LARGEST else _RUNS
        return range(1, (self.runs or usual) + 1)


# Each yields its result after every round, so that what was measured is kept.
Part = Callable[[Plan], Iterator[Result]]


def sides(plan: Plan) -> Iterator[Result]:
    """Export and load: the engine, the notebook and the floor."""
    for rows in plan.sizes:
        result = Result("sides", rows)
        with contest(rows, plan.scratch) as held:
            for _ in plan.rounds(rows):
                found = {"dbt-enrich": held.contend("dbt-enrich")}
                result.rounds.append(found)
                if rows < _LARGEST:
                    found["notebook"] = held.contend("notebook")
                found["floor"] = held.contend("floor", *_bytes(found["dbt-enrich"]))
                yield result


def peers(plan: Plan) -> Iterator[Result]:
    """Export and load: the engine, and each peer that takes so many rows in about a minute."""
    for rows in (plan.rows,) if plan.rows else (10_000, 100_000):
        result = Result("peers", rows)
        entrants = [peer for peer in PEERS if rows <= peer.rows]
        with contest(rows, plan.scratch) as held:
            for _ in plan.rounds(rows):
                found = {"dbt-enrich": held.contend("dbt-enrich")}
                result.rounds.append(found)
                for peer in entrants:
                    if peer.name not in result.missing:
                        _enter(peer, held, plan, found, result.missing)
                yield result


def _enter(
    peer: Peer, held: Contest, plan: Plan, found: dict[str, Figures], missing: dict[str, str]
) -> None:
    """Let a peer contend, or note why it cannot."""
    try:
        python = environment(peer, plan.root / "environments")
        with (
            tempfile.TemporaryDirectory(dir=plan.scratch) as directory,
            running_service(Path(directory)) as service,
        ):
            found[peer.name] = held.contend_elsewhere(
                f"benchmarks.peers.{peer.module}", python, [f"{service.url}/v1", service.api_key]
            )
    except RuntimeError as error:
        missing[peer.name] = str(error)


def nothing_new(plan: Plan) -> Iterator[Result]:
    """Plan and rebuild, where every row is answered: the answer store grows, the rows do not."""
    rows = plan.rows or 1_000_000
    result = Result("nothing-new", rows)
    with contest(rows, plan.scratch) as held, held.place() as directory:
        for times in _STORES:
            files, store = _STORE_FILES * times, directory / f"store-{times}"
            make_answers(store, rows, rows * times, files)
            # The table is there already, as it is where nothing is new.
            in_fresh_process(["benchmarks.contend", "nothing-new", directory, store])
            for number in plan.rounds(rows):
                while len(result.rounds) < number:
                    result.rounds.append({})
                figures = in_fresh_process(["benchmarks.contend", "nothing-new", directory, store])
                held.check("nothing-new", directory)
                name = f"{rows * times:,} answers in {files:,} files"
                result.rounds[number - 1][name] = {**figures, "times": times}
                yield result


def dbt_runs(plan: Plan) -> Iterator[Result]:
    """The whole `dbt run` against the emulator."""
    rows = plan.rows or 100_000
    result = Result("dbt-run", rows)
    for _ in plan.rounds(rows):
        with tempfile.TemporaryDirectory(dir=plan.scratch) as directory:
            result.rounds.append({"dbt run": dbt_run.measure(rows, Path(directory))})
        yield result


def emulators(plan: Plan) -> Iterator[Result]:
    """The emulator by itself, with as many requests as OpenAI takes in a file."""
    rows = plan.rows or 50_000
    result = Result("emulator", rows)
    for _ in plan.rounds(rows):
        with tempfile.TemporaryDirectory(dir=plan.scratch) as directory:
            result.rounds.append({"emulator": emulator.measure(rows, Path(directory))})
        yield result


def token_counts(plan: Plan) -> Iterator[Result]:
    """Tokens and cost of real films; counted, so that once is enough."""
    with tempfile.TemporaryDirectory(dir=plan.scratch) as directory:
        warehouse = Path(directory) / "films.duckdb"
        rows = make_films(plan.films, warehouse)
        yield Result("tokens", rows, [tokens.measure(warehouse, Path(directory))])


def qualities(plan: Plan) -> Iterator[Result]:
    """What a real model answers to rows alone and in packs; once, at temperature 0."""
    with tempfile.TemporaryDirectory(dir=plan.scratch) as directory:
        warehouse = Path(directory) / "films.duckdb"
        rows = make_films(plan.films, warehouse, plan.rows or _FILMS_ASKED)
        result = Result("quality", rows, [{quality.NOTHING_READ: quality.baseline(warehouse)}])
        for packed in quality.PACKS:
            state = Path(directory) / f"state-{packed}"
            result.rounds[0][quality.name(packed)] = quality.measure(warehouse, state, packed)
            yield result


PARTS: dict[str, Part] = {
    "sides": sides,
    "peers": peers,
    "nothing-new": nothing_new,
    "dbt-run": dbt_runs,
    "emulator": emulators,
    "tokens": token_counts,
    "quality": qualities,
}


def _bytes(figures: Figures) -> tuple[int, int]:
    return int(figures["request_mb"] * 1e6), int(figures["response_mb"] * 1e6)
