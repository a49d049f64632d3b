"""Forms that only a page of ours can have made: what each bears belongs to a cookie that no other page can read."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from batchsr.errors import ConfigError

COOKIE: Final = "batchsr_form"
_SEED: Final = re.compile(r"[A-Za-z0-9_-]{43}")


class Forged(ConfigError):
    """A form that no page of this server made, or one from before it was started anew."""


class Forms:
    """Makes and checks what forms bear. The key lives as long as the server."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._key = secrets.token_bytes(32)

    def seed(self, request: Request) -> str:
        """Return what this browser is known by, or something new."""
        given = request.cookies.get(COOKIE, "")
        return given if _SEED.fullmatch(given) else secrets.token_urlsafe(32)

    def token(self, seed: str) -> str:
        """Return what a form of this browser bears."""
        return hmac.new(self._key, seed.encode(), hashlib.sha256).hexdigest()

    def remember(self, response: Response, seed: str) -> None:
        """Have the browser keep it, for as long as it is open."""
        response.set_cookie(COOKIE, seed, path=self._path, httponly=True, samesite="strict")

    def check(self, request: Request, token: str) -> None:
        """Raise Forged unless a form bears what belongs to its browser."""
        seed = request.cookies.get(COOKIE, "")
        if not _SEED.fullmatch(seed) or not hmac.compare_digest(self.token(seed).encode(), token.encode()):
            raise Forged(
                "this page is from before the server was started, or from elsewhere",
                remedy="go back, load it again, and ask once more",
            )
