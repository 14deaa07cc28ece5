"""dbt in processes of their own that begin with dbt imported and warm: a start takes no time.

A fork server imports `support.warm_dbt` once, for all workers of a test run; each run is a fork of
it, a process like any other, which can be killed, limited and interrupted.
"""

from __future__ import annotations

import atexit
import faulthandler
import fcntl
import gc
import json
import multiprocessing
import multiprocessing.forkserver
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from types import SimpleNamespace
from typing import Any

import dbt_enrich.cli.dbt as commands
from dbt_enrich.pipeline.engine import Engine
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.state.tables.shards import Shards
from dbt_enrich.warehouse.adbc_host import AdbcHost
from dbt_enrich.warehouse.duckdb_host import DuckdbHost

from support.without import absent

_TESTS = Path(__file__).resolve().parents[1]
# The manifest as JSON takes as long to write as a small project to parse; the tests that read it
# have it written.
_FASTER = {"DBT_WRITE_JSON": "false"}
_SECONDS = 180.0
EARLY = "DBT_ENRICH_TESTS_FORK_EARLY"
"""The variable under which a command's dbt is a fork of the command as it began."""
# What of it is shared has no public name.
_server: Any = getattr(multiprocessing.forkserver, "_forkserver")  # noqa: B009


@cache
def fork_server() -> ForkServerContext:
    """Return the context whose processes begin with dbt imported and warm."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.warm_dbt"])
    # pytest-xdist's name of a run, which all its workers have.
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None or not Path("/proc/self/fd").exists():
        _start_server()
        return context
    place = Path(gettempdir()) / f"dbt-enrich-tests-{run}"
    with place.open("a+") as shared:
        fcntl.flock(shared, fcntl.LOCK_EX)
        shared.seek(0)
        if not _join_server(shared.read()):
            _start_server()
            shared.truncate(0)
            fields = (_server._forkserver_address, os.getpid(), _server._forkserver_alive_fd)
            shared.write(json.dumps(fields))
            atexit.register(place.unlink, missing_ok=True)
    return context


def _start_server() -> None:
    before = os.environ.get("PYTHONPATH")
    # The server imports with the path of its own start, not with this process's.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(_TESTS), *([before] if before else [])])
    try:
        _server.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


def _join_server(fields: str) -> bool:
    """Use the server that another worker has started, as its children would; say if there is one.

    It is warm already, or soon will be. It lives as long as a process has its pipe open for
    writing, and what a process has open can be opened again.
    """
    try:
        address, pid, pipe = json.loads(fields)
        alive = os.open(f"/proc/{pid}/fd/{pipe}", os.O_WRONLY)
    except (ValueError, OSError):
        return False
    _server._forkserver_address = address
    _server._forkserver_alive_fd = alive
    _server.ensure_running = lambda: None
    return True


class Forked:
    """A command that is running.

    Args:
        program: `dbt` or `dbt-enrich`.
        arguments: Its arguments.
        log: Where its output goes; a terminal becomes its own, and its input too.
        directory: Its working directory.
        kill_at: `<step>:before` or `<step>:after`, the moment of the ledger at which it kills
            itself; never by default.
        largest_file: Bytes of the largest file that the engine may write, as on a full disk.
        environment: Added to this process's.
        inherits: Whether it has this process's environment at all.
        without: Modules that are not installed, as far as it can tell.
    """

    def __init__(
        self,
        program: str,
        arguments: Sequence[str],
        *,
        log: Path,
        directory: Path,
        kill_at: str | None = None,
        largest_file: int | None = None,
        environment: Mapping[str, str] | None = None,
        inherits: bool = True,
        without: Collection[str] = (),
    ) -> None:
        self._log = log
        self.process: ForkServerProcess = fork_server().Process(
            target=_run,
            args=(
                program,
                list(arguments),
                str(directory),
                str(log),
                kill_at,
                largest_file,
                {**(os.environ if inherits else {}), **_FASTER, **(environment or {})},
                _umask(),
                tuple(without),
            ),
        )
        self.process.start()

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def kill(self) -> None:
        """End it with SIGKILL, wherever it is."""
        self.process.kill()

    def wait(self, seconds: float = _SECONDS) -> int:
        """Wait for its end and return its exit code; -9 is SIGKILL."""
        self.process.join(seconds)
        code = self.process.exitcode
        if code is None:
            self._show_stacks()
            self.process.kill()
            self.process.join()
        assert code is not None, f"it did not end within {seconds:g} seconds: {self.output}"
        return code

    def _show_stacks(self) -> None:
        """Have every thread of it print where it stands."""
        if self.process.pid is None:
            return
        os.kill(self.process.pid, signal.SIGUSR1)
        time.sleep(1)

    def was_killed(self) -> bool:
        """Wait for its end, and say whether SIGKILL was it."""
        return self.wait() == -signal.SIGKILL


class ForkedDbt(Forked):
    """A dbt that is running on a project, whose directory is its own; else like `Forked`."""

    def __init__(self, directory: Path, *arguments: str, **named: Any) -> None:
        places = ["--project-dir", str(directory), "--profiles-dir", str(directory)]
        super().__init__(
            "dbt",
            ["--no-use-colors", *arguments, *places],
            log=directory / f"dbt-{os.urandom(4).hex()}.log",
            directory=directory,
            **named,
        )


def run_forked(
    program: str,
    *arguments: str,
    directory: Path,
    **named: Any,
) -> tuple[int, str]:
    """Run a command to its end, as `Forked` does; return its exit code and what it printed."""
    with TemporaryDirectory() as logs:
        running = Forked(program, arguments, log=Path(logs) / "log", directory=directory, **named)
        return running.wait(), running.output


def kill_at(moment: str, by: signal.Signals = signal.SIGKILL) -> None:
    """Have this process kill itself, or stop, the first time that it is at a moment of the ledger.

    Before a step is written, what it stands for has happened and nothing says so; after, what it
    announces has not happened yet.

    Args:
        moment: `<step>:before` or `<step>:after`, where a step may be a call of a host, too.
        by: The signal that it sends itself.
    """
    step, when = moment.split(":")
    moments = {when}

    def signalled(now: str) -> None:
        if now in moments:
            moments.discard(now)
            os.kill(os.getpid(), by)

    def killing(method: Callable[..., Any], step_of: Callable[..., str]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            hit = step_of(*arguments, **named) == step
            if hit:
                signalled("before")
            result = method(*arguments, **named)
            if hit:
                signalled("after")
            return result

        return wrapped

    Shards.add = killing(Shards.add, _added)  # type: ignore[method-assign]
    Shards.record = killing(Shards.record, _recorded)  # type: ignore[method-assign]
    Shards.store = killing(Shards.store, _stored)  # type: ignore[method-assign]
    for host in (AdbcHost, DuckdbHost):
        for name in ("copy_rows", "write_results"):
            setattr(host, name, killing(getattr(host, name), _named(name)))


def limit_files(largest: int) -> None:
    """Have this process's engine find the disk full; dbt writes its own files as ever.

    Args:
        largest: Bytes of the largest file.
    """
    # Without this the process is killed instead of told.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    enrich = Engine.enrich

    def limited(*arguments: Any, **named: Any) -> Any:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
        try:
            return enrich(*arguments, **named)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)

    Engine.enrich = limited  # type: ignore[method-assign]


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _added(_: Shards, shard: Shard, **__: Any) -> Step:
    return shard.step


def _recorded(_: Shards, __: Shard, step: Step, **___: Any) -> Step:
    return step


def _stored(*_: Any, **__: Any) -> Step:
    return Step.STORED


def _named(step: str) -> Callable[..., str]:
    return lambda *_, **__: step


def _run(
    program: str,
    arguments: list[str],
    directory: str,
    log: str,
    moment: str | None,
    largest_file: int | None,
    environment: dict[str, str],
    umask: int,
    without: Collection[str],
) -> None:
    """Be a command: what a fork of the server runs, whose environment is that of its own start."""
    os.umask(umask)
    os.chdir(directory)
    if terminal := Path(log).is_char_device():
        # A terminal that the first process of a session opens is the session's.
        os.setsid()
    descriptor = os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    if terminal:
        os.dup2(descriptor, 0)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if without:
        assert not sys.modules.keys() & set(without), "what is imported cannot be hidden"
        exec(absent(without), {})  # noqa: S102
    if moment:
        kill_at(moment)
    if largest_file:
        limit_files(largest_file)
    _be(program, arguments, environment, descriptor)


def _be(program: str, arguments: Sequence[str], environment: Mapping[str, str], to: int) -> None:
    """Be `dbt` or `dbt-enrich`, with the output going to a descriptor."""
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(to, 1)
    os.dup2(to, 2)
    faulthandler.register(signal.SIGUSR1, file=2)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    # As a command's own; PySpark takes a process without it for one of its tests.
    sys.modules["__main__"].__file__ = program
    # dbt looks there for options that it warns of.
    sys.argv = [program, *arguments]
    try:
        if program == "dbt":
            from dbt.cli.main import cli

            cli(list(arguments), prog_name=program)
            return
        from dbt_enrich.cli import main

        # Its dbt is a process of its own as ever, and as warm as this one.
        run = _before_all_threads() if EARLY in os.environ else _run_dbt
        stand_in = SimpleNamespace(run=run, PIPE=subprocess.PIPE, STDOUT=subprocess.STDOUT)
        setattr(commands, "subprocess", stand_in)  # noqa: B010
        main()
    finally:
        # What dbt-duckdb does when a process exits, which a fork does not.
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager

        DuckDBConnectionManager.close_all_connections()
        gc.collect()
        sys.stdout.flush()
        sys.stderr.flush()


def _before_all_threads() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return what runs dbt in a fork of this process as it is now.

    No fork has the threads of gRPC, which a client of Spark Connect starts.
    """
    ours, theirs = multiprocessing.Pipe()
    if not os.fork():
        ours.close()
        # Once for all runs: it begins no thread before there is a session.
        import_module("dbt.adapters.spark")
        import_module("pyspark.sql.connect.session")
        with suppress(EOFError):
            while True:
                command, named = theirs.recv()
                theirs.send(_run_dbt(command, **named))
        os._exit(0)
    theirs.close()

    def run(
        command: Sequence[str], *, env: Mapping[str, str], stdout: int | None = None, **_: Any
    ) -> subprocess.CompletedProcess[str]:
        sys.stdout.flush()
        ours.send((list(command), {"env": dict(env), "stdout": stdout}))
        ran: subprocess.CompletedProcess[str] = ours.recv()
        return ran

    return run


def _run_dbt(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    stdout: int | None = None,
    **_: Any,
) -> subprocess.CompletedProcess[str]:
    """Do what `subprocess.run` does with dbt's command, in a fork of this process."""
    # By the Python of this process, or by its name.
    arguments = command[3:] if list(command[:2]) == [sys.executable, "-c"] else command[1:]
    sys.stdout.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        code: int | str | None = 1
        try:
            _be("dbt", arguments, env, writing if stdout else os.dup(1))
        except SystemExit as end:
            code = end.code
        finally:
            os._exit(code if isinstance(code, int) else 0)
    os.close(writing)
    with open(reading, encoding="utf-8", errors="replace") as pipe:  # noqa: PTH123
        text = pipe.read()
    status = os.waitpid(child, 0)[1]
    return subprocess.CompletedProcess(
        list(command), os.waitstatus_to_exitcode(status), stdout=text if stdout else None
    )
