"""The record of what was done to one file: the sidecar beside its output."""

from __future__ import annotations

import datetime
import functools
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from batchsr import __version__, storage
from batchsr.restoration.sidecar_reading import SCHEMA

if TYPE_CHECKING:
    from batchsr.audio.files import SourceInfo
    from batchsr.audio.remarks import Remark
    from batchsr.audio.treatment import Synthetic, Treatment
    from batchsr.audio.windows import Plan
    from batchsr.restoration.measurements import Measurements
    from batchsr.restoration.task import Restored, Task

NOTHING_MADE_UP: Final = "Nothing in it is synthetic: it is the recording itself at another rate."
_LIBRARIES: Final = ("mlx", "numpy", "scipy", "soundfile", "soxr")


def sidecar_path(output: Path) -> Path:
    """`<output>.json`, beside the output; shortened where that is longer than a name can be."""
    return output.with_name(storage.fitted_name(output.name, ".json"))


def sidecar(
    task: Task,
    info: SourceInfo,
    plan: Plan,
    restored: Restored,
    treatment: Treatment,
    made_up: Synthetic,
    measurements: Measurements,
    remarks: Sequence[Remark],
    stages: Sequence[Mapping[str, Any]],
    done: str,
) -> dict[str, Any]:
    """Return the provenance of one output, JSON-able, as sidecar.schema.json describes it.

    stages: their entries, with what was measured. done: what they did to the recording, in words; "" for nothing.
    """
    settings = json.loads(task.settings.to_json())
    heard = measurements.source()
    return {
        "schema": SCHEMA,
        "note": _note(made_up, done),
        "synthetic": _synthetic(made_up),
        "source": {
            "path": task.source_name or os.path.abspath(task.source),
            **({"e_tag": task.e_tag} if task.e_tag else {}),
            "sha256": restored.source_sha256,
            "size_bytes": info.size_bytes,
            "modified": modified(info.mtime_ns),
            "format": info.format,
            "subtype": info.subtype,
            "decoder": info.decoder,
            "sample_rate_hz": info.sample_rate,
            "channels": info.channels,
            "frames": info.frames,
            "duration_s": info.duration_s,
            **heard,
            "remarks": [remark.to_dict() for remark in remarks],
        },
        "output": {
            "path": task.output_name or os.path.abspath(task.output),
            "sha256": restored.output_sha256,
            "size_bytes": restored.output_bytes,
            "format": task.settings.format,
            "subtype": task.settings.subtype,
            "sample_rate_hz": task.settings.rate,
            "frames": info.samples_at(task.settings.rate),
            "clipped_samples": restored.clipped_samples,
            **measurements.output(),
        },
        "settings": settings,
        "settings_sha256": task.settings.digest(),
        "treatment": _treated(treatment),
        "stages": [dict(stage) for stage in stages],
        "model": {key: value for key, value in task.provenance.items() if key != "job"},
        "job": task.provenance.get("job", {}),
        "windows": {
            "total": restored.windows_total,
            "resumed": restored.windows_resumed,
            "computed_again_in_float32": restored.windows_computed_again,
            "frame_samples": plan.frame_samples,
            "overlap_samples": plan.overlap_samples,
        },
        "program": {
            "name": "batchsr",
            "version": __version__,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "libraries": {name: _version(name) for name in _LIBRARIES},
        },
        "finished": _iso(datetime.datetime.now(datetime.UTC).timestamp()),
        "wall_s": round(restored.wall_s, 3),
        "rtf": round(restored.wall_s / restored.audio_s, 4),
    }


def _treated(treatment: Treatment) -> dict[str, Any]:
    crossover = treatment.crossover
    return {
        "only_resampled": treatment.bypass,
        "lowpass_hz": treatment.lowpass_hz,
        "kept_below_hz": crossover.pass_hz if crossover else None,
        "synthesised_above_hz": crossover.stop_hz if crossover else None,
    }


def _synthetic(made_up: Synthetic) -> dict[str, Any]:
    return {
        "above_hz": made_up.above_hz,
        "recording_below_hz": made_up.recording_below_hz,
        "sentence": made_up.sentence or NOTHING_MADE_UP,
        "digital_source_type": made_up.source_type,
    }


def _note(made_up: Synthetic, done: str) -> str:
    """Return what a person must read before taking the output for the recording."""
    before = f" The recording was {done} before." if done else ""
    if made_up.above_hz is None:
        return f"An access derivative. {NOTHING_MADE_UP}{before}"
    return f"An access derivative, not the recording. {made_up.sentence}{before}"


def modified(mtime_ns: int) -> str:
    """Return a file's time as sidecars have it: UTC in ISO 8601, to the second."""
    return _iso(storage.kept_ns(mtime_ns) / 1e9)


def _iso(timestamp: float) -> str:
    return datetime.datetime.fromtimestamp(timestamp, datetime.UTC).isoformat(timespec="seconds")


@functools.cache  # reading a package's metadata takes a millisecond, and a batch has many files
def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
