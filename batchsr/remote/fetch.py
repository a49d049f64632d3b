"""A copy of an object on the local disk, to work on: whole and the very one that was enqueued, or none.

    <name>.part     what has come so far; a later attempt goes on behind it, with If-Match on the e-tag
    <name>          all of it, its length and the store's checksum compared; its time is the object's

The names hold the job's number and a hash of the object's identity, so the part of another object is never gone on
with. Whoever works on a copy holds a lock on it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from batchsr import storage
from batchsr.display import shown
from batchsr.errors import InputChanged, InputMissing, StoreAway, StoreDamaged, StoreDenied, TransientError
from batchsr.remote import amazon, answers, objects, stores
from batchsr.remote.address import Address
from batchsr.remote.objects import Facts

PIECE_BYTES: Final = 8 << 20
"""Of one request at the most, and what is fetched again after a crash."""
_LEAST_BYTES: Final = 256 << 10
_TRIES: Final = 4
"""Requests in a row that bring nothing, before the attempt is given up."""


@contextlib.contextmanager
def copied(
    address: Address, identity: str, target: Path, *, alive: Callable[[], None] = lambda: None
) -> Iterator[Facts]:
    """Bring an object to `target`, and hold it there for the block. Goes on with what an earlier attempt has brought.

    `alive` is called after each piece; it stops the work by raising, and what has come stays. Raises InputMissing,
    InputChanged where it is not the object of that identity, InputUnreadable, StoreAway, StoreDenied, StoreDamaged,
    TransientError where another process has the copy in hand, ResourceError.
    """
    facts = unchanged(address, identity)
    part = target.with_name(target.name + ".part")
    with storage.resource_errors(target, "write the copy of a source"):
        target.parent.mkdir(parents=True, exist_ok=True)
        is_whole = _is_whole(target, facts)
        fd = os.open(target if is_whole else part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            raise TransientError(f"another process fetches {shown(address.url)}", remedy="it is tried again") from e
        if not is_whole:
            _fill(address, facts, fd, part, alive)
            _compare(address, fd, part)
            with storage.resource_errors(target, "write the copy of a source"):
                os.utime(fd, ns=(facts.modified_ns, facts.modified_ns))
                os.fsync(fd)
                os.rename(part, target)
        yield facts
    finally:
        os.close(fd)


def unchanged(address: Address, identity: str) -> Facts:
    """Return what the store says of an object now, which must be the one of that identity.

    Raises InputMissing, InputChanged, StoreAway, StoreDenied.
    """
    facts = objects.look(address)
    if facts is None:
        raise InputMissing(f"{shown(address.url)} is not there (any more)", remedy="bring it back and retry")
    if facts.identity(address.url) != identity:
        raise _changed(address)
    return facts


def forget(target: Path) -> None:
    """Remove a copy, and what has come of one."""
    with storage.resource_errors(target, "remove the copy of a source"):
        target.unlink(missing_ok=True)
        target.with_name(target.name + ".part").unlink(missing_ok=True)


def _is_whole(target: Path, facts: Facts) -> bool:
    try:
        there = os.lstat(target)
    except FileNotFoundError:
        return False
    return (there.st_size, there.st_mtime_ns) == (facts.size_bytes, facts.modified_ns)


def _fill(address: Address, facts: Facts, fd: int, part: Path, alive: Callable[[], None]) -> None:
    """Bring what is missing of an object."""
    with storage.resource_errors(part, "write the copy of a source"):
        # The last piece may have been cut by a crash of the machine before it was on the disk.
        at = min(max(0, os.fstat(fd).st_size - PIECE_BYTES), facts.size_bytes)
        os.ftruncate(fd, at)
        if storage.free_bytes(part.parent) < facts.size_bytes - at:
            raise OSError(errno.ENOSPC, f"the copy takes {facts.size_bytes:,} bytes", str(part))
    piece_bytes, failures = PIECE_BYTES, 0
    while at < facts.size_bytes:
        alive()
        try:
            data = _piece(address, facts, at, min(at + piece_bytes, facts.size_bytes))
        except answers.Unsupported:
            _whole(address, facts, fd, part, alive)
            return
        except StoreDenied:
            raise
        except StoreAway:
            failures += 1
            if failures >= _TRIES:
                raise
            piece_bytes = max(_LEAST_BYTES, piece_bytes // 4)  # a slow line brings less in the time of one request
            continue
        with storage.resource_errors(part, "write the copy of a source"):
            _write(fd, data, at)
            os.fdatasync(fd) if hasattr(os, "fdatasync") else os.fsync(fd)
        at += len(data)
        piece_bytes, failures = min(PIECE_BYTES, 2 * piece_bytes), 0


def _piece(address: Address, facts: Facts, start: int, end: int) -> bytes:
    """Return a part of an object. Raises Unsupported where the server gives none, StoreAway for one that is cut."""
    import obstore

    options = {"range": (start, end)} | ({"if_match": facts.e_tag} if _is_strong(facts) else {})
    try:
        with answers.asking(address):
            result = obstore.get(stores.opened(address), address.asked, options=options)  # type: ignore[arg-type]
            if result.range != (start, end) or not _is_same(result.meta, facts):
                raise answers.Unmatched
            data = result.bytes().to_bytes()
    except FileNotFoundError as e:
        raise InputMissing(f"{shown(address.url)} went away while it was fetched", remedy="bring it back") from e
    except answers.Unmatched as e:
        raise _changed(address) from e
    if len(data) != end - start:
        raise answers.away(address, f"{len(data)} of {end - start} bytes came")
    return data


def _whole(address: Address, facts: Facts, fd: int, part: Path, alive: Callable[[], None]) -> None:
    """Bring all of an object from a server that gives no parts."""
    import obstore

    at = 0
    try:
        with answers.asking(address):
            result = obstore.get(stores.opened(address), address.asked)
            if not _is_same(result.meta, facts):
                raise answers.Unmatched
            pieces = iter(result.stream(min_chunk_size=1 << 20))
        while True:
            with answers.asking(address):
                data = next(pieces, None)
            if data is None:
                break
            with storage.resource_errors(part, "write the copy of a source"):
                _write(fd, bytes(data), at)
            at += len(data)
            alive()
    except FileNotFoundError as e:
        raise InputMissing(f"{shown(address.url)} went away while it was fetched", remedy="bring it back") from e
    except answers.Unmatched as e:
        raise _changed(address) from e
    with storage.resource_errors(part, "write the copy of a source"):
        os.ftruncate(fd, at)
    if at != facts.size_bytes:
        raise StoreDamaged(f"{at} of {facts.size_bytes} bytes of {shown(address.url)} came", remedy="retry it")


def _write(fd: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, at)
        view, at = view[count:], at + count


def _compare(address: Address, fd: int, part: Path) -> None:
    """Compare the copy with the store's checksum, where it keeps one. Raises StoreDamaged, the copy emptied."""
    compare = amazon.checked(address) if address.scheme == "s3" else None
    if compare is None:
        return
    with storage.resource_errors(part, "read the copy of a source"), open(os.dup(fd), "rb") as file:
        file.seek(0)
        found, wanted = compare(file)
        if found != wanted:
            os.ftruncate(fd, 0)
    if found != wanted:
        told = f"what came of {shown(address.url)} has checksum {found}, and the store says {wanted}"
        raise StoreDamaged(told, remedy="check the network between, and the object itself")


def _is_strong(facts: Facts) -> bool:
    """Return whether an e-tag stands for these very bytes; a weak one never matches."""
    return facts.e_tag is not None and not facts.e_tag.startswith("W/")


def _is_same(meta: Any, facts: Facts) -> bool:
    """Return whether what a server sends is, by its own words, the object that was looked at.

    Many web servers pass over If-Match, and send another object of the same length.
    """
    tags = [tag.removeprefix("W/") for tag in (meta["e_tag"], facts.e_tag) if tag is not None]
    return bool(meta["size"] == facts.size_bytes and len(set(tags)) < 2)


def _changed(address: Address) -> InputChanged:
    return InputChanged(f"{shown(address.url)} changed after it was enqueued", remedy="enqueue it again")
