"""The report: docs/benchmarks.md, written wholly from what was measured."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.claims import RUNNERS
from benchmarks.daily import WAYS
from benchmarks.markdown import NOTHING, number, section, table
from benchmarks.peers.environments import PEERS
from benchmarks.results import Result, Results
from benchmarks.shared_state import LOCAL, SHARED
from benchmarks.spark import DUCKDB, SECONDS, WORKERS, simulated
from benchmarks.targets import (
    BOTH,
    ENGINE,
    FLOOR,
    NOTEBOOK,
    STEPS,
    WHOLE,
    disk_times,
    in_shape,
    targets,
)

_TIMES = ("export s", "load s", "table s", "together s", "CPU s")
_OF_BUCKET = ("stored_mb", "keys_mb", "texts_mb")
_VERSIONS = {peer.name: f"{peer.name} {peer.version}" for peer in PEERS}

_INTRODUCTION = """\
# Benchmarks

`make bench` writes this page; nothing in it is written by hand. Contenders follow one another in
rounds on the same rows, each in a fresh process. A figure is the median of its rounds, a ratio the
median of the ratios within each round, memory and disk the largest of all rounds. Seconds are those
of the clock; CPU seconds, of all cores together, stand beside them, as they depend less on what
else the machine does. Megabytes are millions of bytes. Times depend on the machine; the ratios
should hold on others.
"""
_METHOD = """\
## What is compared

- **Rows**: synthetic films, an id, a title and an overview of 20 to 40 words, in a DuckDB file. The
  request has a system text, the overview and a strict schema, about 1.4 kB. The answer follows from
  the overview, so each contender's table is compared with what it must be, row by row: a contender
  whose table differs fails the run.
- **Same work**: everybody begins with the table in the warehouse and ends with the typed rows in
  another. Export is all that happens until the request files are written; load is all that happens
  from the service's files to typed rows; table is `create table as select` of them, the commit and
  a `checkpoint`, as a small table would else be compressed after the clock stands. No time at a
  service is in them.
- **dbt-enrich** checks the unique key, renders, keys, claims in the ledger and writes; reads,
  validates, stores, types and publishes, files removed as by default. The warehouse's
  `memory_limit` is 100 MB, the private DuckDB's 160 MB; with default memory, both have their
  defaults. The warehouse lies in the same process, so its memory is in the peak.
- **Notebook**: `iterrows` and `json.dumps` into files of 100,000 lines; `json.loads` of every line
  into a list, a loop over it, a DataFrame joined to the rows, `create table as select`. It makes no
  keys, passes over what is no JSON, validates nothing else, and survives no interruption. Its
  warehouse has the default memory.
- **Floor**: as many bytes written and read as dbt-enrich wrote and read, and nothing else; then
  `create table as select` of the same columns from a table that is there, in a warehouse of 100 MB.
  The page cache is warm for everybody.
- **Peers**: as their documentation uses them, against the emulator over HTTP. Their rows are read
  before the clock starts, and it stands still while a call is out or they sleep, so neither the
  service nor the upload counts; their CPU seconds have the calls in them. For dbt-enrich the same
  steps run without a service. Stubbed in their favour:
{stubs}
- **Disk** is that of the state directory, looked at five times a second while the process runs,
  scratch and spilled files included.
"""


def report(results: Results) -> str:
    """Return the whole page."""
    sections = [
        _INTRODUCTION,
        _machines(results),
        _targets(results),
        _sides(results.of("sides")),
        _growth(results.of("sides")),
        _shapes(results.of("shapes")),
        _peers(results.of("peers")),
        _nothing_new(results.of("nothing-new")),
        _dbt_runs(results.of("dbt-run")),
        _emulators(results.of("emulator")),
        _relays(results.of("relay")),
        _pictures(results.of("pictures")),
        _embeddings(results.of("embeddings")),
        _shared_states(results.of("shared-state")),
        _spark(results.of("spark")),
        _METHOD.format(
            stubs="\n".join(f"  - {peer.name} {peer.version}: {peer.stubbed}." for peer in PEERS)
        ),
    ]
    return "\n".join(section for section in sections if section)


def _machines(results: Results) -> str:
    parts = (
        *("sides", "shapes", "peers", "nothing-new", "dbt-run", "emulator", "pictures"),
        *("relay", "embeddings", "shared-state", "spark"),
    )
    found = [one for part in parts for one in results.of(part)]
    days = sorted({one.measured_at[:10] for one in found})
    lines = [f"- {machine}" for machine in dict.fromkeys(one.machine for one in found)]
    return "\n".join([f"Measured on {' and '.join(days)}:", "", *lines, ""]) if found else ""


def _targets(results: Results) -> str:
    text = {True: "yes", False: "**no**", None: NOTHING}
    rows = [(one.wanted, one.measured, text[one.reached]) for one in targets(results)]
    return section("Targets", table(("target", "measured", "reached"), rows))


def _sides(results: Sequence[Result]) -> str:
    if not results:
        return ""
    rows = [
        (
            f"{one.rows:,}", name, *_times(one, name), number(one.ratio(NOTEBOOK, name, *WHOLE), 1),
            number(one.ratio(NOTEBOOK, name, *BOTH), 1), _speed(one, name),
            number(one.largest(name, "peak_mb")), number(one.median(name, "imports_mb")),
            str(len(one.values(name, *WHOLE))),
        )
        for one in results
        for name in one.contenders()
    ]  # fmt: skip
    head = (
        "rows", "contender", *_TIMES, "times the notebook", "without the table", "rows/s",
        "peak MB", "after imports MB", "rounds",
    )  # fmt: skip
    chart = "![Seconds for export, load and table by number of rows](benchmarks.svg)\n"
    parts = (chart, table(head, rows), "".join(map(_bound, results)), _missing(results))
    return section("Export, load and table", "\n".join(part for part in parts if part))


def _bound(one: Result) -> str:
    """Say how far the notebook could be outrun by who only wrote the table."""
    seconds = one.median(FLOOR, "table")
    times = one.ratio(NOTEBOOK, FLOOR, *WHOLE, against=("table",))
    share = one.ratio(FLOOR, ENGINE, "table", against=WHOLE)
    if seconds is None or times is None or share is None:
        return ""
    return (
        f"- {one.rows:,} rows: writing the enriched table alone, from a table that is there, takes "
        f"{seconds:.2f} s, {share:.0%} of dbt-enrich's time; the notebook takes {times:.0f} times "
        "that.\n"
    )


def _shapes(results: Sequence[Result]) -> str:
    rows = [
        (
            f"{one.rows:,}", *(shape_and_name := name.split(": ", 1)), *_times(one, name),
            number(one.ratio(in_shape(shape_and_name[0], NOTEBOOK), name, *WHOLE), 1),
            number(one.largest(name, "peak_mb")), str(len(one.values(name, *WHOLE))),
        )
        for one in results
        for name in one.contenders()
    ]  # fmt: skip
    head = (
        "rows", "rows and answers", "contender", *_TIMES, "times the notebook", "peak MB", "rounds",
    )  # fmt: skip
    text = "With limits of 100 and 160 MB, as above.\n\n"
    return section("Other rows", text + table(head, rows) + _missing(results)) if rows else ""


def _missing(results: Sequence[Result]) -> str:
    """Say what could not be measured, and why."""
    lines = [
        f"- {_VERSIONS.get(name, name)} could not be measured at {one.rows:,} rows: "
        f"{' '.join(reason.split())}\n"
        for one in results
        for name, reason in one.missing.items()
    ]
    return "".join(["\n", *lines]) if lines else ""


def _growth(results: Sequence[Result]) -> str:
    if not results:
        return ""
    rows = [
        (
            f"{one.rows:,}",
            *(number(_micros(one, f"{step}_s"), 2) for step in STEPS),
            number(_micros(one, *WHOLE), 2),
            number(_micros(one, "cpu"), 2),
            number(one.largest(ENGINE, "peak_mb")),
            number(one.median(ENGINE, "request_mb")),
            number(one.largest(ENGINE, "disk_mb")),
            number(disk_times(one), 1),
            number(one.largest(ENGINE, "files_left_mb"), 1),
            number(one.largest(ENGINE, "state_left_mb")),
        )
        for one in results
    ]
    head = (
        "rows", *(f"{step} µs/row" for step in STEPS), "together µs/row", "CPU µs/row",
        "peak MB", "requests MB", "disk MB", "times the requests", "files left MB", "state left MB",
    )  # fmt: skip
    text = (
        "The stages as `--timings` names them: stage, claim and write are the export; load (one "
        "file after the other) and publish the load. What is left is the ledger and the "
        "answers.\n\n"
    )
    return section("As a table grows", text + table(head, rows))


def _peers(results: Sequence[Result]) -> str:
    if not results:
        return ""
    rows = [
        (
            f"{one.rows:,}", _VERSIONS.get(name, name), *_times(one, name), _speed(one, name),
            number(one.ratio(name, ENGINE, *WHOLE), 1), number(one.largest(name, "peak_mb")),
            str(len(one.values(name, *WHOLE))),
        )
        for one in results
        for name in one.contenders()
    ]  # fmt: skip
    head = ("rows", "contender", *_TIMES, "rows/s", "times dbt-enrich", "peak MB", "rounds")
    text = "Peers that take more than about a minute for 100,000 rows run at 10,000 only.\n\n"
    return section("Other clients", text + table(head, rows) + _missing(results))


def _nothing_new(results: Sequence[Result]) -> str:
    rows = [
        (
            f"{one.rows:,}", name,
            *(
                f"{number(one.median(name, way), 2)} ({number(one.median(name, f'{way}_cpu'), 1)})"
                for way in WAYS
            ),
            number(one.ratio(name, name, "nothing_new", against=("plan",)), 2),
            number(one.ratio(name, name, "few", against=("rebuild",)), 2),
            number(one.largest(name, "peak_mb")), str(len(one.values(name, "plan"))),
        )
        for one in results
        for name in one.contenders()
    ]  # fmt: skip
    head = (
        "rows", "answer store", "plan s (CPU)", "nothing new s (CPU)", "1 % new s (CPU)",
        "rebuild s (CPU)", "nothing new, times a plan", "1 % new, times a rebuild", "dbt's peak MB",
        "rounds",
    )  # fmt: skip
    text = (
        "`dbt run` against a warehouse with default memory, in which every row is answered and "
        "published. Seconds are the model's beyond those of a plain table of the same rows: dbt's "
        "start, and the query of the rows, are in none of them. Where 1 % is new, half of it are "
        "rows that others make way for and half are changed texts; the service's own seconds are "
        "not in it. A rebuild is `--full-refresh`. The answers beyond the rows belong to rows that "
        "are gone, and lie among the others in every file.\n\n"
    )
    return section("Every day", text + table(head, rows) + _missing(results)) if results else ""


def _dbt_runs(results: Sequence[Result]) -> str:
    name = "dbt run"
    rows = [
        (
            f"{one.rows:,}", number(one.median(name, "seconds"), 1),
            number(one.median(name, "service"), 1), number(one.median(name, "overhead"), 1),
            number(one.median(name, "plain"), 1), number(one.median(name, "beyond_plain"), 1),
            number(one.median(name, "cpu_beyond_plain"), 1),
            number(one.largest(name, "peak_mb")), str(len(one.rounds)),
        )
        for one in results
    ]  # fmt: skip
    head = (
        "rows", "dbt run s", "service's own s", "overhead s", "a plain table's dbt run s",
        "overhead beyond it s", "CPU s beyond it", "dbt's peak MB", "rounds",
    )  # fmt: skip
    text = (
        "From the start of the process to its end, against the emulator with the scripted "
        "responder, in five files. The service's own time is that in which it had a batch to work "
        "on, by its account and its files; upload and download count as overhead. A file of these "
        "is written in less than a tenth of a second, and its upload takes longer, although it "
        "begins at once: where the target on overlap is not reached, that is why. Uploads go on "
        "while files are written, and batches run while others are uploaded.\n\n"
    )
    return (
        section("The whole `dbt run`", text + table(head, rows) + _missing(results)) if rows else ""
    )


def _emulators(results: Sequence[Result]) -> str:
    rows = [
        (
            f"{one.rows:,}", number(one.median("emulator", "batch")),
            number(one.median("emulator", "batch_cpu"), 2),
            number(one.median("emulator", "single")),
            number(one.median("emulator", "single_cpu"), 2),
            number(one.largest("emulator", "peak_mb")),
            str(len(one.rounds)),
        )
        for one in results
    ]  # fmt: skip
    head = (
        "requests in the batch", "batch requests/s", "CPU s for 10,000", "single requests/s",
        "CPU s for 10,000", "peak MB", "rounds",
    )  # fmt: skip
    text = (
        "A batch from its creation to its output file, validation included; single requests by "
        "four callers over HTTP, in a process that shares the machine with them.\n\n"
    )
    return section("The emulator", text + table(head, rows) + _missing(results)) if rows else ""


def _relays(results: Sequence[Result]) -> str:
    rows = [
        (
            f"{one.rows:,}", number(one.median("relay", "relayed")),
            number(one.median("relay", "cpu"), 2), number(one.largest("relay", "peak_mb")),
            str(len(one.rounds)),
        )
        for one in results
    ]  # fmt: skip
    head = ("requests", "requests/s", "CPU s for 10,000", "peak MB", "rounds")
    text = (
        "Requests without batches, before a service on the same machine that answers at once: "
        "each asked by itself, each reply on the disk before it counts.\n\n"
    )
    return section("The relay", text + table(head, rows) + _missing(results)) if rows else ""


def _pictures(results: Sequence[Result]) -> str:
    rows = [
        (
            f"{one.rows:,}", way, number(one.median(way, "stage"), 1),
            number(one.median(way, "write"), 1), number(one.median(way, "request_mb")),
            number(one.median(way, "files")), number(one.largest(way, "export_peak_mb")),
            number(one.median(way, "imports_mb")), str(len(one.rounds)),
        )
        for one in results
        for way in one.contenders()
    ]  # fmt: skip
    head = (
        "pictures", "from", "stage s", "claim and write s", "request MB", "files", "peak MB",
        "after imports MB", "rounds",
    )  # fmt: skip
    text = (
        "PNGs of 100 kB, each of them another, read from files or from BLOBs of the warehouse, and "
        "written into request files as base64. Both databases have the little memory of the rows "
        "above. The peak is that of the whole process until the last file is written.\n\n"
    )
    return section("Pictures", text + table(head, rows) + _missing(results)) if rows else ""


def _embeddings(results: Sequence[Result]) -> str:
    rows = [
        (
            f"{one.rows:,}", *_times(one, ENGINE), number(one.median(ENGINE, "response_mb")),
            number(one.largest(ENGINE, "peak_mb")), str(len(one.rounds)),
        )
        for one in results
    ]  # fmt: skip
    head = ("rows", *_TIMES, "output files MB", "peak MB", "rounds")
    text = (
        "Vectors of 1,536 numbers, 128 texts in a request, with the memory limits of the first "
        "part. The output files are the service's, in base64; who writes them is not measured.\n\n"
    )
    return section("Embeddings", text + table(head, rows) + _missing(results)) if rows else ""


def _shared_states(results: Sequence[Result]) -> str:
    rows = [
        (
            f"{one.rows:,}",
            *(number(one.ratio(SHARED, LOCAL, step), 2) for step in ("export_s", "load_s")),
            number(one.ratio(SHARED, LOCAL, "plan_s"), 1),
            *(number(one.largest(SHARED, name), 1) for name in _OF_BUCKET),
            number(one.ratio(RUNNERS, RUNNERS, "second_s", against=("first_s",)), 2),
            number(one.ratio(RUNNERS, LOCAL, "second_s", against=("export_s",)), 2),
            str(len(one.rounds)),
        )
        for one in results
    ]  # fmt: skip
    head = (
        "rows", "export, times local", "load, times local", "a new machine's plan, times local",
        "answers in the bucket MB", "keys fetched MB", "texts fetched MB",
        "two claims at once: second, times first", "second, times a local export", "rounds",
    )  # fmt: skip
    text = (
        "A ledger in Postgres and a bucket, beside one machine's own state directory. Both are on "
        "this machine, the bucket a directory: a network's own time is in no figure, and ratios "
        "alone are shown. The plan is that of a machine without any copy, after all rows were "
        "answered, beside the second plan of the machine that sent them. Two runners that begin "
        "at the same moment claim the same rows, and each row is one's alone.\n\n"
    )
    return section("Shared state", text + table(head, rows) + _missing(results)) if rows else ""


def _spark(results: Sequence[Result]) -> str:
    if not results:
        return ""
    rows = [
        (
            f"{one.rows:,}", name,
            *(number(one.ratio(name, DUCKDB, step), 2) for step in SECONDS),
            number(one.ratio(name, DUCKDB, *SECONDS), 2), number(one.median(name, "parts")),
            str(len(one.values(name, *SECONDS))),
        )
        for one in results
        for name in WORKERS
        if one.values(name, *SECONDS)
    ]  # fmt: skip
    head = (
        "rows", "inside partitions", "export, times DuckDB", "load, times DuckDB",
        "table, times DuckDB", "together, times DuckDB", "parts", "rounds",
    )  # fmt: skip
    text = (
        "The engine inside the partitions of a DataFrame, beside DuckDB on one machine with the "
        "same shared state: a ledger in Postgres and a bucket that is a directory. Spark is Sail, "
        "in a process of its own, and all of it shares the cores of this machine, on which no "
        "cluster can win: the ratio is what working in partitions costs. The tables are the same, "
        "row by row; contenders with another one are not shown.\n\n"
    )
    return section(
        "Inside Spark's partitions",
        text + table(head, rows) + _cluster(results) + _missing(results),
    )


def _cluster(results: Sequence[Result]) -> str:
    """Say what a cluster would bring, as a simulation."""
    machines = (1, 4, 16, 64)
    rows = []
    for one in results:
        found = simulated(one, machines)
        if found:
            rows.append((f"{one.rows:,}", *(number(found[n], 2) for n in machines)))
    head = ("rows", *(f"{n} machines" if n > 1 else "1 machine" for n in machines))
    text = (
        "\n**A simulation, not a measurement**: how many times quicker than DuckDB on one machine "
        "a cluster of machines with one core each would be, if what one worker took were divided "
        "among them by parts, with nothing lost. More machines than parts bring nothing; a part "
        "is 100,000 rows by default, so that 10,000,000 rows keep 100 machines busy.\n\n"
    )
    return text + table(head, rows) if rows else ""


def _times(one: Result, name: str) -> list[str]:
    figures = (*((step,) for step in WHOLE), WHOLE, ("cpu",))
    return [number(one.median(name, *names), 2) for names in figures]


def _speed(one: Result, name: str) -> str:
    seconds = one.median(name, *WHOLE)
    return number(one.rows / seconds if seconds else None)


def _micros(one: Result, *steps: str) -> float | None:
    seconds = one.median(ENGINE, *steps)
    return None if seconds is None else seconds / one.rows * 1e6
