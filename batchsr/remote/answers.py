"""What the answers of a store mean: away, denied, not there, not as it was.

Credentials are the business of the store's own means (environment, profiles, the machine's identity); they are never
kept, and no message repeats more of a library's words than its first line without what stands behind a `?`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Final

from batchsr.display import printable, shown
from batchsr.errors import InputUnreadable, StoreAway, StoreDenied
from batchsr.remote.address import Address

NO_BUCKET: Final = "there is no such bucket"
CHECK_NAME: Final = "check its name, and AWS_ENDPOINT_URL and the like"
_REMEDIES: Final = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or let the machine's role reach it",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or let the machine's account read and write it",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or let the machine's identity reach it",
}


class Unmatched(Exception):
    """An object is not, or no longer, the one of that e-tag."""


class Taken(Exception):
    """An object stands under that key already."""


class Unsupported(Exception):
    """The store does not do what was asked for."""


@contextlib.contextmanager
def asking(address: Address, *, writes: bool = False) -> Iterator[None]:
    """Turn a library's errors into ours.

    Raises FileNotFoundError for what is not there, Unmatched, Taken and Unsupported for the caller to decide about, and
    StoreAway, StoreDenied, InputUnreadable.
    """
    from obstore import exceptions

    try:
        yield
    except FileNotFoundError:
        raise
    except exceptions.AlreadyExistsError as e:
        raise Taken from e
    except exceptions.PreconditionError as e:
        raise Unmatched from e
    except exceptions.NotSupportedError as e:
        raise Unsupported(said(e)) from e
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as e:
        raise denied(address, said(e), writes=writes) from e
    except (exceptions.InvalidPathError, ValueError) as e:
        raise InputUnreadable(f"{shown(address.url)} cannot be asked for: {said(e)}", remedy="copy it elsewhere") from e
    except (exceptions.BaseError, OSError) as e:
        raise _of_words(address, str(e), said(e), writes=writes) from e


def away(address: Address, why: str, *, writes: bool = False, remedy: str = "") -> StoreAway:
    """Return the error of a store that cannot be reached."""
    told = f"{shown(address.place)} cannot be {'written to' if writes else 'read'} now: {why}"
    also = ", and AWS_ENDPOINT_URL and the like" if address.can_list else ""
    error = StoreAway(told, remedy=remedy or f"it is tried again; check the network{also}")
    error.writes = writes
    return error


def denied(address: Address, why: str, *, writes: bool = False, remedy: str = "") -> StoreDenied:
    """Return the error of a store that refuses."""
    verb = "write to" if writes else "read"
    remedy = remedy or _REMEDIES.get(address.scheme, "ask who runs it")
    error = StoreDenied(f"this user may not {verb} {shown(address.place)}: {why}", remedy=remedy)
    error.writes = writes
    return error


def said(error: BaseException) -> str:
    """Return a library's own words, in short, without what may be secret."""
    words = str(error).partition("\n")[0]
    if code := re.search(r"<Code>(\w+)</Code>(?:\s*<Message>([^<]*)</Message>)?", str(error)):
        words += " " + ": ".join(filter(None, code.groups()))
    words = re.sub(r"\?[^\s\"']*", "?...", words)
    words = re.sub(r"(://)[^/\s@]*@", r"\1", words)
    return printable(words[:300])


def _of_words(address: Address, whole: str, words: str, *, writes: bool) -> StoreAway:
    """Return what an error of no kind of its own means, by its words."""
    if "169.254.169.254" in whole or "metadata.google.internal" in whole or "credential" in whole.lower():
        return denied(address, "no credentials were found", writes=writes)
    if "incorrectly configured region" in whole or "PermanentRedirect" in whole or "AuthorizationHeaderMal" in whole:
        return denied(address, "it lies in another region", writes=writes, remedy="set AWS_REGION to the bucket's own")
    if re.search(r"status code: 40[013] ", whole) or "InvalidObjectState" in whole:
        return denied(address, words, writes=writes)
    if "NoSuchBucket" in whole:
        return away(address, NO_BUCKET, writes=writes, remedy=CHECK_NAME)
    return away(address, words, writes=writes)
