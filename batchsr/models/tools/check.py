"""Look a bundle over from end to end: keys, shapes, finite weights, hashes, a test window."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from batchsr.errors import BundleError
from batchsr.models import checksums, hub
from batchsr.models.compute import backend

TEST_LEVEL = 0.1
LOUDEST = 4.0
"""A test window of level 0.1 that comes out louder than this has weights that mean nothing."""


def check(variant: str | Path) -> dict[str, Any]:
    """Check a variant, or the bundle in a folder, as it is on disk. Returns what was found, one entry a line.

    Raises BundleError naming what is wrong, ModelUnavailable, NonFiniteOutput when the test window fails.
    """
    location = hub.resolve(variant)
    backend.prepare()
    from batchsr.models.flashsr import bundle
    from batchsr.models.flashsr.model import FlashSR
    from batchsr.models.flashsr.networks import tensor_shapes

    start = time.perf_counter()
    model = FlashSR.from_pretrained(variant)
    loaded_s = time.perf_counter() - start
    digest = checksums.sha256(location.folder / hub.FILES[1], anew=True)
    _check_hash(location, digest)
    shapes = tensor_shapes(model.config)
    counts = bundle.parameter_count(shapes)
    t = np.arange(model.frame_samples) / model.sample_rate
    # A rising tone: every band is visited, and the result is the same every time.
    sound = (TEST_LEVEL * np.sin(2 * np.pi * (100 + 500 * t) * t)).astype(np.float32)
    start = time.perf_counter()
    restored = model.upsample_window(sound)
    window_s = time.perf_counter() - start
    peak = float(np.abs(restored).max())
    if peak > LOUDEST:
        raise BundleError(f"{location.folder}: the test window comes out at {peak:.1f} times full scale")
    sizes = {name: (location.folder / name).stat().st_size for name in hub.FILES}
    return {
        "variant": location.variant,
        "path": str(location.folder),
        "repository": location.repository,
        "revision": model.identity.revision,
        "format": model.config.format,
        "bytes": sizes,
        "sha256": digest,
        "source": location.source,
        "tensors": len(shapes),
        "parameters": {**counts, "all": sum(counts.values())},
        "window_samples": model.frame_samples,
        "device": model.identity.device,
        "dtype": model.identity.dtype,
        "loaded_s": round(loaded_s, 2),
        "test_window_s": round(window_s, 2),
        "test_window_peak": round(peak, 4),
        "warnings": list(model.identity.warnings),
        "ok": True,
    }


def warnings_of(folder: Path) -> list[str]:
    """Return what a bundle's config and header say that this program has no use for, or why they cannot be read.

    Of the weights only those that no result depends on are read. MLX must be prepared (batchsr.models.compute.backend).
    """
    from batchsr.models.flashsr import bundle

    try:
        return list(bundle.open_bundle(folder).warnings)
    except BundleError as e:
        return [str(e)]


def _check_hash(location: hub.Location, sha256: str) -> None:
    """Compare the hash: the hub's cache names large files by their SHA-256; anything else there was damaged on the way
    or on the disk."""
    path = location.folder / hub.FILES[1]
    blob = path.resolve().name
    published = hub.published_checksums(location).get(path.name, blob)
    if re.fullmatch(r"[0-9a-f]{64}", published) and published != sha256:
        raise BundleError(
            f"{path} is not what the hub served: its SHA-256 is {sha256}",
            remedy=f"fetch it again: `batchsr models pull {location.variant} --again`"
            if location.variant in hub.REPOSITORIES
            else "copy it again",
        )
