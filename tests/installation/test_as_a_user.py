"""The built wheel in an environment of a user's own, and nothing else than the docs.

The tests follow one another in one environment, as a user's first hour does: `.ci/run` runs them
in one process.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from batch_server.server import RunningEmulator, running_emulator
from dbt_enrich.extras import EXTRAS
from installation.user import User, new_user
from support.dbt_project import REPOSITORY

pytestmark = pytest.mark.installation

_PROFILE = "shop: {target: dev, outputs: {dev: {type: duckdb, path: shop.duckdb}}}\n"
_STATEMENTS = """
import json, sys
import duckdb
with duckdb.connect(sys.argv[1], read_only=True) as connection:
    print(json.dumps(connection.execute(sys.argv[2]).fetchall(), default=str))
"""


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> User:
    """Somebody who has just run `pip install dbt-enrich`."""
    return new_user(tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """What stands for Azure, in this process, as the user's has nothing to serve it with."""
    with running_emulator(tmp_path_factory.mktemp("service")) as running:
        yield running


def project(directory: Path) -> Path:
    """An empty dbt project."""
    directory.mkdir()
    (directory / "dbt_project.yml").write_text("name: shop\nprofile: shop\n")
    (directory / "profiles.yml").write_text(_PROFILE)
    return directory


def configure(directory: Path, *, anew: bool = True, **values: Any) -> None:
    """Give the plugin of the profile a configuration, anew or beside what it has."""
    path = directory / "profiles.yml"
    document = yaml.safe_load(path.read_text())
    (plugin,) = document["shop"]["outputs"]["dev"]["plugins"]
    plugin["config"] = {**({} if anew else plugin["config"]), **values}
    path.write_text(yaml.safe_dump(document))


def rows(user: User, directory: Path, sql: str) -> list[list[Any]]:
    """The rows of a query on the project's warehouse."""
    database = str(directory / "shop.duckdb")
    found: list[list[Any]] = json.loads(user.run("python", "-c", _STATEMENTS, database, sql))
    return found


def findings(user: User, directory: Path, *, exits: int = 0) -> dict[str, dict[str, str]]:
    """What `dbt-enrich doctor` finds, by subject."""
    given = user.run(
        "dbt-enrich", "doctor", "--json", at=directory, exits=exits, is_for_machines=True
    )
    return {finding["subject"]: finding for finding in json.loads(given)}


def readme(language: str, heading: str) -> str:
    """The code of the README in a language, that begins with a comment."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"```{language}\n\S+ {re.escape(heading)}\n(.*?)```", text, re.DOTALL)
    return str(found)


def test_nothing_of_an_extra_is_there(user: User) -> None:
    """What is tried below is tried without."""
    optional = {name.partition(".")[0] for extra in EXTRAS for name in extra.modules}
    # dbt-core brings Jinja.
    assert user.has(*optional) == {name: name == "jinja2" for name in optional}
    print({name: user.version(name) for name in ("dbt-core", "dbt-duckdb", "duckdb", "openai")})


def test_every_command_has_its_help(user: User) -> None:
    """Each that `dbt-enrich --help` lists."""
    listed = user.run("dbt-enrich", "--help").partition("Commands:")[2]
    names = re.findall(r"^  (\w+)  ", listed, re.MULTILINE)
    assert {"init", "doctor", "plan", "preview", "run", "report", "serve", "status"} <= {*names}
    with ThreadPoolExecutor(2) as pool:
        for text in pool.map(lambda name: user.run("dbt-enrich", name, "--help"), names):
            assert text.startswith("Usage: dbt-enrich ")


def test_a_key_is_all_that_azure_needs(user: User, service: RunningEmulator) -> None:
    """From an empty project to answers: init, deps, doctor, plan, run, status, report."""
    place = project(user.home / "azure")
    text = user.run(
        "dbt-enrich", "init", "--yes", "--provider=azure", f"--package={REPOSITORY}", at=place
    )
    assert "the provider azure needs no extra with an API key" in text
    user.run("dbt", "deps", at=place)

    without_key = findings(user, place, exits=1)
    assert without_key["dbt-core"]["verdict"] == without_key["macros"]["verdict"] == "ok"
    # The endpoint is looked for first.
    assert without_key["service"]["found"].startswith("The provider `azure` needs `endpoint`")
    text = user.run("dbt-enrich", "plan", at=place, exits=1)
    assert "The provider `azure` needs `endpoint`" in text

    user = user.with_variables(
        AZURE_OPENAI_ENDPOINT=service.url, AZURE_OPENAI_API_KEY=service.api_key
    )
    service.deployments({"name": "gpt-4o-mini-batch"})
    configure(place, anew=False, poll_interval=0.2)
    found = findings(user, place)
    assert {finding["verdict"] for finding in found.values()} == {"ok"}
    assert found["key"]["found"] == "accepted"
    (planned,) = json.loads(user.run("dbt-enrich", "plan", "--json", at=place))
    assert (planned["name"], planned["requests"]) == ("example_enriched", 3)
    assert not service.account()["paid"]

    user.run("dbt", "build", at=place)
    counted = "select enrichment_status, count(*) from example_enriched group by 1"
    assert rows(user, place, counted) == [["done", 3]]
    assert len(service.account()["paid"]) == 3
    assert "example_enriched" in user.run("dbt-enrich", "status", at=place)
    shown = user.run("dbt-enrich", "report", "--format=markdown", at=place)
    assert "Nothing needs attention" in shown
    text = user.run("dbt-enrich", "report", at=place, exits=1)
    assert "pip install 'dbt-enrich[report]'" in text


def test_a_sign_in_names_its_extra(user: User) -> None:
    """In the project of before."""
    place = user.home / "azure"
    configure(
        place, provider="azure", endpoint="https://res.openai.azure.com", credential="default"
    )
    found = findings(user, place, exits=1)
    assert found["extra azure"]["fix"] == "install it with: pip install 'dbt-enrich[azure]'"
    text = user.run("dbt", "run", at=place, exits=1)
    assert "pip install 'dbt-enrich[azure]'" in text


def test_the_provider_local_names_its_extra(user: User) -> None:
    """By init, doctor, plan, dbt run and serve; and nothing is left behind."""
    place = project(user.home / "local")
    text = user.run("dbt-enrich", "init", "--yes", f"--package={REPOSITORY}", at=place)
    install = "pip install 'dbt-enrich[local]'"
    assert f"{install} (it is not installed yet)" in text
    user.run("dbt", "deps", at=place)
    assert install in findings(user, place, exits=1)["extra local"]["fix"]
    for command in (["dbt-enrich", "plan"], ["dbt", "run"], ["dbt-enrich", "serve"]):
        assert install in user.run(*command, at=place, exits=1), command
    assert not (place / ".enrichment").exists()


def test_the_first_model_of_the_readme(user: User) -> None:
    """With the extra installed as the messages say, and answers by script."""
    user.pip(f"{user.wheel}[local]")
    place = user.home / "local"
    configure(place, provider="local", responder="scripted")
    assert {finding["verdict"] for finding in findings(user, place).values()} == {"ok"}
    models = place / "models"
    (models / "stg_tickets.sql").write_text(
        "select range as ticket_id, 'Invoice' as subject, 'Charged twice' as body from range(5)"
    )
    for language, name in (("sql", "tickets_enriched.sql"), ("yaml", "tickets_enriched.yml")):
        (models / name).write_text(readme(language, f"models/{name}"))
    user.run("dbt", "build", at=place)
    found = rows(
        user, place, "select distinct enrichment_status, typeof(topic) from tickets_enriched"
    )
    assert found == [["done", "ENUM('billing', 'bug', 'question', 'other')"]]


def test_the_packaged_model_answers(user: User) -> None:
    """The extra is whole: the weights are put together, loaded and asked."""
    place = user.home / "local"
    configure(place, provider="local")
    assert {finding["verdict"] for finding in findings(user, place).values()} == {"ok"}
    user.run("dbt", "build", "--select", "example_enriched", at=place)
    assert rows(user, place, "select count(*) from example_enriched") == [[3]]
