"""`dbt-enrich init`: an existing project goes on working, and its example enriches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from click.testing import CliRunner, Result
from dbt_enrich import __version__
from dbt_enrich.cli import main
from dbt_enrich.config import parse_config, read_project_file
from dbt_enrich.config.remote import RemoteConfig
from support.dbt_project import REPOSITORY
from support.forked_dbt import run_forked

PROFILE = """# my profiles
shop:
  target: dev   # the usual one
  outputs:
    dev:
      type: duckdb
      path: shop.duckdb
    prod:
      type: postgres
    lake:
      type: oracle
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dbt project that knows nothing of us."""
    monkeypatch.setenv("DBT_PROFILES_DIR", str(tmp_path))
    (tmp_path / "dbt_project.yml").write_text("name: shop\nprofile: shop\nversion: '1.0'\n")
    (tmp_path / "profiles.yml").write_text(PROFILE)
    (tmp_path / "packages.yml").write_text("packages:  # ours\n  - local: ./vendored  # mine\n")
    vendored = tmp_path / "vendored"
    vendored.mkdir()
    (vendored / "dbt_project.yml").write_text("name: vendored\nversion: '1.0'\n")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "one.sql").write_text("select 1 as one")
    return tmp_path


def init(
    project: Path, *arguments: str, package: str | None = str(REPOSITORY), answers: str = ""
) -> Result:
    """Run the command."""
    given = ["init", "--project-dir", str(project), *(["--package", package] if package else [])]
    return CliRunner().invoke(main, [*given, *arguments], input=answers)


def files(project: Path) -> dict[Path, bytes]:
    """Every file with what it holds."""
    return {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}


def plugin(project: Path, target: str = "dev") -> dict[str, Any]:
    """The plugin's configuration in the profile."""
    document = yaml.safe_load((project / "profiles.yml").read_text())
    (found,) = document["shop"]["outputs"][target]["plugins"]
    return dict(found["config"])


def dbt(project: Path, *arguments: str) -> None:
    """Run real dbt."""
    code, text = run_forked("dbt", *arguments, directory=project)
    assert code == 0, text


def test_the_example_enriches_and_the_sources_are_tested(project: Path) -> None:
    """With dbt deps, and the provider local answered by script."""
    done = init(project, "--yes")
    assert done.exit_code == 0, done.output
    profiles = (project / "profiles.yml").read_text()
    assert "# the usual one" in profiles
    assert "# mine" in (project / "packages.yml").read_text()
    (project / "profiles.yml").write_text(
        profiles.replace("provider: local", "provider: local\n            responder: scripted")
    )
    dbt(project, "deps")
    dbt(project, "build")
    with duckdb.connect(str(project / "shop.duckdb"), read_only=True) as warehouse:
        rows = warehouse.execute(
            "select enrichment_status, count(*) from example_enriched group by 1"
        ).fetchall()
        assert rows == [("done", 3)]
        assert warehouse.execute("select sum(requests) from enrichment.usage").fetchone() == (3,)


def test_without_a_key_everything_else_goes_on(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For whoever has none yet: dbt parses, and builds the models that ask nobody."""
    for name in ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert init(project, "--yes", "--provider", "azure").exit_code == 0
    dbt(project, "deps")
    dbt(project, "parse")
    dbt(project, "run", "--select", "one")


@pytest.mark.parametrize("provider", ["azure", "openai", "local"])
def test_the_block_is_one_that_the_plugin_reads(project: Path, provider: str) -> None:
    """For each service."""
    assert init(project, "--yes", "--provider", provider).exit_code == 0
    assert parse_config(plugin(project), duckdb_settings={}).provider == provider


LEDGER, BUCKET = "postgresql://enrich@db.internal/enrich", "az://container/enrich"


@pytest.mark.parametrize("is_asked", [True, False])
def test_a_state_that_machines_share(project: Path, is_asked: bool) -> None:
    """By options, or as it is asked for where no option says anything."""
    options = () if is_asked else ("--ledger", LEDGER, "--files", BUCKET, "--yes")
    answers = f"y\n{LEDGER}\n{BUCKET}\n" + "y\n" * 9
    assert init(project, "--provider", "azure", *options, answers=answers).exit_code == 0
    state = parse_config(plugin(project), duckdb_settings={}).state
    assert state is not None
    assert (state.ledger.get_secret_value(), state.files) == (LEDGER, BUCKET)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--ledger", LEDGER), "a shared state needs both a ledger and files"),
        (("--ledger", LEDGER.replace("@", ":hunter2@"), "--files", BUCKET), "holds a password"),
        (("--ledger", "mysql://db", "--files", BUCKET), "no address of a Postgres database"),
        (("--ledger", LEDGER, "--files", "ftp://host/files"), "state.files"),
    ],
)
def test_a_shared_state_that_cannot_be(project: Path, options: tuple[str, ...], said: str) -> None:
    """It is refused before anything is written, and no password is repeated."""
    before = files(project)
    done = init(project, "--yes", "--provider", "azure", *options)
    assert done.exit_code == 1
    assert said in done.output
    assert "hunter2" not in done.output
    assert files(project) == before


def test_a_second_time_changes_nothing(project: Path) -> None:
    """And says so."""
    init(project, "--yes")
    before = files(project)
    assert "everything is there already" in init(project, "--yes", "--provider", "azure").output
    assert before == files(project)


def test_nothing_is_written_without_a_yes(project: Path) -> None:
    """The diff is shown first, and what is not wanted is left out."""
    before = files(project)
    done = init(project, answers="n\n" * 9)
    assert "+      plugins:\n+        - module: dbt_enrich.plugin" in done.output
    assert "nothing was written" in done.output
    assert before == files(project)
    init(project, answers="n\ny\n" + "n\n" * 9)
    assert {path.name for path in files(project) if before.get(path) != path.read_bytes()} == {
        "profiles.yml"
    }


def test_only_lines_are_added(project: Path) -> None:
    """Comments, order, indentation and line ends of what is there stay."""
    previous = PROFILE.replace("\n", "\r\n")
    (project / "profiles.yml").write_bytes(previous.encode())
    (project / ".gitignore").write_text("target/")
    (project / "profiles.yml").chmod(0o600)
    assert init(project, "--yes").exit_code == 0
    after = (project / "profiles.yml").read_bytes().decode()
    assert after.count("\n") == after.count("\r\n")
    assert [line for line in after.splitlines() if line in previous] == previous.splitlines()
    assert (project / ".gitignore").read_text() == "target/\n.enrichment/\n"
    assert (project / "profiles.yml").stat().st_mode & 0o777 == 0o600


def test_what_the_project_has_in_other_places_is_found(project: Path) -> None:
    """dependencies.yml, a models' directory of another name, a source and a model that moved."""
    (project / "dbt_project.yml").write_text(
        "name: shop\nprofile: shop\nversion: '1.0'\nmodel-paths: [queries, more]\n"
    )
    (project / "packages.yml").rename(project / "dependencies.yml")
    (project / "more").mkdir()
    (project / "more" / "usage.yml").write_text(
        "sources:\n  - name: enrichment\n    tables: [{name: usage}]\n"
    )
    (project / ".gitignore").write_text("/.enrichment\n")
    assert init(project, "--yes").exit_code == 0
    assert not (project / "packages.yml").exists()
    assert len(yaml.safe_load((project / "dependencies.yml").read_text())["packages"]) == 2
    assert {path.name for path in (project / "queries" / "enriched").iterdir()} == {
        "example_enriched.sql",
        "_example_enriched.yml",
    }
    assert (project / ".gitignore").read_text() == "/.enrichment\n"
    dbt(project, "deps")
    dbt(project, "parse")
    (project / "queries" / "enriched").rename(project / "more" / "tickets")
    assert "everything is there already" in init(project, "--yes").output


def test_a_plugin_that_is_there_says_what_to_ignore(project: Path) -> None:
    """Its own state directory, if that is in the project."""
    init(project, "--yes")
    profiles = (project / "profiles.yml").read_text()
    for place, ignored in (("state/here", ["state/here/"]), ("../elsewhere", [])):
        (project / ".gitignore").unlink()
        (project / "profiles.yml").write_text(
            profiles.replace("provider: local", f"provider: local\n            state_dir: {place}")
        )
        init(project, "--yes")
        (project / ".gitignore").touch()
        assert (project / ".gitignore").read_text().splitlines() == ignored


@pytest.mark.parametrize(
    ("given", "entry"),
    [
        (str(REPOSITORY), {"local": str(REPOSITORY)}),
        (
            "https://git.example/team/enrich.git",
            {"git": "https://git.example/team/enrich.git", "revision": f"v{__version__}"},
        ),
        (
            "git@git.example:team/dbt-enrich",
            {"git": "git@git.example:team/dbt-enrich", "revision": f"v{__version__}"},
        ),
    ],
)
def test_the_package_is_of_this_version(project: Path, given: str, entry: dict[str, str]) -> None:
    """A directory as it stands, or the repository at this version's tag."""
    assert init(project, "--yes", package=given).exit_code == 0
    listed = yaml.safe_load((project / "packages.yml").read_text())["packages"]
    assert listed == [{"local": "./vendored"}, entry]


def test_a_path_of_the_package_is_meant_from_here(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And written as dbt takes it, from the project on."""
    monkeypatch.chdir(REPOSITORY.parent)
    assert init(project, "--yes", package=REPOSITORY.name).exit_code == 0
    listed = yaml.safe_load((project / "packages.yml").read_text())["packages"]
    assert (project / listed[-1]["local"]).resolve() == REPOSITORY


@pytest.mark.parametrize(
    ("noted", "entry"),
    [
        ({"url": REPOSITORY.as_uri(), "dir_info": {"editable": True}}, None),
        (
            {
                "url": "https://git.example/enrich",
                "vcs_info": {"vcs": "git", "commit_id": "c0ffee"},
            },
            {"git": "https://git.example/enrich", "revision": "c0ffee"},
        ),
    ],
)
def test_the_package_is_where_this_one_was_installed_from(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    noted: dict[str, Any],
    entry: dict[str, str] | None,
) -> None:
    """As pip noted it, where nothing else is said."""
    installed(monkeypatch, tmp_path_factory.mktemp("site"), noted)
    assert init(project, "--yes", package=None).exit_code == 0
    listed = yaml.safe_load((project / "packages.yml").read_text())["packages"]
    if entry is None:
        assert (project / listed[-1]["local"]).resolve() == REPOSITORY
    else:
        assert listed[-1] == entry


def test_a_package_from_an_index_says_nothing_of_the_repository(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """So it has to be named."""
    installed(monkeypatch, tmp_path_factory.mktemp("site"), None)
    done = init(project, "--yes", package=None)
    assert done.exit_code == 1
    assert "by --package" in done.output


def installed(monkeypatch: pytest.MonkeyPatch, site: Path, noted: dict[str, Any] | None) -> None:
    """Have this package be installed as pip notes it."""
    described = site / "dbt_enrich-0.1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: dbt-enrich\nVersion: 0.1.0\n")
    if noted:
        (described / "direct_url.json").write_text(json.dumps(noted))
    monkeypatch.syspath_prepend(site)


def test_a_directory_that_is_no_package(project: Path) -> None:
    """Is named, and nothing is written."""
    before = files(project)
    done = init(project, "--yes", package="./vendored")
    assert done.exit_code == 1
    assert "holds no dbt package dbt_enrich" in done.output
    assert before == files(project)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("profiles.yml", "shop: [", "is no YAML that can be read"),
        ("profiles.yml", "other: {}", "has no profile 'shop'"),
        ("dbt_project.yml", "name: shop", "dbt_project.yml names no profile; add"),
        ("packages.yml", "packages: 3", "packages is no list"),
        ("packages.yml", "- local: x", "holds no keys"),
        ("dbt_project.yml", "name: [", "is no YAML that can be read"),
        ("models/enrichment.yml", "sources: [enrichment", "is no YAML that can be read"),
        ("profiles.yml", "shop: {outputs: {default: 3}}", "has no target 'default'"),
        (
            "profiles.yml",
            "x: &p [a]\nshop: {outputs: {default: {type: duckdb, plugins: *p}}}",
            "add it by hand",
        ),
    ],
)
def test_what_cannot_be_read_is_left_alone(
    project: Path, file: str, content: str, said: str
) -> None:
    """Nothing at all is written then."""
    (project / file).write_text(content)
    done = init(project, "--yes")
    assert done.exit_code == 1
    assert said in done.output
    assert "Traceback" not in done.output
    assert not (project / "models" / "enriched").exists()


@pytest.mark.parametrize(
    ("target", "said"),
    [("lake", "of the type oracle; dbt-enrich works on"), ("test", "has no target 'test'")],
)
def test_a_target_that_dbt_enrich_does_not_know(project: Path, target: str, said: str) -> None:
    """Is named with its fix."""
    done = init(project, "--yes", "--target", target)
    assert done.exit_code == 1
    assert said in done.output


@pytest.mark.parametrize("options", [("--target", "prod"), ("--no-plugin",)])
@pytest.mark.parametrize("provider", ["azure", "openai", "local"])
def test_where_there_is_no_plugin_the_project_has_a_file(
    project: Path, options: tuple[str, ...], provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another adapter, or for dbt 2: with the provider's keys, and no secret in it."""
    shared = () if provider == "local" else ("--ledger", LEDGER, "--files", BUCKET)
    done = init(project, "--yes", "--provider", provider, *options, *shared)
    assert done.exit_code == 0, done.output
    assert (project / "profiles.yml").read_text() == PROFILE
    assert "then dbt-enrich run --select example_enriched" in done.output
    # The plugin alone builds the relations that they describe.
    assert not (project / "models" / "enriched" / "_enrichment_sources.yml").exists()
    for name in ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "https://planted.example")
    config = read_project_file(project, "prod")
    assert config is not None
    assert (config.provider, config.state is None) == (provider, provider == "local")
    if isinstance(config, RemoteConfig):
        assert config.key == "https://planted.example"
        assert config.url.startswith("https://")
    written = files(project)
    again = init(project, "--yes", "--provider", "openai", *options)
    assert "everything is there already" in again.output
    assert f"the provider {provider} needs" in again.output
    assert files(project) == written


def test_a_file_that_is_there_serves_the_plugin(project: Path) -> None:
    """Where the profile has the plugin without a block of its own."""
    plugin = "      plugins: [{module: dbt_enrich.plugin, alias: enrich}]\n"
    profile = PROFILE.replace("    prod:\n", f"{plugin}    prod:\n")
    (project / "profiles.yml").write_text(profile)
    done = init(project, "--yes")
    assert done.exit_code == 0, done.output
    assert (project / "profiles.yml").read_text() == profile
    assert (project / "dbt_enrich.yml").read_text() == "provider: local\n"
    assert "then dbt run --select example_enriched" in done.output
