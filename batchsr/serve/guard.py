"""Who may ask, what a browser may do with the answer, and how much of anything a client gets.

A page elsewhere must not reach the queue through the browser of somebody who may: it could have its own name lead to
this address (DNS rebinding), so `Host` is checked; it could send forms, so `Origin` is.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
import ipaddress
import re
import socket
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_ADDRESS_BYTES: Final = 16 * 1024
MOST_BODY_BYTES: Final = 256 * 1024
BODY_S: Final = 20.0
"""Within which a request's body must be there."""
_HOST: Final = re.compile(r"(\[[0-9A-Za-z:.%]+\]|[^\s@/?#\\\[\]:]+)(:[0-9]{0,5})?")
"""A name or address and a port, without what else may stand in a URL beside them (RFC 9110, 7.2)."""
TOKEN_COOKIE: Final = "batchsr_token"
OPEN: Final = ("/login", "/healthz")
"""Paths that ask for no token."""
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


@dataclasses.dataclass(frozen=True, slots=True)
class AccessRules:
    """Who may ask the server, by which names, and with what."""

    is_loopback: bool
    names: tuple[str, ...] = ()
    """Names under which the server may be asked, beside its own."""
    prefix: str = ""
    """Path under which a proxy shows it, like "/batchsr"; it may pass it on or take it away."""
    token: str | None = None
    """Without which nothing is answered; None where none is needed."""


class Guard:
    """Stands before the application."""

    def __init__(self, app: ASGIApp, rules: AccessRules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with limits."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        scope = dict(scope)
        prefix = self._rules.prefix
        if prefix and (scope["path"] == prefix or scope["path"].startswith(prefix + "/")):
            scope["path"] = scope["path"].removeprefix(prefix) or "/"
        scope["root_path"] = ""
        headers = Headers(scope=scope)
        limited = _Limited(receive, send, headers)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            status, said = refusal
            await PlainTextResponse(said + "\n", status, {"Connection": "close"})(scope, receive, limited.send)
            return
        try:
            await self._app(scope, limited.receive, limited.send)
        except ClientDisconnect:
            return  # before its body was whole: nobody waits for an answer

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        """Return why this request is not answered: a status and a sentence."""
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self.knows(host):
            return 421, "this server is not known by that name (batchsr serve --name NAME makes it known)"
        origin = headers.get("origin")
        changes = scope["method"] not in ("GET", "HEAD")
        if (origin is not None or changes) and not _same(origin, host):
            return 403, "this request comes from a page elsewhere"
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return 403, "this request comes from a page elsewhere"
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "that is not done here"
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MOST_ADDRESS_BYTES:
            return 414, "the address is too long"
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()) or len(length) > 12 or int(length) > MOST_BODY_BYTES:
            return 413, f"{MOST_BODY_BYTES:,} bytes are the most that a request may carry"
        if self._rules.token is not None and scope["path"] not in OPEN and not self._has_token(headers):
            return 401, "open the link that `batchsr serve` showed when it was started for the first time"
        return None

    def knows(self, host: str) -> bool:
        """Return whether the server may be asked by this name, whatever the port.

        Beyond loopback any address in figures may, since no page elsewhere can have it for a name of its own.
        """
        if not _HOST.fullmatch(host):
            return False
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name == "localhost" or name in self._rules.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            own = socket.gethostname().lower()
            return not self._rules.is_loopback and name in (own, own.partition(".")[0], own + ".local")
        return address.is_loopback or not self._rules.is_loopback

    def _has_token(self, headers: Headers) -> bool:
        """Return whether the cookie has it; programs give it as `Authorization: Bearer`."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return is_token(given.strip(), self._rules.token or "")
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(TOKEN_COOKIE)
        except CookieError:
            return False
        return cookie is not None and is_token(cookie.value, self._rules.token or "")


def is_token(given: str, token: str) -> bool:
    """Return whether they are the same, in a time that tells nothing."""
    return bool(token) and hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())


def _same(origin: str | None, host: str) -> bool:
    """Return whether an origin is the server itself, as the browser named it."""
    if origin is None:
        return False
    try:
        there, here = urlsplit(origin), urlsplit(f"//{host}")
        usual = {"http": 80, "https": 443}.get(there.scheme)
        return usual is not None and (there.hostname, there.port or usual) == (here.hostname, here.port or usual)
    except ValueError:
        return False


class _Limited:
    """One request's receive and send, with limits on bytes and seconds, and the headers that every answer bears."""

    def __init__(self, receive: Receive, send: Send, headers: Headers) -> None:
        self._receive = receive
        self._send = send
        self._has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        self._until = asyncio.get_running_loop().time() + BODY_S
        self._bytes = 0
        self._has_begun = self._is_over = False

    async def receive(self) -> Message:
        """Return the next part of the body, or the news that the client left."""
        if not self._has_body:
            return await self._receive()
        try:
            # The whole body's deadline, not each part's: who sends a byte now and then would never end.
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            return self._leave(408, "the request did not arrive in time")
        self._bytes += len(message.get("body", b""))
        if self._bytes > MOST_BODY_BYTES:
            return self._leave(413, f"{MOST_BODY_BYTES:,} bytes are the most that a request may carry")
        self._has_body = bool(message.get("more_body"))
        return message

    def _leave(self, status: int, said: str) -> Message:
        """Refuse the rest of the body; where the answer has begun already, end it as if the client had left."""
        self._is_over = True
        if self._has_begun:
            return {"type": "http.disconnect"}
        raise HTTPException(status, said)

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self._has_begun = True
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
            if self._is_over:
                headers["Connection"] = "close"
        await self._send(message)
