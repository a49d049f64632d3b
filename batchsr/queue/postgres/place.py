"""Which database a fleet keeps its queue in, told to people without a password."""

from __future__ import annotations

import dataclasses
import urllib.parse
from pathlib import Path

from batchsr.errors import UsageError

_SCHEMES = ("postgresql", "postgres")


@dataclasses.dataclass(frozen=True, slots=True)
class FleetPlace:
    """A database, the schema in it, and where this host keeps what is its own."""

    url: str = dataclasses.field(repr=False)
    """As psycopg takes it; may hold a password."""
    folder: Path
    """Lock files and scratch of this host, on a local disk; each fleet has a folder of its own in it."""
    schema: str = "batchsr"

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return without_password(self.url)

    def cleaned(self, text: str) -> str:
        """Return a message of the library without the password, whatever it quotes."""
        secret = password_of(self.url)
        for one in {secret, urllib.parse.quote(secret, safe=""), urllib.parse.unquote(secret)} - {""}:
            text = text.replace(one, "***")
        return text


def checked(url: str) -> str:
    """Return the URL of a PostgreSQL database. Raises UsageError for anything else, without quoting a password."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:  # it may quote the password
        parts = urllib.parse.SplitResult("", "", "", "", "")
    if parts.scheme not in _SCHEMES:
        raise UsageError(
            "a fleet is named by the URL of a PostgreSQL database",
            remedy="like postgresql://batchsr@db.example.org/batchsr",
        )
    return url


def is_url(text: str) -> bool:
    """Return whether this names a database server rather than a file."""
    return text.partition("://")[0] in _SCHEMES and "://" in text


def password_of(url: str) -> str:
    """Return the password that a URL holds, as it stands there; "" if none."""
    parts = urllib.parse.urlsplit(url)
    asked = urllib.parse.parse_qs(parts.query).get("password", [""])[0]
    userinfo = parts.netloc.rpartition("@")[0]
    return userinfo.partition(":")[2] or asked


def without_password(url: str) -> str:
    """Return a URL for people."""
    parts = urllib.parse.urlsplit(url)
    userinfo, at, host = parts.netloc.rpartition("@")
    kept = [(name, value) for name, value in urllib.parse.parse_qsl(parts.query) if name != "password"]
    query = urllib.parse.urlencode(kept, safe="/")
    return urllib.parse.urlunsplit(parts._replace(netloc=userinfo.partition(":")[0] + at + host, query=query))
