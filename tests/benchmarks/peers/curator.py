"""bespokelabs-curator: a dataset in, a dataset out, its files in a cache beside it.

Its price of each answer is stubbed, in its favour, as the tokenizer would be fetched from the
network; telemetry, viewer and its live display are switched off.
"""

from __future__ import annotations

import os
from typing import Any

os.environ.update(
    TELEMETRY_ENABLED="false",
    CURATOR_DISABLE_RICH_DISPLAY="1",
    LITELLM_LOCAL_MODEL_COST_MAP="True",
    HF_HUB_OFFLINE="1",
)

from benchmarks.movies import CATEGORIES, MODEL, PARAMETERS, SUMMARY, SYSTEM
from benchmarks.peers.driving import Place, measured
from bespokelabs import curator
from bespokelabs.curator import cost
from datasets import Dataset
from pydantic import BaseModel, ConfigDict, Field

_LOOK_SECONDS = 1


class Answer(BaseModel):
    """What is asked of each row."""

    model_config = ConfigDict(extra="forbid")

    categories: list[str] = Field(description=CATEGORIES)
    summary: str = Field(description=SUMMARY)


class Movies(curator.LLM):
    """The movies task."""

    response_format = Answer

    def prompt(self, input: dict[str, Any]) -> str:  # noqa: A002
        """Return a row's user message."""
        return str(input["overview"])

    def parse(self, input: dict[str, Any], response: Answer) -> dict[str, Any]:  # noqa: A002
        """Return a row of the result."""
        return {"movie_id": input["movie_id"], **response.model_dump()}


def main() -> None:
    """Enrich the movies."""
    place = Place.from_command_line()
    os.environ["OPENAI_API_KEY"] = place.api_key
    cost._LitellmCostProcessor.cost = lambda *_, **__: 0.0
    rows = Dataset(place.rows())
    movies = Movies(
        model_name=MODEL,
        batch=True,
        backend="openai",
        system_prompt=SYSTEM,
        generation_params=PARAMETERS,
        backend_params={"base_url": place.base_url, "batch_check_interval": _LOOK_SECONDS},
    )
    with measured() as clock:
        answers = movies(rows, working_dir=str(place.directory / "cache")).dataset
        table = answers.select_columns(["movie_id", "categories", "summary"])
        place.publish(table.with_format("arrow")[:], clock)


if __name__ == "__main__":
    main()
