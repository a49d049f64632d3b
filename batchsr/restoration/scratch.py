"""The resumable file of finished windows: one slot a window, each of which proves itself.

    slot i, at i * slot_bytes:
        0   8  magic "BSRSLOT2", or "BSRAGAIN" where half precision overflowed and float32 computed it
        8   8  index i                     little-endian u64
        16 32  key                         what made it: settings, model, plan (SHA-256)
        48 12  fingerprint                 of the samples that it was made from (BLAKE2b)
        60  4  CRC-32 of bytes 0..59 and of the samples
        64     samples                     float32, (channels, frame_samples), row by row

A slot is believed when magic, index, key, fingerprint and CRC all fit, and done again when not: a torn write, a
rotten sector, another model's window, or a source that was exchanged for another, can only cost time. Nothing else
says what is finished; the queue's figure is for display. The file belongs to the worker that holds the job's claim, so
it needs no lock of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import zlib
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from batchsr import faults, storage
from batchsr.errors import ResourceError, TransientError

MAGIC: Final = b"BSRSLOT2"
MAGIC_AGAIN: Final = b"BSRAGAIN"
FINGERPRINT_BYTES: Final = 12
HEADER: Final = struct.Struct("<8sQ32s12sI")
_CHECKED: Final = HEADER.size - 4  # the CRC covers the header up to itself


class Scratch:
    """Finished windows of one file, kept across crashes.

    `key` is 32 bytes that change whenever a window's samples would. Raises ResourceError on I/O errors.
    """

    def __init__(self, path: Path, *, key: bytes, channels: int, frame_samples: int, count: int) -> None:
        if len(key) != 32:
            raise AssertionError("a scratch key is a SHA-256 digest")
        self.path = path
        self.key = key
        self.shape = (channels, frame_samples)
        self.count = count
        self.slot_bytes = HEADER.size + 4 * channels * frame_samples
        storage.make_folder(path.parent)
        try:
            self._fd = storage.open_own(path, os.O_RDWR)
        except ResourceError:
            if path.is_dir() and not path.is_symlink():
                raise
            with contextlib.suppress(OSError):  # a link or the like: somebody put it there, and it goes, not its target
                path.unlink()
            self._fd = storage.open_own(path, os.O_RDWR | os.O_EXCL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def refuse_too_large(self, slots: int | None = None) -> None:
        """Raise OutputTooLarge if the file may never hold all windows, or the first `slots` where no more are used."""
        storage.refuse_too_large(self._fd, self.path, (self.count if slots is None else slots) * self.slot_bytes)

    def finished(self) -> set[int]:
        """Return the indices of the slots that prove themselves now. Reads the whole file once."""
        with storage.resource_errors(self.path, "read"):
            slots = min(self.count, os.fstat(self._fd).st_size // self.slot_bytes)
        return {index for index in range(slots) if self._read(index) is not None}

    def write(
        self, index: int, samples: NDArray[np.float32], *, made_from: bytes, computed_again: bool = False
    ) -> None:
        """Put window `index`, samples (channels, frame_samples) float32, into its slot. Not yet synced.

        `made_from` is the fingerprint of what the model was given for it, `computed_again` whether it took float32.
        """
        if samples.shape != self.shape or samples.dtype != np.float32:
            raise AssertionError(f"slot {index}: {samples.dtype} {samples.shape}, not float32 {self.shape}")
        payload = np.ascontiguousarray(samples, "<f4").data.cast("B")
        magic = MAGIC_AGAIN if computed_again else MAGIC
        head = HEADER.pack(magic, index, self.key, made_from, 0)
        crc = zlib.crc32(payload, zlib.crc32(head[:_CHECKED]))
        faults.point("slot.before_write")
        with storage.output_errors(self.path, "write"):
            start = index * self.slot_bytes
            _write_all(self._fd, payload, start + HEADER.size)
            _write_all(self._fd, memoryview(HEADER.pack(magic, index, self.key, made_from, crc)), start)
        faults.point("slot.after_write")

    def sync(self) -> None:
        """Make every slot written so far survive a power cut."""
        with storage.resource_errors(self.path, "sync"):
            storage.fsync(self._fd)
        faults.point("slot.after_fsync")

    def was_made_from(self, index: int, made_from: bytes) -> bool:
        """Return whether the finished window `index` was made from samples with this fingerprint."""
        with storage.resource_errors(self.path, "read"):
            raw = os.pread(self._fd, HEADER.size, index * self.slot_bytes)
        return len(raw) == HEADER.size and bytes(HEADER.unpack(raw)[3]) == made_from

    def computed_again(self) -> int:
        """Count the windows that float32 computed because half precision overflowed, in this attempt or before."""
        with storage.resource_errors(self.path, "read"):
            begins = [os.pread(self._fd, len(MAGIC), index * self.slot_bytes) for index in range(self.count)]
        return begins.count(MAGIC_AGAIN)

    def read(self, index: int) -> NDArray[np.float32]:
        """Return a finished window (channels, frame_samples). Raises TransientError if it is finished no longer."""
        samples = self._read(index)
        if samples is None:
            raise TransientError(
                f"{self.path}: slot {index} went bad after it was written",
                remedy="it is done again on the next attempt",
            )
        return samples

    def close(self) -> None:
        """Close the file; what was written stays for the next attempt."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _read(self, index: int) -> NDArray[np.float32] | None:
        with storage.resource_errors(self.path, "read"):
            raw = os.pread(self._fd, self.slot_bytes, index * self.slot_bytes)
        if len(raw) < self.slot_bytes:
            return None
        magic, found, key, made_from, crc = HEADER.unpack_from(raw)
        if magic not in (MAGIC, MAGIC_AGAIN) or found != index or key != self.key:
            return None
        payload = memoryview(raw)[HEADER.size :]
        expected = zlib.crc32(payload, zlib.crc32(HEADER.pack(magic, found, key, made_from, 0)[:_CHECKED]))
        if crc != expected:
            return None
        return np.frombuffer(payload, dtype="<f4").reshape(self.shape)


def stems_path(scratch: Path) -> Path:
    """Return the path of the file with what was separated, beside a scratch file."""
    return scratch.with_name(scratch.name + ".stems")


def stems_bytes(total_samples: int, channels: int) -> int:
    """Return about how large that becomes for a recording of so many samples at 48 kHz: four stems at 44.1 kHz in
    chunks that share a quarter, and 8 s for the last."""
    return 4 * 4 * channels * (total_samples * 49 // 40 + 8 * 48_000)


def fingerprint(samples: NDArray[np.float32]) -> bytes:
    """Hash the samples of one window (channels, frame_samples), as the model is given them."""
    return hashlib.blake2b(np.ascontiguousarray(samples).data.cast("B"), digest_size=FINGERPRINT_BYTES).digest()


def _write_all(fd: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written
