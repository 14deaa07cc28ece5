"""Properties of the whole way: texts, types and orders that nobody would write by hand."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
from batch_server.responders.base import EMBEDDINGS, ChatReply, ChatRequest
from batch_server.responders.embedding_reply import input_text, inputs_of
from batch_server.responders.responses_form import as_chat, in_form_of
from batch_server.responders.scripted import ScriptedResponder, completion, last_user_message
from batch_server.server import RunningEmulator, running_emulator
from dbt_enrich.config import parse_config
from dbt_enrich.task.schema import OutputColumn
from fuzz.lines import OUTPUTS, failed_line, joined_lines, right_line
from fuzz.reading import stored_answers
from fuzz.vectors import vector_line
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support.answer_strategies import documents, output_columns
from support.endpoints import ENDPOINTS, TEXT_ENDPOINTS, provider_for, task_for
from support.validation_oracle import verdict
from support.vectors import expected_vector
from support.warehouse import Warehouse, summary_task

TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=60
) | st.sampled_from(
    ["{note}", "\\{", '"', "\\", "'", "\u2028", "\u202eabc", "a\r\nb", "\ufeff", "\x1f",
     "é" * 50_000, "</script>", "${x}", "%s", "\U0001f468\u200d\U0001f469", "null", "```json",
     "\ud7ff\ue000"]
)  # fmt: skip

NAMES = st.sampled_from(ENDPOINTS)

# What is asked once a task's answers are the same by another endpoint.
NOW = {"responses": "chat"}

# What a needed text may consist of and still count as none.
BLANKS = " \t\n\v\f\r\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(
    map(chr, range(0x2000, 0x200C))
)


class Echo:
    """A responder that answers by what it is told for the message, or with the message itself."""

    identity = "echo"

    def __init__(self) -> None:
        self.told: dict[str, str] = {}
        self.heard: list[str] = []

    def models(self) -> list[str]:
        """Return the one that answers."""
        return [self.identity]

    def answer(
        self, requests: Iterable[ChatRequest]
    ) -> Generator[tuple[ChatRequest, ChatReply], None, None]:
        """Yield each request with its reply."""
        for request in requests:
            if request.path == EMBEDDINGS:
                self.heard.extend(map(input_text, inputs_of(request.body)))
                yield from ScriptedResponder().answer([request])
                continue
            chat = as_chat(request)
            message = last_user_message(chat.body)
            packed = request.custom_id.startswith("pack-")
            content = self._packed(message) if packed else self._alone(message)
            yield request, in_form_of(request, ChatReply(200, completion(chat.body, content)))

    def _alone(self, message: str) -> str:
        self.heard.append(message)
        return self.told.get(message) or json.dumps({"summary": message})

    def _packed(self, message: str) -> str:
        rows = json.loads(message)
        answers = [
            {"id": int(row), "answer": json.loads(self._alone(text))} for row, text in rows.items()
        ]
        return json.dumps({"rows": answers[::-1]}, ensure_ascii=False)

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
def warehouse_of(emulator: RunningEmulator, endpoint: str = "chat") -> Iterator[Warehouse]:
    """A warehouse with a state directory of its own, and its own namespace at the service."""
    directory = Path(tempfile.mkdtemp(prefix="properties-"))
    try:
        values = {
            **provider_for(endpoint, emulator.url, emulator.api_key),
            "state_dir": str(directory / "state"),
            "namespace": directory.name,
            "poll_interval": 0.05,
            "adoption_grace": 0.0,
            "max_retries": 1,
            "memory_limit": "160MB",
        }
        yield Warehouse(parse_config(values, duckdb_settings={}))
    finally:
        shutil.rmtree(directory)


def answer_to(text: str, endpoint: str) -> Any:
    """What the one output column has of a row."""
    return text if endpoint in TEXT_ENDPOINTS else expected_vector(text)


@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=25), endpoint=NAMES)
def test_any_text_survives_export_and_load(
    echoing: tuple[RunningEmulator, Echo], texts: list[tuple[str, str]], endpoint: str
) -> None:
    """What the service receives is what the columns hold, and what it says is what comes back."""
    emulator, echo = echoing
    echo.told, echo.heard = {}, []
    task = task_for(endpoint, user="{note}|\\{note}\\\u2028{Übel}", optional=("Übel",))
    with warehouse_of(emulator, endpoint) as warehouse:
        warehouse.connection.execute(
            'create table notes (id integer, note varchar, "Übel" varchar)'
        )
        rows = [(i, note, more) for i, (note, more) in enumerate(texts)]
        warehouse.connection.executemany("insert into notes values (?, ?, ?)", rows)
        warehouse.enrich("select * from notes", task)
        answered = warehouse.rows(
            f"select id, {task.outputs[0].name}, enrichment_status from enriched "
            "where enrichment_status <> 'skipped' order by id"
        )
        wanted = {i: f"{note}|{{note}}\\\u2028{more}" for i, note, more in rows}
        assert answered == [(i, answer_to(wanted[i], endpoint), "done") for i, _, _ in answered]
        assert sorted(echo.heard) == sorted({wanted[i] for i, _, _ in answered})
        skipped = {i for i, _, _ in rows} - {i for i, _, _ in answered}
        assert all(not texts[i][0].strip(BLANKS) for i in skipped)


@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(TEXTS, min_size=1, max_size=25), size=st.integers(2, 7), endpoint=NAMES)
def test_any_text_survives_packs_and_their_adoption(
    echoing: tuple[RunningEmulator, Echo], texts: list[str], size: int, endpoint: str
) -> None:
    """Its key too, which is read back from the input file once the state directory is lost."""
    emulator, echo = echoing
    echo.told, echo.heard = {}, []
    task = task_for(endpoint)
    with warehouse_of(emulator, endpoint) as warehouse:
        warehouse.connection.execute("create table notes (id integer, note varchar)")
        rows = list(enumerate(texts))
        warehouse.connection.executemany("insert into notes values (?, ?)", rows)
        warehouse.enrich("select * from notes", task, mode="submit", rows_per_request=size)
        emulator.settle()
        shutil.rmtree(warehouse.config.state_dir)
        warehouse.restart()
        # What was asked is read as such, whatever the task asks now.
        warehouse.enrich("select * from notes", task_for(NOW.get(endpoint, endpoint)))
        answered = warehouse.rows(
            f"select id, {task.outputs[0].name} from enriched "
            "where enrichment_status <> 'skipped' order by id"
        )
        assert answered == [(i, answer_to(texts[i], endpoint)) for i, _ in answered]
        assert len(echo.heard) == len({texts[i] for i, _ in answered})


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
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
    assume(texts)
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


LINES = st.sampled_from(["right", "again", "batch_expired", "batch_cancelled", "oops", "uh-oh"])
# What the lines that answer say as vectors, of which the first line stands.
VECTORS = {"again": [0.25, -1.0], "right": [1.0, 0.5]}


@settings(max_examples=45, suppress_health_check=list(HealthCheck))
@given(
    written=st.lists(st.lists(LINES, max_size=4), min_size=1, max_size=12),
    seed=st.integers(0, 2**32),
    cut=st.floats(0, 1),
    endpoint=st.sampled_from(["chat", "embeddings"]),
)
def test_any_order_repetition_and_omission_gives_the_same_table(
    written: list[list[str]], seed: int, cut: float, endpoint: str
) -> None:
    """The table is that of plain Python, which looks at each request's lines as a set."""
    chance = random.Random(seed)
    keys = [f"{i:032x}" for i in range(len(written))]
    names = [(key, name) for key, some in zip(keys, written, strict=True) for name in some]
    chance.shuffle(names)
    lines = [_written(key, name, endpoint) for key, name in names]
    place = round(cut * len(lines))
    files = {
        "output": joined_lines(lines[:place], chance),
        "error": joined_lines(lines[place:], chance),
    }
    outputs = OUTPUTS if endpoint == "chat" else [OutputColumn("summary", "float[2]")]
    found = {
        key: (kind, answer["summary"] if kind == "done" else message)
        for key, (kind, message, answer) in stored_answers(files, keys, outputs, endpoint).items()
    }
    ours = {key: [name for other, name in names if other == key] for key in keys}
    assert found == {key: _standing(some, endpoint) for key, some in ours.items()}


def _written(key: str, name: str, endpoint: str) -> bytes:
    if name not in VECTORS:
        return failed_line(key, name)
    if endpoint == "chat":
        return right_line(key, name)
    return json.dumps(vector_line(f"{key}-1", [{"embedding": VECTORS[name]}])).encode()


def _standing(names: list[str], endpoint: str) -> tuple[str, Any]:
    """Kind, and answer or message, of a request about which such lines were written, in order."""
    answers = [name for name in names if name in VECTORS]
    if answers:
        return "done", min(answers) if endpoint == "chat" else VECTORS[answers[0]]
    if not names:
        return "missing", "the service returned no line for the request"
    kinds = {"batch_expired": "expired", "batch_cancelled": "cancelled"}
    failures = []
    for name in names:
        message = f"because of {name}"
        kind = kinds.get(name, "provider_error")
        failures.append((kind, message if name in kinds else f"{name}: {message}"))
    return min(failures)


def test_the_fuzzed_outputs_are_ones_that_duckdb_has() -> None:
    """So that what is fuzzed is what users have."""
    types = ", ".join(f"cast(null as {output.type.sql})" for output in OUTPUTS)
    assert duckdb.execute(f"select {types}").fetchone() is not None
