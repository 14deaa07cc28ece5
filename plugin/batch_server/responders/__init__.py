"""Who answers the emulator's requests, by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from batch_server.extras import EMBEDDINGS, EMULATOR, LOCAL, WEIGHTS_PACKAGE, Extra
from batch_server.problems import SetupError
from batch_server.responders.base import ChatReply, ChatRequest, Responder
from batch_server.responders.relay_options import RelayOptions
from batch_server.responders.upstream_options import UpstreamOptions

__all__ = [
    "ChatReply",
    "ChatRequest",
    "RelayOptions",
    "Responder",
    "ResponderSpec",
    "UpstreamOptions",
    "create_responder",
]


@dataclass(frozen=True)
class ResponderSpec:
    """Which responder answers, and with what.

    Attributes:
        name: `llama`, `minilm`, `upstream`, `scripted` or `relay`.
        gguf: `llama`: the weights; None for the packaged ones.
        script: `scripted`: a JSON file of rules, or None.
        slots: `llama`: requests that the model works on at once.
        threads: `llama`: threads of the CPU.
        upstream: `upstream`: the server that is asked.
        relay: `relay`: the service that answers single requests, and is asked with credentials
            that are handed over.
    """

    name: str = "llama"
    gguf: Path | None = None
    script: Path | None = None
    slots: int = 8
    threads: int = 2
    upstream: UpstreamOptions | None = None
    relay: RelayOptions | None = None

    def check_installed(self) -> None:
        """Refuse a responder whose extra is not installed; loads nothing of it.

        Raises:
            SetupError: It is not installed.
        """
        self.extra.require(f"the responder {self.name}", besides=self._own_weights)

    @property
    def extra(self) -> Extra:
        """The extra that brings the emulator, and what this responder needs beside it."""
        return {"llama": LOCAL, "minilm": EMBEDDINGS}.get(self.name, EMULATOR)

    @property
    def _own_weights(self) -> tuple[str, ...]:
        return (WEIGHTS_PACKAGE,) if self.gguf else ()

    @property
    def loads(self) -> str | None:
        """What is loaded before it can answer, in words; None where that takes no time."""
        if self.name != "llama":
            return None
        return f"the language model {self.gguf}" if self.gguf else "the packaged language model"

    def arguments(self) -> list[str]:
        """Return the spec as arguments of the emulator's command line."""
        return list(self._arguments())

    def _arguments(self) -> Iterator[str]:
        yield f"--responder={self.name}"
        if self.upstream:
            yield from self.upstream.arguments()
            return
        if self.relay:
            yield from self.relay.arguments()
            return
        if self.gguf:
            yield f"--gguf={self.gguf}"
        if self.script:
            yield f"--script={self.script}"
        yield f"--slots={self.slots}"
        yield f"--threads={self.threads}"


def create_responder(spec: ResponderSpec) -> Responder:
    """Return the responder that `spec` describes; a model is loaded only now.

    Raises:
        SetupError: The name is unknown.
        BatchServerError: The responder lacks what it needs on this machine.
    """
    if spec.name == "scripted":
        from batch_server.responders.scripted import ScriptedResponder

        return ScriptedResponder.from_file(spec.script) if spec.script else ScriptedResponder()
    if spec.name == "llama":
        from batch_server.responders.by_endpoint import ByEndpoint
        from batch_server.responders.llama import LlamaResponder
        from batch_server.responders.minilm import MiniLmResponder

        language = LlamaResponder(gguf=spec.gguf, slots=spec.slots, threads=spec.threads)
        return ByEndpoint(language, MiniLmResponder(spec.threads))
    if spec.name == "minilm":
        from batch_server.responders.minilm import MiniLmResponder

        return MiniLmResponder(spec.threads)
    if spec.name == "upstream":
        from batch_server.responders.upstream import UpstreamResponder

        if spec.upstream is None:
            raise SetupError(
                "the responder upstream needs the address of a model server",
                fix="give its base_url, such as http://localhost:11434/v1",
            )
        return UpstreamResponder(spec.upstream)
    if spec.name == "relay" and spec.relay is not None:
        from batch_server.responders.relay import RelayResponder

        return RelayResponder(spec.relay)
    raise SetupError(
        f"the responder '{spec.name}' is unknown",
        fix="use llama, minilm, upstream or scripted",
    )
