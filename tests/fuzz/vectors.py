"""Lines with vectors: right ones in each way that servers write them, and hostile ones."""

from __future__ import annotations

import base64
import json
import random
from array import array
from collections.abc import Sequence
from typing import Any, Final

from batch_server.responders.base import EMBEDDINGS, ChatReply, ChatRequest
from batch_server.responders.scripted import FAULTS, ScriptedResponder
from dbt_enrich.task.schema import OutputColumn
from fuzz.mutate import VALUES, mutate_bytes, mutate_document

SIZE: Final = 6
VECTOR: Final = OutputColumn("vector", f"float[{SIZE}]")


def new_vector(chance: random.Random) -> list[float]:
    """Return a vector that nobody else has."""
    return list(array("f", (chance.uniform(-1, 1) for _ in range(SIZE))))


def right_line(custom_id: str, vectors: Sequence[list[float]], chance: random.Random) -> bytes:
    """Return a line that answers a request, as one server or another writes it."""
    entries = [{"index": place, **_entry(v, chance)} for place, v in enumerate(vectors)]
    match chance.randrange(4):
        case 0:
            chance.shuffle(entries)
        case 1:
            entries = [{**entry, "index": None} for entry in entries]
        case 2:
            entries = [{"embedding": entry["embedding"]} for entry in entries]
    line = vector_line(custom_id, entries)
    response = line["response"]
    match chance.randrange(6):
        case 0:
            response["body"] = json.dumps(response["body"])
        case 1:
            line["response"] = response["body"]
        case 2:
            response["body"] = {"success": True, "result": response["body"]}
    return json.dumps(line).encode()


def sample_line(custom_id: str, size: int, chance: random.Random) -> dict[str, Any]:
    """Return a line as services write it, good or bad, for hostile lines to be made of.

    Args:
        custom_id: The request.
        size: How many texts it asks.
        chance: Decides.
    """
    kind = chance.randrange(5)
    if kind == 0:
        error = {"code": chance.choice(("batch_expired", "batch_cancelled", "x")), "message": "m"}
        return {"custom_id": custom_id, "response": None, "error": error}
    if kind == 1:
        error = {"code": "content_filter", "message": "m"}
        response = {"status_code": chance.choice((400, 429, 500)), "body": {"error": error}}
        return {"custom_id": custom_id, "response": response, "error": None}
    if kind == 2:
        return _scripted_line(custom_id, size, chance)
    vectors = [new_vector(chance) for _ in range(size)]
    entries = [{"index": place, **_entry(v, chance)} for place, v in enumerate(vectors)]
    if kind == 3:
        return vector_line(custom_id, mutate_document(entries, chance))
    for entry in chance.sample(entries, k=chance.randint(1, size)):
        _spoil(entry, size, chance)
    return vector_line(custom_id, entries)


def vector_line(custom_id: str, data: Any) -> dict[str, Any]:
    """Return the line of an output file whose reply has such `data`."""
    usage = {"prompt_tokens": 9, "total_tokens": 9}
    body = {"object": "list", "model": "m-2026", "data": data, "usage": usage}
    response = {"status_code": 200, "request_id": "r", "body": body}
    return {"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": None}


def _entry(vector: list[float], chance: random.Random) -> dict[str, Any]:
    if chance.random() < 0.3:
        return {"object": "embedding", "embedding": vector}
    text = base64.b64encode(array("f", vector).tobytes()).decode()
    return {"object": "embedding", "embedding": text}


def _spoil(entry: dict[str, Any], size: int, chance: random.Random) -> None:
    """Make an entry one that is no vector of the text at its place."""
    vector = new_vector(chance)
    match chance.randrange(8):
        case 0:
            entry["embedding"] = vector[: chance.randrange(SIZE)] or vector * 2
        case 1:
            vector[chance.randrange(SIZE)] = chance.choice(
                (float("nan"), float("inf"), -float("inf"), 1e39, 10**400)
            )
            entry["embedding"] = vector
        case 2:
            entry["index"] = chance.choice((*range(size), -1, size, 2**31, 2**63, "0", 0.0, True))
        case 3:
            del entry["index"]
        case 4:
            entry["embedding"] = [str(number) for number in vector]
        case 5:
            raw = array("f", vector).tobytes()
            entry["embedding"] = mutate_bytes(base64.b64encode(raw), chance).decode("latin-1")
        case 6:
            raw = array("f", [float("nan"), *vector[1:]]).tobytes()
            entry["embedding"] = base64.b64encode(raw[: chance.randrange(len(raw) + 1)]).decode()
        case _:
            entry["embedding"] = chance.choice((*VALUES, [vector], {"0": 1.0}, vector * 500))


def _scripted_line(custom_id: str, size: int, chance: random.Random) -> dict[str, Any]:
    responder = ScriptedResponder([{"match": "", "fault": chance.choice(FAULTS)}])
    body = {"input": ["note"] * size, "dimensions": SIZE, "encoding_format": "base64"}
    request = ChatRequest(0, custom_id, body, EMBEDDINGS)
    reply: ChatReply = next(responder.answer([request]))[1]
    line = {"custom_id": custom_id, "error": None}
    return {**line, "response": {"status_code": reply.status_code, "body": reply.body}}
