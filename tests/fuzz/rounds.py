"""What a round of fuzzing asks: requests of which some are well answered, and some are not."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from dbt_enrich.endpoints.packs import MARK
from dbt_enrich.sql import literal
from dbt_enrich.task.endpoint_names import EndpointName
from dbt_enrich.task.schema import OutputColumn
from fuzz import lines, vectors

_SAFE: Final = 100
_HOSTILE: Final = 400
_MOST_IN_LIST: Final = 9


@dataclass(frozen=True)
class Round:
    """A shard's requests, and the lines that files about them are made of.

    Attributes:
        endpoint: What was asked.
        outputs: The task's output columns, the first of which has what is expected.
        requests: A SELECT of the shard's manifest.
        expected: What the right answers say, by their request_key.
        hostile: The other requests.
        right: The lines of the right answers.
        samples: Lines for hostile ones to be made of.
        stranger: Makes the line of a good answer to a custom_id.
    """

    endpoint: str
    outputs: list[OutputColumn]
    requests: str
    expected: dict[str, Any]
    hostile: list[str]
    right: list[bytes]
    samples: list[dict[str, Any]]
    stranger: Callable[[str], dict[str, Any]]

    def of(self, answer: dict[str, Any]) -> Any:
        """Return what an answer says, to be compared with what is expected."""
        return answer[self.outputs[0].name]


def new_round(endpoint: str, chance: random.Random) -> Round:
    """Return the requests of a round."""
    make = _vectors if endpoint == EndpointName.EMBEDDINGS else _texts
    return make(endpoint, chance)


def single_requests_sql(keys: list[str]) -> str:
    """Build the SELECT of the manifest of requests that ask a row each."""
    values = ", ".join(f"(cast({literal(key)} as uuid), 1)" for key in keys)
    return f"select * from (values {values}) as manifest(request_key, attempt)"


def _texts(endpoint: str, chance: random.Random) -> Round:
    keys = (lines.new_key(chance) for _ in range(_SAFE))
    expected = {key: lines.right_text(key, chance) for key in keys}
    hostile = [lines.new_key(chance) for _ in range(_HOSTILE)]
    right = [
        lines.right_line(key, text, ascii_only=chance.random() < 0.5)
        for key, text in expected.items()
    ]
    # What is dressed as another server's is read whichever endpoint was asked.
    right = [lines.dressed_line(line, chance) if chance.random() < 0.3 else line for line in right]
    samples = [lines.sample_line(key, chance) for key in hostile]
    if endpoint == EndpointName.RESPONSES:
        right = [
            json.dumps(lines.in_form_of_responses(json.loads(line))).encode() for line in right
        ]
        samples = [lines.in_form_of_responses(sample) for sample in samples]
    return Round(
        endpoint,
        lines.OUTPUTS,
        single_requests_sql([*expected, *hostile]),
        expected,
        hostile,
        right,
        samples,
        lines.stranger_line,
    )


def _vectors(endpoint: str, chance: random.Random) -> Round:
    """Return requests for vectors: of a row each, or of lists as long as chance has it."""
    expected = {lines.new_key(chance): vectors.new_vector(chance) for _ in range(_SAFE)}
    hostile = [lines.new_key(chance) for _ in range(_HOSTILE)]
    most = 1 if chance.random() < 0.3 else _MOST_IN_LIST
    good, bad = _lists([*expected], most, chance), _lists(hostile, most, chance)
    requests = single_requests_sql([*expected, *hostile])
    if most > 1:
        requests = " union all ".join(
            f"select cast({literal(key)} as uuid) as request_key, 1 as attempt, "
            f"{literal(custom_id)} as custom_id, {place} as position"
            for custom_id, keys in (*good, *bad)
            for place, key in enumerate(keys, start=1)
        )
    return Round(
        endpoint,
        [vectors.VECTOR],
        requests,
        expected,
        hostile,
        [
            vectors.right_line(custom_id, [expected[key] for key in keys], chance)
            for custom_id, keys in good
        ],
        [vectors.sample_line(custom_id, len(keys), chance) for custom_id, keys in bad],
        lambda custom_id: vectors.vector_line(custom_id, [{"embedding": [0.5] * vectors.SIZE}]),
    )


def _lists(keys: list[str], most: int, chance: random.Random) -> list[tuple[str, list[str]]]:
    """Cut rows into requests of so many at most; return each with its custom_id."""
    if most == 1:
        return [(f"{key}-1", [key]) for key in keys]
    found = []
    while keys:
        size = chance.randint(1, most)
        found.append((f"{MARK}{lines.new_key(chance)}", keys[:size]))
        keys = keys[size:]
    return found
