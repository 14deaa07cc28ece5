"""An environment as a user makes it: the built wheel, pip, no constraints, no extras."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from support.dbt_project import REPOSITORY

_SECONDS = 600.0
# What the variables of this process would bring along.
_OWN = (
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONHOME",
    "PYTHONPATH",
    "UV_PROJECT_ENVIRONMENT",
    "VIRTUAL_ENV",
)


@dataclass(frozen=True)
class User:
    """Somebody with an environment and a directory of their own.

    Attributes:
        environment: The virtual environment.
        home: The home directory, without a profile or a cache of ours.
        wheel: The built wheel.
        variables: Environment variables beside the usual ones.
    """

    environment: Path
    home: Path
    wheel: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def with_variables(self, **variables: str) -> User:
        """Return the same user with further environment variables."""
        return replace(self, variables={**self.variables, **variables})

    def run(
        self, *command: str, at: Path | None = None, exits: int = 0, is_for_machines: bool = False
    ) -> str:
        """Run a command of the environment and return what it printed.

        Args:
            command: The command; its first word is looked for in the environment.
            at: The working directory (default: the home directory).
            exits: The exit code that it must have.
            is_for_machines: Whether what goes to stderr is for people, and left out.
        """
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in _OWN and not name.startswith(("DBT_", "AZURE_", "OPENAI_"))
        }
        binaries = self.environment / "bin"
        done = subprocess.run(
            [str(binaries / command[0]), *command[1:]],
            cwd=at or self.home,
            env={
                **kept,
                "HOME": str(self.home),
                "XDG_CACHE_HOME": str(self.home / "cache"),
                "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
                "NO_COLOR": "1",
                **self.variables,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if is_for_machines else subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
        assert done.returncode == exits, f"{command}: {done.stdout}"
        assert "Traceback" not in done.stdout, f"{command}: {done.stdout}"
        assert "Unhandled error" not in done.stdout, f"{command}: {done.stdout}"
        return done.stdout

    def pip(self, *arguments: str) -> None:
        """Install with pip, as the machine's own settings have it."""
        # Its cache is the machine's, as it is not what is tried here.
        home = os.environ.get("HOME", str(self.home))
        mine = self.with_variables(HOME=home)
        # Python compiles what is imported, which is little of what pip would compile.
        mine.run("python", "-m", "pip", "install", "--quiet", "--no-compile", *arguments)

    def has(self, *modules: str) -> dict[str, bool]:
        """Say of each module whether the environment can import it."""
        code = (
            "import importlib.util, json, sys; "
            "print(json.dumps({m: importlib.util.find_spec(m) is not None for m in sys.argv[1:]}))"
        )
        found: dict[str, bool] = json.loads(self.run("python", "-c", code, *modules))
        return found

    def version(self, distribution: str) -> str:
        """Return the version of an installed distribution."""
        code = f"from importlib.metadata import version; print(version({distribution!r}))"
        return self.run("python", "-c", code).strip()


def new_user(directory: Path) -> User:
    """Build the wheel and install it as a user does, who has Python, pip and a package index.

    dbt-core 1.12 requires a package that downloads a program while it is installed. Where that
    cannot be had, the user does what the docs say: dbt-core before 1.12.

    Args:
        directory: An empty directory.
    """
    environment, home, wheels = (directory / name for name in ("venv", "home", "wheels"))
    home.mkdir()
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    if importlib.util.find_spec("pip") is None:
        pip = ["python3", *pip[1:]]
    subprocess.run([*pip, "--wheel-dir", str(wheels), str(REPOSITORY)], check=True)
    (wheel,) = wheels.glob("dbt_enrich-*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    user = User(environment, home, wheel)
    parser = ("--no-deps", "dbt-core-experimental-parser")
    try:
        user.pip(*parser)
        older: tuple[str, ...] = ()
    except AssertionError:
        older = ("dbt-core<1.12",)
    user.pip(str(wheel), *older)
    return user
