"""Recordings that lie side by side in one file, as one of all their channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from batchsr.audio.decoders.interface import Decoder
from batchsr.audio.decoders.joined import Joined, Opened
from batchsr.audio.remarks import Remark, bounded
from batchsr.audio.windows import Block


class Beside:
    """Decoders read in step, the first one's channels first. The shorter ones end in silence.

    Each is brought to the highest rate among them. Takes over the decoders: `close` closes them.
    """

    def __init__(self, decoders: Sequence[Decoder]) -> None:
        self._decoders = list(decoders)
        self.sample_rate = max(d.sample_rate for d in decoders)
        self.channels = sum(d.channels for d in decoders)
        self.format, self.subtype = decoders[0].format, decoders[0].subtype
        self._streams: list[Decoder] = [self._at_our_rate(d) for d in decoders]
        self.frames = max(s.frames for s in self._streams)
        self._position = 0

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """What the decoders found odd."""
        return bounded(remark for s in self._streams for remark in s.remarks)

    def read(self, frames: int) -> Block:
        """Return the next samples, (n, channels)."""
        frames = min(frames, self.frames - self._position)
        self._position += frames
        out = np.zeros((frames, self.channels), np.float32)
        channel = 0
        for stream in self._streams:
            block = stream.read(frames)
            out[: len(block), channel : channel + stream.channels] = block
            channel += stream.channels
        return out

    def seek(self, frame: int) -> None:
        """Go to a frame."""
        for stream in self._streams:
            stream.seek(min(frame, stream.frames))
        self._position = frame

    def close(self) -> None:
        """Close all of them."""
        for stream in (*self._streams, *self._decoders):
            stream.close()

    def _at_our_rate(self, d: Decoder) -> Decoder:
        if d.sample_rate == self.sample_rate:
            return d

        def begin() -> Decoder:
            d.seek(0)
            return _Kept(d)

        opened = Opened(begin, d.sample_rate, d.channels, d.format, d.subtype, d.frames)
        return Joined([opened], sample_rate=self.sample_rate)


class _Kept:
    """A decoder that another one reads and does not close."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.sample_rate, self.channels, self.frames = decoder.sample_rate, decoder.channels, decoder.frames
        self.format, self.subtype = decoder.format, decoder.subtype
        self.read, self.seek = decoder.read, decoder.seek

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """The decoder's own."""
        return self._decoder.remarks

    def close(self) -> None:
        """Leave it open."""
