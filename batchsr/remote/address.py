"""URLs of objects: what they say, what may not be asked for, and how their keys become names on a disk.

A key is what stands behind the bucket, letter by letter; only in an https URL are percent signs escapes. A URL is kept
in the queue and in sidecars as it was given, so one that carries a password or a signature is refused, and the message
does not repeat it. Nothing here needs a library or a network.
"""

from __future__ import annotations

import dataclasses
import re
import urllib.parse
from pathlib import Path
from typing import Final, Self

from batchsr.display import shown
from batchsr.errors import UsageError
from batchsr.storage import NAME_BYTES, fitted_name

LISTED: Final = ("s3", "gs", "az")
"""Schemes of stores that list what they hold, and that outputs can be written to."""
SCHEMES: Final = (*LISTED, "https")
KEY_BYTES: Final = 1024
"""The longest key of every store."""
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
_SECRETS: Final = re.compile(
    r"[?&](x-(amz|goog)-(signature|credential|security-token)|sig|signature|awsaccesskeyid|googleaccessid|"
    r"(access_)?token|password|key)=",
    re.IGNORECASE,
)
_LOOPBACK: Final = ("127.0.0.1", "localhost")
_NOWHERE: Final = Path("/proc/0")
"""A folder that is not there, and that nobody can make."""


def is_url(text: str) -> bool:
    """Return whether a text is a URL, of whatever scheme, and so no path: `s3://bucket/key`."""
    return _URL.match(text) is not None


def path_of(text: str) -> Path:
    """Return the local path that a source or an output of a job is; of a URL one that is never there."""
    return _NOWHERE / text.rpartition("/")[2] if is_url(text) else Path(text)


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """An object, or what is below a prefix: `key` is "" for a whole bucket, and ends with / for a folder."""

    scheme: str
    bucket: str
    """Bucket, container, or host and port."""
    key: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what a URL says. Raises UsageError, without what is secret in it, for one that cannot be taken."""
        scheme, _, rest = text.partition("://")
        scheme = scheme.lower()
        host, slash, key = rest.partition("/")
        told = shown(f"{scheme}://{host.rpartition('@')[2].partition('?')[0]}{slash}")
        if scheme not in SCHEMES and not (scheme == "http" and host.partition(":")[0] in _LOOPBACK):
            raise UsageError(
                f"{told}...: nothing is read from {scheme}://",
                remedy="s3://BUCKET/KEY, gs://BUCKET/KEY, az://CONTAINER/KEY and https:// are; or copy it to a folder",
            )
        if "@" in host or (scheme in LISTED and ":" in host):
            remedy = "leave them out: the store's usual settings are asked (environment, profile), see docs/remote.md"
            raise UsageError(f"{told}... carries a name or a password, which would be recorded", remedy=remedy)
        if _SECRETS.search(text):
            remedy = "leave out all from the ? on; with the store's own address and credentials none is needed"
            raise UsageError(f"{told}... carries a signature, which would be recorded and run out", remedy=remedy)
        if scheme not in LISTED and re.search(r"[?#]", rest):
            remedy = "name a URL that needs none, or copy it to a folder"
            raise UsageError(f"{told}...: what stands behind ? or # is not kept", remedy=remedy)
        if scheme in LISTED and not _BUCKET.fullmatch(host):
            remedy = f"like {scheme}://BUCKET/KEY, or {scheme}://BUCKET with -r for all that is in it"
            raise UsageError(f"{told} names no bucket that can be", remedy=remedy)
        if not host:
            raise UsageError(f"{told} names no host", remedy="like https://host/path/file.wav")
        return cls(scheme, host, key)

    @property
    def url(self) -> str:
        """The URL, as it is recorded."""
        return f"{self.scheme}://{self.bucket}/{self.key}" if self.key else self.place

    @property
    def place(self) -> str:
        """The bucket or the host, as a URL: what is away when its objects cannot be reached."""
        return f"{self.scheme}://{self.bucket}"

    @property
    def can_list(self) -> bool:
        """Whether the store says what it holds, and takes outputs."""
        return self.scheme in LISTED

    @property
    def asked(self) -> str:
        """The key as the store knows it."""
        return self.key if self.can_list else urllib.parse.unquote(self.key)

    @property
    def name(self) -> str:
        """What stands behind the last slash."""
        return self.asked.rpartition("/")[2]

    def at(self, key: str) -> Address:
        """Return another key of the same bucket."""
        return dataclasses.replace(self, key=key)

    def refusal(self) -> str | None:
        """Return why this object cannot be asked for, in words; None if it can.

        The client library takes apart and joins keys at their slashes, and would ask for another object.
        """
        parts = self.asked.split("/")
        if "" in parts:
            where = "begins with a slash" if not parts[0] else "ends with one" if not parts[-1] else "has two in a row"
            return f"its key {where}"
        if "." in parts or ".." in parts:
            return "a part of its key is . or .."
        if re.search(r"[\x00-\x1f\x7f]", self.asked):
            return "its key holds a control character"
        try:
            length = len(self.asked.encode())
        except UnicodeEncodeError:
            return "its key is no UTF-8"
        return f"its key has {length} bytes, and {KEY_BYTES} are the most" if length > KEY_BYTES else None


def is_below(url: str, folder: str) -> bool:
    """Return whether a URL is that of `folder` (without a slash at its end), or of something in it."""
    return url == folder or url.startswith(folder + "/")


def folder_of(url: str) -> str:
    """Return the URL up to its last slash, that of its bucket at the least."""
    scheme, _, rest = url.partition("://")
    head = rest.rpartition("/")[0] if "/" in rest else rest
    return f"{scheme}://{head}"


def common_folder(urls: list[str]) -> str:
    """Return the URL that these folders of one bucket have in common."""
    parts = [url.split("/") for url in urls]
    same = next((i for i, some in enumerate(zip(*parts, strict=False)) if len(set(some)) > 1), min(map(len, parts)))
    return "/".join(parts[0][: max(3, same)])


def joined(folder: str, parts: list[str]) -> str:
    """Return the URL of something below a folder, whose URL may end with a slash."""
    return "/".join([folder.rstrip("/"), *parts])


def safe_parts(parts: list[str]) -> list[str]:
    """Return parts of a key as names of folders that lead nowhere else: no `..`, nothing empty, none too long."""
    return [_safe(part) for part in parts if part]


def safe_key_parts(parts: list[str]) -> list[str]:
    """Return names of folders and files as parts of a key that can be asked for."""
    return [re.sub(r"[\x00-\x1f\x7f]", lambda m: f"%{ord(m[0]):02X}", part) for part in safe_parts(parts)]


def _safe(part: str) -> str:
    if part in (".", ".."):
        return part.replace(".", "%2E")
    return fitted_name(part.replace("\0", "%00"), "", NAME_BYTES)
