"""The package's macros in MiniJinja, the template engine that dbt 2 uses, with stubs of dbt.

The engine is that of the PyPI package `minijinja`, without what dbt 2 adds to it: blocks of dbt's
own, such as `materialization`, are macros here as they are there. What a macro may call is what dbt
2 has by its source: an adapter's methods are those of `dispatch_adapter_calls` in
github.com/dbt-labs/dbt-fusion, `crates/dbt-adapter`, whose `adapter.config` there is not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import minijinja

_BLOCK = re.compile(
    r"{%-?\s*(materialization|test)\s+(\w+)\s*,?\s*(.*?)\s*(-?)%}",
    re.DOTALL,
)
_END = re.compile(r"{%(-?)\s*end(?:materialization|test)\s*(-?)%}")
_ADAPTER = re.compile(r"adapter\s*=\s*'(\w+)'")
_MACRO = re.compile(r"{%-?\s*macro\s+(\w+)\s*\(")
_METHOD = re.compile(r"\.(\w+)\(")
_CODE = re.compile(r"{[{%].*?[%}]}", re.DOTALL)
_COMMENT = re.compile(r"{#.*?#}", re.DOTALL)
_TEXT = re.compile(r"'[^']*'|\"[^\"]*\"")
# Whose macros an adapter takes where it has none of its own.
_PARENTS = {"sail": ("sail", "spark")}
# A block's text is a value of the engine's own, which Python cannot call.
_STATEMENT = (
    "{% macro statement(name=none, fetch_result=false, auto_begin=true, language='sql') %}"
    "{{ run_statement(name, caller()) }}{% endmacro %}"
)


# The engine's Python binding calls nothing of an object that begins with an underscore.
_PRIVATE = "private_"


def as_macros(text: str) -> str:
    """Return a file's text with dbt's own blocks as macros, by the names that dbt gives them."""

    def head(found: re.Match[str]) -> str:
        kind, name, rest, dash = found.groups()
        if kind == "test":
            return f"{{% macro test_{name}{rest} {dash}%}}"
        adapter = _ADAPTER.search(rest)
        return (
            f"{{% macro materialization_{name}_{adapter[1] if adapter else 'default'}() {dash}%}}"
        )

    macros = _END.sub(r"{%\1 endmacro \2%}", _BLOCK.sub(head, text))
    return macros.replace("dbt_enrich._", f"dbt_enrich.{_PRIVATE}")


def macros_in(directory: Path) -> dict[str, str]:
    """Return by the name of each macro the file that it is in, as MiniJinja reads it."""
    found: dict[str, str] = {}
    for path in sorted(directory.rglob("*.sql")):
        text = as_macros(path.read_text(encoding="utf-8"))
        found |= dict.fromkeys(_MACRO.findall(text), text)
    return found


def methods_of(text: str) -> Iterator[str]:
    """Yield the names of the methods that the code of a template calls."""
    for code in _CODE.findall(_COMMENT.sub("", text)):
        found = _METHOD.findall(_TEXT.sub("''", code))
        yield from (name for name in found if not name.startswith(_PRIVATE))


@dataclass(frozen=True)
class Relation:
    """A relation, as macros see it."""

    database: str = "shop"
    schema: str = "main"
    identifier: str = "notes_enriched"
    type: str = "table"

    @property
    def name(self) -> str:
        """Its own name."""
        return self.identifier

    @property
    def is_table(self) -> bool:
        """Whether it is a table."""
        return self.type == "table"

    def incorporate(self, path: Mapping[str, str] | None = None, type: str = "") -> Relation:  # noqa: A002
        """Return another one, with some parts of its name."""
        return replace(self, **(path or {}), type=type or self.type)

    def render(self) -> str:
        """Return it as SQL has it."""
        return ".".join(f'"{part}"' for part in (self.database, self.schema, self.identifier))

    __str__ = render


@dataclass(frozen=True)
class Column:
    """A column of a relation."""

    name: str
    dtype: str = "text"

    @property
    def data_type(self) -> str:
        """Its type."""
        return self.dtype


@dataclass(frozen=True)
class Rows:
    """What a query returned."""

    rows: list[list[Any]]


class _ReturnError(Exception):
    """What `return` ends a macro with."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


def _return(value: Any = None) -> None:
    raise _ReturnError(value)


class Adapter:
    """The adapter's methods that dbt 2 has, of those that macros of a package may want."""

    def __init__(self, dbt: Dbt) -> None:
        self._dbt = dbt

    def dispatch(self, name: str, package: str = "dbt_enrich") -> Callable[..., Any]:
        """Return the macro of the adapter, or the default one."""
        assert package == "dbt_enrich"
        for prefix in (*_PARENTS.get(self._dbt.type, (self._dbt.type,)), "default"):
            if f"{prefix}__{name}" in self._dbt.macros:
                return self._dbt.macro(f"{prefix}__{name}")
        raise AttributeError(f"there is no macro default__{name}")

    def quote(self, name: str) -> str:
        """Return a name as SQL has it."""
        return f'"{name}"'

    def get_relation(self, database: str, schema: str, identifier: str) -> Relation | None:
        """Return a relation if it is there."""
        found = Relation(database, schema, identifier)
        return found if str(found) in self._dbt.existing else None

    def get_columns_in_relation(self, relation: Relation) -> list[Column]:
        """Return the columns of a relation."""
        return [Column(name) for name in self._dbt.existing.get(str(relation), ())]

    def check_schema_exists(self, database: str, schema: str) -> bool:
        """Whether a schema is there."""
        return any(
            str(Relation(database, schema)).rsplit(".", 1)[0] in name for name in self._dbt.existing
        )

    def create_schema(self, relation: Relation) -> None:
        """Note that a schema is made."""
        self._dbt.done.append(f"create schema {relation.schema}")

    def drop_relation(self, relation: Relation) -> None:
        """Note that a relation is dropped."""
        self._dbt.done.append(f"drop {relation}")

    def rename_relation(self, old: Relation, new: Relation) -> None:
        """Rename a relation, and note it."""
        self._dbt.done.append(f"rename {old} to {new}")
        there = dict(self._dbt.existing)
        self._dbt.existing = {**there, str(new): there.pop(str(old), ())}

    def render_raw_columns_constraints(
        self, raw_columns: Mapping[str, Mapping[str, Any]]
    ) -> list[str]:
        """Return the definition of each column of a contract."""
        return [f"{column['name']} {column['data_type']}" for column in raw_columns.values()]

    def render_raw_model_constraints(self, raw_constraints: list[Any]) -> list[str]:
        """Return the constraints of a contract that are the table's."""
        return [str(constraint) for constraint in raw_constraints]

    def commit(self) -> None:
        """Note the commit."""
        self._dbt.done.append("commit")


class _Package:
    """The package `dbt_enrich`, whose attributes are its macros."""

    def __init__(self, dbt: Dbt) -> None:
        self._dbt = dbt

    def __getattr__(self, name: str) -> Callable[..., Any]:
        own = name.removeprefix(_PRIVATE)
        return self._dbt.macro(name if own == name else f"_{own}")


class _DbtMacros:
    """What `dbt.` offers of dbt's own macros."""

    def hash(self, field: str) -> str:
        """Return a digest's expression."""
        return f"md5(cast({field} as text))"

    def type_string(self) -> str:
        """Return the type of texts."""
        return "text"


class _Relations:
    def create(self, database: str, schema: str, identifier: str, **_: str) -> Relation:
        """Return a relation by the parts of its name."""
        return Relation(database, schema, identifier)


class _Config(dict[str, Any]):
    """The model's configuration."""

    def require(self, name: str) -> Any:
        """Return a key that must be there."""
        return self[name]


class _Exceptions:
    def raise_compiler_error(self, text: str) -> None:
        """End the run."""
        raise AssertionError(text)

    def raise_contract_error(self, declared: list[Any], yielded: list[Any]) -> None:
        """End the run."""
        raise AssertionError(f"{declared} is not {yielded}")

    def warn(self, text: str) -> None:
        """Say something."""


@dataclass
class Dbt:
    """dbt 2 with the package's macros, for one model.

    Attributes:
        macros: The files of the macros by their names.
        type: The target's type.
        existing: The relations that are there, as SQL has them, with their columns.
        context: What takes the place of, or comes to, the context.
        rows: What every query returns.
        done: What was done to relations, and the statements that were run.
        called: The macros that were called.
    """

    macros: Mapping[str, str]
    type: str = "duckdb"
    existing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)
    rows: list[list[Any]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    called: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._declared: list[str] = []
        self._engine = minijinja.Environment(loader=self._source, undefined_behavior="strict")
        for name, value in {**self.stubs(), **self.context}.items():
            self._engine.add_global(name, value)
        for name in self.macros:
            self._engine.add_global(name, self.macro(name))

    def _source(self, name: str) -> str:
        return f"{_STATEMENT}{self.macros[name]}{{{{ {name}(*args, **kwargs) }}}}"

    def macro(self, name: str) -> Callable[..., Any]:
        """Return a macro of the package, to be called.

        Raises:
            AttributeError: There is none of that name.
        """
        if name not in self.macros:
            raise AttributeError(f"there is no macro {name}")

        def called(*args: Any, **kwargs: Any) -> Any:
            self.called.add(name)
            try:
                return self._engine.render_template(name, args=[*args], kwargs=kwargs)
            except _ReturnError as returned:
                return returned.value

        return called

    def stubs(self) -> dict[str, Any]:
        """Return what the context has, before `context` changes it."""
        this = Relation()
        meta = {"enrichment": {"user": "{note}", "output": ["summary", "tone"]}}
        types = {"summary": "varchar", "tone": "enum('good', 'bad')"}
        columns = {
            name: {"name": name, "data_type": kind, "constraints": []}
            for name, kind in types.items()
        }
        config = {"unique_key": "id", "materialized": "enrichment", "contract": {"enforced": False}}
        model: dict[str, Any] = {
            "name": "notes_enriched",
            "package_name": "shop",
            "resource_type": "model",
            "database": this.database,
            "schema": this.schema,
            "alias": this.identifier,
            "relation_name": str(this),
            "unique_id": "model.shop.notes_enriched",
            "version": None,
            "columns": columns,
            "constraints": [{"type": "not_null", "columns": ["id"]}],
            "config": {**config, "meta": meta},
            "depends_on": {"nodes": []},
        }
        clauses = (
            "file_format_clause", "options_clause", "tblproperties_clause", "partition_cols",
            "clustered_cols", "location_clause", "comment_clause",
        )  # fmt: skip
        spark = dict.fromkeys(clauses, lambda **_: "")
        drops = {"drop_indexes_on_relation": lambda _: ""}
        own: dict[str, dict[str, Any]] = {"duckdb": drops, "spark": spark, "sail": spark}
        return {
            **own.get(self.type, {}),
            "adapter": Adapter(self),
            "api": {"Relation": _Relations()},
            "apply_grants": lambda *_, **__: "",
            "compiled_code": "select id, note from notes",
            "config": _Config(config),
            "create_indexes": lambda _: "",
            "create_table_as": lambda _, relation, sql: f"create table {relation} as {sql}",
            "dbt": _DbtMacros(),
            "dbt_enrich": _Package(self),
            "dbt_version": "2.0.9",
            "drop_relation_if_exists": self._drop,
            "env_var": lambda _, default="": default,
            "exceptions": _Exceptions(),
            "execute": True,
            "flags": {"EMPTY": False},
            "format_columns": lambda found: [{"formatted": one} for one in found],
            "get_column_schema_from_query": self._schema,
            "get_empty_schema_sql": lambda columns: f"declared {' '.join(columns)}",
            "get_columns_in_query": lambda _: ["id", "note"],
            "graph": {"nodes": {model["unique_id"]: model}},
            "load_cached_relation": self._cached,
            "load_result": lambda _: {"data": self.rows},
            "local_md5": lambda text: hashlib.md5(text.encode()).hexdigest(),  # noqa: S324
            "log": self._log,
            "make_backup_relation": lambda found, _: self._beside(found, "__dbt_backup"),
            "make_intermediate_relation": lambda found: self._beside(found, "__dbt_tmp"),
            "model": model,
            "persist_docs": lambda *_: "",
            "post_hooks": [],
            "pre_hooks": [],
            "ref": lambda *names, **_: Relation(identifier=names[-1]),
            "return": _return,
            "run_hooks": lambda *_, **__: "",
            "run_query": self._query,
            "run_statement": self._run,
            "selected_resources": [model["unique_id"]],
            "should_full_refresh": lambda: False,
            "should_revoke": lambda *_, **__: False,
            "target": {"type": self.type, "database": "shop", "schema": "main", "name": "dev"},
            "this": this,
            "tojson": lambda value, **options: json.dumps(value, **options),
            "var": lambda _, default=None: default,
        }

    def _drop(self, relation: Relation | None) -> str:
        if relation is not None:
            self.done.append(f"drop {relation}")
        return ""

    def _log(self, text: str, info: bool = False) -> str:  # noqa: ARG002
        self.done.append(f"log {text}")
        return ""

    def _run(self, name: str | None, sql: str) -> str:  # noqa: ARG002
        self.done.append(sql)
        return ""

    def _query(self, sql: str) -> Rows:
        self.done.append(sql)
        return Rows(self.rows)

    def _schema(self, sql: str) -> list[str]:
        """Return the columns of a contract, whatever a SELECT yields."""
        declared = sql.removeprefix("declared ").split() if sql.startswith("declared ") else []
        self._declared = declared or self._declared
        return [*reversed(self._declared)]

    def _cached(self, relation: Relation) -> Relation | None:
        return relation if str(relation) in self.existing else None

    def _beside(self, relation: Relation, suffix: str) -> Relation:
        return replace(relation, identifier=relation.identifier + suffix)
