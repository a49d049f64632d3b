"""The public model: `FlashSR`. Samples in, samples out; numpy on the outside, MLX inside.

A window (frame_samples at 48 kHz) is normalised, restored by the networks in one pass, and given its level back.
Everything random about it is the noise, a function of (seed, window index) alone.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from batchsr.errors import InputEmpty, InputFormat, InputLimits, InputNotFinite, NonFiniteOutput, UsageError
from batchsr.models import batch_size, checksums, hub
from batchsr.models.compute import backend as backends
from batchsr.models.flashsr.config import ModelConfig
from batchsr.models.flashsr.schedule import STEPS, step_weights
from batchsr.models.identity import ModelIdentity
from batchsr.settings.profile import MAX_OVERLAP_S

if TYPE_CHECKING:
    from batchsr.models.flashsr.networks import Networks

EPS = 1e-8
MAX_LEVEL = 1e30
"""Louder than this cannot be computed with in float32."""
RATES_HZ = (1_000, 768_000)
log = logging.getLogger(__name__)


class FlashSR:
    """Restores narrowband sound to 48 kHz.

        model = FlashSR.from_pretrained("int4")
        y = model.upsample(x, sample_rate)

    Not safe to call from two threads at once.
    """

    def __init__(
        self, config: ModelConfig, networks: Networks, backend: backends.Backend, identity: ModelIdentity
    ) -> None:
        self.config = config
        self.identity = identity
        self.batch_windows = backend.batch_windows
        """Rows of one pass through the networks."""
        self._networks = networks

    @classmethod
    def from_pretrained(cls, variant: str | Path, *, dtype: str | None = None, device: str | None = None) -> FlashSR:
        """The model of a variant (int4, int8, tiny) or of a bundle's folder.

        `dtype` (float32, float16, bfloat16) and `device` (cpu, gpu) are the backend's choice unless given. Raises
        ModelUnavailable when neither the cache nor the hub has it, BundleError naming what is wrong with it, and
        ConfigError on an unknown dtype or device.
        """
        location = hub.resolve(variant)
        backend = backends.prepare(dtype, device)
        from batchsr.models.flashsr import bundle  # after prepare(): it imports MLX

        with backends.loading():
            opened = bundle.open_bundle(location.folder)
            networks = bundle.networks_of(opened, backend.mlx_dtype())
        for warning in opened.warnings:
            log.warning("%s", warning)
        digest = checksums.sha256(location.folder / bundle.WEIGHTS_NAME)
        identity = ModelIdentity(
            variant=location.variant,
            repository=location.repository,
            revision=location.revision or f"sha256:{digest}",
            weights_sha256=digest,
            dtype=backend.dtype,
            device=backend.label,
            mlx_version=backend.mlx_version,
            warnings=opened.warnings,
        )
        model = cls(opened.config, networks, backend, identity)
        model.batch_windows = batch_size.fitting(model.batch_windows, identity, model._window_bytes)
        return model

    def shrink(self) -> bool:
        """After a ModelMemory: halve the passes, for this process and the next ones. False if they are of one row."""
        if self.batch_windows == 1:
            return False
        self.batch_windows //= 2
        batch_size.remember(self.batch_windows, self.identity)
        return True

    @property
    def frame_samples(self) -> int:
        """Samples of one window."""
        return self.config.audio.frame_samples

    @property
    def sample_rate(self) -> int:
        """Of windows and results: 48000 Hz."""
        return self.config.audio.sample_rate

    def noise(self, seed: int, window_index: int) -> np.ndarray:
        """The noise of a window, float32 (frame_samples / 3840, 32, 16): the same on every machine."""
        _check_seed(seed)
        if not _is_int(window_index) or not 0 <= window_index < 2**63:
            raise UsageError(f"window_index = {window_index!r} is no index")
        return _noise(self.config.noise_shape, int(seed), int(window_index)).copy()

    def upsample(
        self, x: np.ndarray, sample_rate: int, *, timestep: int = 999, seed: int = 0, overlap: float = 0.5
    ) -> np.ndarray:
        """Restore sound of any length and rate.

        x: (samples,) or (samples, channels), within +-1 as a rule. sample_rate: Hz, 1000 to 768000. timestep: 0 to 999.
        overlap: seconds that windows share, at most half a window. Returns float32 at 48 kHz with as many axes as x and
        ceil(samples * 48000 / sample_rate) samples. Raises InputError subclasses on what cannot be restored and
        UsageError on a wrong option.
        """
        from batchsr.audio import resample, windows

        x = _checked(x, (1, 2), "(samples,) or (samples, channels)")
        if not _is_int(sample_rate) or not RATES_HZ[0] <= sample_rate <= RATES_HZ[1]:
            raise InputLimits(f"sample_rate = {sample_rate!r} lies outside {RATES_HZ[0]} to {RATES_HZ[1]} Hz")
        if not _is_number(overlap) or not 0 <= overlap <= MAX_OVERLAP_S:
            raise UsageError(f"overlap = {overlap!r} is not a number of seconds from 0 to {MAX_OVERLAP_S:g}")
        restore = self.windows(timestep, seed)
        sound = resample.resample(x.reshape(len(x), -1).astype(np.float32), int(sample_rate))
        plan = windows.Plan.of(len(sound), self.frame_samples, overlap)
        cut = list(windows.cut(plan, [sound]))
        results = restore(np.concatenate([rows for _, rows in cut]), [index for index, rows in cut for _ in rows])
        done = {index: part for (index, _), part in zip(cut, np.split(results, len(cut)), strict=True)}
        y = np.concatenate(list(windows.assemble(plan, done.__getitem__)))
        return y.reshape(len(y), *x.shape[1:])

    def windows(self, timestep: int = 999, seed: int = 0) -> Callable[[np.ndarray, Sequence[int]], np.ndarray]:
        """A function (rows (B, frame_samples), each row's window index) -> restored rows, for a runner of files.

        B is any number; `batch_windows` or a multiple wastes nothing. Rows of one index share their noise.
        """
        _check_timestep(timestep)
        _check_seed(seed)

        def restore(rows: np.ndarray, indices: Sequence[int]) -> np.ndarray:
            noise = np.stack([_noise(self.config.noise_shape, seed, int(index)) for index in indices])
            return self.upsample_window(rows, noise, timestep)

        return restore

    def upsample_window(
        self, x: np.ndarray, noise: np.ndarray | None = None, timestep: int = 999, seed: int = 0
    ) -> np.ndarray:
        """Restore windows: x (batch, frame_samples) or (frame_samples,) at 48 kHz -> float32 of the same shape.

        noise: (batch or 1, frame_samples / 3840, 32, 16); without it row i has `noise(seed, i)`. A row's result does
        not depend on the other rows. Raises as `upsample` does, NonFiniteOutput when the networks overflow, and
        ModelMemory when a pass does not fit (`shrink` makes it smaller).
        """
        x = _checked(x, (1, 2), "(batch, frame_samples)")
        _check_timestep(timestep)
        _check_seed(seed)
        rows = np.ascontiguousarray(np.atleast_2d(x), np.float32)
        if rows.shape[1] != self.frame_samples:
            raise UsageError(f"a window has {self.frame_samples} samples, not {rows.shape[1]}")
        given = self._noises(noise, len(rows), seed)
        y = np.empty((len(rows), self.frame_samples), np.float32)
        for start in range(0, len(rows), self.batch_windows):
            part = slice(start, start + self.batch_windows)
            y[part] = self._restore(rows[part], given[part], timestep)
        return y.reshape(x.shape)

    def _noises(self, noise: np.ndarray | None, rows: int, seed: int) -> np.ndarray:
        """(rows, T / 3840, 32, 16) float32."""
        if noise is None:
            return np.stack([self.noise(seed, i) for i in range(rows)])
        noise = np.asarray(noise, np.float32)
        shape = self.config.noise_shape
        if noise.ndim != 4 or noise.shape[1:] != shape or noise.shape[0] not in (1, rows):
            raise UsageError(f"noise has the shape {noise.shape} instead of {(rows, *shape)} or {(1, *shape)}")
        if not np.isfinite(noise).all():
            raise UsageError("noise holds NaN or infinity")
        return np.broadcast_to(noise, (rows, *shape))

    def _window_bytes(self) -> int:
        """Memory that a pass of one row takes beside the weights, measured."""
        batch_windows, self.batch_windows = self.batch_windows, 1
        try:
            with batch_size.peak_bytes() as peak:
                self.upsample_window(np.zeros(self.frame_samples, np.float32))
        finally:
            self.batch_windows = batch_windows
        return peak[0]

    def _restore(self, rows: np.ndarray, noise: np.ndarray, timestep: int) -> np.ndarray:
        """One pass: rows (1..batch_windows, T) and their noise -> (same, T) float32.

        Short batches are filled up with the last row, so that every pass has the same shapes, and with them the
        same kernels and the same rounding: a row's bytes must not depend on the company it keeps.
        """
        import mlx.core as mx

        count = len(rows)
        filled = np.minimum(np.arange(self.batch_windows), count - 1)
        noise = noise[filled]
        if count < self.batch_windows:
            rows = rows[filled]
        # In float64: the mean of a constant must be that constant, or its rounding error, divided by a scale of
        # nothing, would reach the networks as a signal.
        mean = rows.mean(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
        scale = np.maximum(rows.max(axis=1, keepdims=True) - mean, mean - rows.min(axis=1, keepdims=True)) + EPS
        weights = np.array([[w] * self.batch_windows for w in step_weights(timestep)], np.float32)
        t = np.full(self.batch_windows, timestep, np.float32)
        with batch_size.memory_errors():
            level, middle = mx.array(2 * scale), mx.array(mean)
            norm = (mx.array(rows) - middle) / level
            restored = self._networks(norm, mx.array(noise), mx.array(t), mx.array(weights))
            out = np.array((restored * level + middle)[:count])
        if not np.isfinite([out.min(), out.max()]).all():
            raise NonFiniteOutput(
                f"the model {self.identity.variant} gave NaN or infinity in {self.identity.dtype}",
                remedy="try --dtype float32; if it stays, the weights are at fault",
            )
        return out


@functools.lru_cache(maxsize=64)
def _noise(shape: tuple[int, ...], seed: int, window_index: int) -> np.ndarray:
    """See `FlashSR.noise`. Kept, since all clips have the first windows and a pass of many takes milliseconds."""
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, window_index], np.uint64)))
    noise = generator.standard_normal(shape, dtype=np.float32)
    noise.flags.writeable = False
    return noise


def _is_int(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _check_timestep(timestep: int) -> None:
    if not _is_int(timestep) or not 0 <= timestep < STEPS:
        raise UsageError(f"timestep = {timestep!r} is not a whole number from 0 to {STEPS - 1}")


def _check_seed(seed: int) -> None:
    if not _is_int(seed) or not 0 <= seed < 2**63:
        raise UsageError(f"seed = {seed!r} is not a whole number from 0 to 2**63 - 1")


def _checked(x: np.ndarray, ndims: tuple[int, ...], expected: str) -> np.ndarray:
    """x as a float array that can be restored."""
    x = np.asarray(x)
    if x.ndim not in ndims:
        raise InputFormat(f"the sound has {x.ndim} axes instead of {expected}")
    if x.dtype.kind != "f":
        raise InputFormat(f"the sound is of type {x.dtype} instead of float", remedy="scale integers to +-1 first")
    if x.size == 0:
        raise InputEmpty("the sound holds no sample")
    if not max(-x.min(), x.max()) <= MAX_LEVEL:  # nor if it is NaN
        raise InputNotFinite("the sound holds NaN, infinity, or samples too large to compute with")
    return x
