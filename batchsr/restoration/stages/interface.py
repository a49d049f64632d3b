"""What a stage is: a step of a recording's stream, what must be known before it, and what it says of itself.

A stage is a module beside this one with a class, which is a `Stage`, and four functions, which make it a `Kind`. It is
a function from a stream of blocks (n, C) float32 to one of the same length, of its settings and of what was decided: no
sample may depend on where an attempt began, on threads or on the size of blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

from batchsr.audio.windows import Block

if TYPE_CHECKING:
    from batchsr.audio.files import SourceInfo
    from batchsr.audio.remarks import Remark
    from batchsr.audio.treatment import Treatment
    from batchsr.restoration.spool import Spool
    from batchsr.settings.profile import Settings

Position = Literal["recording", "resampled", "model"]
"""Where on the way: before the resampler, behind it, or for the model alone."""


class Stage(Protocol):
    """One step. Made anew for each stream, so it may keep what it finds in itself."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int:
        """Raise it when the same stream and settings would give other samples."""
        ...

    @property
    def position(self) -> Position: ...
    @property
    def context_samples(self) -> int:
        """How far before and behind a sample the stage looks, in samples of its stream, at most."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """What its samples depend on beside the stream, JSON-able."""
        ...

    @property
    def found(self) -> Mapping[str, Any]:
        """What it found and decided, JSON-able; empty for a stage that decides nothing."""
        ...

    @property
    def measured(self) -> Mapping[str, Any]:
        """What was measured while it ran, JSON-able: known once its stream was read to its end, and empty before."""
        ...

    @property
    def done(self) -> str:
        """What it did to the recording, in words that end "the recording was ...": "de-clicked"; "" for nothing."""
        ...

    def channels(self, channels: int) -> int:
        """Return how many channels come out for so many."""
        ...

    def run(self, blocks: Iterator[Block], total_samples: int) -> Iterator[Block]:
        """Yield the stream behind it; `total_samples` is the length of one channel."""
        ...


class Quiet:
    """The base of a stage that says no more of itself than its settings; a stage overrides what it does say."""

    __slots__ = ()

    @property
    def found(self) -> Mapping[str, Any]:
        """Nothing is found or decided."""
        return {}

    @property
    def measured(self) -> Mapping[str, Any]:
        """Nothing is measured."""
        return {}

    @property
    def done(self) -> str:
        """Nothing that an output must be marked for."""
        return ""


class Listening(Protocol):
    """A recording, as a stage may listen to it before anything is decided about itself."""

    settings: Settings
    info: SourceInfo
    channels: int
    """Of the streams below."""
    resampled_digest: bytes
    """BLAKE2b of the recording at 48 kHz; whoever reads all of it may note it here."""

    def at_own_rate(self, treatment: Treatment) -> Iterator[Block]:
        """Yield a whole pass behind the stages at its own rate, as far as they are decided."""
        ...

    def at_48_khz(self, treatment: Treatment) -> Iterator[Block]:
        """Yield a whole pass behind the resampler."""
        ...

    def remark(self, remark: Remark) -> None:
        """Put on record what is odd about the source."""
        ...


class Kind(Protocol):
    """A module with a stage."""

    def decide(self, recording: Listening, treatment: Treatment) -> object | None:
        """Return what must be known of the whole recording first; None where it is off, or need know nothing.

        `treatment` is what was decided for the stages in front of it. What is returned compares equal for an equal
        recording, and stands in `Treatment.decided` under the stage's name.
        """
        ...

    def made(self, settings: Settings, treatment: Treatment, rate_hz: float, filled: Spool | None) -> Stage | None:
        """Return the stage for one stream of a recording at `rate_hz`; None where it is off or not decided yet."""
        ...

    def fact(self, entry: Mapping[str, Any]) -> tuple[str, str] | None:
        """Return its line for `show` and pages, a label and words, from its entry in a sidecar; None for none.

        The entry may have been written by anybody: what is not of the kind that it should be is left out.
        """
        ...

    def sentence(self, entry: Mapping[str, Any]) -> str:
        """Return what it did as a sentence for `explain`, from its entry likewise."""
        ...
