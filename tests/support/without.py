"""A Python in which packages are not installed, as far as any import can tell, or are counted.

`python -c` code begins with what `absent` returns, and a fork runs it first; a `sitecustomize`
counts in every process below.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

_FINDER = """
import sys
from importlib.abc import MetaPathFinder


class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in {names!r} or name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        return None


sys.meta_path.insert(0, Absent())
"""


_RECORDER = """
import atexit
import sys


def record():
    with open({path!r}, "a") as file:
        print(*sorted({names!r} & set(sys.modules)), file=file)


atexit.register(record)
"""


def absent(names: Collection[str]) -> str:
    """Return the code that hides modules and what is below them.

    Args:
        names: The modules' names, such as `uvicorn` or `azure.identity`.
    """
    return _FINDER.format(names=frozenset(names))


def recorded(directory: Path, names: Collection[str], path: Path) -> dict[str, str]:
    """Return the environment variables with which every Python records what it imported.

    `duckdb` is recorded too: where it is missing, nothing was seen.

    Args:
        directory: Where the code is written; of the caller's own.
        names: The modules' names.
        path: The file that each process adds to as it ends.
    """
    directory.mkdir(parents=True, exist_ok=True)
    code = _RECORDER.format(path=str(path), names=frozenset({"duckdb", *names}))
    (directory / "sitecustomize.py").write_text(code, encoding="utf-8")
    paths = [str(directory), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths)}
