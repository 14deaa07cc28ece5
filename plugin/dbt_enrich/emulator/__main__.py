"""The shared emulator process: `python -m dbt_enrich.emulator`, started by `join_emulator`."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import click

from dbt_enrich.emulator.jobs import Jobs
from dbt_enrich.emulator.process import KEY_VARIABLE, has_users, write_address
from dbt_enrich.emulator.responders import ResponderSpec, create_responder
from dbt_enrich.emulator.server import listen, make_server
from dbt_enrich.emulator.storage import Storage

_LOOK_SECONDS = 0.3
# A model that ends lets go just before the next one joins.
_PATIENCE_SECONDS = 3.0


@click.command()
@click.option("--directory", type=click.Path(path_type=Path), required=True)
@click.option("--responder", default="llama")
@click.option("--gguf", type=click.Path(path_type=Path))
@click.option("--script", type=click.Path(path_type=Path))
@click.option("--slots", type=int, default=8)
@click.option("--threads", type=int, default=2)
def main(
    directory: Path,
    responder: str,
    gguf: Path | None,
    script: Path | None,
    slots: int,
    threads: int,
) -> None:
    """Serve until nobody uses the directory any more."""
    spec = ResponderSpec(responder, gguf, script, slots, threads)
    api_key = os.environ.pop(KEY_VARIABLE)
    jobs = Jobs(Storage(directory), create_responder(spec))
    listener = listen("127.0.0.1", 0)
    server = make_server(jobs, api_key)

    def watch() -> None:
        used_at = time.monotonic()
        while time.monotonic() - used_at < _PATIENCE_SECONDS:
            if has_users(directory):
                used_at = time.monotonic()
            time.sleep(_LOOK_SECONDS)
        server.should_exit = True

    write_address(directory, f"http://127.0.0.1:{listener.getsockname()[1]}", api_key, spec)
    threading.Thread(target=watch, daemon=True).start()
    server.run(sockets=[listener])
    jobs.close()
    jobs.storage.close()


if __name__ == "__main__":
    main()
