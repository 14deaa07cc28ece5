"""An endpoint of the service: what a request's body says, and where a reply has its answer.

All that differs between endpoints is behind `Endpoint`, a module for each. What is
the same for each of them lies beside it: the line around a body (`request_lines`), the lines of
output and error files (`response_lines`) and several rows in one request (`packs`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.schema import json_schema
from dbt_enrich.task.vectors import dimensions_sent, size_of, vector_of


@dataclass(frozen=True)
class Prompt:
    """What is the same in all requests of a task, whatever the endpoint.

    Attributes:
        system: The text that goes first, or None.
        examples: Pairs of a user's text and the answer to it, as JSON.
        name: What the answer's schema is called.
        schema: The JSON Schema of an answer, or None in JSON mode.
        dimensions: How many numbers a vector is asked to have, or None.
    """

    system: str | None
    examples: tuple[tuple[str, str], ...]
    name: str
    schema: Mapping[str, Any] | None
    dimensions: int | None = None


def row_prompt(task: EnrichmentTask) -> Prompt:
    """Return the prompt of requests that ask one row each."""
    vector = vector_of(task.outputs)
    if vector:
        sent = dimensions_sent(task.model, size_of(vector), task.parameters)
        return Prompt(system=None, examples=(), name="row", schema=None, dimensions=sent)
    return Prompt(
        system=task.system or None,
        examples=tuple((e.user, task.example_text(e)) for e in task.examples),
        name="row",
        schema=None if task.response == "json_object" else json_schema(task.outputs),
    )


@dataclass(frozen=True)
class Image:
    """A picture of a row.

    Attributes:
        url: Its http(s) or `data:` address.
        detail: How closely it is looked at, or None where nothing is said of it.
    """

    url: str
    detail: str | None = None


@dataclass(frozen=True)
class ReplyPaths:
    """Where the body of a reply has what is read of it: JSON paths, from the body.

    Attributes:
        usual: The one path that nearly every reply has a field at, by the names `raw` (the text of
            the answer), `finish_reason`, `refusal`, `model`, `prompt_tokens`, `cached_tokens`,
            `completion_tokens` and, where it has them, `reasoning_tokens`: those of the completion
            that are no part of the answer.
        details: Paths that say more than the usual one, where they are there, by the same names.
        several: A path that is there where the text has more parts than the usual path leads to,
            and that of all of them; or None.
        texts: Other paths of the text, in the order in which they are looked at.
        parts: Lists of parts that make up the text, looked at next.
        objects: The answer as an object, or the arguments of a call in its place, looked at next.
        thoughts: What was taken for thinking, and counts where it is one object and nothing else.
        others: Further paths of other fields, by their names.
        refusals: Lists with refusals.
        keys: Keys of which a body has at least one where it is no wrapper around the body.
        answers: The list of answers, which may be empty, or None.
        places: The objects that should have the text, the innermost first.
    """

    usual: Mapping[str, str]
    details: Mapping[str, str] = field(default_factory=dict)
    several: tuple[str, str] | None = None
    texts: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    thoughts: tuple[str, ...] = ()
    others: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    refusals: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    answers: str | None = None
    places: tuple[str, ...] = ()


class Endpoint(Protocol):
    """One endpoint of the service. Pure text and SQL: it opens and calls nothing."""

    @property
    def name(self) -> str:
        """What tasks and the ledger call it."""
        ...

    @property
    def path(self) -> str:
        """The end of its address, such as `/embeddings`."""
        ...

    @property
    def message_path(self) -> str:
        """The JSON path of the user message in a request's body."""
        ...

    @property
    def takes_lists(self) -> bool:
        """Whether a request's message may be a list of texts, one for each row of a pack."""
        ...

    @property
    def reply(self) -> ReplyPaths:
        """Where a reply has the answer's text, how it ended and what it took."""
        ...

    @property
    def cut_reasons(self) -> tuple[str, ...]:
        """The reasons to finish that say that an answer was cut at the token limit."""
        ...

    @property
    def filter_reasons(self) -> tuple[str, ...]:
        """The reasons to finish that say that an answer was withheld for what it holds."""
        ...

    @property
    def takes_images(self) -> bool:
        """Whether a message may have pictures."""
        ...

    def body(
        self,
        prompt: Prompt,
        user_message: str,
        parameters: Mapping[str, Any],
        images: Sequence[Image] = (),
    ) -> dict[str, Any]:
        """Return a request's body, without the `model`, which every body begins with.

        Args:
            prompt: What is the same in all requests.
            user_message: What this one asks; it stands in the body once, as a JSON string.
            parameters: The task's parameters, as `task.parameters` holds them.
            images: Its pictures: objects behind that of the text, in the list that the user
                message's object ends with.
        """
        ...

    def repair_sql(self, answer: str, problem: str) -> str:
        """Build what asks for a better answer, to stand behind the object of the user message.

        Args:
            answer: SQL expression of the previous answer's text.
            problem: SQL expression of the request to answer again.
        """
        ...

    def prompt_tokens(self, prompt: Prompt, model: str) -> int:
        """Count the tokens that a request takes beside the user message's own.

        Args:
            prompt: What is the same in all requests.
            model: The logical model name.
        """
        ...
