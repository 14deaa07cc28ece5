"""A line of a batch input file, as constant texts around the row's own: pure builders.

Serialising the constant parts once, and escaping only the row's text for each line, is what makes
the export fast: the body is never built as a tree for each row.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Any

from dbt_enrich.endpoints.packs import pack_format, pack_messages
from dbt_enrich.sql import literal
from dbt_enrich.task.enrichment_task import TOKEN_LIMITS, EnrichmentTask

_REPAIR = "Your answer does not fit: {}. Answer again with the complete JSON object, mended."


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


def request_body(
    task: EnrichmentTask,
    *,
    deployment: str,
    user_message: str,
    enlarge: int = 1,
    packed: bool = False,
) -> dict[str, Any]:
    """Return the body of one request.

    Args:
        task: What is asked.
        deployment: The name that goes into the body's `model`.
        user_message: The row's rendered user message.
        enlarge: Factor on the task's token limits, for answers that were cut off and for packs.
        packed: Whether the message is a pack of rows.
    """
    parameters = {
        key: value * enlarge if key in TOKEN_LIMITS else value
        for key, value in task.parameters.items()
    }
    constant = pack_messages(task) if packed else task.constant_messages()
    return {
        "model": deployment,
        "messages": [*constant, {"role": "user", "content": user_message}],
        "response_format": pack_format(task) if packed else task.response_format(),
        **parameters,
    }


def line_template(
    task: EnrichmentTask,
    *,
    deployment: str,
    line_url: str,
    enlarge: int = 1,
    packed: bool = False,
) -> LineTemplate:
    """Return the constant texts of the lines that ask `task` of `deployment`."""
    mark = secrets.token_hex(16)
    body = request_body(
        task, deployment=deployment, user_message=mark, enlarge=enlarge, packed=packed
    )
    line = {"method": "POST", "url": line_url, "body": body}
    text = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
    before, rest = text.split(f'"{mark}"')
    return LineTemplate(before="," + before[1:], between=rest[0], after=rest[1:])


def line_sql(template: LineTemplate, *, key: str, attempt: str, message: str, repair: str) -> str:
    """Build the SQL expression of a whole line.

    Args:
        template: The constant texts.
        key: SQL expression of the request_key's 32 digits.
        attempt: SQL expression of the attempt's number.
        message: SQL expression of the user message.
        repair: SQL expression of the repair messages as JSON, or of NULL.
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


def repair_sql(answer: str, problem: str) -> str:
    """Build the SQL expression of the two messages that ask for a mended answer.

    Args:
        answer: SQL expression of the former answer's text.
        problem: SQL expression of the validator's message.
    """
    said, asked = _REPAIR.split("{}")
    return (
        f"""',{{"role":"assistant","content":' || cast(to_json({answer}) as varchar)"""
        f""" || '}},{{"role":"user","content":' || """
        f"cast(to_json({literal(said)} || {problem} || {literal(asked)}) as varchar) || '}}'"
    )
