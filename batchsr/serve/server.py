"""The listening socket, and clients that are too slow."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from batchsr.display import printable
from batchsr.errors import ConfigError, ResourceError
from batchsr.serve.app import Application

MOST_CONNECTIONS: Final = 250
HEAD_S: Final = 10.0
"""Within which the head of a request must be there."""
SEND_S: Final = 60.0
"""Within which a client must take something of what waits to be sent."""
_END_S: Final = 5


def address_of(bind: str) -> tuple[str, int]:
    """Return host and port of "127.0.0.1:8484", "[::1]:8484", ":8484" (all addresses). Raises ConfigError."""
    host, colon, port = bind.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65_535:
        raise ConfigError(f"--bind {printable(bind)}: not an address", remedy="write it like 127.0.0.1:8484")
    return host or "0.0.0.0", int(port)


def is_loopback(host: str) -> bool:
    """Return whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def reached_at(host: str) -> str:
    """Return what stands for an address in a link: this machine's name where it listens on all of them."""
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises ConfigError for an address that is not here, ResourceError if taken."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except socket.gaierror as e:
        raise ConfigError(f"--bind {printable(host)}: no such address", remedy="127.0.0.1:8484 is this machine") from e
    except PermissionError as e:
        raise ConfigError(f"port {port} is not for everybody", remedy="take one above 1023") from e
    except OSError as e:
        raise ResourceError(
            f"{printable(host)}:{port} cannot be listened on: {e.strerror or e}",
            remedy="another server may be there already; take another port with --bind",
        ) from e


class Server(uvicorn.Server):
    """Serves an application until a signal asks it to end; streams of events end first."""

    def __init__(self, application: Application, ready: Callable[[], None] = lambda: None) -> None:
        config = uvicorn.Config(
            application.asgi,
            http=_Patient,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=_END_S,
            lifespan="on",
        )
        super().__init__(config)
        self._application = application
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does, and say when it listens."""
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, which would go on for ever, then as uvicorn does."""
        await self._application.changes.stop()
        await super().shutdown(sockets)


class _Patient(H11Protocol):
    """HTTP, but for clients that take longer than `HEAD_S` to say what they want, or `SEND_S` to take an answer."""

    _deadline: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete:
            self._wait()
        else:
            self._wait_no_more()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._taking = self.loop.call_later(SEND_S, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_taking()
        super().resume_writing()

    def _stop_taking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        self._stop_taking()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_S, self.transport.abort)

    def _wait_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
