"""The shared emulator process: `python -m batch_server`, started by `join_emulator`."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import click
import uvicorn

from batch_server.jobs import Jobs
from batch_server.problems import BatchServerError
from batch_server.process import KEY_VARIABLE, has_users, write_address
from batch_server.relay_worker import DRAIN_SECONDS
from batch_server.responders import ResponderSpec, create_responder
from batch_server.responders.relay_cli import relay_command_options, relay_from
from batch_server.responders.upstream_cli import upstream_command_options, upstream_from
from batch_server.server import listen, opened_server
from batch_server.storage import Storage

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
@upstream_command_options
@relay_command_options
def main(
    directory: Path,
    responder: str,
    gguf: Path | None,
    script: Path | None,
    slots: int,
    threads: int,
    **other: Any,
) -> None:
    """Serve until no process uses the directory any more."""
    api_key = os.environ.pop(KEY_VARIABLE)
    try:
        of_relay = {name: other.pop(name) for name in list(other) if name.startswith("relay_")}
        relay = relay_from(of_relay)
        upstream = upstream_from(responder, other)
        spec = ResponderSpec(responder, gguf, script, slots, threads, upstream, relay)
        jobs = _resource(directory, spec)
    except BatchServerError as error:
        # The process that started this one shows its last words.
        raise click.ClickException(str(error)) from error
    listener = listen("127.0.0.1", 0)
    with opened_server(jobs, api_key) as server:
        write_address(directory, f"http://127.0.0.1:{listener.getsockname()[1]}", api_key, spec)
        threading.Thread(target=_watch, args=(directory, server), daemon=True).start()
        server.run(sockets=[listener])


def _resource(directory: Path, spec: ResponderSpec) -> Jobs:
    if spec.relay is None:
        return Jobs(Storage(directory), create_responder(spec))
    # A relay that ends stays for replies that are on their way.
    storage = Storage(directory, durable=True, patience=2 * DRAIN_SECONDS)
    return Jobs(storage, create_responder(spec), relays=True)


def _watch(directory: Path, server: uvicorn.Server) -> None:
    """End the server a while after the last user of its directory has gone."""
    used_at = time.monotonic()
    while time.monotonic() - used_at < _PATIENCE_SECONDS:
        if has_users(directory):
            used_at = time.monotonic()
        time.sleep(_LOOK_SECONDS)
    server.should_exit = True


if __name__ == "__main__":
    main()
