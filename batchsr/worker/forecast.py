"""What a batch will take before it is begun: disk, by file system, and hours of work, by what was measured here."""

from __future__ import annotations

import dataclasses
import functools
import heapq
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from batchsr import storage
from batchsr.audio.windows import SAMPLE_RATE_HZ
from batchsr.queue import NewJob, Speed
from batchsr.remote.address import is_url
from batchsr.restoration.batcher import WindowModel
from batchsr.settings.profile import Settings
from batchsr.worker.in_flight import MOST_FILES
from batchsr.worker.space import need_of_recording

_CALIBRATION_S: Final = 5.0
_MOST_PASSES: Final = 50


@dataclasses.dataclass(slots=True)
class Room:
    """What is needed on one file system, and what is there."""

    folder: str
    """A folder on it, where most of it goes."""
    output_bytes: int = 0
    """At most: compressed outputs count as if they were not."""
    scratch_bytes: int = 0
    """Of the largest file; freed when its output is published."""
    free_bytes: int = 0

    @property
    def is_enough(self) -> bool:
        """Whether all outputs fit, and the scratch of the largest file at the same time."""
        return self.output_bytes + self.scratch_bytes <= self.free_bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of work for a second of one channel, or stem of one, and where that is known from."""

    work_s: float
    basis: str


class Forecast:
    """Adds up what jobs need."""

    def __init__(self, scratch_folder: Path) -> None:
        self._scratch_folder = scratch_folder
        self._outputs: dict[str, int] = {}
        self._largest: list[int] = []
        self.channel_s = 0.0
        """Seconds of audio, counted once for each channel that is restored, or stem of one."""

    def add(self, job: NewJob, output: str) -> None:
        """Count one more; nothing for one whose header could not be read, since it will fail at once."""
        if job.frames is None or job.sample_rate is None or job.channels is None or job.audio_s is None:
            return
        settings = Settings.from_json(job.settings)
        need = need_of_recording(job.frames, job.sample_rate, job.channels, settings)
        folder = str(self._scratch_folder if is_url(output) else Path(output).parent)
        self._outputs[folder] = self._outputs.get(folder, 0) + need.output_bytes
        self.channel_s += settings.rows_of(job.channels) * job.audio_s
        heapq.heappush(self._largest, need.scratch_bytes)
        if len(self._largest) > MOST_FILES:
            heapq.heappop(self._largest)

    @property
    def scratch_most_bytes(self) -> int:
        """Scratch of as many files as a worker ever has in hand, the largest ones."""
        return sum(self._largest)

    def rooms(self) -> list[Room]:
        """Return what is needed on each file system, the fullest first. Raises OSError."""
        system_of = functools.cache(lambda folder: storage.nearest_existing(folder).stat().st_dev)
        rooms: dict[int, Room] = {}
        for folder, wanted in sorted(self._outputs.items(), key=lambda one: -one[1]):
            room = rooms.setdefault(system_of(Path(folder)), Room(folder))
            room.output_bytes += wanted
        if self._largest:
            room = rooms.setdefault(system_of(self._scratch_folder), Room(str(self._scratch_folder)))
            room.scratch_bytes = max(self._largest)
        for room in rooms.values():
            room.free_bytes = storage.free_bytes(Path(room.folder))
        return sorted(rooms.values(), key=lambda room: room.free_bytes - room.output_bytes - room.scratch_bytes)


def pace_of(speed: Speed) -> Pace:
    """Return the pace of the latest work on a queue."""
    day = time.strftime("%Y-%m-%d", time.localtime(speed.until))
    where = f" on {speed.device}" if speed.device else ""
    files = "the last file" if speed.files == 1 else f"the last {speed.files:,} files"
    return Pace(speed.rtf, f"measured over {files} here, with {Path(speed.variant).name}{where}, until {day}")


def calibrated(
    load: Callable[[], WindowModel],
    variant: str,
    overlap_s: float,
    seconds: float = _CALIBRATION_S,
    *,
    clock_s: Callable[[], float] = time.perf_counter,
) -> Pace:
    """Measure a model for some seconds: passes of noise, after one that warms up. Raises the ModelError family."""
    model = load()
    window = model.windows(999, 0)
    rng = np.random.default_rng(0)
    noise = rng.uniform(-0.1, 0.1, (model.batch_windows, model.frame_samples)).astype(np.float32)
    indices = list(range(model.batch_windows))
    window(noise, indices)
    began_s, passes = clock_s(), 0
    while passes == 0 or (clock_s() - began_s < seconds and passes < _MOST_PASSES):
        window(noise, indices)
        passes += 1
    spent_s = clock_s() - began_s
    hop_s = max(0.01, model.frame_samples / SAMPLE_RATE_HZ - overlap_s)
    identity = model.identity
    basis = (
        f"measured now: {passes * model.batch_windows} windows in {spent_s:.1f} s with "
        f"{Path(variant).name} in {identity.dtype} on {identity.device}"
    )
    return Pace(spent_s / (passes * model.batch_windows) / hop_s, basis)
