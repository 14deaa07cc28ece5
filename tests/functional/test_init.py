"""`dbt-enrich init`: an existing project goes on working, and its example enriches."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result
from dbt_enrich.cli import main
from support.dbt_project import REPOSITORY

PROFILE = """# my profiles
shop:
  target: dev   # the usual one
  outputs:
    dev:
      type: duckdb
      path: shop.duckdb
    prod:
      type: postgres
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


def init(project: Path, *arguments: str, answers: str | None = None) -> Result:
    """Run the command."""
    told = ["init", "--project-dir", str(project), "--package", str(REPOSITORY)]
    return CliRunner().invoke(main, [*told, *arguments], input=answers)


def dbt(project: Path, *arguments: str) -> None:
    """Run real dbt."""
    command = [sys.executable, "-c", "from dbt.cli.main import cli; cli()", *arguments]
    done = subprocess.run(
        command, check=False, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


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


def test_a_second_time_changes_nothing(project: Path) -> None:
    """And says so."""
    init(project, "--yes")
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    assert "everything is there already" in init(project, "--yes").output
    assert before == {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}


def test_nothing_is_written_without_a_yes(project: Path) -> None:
    """The diff is shown first."""
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    done = init(project, answers="n\n" * 9)
    assert "+      plugins:" in done.output or "+        - module: dbt_enrich.plugin" in done.output
    assert before == {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("profiles.yml", "shop: [", "is no YAML that can be read"),
        ("profiles.yml", "other: {}", "has no profile 'shop'"),
        ("packages.yml", "packages: 3", "packages is no list"),
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
    assert not (project / "models" / "enriched").exists()


@pytest.mark.parametrize(
    ("target", "said"), [("prod", "of the type postgres"), ("test", "has no target 'test'")]
)
def test_a_target_that_cannot_have_the_plugin(project: Path, target: str, said: str) -> None:
    """Is named with its mend."""
    done = init(project, "--yes", "--target", target)
    assert done.exit_code == 1
    assert said in done.output
