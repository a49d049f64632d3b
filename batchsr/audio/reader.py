"""Read a recording as a stream, and notice whatever goes wrong on the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np

from batchsr.audio import probe
from batchsr.audio.containers.headers import Header
from batchsr.audio.decoders import remedies
from batchsr.audio.decoders.interface import DecodeError, Decoder
from batchsr.audio.probe import SourceInfo, shown
from batchsr.audio.remarks import Remark, bounded
from batchsr.audio.resample import resample_blocks
from batchsr.audio.windows import Block
from batchsr.errors import (
    InputChanged,
    InputError,
    InputFormat,
    InputMissing,
    InputNotFinite,
    InputTruncated,
    InputUnreadable,
)

BLOCK_FRAMES: Final = 65_536
LARGEST_SAMPLE: Final = 1e12
"""+240 dBFS: past any scaling of integers as floats, and its square, summed over a window, is still a float32."""


class Source:
    """A recording held open. The file under the descriptor is the one that was probed, whatever happens to its name."""

    def __init__(self, info: SourceInfo, header: Header, fd: int) -> None:
        self.info = info
        self.remarks: tuple[Remark, ...] = info.remarks
        """What is odd about the file: what the probe saw, and, after a whole pass, what only the samples could show."""
        self._header = header
        self._fd = fd
        self._decoder: Decoder | None = None

    @classmethod
    def open(cls, path: Path, *, accept_truncated: bool = False) -> Source:
        """Probe and open. Raises what `probe` raises."""
        fd, status = probe.open_regular(path)
        try:
            return cls(*probe.examine(path, fd, status, accept_truncated=accept_truncated), fd)
        except BaseException:
            os.close(fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._close_decoder()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _close_decoder(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def blocks(self, block_frames: int = BLOCK_FRAMES) -> Iterator[Block]:
        """Yield the whole recording, float32 (n, C), from its first frame; exactly `info.frames` frames or an error.

        Channels stand in WAV's order (FL FR FC LFE...), whatever the container's.
        Samples over full scale (float and Vorbis sources) come as they are. May be called again when the pass
        before is over or given up; two passes at once are not possible.

        Raises InputNotFinite, InputTruncated, InputFormat, InputUnreadable, InputChanged, InputMissing.
        """
        self._close_decoder()
        position = 0
        try:
            self._decoder = decoder = probe.open_decoder(self._fd, self._header)
            while position < self.info.frames:
                wanted = min(block_frames, self.info.frames - position)
                block = decoder.read(wanted)
                self._check_finite(block, position)
                position += len(block)
                if len(block):
                    yield block
                if len(block) < wanted:
                    raise self._ended_early(position)
        except DecodeError as e:
            raise self._broken(position, e) from e
        self.remarks = bounded((*self.info.remarks, *decoder.remarks))
        self._close_decoder()
        self.check_unchanged()

    def stretch(self, first_frame: int, frames: int) -> Block:
        """Read a part, float32 (n, C): what there is of `frames` frames from `first_frame` on.

        For looking and listening: seams of seeking are a matter of the decoder. Raises InputFormat, InputUnreadable.
        """
        self._close_decoder()
        try:
            decoder = self._decoder = probe.open_decoder(self._fd, self._header)
            if first_frame:
                decoder.seek(first_frame)
            return decoder.read(max(0, min(frames, self.info.frames - first_frame)))
        except DecodeError as e:
            raise self._broken(first_frame, e) from e
        finally:
            self._close_decoder()

    def check_unchanged(self) -> None:
        """Raise InputChanged or InputMissing unless the name still leads to the file that was opened, unwritten."""
        name = shown(self.info.path)
        try:
            now = os.stat(self.info.path)
        except OSError as e:
            raise InputMissing(f"{name} vanished while it was read", remedy="put it back and retry") from e
        opened = (self.info.size_bytes, self.info.mtime_ns, self.info.inode, self.info.device)
        if opened != (now.st_size, now.st_mtime_ns, now.st_ino, now.st_dev):
            message = f"{name} changed while it was read"
            raise InputChanged(message, remedy="enqueue it again once nothing writes to it")

    def _check_finite(self, block: Block, position: int) -> None:
        # One pass over the block in the usual case: NaN and Inf fail this comparison as well.
        if not len(block) or float(np.abs(block).max()) <= LARGEST_SAMPLE:
            return
        bad = ~(np.abs(block) <= LARGEST_SAMPLE)
        frame, channel = (int(i) for i in np.argwhere(bad)[0])
        at_s = (position + frame) / self.info.sample_rate
        what = "a sample too large to compute with" if np.isfinite(block[frame, channel]) else "no number (NaN or Inf)"
        message = f"{shown(self.info.path)} holds {what} at {at_s:.3f} s in channel {channel + 1}"
        raise InputNotFinite(message, remedy="silence or cut the damaged samples in an editor")

    def _ended_early(self, position: int) -> InputError:
        self.check_unchanged()  # a file that shrank has changed, not been cut
        name = shown(self.info.path)
        message = f"{name} is cut short: {self.info.frames:,} frames promised, {position:,} there"
        return InputTruncated(message, remedy=self._remedy("keep what is there"))

    def _broken(self, position: int, e: DecodeError) -> InputError:
        self.check_unchanged()
        name = shown(self.info.path)
        if e.system:
            message = f"{name} cannot be read any further: the system reports an error"
            return InputUnreadable(message, remedy="check the disk, or the share it is on")
        message = f"{name} is damaged {position / self.info.sample_rate:.1f} s or more after its start: {e.message}"
        return InputFormat(message, remedy=self._remedy("keep what can be decoded"))

    def _remedy(self, purpose: str) -> str:
        return remedies.by_ffmpeg(self._fd, shown(self.info.path), purpose, first="copy it again; or ")


def resampled(source: Source, block_frames: int = BLOCK_FRAMES) -> Iterator[Block]:
    """Yield the recording at 48 kHz, float32 (n, C): exactly `source.info.samples_at()` samples, without delay.

    The bytes do not depend on `block_frames`. Raises what `Source.blocks` raises.
    """
    return resample_blocks(source.blocks(block_frames), source.info.rate, source.info.frames)
