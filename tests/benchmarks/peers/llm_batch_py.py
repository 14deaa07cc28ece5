"""llm-batch-py: a run that sends and, when the batch has ended, a run that collects.

Its count of tokens is stubbed, in its favour, as the tokenizer would be fetched from the network.
"""

from __future__ import annotations

import time
from typing import Any

import polars as pl
from benchmarks.movies import CATEGORIES, MODEL, PARAMETERS, SUMMARY, SYSTEM
from benchmarks.peers.driving import Place, measured
from llm_batch_py import (
    BatchConfig,
    OpenAIConfig,
    ResultCacheStoreConfig,
    Runner,
    StructuredOutputJob,
    structured_template,
)
from llm_batch_py.providers import openai as adapter
from pydantic import BaseModel, ConfigDict, Field

_LOOK_SECONDS = 0.2


class Answer(BaseModel):
    """What is asked of each row."""

    model_config = ConfigDict(extra="forbid")

    categories: list[str] = Field(description=CATEGORIES)
    summary: str = Field(description=SUMMARY)


def main() -> None:
    """Enrich the movies."""
    place = Place.from_command_line()
    adapter.estimate_openai_batch_tokens = lambda _, bodies: [0 for _ in bodies]
    job: Any = StructuredOutputJob(
        name="movies",
        key_cols=["movie_id"],
        input_df=pl.from_arrow(place.rows()),
        prompt_builder=structured_template(system=SYSTEM, messages="{{ row.overview }}"),
        output_model=Answer,
        provider=OpenAIConfig(
            MODEL, api_key=place.api_key, base_url=place.base_url, timeout=600.0, **PARAMETERS
        ),
        result_cache=ResultCacheStoreConfig(str(place.directory / "cache")),
        batch=BatchConfig(),
    )
    client = adapter.OpenAIBatchAdapter(job.provider).client
    with measured() as clock:
        Runner().run(job)
        # Its users run it again by cron until the batches have ended.
        with clock.waiting():
            while any(not batch.output_file_id for batch in client.batches.list()):
                time.sleep(_LOOK_SECONDS)
        answers = Runner().run(job)
        place.publish(answers.select("movie_id", "categories", "summary").to_arrow(), clock)


if __name__ == "__main__":
    main()
