"""A second model with weights, as its author would write it: a bundle of its own kind, one convolution.

A folder of it holds `blur.json` (samples of a window, rows of a pass) and `kernel.npy`. One variant has a name, `blur`;
it lies where BATCHSR_BLUR says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from batchsr.errors import BundleError, ModelUnavailable
from batchsr.models import registry
from batchsr.models.hub import Location
from batchsr.models.identity import About, ModelIdentity
from batchsr.models.interface import Rows, WindowFn, WindowModel
from batchsr.storage import sha256

ABOUT = About(name="blur", says="one convolution", label="Blur", synthesises=True)


def write(folder: Path, taps: Sequence[float] = (0.25, 0.5, 0.25), frame_samples: int = 4800) -> Path:
    """Make a bundle."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "kernel.npy", np.asarray(taps, np.float32))
    (folder / "blur.json").write_text(json.dumps({"frame_samples": frame_samples, "batch_windows": 2}))
    return folder


class Blur:
    """The model, loaded."""

    def __init__(self, variant: str, folder: Path) -> None:
        try:
            config = json.loads((folder / "blur.json").read_text())
            self._kernel = np.load(folder / "kernel.npy")
        except (OSError, ValueError) as e:
            raise BundleError(f"{folder}: {e}", remedy="make the bundle anew") from e
        digest = sha256(folder / "kernel.npy")
        self.about = ABOUT
        self.frame_samples: int = config["frame_samples"]
        self.batch_windows: int = config["batch_windows"]
        self.identity = ModelIdentity(variant, None, f"sha256:{digest}", digest, "float32", "cpu", "none")

    def windows(self, timestep: int, seed: int) -> WindowFn:
        def restore(rows: Rows, indices: Sequence[int]) -> Rows:
            hiss = [np.random.default_rng([seed, index]).normal(0, 1e-3, self.frame_samples) for index in indices]
            out = [np.convolve(row, self._kernel, "same") for row in rows]
            return (np.stack(out) + np.stack(hiss)).astype(np.float32)

        return restore

    def shrink(self) -> bool:
        return False


class BlurFamily:
    """The model, not loaded: see batchsr.models.family."""

    def variants(self) -> tuple[str, ...]:
        return ("blur",)

    def holds(self, folder: Path) -> bool:
        return (folder / "blur.json").is_file()

    def load(
        self, variant: str | Path, *, dtype: str | None, device: str | None, say: Callable[[str], None]
    ) -> WindowModel:
        return Blur(str(variant), self._folder(variant))

    def installed(self) -> list[dict[str, Any]]:
        folder = self._folder("blur")
        is_here = self.holds(folder)
        row = {"variant": "blur", "repository": None, "cached": is_here, "source": None, "revision": None}
        return [{**row, "bytes": 1 if is_here else None, "path": str(folder) if is_here else None}]

    def pull(self, variant: str, *, progress: bool, again: bool) -> Location:
        folder = self._folder(variant)
        if not self.holds(folder):
            raise ModelUnavailable(f"the model {variant} is not here", remedy="make it")
        return Location(variant, folder)

    def check(self, variant: str | Path) -> dict[str, Any]:
        model = Blur(str(variant), self._folder(variant))
        return {"variant": str(variant), "sha256": model.identity.weights_sha256, "warnings": [], "ok": True}

    def warnings(self, folder: Path) -> list[str]:
        return []

    def look_over(self, dtype: str | None, device: str | None) -> tuple[dict[str, Any], bool]:
        return {"backend": "NumPy", "self_test": "float32: passed"}, False

    def _folder(self, variant: str | Path) -> Path:
        return Path(os.environ.get("BATCHSR_BLUR", "nowhere")) if variant == "blur" else Path(variant)


ENTRY = registry.Entry(ABOUT, BlurFamily)
