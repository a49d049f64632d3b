"""psycopg's errors in our words: they name the database, never its password, and what to do."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Final

import psycopg

from batchsr.errors import BatchsrError, ClaimLost, QueueAway, QueueBusy, QueueError, ResourceError
from batchsr.queue.postgres.functions import LOST_WORKER
from batchsr.queue.postgres.place import FleetPlace

_NOT_INITIALISED: Final = ("42P01", "3F000", "42883")


def is_away(error: psycopg.Error) -> bool:
    """Return whether the server, or the way to it, is what is wrong."""
    state = error.sqlstate or ""
    if isinstance(error, psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable):
        return False
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and not state:
        return True
    return state.startswith(("08", "57P")) or state in ("53300", "25P03", "25P04")


@contextlib.contextmanager
def errors_of(place: FleetPlace) -> Iterator[None]:
    """Turn the library's errors into ours, naming the database and what to do."""
    try:
        yield
    except psycopg.Error as e:
        raise converted(e, place) from None


def converted(error: psycopg.Error, place: FleetPlace) -> BatchsrError:
    """Return our error for one of psycopg's."""
    state = error.sqlstate or ""
    said = place.cleaned(" ".join(str(error).split())) or type(error).__name__
    if state == LOST_WORKER:
        return ClaimLost(error.diag.message_primary or said)
    if "authentication failed" in said or "no password supplied" in said or state in ("28P01", "28000"):
        return QueueError(f"{place.shown} lets nobody in: {said}", remedy="give the password in a PGPASSFILE")
    if state == "3D000" or ("database" in said and "does not exist" in said):
        return QueueError(f"{place.shown}: {said}", remedy="have the database made (`createdb`)")
    if state in _NOT_INITIALISED:
        return QueueError(f"{place.shown} holds no queue: {said}", remedy="`batchsr fleet init` makes it, once")
    if not state and re.search(r"\binvalid (\w+ value|port number|URI query parameter)", said):
        return QueueError(f"{place.shown}: {said}", remedy="mend the URL")
    if is_away(error):
        return QueueAway(f"{place.shown} cannot be reached: {said}", remedy="check the server and the network")
    if state in ("55P03", "57014", "40001", "40P01"):
        return QueueBusy(f"{place.shown} has been busy for a minute: {said}", remedy="try again")
    if state.startswith("53"):
        return ResourceError(f"{place.shown}: {said}", remedy="the database's server needs room, or memory")
    if state == "42501":
        return QueueError(f"{place.shown}: {said}", remedy="grant this user the rights (docs/fleet.md)")
    return QueueError(f"{place.shown}: {said}", remedy="see `batchsr fleet check`")
