"""What a restoration is asked for, and what it gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from batchsr.settings.profile import Settings


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """One file to restore."""

    source: Path
    output: Path
    scratch: Path
    settings: Settings
    overwrite: bool = False
    size_bytes: int | None = None
    """Size when it was enqueued; another size now is InputChanged. None: any."""
    mtime_ns: int | None = None
    tag: str = "0-0"
    """"<job>-<claim>", which makes the temporary's name unique."""
    source_name: str = ""
    """What the source is called on record, where the file is the copy of an object."""
    output_name: str = ""
    """The same of the output, where it is sent to a store when it is finished."""
    e_tag: str = ""
    """The store's mark of that very object."""
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Copied into the sidecar: variant, revision, job, attempts and the like."""
    still_ours: Callable[[], None] = lambda: None
    """Asked right before a file that stands there is replaced; raises where the file is another's to restore by now."""

    @property
    def title(self) -> str:
        """The source's name, without its folders."""
        return (self.source_name or self.source.name).rpartition("/")[2]


@dataclasses.dataclass(frozen=True, slots=True)
class Restored:
    """What was done to a file."""

    output_sha256: str
    output_bytes: int
    source_sha256: str
    windows_total: int
    windows_resumed: int
    audio_s: float
    clipped_samples: int
    sample_rate: int
    channels: int
    frames: int
    wall_s: float
    report: dict[str, Any] = dataclasses.field(repr=False)
    """The sidecar's content."""
    windows_computed_again: int = 0
    """In float32, because half precision overflowed."""
