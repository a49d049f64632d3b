"""Room on the disks for a file before it is begun: what it and the files in flight will still write.

A day of stereo takes tens of gigabytes of scratch and as many of output. To find out in the last hour that
they do not fit would cost the day; so they are reserved, on paper, before a claim.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from batchsr import storage
from batchsr.audio import formats
from batchsr.audio.windows import SAMPLE_RATE_HZ, Plan
from batchsr.errors import ConfigError
from batchsr.queue import Job, Side, State
from batchsr.remote.address import is_url, path_of
from batchsr.restoration.scratch import HEADER, stems_bytes
from batchsr.restoration.spool import spool_bytes
from batchsr.settings.profile import Settings

FRAME_SAMPLES: Final = 245_760
"""Window of the published models, for an estimate before a model is loaded."""
_PACKED_SAMPLE_BYTES: Final = 1
"""The most that a sample takes which is packed with loss: 384 kbit/s and channel at 48 kHz, more than is written."""


@dataclasses.dataclass(frozen=True, slots=True)
class Shortage:
    """A file system without the room that a job needs."""

    folder: Path
    side: Side
    words: str
    for_all: bool
    """Whether it has too little for any job, however small."""

    def __str__(self) -> str:
        return self.words


@dataclasses.dataclass(frozen=True, slots=True)
class Need:
    """What one job will still compute and write. Compressed outputs count as if they were not."""

    rows: int = 0
    """Windows, counted once for each channel."""
    scratch_bytes: int = 0
    output_bytes: int = 0


def need_of(job: Job, frame_samples: int = FRAME_SAMPLES) -> Need:
    """Estimate from what the queue knows; nothing for a job whose header or settings cannot be read: it fails.

    Of an object in a store only its size is known before it is fetched: that much goes for its copy.
    """
    if is_url(job.source) and job.state is not State.COMMITTING:
        return Need(scratch_bytes=job.size_bytes or 0)
    if job.frames is None or job.sample_rate is None or job.channels is None or job.state is State.COMMITTING:
        return Need()
    try:
        settings = Settings.from_json(job.settings)
    except ConfigError:
        return Need()
    return need_of_recording(
        job.frames, job.sample_rate, job.channels, settings, frame_samples=frame_samples, windows_done=job.windows_done
    )


def need_of_recording(
    frames: int,
    rate_hz: int,
    channels: int,
    settings: Settings,
    *,
    frame_samples: int = FRAME_SAMPLES,
    windows_done: int = 0,
) -> Need:
    """Return the same from what a header says: samples of one channel, their rate, the number of channels."""
    rows, channels = settings.rows_of(channels), settings.channels_of(channels)
    samples = -(-frames * SAMPLE_RATE_HZ // rate_hz)
    copies = sum(formats.WRITTEN[form].copy_bytes_a_second for form in settings.also.split(",") if form)
    slots = max(0, Plan.of(samples, frame_samples, settings.overlap).count - windows_done)
    return Need(
        rows=slots * rows,
        scratch_bytes=slots * (HEADER.size + 4 * rows * frame_samples)
        + (spool_bytes(samples, channels) if settings.denoise != "off" else 0)
        + (stems_bytes(samples, channels) if settings.stems != "off" else 0),
        output_bytes=-(-frames * settings.rate // rate_hz)
        * (channels + rows if settings.stems == "files" else channels)
        * formats.SAMPLE_BYTES.get(settings.subtype, _PACKED_SAMPLE_BYTES)
        + copies * channels * -(-frames // rate_hz),
    )


def shortage(
    following: Job,
    in_flight: Iterable[Job],
    scratch_folder: Path,
    min_free_bytes: float,
    *,
    frame_samples: int = FRAME_SAMPLES,
) -> Shortage | None:
    """Return which file system would have less than `min_free_bytes` left when these jobs are done; None if none."""
    own = _by_file_system([following], scratch_folder, frame_samples)
    others = _by_file_system(in_flight, scratch_folder, frame_samples)
    for system, (folder, side, wanted) in own.items():
        taken = others[system][2] if system in others else 0
        free_bytes = storage.free_bytes(folder)
        if free_bytes - wanted - taken < min_free_bytes:
            parts = [f"{folder} has {free_bytes / 1e9:.2f} GB free, less than --min-free {min_free_bytes / 1e9:.2f} GB"]
            if wanted:
                parts.append(f"{wanted / 1e9:.2f} GB for {following.source}")
            if taken:
                parts.append(f"{taken / 1e9:.2f} GB for the files in flight")
            return Shortage(folder, side, " and ".join(parts), free_bytes < min_free_bytes)
    return None


def _by_file_system(jobs: Iterable[Job], scratch_folder: Path, frame_samples: int) -> dict[int, tuple[Path, Side, int]]:
    """For each device number a folder on it, what it is for, and the bytes that the jobs need there.

    What is larger than the whole disk, as where a header lies, is not waited for: the restoration refuses it at once.
    """
    needs: dict[int, tuple[Path, Side, int]] = {}
    most_of = functools.cache(storage.total_bytes)
    system_of = functools.cache(lambda folder: storage.nearest_existing(folder).stat().st_dev)  # most share folders
    for job in jobs:
        need = need_of(job, frame_samples)
        places: Sequence[tuple[Path, Side, int]] = (
            (scratch_folder if is_url(job.output) else path_of(job.output).parent, "output", need.output_bytes),
            (scratch_folder, "scratch", need.scratch_bytes),
        )
        for folder, side, wanted in places:
            system = system_of(folder)
            if wanted > most_of(folder):
                continue
            first, use, sum_bytes = needs.get(system, (folder, side, 0))
            needs[system] = first, use, sum_bytes + wanted
    return needs
