"""A profile that is read without dbt says what dbt reads in it, or is left to dbt."""

from __future__ import annotations

from pathlib import Path

import pytest
from dbt_enrich.cli import project as projects
from dbt_enrich.cli.plain_profile import read_plain
from dbt_enrich.cli.project import Location, Project, load_project
from dbt_enrich.errors import ConfigurationError

_PLUGIN = """
      plugins:
        - module: dbt_enrich.plugin
          config:
            provider: openai
            api_key: {api_key}
            namespace: {namespace}
"""
_PROJECT = "name: films\nprofile: films\nversion: '1.0'\n"
_PROFILE = f"films:\n  target: dev\n  outputs:\n    dev:\n      type: duckdb\n{_PLUGIN}"


def _written(directory: Path, project: str, profile: str) -> Location:
    (directory / "dbt_project.yml").write_text(project, encoding="utf-8")
    (directory / "profiles.yml").write_text(profile, encoding="utf-8")
    return Location(directory, directory)


def _read(location: Location) -> Project | str:
    """Return what a command reads, or the error that it shows."""
    try:
        return load_project(location)
    except ConfigurationError as error:
        return str(error)


def _assert_the_same(location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    read = _read(location)
    monkeypatch.setattr(projects, "read_plain", lambda *_: None)
    assert read == _read(location)


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that the profiles name."""
    monkeypatch.setenv("FILMS_KEY", " a key, 'quoted' ")
    monkeypatch.setenv("FILMS_NUMBER", "17")
    monkeypatch.setenv("FILMS_TARGET", "dev")
    monkeypatch.delenv("FILMS_NOTHING", raising=False)


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "12345",
        "'{{ env_var(\"FILMS_KEY\") }}'",
        "\"{{ env_var('FILMS_KEY') }}\"",
        "\"{{ env_var( 'FILMS_NUMBER' ) }}\"",
        "\"{{ env_var('FILMS_NOTHING', 'otherwise') }}\"",
        "\"{{ env_var('FILMS_NOTHING', '') }}\"",
        "\"before {{ env_var('FILMS_KEY') }} after{{env_var('FILMS_NUMBER')}}\"",
        "'a } brace { and %} more'",
        "'unfinished }}'",
        "\"{{ env_var('FILMS_KEY') | upper }}\"",
        "\"{{ env_var('FILMS_NUMBER') | as_number }}\"",
        "\"{{ var('key', 'from a variable') }}\"",
        '"{% if true %}statement{% endif %}"',
        '"{# comment #}text"',
        "\"{{ env_var('FILMS_KEY') }}\\n\"",
        "\"{{ 'a' ~ env_var('FILMS_NUMBER') }}\"",
        "'None'",
        "'[1, 2]'",
    ],
)
@pytest.mark.parametrize("field", ["api_key", "namespace"])
def test_it_reads_what_dbt_reads(
    value: str, field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or dbt reads it."""
    values = {"api_key": "key", "namespace": "films", field: value}
    location = _written(tmp_path, _PROJECT, _PROFILE.format(**values))
    _assert_the_same(location, monkeypatch)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("target: dev", "target: \"{{ env_var('FILMS_TARGET') }}\""),
        ("target: dev", "target: prod"),
        ("target: dev", 'target: "{{ target_of_theirs }}"'),
        ("  target: dev\n", ""),
        ("type: duckdb", "type: \"{{ env_var('FILMS_NOTHING', 'duckdb') }}\""),
        ("type: duckdb", "type: duckdb\n      path: \"{{ env_var('FILMS_NOTHING') }}\""),
        ("type: duckdb", "type: duckdb\n      settings: {timeout: 3, threads: 2}"),
        ("type: duckdb", "type: duckdb\n      settings: []"),
        ("films:", "others:"),
        ("outputs:", "output:"),
        ("module: dbt_enrich.plugin", "module: excel"),
        ("    dev:", "    default:"),
    ],
)
def test_targets_and_mistakes_are_dbt_s(
    before: str, after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is chosen or wrong, it is as if dbt had read it."""
    profile = _PROFILE.format(api_key="key", namespace="films")
    assert before in profile
    location = _written(tmp_path, _PROJECT, profile.replace(before, after))
    _assert_the_same(location, monkeypatch)


@pytest.mark.parametrize(
    "project",
    [
        "name: films\nprofile: \"{{ env_var('FILMS_NOTHING', 'films') }}\"\n",
        "name: films\n",
        "profile: films\n",
        "- films\n",
        'name: films\nprofile: films\nvars: {a: "{{ nothing_known }}"}\n',
        ": : :",
    ],
)
def test_projects_are_dbt_s(project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project's file likewise."""
    location = _written(tmp_path, project, _PROFILE.format(api_key="key", namespace="films"))
    _assert_the_same(location, monkeypatch)


_FILE = "provider: local\nthreads: 3\n"


def test_another_adapter_has_the_project_s_file(tmp_path: Path) -> None:
    """It is read where neither dbt nor the adapter can be imported, such as with dbt 2."""
    profile = "films:\n  target: dev\n  outputs:\n    dev: {type: oracle, host: db, port: 1}\n"
    location = _written(tmp_path, _PROJECT, profile)
    missing = _read(location)
    assert isinstance(missing, str)
    assert "the target 'dev' is not configured: there is no dbt_enrich.yml beside" in missing
    assert "plugin" not in missing
    (tmp_path / "dbt_enrich.yml").write_text(_FILE)
    found = load_project(location)
    assert (found.adapter, found.has_plugin, found.config.threads) == ("oracle", False, 3)
    assert found.config.state_dir == tmp_path / ".enrichment"
    assert found.config.place.file == "dbt_enrich.yml"


@pytest.mark.parametrize(
    ("plugin", "has_plugin", "threads"),
    [
        (_PLUGIN.format(api_key="key", namespace="films"), True, 2),
        ("      plugins: [{module: dbt_enrich.plugin}]\n", True, 3),
        ("      plugins: [{module: dbt_enrich.plugin, config: {}}]\n", True, 3),
        ("      plugins: [{module: excel}]\n", False, 3),
        ("      settings: {threads: 7}\n", False, 3),
    ],
)
def test_the_profile_s_block_wins_as_a_whole(
    plugin: str, has_plugin: bool, threads: int, tmp_path: Path
) -> None:
    """Where it has one; the settings of DuckDB are none."""
    profile = _PROFILE.replace(_PLUGIN, plugin)
    location = _written(tmp_path, _PROJECT, profile)
    (tmp_path / "dbt_enrich.yml").write_text(_FILE)
    found = load_project(location)
    assert (found.has_plugin, found.config.threads) == (has_plugin, threads)
    assert found.config.place.file == ("profiles.yml" if threads == 2 else "dbt_enrich.yml")


def test_a_usual_profile_needs_no_dbt(tmp_path: Path) -> None:
    """Else no command is fast."""
    value = "\"{{ env_var('FILMS_KEY') }}\""
    _written(tmp_path, _PROJECT, _PROFILE.format(api_key=value, namespace="films"))
    read = read_plain(tmp_path, tmp_path, None, None)
    assert read is not None
    assert read.plugins[0]["config"]["api_key"] == " a key, 'quoted' "
