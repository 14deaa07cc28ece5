"""The command: files and formats, and a plain sentence wherever there is nothing to show."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result
from dbt_enrich.cli import main
from dbt_enrich.report import charts
from dbt_enrich.report.texts import visible
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.tables.publications import Publication
from functional.report.conftest import ROWS, Reported
from support.dbt_project import DbtProject


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the command writes; it changes the working directory."""
    monkeypatch.chdir(tmp_path)


def report(project: DbtProject, *arguments: str) -> Result:
    """Run the command."""
    location = ["--project-dir", str(project.directory), "--profiles-dir", str(project.directory)]
    return CliRunner().invoke(main, ["report", *arguments, *location])


def empty_project(directory: Path) -> DbtProject:
    """A project that never ran."""
    return DbtProject(directory, {"provider": "local", "responder": "scripted"})


def test_html_is_written_where_one_stands(reported: Reported, tmp_path: Path) -> None:
    """One file, small, with what needs attention on the terminal."""
    done = report(reported.project)
    assert done.exit_code == 0, done.output
    assert f"6 of {ROWS} rows failed" in done.output
    file = tmp_path / "report.html"
    assert f"written: {file}" in done.output
    assert file.stat().st_size < 1_000_000
    assert "rows to chat in batches" in file.read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_one_model_only(reported: Reported) -> None:
    """By name; figures and batches are that model's."""
    done = report(reported.project, "--select", "notes_enriched", "--format", "json")
    document = json.loads(done.output)
    assert [model["name"] for model in document["models"]] == ["notes_enriched"]
    assert {batch["model"] for batch in document["batches"]} == {"notes_enriched"}
    assert sum(document["statuses"].values()) == 1


def test_json_is_the_whole_report(reported: Reported) -> None:
    """Every figure, for machines."""
    document = json.loads(report(reported.project, "--format", "json").output)
    assert set(document) == {
        "project", "made", "sentences", "statuses", "money", "oldest_pending", "models",
        "batches", "batches_of", "days",
    }  # fmt: skip
    assert document["models"][1]["columns"][0]["name"] == "topic"


def without_fences(text: str) -> str:
    """Markdown without its fenced blocks, in which nothing is formatted (CommonMark, 4.5)."""
    kept: list[str] = []
    fence = ""
    for line in text.splitlines():
        ticks = re.match("`{3,}", line)
        if fence:
            fence = "" if line.strip() == fence else fence
        elif ticks:
            fence = ticks[0]
        else:
            kept.append(line)
    assert not fence
    return "\n".join(kept) + "\n"


def test_markdown_has_the_same_content(reported: Reported) -> None:
    """Prompts whole, examples, versions with their differences, failures with an answer."""
    text = report(reported.project, "--format", "markdown", "--output", "-").output
    tickets = next(m for m in reported.report.models if m.name == "tickets_enriched")
    assert tickets.asked
    assert len(tickets.asked.user) > 0
    assert f"\n{visible(tickets.asked.user)}\n" in text
    ((user, answer),) = tickets.asked.examples
    assert visible(f"{user}\n{answer}") in text
    versions = [version for model in reported.report.models for version in model.versions]
    assert any(version.diff for version in versions)
    for version in versions:
        assert visible(version.diff) in text
        assert version.version in text
    assert "one of the answers" in text
    assert any(failure.raw_answer for failure in tickets.failures)
    assert "## By day" in text
    assert "## Batches" in text
    assert {(way.endpoint, way.route) for way in tickets.ways} == {("chat", "batch")}
    assert f"{sum(way.rows for way in tickets.ways)} rows to chat in batches" in text
    assert "| status | endpoint | route | requests |" in text


def test_markdown_formats_nothing_that_it_was_told(reported: Reported) -> None:
    """No markup, no link, no table cell too many, no steering character."""
    whole = report(reported.project, "--format", "markdown", "--output", "-").output
    text = without_fences(whole)
    assert f"6 of {ROWS} rows failed" in text
    assert "\u202e" not in whole
    assert "<script" not in text
    assert "<img" not in text
    assert not re.search(r"(?<!\\)\]\(", text)
    assert "://" not in text
    assert "\u202e" not in text
    assert "[U+202E]" in text.replace("\\", "")
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(bars) == 1, table
    assert re.search(r"^\| invalid\\_json \| 3 \| 0 \|", text, re.MULTILINE)


@pytest.mark.parametrize("form", ["html", "markdown", "json"])
def test_before_the_first_run(form: str, tmp_path: Path) -> None:
    """No ledger and no warehouse: a sentence, and a report that says it."""
    done = report(empty_project(tmp_path), "--format", form, "--output", "out")
    assert done.exit_code == 0, done.output
    assert "Nothing was enriched yet" in done.output
    assert "Nothing was enriched yet" in (tmp_path / "out").read_text()


def test_a_model_that_was_never_run(reported: Reported) -> None:
    """It is named, with the fix."""
    done = report(reported.project, "--select", "nobody")
    assert done.exit_code == 1
    assert "the model 'nobody' was never run" in done.output
    assert "`dbt-enrich run --select nobody`" in done.output
    assert "notes_enriched, tickets_enriched, twin_enriched" in done.output


def test_a_model_that_was_asked_and_never_published(tmp_path: Path) -> None:
    """Nothing to show is said, and is no error."""
    project = empty_project(tmp_path)
    project.state_dir.mkdir(exist_ok=True)
    with Ledger(project.state_dir / "ledger.sqlite") as ledger:
        ledger.tasks.add("t1", enrichment="model.notes.asked", document={"user": "{a}"}, outputs=[])
    done = report(project, "--select", "asked", "--output", "out.html")
    assert done.exit_code == 0, done.output
    assert "Nothing was enriched yet" in done.output


def published(project: DbtProject) -> None:
    """Note a table in the ledger that is nowhere."""
    project.state_dir.mkdir(exist_ok=True)
    with Ledger(project.state_dir / "ledger.sqlite") as ledger:
        ledger.tasks.add("t1", enrichment="model.notes.lost", document={"user": "{a}"}, outputs=[])
        ledger.publications.put(
            Publication("model.notes.lost", "lost", "gpt-4o-mini", "t1", {"done": 3})
        )


def test_a_ledger_without_a_warehouse(tmp_path: Path) -> None:
    """The path is named."""
    project = empty_project(tmp_path)
    published(project)
    done = report(project)
    assert done.exit_code == 1
    assert f"there is no warehouse at {project.warehouse}" in done.output


def test_an_empty_warehouse(tmp_path: Path) -> None:
    """The ledger's figures, and a note that the table is not there."""
    project = empty_project(tmp_path)
    published(project)
    duckdb.connect(str(project.warehouse)).close()
    done = report(project, "--format", "json", "--output", "out")
    assert done.exit_code == 0, done.output
    assert "lost: its table is not in the warehouse of this target" in done.output
    (model,) = json.loads((tmp_path / "out").read_text())["models"]
    assert model["statuses"] == {"done": 3}


def test_a_warehouse_that_somebody_holds(tmp_path: Path) -> None:
    """Another process writes: the sentence says so."""
    project = empty_project(tmp_path)
    published(project)
    holder = textwrap.dedent(
        f"""
        import duckdb, sys
        held = duckdb.connect({str(project.warehouse)!r})
        print("held", flush=True)
        sys.stdin.read()
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline()
        done = report(project)
        process.communicate()
    assert done.exit_code == 1
    assert "cannot be read" in done.output
    assert "dbt-enrich run" in done.output


def test_a_place_that_cannot_be_written(reported: Reported, tmp_path: Path) -> None:
    """It is named, and nothing half written is left."""
    (tmp_path / "file").write_text("")
    done = report(reported.project, "--output", "file/report.html")
    assert done.exit_code == 1
    assert "cannot be written" in done.output


def test_without_the_drawing_library(reported: Reported, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named; the other formats need it not."""
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    done = report(reported.project)
    assert done.exit_code == 1
    assert "pip install 'dbt-enrich[report]'" in done.output
    assert report(reported.project, "--format", "markdown").exit_code == 0


def test_many_rows_make_a_small_file(tmp_path: Path) -> None:
    """Aggregates and a sample: the file does not grow with the table."""
    project = empty_project(tmp_path)
    project.state_dir.mkdir(exist_ok=True)
    outputs = [
        {"name": "tags", "data_type": "varchar[]"},
        {"name": "summary", "data_type": "varchar"},
        {"name": "score", "data_type": "double"},
    ]
    with duckdb.connect(str(project.warehouse)) as connection:
        connection.execute(
            """
            create table big as
            select i as id, repeat('word ', 40) || i as body,
                ['tag ' || i % 50, 'tag ' || i % 7] as tags, 'summary ' || i as summary,
                random() as score, if(i % 100 = 0, 'failed', 'done') as enrichment_status,
                if(i % 100 = 0, 'missing: number ' || i, null) as enrichment_error,
                'm' as enrichment_model, 'b' as enrichment_batch_id, now() as enriched_at,
                cast(i as varchar) as enrichment_key, 'v1' as enrichment_version
            from range(200000) as numbers(i)
            """
        )
    with Ledger(project.state_dir / "ledger.sqlite") as ledger:
        document = {"user": "{body}", "outputs": outputs}
        ledger.tasks.add("t1", enrichment="model.notes.big", document=document, outputs=outputs)
        ledger.publications.put(
            Publication("model.notes.big", "big", "gpt-4o-mini", "t1", {"done": 198_000})
        )
    done = report(project)
    assert done.exit_code == 0, done.output
    assert "2,000 of 200,000 rows failed" in done.output
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


def test_a_chart_brings_nothing_but_shapes_and_texts() -> None:
    """Whatever the drawing library would let through."""
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        'onload="x()"><script>x()</script><a xlink:href="javascript:x()"><text>a</text></a>'
        '<foreignObject><b/></foreignObject><image href="http://evil.example"/>'
        '<rect style="fill:url(http://evil.example)" fill="url(http://evil.example)" width="1"/>'
        "<text onclick='x()'>&lt;b&gt;</text></svg>"
    )
    assert charts.safe_svg(svg) == (
        '<svg xmlns="http://www.w3.org/2000/svg" aria-hidden="true">'
        '<rect width="1" /><text>&lt;b&gt;</text></svg>'
    )
