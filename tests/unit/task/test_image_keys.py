"""A row's identity is of what its pictures are, not of where they lie."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from pathlib import Path

import duckdb
from dbt_enrich.config.file_limits import ImageLimits
from dbt_enrich.pipeline.stage.picture_reader import ImageReading
from dbt_enrich.pipeline.stage.staged_rows import stage
from dbt_enrich.task.enrichment_task import EnrichmentTask, image_row_key
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.warehouse.relation import StagedRelation
from dbt_enrich.workspace.database import Workspace
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pictures import png

# What a file may be called: glob signs, quotes and marks of addresses among it.
_CHARACTERS = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\")
_NAMES = st.text(_CHARACTERS, min_size=1, max_size=12).filter(
    lambda name: name == name.strip() and name.strip(".")
)
_ROWS = st.lists(
    st.tuples(_NAMES, st.integers(0, 3), st.text(max_size=5), st.booleans()), min_size=1, max_size=8
)


def task_of(column: str) -> EnrichmentTask:
    """A task over pictures of a column."""
    return EnrichmentTask(
        model="m",
        user="{note}.",
        images=(column,),
        optional=("note",),
        outputs=(OutputColumn(name="summary", data_type="varchar"),),
    )


@settings(max_examples=20)
@given(rows=_ROWS, column=st.sampled_from(["photo", 'Bild "1"']))
def test_the_key_depends_on_bytes_and_text_alone(
    rows: list[tuple[str, int, str, bool]], column: str
) -> None:
    """Whatever files and columns are called, and whether a picture is in a file or a value."""
    task = task_of(column)
    with tempfile.TemporaryDirectory() as made, duckdb.connect() as connection:
        directory = Path(made)
        quoted = '"' + column.replace('"', '""') + '"'
        connection.execute(f"create table staged (id integer, note varchar, {quoted} varchar)")
        expected = []
        for number, (name, colour, note, is_file) in enumerate(rows):
            data = png((colour, 0, 0))
            value = "data:x;base64," + base64.b64encode(data).decode()
            if is_file:
                (directory / str(number)).mkdir()
                (directory / str(number) / name).write_bytes(data)
                value = f"{number}/{name}"
            connection.execute("insert into staged values (?, ?, ?)", [number, note, value])
            identity = hashlib.sha256(data).hexdigest()
            expected.append(image_row_key("key", f"{note}.", [identity]))
        workspace = Workspace(directory / "scratch", memory_limit="100MB", threads=1)
        workspace.directory.mkdir()
        reading = ImageReading(directory, ImageLimits())
        relation = StagedRelation(connection, "staged", ("id",), "images")
        staged = stage(relation, task, "key", workspace, (), reading)
        found = workspace.rows(
            f"select replace(cast(request_key as varchar), '-', ''), missing from {staged.all_sql} "
            "order by row_id"
        )
        workspace.close()
    assert found == [(key, None) for key in expected]
