"""An object gets its name once: by a write that the store refuses where the name is taken.

    up to 64 MB     one conditional put (If-None-Match: *, or If-Match where an object is to be replaced)
    larger          parts, to <key>.<job>-<claim>.tmp; a copy that does not replace; the temporary is deleted

Stores that write over what is there in spite of the condition are found out before any work, and refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from batchsr import faults
from batchsr.display import shown
from batchsr.errors import OutputExists, OutputPathError, OutputTooLarge, StoreAway
from batchsr.remote import answers, objects, stores
from batchsr.remote.address import KEY_BYTES, Address
from batchsr.remote.objects import Facts

if TYPE_CHECKING:
    from obstore.store import ObjectStore

WHOLE_BYTES: Final = 64 << 20
"""The most that is held in memory to be written at once."""
_PIECE_BYTES: Final = 8 << 20
_LARGEST_BYTES: Final = {"s3": 5 << 30}
"""What a store copies at once."""
_TEMPORARY: Final = re.compile(r"(.+)\.(\d+)-(\d+)\.tmp", re.DOTALL)
_PROBE: Final = ".batchsr-probe-"
_OLD_NS: Final = 3600 * 10**9  # a younger one may be in use
_NO_CONDITION: Final = "use a store that knows conditional writes (If-None-Match), or write to a folder"
_tried: set[str] = set()


def want_condition(target: Address, *, again: bool = False) -> None:
    """Make sure that a store refuses to write over what is there; tried once for each bucket, or `again`.

    Raises OutputPathError where it does not, StoreAway, StoreDenied where nothing can be written at all.
    """
    if target.place in _tried and not again:
        return
    store = _store(target)
    probe = target.at(f"{target.key.rpartition('/')[0]}/{_PROBE}{secrets.token_hex(8)}".lstrip("/"))
    _create(store, probe, b"batchsr")
    try:
        with contextlib.suppress(answers.Taken):
            _create(store, probe, b"twice")
            told = (
                f"{shown(target.place)} writes over objects although it is asked not to, so two could write one output"
            )
            raise OutputPathError(told, remedy=_NO_CONDITION)
    finally:
        _delete(store, probe)
    _tried.add(target.place)


class Upload:
    """A finished file on its way to its key."""

    def __init__(self, path: Path, target: Address, tag: str, alive: Callable[[], None]) -> None:
        """`tag` is "<job>-<claim>"; `alive` is called after each part, and stops the work by raising."""
        self._path = path
        self._target = target
        self._temporary = target.at(f"{target.key}.{tag}.tmp")
        self._alive = alive
        self._size_bytes = path.stat().st_size
        self._is_small = self._size_bytes <= WHOLE_BYTES

    def send(self) -> None:
        """Bring a large file to its temporary key; of a small one nothing is done yet.

        Raises OutputTooLarge, OutputPathError, StoreAway, StoreDenied.
        """
        if self._is_small:
            return
        most = _LARGEST_BYTES.get(self._target.scheme)
        if most is not None and self._size_bytes > most:
            told = f"{shown(self._target.url)} would have {self._size_bytes:,} bytes, and S3 copies at most {most:,}"
            raise OutputTooLarge(told, remedy="write to a folder, or choose a smaller format or subtype")
        if len(self._temporary.key.encode()) > KEY_BYTES:
            told = f"the key of {shown(self._target.url)} leaves no room for its temporary's"
            raise OutputPathError(told, remedy="choose a shorter prefix with --out")
        import obstore

        with self._path.open("rb") as file, answers.asking(self._target, writes=True):
            writer = obstore.open_writer(_store(self._target), self._temporary.key, buffer_size=_PIECE_BYTES)
            while piece := file.read(_PIECE_BYTES):
                writer.write(piece)
                self._alive()
            writer.close()

    def take_name(self, replaces: Facts | None) -> None:
        """Put the object under its key: where nothing is, or in the place of `replaces` alone.

        Raises answers.Taken where another object has the key, StoreAway, StoreDenied, OutputPathError.
        """
        store = _store(self._target)
        faults.point("rename.before")
        try:
            if self._is_small:
                _create(store, self._target, self._path.read_bytes(), replaces)
            else:
                self._copy(store, replaces)
        finally:
            if not self._is_small:
                with contextlib.suppress(StoreAway):  # `gc` finds it
                    _delete(store, self._temporary)
        faults.point("rename.after")

    def _copy(self, store: ObjectStore, replaces: Facts | None) -> None:
        import obstore

        if replaces is not None and objects.look(self._target) != replaces:
            raise answers.Taken  # S3 has no copy with If-Match: between this look and the copy is a moment
        try:
            with answers.asking(self._target, writes=True):
                obstore.copy(store, self._temporary.key, self._target.key, overwrite=replaces is not None)
        except FileNotFoundError as e:
            told = "the temporary of an output was deleted by somebody"
            raise answers.away(self._target, told, writes=True) from e
        except answers.Unsupported as e:
            raise OutputPathError(
                f"{shown(self._target.place)} has no conditional copy: {e}", remedy=_NO_CONDITION
            ) from e


def put_small(target: Address, data: bytes, replaces: Facts | None) -> None:
    """Write a small object: where nothing is, or in the place of `replaces` alone. Raises answers.Taken, StoreAway."""
    _create(_store(target), target, data, replaces)


def read_small(address: Address, most_bytes: int) -> tuple[bytes, Facts] | None:
    """Return a small object, and what it is; None where none is there. Raises OutputExists for a larger one."""
    import obstore

    try:
        with answers.asking(address):
            result = obstore.get(stores.opened(address), address.asked)
            facts = objects.facts_of(result.meta)
            if facts.size_bytes > most_bytes:
                raise OutputExists(f"{shown(address.url)} is larger than any record of ours", remedy="move it away")
            return result.bytes().to_bytes(), facts
    except FileNotFoundError:
        return None


def sha256(address: Address, *, alive: Callable[[], None] = lambda: None) -> tuple[str, int]:
    """Return the SHA-256 and the length of an object, read as a stream. Raises FileNotFoundError, StoreAway."""
    import obstore

    digest, size_bytes = hashlib.sha256(), 0
    with answers.asking(address):
        stream = iter(obstore.get(stores.opened(address), address.asked).stream(min_chunk_size=1 << 20))
    while True:
        with answers.asking(address):
            piece = next(stream, None)
        if piece is None:
            return digest.hexdigest(), size_bytes
        digest.update(piece)
        size_bytes += len(piece)
        alive()


def temporaries(folder: Address, key: str = "") -> Iterator[tuple[Address, str, int, int]]:
    """Yield what crashes left below a folder (of one output, where its key is given), each with that output's key, and
    the numbers of job and claim; old probes count as of job 0. Raises StoreAway, StoreDenied."""
    start = folder.at(f"{key}.") if key and folder.scheme == "s3" else folder
    old_ns = time.time_ns() - _OLD_NS
    for found, facts in objects.below(start, flat=True):
        if match := _TEMPORARY.fullmatch(found):
            if not key or match[1] == key:
                yield folder.at(found), match[1], int(match[2]), int(match[3])
        elif not key and os.path.basename(found).startswith(_PROBE) and facts.modified_ns < old_ns:
            yield folder.at(found), "", 0, 0


def delete(address: Address) -> None:
    """Delete an object; none there is no error. Raises StoreAway, StoreDenied."""
    _delete(_store(address), address)


def _store(target: Address) -> ObjectStore:
    return stores.opened(target, writes=True)


def _create(store: ObjectStore, target: Address, data: bytes, replaces: Facts | None = None) -> None:
    import obstore

    try:
        with answers.asking(target, writes=True):
            if replaces is None:
                obstore.put(store, target.key, data, mode="create", use_multipart=False)
            else:
                obstore.put(store, target.key, data, mode={"e_tag": replaces.e_tag}, use_multipart=False)
    except answers.Unmatched as e:
        raise answers.Taken from e
    except answers.Unsupported as e:
        told = f"{shown(target.place)} does not write under a condition: {e}"
        raise OutputPathError(told, remedy=_NO_CONDITION) from e
    except FileNotFoundError as e:
        raise answers.away(target, answers.NO_BUCKET, writes=True, remedy=answers.CHECK_NAME) from e


def _delete(store: ObjectStore, address: Address) -> None:
    import obstore

    with contextlib.suppress(FileNotFoundError), answers.asking(address, writes=True):
        obstore.delete(store, address.key)
