"""The pages of docs/reference, made from the models, the commands, the macros and the catalogs.

`make reference` writes them; a test says where they are not what this would write.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any

import click
import yaml
from batch_server.responders import UpstreamOptions
from dbt_enrich.cli import main
from dbt_enrich.cli.exits import DONE, ERROR, FAILED_ROWS, PENDING
from dbt_enrich.cli.project import project_options
from dbt_enrich.config.azure import AzureConfig
from dbt_enrich.config.common import PluginConfig
from dbt_enrich.config.credential import EntraKeys
from dbt_enrich.config.local import LocalConfig
from dbt_enrich.config.openai import OpenAIConfig
from dbt_enrich.config.profile import CONFIGS
from dbt_enrich.config.providers import Provider
from dbt_enrich.config.remote import RemoteConfig
from dbt_enrich.config.state import StateKeys
from dbt_enrich.cost.caps import Cap, Caps
from dbt_enrich.pipeline.publish.usage_relations import (
    ATTEMPT_COLUMNS,
    BATCH_COLUMNS,
    DESCRIPTIONS,
    RELATIONS,
    USAGE_COLUMNS,
)
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.failures import RULES, FailureKind, FailureRule
from dbt_enrich.task.options import EnrichmentOptions, Mode
from dbt_enrich.task.result_columns import ERROR_COLUMNS, STATUS_COLUMNS, STATUSES, Column
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.warehouse.catalogs import Catalog, changed_columns
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

REPOSITORY = Path(__file__).resolve().parents[2]
_HEAD = "<!-- `make reference` writes this page. -->\n"


def attributes(documented: type) -> dict[str, str]:
    """Return what the docstrings of a class and its bases say of its attributes.

    Args:
        documented: A class whose docstring has Google's section `Attributes`.
    """
    found: dict[str, str] = {}
    for kind in reversed(documented.__mro__):
        _, _, section = (inspect.getdoc(kind) or "").partition("Attributes:\n")
        section = re.split(r"\n(?=\S)", section)[0]
        for name, text in re.findall(
            r"^    ([A-Za-z]\w*): (.*(?:\n     +.*)*)", section, re.MULTILINE
        ):
            found[name] = " ".join(text.split())
    return found


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [[*head], ["---"] * len([*head]), *([*row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _page(title: str, text: str, *parts: str) -> str:
    return "\n".join([f"# {title}\n", _HEAD, text + "\n", *parts])


# Keys of YAML


def _values(schema: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> str:
    """Say in words which values a JSON schema allows.

    Args:
        schema: It, or a part of it.
        known: What `$ref` names, of the whole schema.
    """
    known = schema.get("$defs", {}) if known is None else known
    if "$ref" in schema:
        return _values(known[schema["$ref"].rsplit("/", 1)[-1]], known)
    if "anyOf" in schema:
        some = [part for part in schema["anyOf"] if part.get("type") != "null"]
        return " or ".join(_values(part, known) for part in some)
    if "enum" in schema or "const" in schema:
        return _either(schema.get("enum", [schema.get("const")]))
    match schema.get("type"):
        case "boolean":
            return "`true` or `false`"
        case "integer" | "number":
            noun = "whole number" if schema["type"] == "integer" else "number"
            return f"a {noun}{_bounds(schema)}"
        case "array":
            items = _values(schema["items"], known)
            return f"a list of {_several(items)}"
        case "object":
            inner = schema.get("additionalProperties")
            if isinstance(inner, dict) and inner:
                return f"a mapping of names to {_values(inner, known)}"
            return "a mapping"
    return {"path": "a path", "password": "text, never shown"}.get(schema.get("format", ""), "text")


def _several(values: str) -> str:
    return values if "`" in values else f"{values.removeprefix('a ')}s"


def _either(values: Iterable[object]) -> str:
    members = [f"`{value}`" for value in values]
    return " or ".join(filter(None, [", ".join(members[:-1]), members[-1]]))


def _bounds(schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        return f" from {least:g} to {most:g}"
    if schema.get("exclusiveMinimum") is not None:
        return f" above {schema['exclusiveMinimum']:g}"
    return "" if least is None else f", {least:g} or more"


def _key(name: str, values: str, default: object, text: str) -> str:
    stated = re.search(r" ?\(default: ([^)]*)\)", text)
    if stated:
        text = text.replace(stated[0], "")
    text = re.sub(r"\bNone\b", "none", text)
    return f"### `{name}`\n\n{text}\n\n- {_sentence(values)}.\n- {_default(default, stated)}\n"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _default(default: object, stated: re.Match[str] | None) -> str:
    if default is ...:
        return "Required."
    if stated:
        return f"Default: {stated[1]}."
    if default is None or default in ((), {}):
        return "Default: none."
    if isinstance(default, bool):
        return f"Default: `{str(default).lower()}`."
    return f"Default: `{default:g}`." if isinstance(default, float) else f"Default: `{default}`."


def _field(name: str, field: FieldInfo, text: str) -> str:
    annotated: Any = Annotated[field.annotation, field]
    schema = TypeAdapter(annotated).json_schema()
    default = ... if field.is_required() else field.get_default(call_default_factory=True)
    shown = None if isinstance(default, BaseModel) else default
    return _key(name, _values(schema), shown, text)


def _keys(model: Any, *, without: Iterable[str] = ()) -> str:
    """Write the keys that a pydantic model declares itself."""
    texts = attributes(model)
    return "\n".join(
        _field(name, field, texts[name])
        for name, field in model.model_fields.items()
        if name in model.__annotations__ and name not in without
    )


def _dataclass_keys(model: Any, *, without: Iterable[str] = ()) -> str:
    texts = attributes(model)
    hints = inspect.get_annotations(model, eval_str=True)
    return "\n".join(
        _key(
            field.name,
            _values(TypeAdapter(hints[field.name]).json_schema()),
            ... if field.default is MISSING else field.default,
            texts[field.name],
        )
        for field in fields(model)
        if field.name not in without
    )


def model_settings() -> str:
    """Write the page of `meta.enrichment`."""
    texts = attributes(EnrichmentTask)
    output = _key("output", "a list of names of columns", ..., texts["outputs"])
    task = _keys(EnrichmentTask, without=["outputs"])
    modes = attributes(Mode)
    return _page(
        "`meta.enrichment`",
        "What a model says of its enrichment, below `config: {meta: {enrichment: …}}` in its YAML.",
        "## What is asked\n",
        "These keys, and the types and descriptions of the output columns, are the task. A change "
        "asks the rows again, except one of `literal_braces` or of the token limits in "
        "`parameters`: see [Change a prompt](../guides/change-a-prompt.md).\n",
        output,
        task,
        "## How it is run\n",
        "None of these keys is part of an answer's identity: a change asks nothing again.\n",
        _keys(EnrichmentOptions),
        "## Modes\n",
        _table(["mode", "what a run does"], ([f"`{m}`", modes[m.name]] for m in Mode)),
        "## Output columns\n",
        "These keys stand in a column's own `config: {meta: {enrichment: …}}`. They are part of "
        "the task.\n",
        _dataclass_keys(OutputColumn, without=["name", "data_type", "description"]),
    )


def profile() -> str:
    """Write the page of the plugin's block in profiles.yml."""
    return _page(
        "The profile",
        "The keys of `config:` under the plugin `dbt_enrich.plugin` in `profiles.yml`. Keys of "
        "another provider may stand in a block that several targets share. Those of `local` and of "
        "Microsoft Entra ID are ignored elsewhere. An address, a version or a key that does not "
        "belong to the provider is refused before anything is sent.",
        "## Every provider\n",
        _provider_key(),
        _keys(PluginConfig, without=["provider", "foreign"]),
        "## `caps`\n",
        "Below `caps:`, in `run:` and in `day:`.\n",
        _table(["key", "what it caps"], ([f"`{n}`", text] for n, text in attributes(Caps).items())),
        _keys(Cap),
        "## `state`\n",
        "Below `state:`, with the extra `remote`. See [Runners that share one state]"
        "(../guides/state.md#runners-that-share-one-state).\n",
        _keys(StateKeys),
        "## `azure` and `openai`\n",
        _keys(RemoteConfig),
        "## `azure`\n",
        _keys(AzureConfig, without=["provider"]),
        "## `openai`\n",
        _keys(OpenAIConfig, without=["provider"]),
        "## Microsoft Entra ID\n",
        "For `azure`, in place of `api_key`; with the extra `azure`.\n",
        _keys(EntraKeys),
        "## `local`\n",
        _keys(LocalConfig, without=["provider"]),
        "## `upstream`\n",
        "Below `upstream:`, with `responder: upstream`.\n",
        _dataclass_keys(UpstreamOptions),
    )


def _provider_key() -> str:
    return _key("provider", _either(CONFIGS), ..., attributes(PluginConfig)["provider"])


# Commands


def leaf_commands() -> dict[str, click.Command]:
    """Return the commands of `dbt-enrich`, those of groups by both names."""
    return dict(_commands_of(main))


def _commands_of(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield before + name, command
        if isinstance(command, click.Group):
            yield from _commands_of(command, f"{before}{name} ")


def _project_parameters() -> list[click.Parameter]:
    """The options by which every command finds its project."""

    @click.command()
    @project_options
    def nothing(**_: object) -> None:
        pass

    return nothing.params


def _options(command: click.Command, parameters: Iterable[click.Parameter]) -> str:
    context = click.Context(command)
    rows = []
    for option in parameters:
        record = option.get_help_record(context) if isinstance(option, click.Option) else None
        if record:
            rows.append([f"`{record[0]}`", _cell(record[1])])
    return _table(["option", "what it does"], rows) if rows else ""


def _cell(text: str) -> str:
    return re.sub(r"\s*\[(default: [^\]]*|required)[^\]]*\]$", r" (\1)", text).replace("|", "\\|")


def commands() -> str:
    """Write the page of the commands."""
    shared = _project_parameters()
    names = {option.name for option in shared}
    parts = []
    for name, command in leaf_commands().items():
        context = click.Context(command, info_name=f"dbt-enrich {name}")
        own = [option for option in command.params if option.name not in names]
        usage = command.get_usage(context).removeprefix("Usage: ")
        help_text = inspect.cleandoc(command.help or "").split("\f")[0]
        paragraphs = [" ".join(part.split()) for part in help_text.split("\n\n")]
        takes = {option.name for option in command.params} >= names
        parts += [
            f"## `dbt-enrich {name}`\n",
            "\n\n".join(paragraphs) + "\n",
            f"```text\n{' '.join(usage.split())}\n```\n",
            *filter(None, [_options(command, own)]),
            *(["With the [options of every project](#options-of-every-project).\n"] * takes),
        ]
    return _page(
        "Commands",
        "Each command prints the same with `--help`. `dbt-enrich --version` prints the version.",
        *parts,
        "## Options of every project\n",
        _options(main, shared),
        "## Exit codes\n",
        _table(
            ["code", "what it means"],
            [
                [f"`{DONE}`", "Everything that was asked is done."],
                [f"`{ERROR}`", "Something is wrong. The message says what."],
                ["`2`", "The command line is wrong."],
                [f"`{PENDING}`", "Batches are still at the service."],
                [f"`{FAILED_ROWS}`", "Rows failed for good."],
            ],
        ),
    )


# What comes of a row


def statuses() -> str:
    """Write the page of `enrichment_status`."""
    return _page(
        "Statuses",
        "What `enrichment_status` says of a row. [The outcomes of a row](../guides/outcomes.md) "
        "says what to do. Every row of the SELECT has one: nothing disappears.",
        *(f"## `{status}`\n\n{text}\n" for status, text in STATUSES.items()),
    )


def _again(rule: FailureRule) -> str:
    if not rule.ask_again:
        return "No, unless `ask_again` names it."
    if rule.next_run:
        return "Yes, by the next run."
    if rule.repair:
        return "Yes, the second time with the answer and what is wrong with it."
    if rule.larger_limit:
        return "Yes, with a larger limit, if the task sets one."
    return "Yes."


def failures() -> str:
    """Write the page of the kinds of failure."""
    texts = attributes(FailureKind)
    again = {kind: _again(rule) for kind, rule in RULES.items()}
    again[FailureKind.PROVIDER_ERROR] = (
        "Yes, unless the request itself is at fault: a status of 400 to 499 other than 408, 409 "
        "and 429."
    )
    again[FailureKind.PACK_FAILED] = "Yes, alone."
    return _page(
        "Kinds of failure",
        "Why a row has no answer, as `enrichment_error` and the relation `<model>__errors` name "
        "it. A row is asked `max_attempts` times in all. [The outcomes of a "
        "row](../guides/outcomes.md) says what to do.",
        _table(
            ["kind", "asked again"],
            ([f"[`{kind}`](#{kind})", again[kind]] for kind in FailureKind),
        ),
        *(
            f"## `{kind}`\n\n{texts[kind.name]}\n\nAsked again: {_lower(again[kind])}\n"
            for kind in FailureKind
        ),
    )


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]


def _columns(columns: Iterable[Column]) -> str:
    return _table(
        ["column", "type", "what it holds"],
        ([f"`{c.name}`", f"`{c.data_type}`", c.description.rstrip(".") + "."] for c in columns),
    )


def relations() -> str:
    """Write the page of the tables that a run builds."""
    types = {"batches": BATCH_COLUMNS, "attempts": ATTEMPT_COLUMNS, "usage": USAGE_COLUMNS}
    return _page(
        "Relations",
        "The tables that dbt-enrich builds, with their columns.",
        "## The enriched table\n",
        "It has the columns of the SELECT, the output columns, and these:\n",
        _columns(STATUS_COLUMNS),
        "## `<model>__errors`\n",
        "One row for each failed attempt at a row of the table. Read it with "
        "[`enrichment_errors`](macros.md#enrichment_errors).\n",
        _columns(ERROR_COLUMNS),
        "## The schema `enrichment`\n",
        "Replaced at the end of each dbt run. The variable `enrichment_schema` names another "
        "schema.\n",
        *(
            f"### `{name}`\n\n{text}.\n\n"
            + _columns(Column(n, t, DESCRIPTIONS[n]) for n, t in types[name].items())
            for name, text in RELATIONS.items()
        ),
    )


# The dbt package


def macros() -> str:
    """Write the page of the macros, the materialization and the generic tests."""
    text = (REPOSITORY / "macros" / "_macros.yml").read_text(encoding="utf-8")
    parts = []
    for macro in yaml.safe_load(text)["macros"]:
        if (macro.get("config") or {}).get("docs", {}).get("show") is False:
            continue
        kind, name = _macro_name(macro["name"])
        parts.append(f"## {kind} `{name}`\n" if kind else f"## `{name}`\n")
        parts.append(macro["description"])
        if macro.get("arguments"):
            rows = [
                [f"`{a['name']}`", f"`{a['type']}`", a["description"]] for a in macro["arguments"]
            ]
            parts.append(_table(["argument", "type", "what it is"], rows))
    return _page(
        "Macros and tests",
        "What the dbt package `dbt_enrich` offers to your models. Call a macro as "
        "`dbt_enrich.enrichment_errors(…)`.",
        *parts,
    )


def _macro_name(name: str) -> tuple[str, str]:
    """Return what a macro is, where it is not just called, and how users write it."""
    if name.startswith("materialization_"):
        return "Materialization", name.split("_")[1]
    if name.startswith("test_"):
        return "Test", "dbt_enrich." + name.removeprefix("test_")
    return "", name


# What goes with what

_TYPES = {
    "enum": "ENUM('a', 'b')",
    "list": "VARCHAR[]",
    "struct": "STRUCT(a VARCHAR, b INTEGER)",
    "list of structs": "STRUCT(a VARCHAR)[]",
    "decimal": "DECIMAL(18, 2)",
    "hugeint": "HUGEINT",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
}
_LOCKS = {
    "the lock": "constraints.txt",
    "DuckDB 2": "constraints-duckdb2.txt",
    "extensions": "constraints-extensions.txt",
}


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _catalog_row(catalog: Catalog) -> list[str]:
    changed = changed_columns(catalog, dict(_TYPES.items()))
    kept = ", ".join(f"{name} as `{kind.lower()}`" for name, kind in changed.items())
    return [
        catalog.label,
        "**untried**" if catalog == Catalog.MOTHERDUCK else "tried",
        "in place" if catalog.merges else "by delete and insert",
        _yes(catalog.has_indexes),
        _yes(catalog.has_comments),
        kept or "as they are",
    ]


def _locked(package: str) -> list[str]:
    found = []
    for file in _LOCKS.values():
        text = (REPOSITORY / file).read_text(encoding="utf-8")
        match = re.search(rf"^{package}==(.*)$", text, re.MULTILINE)
        found.append(match[1] if match else "")
    return found


def _extra(facts: Provider) -> str:
    if facts.extra is None:
        return "none"
    return f"`{facts.extra}` {facts.extra_purpose.rpartition('; ')[2]}".strip()


def matrix() -> str:
    """Write the page of what goes with what."""
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    wanted = {
        re.split(r"[<>=]", line)[0]: line.removeprefix(re.split(r"[<>=]", line)[0])
        for line in project["dependencies"]
    }
    providers = [config.facts for config in CONFIGS.values()]
    return _page(
        "Sources and targets",
        "What is tried, what works and what is refused. A SELECT may read everything that dbt and "
        "DuckDB read: the rows are staged before they are sent.",
        "## Where enriched tables can live\n",
        "A refusal comes before anything is sent and says what to change. "
        "[Databases](../guides/databases.md) has the details.\n",
        _table(
            [
                "tables live in",
                "",
                "`publish: merge`",
                "indexes",
                "`persist_docs`",
                "columns of other types",
            ],
            [
                *(_catalog_row(catalog) for catalog in Catalog),
                ["a server reached through Quack", "refused", "", "", "", ""],
                ["a Buena Vista server (`remote:` in the profile)", "refused", "", "", "", ""],
                ["any other type that DuckDB attaches", "refused", "", "", "", ""],
            ],
        ),
        "## Providers\n",
        _table(
            ["provider", "endpoints", "requests in a file", "files expire after", "extra"],
            (
                [
                    f"`{facts.name}`",
                    ", ".join(f"`{name}`" for name in sorted(facts.endpoints)),
                    f"{facts.limits.max_requests:,}",
                    f"{facts.expiry_days[0]} to {facts.expiry_days[-1]} days",
                    _extra(facts),
                ]
                for facts in providers
            ),
        ),
        "## Versions\n",
        f"Python {project['requires-python'].removeprefix('>=')} or later.\n",
        _table(
            ["package", "allowed", *(f"tested: {name}" for name in _LOCKS)],
            (
                [f"`{name}`", f"`{wanted[name]}`", *_locked(name)]
                for name in ("dbt-core", "dbt-duckdb", "duckdb", "openai", "pydantic", "click")
            ),
        ),
    )


PAGES: Mapping[str, Callable[[], str]] = {
    "model-settings": model_settings,
    "profile": profile,
    "commands": commands,
    "statuses": statuses,
    "failures": failures,
    "relations": relations,
    "macros": macros,
    "matrix": matrix,
}


def path_of(page: str) -> Path:
    """Return where a page of the reference is."""
    return REPOSITORY / "docs" / "reference" / f"{page}.md"


def write() -> None:
    """Write all pages of the reference."""
    for page, make in PAGES.items():
        path_of(page).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    write()
