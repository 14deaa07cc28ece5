"""Lines of output and error files: right ones, ones as services write them, and hostile ones."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable
from typing import Any

from batch_server.responders.base import RESPONSES, ChatReply, ChatRequest
from batch_server.responders.responses_form import in_form_of
from batch_server.responders.scripted import FAULTS, ScriptedResponder
from dbt_enrich.endpoints.base import row_prompt
from dbt_enrich.endpoints.chat_completions import CHAT_COMPLETIONS
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.schema import OutputColumn
from fuzz.mutate import mutate_bytes, mutate_document

OUTPUTS = [
    OutputColumn("summary", "varchar"),
    OutputColumn("tags", "varchar[]", max_items=3, unique_items=True, lower=True),
    OutputColumn("mood", "enum('good', 'bad')", nullable=True),
    OutputColumn("score", "decimal(5,2)", min=0, max=100),
    OutputColumn("parts", "struct(a integer, b date)[]"),
]
TASK = EnrichmentTask(model="gpt-4o-mini", user="{note}", outputs=tuple(OUTPUTS))
_BOM = b"\xef\xbb\xbf"
_AWKWARD = "\u2028\u2029\x85\x7f\r\n\x01\\\"'{}\U0001f600\u202e"
_DEPTHS = (10, 900, 1_100, 20_000)


def new_key(chance: random.Random) -> str:
    """Return a request_key that nobody else has."""
    return uuid.UUID(int=chance.getrandbits(128)).hex


def right_text(key: str, chance: random.Random) -> str:
    """Return what the right answer to a request says, now and then a megabyte of it."""
    text = f"the right answer of {key} "
    if chance.random() < 0.003:
        return text + "é" * chance.randrange(500_000, 700_000)
    return text + (_AWKWARD if chance.random() < 0.5 else "")


def right_line(key: str, text: str | None = None, *, ascii_only: bool = True) -> bytes:
    """Return a line that answers a request.

    Args:
        key: The request.
        text: What the answer says; what it is about by default.
        ascii_only: Whether other characters are escaped, twice as the answer is JSON in JSON.
    """
    content = _answer(f"the right answer of {key}" if text is None else text, ascii_only)
    return json.dumps(_line(f"{key}-1", content), ensure_ascii=ascii_only).encode()


def dressed_line(line: bytes, chance: random.Random) -> bytes:
    """Return a right line as another server or model writes it: what is read of it is the same."""
    document = json.loads(line)
    response = document["response"]
    message = response["body"]["choices"][0]["message"]
    content = message["content"]
    draft = _answer("a draft")
    match chance.randrange(9):
        case 0:
            response["body"] = json.dumps(response["body"])
        case 1:
            cut = chance.randrange(len(content) + 1)
            parts = [{"type": "text", "text": text} for text in (content[:cut], content[cut:])]
            thinking = {"type": "thinking", "thinking": [{"type": "text", "text": draft}]}
            message["content"] = [thinking, *parts]
        case 2:
            call = {"type": "function", "function": {"name": "answer", "arguments": content}}
            message |= {"content": None, "tool_calls": [call]}
        case 3:
            message["content"] = f"<think>Is it {draft} or {{x}}?</think>\n{content}"
        case 4:
            message["content"] = f"It may be {draft}.</think>{content}"
        case 5:
            message["content"] = f"{content}\n{content}"
        case 6:
            message["content"] = f"[THINK]{draft}[/THINK]```json\n{content}\n```"
        case 7:
            message |= {"content": content, "reasoning_content": draft}
        case _:
            document["response"] = response["body"]
    return json.dumps(document).encode()


def in_form_of_responses(line: dict[str, Any]) -> dict[str, Any]:
    """Return a line with a plain chat completion as one with the response that says the same."""
    response = line.get("response") or {}
    completion = response.get("body")
    choices = completion.get("choices") if isinstance(completion, dict) else None
    if not choices or not isinstance(choices[0]["message"].get("content"), str):
        return line
    body = in_form_of(ChatRequest(0, "", {}, RESPONSES), ChatReply(200, completion)).body
    return {**line, "response": {**response, "body": body}}


def failed_line(key: str, code: str) -> bytes:
    """Return a line that says why a request was not answered."""
    error = {"code": code, "message": f"because of {code}"}
    return json.dumps({"custom_id": f"{key}-1", "response": None, "error": error}).encode()


def sample_line(key: str, chance: random.Random) -> dict[str, Any]:
    """Return a line as services write it, good or bad, for hostile lines to be made of."""
    kind = chance.randrange(5)
    custom_id = f"{key}-1"
    if kind == 0:
        code = chance.choice(("batch_expired", "batch_cancelled", "request_timeout"))
        return {"custom_id": custom_id, "response": None, "error": {"code": code, "message": "m"}}
    if kind == 1:
        error = {"code": "content_filter", "message": "m", "innererror": {"code": "R"}}
        response = {"status_code": chance.choice((400, 429, 500)), "body": {"error": error}}
        return {"custom_id": custom_id, "response": response, "error": None}
    if kind == 2:
        return _scripted_line(key, chance)
    if kind == 3:
        return _line(custom_id, _hostile_content(chance))
    answer = mutate_document(json.loads(_answer("hostile")), chance)
    return _line(custom_id, json.dumps(answer))


def stranger_line(custom_id: str) -> dict[str, Any]:
    """Return the line of a good answer to a custom_id."""
    return _line(custom_id, _answer("stranger"))


def hostile_line(
    sample: dict[str, Any],
    safe: str,
    chance: random.Random,
    good_line: Callable[[str], dict[str, Any]] = stranger_line,
) -> bytes:
    """Return a line that may be anything but an answer to the request `safe`.

    Args:
        sample: A line to be mutated.
        safe: A request that is answered elsewhere.
        chance: Decides.
        good_line: Makes the line of a good answer to a custom_id.
    """
    kind = chance.random()
    if kind < 0.4:
        return _encoded(mutate_document(sample, chance))
    if kind < 0.8:
        return mutate_bytes(json.dumps(sample).encode(), chance)
    if kind < 0.9:
        return json.dumps(sample).encode()
    if kind < 0.92:
        return chance.randbytes(chance.randrange(200)).replace(b"\n", b" ")
    if kind < 0.94:
        return _doubled(sample, chance)
    if kind < 0.945:
        return _deep(sample, chance)
    if kind < 0.96:
        # Another attempt at a request that is well answered, or nearly its name.
        ending = chance.choice(("-2", "-0", "--1", "-1x", "", "-", "-99999999999", "-1.5"))
        return json.dumps(good_line(safe + ending)).encode()
    stranger = json.dumps(good_line(f"{new_key(chance)}-1")).encode()
    if kind < 0.9995:
        return stranger
    line = stranger if kind < 0.9998 else json.dumps(sample).encode()
    return line.replace(b"}", b" " * chance.randrange(900_000, 2_000_000) + b"}", 1)


def joined_lines(lines: list[bytes], chance: random.Random) -> bytes:
    """Join lines with line breaks, and here and there with several, or none after the last."""
    breaks = (b"\n", b"\n", b"\n", b"\n\n", b"\r\n", b" \n")
    joined = b"".join(line + chance.choice(breaks) for line in lines)
    if chance.random() < 0.4:
        joined = joined.rstrip(b"\r\n ")
    return (_BOM if chance.random() < 0.2 else b"") + joined


def _answer(text: str, ascii_only: bool = True) -> str:
    answer = {
        "summary": text,
        "tags": ["a", "b"],
        "mood": None,
        "score": 12.5,
        "parts": [{"a": 1, "b": "2026-01-31"}],
    }
    return json.dumps(answer, ensure_ascii=ascii_only)


def _line(custom_id: str, content: str) -> dict[str, Any]:
    return {
        "id": "batch_req_1",
        "custom_id": custom_id,
        "response": {
            "status_code": 200,
            "request_id": "r",
            "body": {
                "id": "c",
                "object": "chat.completion",
                "model": "m-2026",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": content, "refusal": None},
                        "finish_reason": "stop",
                    }
                ],
                "usage": {
                    "prompt_tokens": 9,
                    "completion_tokens": 4,
                    "prompt_tokens_details": {"cached_tokens": 2},
                },
            },
        },
        "error": None,
    }


def _hostile_content(chance: random.Random) -> str:
    """An answer as a model that lost its way writes it; the line around it is whole."""
    answer = _answer("hostile")
    kind = chance.random()
    if kind < 0.6:
        return mutate_bytes(answer.encode(), chance).decode("utf-8", "replace")
    if kind < 0.75:
        return _doubled(json.loads(answer), chance).decode()
    if kind < 0.8:
        return _deep(json.loads(answer), chance).decode()
    number = chance.choice(("9" * 5_000, "1e999", "-0.0", "1e-400", "12.50", "0.1e1", "99.999"))
    if kind < 0.9:
        return answer.replace("12.5", number)
    return f"{chance.choice(('```json', 'Sure:', '  '))}\n{answer}\n{chance.choice(('```', ''))}"


def _scripted_line(key: str, chance: random.Random) -> dict[str, Any]:
    responder = ScriptedResponder([{"match": "", "fault": chance.choice(FAULTS)}])
    body = {
        **CHAT_COMPLETIONS.body(row_prompt(TASK), "note", {}),
    }
    reply: ChatReply = next(responder.answer([ChatRequest(0, f"{key}-1", body)]))[1]
    line = {"custom_id": f"{key}-1", "error": None}
    return {**line, "response": {"status_code": reply.status_code, "body": reply.body}}


def _doubled(document: dict[str, Any], chance: random.Random) -> bytes:
    """The document with one of its keys twice."""
    text = json.dumps(document)
    key = chance.choice([*document])
    value = json.dumps(mutate_document({key: document[key]}, chance))
    extra = value[1:-1] if value.startswith("{") and len(value) > 2 else f'"{key}": null'
    places = (f"{{{extra}, {text[1:]}", f"{text[:-1]}, {extra}}}")
    return chance.choice(places).encode("utf-8", "replace")


def _deep(document: dict[str, Any], chance: random.Random) -> bytes:
    """The document with something very deep in it, closed or not."""
    depth = chance.choice(_DEPTHS)
    opening, closing = chance.choice((("[", "]"), ('{"a":', "}")))
    closing *= depth if chance.random() < 0.7 else 0
    deep = opening * depth + chance.choice(("1", '"x"', "null")) + closing
    text = json.dumps({**document, chance.choice([*document, "more"]): "DEEP"})
    return text.replace('"DEEP"', deep).encode()


def _encoded(document: Any) -> bytes:
    text = json.dumps(document, ensure_ascii=bool(len(str(document)) % 2))
    return text.encode("utf-8", "surrogatepass").replace(b"\n", b" ")
