"""A line of a batch input file, as constant texts around the row's own: pure builders.

Serialising the constant parts once, and escaping only the row's text for each line, is what makes
the export fast: the body is never built as a tree for each row.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dbt_enrich.endpoints.base import Endpoint, Image, row_prompt
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
        image: Of a task with pictures, what stands before and after the address of each.
        opened: Of such a task, what stands between the message and the first picture.
    """

    before: str
    between: str
    after: str
    image: tuple[str, str] = ("", "")
    opened: str = ""

    @property
    def overhead(self) -> int:
        """Bytes of a line without custom_id, message and pictures, its line break included."""
        constant = self.before + self.opened + self.between + self.after
        return len(constant.encode()) + len('{"custom_id":""\n')

    @property
    def image_overhead(self) -> int:
        """Bytes of a picture beside its address, which stands in the line as JSON."""
        return len("".join(self.image).encode())

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
        mark, image_mark = secrets.token_hex(16), secrets.token_hex(16)
        body = request_body(
            self.endpoint,
            self.task,
            deployment,
            mark,
            enlarge=enlarge,
            packed=packed,
            images=(image_mark,) if self.task.images else (),
        )
        line = {"method": "POST", "url": self.url, "body": body}
        text = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
        before, rest = text.split(f'"{mark}"')
        before = "," + before[1:]
        if not self.task.images:
            return LineTemplate(before=before, between=rest[0], after=rest[1:])
        # The text's object, a comma, the picture's object, the ends of list and message.
        opened, image = rest[0], rest[1:]
        size = 1 + json.JSONDecoder().raw_decode(image[1:])[1]
        head, tail = image[:size].split(f'"{image_mark}"')
        ends = len("]}")
        return LineTemplate(
            before=before,
            between=image[size : size + ends],
            after=image[size + ends :],
            image=(head, tail),
            opened=opened,
        )


def request_body(
    endpoint: Endpoint,
    task: EnrichmentTask,
    deployment: str,
    user_message: str,
    *,
    enlarge: int = 1,
    packed: bool = False,
    images: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the body of one request.

    Args:
        endpoint: The endpoint that is asked.
        task: What is asked.
        deployment: The name that goes into the body's `model`.
        user_message: The row's rendered user message.
        enlarge: Factor on the task's token limits.
        packed: Whether the message is a pack of rows.
        images: The addresses of the row's pictures.
    """
    shown = [Image(url, task.image_detail) for url in images]
    prompt = pack_prompt(task) if packed and not endpoint.takes_lists else row_prompt(task)
    # The model is the first: `with_deployment` finds it there.
    return {
        "model": deployment,
        **endpoint.body(prompt, user_message, task.enlarged_parameters(enlarge), shown),
    }


def with_deployment(lines: bytes, deployment: str) -> bytes:
    """Return whole lines of an input file for another deployment, whichever they name now."""
    named = b'"body":{"model":' + json.dumps(deployment, ensure_ascii=False).encode()
    return _MODEL.sub(lambda _: named, lines)


def images_sql(template: LineTemplate, pictures: str, url: Callable[[str], str]) -> str:
    """Build the SQL expression of a row's pictures as they stand behind its message.

    Args:
        template: The constant texts.
        pictures: SQL expression of the list of pictures.
        url: Builds the expression of the address of one, as JSON, of the name of a picture.
    """
    before, after = map(literal, template.image)
    parts = f"list_transform({pictures}, lambda p: concat({before}, {url('p')}, {after}))"
    return f"coalesce(array_to_string({parts}, ''), '')"


def line_sql(
    template: LineTemplate,
    *,
    key: str,
    attempt: str,
    message: str,
    repair: str,
    images: str | None = None,
    is_json: bool = False,
) -> str:
    """Build the SQL expression of a whole line.

    Args:
        template: The constant texts.
        key: SQL expression of the request_key's 32 digits.
        attempt: SQL expression of the attempt's number.
        message: SQL expression of the user message.
        repair: SQL expression of what asks for a better answer, or of NULL.
        images: SQL expression of the pictures, or None for a task without them.
        is_json: Whether the message is JSON already, and not a text.
    """
    shown = (literal(template.opened), images) if images else ()
    # One n-ary concat: a chain of || would copy the long constant parts at every step.
    parts = (
        """'{"custom_id":"'""",
        key,
        "'-'",
        attempt,
        literal('"' + template.before),
        message if is_json else f"cast(to_json({message}) as varchar)",
        *shown,
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
