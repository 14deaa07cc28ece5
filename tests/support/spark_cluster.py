"""Spark itself: a master and its workers as processes of this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from support.waiting import wait_until

_SECONDS = 120.0
_HOST = "127.0.0.1"
_MASTER, _WORKER = "org.apache.spark.deploy.master.Master", "org.apache.spark.deploy.worker.Worker"


@dataclass
class SparkCluster:
    """A master and workers.

    Attributes:
        url: The master's address.
        workers: The workers' processes.
        directory: Where logs and the workers' own files are.
    """

    url: str
    directory: Path
    workers: list[psutil.Process] = field(default_factory=list)

    def temporary(self, worker: int) -> Path:
        """Return the directory of a worker's temporary files."""
        return self.directory / f"temporary-{worker}"

    def kill(self, worker: int) -> None:
        """Kill a worker with its executors and their Python processes, as if its machine went."""
        process = self.workers[worker]
        for one in [*process.children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait(_SECONDS)


@contextmanager
def spark_cluster(home: Path, directory: Path, workers: int) -> Iterator[SparkCluster]:
    """Run a cluster whose workers have one core each.

    Args:
        home: Where Spark is.
        directory: Where its files are.
        workers: How many.
    """
    port, page = _free_port(), _free_port()
    environment = {
        **os.environ,
        "SPARK_LOCAL_IP": _HOST,
        "SPARK_DAEMON_MEMORY": "256m",
        "PYSPARK_PYTHON": sys.executable,
    }
    cluster = SparkCluster(f"spark://{_HOST}:{port}", directory)
    running: list[psutil.Process] = []
    try:
        arguments = ["--host", _HOST, "--port", str(port), "--webui-port", str(page)]
        running.append(_started(home, directory / "master.log", environment, _MASTER, *arguments))
        wait_until(lambda: _is_open(port), _SECONDS)
        for number in range(workers):
            arguments = [
                "--host", _HOST, "--cores", "1", "--memory", "1g",
                "--webui-port", str(_free_port()),
                "--work-dir", str(directory / f"worker-{number}"), cluster.url,
            ]  # fmt: skip
            log = directory / f"worker-{number}.log"
            temporary = cluster.temporary(number)
            temporary.mkdir()
            own = {**environment, "TMPDIR": str(temporary)}
            cluster.workers.append(_started(home, log, own, _WORKER, *arguments))
        running += cluster.workers
        yield cluster
    finally:
        for process in reversed(running):
            with suppress(psutil.NoSuchProcess):
                for one in [*process.children(recursive=True), process]:
                    with suppress(psutil.NoSuchProcess):
                        one.kill()
        psutil.wait_procs(running, timeout=_SECONDS)


def _started(
    home: Path, log: Path, environment: Mapping[str, str], name: str, *arguments: str
) -> psutil.Process:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [home / "bin" / "spark-class", name, *arguments],
            env=dict(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return psutil.Process(process.pid)


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((_HOST, port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def connect_server(home: Path, directory: Path) -> Iterator[int]:
    """Run a server of Spark Connect that is Spark itself; yield its port.

    Args:
        home: Where Spark is.
        directory: Where its tables and its log are.
    """
    port = _free_port()
    settings = {
        "spark.connect.grpc.binding.port": port,
        "spark.driver.bindAddress": _HOST,
        "spark.driver.host": _HOST,
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": 1,
        "spark.ui.enabled": "false",
    }
    options = [part for name, value in settings.items() for part in ("--conf", f"{name}={value}")]
    with (directory / "connect.log").open("wb") as log:
        process = subprocess.Popen(
            [
                home / "bin" / "spark-submit", "--master", "local[2]", *options,
                "--class", "org.apache.spark.sql.connect.service.SparkConnectServer",
                "spark-internal",
            ],
            cwd=directory,
            env={**os.environ, "SPARK_LOCAL_IP": _HOST, "PYSPARK_PYTHON": sys.executable},
            stdout=log,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        wait_until(lambda: _is_open(port), _SECONDS)
        yield port
    finally:
        process.kill()
        process.wait()
