"""The macros by MiniJinja, the template engine of dbt 2, which itself cannot be had here.

All of them can be read. Those that work behind `dbt-enrich run` are rendered for each host; those
that only the dbt-duckdb plugin calls are not, as dbt 2 has no plugins.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import minijinja
import pytest
import yaml
from dbt_enrich.task.result_columns import STATUS_TYPES
from packaging.specifiers import SpecifierSet
from support.dbt_project import REPOSITORY
from support.minijinja_dbt import Dbt, Relation, macros_in, methods_of

HOSTS = ("duckdb", "postgres", "sail", "spark")
# Called with the plugin alone.
OF_THE_PLUGIN = {
    "_add_status_columns", "_call_plugin", "_comment_on", "_enrichment_schema", "_is_unplanned",
    "_model_request", "_package_version", "_plugin_alias",
    "_refuse_others",
    "_rehearse", "_replace_errors", "_shape", "_touch_rows", "_upstream",
}  # fmt: skip
# Of relations, adapters, dictionaries and texts, as dbt 2 has them too.
METHODS = {
    "check_schema_exists", "commit", "create", "create_schema", "dispatch", "drop_relation", "get",
    "get_columns_in_relation", "get_relation", "hash", "incorporate", "items", "quote",
    "raise_compiler_error", "raise_contract_error", "rename_relation",
    "render_raw_columns_constraints", "render_raw_model_constraints", "replace", "require", "split",
    "type_string", "values", "warn",
}  # fmt: skip
KINDS = (
    "varchar", "hugeint", "decimal(10, 2)", "decimal", "timestamp(6)", "integer[]", "float[3]",
    "enum('a, (b)', 'c')", "struct(a integer, \"b c\" enum('x', 'y')[])[]",
)  # fmt: skip
TARGET = Relation()


@cache
def macros() -> dict[str, str]:
    """The package's macros."""
    return macros_in(REPOSITORY / "macros")


def work(kind: str) -> str:
    """The table beside the model's that holds its rows, results or failures."""
    path = {"schema": "main_enrichment", "identifier": f"notes_enriched__{kind}"}
    return str(TARGET.incorporate(path=path))


PUBLISHED = {
    str(TARGET): ("id", "note", "summary", "tone", *STATUS_TYPES),
    work("results"): ("id", "enrichment_row", "summary", "enrichment_status"),
    work("failures"): ("id", "enrichment_row", "kind"),
}


def enrichment(dbt: Dbt) -> Any:
    """Build the model by the materialization of the target's adapter."""
    own = f"materialization_enrichment_{dbt.type}"
    return dbt.macro(own if own in dbt.macros else "materialization_enrichment_default")()


def with_options(**options: Any) -> dict[str, Any]:
    """What the context has for a model with more options."""
    dbt = Dbt({})
    model = dbt.stubs()["model"]
    model["config"]["meta"]["enrichment"] |= options
    return {"model": model}


def planned(host: str) -> Dbt:
    """A model that reads another one through an ephemeral one, in the mode `plan`."""
    stubs = Dbt({}).stubs()
    model = stubs["model"]
    nested = {**model, "unique_id": "nested", "name": "nested", "relation_name": None}
    parent = {
        **model,
        "unique_id": "parent",
        "name": "parent",
        "alias": "parent",
        "relation_name": '"shop"."main"."parent"',
        "defer_relation": None,
    }
    nested["depends_on"] = {"nodes": ["parent"]}
    model["depends_on"] = {"nodes": ["nested"]}
    nodes = {one["unique_id"]: one for one in (model, nested, parent)}
    context = {"model": model, "graph": {"nodes": nodes}, "env_var": lambda *_: "plan"}
    return Dbt(macros(), host, {}, context)


def scenarios(host: str) -> Iterator[Dbt]:
    """A model in every state that it may be in, with every way of publishing it."""
    yield Dbt(macros(), host)
    yield Dbt(macros(), host, PUBLISHED)
    yield Dbt(macros(), host, PUBLISHED, with_options(publish="merge"))
    without_errors = {str(TARGET): PUBLISHED[str(TARGET)]}
    yield Dbt(macros(), host, without_errors, with_options(publish="merge", on_pending="null"))
    yield Dbt(macros(), host, PUBLISHED, {"env_var": lambda *_: "plan"})
    yield Dbt(macros(), host, {}, {"env_var": lambda *_: "preview"})
    # A kill between two renames has left the tables under their other names.
    away = {f'{str(name)[:-1]}__dbt_backup"': columns for name, columns in PUBLISHED.items()}
    yield Dbt(macros(), host, away, with_options(publish="merge"))
    header = Dbt({}).stubs()["config"]
    header.update(sql_header="set x = 1", contract={"enforced": True}, unique_key=["id", "note"])
    yield Dbt(macros(), host, PUBLISHED, {"config": header})


@pytest.mark.parametrize("name", sorted(macros()))
def test_every_macro_can_be_read(name: str) -> None:
    """Those of the plugin too: dbt 2 reads them all before it calls one."""
    minijinja.Environment().add_template(name, macros()[name])


@pytest.mark.parametrize("host", HOSTS)
def test_the_materialization_stages_and_publishes(host: str) -> None:
    """The rows with their fingerprint, then the table; no call of a plugin."""
    for dbt in scenarios(host):
        assert enrichment(dbt) == {"relations": [TARGET]}
        assert "enrichment_row" in "".join(dbt.done)
        assert not OF_THE_PLUGIN & dbt.called


def test_a_table_that_a_kill_left_under_another_name_gets_its_own_back() -> None:
    """Where a publication is no transaction; its rows are merged into as ever."""
    for host, is_back in (("spark", True), ("sail", True), ("postgres", False)):
        away = f'{str(TARGET)[:-1]}__dbt_backup"'
        dbt = Dbt(macros(), host, {away: PUBLISHED[str(TARGET)]}, with_options(publish="merge"))
        enrichment(dbt)
        assert (dbt.done[0] == f"rename {away} to {TARGET}") == is_back


@pytest.mark.parametrize("host", HOSTS)
def test_a_plan_stages_nothing_of_what_is_not_built(host: str) -> None:
    """The command names it."""
    dbt = planned(host)
    assert enrichment(dbt) == {"relations": []}
    assert dbt.macro("_missing_parents")(["nested"]) == ["parent"]
    assert "enrichment_row" not in "".join(dbt.done)


@pytest.mark.parametrize("host", HOSTS)
def test_what_users_call_and_dbt_s_hooks_render(host: str) -> None:
    """The hooks do nothing there: the schema of costs is the plugin's."""
    dbt = Dbt(macros(), host, PUBLISHED, rows=[[1]])
    assert str(dbt.macro("enrichment_errors")("notes_enriched")).endswith('notes_enriched__errors"')
    assert dbt.macro("is_incremental")() is False
    assert "done_rows" in dbt.macro("test_enrichment_complete")(TARGET)
    merged = Dbt(macros(), host, PUBLISHED, with_options(publish="merge"), rows=[])
    assert merged.macro("is_incremental")() is False
    for hook in ("_create_relations", "_refresh_relations"):
        # An empty one is an error there.
        assert dbt.macro(hook)() == "select 1"
    assert not OF_THE_PLUGIN & dbt.called


def test_work_schemas_are_made_where_nothing_says_what_is_selected() -> None:
    """As in dbt 2: before its threads, which would make one each at the same time."""
    for selected in ([], ["model.shop.notes_enriched"]):
        dbt = Dbt(macros(), "postgres", {}, {"selected_resources": selected})
        dbt.macro("_create_relations")()
        assert dbt.done == ["create schema main_enrichment"]
    dbt = Dbt(macros(), "postgres", {}, {"selected_resources": ["model.shop.other"]})
    dbt.macro("_create_relations")()
    assert dbt.done == []


def test_a_plugin_that_dbt_2_does_not_run_is_refused() -> None:
    """Its table would be built anew without its answers."""
    target = {
        "type": "duckdb",
        "name": "dev",
        "plugins": [{"module": "dbt_enrich.plugin", "alias": "enrich"}],
    }
    with pytest.raises(AssertionError, match=r"has the plugin .*dbt 2.0.9 has no plugins"):
        enrichment(Dbt(macros(), "duckdb", PUBLISHED, {"target": target}))


@pytest.mark.parametrize("host", HOSTS)
def test_types_have_a_name_in_each_host(host: str) -> None:
    """Nested ones as well."""
    dbt = Dbt(macros(), host)
    assert all(dbt.macro("host_type")(kind).strip() for kind in KINDS)


def test_rows_that_are_due_are_said() -> None:
    """With the command that goes on with them."""
    dbt = Dbt(macros(), "postgres", rows=[])
    dbt.macro("_say_what_is_due")([["pending", 2], ["done", 7]])
    assert "2 rows are pending" in "".join(dbt.done)
    assert "`dbt-enrich run --select notes_enriched`" in "".join(dbt.done)
    dbt = Dbt(macros(), "postgres", {}, {"invocation_args_dict": {"target": "prod"}}, rows=[])
    dbt.macro("_say_what_is_due")([["pending", 2]])
    assert "`dbt-enrich run --select notes_enriched --target prod`" in "".join(dbt.done)


def replaced() -> Dbt:
    """A table in Postgres with a view on it, and one that is dropped with it."""
    view = ["main.watching", "select 1", "security_barrier=true", "view"]
    errors = str(TARGET.incorporate(path={"identifier": "notes_enriched__errors"}))
    there = {**PUBLISHED, errors: ("id", "kind"), work("errors"): ("id", "kind")}
    return Dbt(macros(), "postgres", there, rows=[view])


def publish(dbt: Dbt, macro: str) -> str:
    """Publish a table that is there, and return what was done."""
    new = TARGET.incorporate(path={"identifier": "new"})
    dbt.macro(macro)(TARGET, new, TARGET, TARGET, "select 1", "select 2")
    return "".join(dbt.done)


def test_views_on_a_table_in_postgres_are_on_the_next_one() -> None:
    """In the same transaction; what cannot be is dropped by its own name."""
    dbt = replaced()
    done = publish(dbt, "postgres__publish_enriched")
    assert "create or replace view main.watching with (security_barrier=true) as select 1" in done
    assert 'truncate table "shop"."main"."notes_enriched__errors"' in done


def test_what_the_command_cannot_publish_to_is_refused() -> None:
    """A database that DuckDB attaches, and is none of its own."""
    with pytest.raises(Exception, match="by the plugin alone"):
        Dbt(macros(), "duckdb", rows=[["sqlite"]]).macro("check_place")(TARGET)


def test_no_macro_of_the_command_s_door_is_left_out() -> None:
    """Each is rendered above, or is the plugin's by name."""
    called: set[str] = {"_say_what_is_due", "_label"}
    for host in HOSTS:
        for dbt in (*scenarios(host), planned(host)):
            enrichment(dbt)
            called |= dbt.called
        dbt = Dbt(macros(), host, PUBLISHED, with_options(publish="merge"))
        for name in ("is_incremental", "_create_relations", "_refresh_relations"):
            dbt.macro(name)()
        dbt.macro("enrichment_errors")("notes_enriched")
        dbt.macro("test_enrichment_complete")(TARGET)
        for kind in KINDS:
            dbt.macro("host_type")(kind)
        called |= dbt.called
    dbt = replaced()
    for name in ("postgres__publish_enriched", "default__publish_enriched"):
        publish(dbt, name)
    called |= dbt.called
    assert {*macros()} - called == OF_THE_PLUGIN
    assert not OF_THE_PLUGIN & called


def test_methods_are_those_that_dbt_2_has() -> None:
    """Of lists and dictionaries too: MiniJinja knows few of Python's."""
    known = METHODS | {*macros()}
    for name, text in macros().items():
        if name not in OF_THE_PLUGIN and name != "materialization_enrichment_duckdb":
            assert {*methods_of(text)} <= known, name


@pytest.mark.parametrize(
    "line",
    [
        "{% set x = [] %}{% do x.append(1) %}",
        "{% do {}.update({'a': 1}) %}",
        "{{ 'a' | no_such_filter }}",
        "{% if 'a' is no_such_test %}{% endif %}",
        "{{ no_such_function() }}",
        "{{ adapter.config.credentials }}",
        "{{ adapter.store_relation('enrich') }}",
        "{{ modules.datetime.datetime.now() }}",
        "{{ '%s' % 1 }}",
        "{% no_such_block %}",
    ],
)
def test_what_the_engine_does_not_know_is_found(line: str, tmp_path: Path) -> None:
    """In a macro that is like one of ours."""
    (tmp_path / "one.sql").write_text(f"{{% macro one() %}}{line}{{% endmacro %}}")
    with pytest.raises((minijinja.TemplateError, AttributeError)):
        Dbt(macros_in(tmp_path)).macro("one")()


def test_a_method_of_python_s_is_found() -> None:
    """Not one within a text, nor one of a comment."""
    text = "{% do found.append(1) %}{# x.extend(y) #}{{ 'x.pop(y)' }} x.sort(y) {{ a.get('b') }}"
    assert [*methods_of(text)] == ["append", "get"]


def test_the_package_is_for_dbt_2_as_well() -> None:
    """Else `dbt deps` installs it, and every run refuses it."""
    project = yaml.safe_load((REPOSITORY / "dbt_project.yml").read_text(encoding="utf-8"))
    allowed = SpecifierSet(",".join(project["require-dbt-version"]))
    assert [version for version in ("1.10.0", "1.12.6", "2.0.9") if version not in allowed] == []
