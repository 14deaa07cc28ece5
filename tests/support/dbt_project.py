"""A small dbt project on disk, run by real dbt in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from support.forked_dbt import Forked, ForkedDbt

_DBT = [sys.executable, "-c", "from dbt.cli.main import cli; cli()", "--no-use-colors"]
PLUGIN, COMMAND = "plugin", "command"
both_doors = pytest.mark.parametrize("door", [PLUGIN, COMMAND])
"""Marks a test that the daily suite takes through both doors; the others it takes through one."""
plugin_alone = pytest.mark.parametrize("door", [PLUGIN])
"""Marks a test of what the other door has not, as docs/hosts says."""
REPOSITORY = Path(__file__).resolve().parents[2]


def azure(url: str, api_key: str, **changes: Any) -> dict[str, Any]:
    """The plugin's `config:` of an Azure resource that is the emulator, with short waits."""
    return {
        "provider": "azure",
        "endpoint": url,
        "api_key": api_key,
        "poll_interval": 0.05,
        "adoption_grace": 0.0,
        **changes,
    }


class DbtProject:
    """A project named `notes` with the package dbt_enrich installed.

    Args:
        directory: Where it is written.
        plugin: The plugin's `config:`; `state_dir` defaults to one in the directory.
        threads: dbt's threads.
        target: What else the profile's target `dev` says, such as `attach`.
        door: `plugin`, or `command` for a profile without it, with the configuration beside
            dbt_project.yml.
        stands_in: Whether `dbt-enrich` then does what dbt does with the plugin.
    """

    def __init__(
        self,
        directory: Path,
        plugin: dict[str, Any],
        *,
        threads: int = 2,
        target: dict[str, Any] | None = None,
        door: str = PLUGIN,
        stands_in: bool = False,
    ) -> None:
        self.door = door
        self.stands_in = stands_in and door == COMMAND
        self._is_bare = False
        self._written_last = ""
        self._environment: dict[str, str] = {}
        self.directory = directory / "project"
        self.warehouse = directory / "notes.duckdb"
        self.state_dir = directory / "state"
        self._threads = threads
        self._target = target or {}
        self.write(
            "dbt_project.yml",
            {
                "name": "notes",
                "profile": "notes",
                "version": "1.0",
                "config-version": 2,
                "flags": {"send_anonymous_usage_stats": False},
                "models": {"notes": {"+materialized": "table"}},
            },
        )
        self.configure(plugin)
        packages = self.directory / "dbt_packages"
        packages.mkdir()
        # What `dbt deps` makes of a local package.
        (packages / "dbt_enrich").symlink_to(REPOSITORY)
        self.write("packages.yml", {"packages": [{"local": str(REPOSITORY)}]})

    def configure(self, plugin: dict[str, Any]) -> None:
        """Write the profile with the given plugin configuration."""
        config = {"state_dir": str(self.state_dir), **plugin}
        target = {
            "type": "duckdb",
            "path": str(self.warehouse),
            "threads": self._threads,
        }
        if self.door == PLUGIN:
            ours = {"module": "dbt_enrich.plugin", "alias": "enrich", "config": config}
            target["plugins"] = [ours]
        else:
            self._configure_file(config)
        prod = {**target, "path": str(self.warehouse.with_name("prod.duckdb"))}
        outputs = {"dev": {**target, **self._target}, "prod": prod}
        self.write("profiles.yml", {"notes": {"target": "dev", "outputs": outputs}})

    def _configure_file(self, config: dict[str, Any]) -> None:
        """Write dbt_enrich.yml; a key of the service goes into the environment."""
        if "api_key" in config:
            self._environment["NOTES_API_KEY"] = config["api_key"]
            config = {**config, "api_key": "${NOTES_API_KEY}"}
        self.write("dbt_enrich.yml", config)

    def write(self, path: str, content: str | dict[str, Any]) -> None:
        """Write a file of the project; a dict becomes YAML."""
        file = self.directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
        file.write_text(text, encoding="utf-8")

    def enrichment(
        self,
        name: str,
        select: str,
        *,
        meta: dict[str, Any] | None = None,
        columns: list[dict[str, Any]] | None = None,
        config: str = "unique_key = 'id'",
    ) -> None:
        """Write an enrichment model and its YAML; a task with one text output by default."""
        self._written_last = name.rsplit("/", 1)[-1]
        comma = ", " if config else ""
        self.write(
            f"models/{name}.sql",
            f"{{{{ config(materialized = 'enrichment'{comma}{config}) }}}}\n{select}\n",
        )
        task = {
            "model": "gpt-4o-mini",
            "system": "Summarise the note.",
            "user": "{note}",
            "output": ["summary"],
            **(meta or {}),
        }
        described = columns or [{"name": "summary", "data_type": "varchar"}]
        self.write(
            f"models/{name}.yml",
            {
                "models": [
                    {
                        "name": name.rsplit("/", 1)[-1],
                        "config": {"meta": {"enrichment": task}},
                        "columns": described,
                    }
                ]
            },
        )

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start dbt anew and return the process."""
        project = ["--project-dir", str(self.directory), "--profiles-dir", str(self.directory)]
        return subprocess.Popen(
            [*_DBT, *arguments, *project],
            cwd=self.directory,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def fork(self, *arguments: str, **named: Any) -> ForkedDbt:
        """Start dbt in a process that has it imported; the names are those of `ForkedDbt`."""
        return ForkedDbt(self.directory, *arguments, **named)

    def dbt(
        self,
        *arguments: str,
        succeeds: bool = True,
        largest_file: int | None = None,
        **environment: str,
    ) -> str:
        """Run dbt and return what it printed; assert that it succeeded, or that it failed.

        Where the command stands in for it, and dbt is to run or build, `dbt-enrich` does.
        """
        if self.stands_in and not self._is_bare and {"run", "build"} & {*arguments}:
            return self._enriched(arguments, succeeds=succeeds)
        given = {**self._environment, **environment}
        dbt = self.fork(*arguments, largest_file=largest_file, environment=given)
        code = dbt.wait()
        assert (code == 0) == succeeds, dbt.output
        return dbt.output

    def bare_dbt(self, *arguments: str, succeeds: bool = True, **environment: Any) -> str:
        """Run dbt alone, whatever the door is; return what it printed."""
        self._is_bare = True
        try:
            return self.dbt(*arguments, succeeds=succeeds, **environment)
        finally:
            self._is_bare = False

    def _enriched(self, arguments: tuple[str, ...], *, succeeds: bool) -> str:
        """Do with the command what dbt does with the plugin, and return what it printed."""
        words, given, variables = [], [], {}
        rest = list(arguments[next(i for i, a in enumerate(arguments) if a in ("run", "build")) :])
        verb = rest.pop(0)
        while rest:
            word = rest.pop(0)
            if word == "--vars":
                given = [word, rest.pop(0)]
                variables = yaml.safe_load(given[1])
            elif word == "--full-refresh":
                self.bare_dbt("run", "--full-refresh")
            else:
                words.append(word)
        mode = variables.pop("enrichment_mode", "run")
        if mode == "preview":
            rows = variables.pop("enrichment_preview_rows", 5)
            return self.command(mode, self._written_last, "-n", str(rows))
        if "--select" not in words:
            words += ["--select", "fqn:*"]
        if variables:
            words += ["--vars", yaml.safe_dump(variables, default_flow_style=True).strip()]
        codes = [0, 3, 4] if succeeds else [1]
        code, text = self._command(mode, *words)
        assert code in codes, text
        if verb == "build" and succeeds:
            text += self.bare_dbt("test", *given)
        return text

    def command(self, *arguments: str, exits: int = 0) -> str:
        """Run `dbt-enrich` and return what it printed; assert its exit code."""
        code, text = self._command(*arguments)
        assert code == exits, text
        return text

    def fork_command(self, *arguments: str, kill_at: str | None = None) -> Forked:
        """Start `dbt-enrich` in a process that has it imported."""
        return Forked(
            "dbt-enrich",
            [*arguments, "--project-dir", str(self.directory)],
            log=self.directory / f"command-{os.urandom(4).hex()}.log",
            directory=self.directory.parent,
            environment={"DBT_PROFILES_DIR": str(self.directory), **self._environment},
            kill_at=kill_at,
        )

    def _command(self, *arguments: str) -> tuple[int, str]:
        running = self.fork_command(*arguments)
        code, text = running.wait(), running.output
        assert "Traceback" not in text, text
        return code, text

    def killed_command(self, *arguments: str, kill_at: str) -> None:
        """Run `dbt-enrich` until it kills itself at a moment."""
        running = self.fork_command(*arguments, kill_at=kill_at)
        assert running.was_killed(), running.output

    def killed(self, *arguments: str, kill_at: str, **environment: str) -> str:
        """Run dbt until it kills itself at a moment of the ledger; return what it printed."""
        dbt = self.fork(*arguments, kill_at=kill_at, environment=environment)
        assert dbt.was_killed(), dbt.output
        return dbt.output

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query on the warehouse."""
        with duckdb.connect(str(self.warehouse), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def execute(self, sql: str) -> None:
        """Change the warehouse."""
        with duckdb.connect(str(self.warehouse)) as connection:
            connection.execute(sql)
