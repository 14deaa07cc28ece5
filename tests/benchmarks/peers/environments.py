"""The peers, each pinned in a virtual environment of its own, made once and kept."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.measuring import UnavailableError

_INSTALL_SECONDS = 1200.0


@dataclass(frozen=True)
class Peer:
    """Another client of the Batch API.

    Attributes:
        name: The package's name.
        version: The version that is measured.
        module: The module that drives it.
        also: Packages that its user installs beside it.
        rows: The most rows that it takes in about a minute here.
        stubbed: What is stubbed, in its favour.
    """

    name: str
    version: str
    module: str
    also: tuple[str, ...]
    rows: int
    stubbed: str


PEERS = (
    Peer(
        "llm-batch-py", "0.1.8", "llm_batch_py", ("duckdb",), 100_000,
        "the count of tokens, whose tokenizer is fetched from the network",
    ),
    Peer(
        "bespokelabs-curator", "0.1.31", "curator", ("duckdb",), 10_000,
        "the price of each answer, whose tokenizer is fetched from the network; telemetry, viewer "
        "and live display are off",
    ),
    Peer("steadybatch", "0.2.1", "steadybatch", ("duckdb", "openai", "pyarrow"), 10_000, "nothing"),
)  # fmt: skip


def environment(peer: Peer, root: Path) -> Path:
    """Return the interpreter of a peer's environment, made below `root` where it is not there.

    uv, where it is there, makes it in seconds.

    Raises:
        UnavailableError: It cannot be installed here; the text says why.
    """
    directory = root / f"{peer.name}-{peer.version}"
    python = directory / "bin" / "python"
    mark = directory / "installed"
    if mark.exists():
        return python
    shutil.rmtree(directory, ignore_errors=True)
    pins = {"duckdb": version("duckdb")}
    wanted = [f"{name}=={pins[name]}" if name in pins else name for name in peer.also]
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    if uv := shutil.which("uv"):
        pip = [uv, "pip", "install", "--python", str(python)]
    for command in (
        [sys.executable, "-m", "venv", str(directory)],
        [*pip, "--quiet", f"{peer.name}=={peer.version}", *wanted],
    ):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=_INSTALL_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(
                f"{' '.join(command)} took more than {error.timeout:g} s"
            ) from error
        if done.returncode:
            raise UnavailableError(done.stderr.strip().splitlines()[-1])
    mark.touch()
    return python
