"""Properties of the whole way: texts, types and orders that nobody would write by hand."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest
from dbt_enrich.emulator.responders.base import ChatReply, ChatRequest
from dbt_enrich.emulator.responders.scripted import completion, last_user_message
from dbt_enrich.emulator.server import RunningEmulator, running_emulator
from dbt_enrich.schema import OutputColumn
from fuzz.reading import OUTPUTS, joined_lines, right_line, stored_answers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.answer_strategies import documents, output_columns
from support.validation_oracle import verdict
from support.warehouse import Warehouse, config_for, summary_task

TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=60
) | st.sampled_from(
    ["{note}", "\\{", '"', "\\", "'", "\u2028", "\u202eabc", "a\r\nb", "\ufeff", "\x1f",
     "é" * 50_000, "</script>", "${x}", "%s", "\U0001f468\u200d\U0001f469", "null", "```json",
     "\ud7ff\ue000"]
)  # fmt: skip


class Echo:
    """A responder that answers by what it is told for the message, or with the message itself."""

    identity = "echo"

    def __init__(self) -> None:
        self.told: dict[str, str] = {}

    def answer(
        self, requests: Iterable[ChatRequest]
    ) -> Generator[tuple[ChatRequest, ChatReply], None, None]:
        """Yield each request with its reply."""
        for request in requests:
            message = last_user_message(request.body)
            content = self.told.get(message) or json.dumps({"summary": message})
            yield request, ChatReply(200, completion(request.body, content))

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture(scope="module")
def echoing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningEmulator, Echo]]:
    """An emulator that all examples share."""
    echo = Echo()
    directory = tmp_path_factory.mktemp("emulator")
    with running_emulator(directory, responder=echo) as running:
        yield running, echo


@contextmanager
def warehouse_of(emulator: RunningEmulator) -> Iterator[Warehouse]:
    """A warehouse with a state directory of its own, and its own namespace at the service."""
    directory = Path(tempfile.mkdtemp(prefix="properties-"))
    try:
        config = config_for(
            emulator.url, emulator.api_key, directory / "state", namespace=directory.name
        )
        yield Warehouse(config)
    finally:
        shutil.rmtree(directory)


@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(TEXTS, min_size=1, max_size=25))
def test_any_text_survives_export_and_load(
    echoing: tuple[RunningEmulator, Echo], texts: list[str]
) -> None:
    """What the service receives is what the column holds, and what it says is what comes back."""
    emulator, echo = echoing
    echo.told = {}
    with warehouse_of(emulator) as warehouse:
        warehouse.connection.execute("create table notes (id integer, note varchar)")
        warehouse.connection.executemany("insert into notes values (?, ?)", list(enumerate(texts)))
        warehouse.enrich("select * from notes")
        rows = warehouse.rows(
            "select note, summary, enrichment_status from enriched where "
            "enrichment_status <> 'skipped' order by id"
        )
        assert [(note, "done") for note, _, status in rows] == [(n, s) for n, _, s in rows]
        assert [summary for _, summary, _ in rows] == [note for note, _, _ in rows]
        skipped = warehouse.rows("select note from enriched where enrichment_status = 'skipped'")
        assert all(not note.strip() or not note.strip("\ufeff\x1c\x1d\x1e\x1f\u200b\u2060 \t\r\n")
                   for (note,) in skipped)  # fmt: skip


@settings(max_examples=10, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_type_survives_its_round_trip(
    echoing: tuple[RunningEmulator, Echo], data: st.DataObject
) -> None:
    """From the answer into the table, and out of the table once the state directory is lost."""
    emulator, echo = echoing
    outputs: list[OutputColumn] = data.draw(output_columns())
    texts = [text for text in data.draw(documents(outputs)) if verdict(outputs, text)[0] is None]
    echo.told = {f"row {i} of {id(data)}": text for i, text in enumerate(texts)}
    notes = " union all ".join(
        f"select {i} as id, 'row {i} of {id(data)}' as note" for i in range(len(texts))
    )
    if not texts:
        return
    with warehouse_of(emulator) as warehouse:
        task = summary_task(outputs=tuple(outputs))
        warehouse.enrich(notes, task)
        assert warehouse.statuses() == {"done": len(texts)}
        names = ", ".join('"' + o.name.replace('"', '""') + '"' for o in outputs)
        first = warehouse.rows(f"select {names} from enriched order by id")
        values = [tuple((verdict(outputs, text)[1] or {}).values()) for text in texts]
        assert first == values
        shutil.rmtree(warehouse.config.state_dir)
        before = len(emulator.jobs.batches())
        for batch in emulator.jobs.batches():
            emulator.forget(batch["id"])
        warehouse.restart()
        warehouse.enrich(notes, task)
        assert before
        assert emulator.jobs.batches() == []
        assert warehouse.rows(f"select {names} from enriched order by id") == first


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    times=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    seed=st.integers(0, 2**32),
    cut=st.floats(0, 1),
)
def test_any_order_repetition_and_omission_gives_the_same_table(
    times: list[int], seed: int, cut: float
) -> None:
    """A request that no line answers is `missing`; how often and where lines stand is nothing."""
    chance = random.Random(seed)
    keys = [f"{i:032x}" for i in range(len(times))]
    lines = [right_line(key) for key, often in zip(keys, times, strict=True) for _ in range(often)]
    chance.shuffle(lines)
    place = round(cut * len(lines))
    files = {
        "output": joined_lines(lines[:place], chance),
        "error": joined_lines(lines[place:], chance),
    }
    found = stored_answers(files, keys)
    assert {key: kind for key, (kind, _) in found.items()} == {
        key: "done" if often else "missing" for key, often in zip(keys, times, strict=True)
    }
    texts = {key: answer["summary"] for key, (kind, answer) in found.items() if kind == "done"}
    assert texts == {key: f"the right answer of {key}" for key in texts}


def test_the_fuzzed_outputs_are_ones_that_duckdb_has() -> None:
    """So that what is fuzzed is what users have."""
    types = ", ".join(f"cast(null as {output.type.sql})" for output in OUTPUTS)
    assert duckdb.execute(f"select {types}").fetchone() is not None
