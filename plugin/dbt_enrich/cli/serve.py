"""`dbt-enrich serve`: the Batch API on this machine, to try things against."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import click
from batch_server.loopback import is_loopback
from batch_server.responders.upstream_cli import upstream_command_options, upstream_from

from dbt_enrich.errors import translated_errors


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Loopback address.")
@click.option("--port", default=8787, show_default=True, help="Port; 0 takes a free one.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".enrichment/serve"),
    show_default=True,
    help="Where files and batches are kept; a restart goes on with them.",
)
@click.option(
    "--api-key",
    envvar="DBT_ENRICH_SERVE_KEY",
    help="The key that callers must send; without one, a random key is printed.",
)
@click.option(
    "--responder",
    type=click.Choice(["llama", "minilm", "upstream", "scripted"]),
    default="llama",
    show_default=True,
    help="Who answers: models on this machine (llama, a language model, with an embedding model "
    "beside it; minilm, that one alone), a model server of your own (Ollama, vLLM, …), or scripted "
    "answers for tests.",
)
@click.option(
    "--gguf",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Weights for llama in place of the packaged ones.",
)
@click.option(
    "--script",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="JSON list of rules for scripted.",
)
@click.option("--slots", default=8, show_default=True, help="Requests answered at once by llama.")
@click.option("--threads", default=2, show_default=True, help="Threads of the CPU for llama.")
@click.option(
    "--blobs",
    is_flag=True,
    help="Let batches read and write blobs, with the credentials of AZURE_STORAGE_ACCOUNT_NAME, "
    "AZURE_STORAGE_ACCOUNT_KEY and, for Azurite, AZURE_STORAGE_ENDPOINT.",
)
@upstream_command_options
@translated_errors()
def serve(
    host: str,
    port: int,
    directory: Path,
    api_key: str | None,
    responder: str,
    gguf: Path | None,
    script: Path | None,
    slots: int,
    threads: int,
    blobs: bool,
    **upstream: Any,
) -> None:
    """Serve the Files, Batches and chat completions API on this machine.

    In the path styles of Azure OpenAI (/openai?api-version=… and /openai/v1) and OpenAI (/v1).
    """
    if not is_loopback(host):
        raise click.BadParameter(
            f"{host} is not a loopback address; the emulator is for this machine alone",
            param_hint="--host",
        )
    from batch_server.responders import ResponderSpec, create_responder

    spec = ResponderSpec(
        responder, gguf, script, slots, threads, upstream_from(responder, upstream)
    )
    spec.check_installed()
    if spec.loads:
        click.echo(f"loading {spec.loads}, which takes some seconds", err=True)
    from batch_server.blobs import Blobs
    from batch_server.jobs import Jobs
    from batch_server.server import listen, opened_server
    from batch_server.storage import Storage

    account = Blobs() if blobs else None
    jobs = Jobs(Storage(directory), create_responder(spec), blobs=account)
    try:
        listener = listen(host, port)
    except OSError as error:
        raise click.ClickException(
            f"port {port} of {host} cannot be listened on ({error.strerror}); choose another --port"
        ) from error
    address = f"http://{host}:{listener.getsockname()[1]}"
    key = api_key or secrets.token_urlsafe(24)
    click.echo(f"Azure OpenAI, dated:  {address}  with api-version")
    click.echo(f"Azure OpenAI, v1:     {address}/openai/v1")
    click.echo(f"OpenAI:               {address}/v1")
    if not api_key:
        click.echo(f"API key:              {key}")
    click.echo("Ctrl-C ends it; batches go on when it is started again.")
    with opened_server(jobs, key) as server:
        server.run(sockets=[listener])
