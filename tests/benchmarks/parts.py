"""The parts of the benchmarks: who contends, at which sizes, and how often."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import (
    claims,
    dbt_run,
    emulator,
    pictures,
    quality,
    relay,
    shared_state,
    spark,
    tokens,
    vectors,
)
from benchmarks.contest import Contest, contest
from benchmarks.daily import DailyRuns
from benchmarks.films import make_films
from benchmarks.measuring import REPOSITORY, Figures, UnavailableError
from benchmarks.movies import SHAPES, USUAL
from benchmarks.peers.environments import PEERS, Peer, environment
from benchmarks.results import Result
from benchmarks.service import running_service
from benchmarks.targets import DEFAULT, DUCKDB2, ENGINE, FLOOR, NOTEBOOK, in_shape
from support.shared_ledger import ledger_server

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
# As `make test-duckdb2` makes it beside this one.
DUCKDB2_PYTHON = Path(f"{sys.prefix}-duckdb2") / "bin" / "python"


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        root: Where environments, scratch files and results are.
        sizes: Rows of export and load.
        rows: Rows of the other parts, in place of their own.
        runs: Rounds, in place of the usual five and three.
        films: The CSV file of real films.
        duckdb2: The interpreter of an environment with DuckDB 2.0.
    """

    root: Path
    sizes: tuple[int, ...] = SIZES
    rows: int | None = None
    runs: int | None = None
    films: Path = FILMS
    duckdb2: Path = DUCKDB2_PYTHON

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
    """Export, load and table: the engine, with little memory and with much, notebook and floor."""
    for rows in plan.sizes:
        result = Result("sides", rows)
        with contest(rows, plan.scratch) as held:
            for _ in plan.rounds(rows):
                result.begin_round()
                result.enter(ENGINE, held.dbt_enrich)
                if rows < _LARGEST:
                    result.enter(DEFAULT, partial(held.dbt_enrich, memory_is_scarce=False))
                    result.enter(NOTEBOOK, held.notebook)
                if ours := result.rounds[-1].get(ENGINE):
                    result.enter(FLOOR, partial(held.floor, ours))
                yield result


def shapes(plan: Plan) -> Iterator[Result]:
    """Engine and notebook with other rows, other answers, and another DuckDB."""
    rows = plan.rows or 100_000
    result = Result("shapes", rows)
    with ExitStack() as stack:
        contests = {
            shape: stack.enter_context(contest(rows, plan.scratch, name))
            for name, shape in SHAPES.items()
        }
        for _ in plan.rounds(rows):
            result.begin_round()
            for shape, held in contests.items():
                result.enter(in_shape(shape.name, ENGINE), held.dbt_enrich)
                result.enter(in_shape(shape.name, NOTEBOOK), held.notebook)
            result.enter(
                in_shape(USUAL.name, DUCKDB2), partial(_in_duckdb2, contests[USUAL], plan.duckdb2)
            )
            yield result


def _in_duckdb2(held: Contest, python: Path) -> Figures:
    if not python.exists():
        raise UnavailableError(f"{python} is not there: make test-duckdb2 makes it")
    return held.dbt_enrich(python=python)


def peers(plan: Plan) -> Iterator[Result]:
    """Export, load and table: the engine, and peers that take so many rows in about a minute."""
    for rows in (plan.rows,) if plan.rows else (10_000, 100_000):
        result = Result("peers", rows)
        with contest(rows, plan.scratch) as held:
            for _ in plan.rounds(rows):
                result.begin_round()
                result.enter(ENGINE, held.dbt_enrich)
                for peer in PEERS:
                    if rows <= peer.rows:
                        result.enter(peer.name, partial(_run_peer, peer, held, plan))
                yield result


def _run_peer(peer: Peer, held: Contest, plan: Plan) -> Figures:
    python = environment(peer, plan.root / "environments")
    with (
        tempfile.TemporaryDirectory(dir=plan.scratch) as directory,
        running_service(Path(directory)) as service,
    ):
        return held.peer(
            f"benchmarks.peers.{peer.module}", python, [f"{service.url}/v1", service.api_key]
        )


def nothing_new(plan: Plan) -> Iterator[Result]:
    """Runs of every day, where every row is answered: the answer store grows, the rows do not."""
    rows = plan.rows or 1_000_000
    result = Result("nothing-new", rows)
    for times in _STORES:
        answers, files = rows * times, _STORE_FILES * times
        name = f"{answers:,} answers in {files:,} files"
        with (
            tempfile.TemporaryDirectory(dir=plan.scratch) as directory,
            running_service(Path(directory) / "service") as service,
        ):
            daily = DailyRuns(Path(directory), service, rows, answers, files)
            for number in plan.rounds(rows):
                while len(result.rounds) < number:
                    result.begin_round()
                result.enter(name, daily.round, number)
                yield result


def dbt_runs(plan: Plan) -> Iterator[Result]:
    """The whole `dbt run` against the emulator."""
    rows = plan.rows or 100_000
    result = Result("dbt-run", rows)
    for _ in plan.rounds(rows):
        result.begin_round()
        with tempfile.TemporaryDirectory(dir=plan.scratch) as directory:
            result.enter("dbt run", partial(dbt_run.measure, rows, Path(directory)))
        yield result


def emulators(plan: Plan) -> Iterator[Result]:
    """The emulator by itself, with as many requests as OpenAI takes in a file."""
    rows = plan.rows or 50_000
    result = Result("emulator", rows)
    for _ in plan.rounds(rows):
        result.begin_round()
        with tempfile.TemporaryDirectory(dir=plan.scratch) as directory:
            result.enter("emulator", partial(emulator.measure, rows, Path(directory)))
        yield result


def relays(plan: Plan) -> Iterator[Result]:
    """The relay before a service that answers at once."""
    rows = plan.rows or 10_000
    result = Result("relay", rows)
    for _ in plan.rounds(rows):
        result.begin_round()
        with tempfile.TemporaryDirectory(dir=plan.scratch) as directory:
            result.enter("relay", partial(relay.measure, rows, Path(directory)))
        yield result


def shared_states(plan: Plan) -> Iterator[Result]:
    """State that machines share beside one machine's own, a new machine's plan, two at once."""
    for rows in (plan.rows,) if plan.rows else (100_000, 1_000_000):
        result = Result("shared-state", rows)
        with ledger_server() as ledgers:
            for _ in plan.rounds(rows):
                result.begin_round()
                for name, keys in (
                    (shared_state.LOCAL, None),
                    (shared_state.SHARED, ledgers.new()),
                ):
                    with tempfile.TemporaryDirectory(dir=plan.scratch) as directory:
                        measure = partial(shared_state.measure, rows, Path(directory), keys)
                        result.enter(name, measure)
                with tempfile.TemporaryDirectory(dir=plan.scratch) as directory:
                    measure = partial(claims.measure, rows, Path(directory), ledgers.new())
                    result.enter(claims.RUNNERS, measure)
                yield result


def spark_partitions(plan: Plan) -> Iterator[Result]:
    """The engine inside partitions, over Sail with one worker and two, and on one machine."""
    rows = plan.rows or 1_000_000
    result = Result("spark", rows)
    with ledger_server() as ledgers:
        for _ in plan.rounds(rows):
            result.begin_round()
            with tempfile.TemporaryDirectory(dir=plan.scratch) as directory:
                measure = partial(spark.measure_duckdb, rows, Path(directory), ledgers.new())
                result.enter(spark.DUCKDB, measure)
            for name, workers in spark.WORKERS.items():
                with tempfile.TemporaryDirectory(dir=plan.scratch) as directory:
                    measure = partial(
                        spark.measure_sail, rows, Path(directory), ledgers.new(), workers
                    )
                    result.enter(name, measure)
            yield result


def embeddings(plan: Plan) -> Iterator[Result]:
    """Export, load and table of vectors of 1,536 numbers."""
    rows = plan.rows or 100_000
    result = Result("embeddings", rows)
    for _ in plan.rounds(rows):
        result.begin_round()
        with tempfile.TemporaryDirectory(dir=plan.scratch) as directory:
            result.enter(ENGINE, partial(vectors.measure, rows, Path(directory)))
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


def picture_exports(plan: Plan) -> Iterator[Result]:
    """Pictures of 100 kB, staged and written: of two sizes, whose memory must be the same."""
    for rows in (plan.rows,) if plan.rows else (1_000, 10_000):
        result = Result("pictures", rows)
        for _ in plan.rounds(rows):
            result.begin_round()
            for way, measured in pictures.contenders(rows, plan.scratch).items():
                result.enter(way, measured)
            yield result


PARTS: dict[str, Part] = {
    "sides": sides,
    "shapes": shapes,
    "peers": peers,
    "nothing-new": nothing_new,
    "dbt-run": dbt_runs,
    "emulator": emulators,
    "relay": relays,
    "pictures": picture_exports,
    "shared-state": shared_states,
    "spark": spark_partitions,
    "embeddings": embeddings,
    "tokens": token_counts,
    "quality": qualities,
}
