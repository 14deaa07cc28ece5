"""A line of a batch input file, as constant texts around the row's own: pure builders.

Serialising the constant parts once, and escaping only the row's text for each line, is what makes
the export fast: the body is never built as a tree for each row.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from typing import Any

from dbt_enrich.endpoints.base import Endpoint, row_prompt
from dbt_enrich.endpoints.packs import pack_prompt
from dbt_enrich.sql import literal
from dbt_enrich.task.enrichment_task import EnrichmentTask

_REPAIR = "Your answer does not fit: {}. Answer again with the complete JSON object, mended."
_CUSTOM_ID = re.compile(r'\{"custom_id":"[0-9a-z-]{1,64}"')
# A quotation mark inside a row's text is escaped, so that only the body's own model is met.
_MODEL = re.compile(rb'"body":\{"model":"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True)
class LineTemplate:
    """The constant texts of a line: `custom_id` + before + message + between + repair + after.

    Attributes:
        before: From the end of custom_id to the row's user message.
        between: What closes the row's user message.
        after: The rest of the line.
    """

    before: str
    between: str
    after: str

    @property
    def overhead(self) -> int:
        """Bytes of a line without custom_id and message, its line break included."""
        return len((self.before + self.between + self.after).encode()) + len('{"custom_id":""\n')

    def fits(self, line: str) -> bool:
        """Whether a line, without its line break, has these constant texts."""
        begun = _CUSTOM_ID.match(line)
        return (
            begun is not None
            and line.startswith(self.before, begun.end())
            and line.endswith(self.after)
        )


@dataclass(frozen=True)
class RequestLines:
    """How the lines that ask a task are written.

    Attributes:
        task: What is asked.
        endpoint: The endpoint that is asked.
        url: The `url` of every line.
    """

    task: EnrichmentTask
    endpoint: Endpoint
    url: str

    def template(self, deployment: str, *, enlarge: int = 1, packed: bool = False) -> LineTemplate:
        """Return the constant texts of the lines that ask one deployment.

        Args:
            deployment: The name that goes into the body's `model`.
            enlarge: Factor on the task's token limits, for answers that were cut off and for packs.
            packed: Whether each asks a pack of rows.
        """
        mark = secrets.token_hex(16)
        body = request_body(
            self.endpoint, self.task, deployment, mark, enlarge=enlarge, packed=packed
        )
        line = {"method": "POST", "url": self.url, "body": body}
        text = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
        before, rest = text.split(f'"{mark}"')
        return LineTemplate(before="," + before[1:], between=rest[0], after=rest[1:])


def request_body(
    endpoint: Endpoint,
    task: EnrichmentTask,
    deployment: str,
    user_message: str,
    *,
    enlarge: int = 1,
    packed: bool = False,
) -> dict[str, Any]:
    """Return the body of one request.

    Args:
        endpoint: The endpoint that is asked.
        task: What is asked.
        deployment: The name that goes into the body's `model`.
        user_message: The row's rendered user message.
        enlarge: Factor on the task's token limits.
        packed: Whether the message is a pack of rows.
    """
    prompt = pack_prompt(task) if packed else row_prompt(task)
    # The model is the first: `with_deployment` finds it there.
    return {
        "model": deployment,
        **endpoint.body(prompt, user_message, task.enlarged_parameters(enlarge)),
    }


def with_deployment(lines: bytes, deployment: str) -> bytes:
    """Return whole lines of an input file for another deployment, whichever they name now."""
    named = b'"body":{"model":' + json.dumps(deployment, ensure_ascii=False).encode()
    return _MODEL.sub(lambda _: named, lines)


def line_sql(template: LineTemplate, *, key: str, attempt: str, message: str, repair: str) -> str:
    """Build the SQL expression of a whole line.

    Args:
        template: The constant texts.
        key: SQL expression of the request_key's 32 digits.
        attempt: SQL expression of the attempt's number.
        message: SQL expression of the user message.
        repair: SQL expression of what asks for a better answer, or of NULL.
    """
    # One n-ary concat: a chain of || would copy the long constant parts at every step.
    parts = (
        """'{"custom_id":"'""",
        key,
        "'-'",
        attempt,
        literal('"' + template.before),
        f"cast(to_json({message}) as varchar)",
        literal(template.between),
        f"coalesce({repair}, '')",
        literal(template.after),
    )
    return f"concat({', '.join(parts)})"


def repair_sql(endpoint: Endpoint, answer: str, problem: str) -> str:
    """Build the SQL expression of what asks for a better answer.

    Args:
        endpoint: The endpoint that is asked.
        answer: SQL expression of the previous answer's text.
        problem: SQL expression of the validator's message.
    """
    before, after = _REPAIR.split("{}")
    return endpoint.repair_sql(answer, f"{literal(before)} || {problem} || {literal(after)}")
