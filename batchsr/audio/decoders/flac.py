"""FLAC: damaged frames become silence at their place, and the samples' MD5 is held against the header's.

libsndfile stops at a frame whose checksum is wrong, while those behind it are whole. So such a stretch is read again
a frame at a time. A file that is mostly damaged stays an error.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np

from batchsr.audio.decoders.interface import DecodeError
from batchsr.audio.decoders.libsndfile import LibsndfileDecoder
from batchsr.audio.decoders.virtual_file import VirtualFile
from batchsr.audio.remarks import Remark
from batchsr.audio.windows import Block

_WHOLE_BYTES: Final = (8, 16, 24)
"""Bits of a sample for which the float32 that libsndfile gives is exact, and its bytes are known."""
_USUAL_BLOCK: Final = 4_096
_LARGEST_LOSS: Final = 0.25
"""Where more of the frames read so far are damaged, and more than a few, the file is no recording any more."""
_FEW: Final = 8


class FlacDecoder(LibsndfileDecoder):
    """One FLAC stream."""

    def __init__(self, file: int | VirtualFile, bits: int, md5: bytes, block: int = 0) -> None:
        """`md5` is the header's, all zero where the writer did not know it; `block` is the length of its frames."""
        super().__init__(file)
        self._source = file
        self._bits = bits
        self._block = block or _USUAL_BLOCK
        self._told = md5
        self._sum = hashlib.md5(usedforsecurity=False) if any(md5) and bits in _WHOLE_BYTES else None
        self._position = 0
        self._lost: list[int] = []

    def read(self, frames: int) -> Block:
        """Return the next samples, (n, channels)."""
        frames = min(frames, self.frames - self._position)
        try:
            block = super().read(frames)
        except DecodeError as e:
            if e.system:
                raise
            block = self._piecemeal(frames)
        self._position += len(block)
        if self._sum is not None:
            whole = np.ascontiguousarray(np.rint(block * np.float32(2 ** (self._bits - 1))), "<i4")
            octets = whole.view(np.uint8).reshape(*whole.shape, 4)
            self._sum.update(octets[:, :, : self._bits // 8].tobytes())
        if self._position == self.frames:
            self._remark()
        return block

    def seek(self, frame: int) -> None:
        """Go to a frame; what was skipped cannot be summed up."""
        super().seek(frame)
        self._position = frame
        self._sum = None

    def _piecemeal(self, frames: int) -> Block:
        """Return the same stretch a frame at a time, with silence where one cannot be decoded."""
        out = np.zeros((frames, self.channels), np.float32)
        done, broken = 0, True
        while done < frames:
            at = self._position + done
            wanted = min(self._block - at % self._block, frames - done)
            got = self._reopened_at(at, wanted) if broken else self._next(wanted)
            broken = got is None
            if got is not None:
                out[done : done + len(got)] = got
            elif not self._lost or self._lost[-1] // self._block != at // self._block:
                self._lost.append(at)
                if len(self._lost) > max(_FEW, _LARGEST_LOSS * at / self._block):
                    raise DecodeError(f"{len(self._lost)} of its frames cannot be decoded")
            done += wanted
        return out

    def _reopened_at(self, at: int, wanted: int) -> Block | None:
        """Return the frames from `at` on, by libFLAC begun anew: it recovers from no error, and seeks badly
        beside one."""
        block_start = at - at % self._block
        # The binding goes to the sample behind those that it read, which fails where that one is damaged.
        for count in (wanted, wanted - 1):
            for begin in (at, block_start, block_start - self._block, block_start - 4 * self._block):
                super().close()
                super().__init__(self._source)
                try:
                    super().seek(max(begin, 0))
                except DecodeError:
                    continue
                if begin >= at or self._next(at - max(begin, 0)) is not None:
                    got = self._next(count)
                    if got is not None and count:
                        return np.pad(got, ((0, wanted - count), (0, 0)))
        return None

    def _next(self, wanted: int) -> Block | None:
        try:
            got = super().read(wanted)
        except DecodeError as e:
            if e.system:
                raise
            return None
        return got if len(got) == wanted else None

    def _remark(self) -> None:
        if self._lost:
            starts = ", ".join(f"{at / self.sample_rate:.2f} s" for at in self._lost[:8])
            message = f"{len(self._lost)} damaged frames are silent in the output, at {starts}"
            self.remarks = (Remark("input.gap", message),)
        elif self._sum is not None and self._sum.digest() != self._told:
            message = "the MD5 of its samples is not the one in its header: some of them are not what was written"
            self.remarks = (Remark("input.md5", message),)
