"""What the queue holds: a job's states, a job as it comes in, a job as it stands.

Longer than other modules: a row has many columns, and how names are stored belongs to them.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import hashlib
import json
import os
import unicodedata
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from batchsr.queue.roots import portable


class State(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"  # a worker may claim it
    WAITING = "waiting"  # a worker may claim it when its backoff is over
    RUNNING = "running"  # a worker owns it
    COMMITTING = "committing"  # its owner has the whole output and is giving it its name
    DONE = "done"  # the output is there, its hash in the row
    FAILED = "failed"  # given up: the input, or too many attempts
    QUARANTINED = "quarantined"  # its workers died on it again and again without a window of progress
    CANCELLED = "cancelled"  # nobody wants it any more
    SUPERSEDED = "superseded"  # its source changed before it was done; a newer job has taken its place


OWNED: Final = (State.RUNNING, State.COMMITTING)
LIVE: Final = (State.QUEUED, State.WAITING, State.RUNNING, State.COMMITTING)
TERMINAL: Final = (State.DONE, State.FAILED, State.QUARANTINED, State.CANCELLED, State.SUPERSEDED)


class Outcome(StrEnum):
    """What `enqueue` did with one path."""

    QUEUED = "queued"
    ALREADY_QUEUED = "already queued"
    ALREADY_DONE = "already done"
    OTHER_SETTINGS = "other settings"  # a job restores this source to this output already, in another way: not taken
    UPDATED = "updated"  # that job takes the settings asked for now, and is queued
    DONE_AGAIN = "done again"  # it was done, its output is gone: queued again
    SUPERSEDING = "superseding"  # queued; an unfinished job of the same path, now changed, made way
    OWN_OUTPUT = "is our own output"
    NEEDS_RETRY = "needs retry"  # failed, quarantined or cancelled before; `retry` takes it up again


@dataclasses.dataclass(frozen=True, slots=True)
class NewJob:
    """A file to restore. Paths are absolute, as os.fsdecode gives them: they may hold surrogates."""

    source: str
    output: str
    alt_output: str
    """The name to take when `output` belongs to another job, even if it differs in case alone."""
    identity: str
    """What makes the source this very file: path, size and mtime, or a hash of its content."""
    settings: str
    """Canonical JSON of profile.Settings."""
    variant: str | None = None
    """None leaves it to the worker that claims the job."""
    batch: str = ""
    priority: int = 0
    """Higher goes first."""
    overwrite: bool = False
    size_bytes: int | None = None
    mtime_ns: int | None = None
    inode: int | None = None
    device: int | None = None
    """st_dev of the source: another one later means that the share is not mounted."""
    frames: int | None = None
    """Samples of one channel; None, like the next three, when the source's header could not be read."""
    sample_rate: int | None = None
    channels: int | None = None
    audio_s: float | None = None
    note: str = ""
    provenance: str = ""
    """JSON object of where the settings came from (profile, manifest, notes); not part of what makes a job the same."""

    @property
    def dedupe_key(self) -> str:
        """Identifies the work: this source, restored like this, to there. SHA-256, hexadecimal."""
        return dedupe_key_of(self.identity, self.settings, self.variant, self.output)


@dataclasses.dataclass(frozen=True, slots=True)
class Enqueued:
    """What became of one NewJob."""

    job_id: int | None
    """None for our own output."""
    outcome: Outcome
    output: str
    """The name that the output gets or has."""
    state: State | None
    source: str
    beside: int | None = None
    """Another job that restores the same source, to another output."""


@dataclasses.dataclass(frozen=True, slots=True)
class Backend:
    """What computes: a claimed job is bound to it, since another one may give other bytes."""

    variant: str
    revision: str
    weights_sha256: str
    dtype: str
    device: str
    batch_windows: int
    repository: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What a restoration found and made; None where it does not know."""

    output_sha256: str
    output_bytes: int
    source_sha256: str | None = None
    windows_total: int | None = None
    windows_resumed: int | None = None
    audio_s: float | None = None
    sample_rate: int | None = None
    channels: int | None = None
    frames: int | None = None
    clipped_samples: int | None = None
    wall_s: float | None = None
    """Seconds spent on the file, over all attempts, as its sidecar has it; None leaves it to the queue's own count."""
    report: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """A row of the queue, as of when it was read. Times are Unix seconds."""

    id: int
    state: State
    batch: str
    priority: int
    source: str
    output: str
    overwrite: bool
    identity: str
    dedupe_key: str
    settings: str
    wanted_variant: str | None
    variant: str | None
    repository: str | None
    revision: str | None
    weights_sha256: str | None
    dtype: str | None
    device: str | None
    batch_windows: int | None
    size_bytes: int | None
    mtime_ns: int | None
    inode: int | None
    source_device: int | None
    frames: int | None
    sample_rate: int | None
    channels: int | None
    audio_s: float | None
    claim_seq: int
    """The fence: it rises with every claim, and a worker may write only while it is still its own."""
    worker: str | None
    windows_done: int
    windows_total: int | None
    attempts: int
    """Claims that counted: interrupts and full disks give theirs back."""
    failures: int
    """Transient failures in a row without a window of progress."""
    crashes: int
    """Dead workers in a row without a window of progress."""
    outages: int
    """Deaths in a row that say nothing about the file: a machine that went down, many workers at one moment."""
    last_try: int
    """1 after it was taken out of quarantine to be tried once more, alone."""
    held: int | None
    """The place (batchsr.queue.trouble) in trouble for which a queued job waits."""
    wall_s: float
    """Seconds awake spent on the file, over all attempts."""
    run_at: float | None
    error_code: str | None
    error: str | None
    note: str
    provenance: str
    source_sha256: str | None
    output_sha256: str | None
    output_bytes: int | None
    windows_resumed: int | None
    clipped_samples: int | None
    report: str | None
    """While it is in flight, once the output is whole; then the sidecar has it, or the queue's own keeping."""
    remarks_json: str | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    changed_at: float

    @property
    def rtf(self) -> float | None:
        """Seconds spent for one second of audio; less than 1 is faster than real time."""
        return self.wall_s / self.audio_s if self.audio_s else None

    @property
    def remarks(self) -> tuple[Mapping[str, str], ...]:
        """What was odd about the source, {"code", "message"} each; () until the job is done."""
        try:
            found = json.loads(self.remarks_json or "[]")
            return tuple({"code": str(one["code"]), "message": str(one["message"])} for one in found)
        except (ValueError, AttributeError, TypeError, KeyError):  # a report of another program's making
            return ()

    @property
    def tag(self) -> str:
        """Names this claim of this job, in the temporary's name."""
        return f"{self.id}-{self.claim_seq}"

    @property
    def scratch_name(self) -> str:
        """Name of its scratch file; the key in it keeps a queue made anew from believing an old one's."""
        return f"{self.id}-{self.dedupe_key[:16]}.slots"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, for `list --json` and the reports. Paths keep their surrogates."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in _INTERNAL}
        settings, digest = _settings(self.settings)
        return values | {
            "state": str(self.state),
            "held": self.held is not None,
            "settings": settings,
            "settings_sha256": digest,
            "provenance": json.loads(self.provenance or "{}"),
            "rtf": self.rtf,
            "remarks": list(self.remarks),
            "created_at": iso(self.created_at),
            "started_at": iso(self.started_at),
            "finished_at": iso(self.finished_at),
            "retry_at": iso(self.run_at),
        }


_INTERNAL: Final = frozenset(
    ("dedupe_key", "identity", "inode", "source_device", "report", "remarks_json", "changed_at", "run_at", "last_try")
)


@functools.lru_cache(maxsize=256)  # a batch has the same few settings
def _settings(text: str) -> tuple[dict[str, Any], str]:
    """Return the settings as an object, and their digest. Not to be changed."""
    return json.loads(text), hashlib.sha256(text.encode()).hexdigest()


def iso(timestamp: float | None) -> str | None:
    """UTC in ISO 8601, to the millisecond."""
    if timestamp is None:
        return None
    return datetime.datetime.fromtimestamp(timestamp, datetime.UTC).isoformat(timespec="milliseconds")


class PathBytes(bytes):
    """A path that is no UTF-8: its bytes, told apart from other bytes since not every database keeps both alike."""


def stored_path(path: str) -> str | bytes:
    """Return a path as the database keeps it: text, or its bytes where they are no UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return PathBytes(os.fsencode(path))
    return path


def loaded_path(value: str | bytes) -> str:
    """Return the path that `stored_path` was given."""
    return value if isinstance(value, str) else os.fsdecode(value)


def stored_text(text: str) -> str:
    """Return text that SQLite takes: stray bytes of a file's name become backslash escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def dedupe_key_of(identity: str, settings: str, variant: str | None, output: str) -> str:
    """Return what identifies work, on every host: this source, restored like this, to there. SHA-256, hexadecimal."""
    parts = (portable(identity), settings, variant or "", portable(output))
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def exact_key(path: str) -> str:
    """Equal for equal paths; of fixed length, whatever the bytes."""
    return _exact_key(portable(path))


def folded_key(path: str) -> str:
    """Equal for paths that some file system takes for one: differing in case or in Unicode composition."""
    return _folded_key(portable(path))


@functools.lru_cache(maxsize=4096)  # enqueueing asks for the same few names again and again
def _exact_key(path: str) -> str:
    return hashlib.blake2b(os.fsencode(path), digest_size=16).hexdigest()


@functools.lru_cache(maxsize=4096)
def _folded_key(path: str) -> str:
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
    return hashlib.blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def signed(value: int | None) -> int | None:
    """Inode and device numbers are unsigned 64-bit, SQLite's integers are signed."""
    return None if value is None else (value + 2**63) % 2**64 - 2**63
