"""The blocks of a page are run, compared and refused as CONTRIBUTING.md says."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from batch_server.server import RunningEmulator
from docs.blocks import Page, check, compare, merged
from docs.commands import Programs


@pytest.fixture
def page(tmp_path: Path, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a page of a text, in a project without anything of dbt."""
    monkeypatch.setattr("docs.blocks.REPOSITORY", tmp_path)

    def run(text: str) -> Path:
        path = tmp_path / "page.md"
        path.write_text(f"<!-- project: empty -->\n\n{text}\n", encoding="utf-8")
        with tempfile.TemporaryDirectory() as programs:
            Page(path, tmp_path, Programs(Path(programs)), emulator).run()
        return tmp_path / "shop"

    return run


def test_blocks_build_on_one_another(page: Any) -> None:
    """Files, variables and the directory stay; what a block prints is compared."""
    root = page(
        "```yaml\n# models/one.yml\nmodels: []\n```\n"
        "```sh\nexport WORD=kept\ncd models\n```\n"
        '```sh\ncat one.yml\necho "$WORD after 3.2s"\n```\n'
        "```text\nmodels: []\n...\nkept after 9.9s\n```\n"
        '```csv title="seeds/one.csv"\nid\n1\n```'
    )
    assert (root / "models" / "one.yml").exists()
    assert (root / "seeds" / "one.csv").read_text() == "id\n1\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("```sh\nfalse\n```", 3),
        ("```sh\ntrue\nfalse | cat\n```", 3),
        ("Text.\n\n```sh\necho one\n```\n\n```text\ntwo\n```", 9),
        ("<!-- fails -->\n```sh\ntrue\n```", 4),
        ("<!-- not run: reason -->\n```sh\nif\n```", 4),
        ("<!-- not run -->\n```sh\ntrue\n```", 3),
        ("```\nno language\n```", 3),
        ("```yaml\na: [\n```", 3),
        ("```json\n{,}\n```", 3),
        ("```yaml\nconfig: {provider: azure, endpont: x}\n```", 3),
        ("```yaml\nmodels: [{name: a, config: {meta: {enrichment: {canary: 0}}}}]\n```", 3),
        ("<!-- not run: reason -->\n```yaml\njobs: {a: {steps: []}}\n```", 4),
        ("<!-- not run: reason -->\n```python\ndef\n```", 4),
        ("<!-- not run: reason -->\n```sql\nselect '\n```", 4),
    ],
)
def test_what_does_not_hold_fails_with_its_line(page: Any, text: str, line: int) -> None:
    """A command, an output, a mark or a text that is not what it says."""
    with pytest.raises(AssertionError, match=rf"page\.md:{line}: "):
        page(text)


def test_what_cannot_run_is_parsed_alone(page: Any) -> None:
    """And a command that is said to fail may."""
    page("<!-- not run: reason -->\n```sh\nfalse\n```\n<!-- fails -->\n```sh\nfalse\n```")


def test_shown_lines_stand_in_their_order() -> None:
    """What differs from run to run is taken for equal."""
    printed = "15:31:18  a ........ [OK in 0.31s]\n12.3 MB of 0a1b2c3d4e\nlast 7"
    compare("09:00:00  a .... [OK in 12.00s]\n...\nlast ...\n", printed)
    compare("1 MB of ffffffff99", printed)
    for wrong in ("last 8", "last 7\n09:00:00  a .... [OK in 1.00s]", "last"):
        with pytest.raises(AssertionError, match="not printed"):
            compare(wrong, printed)


def test_a_block_is_merged_where_it_says() -> None:
    """Into mappings, into lists of named things, and into the places that have a name."""
    models = {"models": [{"name": "a", "config": {"meta": {"enrichment": {"model": "m"}}}}]}
    found = merged(models, "in meta.enrichment", {"canary": 5})
    assert found["models"][0]["config"]["meta"]["enrichment"] == {"model": "m", "canary": 5}
    found = merged(found, "added", {"models": [{"name": "a", "columns": [{"name": "c"}]}]})
    assert found["models"][0]["columns"] == [{"name": "c"}]
    assert found["models"][0]["config"]["meta"]["enrichment"]["canary"] == 5
    plugin = {"module": "dbt_enrich.plugin", "config": {"provider": "local"}}
    profile = {"shop": {"target": "dev", "outputs": {"dev": {"plugins": [plugin]}}}}
    found = merged(profile, "in config", {"threads": 4})
    found = merged(found, "in the target", {"attach": [{"path": "x"}]})
    output = found["shop"]["outputs"]["dev"]
    assert output["attach"] == [{"path": "x"}]
    assert output["plugins"][0]["config"] == {"provider": "local", "threads": 4}
    assert merged({}, "in models", {"a": 1}) == {"models": {"a": 1}}


def test_a_workflow_is_one() -> None:
    """It has what GitHub demands."""
    workflow = {"on": "push", "jobs": {"a": {"runs-on": "x", "steps": [{"run": "true"}]}}}
    check("yaml", yaml.safe_dump(workflow))
    del workflow["on"]
    with pytest.raises(AssertionError):
        check("yaml", yaml.safe_dump(workflow))
