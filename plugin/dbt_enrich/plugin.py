"""The dbt-duckdb plugin: the profile's configuration in, one call into the pipeline.

The macros call `store` with a dict, in which the answer goes back under `result`, as the adapter
passes no value through.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import duckdb
from dbt.adapters.contracts.connection import AdapterResponse
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.adapters.duckdb.utils import SourceConfig, TargetConfig
from dbt.adapters.events.logging import AdapterLogger
from dbt_common.exceptions import DbtRuntimeError

from dbt_enrich.config import PluginConfig, parse_config, read_project_file
from dbt_enrich.config.place import PROFILE, PROJECT_FILE
from dbt_enrich.config.profile import own_values, refusal
from dbt_enrich.console.console import Console
from dbt_enrich.environment import report
from dbt_enrich.errors import ConfigurationError, EnrichmentError
from dbt_enrich.invocation import RootProject, package_root, root_project
from dbt_enrich.pipeline.checks import check_version, empty_tables
from dbt_enrich.pipeline.engine import Engine
from dbt_enrich.pipeline.planning.constraints import parse_constraints, refuse_staged_rows
from dbt_enrich.pipeline.publish.usage_relations import ATTEMPT_COLUMNS
from dbt_enrich.pipeline.request import EnrichmentRequest
from dbt_enrich.pipeline.sentences import status_sentence
from dbt_enrich.pipeline.stage.input_checks import parse_unique_key
from dbt_enrich.sql import identifier, text_sql
from dbt_enrich.state.stray_directory import stray_state
from dbt_enrich.state.tables.contents import RowSums
from dbt_enrich.task.command_options import commanded, refuse_several
from dbt_enrich.task.from_yaml import options_from_yaml, task_from_yaml
from dbt_enrich.task.result_columns import KEY, STATUSES
from dbt_enrich.task.version_lists import VersionBlocks, blocks_in, separated
from dbt_enrich.warehouse.awaited_texts import Upstream
from dbt_enrich.warehouse.catalogs import Catalog
from dbt_enrich.warehouse.databases import find_catalog, server_of
from dbt_enrich.warehouse.enriched_table import ExistingTable
from dbt_enrich.warehouse.interrupts import interruptible
from dbt_enrich.warehouse.placement import Placement, place, texts_of, written
from dbt_enrich.warehouse.relation import StagedRelation
from dbt_enrich.warehouse.stays import Shape, Stays, is_ordered, what_stays
from dbt_enrich.warehouse.work import Turns, WorkPlace, staged_name

logger = AdapterLogger("dbt-enrich")


@dataclass
class EnrichmentResponse(AdapterResponse):
    """`adapter_response` of an enrichment in `run_results.json`; `_message` is dbt's result line.

    Rows by status, and what `Figures` has. dbt leaves out what is None.
    """

    mode: str | None = None
    done: int | None = None
    pending: int | None = None
    stale: int | None = None
    failed: int | None = None
    skipped: int | None = None
    requests: int | None = None
    rows_touched: int | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    saved: float | None = None
    currency: str | None = None

    def add_rows(self, rows: Sequence[Sequence[Any]]) -> None:
        """Add the rows that were published: of each status, how many."""
        counts = _counts(rows)
        self._message = status_sentence(counts, self.cost, self.currency, touched=self.rows_touched)
        self.rows_affected = sum(counts.values())
        for status in STATUSES:
            setattr(self, status, counts.get(status, 0))


class Plugin(BasePlugin):
    """Enriches staged relations. One object a process, used by several dbt threads."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        """Read the configuration; nothing is opened or sent here."""
        settings = (self.creds.settings if self.creds else None) or {}
        with _as_dbt_error():
            server = server_of(self.creds) if self.creds else None
            if server:
                raise server
            self._profile_config: PluginConfig | None = None
            if own_values(plugin_config, settings):
                self._profile_config = parse_config(plugin_config, duckdb_settings=settings)
            else:
                # A mistake in the file shows in any run of dbt, as one in the profile does.
                self._config_of(root_project())
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._engines: dict[RootProject, Engine] = {}
        self._lock = threading.Lock()
        self._work = WorkPlace()
        self._turns = Turns()
        self._has_warned = False

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Keep the root connection, of which `store` takes cursors."""
        self._connection = conn

    def configure_cursor(self, cursor: Any) -> None:  # noqa: ARG002 - dbt-duckdb's signature
        """Notice that a thread of dbt turns to its next model; nothing is configured."""
        self._turns.abandon()

    def load(self, source_config: SourceConfig) -> None:
        """Refuse to be a source: sources are resolved by `dbt compile` too, where none may pay.

        Raises:
            DbtRuntimeError: Always.
        """
        raise DbtRuntimeError(
            f"the source '{source_config.table_name()}' names the plugin '{self.name}', which "
            "enriches models and loads no sources; use materialized: enrichment on a model"
        )

    def store(self, target_config: TargetConfig) -> None:
        """Run one action of the macros.

        `open` the place where rows are staged, `prepare` the empty tables of what is staged,
        `enrich` it, `finish` once it is published, write the `relations` of the schema
        `enrichment`, note that a model is `unplanned`, say what the `catalog` of a database has,
        or `yield` the turn to publish.

        Raises:
            DbtRuntimeError: What went wrong, as one sentence, and its page.
        """
        call: MutableMapping[str, Any] = target_config.config
        with _as_dbt_error():
            check_version(str(call.get("version")))
            with closing(self._cursor()) as cursor:
                call["result"] = self._result(call, cursor)

    def _result(self, call: Mapping[str, Any], cursor: duckdb.DuckDBPyConnection) -> Any:
        action = call["action"]
        engine = self.engine()
        if action == "open":
            engine.check()
            names = [str(call[part]) for part in ("database", "schema", "identifier")]
            find_catalog(cursor, names[0])
            _refuse_saas_mode(cursor)
            return f"{self._work.open(cursor)}.{identifier(staged_name(*names))}"
        if action == "catalog":
            catalog = find_catalog(cursor, str(call["database"]))
            return {"has_schemas": catalog.has_schemas, "has_comments": catalog.has_comments}
        if action == "yield":
            self._turns.give_back(str(call["staged"]))
            return None
        if action == "unplanned":
            missing = [str(name) for name in call["missing"]]
            logger.info(f"{call['name']}: cannot be planned yet: {', '.join(missing)} not built")
            named = {"name": call["name"], "enrichment": call["unique_id"], "missing": missing}
            report({"unplanned": named})
            return None
        if action == "relations":
            made = engine.relations(call.get("known"))
            if made is None:
                return None
            placement = Placement(find_catalog(cursor, str(call["database"])))
            attempts = written(placement, made[1].attempts, {KEY: ATTEMPT_COLUMNS[KEY]})
            return {"run_id": made[0], **asdict(made[1]), "attempts": attempts}
        if action == "finish":
            rows = call.get("counts")
            counts = None if rows is None else _counts(rows)
            held = _content(call.get("content"))
            engine.finish(str(call["run_id"]), counts, held)
            if call.get("staged"):
                cursor.execute(f"drop table if exists {call['staged']}")
            return None
        return self._worked(call, cursor, engine)

    def _worked(
        self, call: Mapping[str, Any], cursor: duckdb.DuckDBPyConnection, engine: Engine
    ) -> Mapping[str, Any]:
        """Prepare or enrich what is staged."""
        request = _request(call, cursor)
        catalog = request.placement.catalog
        database, staged = str(call["database"]), str(call["staged"])
        if call["action"] == "prepare":
            refuse_staged_rows(request.relation, request.constraints)
            columns, _ = place(request.placement, request.relation, request.task.outputs)
            empty = empty_tables(request.relation, request.task, request.placement)
            enriched_sql, _ = columns.written(empty.enriched_sql, empty.errors_sql)
            if catalog.has_one_writer:
                self._turns.take(database, staged)
            may_stay = request.existing and not request.full_refresh and not request.merged_into
            compares = bool(may_stay) and catalog == Catalog.DUCKDB
            return {**asdict(empty), "enriched_sql": enriched_sql, "compares": compares}
        self._turns.give_back(staged)
        self._warn_of_threads(request.placement, int(call.get("threads") or 1))
        with interruptible(engine.cancelled, logger.warning):
            outcome = engine.enrich(request)
        if catalog.has_one_writer:
            self._turns.take(database, staged)
        response = EnrichmentResponse(_message=outcome.status, **asdict(outcome.figures))
        return {
            **asdict(outcome),
            "response": response,
            "drops_indexes": catalog.has_own_indexes,
            "has_merge": catalog.merges,
            "takes_turns": catalog.has_one_writer,
        }

    def _warn_of_threads(self, placement: Placement, threads: int) -> None:
        with self._lock:
            if self._has_warned or threads < 2 or not placement.catalog.trouble_of_threads:
                return
            self._has_warned = True
        logger.warning(
            f"{placement.catalog.label} {placement.catalog.trouble_of_threads}; build with "
            "--threads 1. Answers are kept in any case, and not sent again"
        )

    def engine(self) -> Engine:
        """Return the engine of the dbt project that is run, which its models share."""
        project = root_project()
        with self._lock:
            if project not in self._engines:
                self._engines[project] = self._new_engine(project)
            return self._engines[project]

    def _config_of(self, project: RootProject) -> PluginConfig:
        """Return the profile's configuration, or else that of the project's own file."""
        config = self._profile_config or read_project_file(project.root, project.target)
        if config is None:
            raise refusal(
                PROFILE,
                "has no 'provider'",
                f"add config: {{provider: ...}} to it, or {PROJECT_FILE} beside dbt_project.yml",
            )
        return config

    def _new_engine(self, project: RootProject) -> Engine:
        config = self._config_of(project)
        engine = Engine(
            config.within(project.root),
            project=project.name,
            console=Console(logger.info, logger.warning),
            target=project.target,
        )
        stray = stray_state(config, project.root, engine.namespace)
        if stray:
            logger.warning(stray)
        return engine

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            raise EnrichmentError(
                "the plugin has no connection to the warehouse",
                fix="run it through dbt-duckdb on a local database (a remote Buena Vista server "
                "is not supported)",
            )
        return self._connection.cursor()


def _request(call: Mapping[str, Any], cursor: duckdb.DuckDBPyConnection) -> EnrichmentRequest:
    refuse_several(call["selected"])
    name = str(call["name"])
    meta = call["meta"]
    if not isinstance(meta, Mapping) or not meta:
        raise ConfigurationError(
            f"model '{name}': the YAML has no config.meta.enrichment",
            fix="add it with model, user and output",
        )
    blocks = _version_blocks(call)
    if blocks:
        meta = separated(meta, blocks, model=name)
    ordered = is_ordered(cursor, str(call["select"]))
    relation = StagedRelation(
        connection=cursor,
        name=str(call["staged"]),
        unique_key=parse_unique_key(name, call["unique_key"]),
        model=name,
    )
    request = EnrichmentRequest(
        relation=relation,
        task=task_from_yaml(name, meta, call["columns"]),
        options=commanded(
            options_from_yaml(
                name,
                meta,
                mode=call.get("mode") or None,
                preview_rows=call.get("preview_rows"),
            )
        ),
        enrichment=str(call["unique_id"]),
        existing=_existing(call, cursor),
        target=call.get("target") or None,
        full_refresh=bool(call.get("full_refresh")),
        upstream=tuple(_upstream(other) for other in call.get("upstream") or ()),
        empty=bool(call.get("empty")),
        constraints=parse_constraints(name, call["columns"], call["constraints"])
        if call["constraints"] is not None
        else (),
        stays=_stays(call, ordered),
        is_ordered=ordered,
        errors_may_stay=_errors_may_stay(call),
        placement=Placement(
            catalog=find_catalog(cursor, str(call["database"])),
            table=str(call["identifier"]),
            indexes=bool(call.get("indexes")),
            comments=bool(call.get("comments")),
            inlines=inlines_rows(cursor, str(call["database"])),
        ),
    )
    declared = {} if call["constraints"] is None else _types(call["columns"])
    texts = texts_of(declared, request.merged_into)
    return replace(request, placement=replace(request.placement, texts=texts))


def _types(columns: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the types of dbt's `model.columns`, where they have one."""
    return {str(c["name"]): str(c["data_type"]) for c in columns.values() if c.get("data_type")}


def _stays(call: Mapping[str, Any], ordered: bool) -> Stays:
    shapes = call.get("shapes")
    if not shapes:
        return Stays.NOTHING
    return what_stays(
        Shape.of(shapes["existing"]),
        Shape.of(shapes["made"]),
        described=[str(name).lower() for name in shapes["described"]],
        is_ordered=ordered,
    )


def _errors_may_stay(call: Mapping[str, Any]) -> bool:
    shapes = call.get("shapes")
    if not shapes:
        return False
    errors = Shape.of(shapes["existing_errors"])
    return errors is not None and errors.becomes(Shape.of(shapes["made_errors"]), ())


def _counts(rows: Sequence[Sequence[Any]]) -> dict[str, int]:
    """Return how many rows there are of each status, of what the macros found in a table."""
    return {str(row[0]): int(row[1]) for row in rows}


def _content(rows: Sequence[Sequence[Any]] | None) -> dict[str, RowSums] | None:
    """Return what the rows of each status hold, where the macros have summed it up."""
    if rows is None or any(len(row) < 4 for row in rows):
        return None
    return {str(row[0]): (int(row[1]), str(row[2]), str(row[3])) for row in rows}


def _upstream(other: Mapping[str, Any]) -> Upstream:
    key = other["unique_key"] or ()
    return Upstream(
        name=str(other["name"]),
        enrichment=str(other["unique_id"]),
        relations=tuple(name for name in other["relations"] if name),
        unique_key=(key,) if isinstance(key, str) else tuple(key),
        is_alone=bool(other["is_alone"]),
    )


def _version_blocks(call: Mapping[str, Any]) -> VersionBlocks | None:
    """Return what a versioned model's YAML has above its versions and in this one."""
    _, _, file = str(call["patch_path"]).partition("://")
    if call["version_of_model"] is None or not file:
        return None
    path = package_root(str(call["package"])) / file
    return blocks_in(path, str(call["name_in_yaml"]), call["version_of_model"])


def _refuse_saas_mode(cursor: duckdb.DuckDBPyConnection) -> None:
    found = cursor.execute(
        "select value from duckdb_settings() where name = 'motherduck_saas_mode'"
    ).fetchone()
    if found and str(found[0]).lower() in ("1", "true"):
        raise ConfigurationError(
            "motherduck_saas_mode is on, in which DuckDB reads no local file, such as those that "
            "hold the answers",
            fix="take it out of the profile",
        )


def inlines_rows(connection: duckdb.DuckDBPyConnection, database: str) -> bool:
    """Whether a lake keeps the rows of small tables in its catalog, as it does by default."""
    found = connection.execute(
        "select coalesce(options['data_inlining_row_limit'], (select value from duckdb_settings() "
        "where name = 'ducklake_default_data_inlining_row_limit')) from duckdb_databases() "
        f"where lower(database_name) = lower({text_sql(database)}) and type = 'ducklake'"
    ).fetchone()
    return found is not None and found[0] != "0"


def _existing(call: Mapping[str, Any], cursor: duckdb.DuckDBPyConnection) -> ExistingTable | None:
    name = call.get("existing")
    if not name:
        return None
    columns = {row[0]: row[1] for row in cursor.execute(f"describe {name}").fetchall()}
    return ExistingTable(
        name=str(name), columns=columns, errors=call.get("existing_errors") or None
    )


@contextmanager
def _as_dbt_error() -> Iterator[None]:
    """Hand an error to dbt as its one sentence and its page."""
    try:
        yield
    except EnrichmentError as error:
        raise DbtRuntimeError(error.with_page) from error
