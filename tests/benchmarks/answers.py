"""The service's side of a contender's run without a service: an output file for each input file.

    python -m benchmarks.answers SHAPE REQUESTS OUTPUT [REQUESTS OUTPUT ...]

The lines have the shape of Azure's, in an order that is not the input's. It runs in a process of
its own, so that its memory is not counted as the contender's, and while no clock runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import duckdb
from benchmarks.measuring import REPOSITORY
from benchmarks.movies import MODEL, SHAPES, USUAL, Shape

_ID, _CONTENT = "THE-ID", "THE-CONTENT"


def answer(files: Iterable[tuple[Path, Path]], shape: str = "usual") -> None:
    """Write the output file of each input file, in another process."""
    paths = [str(path) for pair in files for path in pair]
    command = [sys.executable, "-m", "benchmarks.answers", shape, *paths]
    subprocess.run(command, check=True, cwd=REPOSITORY / "tests")


def answer_requests(requests: Path, output: Path, shape: Shape = USUAL) -> None:
    """Write the output file of one input file; every answer follows from its request's message."""
    before, between, after = _line_parts()
    with duckdb.connect() as database:
        database.execute("set preserve_insertion_order = false")
        database.execute(
            f"""
            copy (
                with lines as (
                    select json_extract_string(
                        line, ['$.custom_id', '$.body.messages[#-1].content']
                    ) as fields
                    from read_csv(
                        '{requests}', columns = {{line: 'varchar'}}, delim = e'\\x01', quote = '',
                        escape = '', header = false, auto_detect = false, strict_mode = false
                    )
                ),
                asked as (select fields[1] as custom_id, fields[2] as message from lines)
                select concat('{before}', to_json(custom_id)::varchar, '{between}',
                    to_json({shape.content_sql("message")})::varchar, '{after}') as line
                from asked
                order by hash(custom_id)
            ) to '{output}' (format csv, header false, quote '', escape '', delimiter e'\\x01')
            """
        )


def _line_parts() -> list[str]:
    """Return the constant texts of an output line around its custom_id and its answer."""
    body = {
        "id": "chatcmpl-x", "object": "chat.completion", "created": 1, "model": MODEL,
        "choices": [
            {
                "index": 0, "finish_reason": "stop", "logprobs": None,
                "message": {"role": "assistant", "content": _CONTENT, "refusal": None},
                "content_filter_results": {
                    kind: {"filtered": False, "severity": "safe"}
                    for kind in ("hate", "self_harm", "sexual", "violence")
                },
            }
        ],
        "usage": {
            "prompt_tokens": 140, "completion_tokens": 60, "total_tokens": 200,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }  # fmt: skip
    line = {"custom_id": _ID, "response": {"body": body, "request_id": "r", "status_code": 200}}
    text = json.dumps({**line, "error": None}).replace("'", "''")
    before, rest = text.split(f'"{_ID}"')
    return [before, *rest.split(f'"{_CONTENT}"')]


if __name__ == "__main__":
    named = [Path(name) for name in sys.argv[2:]]
    for asked, answered in zip(named[::2], named[1::2], strict=True):
        answer_requests(asked, answered, SHAPES[sys.argv[1]])
