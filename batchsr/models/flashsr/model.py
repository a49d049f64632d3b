"""The public model: `FlashSR`. Samples in, samples out; numpy on the outside, MLX inside.

A window (frame_samples at 48 kHz) is normalised, restored by the networks in one pass, and given its level back.
Everything random about it is the noise, a function of (seed, window index) alone.

Longer than other modules: its docstrings are the manual of the public class.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from batchsr.errors import BundleError, ModelMemory, NonFiniteOutput, UsageError
from batchsr.models import arrays, batch_size, checksums, hub
from batchsr.models.compute import backend as backends
from batchsr.models.flashsr.about import ABOUT
from batchsr.models.flashsr.config import ModelConfig
from batchsr.models.flashsr.schedule import STEPS, step_weights
from batchsr.models.identity import ModelIdentity

if TYPE_CHECKING:
    from batchsr.models.flashsr.bundle import Opened
    from batchsr.models.flashsr.networks import Networks

EPS = 1e-8
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
        self.about = ABOUT
        self.config = config
        self.identity = identity
        self.batch_windows = backend.batch_windows
        """Windows of one pass through the networks."""
        self._spare_rows = 0
        """Rows at a pass's end that are computed and not used (`warm_up`)."""
        self._has_apart = False
        """Whether some convolutions are computed as matrix products (`warm_up`)."""
        self.computed_again: tuple[int, ...] = ()
        """Rows of the last call that overflowed in half precision, and were computed again in float32."""
        self._networks = networks
        self._row_bytes = 0
        """What a row of a pass takes; 0 for a model that `from_pretrained` did not make."""
        self._refit = False
        self._in_float32: Callable[[], Networks] | None = None
        """Loads the networks in float32, where they compute in half precision."""

    @classmethod
    def from_pretrained(
        cls,
        variant: str | Path,
        *,
        dtype: str | None = None,
        device: str | None = None,
        say: Callable[[str], None] = log.info,
    ) -> FlashSR:
        """Load the model of a variant (int4, int8, tiny) or of a bundle's folder.

        `dtype` (float32, float16, bfloat16) and `device` (cpu, gpu) are the backend's choice unless given. Raises
        ModelUnavailable when neither the cache nor the hub has it, BundleError naming what is wrong with it,
        SelfTestFailed where this device computes a known window wrongly, and ConfigError on an unknown dtype or device.
        `say` is told, in a sentence, what takes its time meanwhile.
        """
        location = hub.resolve(variant)
        backend = backends.prepare(dtype, device)
        from batchsr.models import self_test  # after prepare(): these import MLX
        from batchsr.models.flashsr import bundle
        from batchsr.models.flashsr.networks import row_bytes

        self_test.ensure(backend, say)
        say(f"loading {location.variant} for {backend.label} in {backend.dtype}")
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
        if backend.dtype != "float32":
            model._in_float32 = functools.cache(functools.partial(_float32, opened, digest))
        model._row_bytes = row_bytes(opened.config, networks.dtype.size)
        model.batch_windows = batch_size.fitting(model.batch_windows, identity, model._row_bytes)
        if backend.warms_up:
            say(f"a first pass of {model.batch_windows} windows, for which kernels are loaded")
            model.warm_up(say)
        return model

    def warm_up(self, say: Callable[[str], None] = log.info) -> None:
        """Make a pass of one window in all rows, so that what a first pass takes longer, and too much, is no file's.

        Passes are halved until they fit. A window's bytes must not depend on its place: convolutions that differ in
        some row are computed otherwise from then on; rows at the end that differ all the same, in whatever bit, are
        not used. Raises ModelMemory if no pass fits.
        """
        self._set_apart(batch_size.apart(self.identity, self.batch_windows))
        while True:
            size = self.batch_windows + self._spare_rows
            try:
                odd = self._odd_rows(size)
                if odd and self._find_uneven(size):
                    odd = self._odd_rows(size)
                break
            except ModelMemory:
                if not self.shrink():
                    raise
                say(f"out of memory: passes of {self.batch_windows}")
        if not odd:
            return
        at_the_end = odd == list(range(odd[0], size)) and 2 * odd[0] >= size
        self.batch_windows = odd[0] if at_the_end else 1
        self._spare_rows = size - odd[0] if at_the_end else 0
        log.warning(
            "%s computes the rows %s of %d otherwise than the first: passes of %d are used",
            self.identity.device,
            ", ".join(map(str, odd)),
            size,
            self.batch_windows,
        )

    def _pass_of_one(self, size: int) -> np.ndarray:
        """Make a pass of `size` rows that all hold the self-test's window -> (size, T)."""
        from batchsr.models import self_test

        sound, noise = self_test.window(self.frame_samples, self.config.noise_shape)
        return self._pass(self._networks, np.stack([sound] * size), np.stack([noise] * size), self_test.TIMESTEP, size)

    def _odd_rows(self, size: int) -> list[int]:
        """Return the rows of a pass that come out otherwise than the first, where all are given the same."""
        out = self._pass_of_one(size)
        return [row for row in range(size) if out[row].tobytes() != out[0].tobytes()]

    def _find_uneven(self, size: int) -> bool:
        """Set the convolutions apart that differ in some row, for the next processes too; whether there are any."""
        from batchsr.models.compute import even

        layers = set(map(id, even.uneven(lambda: self._pass_of_one(size))))
        if not layers:
            return False
        names = [name for name, layer in self._networks.named_modules() if id(layer) in layers]
        log.info("computed as matrix products, since rows differ: %s", ", ".join(names))
        self._set_apart(names)
        batch_size.remember_apart(names, self.identity, size)
        return True

    def _set_apart(self, names: Sequence[str]) -> None:
        """Compute these layers as matrix products."""
        for name, layer in self._networks.named_modules() if names else ():
            if name in names:
                layer.apart = self._has_apart = True

    def shrink(self) -> bool:
        """After a ModelMemory: halve the passes, for this process and the next ones. False if they are of one row."""
        rows = self.batch_windows + self._spare_rows
        if rows == 1:
            return False
        rows //= 2
        # Passes of this size were not looked at: where larger ones had an odd last row, theirs may be odd as well.
        self._spare_rows = min(max(self._spare_rows, int(self._has_apart)), rows - 1)
        self.batch_windows = rows - self._spare_rows
        self._refit = True
        batch_size.remember(rows, self.identity)
        return True

    @property
    def frame_samples(self) -> int:
        """Samples of one window."""
        return self.config.audio.frame_samples

    @property
    def sample_rate(self) -> int:
        """Return the rate of windows and results: 48000 Hz."""
        return self.config.audio.sample_rate

    def noise(self, seed: int, window_index: int) -> np.ndarray:
        """Return the noise of a window, float32 (frame_samples / 3840, 32, 16): the same on every machine."""
        _check_seed(seed)
        if not arrays.is_int(window_index) or not 0 <= window_index < 2**63:
            raise UsageError(f"window_index = {window_index!r} is no index")
        return _noise(self.config.noise_shape, int(seed), int(window_index)).copy()

    def upsample(
        self,
        x: np.ndarray,
        sample_rate: float,
        *,
        timestep: int = 999,
        seed: int = 0,
        overlap: float = 0.5,
        lowpass: Literal["off", "auto"] | float = "off",
        keep_band: bool = False,
        channels: Literal["all", "mono"] = "all",
    ) -> np.ndarray:
        """Restore sound of any length and rate, as `batchsr work` would with the same options.

        x: (samples,) or (samples, channels), channels last; floats within +-1 as a rule, or integers of 16 or 32 bits,
        whose full scale is 1. sample_rate: whole Hz, 1000 to 768000. timestep: 0 to 999. overlap: seconds that windows
        share, at most half a window. lowpass: before the model, "off", "auto" (at the cutoff that is found) or Hz.
        keep_band: below its cutoff the result is the recording itself. channels: "mono" restores their mean.

        Returns float32 at 48 kHz with as many axes as x and ceil(samples * 48000 / sample_rate) samples; "mono" has one
        channel. Raises InputError subclasses on what cannot be restored, ConfigError and UsageError on a wrong option.

            >>> model = FlashSR.from_pretrained("tiny")
            >>> model.upsample(np.zeros((8000, 2), np.float32), 8000, lowpass="auto").shape
            (48000, 2)
        """
        from batchsr.models import upsampling

        return upsampling.upsample(
            self,
            x,
            sample_rate,
            timestep=timestep,
            seed=seed,
            overlap=overlap,
            lowpass=lowpass,
            keep_band=keep_band,
            channels=channels,
        )

    def windows(self, timestep: int = 999, seed: int = 0) -> Callable[[np.ndarray, Sequence[int]], np.ndarray]:
        """Return a function (rows (B, frame_samples), each row's window index) -> restored rows, for a runner of files.

        B is any number; `batch_windows` or a multiple wastes nothing. Rows of one index share their noise.
        """
        _check_timestep(timestep)
        _check_seed(seed)

        return _Windows(self, timestep, seed)

    def upsample_window(
        self, x: np.ndarray, noise: np.ndarray | None = None, timestep: int = 999, seed: int = 0
    ) -> np.ndarray:
        """Restore windows: x (batch, frame_samples) or (frame_samples,) at 48 kHz -> float32 of the same shape.

        noise: (batch or 1, frame_samples / 3840, 32, 16); without it row i has `noise(seed, i)`. A row's result does
        not depend on the other rows. Raises as `upsample` does, NonFiniteOutput when the networks overflow, and
        ModelMemory when a pass does not fit (`shrink` makes it smaller).
        """
        x = arrays.checked(x, (1, 2), "(batch, frame_samples)")
        _check_timestep(timestep)
        _check_seed(seed)
        rows = np.ascontiguousarray(np.atleast_2d(x), np.float32)
        if rows.shape[1] != self.frame_samples:
            raise UsageError(f"a window has {self.frame_samples} samples, not {rows.shape[1]}")
        given = self._noises(noise, len(rows), seed)
        if len(rows) <= self.batch_windows:
            y, overflowed = self._restore(rows, given, timestep)
            self.computed_again = tuple(overflowed)
            return y.reshape(x.shape)
        y = np.empty((len(rows), self.frame_samples), np.float32)
        again: list[int] = []
        for start in range(0, len(rows), self.batch_windows):
            part = slice(start, start + self.batch_windows)
            y[part], overflowed = self._restore(rows[part], given[part], timestep)
            again += [start + row for row in overflowed]
        self.computed_again = tuple(again)
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

    def _restore(self, rows: np.ndarray, noise: np.ndarray, timestep: int) -> tuple[np.ndarray, list[int]]:
        """Restore rows (1..batch_windows, T) -> (same, T) float32, and which of them took float32.

        What overflows in half precision is computed again in float32, each row by itself: so its bytes depend on
        nothing but the window, whoever shared the pass in which it overflowed.
        """
        out = self._pass(self._networks, rows, noise, timestep, self.batch_windows + self._spare_rows)
        if np.isfinite([out.min(), out.max()]).all():
            return out, []
        overflowed = np.flatnonzero(~np.isfinite(out).all(axis=1)).tolist()
        if self._in_float32 is not None:
            with batch_size.memory_errors():
                networks = self._in_float32()
            for row in overflowed:
                one = slice(row, row + 1)
                out[one] = self._pass(networks, rows[one], noise[one], timestep, 1)
        if not np.isfinite(out[overflowed]).all():
            raise NonFiniteOutput(
                f"the model {self.identity.variant} gave NaN or infinity, in float32 too",
                remedy="the weights are at fault: look at them with `batchsr models check`",
            )
        return out, overflowed

    def _pass(self, networks: Networks, rows: np.ndarray, noise: np.ndarray, timestep: int, size: int) -> np.ndarray:
        """Compute one pass of `size` rows: rows (1..size, T) and their noise -> (same, T) float32.

        Short batches are filled up with the last row, so that every pass has the same shapes, and with them the
        same kernels and the same rounding: a row's bytes must not depend on the company it keeps.
        """
        import mlx.core as mx

        count = len(rows)
        filled = np.minimum(np.arange(size), count - 1)
        noise = noise[filled]
        if count < size:
            rows = rows[filled]
        # In float64: the mean of a constant must be that constant, or its rounding error, divided by a scale of
        # nothing, would reach the networks as a signal.
        mean = rows.mean(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
        scale = np.maximum(rows.max(axis=1, keepdims=True) - mean, mean - rows.min(axis=1, keepdims=True)) + EPS
        weights = np.array([[w] * size for w in step_weights(timestep)], np.float32)
        t = np.full(size, timestep, np.float32)
        if self._refit:  # here, since whoever called `shrink` may still hold the error and with it the pass's arrays
            batch_size.refit(self.batch_windows, self._row_bytes)
            self._refit = False
        with batch_size.memory_errors():
            level, middle = mx.array(2 * scale), mx.array(mean)
            norm = (mx.array(rows) - middle) / level
            restored = networks(norm, mx.array(noise), mx.array(t), mx.array(weights))
            return np.array((restored * level + middle)[:count])


class _Windows:
    """See `FlashSR.windows`. `computed_again`: which rows of the last call overflowed and took float32."""

    def __init__(self, model: FlashSR, timestep: int, seed: int) -> None:
        self._model = model
        self._timestep = timestep
        self._seed = seed
        self.computed_again: tuple[int, ...] = ()

    def __call__(self, rows: np.ndarray, indices: Sequence[int]) -> np.ndarray:
        shape = self._model.config.noise_shape
        noise = np.stack([_noise(shape, self._seed, int(index)) for index in indices])
        restored = self._model.upsample_window(rows, noise, self._timestep)
        self.computed_again = self._model.computed_again
        return restored


def _float32(opened: Opened, sha256: str) -> Networks:
    """Return the networks of an opened bundle once more, in float32. Raises BundleError if it is no longer the same."""
    import mlx.core as mx

    from batchsr.models.flashsr import bundle

    path = opened.folder / bundle.WEIGHTS_NAME
    if checksums.sha256(path) != sha256:
        raise BundleError(f"{path} has changed while it was in use", remedy="start again")
    with backends.loading():
        return bundle.networks_of(opened, mx.float32)


@functools.lru_cache(maxsize=64)
def _noise(shape: tuple[int, ...], seed: int, window_index: int) -> np.ndarray:
    """See `FlashSR.noise`. Kept, since all clips have the first windows and a pass of many takes milliseconds."""
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, window_index], np.uint64)))
    noise = generator.standard_normal(shape, dtype=np.float32)
    noise.flags.writeable = False
    return noise


def _check_timestep(timestep: int) -> None:
    if not arrays.is_int(timestep) or not 0 <= timestep < STEPS:
        raise UsageError(f"timestep = {timestep!r} is not a whole number from 0 to {STEPS - 1}")


def _check_seed(seed: int) -> None:
    if not arrays.is_int(seed) or not 0 <= seed < 2**63:
        raise UsageError(f"seed = {seed!r} is not a whole number from 0 to 2**63 - 1")
