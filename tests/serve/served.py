"""A server as tests ask it: in this process, on a port of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from batchsr.queue.opening import QueueAddress
from batchsr.serve import app, server
from batchsr.serve.guard import AccessRules
from batchsr.serve.source import Source


@dataclasses.dataclass
class Answer:
    """What the server said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclasses.dataclass
class Served:
    """A server that runs."""

    port: int
    made: app.Application

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, *, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        """Ask as no browser would: any header, given with _ for -."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())


@contextlib.contextmanager
def serving(
    database: Path | QueueAddress,
    rules: AccessRules | None = None,
    *,
    read_only: bool = False,
    roots: Sequence[Path] = (),
) -> Iterator[Served]:
    """Serve a queue while the block lasts."""
    made = app.make(
        Source(database if isinstance(database, QueueAddress) else QueueAddress(database)),
        rules or AccessRules(True),
        read_only=read_only,
        roots=roots,
    )
    socket = server.listening("127.0.0.1", 0)
    ready = threading.Event()
    running = server.Server(made, ready.set)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [socket]})
    thread.start()
    try:
        assert ready.wait(60)
        yield Served(socket.getsockname()[1], made)
    finally:
        running.should_exit = True
        thread.join(60)
        socket.close()
        assert not thread.is_alive()
