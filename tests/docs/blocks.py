"""A page's code blocks, run one after another in a dbt project of their own.

What is done with a block, and how a page says so, is in CONTRIBUTING.md, "Docs".
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import yaml
from batch_server.server import RunningEmulator
from dbt_enrich.config import parse_config, read_project_file
from dbt_enrich.config.place import PROJECT_FILE
from dbt_enrich.config.project_file import TARGETS
from dbt_enrich.task.from_yaml import options_from_yaml, task_from_yaml
from docs.commands import Programs
from support.dbt_project import REPOSITORY
from sybil import Document, Example, Region
from sybil.parsers.markdown.lexers import DirectiveInHTMLCommentLexer, RawFencedCodeBlockLexer

_HERE = Path(__file__).parent
_BASH = shutil.which("bash") or "/bin/bash"
_AZURE = "https://my-resource.openai.azure.com"
# What the commands of a page have of the tests' own environment.
_KEPT = ("SSL_CERT_FILE", "TMPDIR")
_FENCE = RawFencedCodeBlockLexer(re.compile(r"(?P<info>[^\n]*)\n"))
_COMMENT = DirectiveInHTMLCommentLexer("project|run|fails|not run")
_NAMED = re.compile(r"(?:#|--) (?P<path>[\w./-]+\.\w+)(?:, (?P<place>[\w ./-]+))?\n")
_TITLE = re.compile(r'title="([^"]+)"')
_JINJA = re.compile(r"\{\{|\{%|\{#")
# What differs from run to run: times, seconds, sizes, ids and versions of a task.
_UNSTABLE = (
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:?\d\d)?)?"), "<moment>"),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "<time>"),
    (re.compile(r"\b\d+(\.\d+)? ?(s|ms|seconds?|minutes?)\b"), "<seconds>"),
    (re.compile(r"\b\d+(\.\d+)? ?(MB|GB|KB|kB)\b"), "<size>"),
    (re.compile(r"\bbatch_\w+"), "<batch>"),
    (re.compile(r"\b[0-9a-f]{8,}\b"), "<id>"),
    (re.compile(r"\.{4,}"), "…"),
    (re.compile(r"[ \t]+"), " "),
)
_KNOWN = {"sh", "text", "yaml", "sql", "python", "json", "csv"}


@dataclass
class Page:
    """A page that is run.

    Args:
        path: The page.
        directory: An empty directory; the project is made in it.
        programs: `dbt` and `dbt-enrich`.
        azure: The emulator that stands for a resource of Azure.
    """

    path: Path
    directory: Path
    programs: Programs
    azure: RunningEmulator
    project: str = "tickets"
    printed: str | None = None
    mark: str | None = None
    is_dirty: bool = False

    def run(self) -> None:
        """Run all blocks of the page.

        Raises:
            AssertionError: A block did not do what it says; the message names its line.
        """
        document = Document.parse(str(self.path), self._regions)
        self.programs.prepare = self._adapt_profile
        for example in document:
            try:
                example.evaluate()
            except Exception as error:
                place = f"{self.path.relative_to(REPOSITORY)}:{example.line}"
                raise AssertionError(f"{place}: {error}") from error
        if self.is_dirty and (self.root / "dbt_project.yml").exists():
            self._shell("dbt-enrich plan")

    @property
    def root(self) -> Path:
        """The project's directory, where commands start; a page may have changed to another."""
        return self.directory / "shop"

    def _regions(self, document: Document) -> Iterable[Region]:
        for region in (*_FENCE(document), *_COMMENT(document)):
            region.evaluator = self._comment if "directive" in region.lexemes else self._block
            yield region

    def _comment(self, example: Example) -> None:
        directive = example.region.lexemes["directive"]
        argument = example.region.lexemes["arguments"]
        if directive == "project":
            assert not self.root.exists(), "the project is chosen above the first block"
            self.project = argument
        elif directive == "run":
            self._prepare()
            self._shell(argument)
        else:
            assert self.mark is None, "two marks stand above one block"
            self.mark = directive
            assert directive == "fails" or argument, "say why it is not run"

    def _block(self, example: Example) -> None:
        language, _, rest = example.region.lexemes["info"].strip().partition(" ")
        source = str(example.region.lexemes["source"])
        assert language in _KNOWN, f"a block of {language or 'no language'}; known are {_KNOWN}"
        self._prepare()
        mark, self.mark = self.mark, None
        if mark == "not run":
            check(language, source)
            self.printed = None
            return
        assert mark is None or language == "sh", "only a sh block can fail"
        before, self.printed = self.printed, None
        title = _TITLE.search(rest)
        named = _NAMED.match(source)
        if language == "text":
            if before is not None:
                compare(source, before)
        elif language == "sh":
            self.printed = self._shell(source, fails=mark == "fails")
        elif title or named:
            check(language, source)
            path = title[1] if title else str(named["path"] if named else "")
            self._write(path, named["place"] if named else None, source)
        else:
            self.printed = self._other(language, source)

    def _other(self, language: str, source: str) -> str | None:
        match language:
            case "sql" if _JINJA.search(source):
                return self._shell(f"dbt show --inline {shlex.quote(source)}")
            case "sql":
                return self._query(source)
            case "python":
                program = self.directory / "block.py"
                program.write_text(source, encoding="utf-8")
                return self._shell(f"{shlex.quote(sys.executable)} {program}")
        check(language, source)
        return None

    def _prepare(self) -> None:
        """Make the project, before the first block."""
        if self.root.exists():
            return
        if self.project == "empty":
            self.root.mkdir()
        else:
            shutil.copytree(_HERE / "projects" / self.project, self.root)
            packages = self.root / "dbt_packages"
            packages.mkdir()
            # What `dbt deps` makes of a local package.
            (packages / "dbt_enrich").symlink_to(REPOSITORY)
            (self.root / "packages.yml").write_text(f"packages: [{{local: {REPOSITORY}}}]\n")

    def _write(self, name: str, place: str | None, source: str) -> None:
        path = self.root / name
        assert path.resolve().is_relative_to(self.root.resolve())
        path.parent.mkdir(parents=True, exist_ok=True)
        if place:
            document = merged(yaml.safe_load(path.read_text()), place, yaml.safe_load(source))
            source = yaml.safe_dump(document, sort_keys=False)
        path.write_text(source, encoding="utf-8")
        self.is_dirty = True

    def _adapt_profile(self) -> None:
        """Have a configuration answer at once: from the script, and by an emulator of Azure."""
        for name, configs in (("profiles.yml", plugin_configs), ("dbt_enrich.yml", file_configs)):
            path = self.root / name
            if not path.exists():
                continue
            before = path.read_text(encoding="utf-8")
            document = yaml.safe_load(before.replace(_AZURE, self.azure.url))
            for config in configs(document):
                self._adapt(config)
            if yaml.safe_load(before) != document:
                path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    def _adapt(self, config: dict[str, Any]) -> None:
        config.setdefault("poll_interval", 0.05)
        config.setdefault("adoption_grace", 0)
        if config.get("provider") == "local" and "responder" not in config:
            config["responder"] = "scripted"
        answers = _HERE / "answers" / f"{self.project}.json"
        if config.get("responder") == "scripted" and answers.exists():
            config.setdefault("script", str(answers))

    def _shell(self, script: str, *, fails: bool = False) -> str:
        exported, place = self.directory / "exported", self.directory / "place"
        if not exported.exists():
            exported.write_text("")
            place.write_text(str(self.root))
        whole = (
            f'set -eo pipefail\n. {exported}\ncd "$(cat {place})"\n'
            f"trap 'export -p > {exported}; pwd > {place}' EXIT\n{script}"
        )
        done = subprocess.run(
            [_BASH, "-c", whole],
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert (done.returncode != 0) == fails, f"exit code {done.returncode}\n{done.stdout}"
        self.is_dirty = self.is_dirty and "dbt" not in script
        return done.stdout

    def _environment(self) -> dict[str, str]:
        home = self.directory / "home"
        home.mkdir(exist_ok=True)
        return {
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "PATH": f"{self.programs.directory}:{Path(sys.executable).parent}:/usr/bin:/bin",
            "AZURE_OPENAI_ENDPOINT": self.azure.url,
            "AZURE_OPENAI_API_KEY": self.azure.api_key,
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            "DBT_USE_COLORS": "false",
            "COLUMNS": "200",
            **{name: os.environ[name] for name in _KEPT if name in os.environ},
        }

    def _query(self, sql: str) -> str:
        profiles = yaml.safe_load((self.root / "profiles.yml").read_text())
        profile = next(iter(profiles.values()))
        warehouse = self.root / profile["outputs"][profile["target"]]["path"]
        with duckdb.connect(str(warehouse), read_only=True) as connection:
            return str(connection.sql(sql))


def plugin_configs(profiles: Any) -> Iterable[dict[str, Any]]:
    """Yield the configurations of our plugin in a profiles.yml."""
    for profile in (profiles or {}).values():
        for output in profile.get("outputs", {}).values() if isinstance(profile, dict) else ():
            for plugin in output.get("plugins") or ():
                if plugin.get("module") == "dbt_enrich.plugin":
                    yield plugin.setdefault("config", {})


def file_configs(document: Any) -> Iterable[dict[str, Any]]:
    """Yield the configurations in a dbt_enrich.yml: of all targets, and of each."""
    yield document
    yield from (document.get("targets") or {}).values()


def merged(document: Any, place: str, addition: Any) -> Any:
    """Return a YAML document with something merged into a place of it.

    Args:
        document: It.
        place: As the first line of a block has it: `added`, `in the target`, `in config`,
            `in meta.enrichment`, or `in` and a key.
        addition: What is merged.
    """
    if place == "added":
        return _merge(document, addition)
    name = place.removeprefix("in ")
    if name == "meta.enrichment":
        target = document["models"][0]["config"]["meta"]["enrichment"]
    elif name == "the target":
        profile = next(iter(document.values()))
        target = profile["outputs"][profile["target"]]
    elif name == "config":
        target = next(iter(plugin_configs(document)))
    else:
        target = document.setdefault(name, {})
    target.update(_merge(target, addition))
    return document


def _merge(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return {**one, **{k: _merge(one.get(k), value) for k, value in other.items()}}
    if not (isinstance(one, list) and isinstance(other, list)):
        return other
    if not all(isinstance(item, dict) and "name" in item for item in (*one, *other)):
        return other
    by_name = {item["name"]: item for item in one}
    for item in other:
        by_name[item["name"]] = _merge(by_name.get(item["name"]), item)
    return [*by_name.values()]


def compare(shown: str, printed: str) -> None:
    """Look for the lines that a page shows among those that were printed, in their order.

    Raises:
        AssertionError: A line is not there.
    """
    lines = iter([_stable(line) for line in printed.splitlines()])
    for line in shown.splitlines():
        wanted = _stable(line)
        if not wanted or wanted == "...":
            continue
        pattern = re.compile(".*".join(map(re.escape, wanted.split("..."))))
        assert any(pattern.fullmatch(found) for found in lines), (
            f"not printed: {line}\nWhat was printed:\n{printed}"
        )


def _stable(line: str) -> str:
    for pattern, word in _UNSTABLE:
        line = pattern.sub(word, line)
    return line.strip()


def check(language: str, source: str) -> None:
    """Parse a block as what it is.

    Raises:
        Exception: It is none.
    """
    match language:
        case "sh":
            # A line of a crontab is no command of bash.
            if not source.startswith("# crontab"):
                subprocess.run([_BASH, "-n", "-c", source], check=True)
        case "yaml":
            for document in yaml.safe_load_all(source):
                _check_document(document)
        case "json":
            json.loads(source)
        case "python":
            ast.parse(source)
        case "sql" if not _JINJA.search(source):
            duckdb.extract_statements(source)


def _check_document(document: Any) -> None:
    """Check what a YAML document says, where it is one of a kind that is known."""
    if not isinstance(document, Mapping):
        return
    if "jobs" in document:
        # YAML takes the word `on` for true.
        assert True in document or "on" in document
        for job in document["jobs"].values():
            assert job["runs-on"]
            assert all("run" in step or "uses" in step for step in job["steps"])
    config = document.get("config")
    if isinstance(config, Mapping) and "provider" in config:
        parse_config({**config}, duckdb_settings={})
    if "provider" in document:
        _check_project_file(document)
    for found in plugin_configs(document) if "models" not in document else ():
        parse_config(found, duckdb_settings={})
    for model in document.get("models") or () if isinstance(document.get("models"), list) else ():
        _check_model(model)


def _check_project_file(document: Mapping[str, Any]) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / PROJECT_FILE
        path.write_text(yaml.safe_dump(dict(document)), encoding="utf-8")
        for target in document.get(TARGETS) or ("dev",):
            assert read_project_file(path.parent, target)


def _check_model(model: Mapping[str, Any]) -> None:
    meta = ((model.get("config") or {}).get("meta") or {}).get("enrichment") or {}
    options_from_yaml(model["name"], meta)
    # A block that is merged into another may leave out what the other has.
    if {"model", "user", "output"} <= {*meta}:
        columns = {column["name"]: column for column in model.get("columns", ())}
        task_from_yaml(model["name"], meta, columns)
