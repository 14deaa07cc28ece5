"""steadybatch: one run that sends, waits, checks every answer against its schema and returns."""

from __future__ import annotations

import pyarrow as pa
import steadybatch.providers.openai_batch as provider
from benchmarks.movies import MODEL, PARAMETERS, SCHEMA, SYSTEM
from benchmarks.peers.driving import Place, measured
from openai import OpenAI
from steadybatch.models import Request
from steadybatch.runner import Runner

_LOOK_SECONDS = 0.2


def main() -> None:
    """Enrich the movies."""
    place = Place.from_command_line()
    rows = place.rows().to_pylist()
    requests = [
        Request(
            key=str(row["movie_id"]),
            messages=[{"role": "user", "content": row["overview"]}],
            system=SYSTEM,
            **PARAMETERS,
        )
        for row in rows
    ]
    client = OpenAI(base_url=place.base_url, api_key=place.api_key, timeout=600.0)
    with measured() as clock:
        runner = Runner(
            provider.OpenAIBatch(client),
            MODEL,
            response_schema=SCHEMA,
            checkpoint=place.directory / "steadybatch.sqlite",
            poll_every=_LOOK_SECONDS,
        )
        results = runner.run(requests).results
        answers = [{"movie_id": int(result.key), **result.data} for result in results]
        place.publish(pa.Table.from_pylist(answers), clock)


if __name__ == "__main__":
    main()
