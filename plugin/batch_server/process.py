"""The emulator as a process of its own, shared by everyone who works on one directory.

It is started by the first user and ends with the last. Every user holds a lock on a file of their
own, which the kernel frees when they die, so that nobody has to say goodbye. What a batch has got
so far is on disk, and the next process goes on with it.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from batch_server.http_client import httpx, loopback_client
from batch_server.problems import BatchServerError, SetupError
from batch_server.responders import ResponderSpec

KEY_VARIABLE = "DBT_ENRICH_EMULATOR_KEY"
ADDRESS_FILE = "address.json"
_POLL_SECONDS = 0.1
_LOG_LINES = 15


@dataclass(frozen=True)
class EmulatorMembership:
    """One user's hold on the running emulator.

    Attributes:
        url: The emulator's address, without a path.
        api_key: The key that it demands.
        log_path: Where it writes what it has to say.
    """

    url: str
    api_key: str
    log_path: Path
    _lock: FileLock

    def release(self) -> None:
        """Let go; the emulator ends shortly after its last user has."""
        self._lock.release()
        with suppress(OSError):
            Path(self._lock.lock_file).unlink()

    def __repr__(self) -> str:
        return f"EmulatorMembership(url={self.url!r})"


def join_emulator(
    directory: Path,
    *,
    spec: ResponderSpec,
    startup_timeout: float = 120.0,
    say: Callable[[str], None] | None = None,
) -> EmulatorMembership:
    """Join the emulator that runs on `directory`, or start one.

    Args:
        directory: Where it keeps its state.
        spec: Who answers.
        startup_timeout: Seconds that starting may take; a model is loaded meanwhile.
        say: Takes a line for the user where a model has to be loaded.

    Raises:
        SetupError: One runs with another responder, or an extra is not installed.
        BatchServerError: It does not start.
    """
    spec.check_installed()
    users = directory / "users"
    users.mkdir(parents=True, exist_ok=True, mode=0o700)
    user = FileLock(
        users / f"{os.getpid()}-{secrets.token_hex(6)}.lock", mode=0o600, thread_local=False
    )
    user.acquire()
    try:
        with FileLock(directory / "start.lock", mode=0o600):
            address = _running(directory)
            if address is None:
                if say and spec.loads:
                    say(f"loading {spec.loads}, which takes some seconds")
                address = _start(directory, spec, startup_timeout)
            _check_spec(directory, address, spec)
    except BaseException:
        user.release()
        Path(user.lock_file).unlink(missing_ok=True)
        raise
    return EmulatorMembership(address["url"], address["key"], directory / "emulator.log", user)


def has_users(directory: Path) -> bool:
    """Whether a process holds a lock in the emulator's directory; dead users' files are removed."""
    alive = False
    for path in (directory / "users").glob("*.lock"):
        if _is_held(path):
            alive = True
        else:
            path.unlink(missing_ok=True)
    return alive


def is_used(directory: Path) -> bool:
    """Whether a process holds a lock in the emulator's directory, in which nothing is removed.

    Where that cannot be known, it counts as held.
    """
    try:
        return any(_is_held(path) for path in (directory / "users").glob("*.lock"))
    except OSError:
        return True


def _is_held(path: Path) -> bool:
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def write_address(directory: Path, url: str, api_key: str, spec: ResponderSpec) -> None:
    """Say where the emulator is, readable by its owner alone."""
    temporary = directory / f".{ADDRESS_FILE}"
    temporary.touch(mode=0o600)
    document = {"url": url, "key": api_key, "spec": spec.arguments(), "pid": os.getpid()}
    temporary.write_text(json.dumps(document), encoding="utf-8")
    temporary.replace(directory / ADDRESS_FILE)


def _running(directory: Path) -> dict[str, Any] | None:
    """Return the address of the emulator that runs on a directory, if it answers."""
    try:
        address = json.loads((directory / ADDRESS_FILE).read_text(encoding="utf-8"))
        headers = {"api-key": address["key"]}
        with loopback_client(timeout=5) as client:
            reply = client.get(f"{address['url']}/_control/health", headers=headers)
    except (OSError, ValueError, KeyError, httpx.HTTPError):
        return None
    return address if reply.status_code == 200 else None


def _check_spec(directory: Path, address: dict[str, Any], spec: ResponderSpec) -> None:
    if address["spec"] != spec.arguments():
        raise SetupError(
            f"an emulator runs on {directory} with {' '.join(address['spec'])}, and this run wants "
            f"{' '.join(spec.arguments())}",
            fix="wait until the other run has ended, or give this one another state_dir",
        )


def _start(directory: Path, spec: ResponderSpec, timeout: float) -> dict[str, Any]:
    (directory / ADDRESS_FILE).unlink(missing_ok=True)
    log = directory / "emulator.log"
    log.touch(mode=0o600)
    command = [sys.executable, "-m", "batch_server", f"--directory={directory}"]
    with log.open("ab") as output:
        begin = output.tell()
        process = subprocess.Popen(  # noqa: S603
            [*command, *spec.arguments()],
            env={**os.environ, KEY_VARIABLE: secrets.token_urlsafe(32)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        address = _running(directory)
        if address:
            return address
        if process.poll() is not None:
            raise BatchServerError(
                f"the local emulator ended while it started ({_last_lines(log, begin)})",
                fix=f"see its log {log}",
            )
        time.sleep(_POLL_SECONDS)
    process.kill()
    raise BatchServerError(
        f"the local emulator did not start within {timeout:g} seconds ({_last_lines(log, begin)})",
        fix=f"see its log {log}",
    )


def _last_lines(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return "\n".join(lines[-_LOG_LINES:]) or "nothing"
