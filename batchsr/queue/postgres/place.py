"""Which database a fleet keeps its queue in, told to people without a password.

A URL is taken apart here as libpq does it, which splits at the first `@`: where a password was written with signs that
have a meaning in a URL, libpq would take a part of it for a host or a port, and quote it in its messages. Such a URL is
refused before libpq sees it, and no message of ours quotes what was given.
"""

from __future__ import annotations

import dataclasses
import re
import urllib.parse
from pathlib import Path
from typing import Final, NamedTuple

from batchsr.errors import UsageError

_SCHEMES: Final = ("postgresql", "postgres")
_SECRETS: Final = ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")
"""Parameters of libpq that hold what nobody else shall read."""
_BAD_CODE: Final = re.compile("%(?![0-9A-Fa-f]{2})|%00")
_HOST: Final = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(:[0-9]*)?")


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
        found = secrets_of(self.url)
        spelled = {form for one in found for form in (one, urllib.parse.unquote(one), urllib.parse.quote(one, safe=""))}
        for one in sorted(spelled - {""}, key=len, reverse=True):
            text = text.replace(one, "***")
        return text


class _Parts(NamedTuple):
    """A URL as libpq reads it; nothing is decoded."""

    scheme: str
    user: str
    password: str
    hosts: str
    database: str
    query: str


def checked(url: str) -> str:
    """Return the URL of a PostgreSQL database. Raises UsageError for anything else, without quoting a password."""
    url = url.strip()
    if not is_url(url):
        raise UsageError(
            "a fleet is named by the URL of a PostgreSQL database",
            remedy="like postgresql://batchsr@db.example.org/batchsr",
        )
    if (what := _wrong(url)) is not None:
        raise UsageError(
            f"the URL of the fleet's database {what}",
            remedy="write what has a meaning in a URL as a code, @ as %40, / as %2F, % as %25; or leave the password "
            "to a PGPASSFILE (~/.pgpass)",
        )
    return url


def _wrong(url: str) -> str | None:
    """Say why libpq would not read a URL as it was meant; None if it would."""
    parts = _split(url)
    if any(character.isspace() or not character.isprintable() for character in url):
        return "has a space or a control character in it"
    if "@" in parts.hosts or ("@" in parts.database + parts.query and not parts.user):
        return "has an @ more than it may, as where a password holds one"
    if _BAD_CODE.search(url):
        return "has a % that begins no code, as where a password holds one"
    if "#" in url:
        return "has a # in it"
    for host in parts.hosts.split(","):
        if not _HOST.fullmatch(host):
            return "has a host or a port that is none"
    if any("=" not in pair for pair in parts.query.split("&") if pair):
        return "has a parameter without a value"
    return None


def is_url(text: str) -> bool:
    """Return whether this names a database server rather than a file."""
    return text.partition("://")[0] in _SCHEMES and "://" in text


def _split(url: str) -> _Parts:
    scheme, _, rest = url.partition("://")
    userinfo = ""
    ends = re.search("[@/]", rest)
    if ends is not None and ends[0] == "@":
        userinfo, rest = rest[: ends.start()], rest[ends.end() :]
    user, _, password = userinfo.partition(":")
    rest, _, query = rest.partition("?")
    hosts, _, database = rest.partition("/")
    return _Parts(scheme, user, password, hosts, database, query)


def secrets_of(url: str) -> tuple[str, ...]:
    """Return what of a URL nobody else shall read, as it stands there."""
    parts = _split(url)
    asked = [value for name, value in _pairs(parts.query) if urllib.parse.unquote(name) in _SECRETS]
    return tuple(one for one in (parts.password, *asked) if one)


def without_password(url: str) -> str:
    """Return a URL for people."""
    parts = _split(url)
    kept = [f"{name}={value}" for name, value in _pairs(parts.query) if urllib.parse.unquote(name) not in _SECRETS]
    user = f"{parts.user}@" if parts.user else ""
    database = f"/{parts.database}" if parts.database or kept else ""
    return f"{parts.scheme}://{user}{parts.hosts}{database}" + (f"?{'&'.join(kept)}" if kept else "")


def _pairs(query: str) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (pair.partition("=") for pair in query.split("&") if pair)]
