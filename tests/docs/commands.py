"""`dbt` and `dbt-enrich` for a shell, run in forks that have dbt imported and warm."""

from __future__ import annotations

import json
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.forked_dbt import fork_server, run_forked

_PROGRAMS = ("dbt", "dbt-enrich")
_CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({address!r})
    asked = [{program!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]
    connection.sendall(json.dumps(asked).encode())
    connection.shutdown(socket.SHUT_WR)
    reply = connection.makefile("rb")
    code = int(reply.readline())
    sys.stdout.buffer.write(reply.read())
sys.exit(code)
"""


@dataclass
class Programs:
    """The commands.

    Attributes:
        directory: Where they are, for `PATH`.
        prepare: Called before each of them.
    """

    directory: Path
    prepare: Callable[[], None] = lambda: None


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, _Server)
        self.server.programs.prepare()
        program, arguments, directory, environment = json.loads(self.rfile.read())
        code, text = run_forked(
            program,
            *arguments,
            directory=Path(directory),
            environment=environment,
            inherits=False,
        )
        self.wfile.write(f"{code}\n{text}".encode())


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, programs: Programs, address: str) -> None:
        super().__init__(address, _Handler)
        self.programs = programs


@contextmanager
def warm_commands(directory: Path) -> Iterator[Programs]:
    """Offer the commands while the block runs.

    Args:
        directory: Where their programs are made; its path must be short, as a socket's is.
    """
    fork_server()
    address = str(directory / "socket")
    for program in _PROGRAMS:
        path = directory / program
        client = _CLIENT.format(python=sys.executable, address=address, program=program)
        path.write_text(client, encoding="utf-8")
        path.chmod(0o755)
    programs = Programs(directory)
    with _Server(programs, address) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield programs
        finally:
            server.shutdown()
            thread.join()
