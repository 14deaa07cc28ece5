"""A responder for tests: answers that follow from the request, and faults where rules ask for them.

It names itself in the reply's `model`, so that no answer of it is taken for a language model's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from batch_server.images import image_tokens, text_of
from batch_server.problems import SetupError
from batch_server.responders.base import EMBEDDINGS, ChatReply, ChatRequest
from batch_server.responders.embedding_reply import embedding_reply, input_text, inputs_of
from batch_server.responders.responses_form import as_chat, in_form_of
from batch_server.responders.scripted_vectors import dimensions_of, scripted_vector

MODEL = "scripted"
_ECHO = 200
# Tokens that a request with some reasoning effort takes beside those of its answer.
_THOUGHT = 8
_MOST_ITEMS = 1_000
_WORD = re.compile(r"\w+")
_WORDS = 3
_Maker = Callable[[Mapping[str, Any], str, str], Any]
_RULE_KEYS = (
    "match", "times", "probability", "seed",
    "content", "answer", "finish_reason", "refusal", "status", "error", "fault", "dimensions",
)  # fmt: skip
# What is wrong with the line of the output file, with the answer, or with the whole reply.
_LINE_FAULTS = (
    "missing", "duplicate", "broken_line", "unknown_id", "null_id", "empty_id", "status_zero",
)  # fmt: skip
_ANSWER_FAULTS = ("wrong_shape", "extra_keys", "code_fence", "prose", "broken_json")
_REPLY_FAULTS = (
    "content_filter_prompt", "content_filter_answer", "refusal", "truncated", "null_content",
    "no_choices", "no_usage",
)  # fmt: skip
FAULTS = (*_LINE_FAULTS, *_ANSWER_FAULTS, *_REPLY_FAULTS)


@dataclass
class Rule:
    """What happens to requests one of whose user messages holds a text.

    Attributes:
        match: The text; an empty one matches every request.
        times: How many requests it applies to, or None for all.
        probability: Share of the requests that it applies to, chosen by a hash of the request.
        seed: Of that choice.
        reply: The rule's other keys.
    """

    match: str
    times: int | None
    probability: float = 1.0
    seed: int = 0
    reply: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Rule:
        """Read a rule.

        Raises:
            SetupError: A key or a fault is unknown.
        """
        for key in document:
            if key not in _RULE_KEYS:
                raise SetupError(
                    f"a rule of the scripted responder has the unknown key '{key}'",
                    fix=_near_match(key) or f"use one of the keys {', '.join(sorted(_RULE_KEYS))}",
                )
        fault = document.get("fault")
        if fault is not None and fault not in FAULTS:
            raise SetupError(
                f"a rule of the scripted responder has the unknown fault '{fault}'",
                fix=f"use one of the faults {', '.join(FAULTS)}",
            )
        own = ("match", "times", "probability", "seed")
        return cls(
            str(document.get("match", "")),
            document.get("times"),
            float(document.get("probability", 1.0)),
            int(document.get("seed", 0)),
            {key: value for key, value in document.items() if key not in own},
        )

    def applies(self, request: ChatRequest, messages: list[str]) -> bool:
        """Whether the rule is for a request. A request asked again has another chance."""
        if self.times == 0 or not any(self.match in message for message in messages):
            return False
        if self.probability >= 1:
            return True
        text = f"{request.custom_id}\x00{messages[-1:]}"
        return _hash(str(self.seed), text) % 1_000_000 < self.probability * 1_000_000


def _near_match(key: str) -> str:
    matches = get_close_matches(key.lower(), _RULE_KEYS, n=1, cutoff=0.6)
    return f"did you mean '{matches[0]}'?" if matches else ""


class ScriptedResponder:
    """Answers by rule, else with an echo of the request that is valid under its schema.

    Args:
        rules: The rules; the first one that matches applies.
    """

    def __init__(self, rules: Iterable[Mapping[str, Any]] = ()) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self.set_rules(rules)

    @classmethod
    def from_file(cls, path: Path) -> ScriptedResponder:
        """Read the rules from a JSON file, a list of objects.

        Raises:
            SetupError: The file cannot be read.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SetupError(
                f"the script {path} cannot be read ({error})",
                fix="write it as a JSON list of rules",
            ) from error
        if not isinstance(document, list) or not all(isinstance(rule, dict) for rule in document):
            raise SetupError(
                f"the script {path} is no list of rules",
                fix='write it as [{"match": "a text", "answer": {"column": "value"}}]',
            )
        return cls(document)

    @property
    def identity(self) -> str:
        """Who answers."""
        return MODEL

    def models(self) -> list[str]:
        """Return the one that answers to every name."""
        return [MODEL]

    def set_rules(self, rules: Iterable[Mapping[str, Any]]) -> None:
        """Replace the rules."""
        parsed = [Rule.parse(rule) for rule in rules]
        with self._lock:
            self._rules = parsed

    def answer(
        self, requests: Iterable[ChatRequest]
    ) -> Generator[tuple[ChatRequest, ChatReply], None, None]:
        """Yield each request with its reply, in order."""
        for request in requests:
            if request.path == EMBEDDINGS:
                yield request, self._vectors(request)
                continue
            yield request, in_form_of(request, self._reply(as_chat(request)))

    def close(self) -> None:
        """Nothing is held."""

    def _vectors(self, request: ChatRequest) -> ChatReply:
        """Return the vectors that follow from a request's texts."""
        body = request.body
        texts = [input_text(given) for given in inputs_of(body)]
        rule = self._rule(request, texts)
        if "status" in rule:
            error = rule.get("error") or {"code": "serverError", "message": "scripted"}
            return ChatReply(int(rule["status"]), {"error": error})
        fault = rule.get("fault") or ""
        if fault == "content_filter_prompt":
            return ChatReply(400, {"error": _FILTERED})
        size = int(rule.get("dimensions") or dimensions_of(body))
        vectors = [scripted_vector(text, size) for text in texts]
        tokens = sum(-(-len(text) // 4) for text in texts)
        reply = embedding_reply(body, vectors, model=MODEL, tokens=tokens)
        return ChatReply(200, _spoiled_vectors(reply, fault), _SPOILS.get(fault))

    def _reply(self, request: ChatRequest) -> ChatReply:
        body = request.body
        rule = self._rule(request, user_messages(body))
        if "status" in rule:
            error = rule.get("error") or {"code": "serverError", "message": "scripted"}
            return ChatReply(int(rule["status"]), {"error": error})
        fault = rule.get("fault") or ""
        if fault == "content_filter_prompt":
            return ChatReply(400, {"error": _FILTERED})
        answer = rule["answer"] if "answer" in rule else echo(body, last_user_message(body))
        content = rule.get("content", _content(answer, fault))
        reply = completion(
            body,
            None if "refusal" in rule else content,
            refusal=rule.get("refusal"),
            finish_reason=rule.get("finish_reason", "stop"),
        )
        return ChatReply(200, _spoiled(reply, fault), _SPOILS.get(fault))

    def _rule(self, request: ChatRequest, messages: list[str]) -> dict[str, Any]:
        with self._lock:
            for rule in self._rules:
                if rule.applies(request, messages):
                    if rule.times is not None:
                        rule.times -= 1
                    return rule.reply
        return {}


# The shape of Azure's refusal of a prompt.
_FILTERED = {
    "code": "content_filter",
    "message": "The response was filtered due to the prompt triggering the content management "
    "policy. Please modify your prompt and retry.",
    "param": "prompt",
    "status": 400,
    "innererror": {
        "code": "ResponsibleAIPolicyViolation",
        "content_filter_result": {"violence": {"filtered": True, "severity": "medium"}},
    },
}


def _spoiled_vectors(reply: dict[str, Any], fault: str) -> dict[str, Any]:
    """Return a reply with vectors, with what `fault` makes of it."""
    match fault:
        case "null_content":
            reply["data"][0]["embedding"] = None
        case "wrong_shape":
            reply["data"][-1]["index"] = 0
        case "truncated":
            del reply["data"][len(reply["data"]) // 2 :]
        case "no_choices":
            reply["data"] = []
        case "no_usage":
            del reply["usage"]
    return reply


def _spoiled(reply: dict[str, Any], fault: str) -> dict[str, Any]:
    """Return a reply with what `fault` makes of it."""
    choice = reply["choices"][0]
    message = choice["message"]
    content = message["content"]
    match fault:
        case "content_filter_answer":
            choice["finish_reason"] = "content_filter"
            message["content"] = None
        case "refusal":
            message.update(content=None, refusal="I can't help with that.")
        case "truncated":
            choice["finish_reason"] = "length"
            message["content"] = (content or "")[: len(content or "") // 2]
        case "null_content":
            message["content"] = None
        case "no_choices":
            reply["choices"] = []
        case "no_usage":
            del reply["usage"]
    return reply


def completion(
    body: Mapping[str, Any],
    content: str | None,
    *,
    refusal: str | None = None,
    finish_reason: str = "stop",
) -> dict[str, Any]:
    """Return a chat.completion object with a plausible count of tokens (four characters each)."""
    contents = [message.get("content") for message in body.get("messages") or []]
    asked = sum(map(len, map(text_of, contents))) // 4 + sum(map(image_tokens, contents))
    thought = _THOUGHT if body.get("reasoning_effort") not in (None, "none") else 0
    answered = thought + len(content or refusal or "") // 4
    return {
        "id": f"chatcmpl-{os.urandom(12).hex()}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, "refusal": refusal},
                "finish_reason": finish_reason,
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": asked,
            "completion_tokens": answered,
            "total_tokens": asked + answered,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": thought},
        },
    }


def user_messages(body: Mapping[str, Any]) -> list[str]:
    """Return the texts of the user messages, few-shot examples and repairs included.

    Pictures stand before a message's text: what they are, and how their bytes' digest begins.
    """
    return [
        text_of(message.get("content"))
        for message in body.get("messages") or []
        if message.get("role") == "user"
    ]


def last_user_message(body: Mapping[str, Any]) -> str:
    """Return the text of the last user message."""
    return ["", *user_messages(body)][-1]


def echo(body: Mapping[str, Any], message: str) -> Any:
    """Return an answer that is valid under the request's schema and holds its message."""
    form = body.get("response_format") or {}
    schema = (form.get("json_schema") or {}).get("schema")
    if schema:
        packed = _packed(schema, message)
        if packed:
            return packed
        return _value(schema, "answer", message)
    return _like_the_example(body, message) or {"text": message[:_ECHO]}


def _packed(schema: Mapping[str, Any], message: str) -> dict[str, Any] | None:
    """Answer each row of a pack by itself, or return None where the message is no pack."""
    rows = _within(_within(schema, "properties"), "rows")
    answer = _within(_within(_within(rows, "items"), "properties"), "answer")
    if not answer:
        return None
    try:
        texts = json.loads(message)
    except (ValueError, RecursionError):
        return None
    if not isinstance(texts, dict) or not all(row.isdecimal() for row in texts):
        return None
    return {
        "rows": [
            {"id": int(row), "answer": _value(answer, "answer", text)}
            for row, text in texts.items()
        ]
    }


def _within(schema: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a part of a schema, or an empty one: a schema may also be `true`."""
    found = schema.get(name)
    return found if isinstance(found, Mapping) else {}


def _like_the_example(body: Mapping[str, Any], message: str) -> dict[str, Any] | None:
    for turn in body.get("messages") or []:
        if turn.get("role") == "assistant":
            try:
                example = json.loads(turn.get("content"))
            except (ValueError, TypeError, RecursionError):
                continue
            if isinstance(example, dict):
                return {k: _like(v, k, message) for k, v in example.items()}
    return None


def _like(value: Any, name: str, message: str) -> Any:
    if isinstance(value, str):
        return f"{name}: {message[:_ECHO]}"
    if isinstance(value, list):
        return _words(message)[: max(1, len(value))]
    return value


def _value(schema: Mapping[str, Any], name: str, message: str) -> Any:
    """Return a value under `schema`, chosen by a hash of the message."""
    if "anyOf" in schema:
        choices = [c for c in schema["anyOf"] if isinstance(c, Mapping) and c.get("type") != "null"]
        return _value(choices[0], name, message) if choices else None
    if "enum" in schema:
        members = [member for member in schema["enum"] if member is not None]
        return members[_hash(name, message) % len(members)] if members else None
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((item for item in kind if item != "null"), "null")
    if kind == "null":
        return None
    makers: dict[str, _Maker] = {
        "object": _object,
        "array": _array,
        "integer": _integer,
        "number": _number,
        "boolean": _boolean,
    }
    make: _Maker = makers.get(str(kind), _text)
    return make(schema, name, message)


def _object(schema: Mapping[str, Any], _: str, message: str) -> dict[str, Any]:
    properties = _within(schema, "properties")
    return {name: _value(_within(properties, name), name, message) for name in properties}


def _array(schema: Mapping[str, Any], name: str, message: str) -> list[Any]:
    items = _within(schema, "items") or {"type": "string"}
    most = int(schema.get("maxItems", _told(schema, r"At most (\d+) items") or 3))
    plain = items.get("type") == "string" and not {"enum", "format", "pattern"} & set(items)
    made = _words(message) if plain else [_value(items, name, message)]
    least = min(int(schema.get("minItems", 0)), _MOST_ITEMS)
    wanted = max(least, min(most, len(made)))
    return [made[i] if i < len(made) else f"{made[0]}{i}" for i in range(wanted)]


def _words(message: str) -> list[str]:
    """Return the first three words of a message that differ."""
    found: dict[str, None] = {}
    for word in _WORD.finditer(message[:_ECHO]):
        found[word[0].lower()] = None
        if len(found) == _WORDS:
            break
    return list(found) or ["none"]


def _integer(schema: Mapping[str, Any], name: str, message: str) -> int:
    least, most = _bounds(schema, 100)
    return int(least) + _hash(name, message) % max(1, int(most) - int(least) + 1)


def _number(schema: Mapping[str, Any], name: str, message: str) -> float:
    least, most = _bounds(schema, 1)
    return least + (most - least) * (_hash(name, message) % 1000) / 1000


def _boolean(_: Mapping[str, Any], name: str, message: str) -> bool:
    return _hash(name, message) % 2 == 0


def _bounds(schema: Mapping[str, Any], width: int) -> tuple[float, float]:
    """Return the least and the most, from the keywords or, where a service takes none, in words."""
    least = schema.get("minimum", _told(schema, r"At least (-?[\d.]*\d)"))
    most = schema.get("maximum", _told(schema, r"At most (-?[\d.]*\d)(?! items)"))
    if least is None:
        least = 0 if most is None else min(0, float(most))
    return float(least), float(most if most is not None else float(least) + width)


def _told(schema: Mapping[str, Any], pattern: str) -> str | None:
    return _found(pattern, str(schema.get("description", "")))


# The requests of a batch have one schema.
@lru_cache(maxsize=1_000)
def _found(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found[1] if found else None


def _text(schema: Mapping[str, Any], name: str, message: str) -> str:
    described = str(schema.get("description", ""))
    if schema.get("format") == "date-time" or "YYYY-MM-DDT" in described:
        return f"{_day(name, message)}T00:00:00"
    if schema.get("format") == "date" or "YYYY-MM-DD" in described:
        return _day(name, message)
    return f"{name}: {message[:_ECHO]}"


def _day(name: str, message: str) -> str:
    return (date(2000, 1, 1) + timedelta(days=_hash(name, message) % 10_000)).isoformat()


def _hash(name: str, message: str) -> int:
    text = f"{name}\x00{message}".encode("utf-8", "replace")
    return int.from_bytes(hashlib.sha256(text).digest()[:6])


def _content(answer: Any, fault: str | None) -> str:
    if fault == "extra_keys" and isinstance(answer, dict):
        answer = {**answer, "extra": True}
    if fault == "wrong_shape":
        answer = [answer]
    text = json.dumps(answer, ensure_ascii=False)
    if fault == "broken_json":
        return text[: len(text) // 2]
    if fault == "code_fence":
        return f"```json\n{text}\n```"
    if fault == "prose":
        return f"Here is the answer you asked for:\n\n{text}\n\nI hope that helps!"
    return text


def _unknown(lines: list[str]) -> list[str]:
    stranger = {**json.loads(lines[0]), "custom_id": "f" * 32 + "-1"}
    return [*lines, json.dumps(stranger)]


def _changed(line: str, **changes: Any) -> list[str]:
    return [json.dumps({**json.loads(line), **changes})]


def _status_zero(lines: list[str]) -> list[str]:
    line = json.loads(lines[0])
    return _changed(lines[0], response={**line["response"], "status_code": 0, "body": None})


_SPOILS: dict[str, Callable[[list[str]], list[str]]] = {
    "missing": lambda _: [],
    "duplicate": lambda lines: lines * 2,
    "broken_line": lambda lines: [lines[0][: len(lines[0]) // 2]],
    "unknown_id": _unknown,
    "null_id": lambda lines: _changed(lines[0], custom_id=None),
    "empty_id": lambda lines: _changed(lines[0], custom_id=""),
    "status_zero": _status_zero,
}
