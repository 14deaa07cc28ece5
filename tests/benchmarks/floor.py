"""The floor: as many bytes as another contender wrote and read, and nothing else."""

from __future__ import annotations

from pathlib import Path

from benchmarks.measuring import Clock

_BLOCK = 1 << 20


def run(directory: Path, clock: Clock, request_bytes: int, response_bytes: int) -> None:
    """Write so many bytes, and read so many that are there."""
    requests, responses = directory / "floor-requests", directory / "floor-responses"
    with clock.step("export"):
        _write(requests, request_bytes)
    _write(responses, response_bytes)
    with clock.step("load"), responses.open("rb") as file:
        while file.read(_BLOCK):
            pass
    clock.figures["request_mb"] = requests.stat().st_size / 1_000_000
    clock.figures["response_mb"] = responses.stat().st_size / 1_000_000


def _write(path: Path, size: int) -> None:
    block = b"x" * _BLOCK
    with path.open("wb") as file:
        for written in range(0, size, _BLOCK):
            file.write(block[: size - written])
