"""The self-test: one window of `tiny`, computed on the device and in the precision that will be used, is compared with
what it is known to be before anything is restored.

The reference is in the package, computed in float32 on a CPU (scripts/make_reference.py). Every stage is compared: as
a whole, and in small pieces, since a kernel that lies in one place changes little of the whole. A test that was passed
is remembered (batchsr.models.compute.proven); `batchsr doctor` makes it always.
"""

from __future__ import annotations

import dataclasses
import functools
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from batchsr.audio.loops import is_kept
from batchsr.errors import ModelError, SelfTestFailed
from batchsr.models import hub
from batchsr.models.compute import proven

if TYPE_CHECKING:
    from batchsr.models.compute.backend import Backend
    from batchsr.models.flashsr.networks import Networks

REFERENCE_NAME: Final = "self_test.npz"
"""Beside the weights of `tiny`."""
TIMESTEP: Final = 999
TOLERANCES: Final = {"float32": (1e-4, 1e-3), "float16": (3e-3, 1.5e-2), "bfloat16": (2.5e-2, 1.5e-1)}
"""Relative distance to the reference, of the whole of a stage and of its worst piece. Measured:
docs/measurements.md, "Self-test"."""
PIECE_VALUES: Final = 64
"""Neighbouring values of a piece: 1.3 ms of sound."""
_QUIET: Final = 0.1
"""Share of the root mean square of the whole: quieter pieces count as if they had it."""
_WHAT: Final = "a window of tiny"


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What a self-test found."""

    distance: float
    """The largest of a stage's distances, relative to the reference."""
    worst_piece: float
    """That of the worst piece of any stage."""
    stage: str
    """The first stage outside the tolerance, else the one that is furthest off."""
    passed: bool
    ms_a_window: float | None = None
    """The second of two passes of one row, so that nothing is compiled in it; None if there was one pass."""
    peak_bytes: int = 0
    """What MLX's arrays took beside the weights in it."""

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "FAILED"
        return f"{verdict}, off by {self.distance:.1e} (worst piece {self.worst_piece:.1e}, {self.stage})"


def ensure(backend: Backend, say: Callable[[str], None]) -> None:
    """Make the self-test, unless it was passed here before and the loops are compiled.

    Raises SelfTestFailed, and ModelError without `tiny`.
    """
    circumstances = proven.circumstances(backend.device, backend.dtype)
    whole, _ = TOLERANCES[backend.dtype]
    known = proven.remembered(_WHAT, circumstances)
    if known is not None and known < whole and (backend.device != "cpu" or _loops_are_kept()):
        return
    say(f"testing {backend.label} in {backend.dtype} with a window whose restoration is known, once for this machine")
    outcome = run(backend)
    if not outcome.passed:
        raise failure(backend, outcome)


def _loops_are_kept() -> bool:
    """Return whether the CPU's loops were compiled before; where not the test's window compiles them, and no file's."""
    from batchsr.models.compute import loops

    return is_kept(loops.convolve)


def failure(backend: Backend, outcome: Outcome) -> SelfTestFailed:
    """Return the error for a test that was not passed."""
    ways = []
    if backend.dtype != "float32":
        ways.append("--dtype float32")
    if backend.device != "cpu":
        ways.append("--device cpu")
    remedy = f"try {' or '.join(ways)}" if ways else "install batchsr and its packages anew"
    return SelfTestFailed(
        f"{backend.label} computes a known window wrongly in {backend.dtype}: off by {outcome.distance:.1e}, in the "
        f"worst place by {outcome.worst_piece:.1e}, first seen after the stage {outcome.stage}; nothing was restored",
        remedy=f"{remedy}; `batchsr doctor` repeats the test, `batchsr doctor --share` prints what to report",
    )


def run(backend: Backend, *, timed: bool = False) -> Outcome:
    """Make the self-test, `timed` with a second pass, and remember it if it is passed.

    Raises ModelError if `tiny` or its reference is damaged.
    """
    import mlx.core as mx

    from batchsr.models.flashsr import bundle

    folder = hub.resolve("tiny").folder
    reference = read_reference(folder)
    config, networks = bundle.load(folder, backend.mlx_dtype())
    given = window(config.audio.frame_samples, config.noise_shape)
    found = stages(networks, *given)
    distances = {name: distances_of(found[name], reference[name]) for name in found}
    outcome = _judged(distances, backend.dtype)
    if timed:
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        began = time.perf_counter()
        stages(networks, *given)
        ms = 1e3 * (time.perf_counter() - began)
        peak_bytes = max(0, mx.get_peak_memory() - before)
        outcome = dataclasses.replace(outcome, ms_a_window=ms, peak_bytes=peak_bytes)
    if outcome.passed:
        proven.remember(_WHAT, proven.circumstances(backend.device, backend.dtype), outcome.distance)
    return outcome


def _judged(distances: dict[str, tuple[float, float]], dtype: str) -> Outcome:
    whole, piece = TOLERANCES[dtype]
    wrong = [name for name, (a, b) in distances.items() if not (a < whole and b < piece)]  # NaN is never within
    worst = max(distances, key=lambda name: distances[name][0] / whole + distances[name][1] / piece)
    distance, worst_piece = (float(np.max(column)) for column in zip(*distances.values(), strict=True))
    return Outcome(distance, worst_piece, wrong[0] if wrong else worst, not wrong)


def stages(networks: Networks, sound: np.ndarray, noise: np.ndarray) -> dict[str, np.ndarray]:
    """Return what each stage makes of a window, float32."""
    import mlx.core as mx

    from batchsr.models.flashsr.schedule import step_weights

    weights = mx.array(np.array(step_weights(TIMESTEP), np.float32)[:, None])
    t = mx.full((1,), float(TIMESTEP))
    steps: list[tuple[str, Any]] = list(networks.stages(mx.array(sound[None]), mx.array(noise[None]), t, weights))
    return {name: np.array(value.astype(mx.float32))[0] for name, value in steps}


def distances_of(out: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Return the relative distance of the whole, and that of the worst piece. NaN stays NaN."""
    out, reference = (a.astype(np.float64).reshape(-1) for a in (out, reference))
    error, loud = out - reference, np.linalg.norm(reference)
    count = -(-len(reference) // PIECE_VALUES) * PIECE_VALUES
    errors, levels = (
        np.linalg.norm(np.pad(a, (0, count - len(a))).reshape(-1, PIECE_VALUES), axis=1) for a in (error, reference)
    )
    floor = _QUIET * loud * np.sqrt(PIECE_VALUES / len(reference))
    return float(np.linalg.norm(error) / loud), float(np.max(errors / np.maximum(levels, floor)))


@functools.cache
def read_reference(folder: Path) -> dict[str, np.ndarray]:
    """Return the reference of each stage. Raises ModelError if it is missing, damaged or of other weights."""
    path = folder / REFERENCE_NAME
    remedy = "install batchsr anew"
    try:
        with np.load(path, allow_pickle=False) as file:
            found = dict(file)
        digest = bytes(found.pop("weights_sha256")).hex()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as e:
        raise ModelError(f"the self-test's reference cannot be read: {path}: {e}", remedy=remedy) from e
    from batchsr.models.flashsr import bundle

    if bundle.weights_sha256(folder) != digest:
        raise ModelError(f"{path} is of other weights than those beside it", remedy=remedy)
    return found


def window(samples: int, noise_shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the window and its noise, float32: functions of the position alone, whatever NumPy's generators do.

    Four gliding harmonics that swell and fade, and clicks, within +-0.5; what stands for noise is normal, of Weyl's
    sequences by Box and Muller's formula.
    """
    time_s = np.arange(samples) / 48_000
    phase = 2 * np.pi * (110 * time_s + 30 * time_s**2)
    tones = sum(np.sin(k * phase + k) / k for k in (1, 2, 3, 5, 8, 13))
    envelope = 0.55 + 0.45 * np.sin(2 * np.pi * 0.7 * time_s)
    clicks = np.where(np.arange(samples) % 9_001 == 17, 0.3, 0.0)
    sound = 0.2 * envelope * tones + clicks + 0.01 * normal(samples)
    sound *= 0.5 / np.abs(sound).max()
    return sound.astype(np.float32), normal(int(np.prod(noise_shape))).reshape(noise_shape).astype(np.float32)


def normal(count: int) -> np.ndarray:
    """Return numbers that are spread like normal ones, float64."""
    index = np.arange(1, count + 1)
    radius, angle = (np.mod(index * step, 1.0) for step in (np.sqrt(2), np.sqrt(3)))
    return np.asarray(np.sqrt(-2 * np.log(1 - radius)) * np.cos(2 * np.pi * angle))
