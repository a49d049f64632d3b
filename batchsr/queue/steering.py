"""What a person asks of jobs that are in the queue, and what is answered: other instructions, moved files, speed."""

from __future__ import annotations

import dataclasses
from enum import StrEnum


class Answer(StrEnum):
    """What became of a change to one job."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"  # it is so already
    IN_HAND = "in hand"  # a worker has it, and finishes it as it was asked for
    DONE = "done"  # what it made stays as it is
    OVER = "over"  # cancelled or superseded
    TWIN = "twin"  # another job is to do that already
    GONE = "gone"  # no such job (any more)


@dataclasses.dataclass(frozen=True, slots=True)
class Instructions:
    """How a job is to be restored from now on, and where to. Paths are absolute."""

    job_id: int
    identity: str
    settings: str
    """Canonical JSON of profile.Settings."""
    variant: str | None
    output: str
    alt_output: str
    """The name to take when `output` belongs to another job."""
    provenance: str = ""
    overwrite: bool = False
    again: bool = False
    """Also queue it again if it failed, or if it is done."""


@dataclasses.dataclass(frozen=True, slots=True)
class Move:
    """Where a job's files are now. Paths are absolute."""

    job_id: int
    source: str
    output: str
    identity: str
    dedupe_key: str
    size_bytes: int
    mtime_ns: int
    inode: int
    device: int
    wanted: str
    """The output that was first asked for, moved alike."""


@dataclasses.dataclass(frozen=True, slots=True)
class Changed:
    """The answer to one Instructions or Move."""

    job_id: int
    answer: Answer
    output: str = ""
    """The name that its output gets or has; the other job's for a twin."""
    twin: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Speed:
    """What the latest work on this queue took."""

    files: int
    channel_s: float
    """Seconds of audio, counted once for each channel that was restored, or stem of one."""
    busy_s: float
    """Seconds in which at least one worker was at it."""
    variant: str
    device: str
    until: float
    """When the last of it ended, in Unix seconds."""

    @property
    def rtf(self) -> float:
        """Seconds of work for one second of one channel."""
        return self.busy_s / self.channel_s
