"""Write a stream as a sound file: the samples' encoding, and the choice of who lays out the container.

WAV and RF64 are laid out here (batchsr.audio.containers.riff), everything else by libsndfile. Both write through
`Disk`, which keeps the system's own error: libsndfile reports a full disk as a short count, or not at all.

Longer than other modules: the writers share one disk, and what it says when it is full.
"""

from __future__ import annotations

import dataclasses
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import soundfile
from numpy.typing import NDArray

from batchsr.audio.containers import ogg
from batchsr.audio.containers.riff import RiffLayout
from batchsr.audio.dither import quantise
from batchsr.audio.formats import SUBTYPES, WRITTEN
from batchsr.audio.windows import SAMPLE_RATE_HZ, Block
from batchsr.errors import ConfigError, OutputError
from batchsr.storage import output_errors

_BITS: Final = {"PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
_AIFF_LIMIT_BYTES: Final = 2**32 - 2**16
_LOSSY_BLOCK_FRAMES: Final = 2_048


@dataclasses.dataclass(frozen=True, slots=True)
class Embedded:
    """What stands in the file beside the samples."""

    chunks: tuple[tuple[bytes, bytes], ...] = ()
    """RIFF chunks of a WAV, (id, body), in order, before the audio."""
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Texts of the other containers, by libsndfile's names: title, artist, copyright, comment, date..."""
    channel_mask: int | None = None
    """Loudspeakers of a WAV of more than two channels, as WAVE_FORMAT_EXTENSIBLE counts them."""


def check_format(form: str, subtype: str, channels: int, rate_hz: int = SAMPLE_RATE_HZ) -> None:
    """Raise ConfigError or OutputError unless a file of this kind can be written."""
    if form not in SUBTYPES:
        raise ConfigError(f"format {form!r} cannot be written", remedy="choose one of " + ", ".join(SUBTYPES))
    if subtype not in SUBTYPES[form]:
        remedy = f"{form} takes " + ", ".join(SUBTYPES[form])
        raise ConfigError(f"format {form} does not take subtype {subtype}", remedy=remedy)
    if not WRITTEN[form].takes_rate(rate_hz):
        takes = ", ".join(map(str, WRITTEN[form].rates_hz))
        remedy = f"{form} takes {takes} Hz: choose one of them, or --format wav"
        raise ConfigError(f"format {form} cannot be at {rate_hz} Hz", remedy=remedy)
    if channels > WRITTEN[form].channels:
        message = f"{form} takes at most {WRITTEN[form].channels} channels, the recording has {channels}"
        raise OutputError(message, remedy="choose --format wav")


class Writer:
    """A file under construction, at exactly the path given. The same samples always give the same bytes.

    Integer subtypes are dithered. Raises ConfigError or OutputError for what cannot be written, ResourceError
    when the disk is full or fails. fsync and the final name are the caller's.
    """

    def __init__(
        self,
        path: Path,
        channels: int,
        format: str = "wav",
        subtype: str = "PCM_24",
        *,
        frames: int | None = None,
        embedded: Embedded | None = None,
        fd: int | None = None,
        rate_hz: int = SAMPLE_RATE_HZ,
    ) -> None:
        """`frames`, the length of one channel, decides between WAV and RF64 up front; `rate_hz` is what they are at.

        `fd` is an empty file, open for reading and writing, to write into; the caller closes it, and `path` is for
        messages. Without it a new file is made at `path`.
        """
        check_format(format, subtype, channels, rate_hz)
        self.path, self.channels, self.format, self.subtype = path, channels, format, subtype
        self.samples = 0
        """Samples of one channel written so far."""
        self.clipped_samples = 0
        """Samples, over all channels, that were over full scale and were clamped; none in float and lossy formats."""
        self.peak = 0.0
        """Largest absolute value before clamping; full scale is 1."""
        self._rate_hz = rate_hz
        self._bits = _BITS.get(subtype, 0)
        embedded = embedded or Embedded()
        self._disk = Disk(path, fd)
        self._layout: RiffLayout | None = None
        self._encoder: soundfile.SoundFile | None = None
        self._held: Block = np.zeros((0, channels), np.float32)
        try:
            if format == "wav":
                self._layout = RiffLayout(channels, subtype, embedded.chunks, embedded.channel_mask, frames, rate_hz)
                self._disk.write(self._layout.header())
            else:
                self._check_size(frames or 0)
                self._encoder = self._open_encoder(embedded.tags)
            self._disk.check()
        except BaseException:
            self._disk.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        if e is None:
            self.close()
        else:
            self.abandon()

    def write(self, block: Block) -> None:
        """Append (n, C) float32. Raises ValueError for NaN and Inf, which no whole number stands for."""
        if block.ndim != 2 or block.shape[1] != self.channels:
            raise ValueError(f"{block.shape} is not (n, {self.channels})")
        if not len(block):
            return
        peak = float(np.abs(block).max())
        if not np.isfinite(peak):
            raise ValueError(f"NaN or Inf in the samples from {self.samples} on")
        self.peak = max(self.peak, peak)
        self._check_size(self.samples + len(block))
        if self._bits:
            whole, clipped = quantise(block, self._bits, self.samples)
            self.clipped_samples += clipped
            if self._encoder is None:
                self._disk.write(packed(whole, self._bits))
            else:
                self._encode(whole << np.int32(32 - self._bits))
        elif self._encoder is None:
            self._disk.write(block.astype("<f4").tobytes())
        elif WRITTEN[self.format].packing == "lossy":
            self._encode_lossy(block)
        else:
            self._encode(block)
        self.samples += len(block)
        self._disk.check()

    def amend(self, key: bytes, at: int, data: bytes) -> None:
        """Replace bytes of a WAV's bext or iXML chunk, `at` from its body's start; nothing where it has none."""
        start = self._layout.position_of(key) if self._layout is not None else None
        if start is not None:
            self._disk.seek(start + at)
            self._disk.write(data)
            self._disk.seek(self._disk.length)

    def close(self) -> None:
        """Finish the file; a second call does nothing."""
        if self._disk.closed:
            return
        try:
            if self._layout is not None:
                for position, patch in self._layout.finish(self.samples):
                    self._disk.seek(position)
                    self._disk.write(patch)
            elif self._encoder is not None:
                if WRITTEN[self.format].packing == "lossy":
                    self._encode_lossy(np.zeros((0, self.channels), np.float32), last=True)
                self._encoder.close()
                self._disk.check()
                if self.format in ("ogg", "opus"):
                    ogg.number_stream(self._disk)
                elif self.format == "aiff":
                    _blank_peak_time(self._disk)
            self._disk.check()
        except BaseException:
            self.abandon()
            raise
        self._disk.close()

    def abandon(self) -> None:
        """Close without finishing: the file is good for nothing."""
        self._disk.failure = self._disk.failure or OSError("given up")
        if self._encoder is not None:
            self._encoder.close()
        self._disk.close()

    def _open_encoder(self, tags: Mapping[str, str]) -> soundfile.SoundFile:
        encoder = soundfile.SoundFile(
            self._disk,
            "w",
            self._rate_hz,
            self.channels,
            format="OGG" if self.format == "opus" else self.format.upper(),
            subtype=self.subtype,
            compression_level=WRITTEN[self.format].level,
            bitrate_mode="VARIABLE" if self.format == "mp3" else None,
        )
        for name, text in tags.items():
            setattr(encoder, name, text)
        return encoder

    def _encode(self, samples: NDArray[np.int32] | Block) -> None:
        assert self._encoder is not None
        try:
            self._encoder.write(samples)
        except (soundfile.LibsndfileError, AssertionError):  # soundfile asserts that nothing was written short
            self._disk.check()
            raise

    def _encode_lossy(self, block: Block, *, last: bool = False) -> None:
        """Feed the encoder equal portions: others would make other bytes, and long ones overflow libvorbis' stack."""
        if self.format != "mp3" and (order := ogg.WAV_ORDER.get(self.channels)) is not None:
            block = block[:, np.argsort(order)]
        held = np.concatenate([self._held, block])
        whole = len(held) if last else len(held) // _LOSSY_BLOCK_FRAMES * _LOSSY_BLOCK_FRAMES
        for start in range(0, whole, _LOSSY_BLOCK_FRAMES):
            self._encode(held[start : min(start + _LOSSY_BLOCK_FRAMES, whole)])
        self._held = held[whole:]

    def _check_size(self, samples: int) -> None:
        if self.format == "aiff" and samples * self.channels * (self._bits or 32) // 8 > _AIFF_LIMIT_BYTES:
            message = f"{self.path}: AIFF holds no more than 4 GB"
            raise OutputError(message, remedy="choose --format wav, w64, caf or flac")


class Disk:
    """An open output file that remembers the first error of the system instead of losing it in libsndfile.

    libsndfile calls `write`, `seek` and `tell` from C, where an exception would be printed and forgotten.
    """

    def __init__(self, path: Path, fd: int | None = None) -> None:
        self.path = path
        self.failure: OSError | None = None
        self.position = 0
        self.length = 0
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with output_errors(path, "write"):
            self._fd = os.open(path, flags, 0o666) if fd is None else os.dup(fd)

    @property
    def closed(self) -> bool:
        """Whether the descriptor is gone."""
        return self._fd < 0

    def write(self, data: bytes) -> int:
        """Write all of `data` at the position, or note the failure and return 0."""
        if self.failure is not None:
            return 0
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(self._fd, memoryview(data)[done:], self.position + done)
        except OSError as e:
            self.failure = e
            return 0
        self.position += done
        self.length = max(self.length, self.position)
        return done

    def read(self, count: int) -> bytes:
        """At most `count` bytes from the position on."""
        data = os.pread(self._fd, count, self.position)
        self.position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.length}[whence]
        self.position = base + offset
        return self.position

    def tell(self) -> int:
        """Return the position."""
        return self.position

    def check(self) -> None:
        """Raise what went wrong so far as a ResourceError."""
        if self.failure is not None:
            with output_errors(self.path, "write"):
                raise self.failure

    def close(self) -> None:
        """Close the descriptor. Raises ResourceError where only this shows that something was lost."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with output_errors(self.path, "write"):
                os.close(fd)


def packed(whole: NDArray[np.int32], bits: int) -> bytes:
    """Return whole numbers (n, C) as little-endian bytes of `bits` bits each."""
    if bits == 24:
        octets = np.ascontiguousarray(whole, "<i4").view(np.uint8).reshape(-1, 4)
        three = np.empty((len(octets), 3), np.uint8)
        for place in range(3):  # a third of the time of octets[:, :3].tobytes()
            three[:, place] = octets[:, place]
        return three.tobytes()
    return whole.astype("<i2" if bits == 16 else "<i4").tobytes()


def _blank_peak_time(disk: Disk) -> None:
    """libsndfile notes the time of writing in a float AIFF; the same samples must give the same bytes."""
    disk.seek(0)
    head = disk.read(4096)
    position = 12
    while position + 16 <= len(head):
        (length,) = struct.unpack(">I", head[position + 4 : position + 8])
        if head[position : position + 4] == b"PEAK":
            disk.seek(position + 12)
            disk.write(bytes(4))
            return
        position += 8 + length + (length & 1)
