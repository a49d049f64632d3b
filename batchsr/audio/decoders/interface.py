"""What every decoder offers, and how the audio of a file is cut into pieces that decoders can read.

A walk over a file's header, pages or frames (batchsr.audio.containers) finds what there is. Where the file as it
stands says it well enough, libsndfile reads the file. Where it does not, the walk returns pieces, which are read one
after another (batchsr.audio.decoders.opening):

    Part((header, Range(44, 16_000)))            the bytes under a corrected header
    Part((Range(0, 9_000), Range(12_000, 5_000)))   bytes in the middle left out
    Part(..., skip=1105, frames=88_200)          what an encoder put before and behind the sound left out
    Gap(4_410)                                   silence where audio was lost
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from typing import Protocol, TypeAlias

from batchsr.audio.decoders.virtual_file import Segment, VirtualFile
from batchsr.audio.remarks import Remark
from batchsr.audio.windows import Block


class DecodeError(Exception):
    """A decoder cannot go on.

    `system` says that the operating system failed to read, not that the bytes are wrong; `cut` that the file ends too
    early.
    """

    def __init__(self, message: str, *, system: bool = False, cut: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.system = system
        self.cut = cut


class Decoder(Protocol):
    """A recording that can be read from front to back. Every method may raise DecodeError."""

    @property
    def sample_rate(self) -> int:
        """Hz, an integer."""
        ...

    @property
    def channels(self) -> int: ...

    @property
    def frames(self) -> int:
        """Samples of one channel, by what the decoder knows before it decodes."""
        ...

    @property
    def format(self) -> str:
        """Name of the container, as libsndfile has it: "WAV", "OGG", "MP3"..."""
        ...

    @property
    def subtype(self) -> str:
        """Name of the sample format, as libsndfile has it: "PCM_16", "VORBIS"..."""
        ...

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """What was found odd; complete only when the last frame has been read."""
        ...

    def read(self, frames: int) -> Block:
        """Return the next samples, float32 (n, channels), n at most `frames` and less only at the end."""
        ...

    def seek(self, frame: int) -> None:
        """Go to a frame, counted from 0; the next `read` begins there."""
        ...

    def close(self) -> None:
        """Let go of what it holds; a second call does nothing. The file's descriptor stays open."""
        ...


Opener: TypeAlias = Callable[[VirtualFile], Decoder]


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A stretch of audio that one decoder can read."""

    segments: tuple[Segment, ...] | None = None
    """The bytes as the decoder shall see them; None: the file as it is."""
    skip: int = 0
    """Frames that stand before the first one of the recording, as an encoder's delay."""
    frames: int | None = None
    """How many frames there are from then on, at most; None: all that the decoder has."""
    opener: Opener | None = None
    """Who decodes; None: libsndfile."""
    ends_at: Fraction | None = None
    """When it ends, in seconds, by the file's own clock. What is missing between two parts that say so is silence."""

    starts_at: Fraction | None = None
    """When the recording began that it belongs to, where its own beginning is lost: what is missing is silence."""


@dataclasses.dataclass(frozen=True, slots=True)
class Gap:
    """Silence at a place where audio is lost."""

    frames: int
    """At the sample rate of the part before it, or of the part behind where there is none before."""


Piece: TypeAlias = Part | Gap
