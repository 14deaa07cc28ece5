"""A random soak: runs, kills and faults without end, and after each round the same promises.

    python tests/chaos/soak.py --minutes 5 --seed 7

Prints its seed. Each round changes the rows, sets faults at the service, starts runs in processes
of their own (of the engine alone or of dbt; two at once on one state directory among them), kills
or interrupts some of them and sometimes the service, loses the state directory while batches are
in flight, and then lets a run go to its end. Every row then has its own answer, and each request
was paid for once, over all rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
from batch_server.http_client import httpx
from support.dbt_project import DbtProject
from support.endpoints import (
    ENDPOINTS,
    options_for,
    paid_rows,
    provider_for,
    scripted_answer,
    task_for,
)

HERE = Path(__file__).parent
KEY = "soak-key"
NAMED = 9
# Two warehouses that the engine enriches, and one that dbt does.
ENGINES = ("a", "b")
DBT = "dbt"
# Batches end early so often that the usual number would be used up.
_ATTEMPTS = 20
_PATIENCE = 180.0
CONFIG: dict[str, Any] = {"timeout": 2.0, "max_requests_per_file": 7, "max_retries": 2}
_FAULTS: tuple[dict[str, Any], ...] = (
    {"name": "lost_reply", "operation": "POST /batches"},
    {"name": "lost_reply", "operation": "POST /files"},
    {"name": "reset", "operation": "POST /files"},
    {"name": "reset"},
    {"name": "truncated", "operation": "GET /files/file-"},
    {"name": "slow", "operation": "GET /files/file-", "delay": 0.001},
    {"name": "wrong_length", "operation": "GET /files/file-"},
    {"name": "hang", "operation": "GET /batches"},
    {"name": "garbage"},
    {"name": "status", "status": 429, "retry_after": "0"},
    {"name": "status", "status": 500},
    {"name": "status", "status": 503},
    {"name": "status", "status": 408},
    {"name": "status", "status": 400, "code": "token_limit_exceeded",
     "operation": "POST /batches"},
    {"name": "odd_status"},
    {"name": "iso_times"},
    {"name": "no_times"},
    {"name": "empty_ids"},
    {"name": "null_counts"},
    {"name": "american_status"},
    {"name": "unknown_fields"},
)  # fmt: skip
# Only ends and failures that leave nothing paid: what is asked again then is paid for once.
_ENDINGS: tuple[dict[str, Any], ...] = (
    {"status": "expired", "after": 1},
    {"status": "cancelled", "after": 2},
    {"failed": "token_limit_exceeded"},
    {"only_errors": True},
)


class BrokenPromiseError(Exception):
    """A promise that was not kept."""


class Service:
    """The emulator as a process, at one address, that may be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "service"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._client = httpx.Client(headers={"api-key": KEY}, trust_env=False, timeout=60)
        self.start()

    def start(self) -> None:
        """Start it on its directory."""
        command = [sys.executable, "-c", "from dbt_enrich.cli import main; main()", "serve"]
        command += ["--port", str(self._port), "--responder", "scripted"]
        self._process = subprocess.Popen(
            [*command, "--directory", str(self._directory)],
            env={**os.environ, "DBT_ENRICH_SERVE_KEY": KEY},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                if self._client.get(f"{self.url}/_control/health").is_success:
                    return
            except httpx.HTTPError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    def kill(self) -> None:
        """End it without a warning."""
        self._process.kill()
        self._process.wait()

    def tell(self, action: str, document: object) -> None:
        """Set something over the control plane."""
        self._client.post(f"{self.url}/_control/{action}", json=document).raise_for_status()

    def account(self) -> dict[str, Any]:
        """What was answered and paid for."""
        reply = self._client.get(f"{self.url}/_control/account")
        reply.raise_for_status()
        return dict(reply.json())


class Soak:
    """The rounds of one soak."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.chance = random.Random(seed)
        # One for all runs: what failed for good at one is asked again at another.
        self.endpoint = random.Random(seed).choice(ENDPOINTS)
        self.output = task_for(self.endpoint).outputs[0]
        self.service = Service(directory)
        self.done: list[str] = []
        self._next_row = 0
        self.rows: dict[int, str] = {}
        self._gone: list[str] = []
        self.config = {
            **provider_for(self.endpoint, self.service.url, KEY),
            "poll_interval": 0.05,
            "adoption_grace": 0.0,
            **CONFIG,
        }
        self.project = DbtProject(directory, {**self.config, "namespace": "tests"})

    def round(self) -> None:
        """Change the rows, run into trouble, run to the end, and hold the promises."""
        self._change_rows()
        self._set_trouble()
        for _ in range(self.chance.randint(1, 4)):
            self._disturbed_run()
        self.service.tell("faults", [])
        self.service.tell("endings", [])
        last = self.chance.choice(["a", "a", "b", DBT])
        self._run_to_the_end(last)
        self._assert_promises(last)

    def close(self) -> None:
        """End the service."""
        self.service.kill()

    def _change_rows(self) -> None:
        """Take rows away, change some, add new ones, repeat some, and bring texts back."""
        for row in self.chance.sample(sorted(self.rows), k=len(self.rows) // 4):
            self._gone.append(self.rows.pop(row))
        for row in self.chance.sample(sorted(self.rows), k=len(self.rows) // 5):
            self.rows[row] = f"edited {self._fresh()}"
        for _ in range(self.chance.randint(1, 40)):
            row = self._fresh()
            known = [*self.rows.values(), *self._gone]
            again = known and self.chance.random() < 0.2
            self.rows[row] = self.chance.choice(known) if again else f"note {row}"
        self._say(f"{len(self.rows)} rows")

    def _fresh(self) -> int:
        self._next_row += 1
        return self._next_row

    def _set_trouble(self) -> None:
        faults = [
            {**fault, "probability": self.chance.choice([0.05, 0.2]), "times": None}
            for fault in self.chance.sample(_FAULTS, k=self.chance.randint(0, 4))
        ]
        endings = [
            {**ending, "probability": 0.3, "times": 2}
            for ending in self.chance.sample(_ENDINGS, k=self.chance.randint(0, 2))
        ]
        self._say(f"faults {[f['name'] for f in faults]}, endings {endings}")
        self.service.tell("seed", {"seed": self.chance.randrange(1_000_000)})
        self.service.tell("faults", faults)
        self.service.tell("endings", endings)

    def _disturbed_run(self) -> None:
        """Run once or twice at a time, and perhaps disturb a run or the service."""
        names = self.chance.sample([*ENGINES, *ENGINES, DBT], k=self.chance.choice([1, 1, 2]))
        runs = {name: self._start(name) for name in dict.fromkeys(names)}
        trouble = self.chance.choice(["none", "kill", "kill", "kill service", "lose state"])
        if DBT in runs and self.chance.random() < 0.3:
            trouble = "interrupt"
        self._say(f"{' and '.join(runs)}, {trouble}")
        time.sleep(self.chance.uniform(0.3, 7.0 if DBT in runs else 4.0))
        if trouble == "kill":
            self.chance.choice(list(runs.values())).kill()
        if trouble == "interrupt":
            runs[DBT].send_signal(signal.SIGINT)
        if trouble == "kill service":
            self.service.kill()
            time.sleep(self.chance.uniform(0, 1))
            self.service.start()
        for name, run in runs.items():
            self._end(name, run, interrupted=trouble == "interrupt" and name == DBT)
        if trouble == "lose state":
            # With every run at an end, all that was paid for is at the service.
            shutil.rmtree(self.state, ignore_errors=True)

    def _start(self, name: str, mode: str | None = None) -> subprocess.Popen[str]:
        values = ", ".join(f"({row}, '{text}')" for row, text in sorted(self.rows.items()))
        select = f"select * from (values {values}) as notes(id, note)"
        mode = mode or self.chance.choice(["run", "run", "submit", "collect"])
        return self._start_dbt(select, mode) if name == DBT else self._engine(name, select, mode)

    def _start_dbt(self, select: str, mode: str) -> subprocess.Popen[str]:
        task = task_for(self.endpoint)
        described = {
            "name": self.output.name,
            "data_type": self.output.data_type,
            "description": self.output.description,
        }
        meta = {
            "mode": mode,
            "max_attempts": _ATTEMPTS,
            "endpoint": self.endpoint,
            "model": task.model,
            "system": task.system or "",
            "output": [self.output.name],
            **options_for(self.endpoint),
        }
        self.project.enrichment("notes", select, meta=meta, columns=[described])
        return self.project.start("run")

    def _engine(self, name: str, select: str, mode: str) -> subprocess.Popen[str]:
        job = {
            "warehouse": str(self._warehouse(name)),
            "table": "notes",
            "select": select,
            "mode": mode,
            "max_attempts": _ATTEMPTS,
            "endpoint": self.endpoint,
            "config": {**self.config, "state_dir": str(self.state)},
        }
        path = self.directory / f"{name}.json"
        path.write_text(json.dumps(job))
        return subprocess.Popen(
            [sys.executable, str(HERE / "soak_worker.py"), str(path)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _warehouse(self, name: str) -> Path:
        return self.project.warehouse if name == DBT else self.directory / f"{name}.duckdb"

    def _end(self, name: str, run: subprocess.Popen[str], *, interrupted: bool = False) -> int:
        """Wait for a run's end; return 0 if it came to a good one."""
        try:
            output, _ = run.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGABRT)
            raise BrokenPromiseError("a run hangs") from None
        named = run.returncode == NAMED
        if name == DBT:
            named = run.returncode == 1 and _is_named(output)
        if run.returncode not in (0, -signal.SIGKILL) and not named and not interrupted:
            raise BrokenPromiseError(f"a run ended with {run.returncode}:\n{output}")
        return run.returncode

    def _run_to_the_end(self, name: str) -> None:
        for _ in range(5):
            if self._end(name, self._start(name, "run")) == 0:
                return
        raise BrokenPromiseError("a run does not come to its end")

    def _assert_promises(self, name: str) -> None:
        with duckdb.connect(str(self._warehouse(name)), read_only=True) as warehouse:
            found = warehouse.execute(
                f"select id, {self.output.name}, enrichment_status from notes order by id"
            ).fetchall()
        expected = [
            (row, scripted_answer(self.endpoint, text), "done")
            for row, text in sorted(self.rows.items())
        ]
        wrong = [pair for pair in zip(found, expected, strict=False) if pair[0] != pair[1]]
        if wrong or len(found) != len(expected):
            raise BrokenPromiseError(f"{len(found)} rows for {len(expected)}; wrong: {wrong[:3]}")
        twice = {
            key: times for key, times in paid_rows(self.service.account()).items() if times > 1
        }
        if twice:
            raise BrokenPromiseError(f"paid for twice: {twice}")

    def _say(self, what: str) -> None:
        self.done.append(what)


def _is_named(output: str) -> bool:
    """Whether a failed dbt run says in one sentence what went wrong."""
    return "Runtime Error in model notes" in output and "Traceback" not in output


def soak(seconds: float, seed: int) -> int:
    """Run rounds for a time; return how many there were.

    Raises:
        BrokenPromiseError: A promise was not kept; what was done is printed before.
    """
    print(f"seed {seed}", flush=True)
    rounds = 0
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        running = Soak(Path(directory), seed)
        ends = time.monotonic() + seconds
        try:
            while time.monotonic() < ends or not rounds:
                running.done.clear()
                running.round()
                rounds += 1
                print(f"round {rounds}: {'; '.join(running.done)}", flush=True)
        except BaseException:
            print(f"seed {seed}, round {rounds + 1}: {'; '.join(running.done)}", flush=True)
            kept = Path(tempfile.gettempdir()) / f"soak-{seed}-failed"
            shutil.copytree(directory, kept, dirs_exist_ok=True)
            print(f"its files are in {kept}", flush=True)
            raise
        finally:
            running.close()
    return rounds


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    given = parser.parse_args()
    print(f"{soak(given.minutes * 60, given.seed)} rounds, every promise kept")


if __name__ == "__main__":
    main()
