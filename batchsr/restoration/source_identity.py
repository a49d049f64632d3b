"""Whether a source was one recording from the first look to the last, and its hash if it was.

Size and mtime can be set by anybody, and a file can be exchanged for another one under the same name. So two more
things are compared: which file it is (inode, and ctime, which no program can set), and what was read of it (a digest
of the samples of every pass over it). A file that is touched without being changed, by chmod, a new name or a backup
program, has another ctime: then its content is read once more and compared, and only a difference is an error.

Between attempts each window proves itself (`scratch`): its slot holds a fingerprint of the samples it was made from.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Self

import numpy as np

from batchsr import storage
from batchsr.audio.files import SourceInfo
from batchsr.audio.windows import Block
from batchsr.errors import InputChanged, InputMissing


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """Which file it is, and when anything about it was changed last."""

    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Return that of a file's status."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)

    @classmethod
    def of_probed(cls, info: SourceInfo) -> Self:
        """Return that of the file when it was probed."""
        return cls(info.size_bytes, info.mtime_ns, info.ctime_ns, info.inode, info.device)


class SourceHash:
    """What one attempt reads of a source. Passes may run in several threads at once."""

    def __init__(self, path: Path, info: SourceInfo) -> None:
        self._path = path
        self._opened = Identity.of_probed(info)
        self._passes: list[bytes] = []

    def watched(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Yield the same blocks of a whole pass; their digest is kept when the pass comes to its end."""
        digest = hashlib.blake2b(digest_size=32)
        for block in blocks:
            digest.update(np.ascontiguousarray(block).data.cast("B"))
            yield block
        self._passes.append(digest.digest())

    def sha256(self, read_again: Callable[[], None], *, tick: Callable[[], None]) -> str:
        """Return the SHA-256 of the file, which must hold what was read. Raises InputChanged, InputMissing.

        `read_again` makes another whole pass, `watched`, and compares what else was taken from the file; it is called
        only where the file was touched since it was probed. `tick` shows a sign of life now and then.
        """
        try:
            before = Identity.of(os.stat(self._path))
            digest = storage.sha256(self._path, tick=tick)
            if before != self._opened:
                if (before.size_bytes, before.mtime_ns) != (self._opened.size_bytes, self._opened.mtime_ns):
                    raise self._changed("enqueue it again once nothing writes to it")
                read_again()
            after = Identity.of(os.stat(self._path))
        except OSError as e:
            message = f"{self._path} went away while it was restored"
            raise InputMissing(message, remedy="bring it back and retry") from e
        if before != after or len(set(self._passes)) > 1:
            raise self._changed("`batchsr retry` it once nothing writes to it")
        return digest

    def _changed(self, remedy: str) -> InputChanged:
        return InputChanged(f"{self._path} changed while it was restored", remedy=remedy)
