"""Samples without a header: libsndfile reads them when it is told what they are, and two codecs of its own.

A walk over a file's chunks knows where the samples stand and what they are; then no header is needed, however odd the
one in the file is, and no length is limited to 32 bits.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
from numpy.typing import NDArray

from batchsr.audio.decoders.interface import DecodeError, Decoder
from batchsr.audio.decoders.libsndfile import LibsndfileDecoder
from batchsr.audio.decoders.virtual_file import VirtualFile
from batchsr.audio.remarks import Remark
from batchsr.audio.windows import Block

_FIBONACCI: Final = np.array([-34, -21, -13, -8, -5, -3, -2, -1, 0, 1, 2, 3, 5, 8, 13, 21], np.int64)
_EXPONENTIAL: Final = np.array([-128, -64, -32, -16, -8, -4, -2, -1, 0, 1, 2, 4, 8, 16, 32, 64], np.int64)
DELTAS: Final = {"FIBONACCI": _FIBONACCI, "EXPONENTIAL": _EXPONENTIAL}


@dataclasses.dataclass(frozen=True, slots=True)
class Samples:
    """What the samples of a stretch are; called with their bytes it opens them."""

    format: str
    """The container's name, as libsndfile has it."""
    subtype: str
    """libsndfile's name of the encoding."""
    endian: str
    """LITTLE or BIG."""
    sample_rate: int
    channels: int
    sample_bytes: int

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return self.channels * self.sample_bytes

    def __call__(self, file: VirtualFile) -> Decoder:
        """Open them. Raises DecodeError."""
        return LibsndfileDecoder(
            file,
            raw={
                "format": "RAW",
                "subtype": self.subtype,
                "endian": self.endian,
                "samplerate": self.sample_rate,
                "channels": self.channels,
            },
            called=self.format,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Deltas:
    """8SVX compressed to four bits a sample, of one channel; called with its bytes it opens them."""

    kind: str
    """Key of DELTAS."""
    sample_rate: int

    def __call__(self, file: VirtualFile) -> Decoder:
        """Open them. Raises DecodeError."""
        return DeltaDecoder(file, self)


class DeltaDecoder:
    """Differences of a fixed table, two a byte, from a first value: IFF 8SVX's Fibonacci-delta.

    Source: Electronic Arts, "8SVX" IFF 8-Bit Sampled Voice, appendix C: a pad byte, the first value, then the codes,
    the upper four bits first; values wrap at 8 bits.
    """

    remarks: tuple[Remark, ...] = ()
    channels = 1
    format = "SVX"

    def __init__(self, file: VirtualFile, what: Deltas) -> None:
        self._file = file
        self._deltas = DELTAS[what.kind]
        self.sample_rate = what.sample_rate
        self.subtype = "FIBONACCI"
        self.frames = max(2 * (file.length - 2), 0)
        self._value = 0
        self._held: NDArray[np.float32] = np.zeros(0, np.float32)
        self.seek(0)

    def read(self, frames: int) -> Block:
        """Return the next samples, (n, 1)."""
        need = -(-(frames - len(self._held)) // 2)
        if need > 0:
            self._held = np.concatenate([self._held, self._decoded(self._file.read(need))])
        out, self._held = self._held[:frames], self._held[frames:]
        return out[:, None]

    def seek(self, frame: int) -> None:
        """Go to a frame, by decoding up to it."""
        self._file.seek(0)
        head = self._file.read(2)
        self._value = int(np.int8(head[1] - 256 if head[1] > 127 else head[1])) if len(head) == 2 else 0
        self._held = self._held[:0]
        while frame > 0 and len(block := self.read(min(frame, 65_536))):
            frame -= len(block)

    def close(self) -> None:
        """Do nothing: nothing is held."""

    def _decoded(self, data: bytes) -> NDArray[np.float32]:
        if self._file.failure is not None:
            raise DecodeError(str(self._file.failure.strerror), system=True)
        codes = np.frombuffer(data, np.uint8)
        deltas = self._deltas[np.stack([codes >> 4, codes & 15], axis=1).ravel()]
        values = (self._value + np.cumsum(deltas) + 128) % 256 - 128
        if len(values):
            self._value = int(values[-1])
        return np.asarray(values / 128, np.float32)


@dataclasses.dataclass(frozen=True, slots=True)
class Planar:
    """Channels that stand one behind the other, each of one segment; called with all their bytes it opens them."""

    one: Samples | Deltas
    """What each channel is."""

    def __call__(self, file: VirtualFile) -> Decoder:
        """Open them. Raises DecodeError."""
        return PlanarDecoder([self.one(VirtualFile(file.fd, [segment])) for segment in file.segments])


class PlanarDecoder:
    """Decoders of one channel each as one decoder of all."""

    remarks: tuple[Remark, ...] = ()

    def __init__(self, each: list[Decoder]) -> None:
        self._each = each
        self.sample_rate, self.format, self.subtype = each[0].sample_rate, each[0].format, each[0].subtype
        self.channels = len(each)
        self.frames = min(one.frames for one in each)

    def read(self, frames: int) -> Block:
        """Return the next samples, (n, channels)."""
        blocks = [one.read(frames) for one in self._each]
        count = min(len(block) for block in blocks)
        return np.concatenate([block[:count] for block in blocks], axis=1)

    def seek(self, frame: int) -> None:
        """Go to a frame."""
        for one in self._each:
            one.seek(frame)

    def close(self) -> None:
        """Close every channel."""
        for one in self._each:
            one.close()
