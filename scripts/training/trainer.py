"""Networks, optimisers and one step of training, compiled as one program; and the state that outlives a run.

A state is one safetensors file of 41 MB for `tiny`: in float16 the weights, their running mean, and the
discriminators, under the prefixes WEIGHTS, MEAN and JUDGES; `step` stands in its metadata. The optimisers' means are
not in it: they are rebuilt in the first RISE steps, in which the rate rises. (Their memory is 5 and 100 steps long.)
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from safetensors import safe_open
from safetensors.numpy import save_file

from scripts.training import losses, network, sounds

SHARES = {
    "rec": 1.0, "pred": 1.0, "latent": 0.3, "kl": 1e-5,
    "log": 2.0, "linear": 1.0, "lsd": 2.0, "band": 3.0, "kept": 2.0, "fine": 1.0,
}  # fmt: skip
FOOLING = {"fool": 0.6, "features": 8.0}
"""Weights of the losses: of those of the sound itself, and of those that the discriminators give."""
RISE = 100
"""Steps in which the rate rises, whenever a run begins."""
JUDGES_FIRST = 300
"""Steps that new discriminators learn before anybody heeds them; over as many again they gain their weight."""
MAX_NORM = 5.0
"""Longer gradients are shortened to this."""
MEAN_MEMORY = 0.999
"""Share of the weights' running mean that stays in a step."""
LAST = 999
"""The timestep of one-step restoration."""
WEIGHTS, MEAN, JUDGES = "weights/", "mean/", "judges/"
Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """What a run begins with and leaves: arrays by name, and how many steps they have seen."""

    weights: dict[str, np.ndarray]
    mean: dict[str, np.ndarray]
    judges: dict[str, np.ndarray]
    """Empty before the discriminators' first step."""
    step: int

    @classmethod
    def of(cls, weights: Arrays) -> State:
        """That of a training that has not begun, at these weights."""
        return cls(dict(weights), dict(weights), {}, 0)

    @classmethod
    def read(cls, file: Path) -> State:
        """What `write` has written."""
        parts: dict[str, dict[str, np.ndarray]] = {WEIGHTS: {}, MEAN: {}, JUDGES: {}}
        with safe_open(file, "np") as stored:
            for name in stored.keys():  # noqa: SIM118 - not a mapping
                prefix, _, rest = name.partition("/")
                parts[f"{prefix}/"][rest] = stored.get_tensor(name).astype(np.float32)
            step = int(stored.metadata()["step"])
        return cls(parts[WEIGHTS], parts[MEAN], parts[JUDGES], step)

    def write(self, file: Path) -> None:
        """Keep it, in float16, under a new name first."""
        parts = {WEIGHTS: self.weights, MEAN: self.mean, JUDGES: self.judges}
        arrays = {
            prefix + name: x if is_fixed(name) else half(x)
            for prefix, items in parts.items()
            for name, x in items.items()
        }
        new = file.with_name(f"{file.stem}-new{file.suffix}")
        save_file(arrays, new, {"step": str(self.step)})
        new.replace(file)


def half(x: np.ndarray) -> np.ndarray:
    """x as float16; what is too large for it becomes its largest number."""
    return np.ascontiguousarray(np.clip(x, -65_504, 65_504).astype(np.float16))


class Trainer:
    """Goes on from a state, step by step."""

    def __init__(
        self,
        config: network.Config,
        state: State,
        bands: Mapping[int, np.ndarray],
        alphas: np.ndarray,
        seed: int,
        heed: float = 1.0,
        still: Collection[str] = (),
        *,
        by_measure: bool = False,
    ) -> None:
        """`bands`: the triangles of losses.BANDS, and under 0 those of the model's mel; `alphas`: the schedule;
        `heed`: what the discriminators' verdict weighs, from 1 to 0 (then they are left out); `still`: networks (vae,
        ldm, voc) whose weights stay; `by_measure`: take roots of mean squares over a frame, as the measure does."""
        self.config, self.bands, self.seed, self.heed = config, bands, seed, heed
        self.still, self.by_measure = frozenset(still), by_measure
        bins = (bands[0] > 0).sum(axis=1) + 1.0
        self.widths = (bins / bins.mean()).astype(np.float32)
        self.signal, self.noise = np.sqrt(alphas).astype(np.float32), np.sqrt(1 - alphas).astype(np.float32)
        self.step_count, self.first = state.step, state.step
        self.new_judges = not state.judges
        self.fixed = {name: jnp.array(x) for name, x in state.weights.items() if self._stays(name)}
        vector, self.named = ravel_pytree(self._trained(state.weights))
        mean, _ = ravel_pytree(self._trained(state.mean))
        judges, self.named_judges = ravel_pytree(
            {k: jnp.array(v) for k, v in (state.judges or losses.new_judges(np.random.default_rng(seed))).items()}
        )
        # ravel_pytree goes by sorted names: ldm, vae, voc.
        self.vocoder_from = sum(
            int(v.size) for k, v in self._trained(state.weights).items() if not k.startswith("voc.")
        )
        self.arrays = {
            "weights": vector, "mean": mean, "judges": judges,
            "m": jnp.zeros_like(vector), "v": jnp.zeros_like(vector),
            "judges_m": jnp.zeros_like(judges), "judges_v": jnp.zeros_like(judges),
        }  # fmt: skip
        self._update = jax.jit(self._updated, donate_argnums=(0,))

    def state(self) -> State:
        """What has been learnt so far."""
        fixed = {name: np.asarray(x) for name, x in self.fixed.items()}

        def arrays(named: Any, vector: jax.Array) -> dict[str, np.ndarray]:
            return {name: np.asarray(x) for name, x in named(vector).items()}

        weights, mean = (fixed | arrays(self.named, self.arrays[name]) for name in ("weights", "mean"))
        return State(weights, mean, arrays(self.named_judges, self.arrays["judges"]), self.step_count)

    def mean_weights(self) -> dict[str, jax.Array]:
        """The weights' running mean by name, and what stays, on the device."""
        return self.fixed | self.named(self.arrays["mean"])

    def _stays(self, name: str) -> bool:
        return is_fixed(name) or name.partition(".")[0] in self.still

    def _trained(self, weights: Arrays) -> dict[str, jax.Array]:
        return {name: jnp.array(x) for name, x in weights.items() if not self._stays(name)}

    def step(self, batch: sounds.Batch, rate: float, true_mels: float) -> dict[str, jax.Array]:
        """One update; gives the losses, not yet computed. `true_mels`: share of rows whose vocoder gets the true mel.

        What it draws depends on seed and step alone.
        """
        rng = np.random.default_rng([self.seed, self.step_count, 1])
        B, T = batch.low.shape
        frames, bands = T // self.config["mel"]["hop"], self.config["mel"]["n_mels"]
        steps = np.where(rng.random(B) < 0.85, LAST, rng.integers(300, LAST, B))
        taken = self.step_count - self.first
        rate *= min(1.0, (taken + 1) / RISE)
        drawn = {
            "t": steps.astype(np.float32),
            "weights": np.stack([self.signal[steps], self.noise[steps]], axis=1),
            "noise": rng.standard_normal((B, frames // 8, bands // 8, self.config["vae"]["embed_dim"]), np.float32),
            "use_true": (rng.random((B, 1, 1)) < true_mels).astype(np.float32),
        }
        heard = min(1.0, max(0.0, (taken - JUDGES_FIRST) / JUDGES_FIRST)) if self.new_judges else 1.0
        numbers = {
            "rate": rate, "count": taken + 1.0, "heed": self.heed * heard,
            "keep": min(MEAN_MEMORY, (1 + self.step_count) / (20 + self.step_count)),
        }  # fmt: skip
        numbers = {name: np.float32(x) for name, x in numbers.items()}
        self.arrays, found = self._update(self.arrays, self.fixed, batch.low, batch.high, batch.scale, drawn, numbers)
        self.step_count += 1
        return found

    def _updated(
        self, arrays: dict[str, jax.Array], fixed: Any, low: Any, high: Any, scale: Any, drawn: Any, numbers: Any
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        gradients = jax.grad(self._losses, argnums=(0, 1), has_aux=True)
        (slope, judge_slope), found = gradients(
            arrays["weights"], arrays["judges"], fixed, low, high, scale, drawn, numbers["heed"]
        )
        # The mel side and the vocoder don't share a limit: a wild step of the one must not slow down the other.
        parts = jnp.split(slope, [self.vocoder_from])
        norms = [jnp.linalg.norm(part) for part in parts]
        slope = jnp.concatenate(
            [p * jnp.minimum(1.0, MAX_NORM / (n + 1e-6)) for p, n in zip(parts, norms, strict=True)]
        )
        # A step with a gradient that isn't finite leaves everything but the optimiser's means as it is.
        slope = jnp.where(jnp.isfinite(sum(norms)), slope, 0.0)
        judge_slope = jnp.where(jnp.isfinite(jnp.linalg.norm(judge_slope)), judge_slope, 0.0)
        rate, count, keep = numbers["rate"], numbers["count"], numbers["keep"]
        new = dict(arrays)
        new["weights"], new["m"], new["v"] = adam(
            arrays["weights"], slope, arrays["m"], arrays["v"], rate, count, (0.8, 0.99)
        )
        new["judges"], new["judges_m"], new["judges_v"] = adam(
            arrays["judges"], judge_slope, arrays["judges_m"], arrays["judges_v"], rate / 2, count, (0.5, 0.9)
        )
        new["mean"] = keep * arrays["mean"] + (1 - keep) * new["weights"]
        return new, found | {"norm_mel": norms[0], "norm_vocoder": norms[1]}

    def _losses(
        self,
        vector: jax.Array,
        judge_vector: jax.Array,
        fixed: Any,
        low: Any,
        high: Any,
        scale: Any,
        drawn: Any,
        heed: Any,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(weighted sum, each) of the losses."""
        weights = self.named(vector) | fixed
        # The vocoder is the slowest to train, and needs less context than the mel side: it gets the middle half.
        hop, frames = self.config["mel"]["hop"], low.shape[1] // self.config["mel"]["hop"]
        part = slice(frames // 4, frames // 4 + frames // 2)
        samples = slice(part.start * hop, part.stop * hop)
        y, found = self._restore(weights, low, high, part, drawn)
        y = losses.balanced(y)
        found |= losses.spectral(y, high[:, samples], low[:, samples], scale, self.bands, by_measure=self.by_measure)
        total = sum(share * found[name] for name, share in SHARES.items())
        if not self.heed:
            return total, found | {"total": total}
        count = max(1, len(y) // 2)  # half of the rows: enough to judge by
        original, y = (high[:count, samples] * scale[:count], y[:count] * scale[:count])
        judges = self.named_judges(judge_vector)
        seen = losses.judged(judges, jnp.concatenate([original, jax.lax.stop_gradient(y)]))
        found["judge"] = losses.judge_loss(seen, count)
        made = losses.judged(jax.lax.stop_gradient(judges), y)
        found["fool"], found["features"] = losses.fool_loss(seen, made)
        total += found["judge"] + heed * sum(share * found[name] for name, share in FOOLING.items())
        return total, found | {"total": total}

    def _restore(
        self, weights: Any, low: Any, high: Any, part: slice, drawn: Any
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(restoration of the frames in `part`, losses of the mel side).

        A quarter of the originals goes through the VAE.
        """
        config, hop = self.config, self.config["mel"]["hop"]
        unit = config["vae"]["scale_factor_z"]
        B = low.shape[0]
        n = max(1, B // 4)
        mels = network.log_mel(config, self.bands[0], jnp.concatenate([high, low]))
        target = mels[:B]
        mean, spread = network.moments(weights, jnp.concatenate([target[:n], mels[B:]]))
        spread = jnp.clip(spread, -30, 20)
        true_z, cond = unit * mean[:n], unit * mean[n:]
        v = network.unet(weights, config, drawn["noise"], cond, drawn["t"])
        signal, noise = drawn["weights"].T[:, :, None, None, None]
        z = signal * drawn["noise"] - noise * v
        decoded = network.decode(weights, jnp.concatenate([true_z, z]) / unit)
        rec, pred = decoded[:n], decoded[n:]
        variance = jax.lax.stop_gradient(jnp.var(true_z)) + 1e-4
        error = pred - target
        # In the second half every hertz counts alike, as in the measure: a third of them is in a tenth of the bands.
        distance = jnp.sqrt((self.widths * jnp.square(error)).mean(axis=-1) + 1e-6)
        found = {
            "rec": jnp.abs(rec - target[:n]).mean(),
            "pred": distance.mean() if self.by_measure else 0.5 * (jnp.abs(error).mean() + distance.mean()),
            "latent": jnp.square(z[:n] - jax.lax.stop_gradient(true_z)).mean() / variance,
            "kl": 0.5 * (jnp.square(mean) + jnp.exp(spread) - 1 - spread).mean(),
        }
        mel = (drawn["use_true"] * target + (1 - drawn["use_true"]) * losses.gentle(pred))[:, part]
        return network.vocoder(weights, config, mel, low[:, part.start * hop : part.stop * hop]), found


def adam(
    x: jax.Array, slope: jax.Array, m: jax.Array, v: jax.Array, rate: Any, count: Any, memory: tuple[float, float]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One step of AdamW, decay 0.01, its means corrected for having begun at zero `count` steps ago."""
    m = memory[0] * m + (1 - memory[0]) * slope
    v = memory[1] * v + (1 - memory[1]) * jnp.square(slope)
    step = (m / (1 - memory[0] ** count)) / (jnp.sqrt(v / (1 - memory[1] ** count)) + 1e-8)
    return x - rate * (step + 0.01 * x), m, v


def is_fixed(name: str) -> bool:
    """Whether a weight is a constant of the architecture: the activation's filters."""
    return name.endswith(".filter")


def read_config(file: Path) -> network.Config:
    """config.json as it is; what the networks need of it is checked where a bundle is written."""
    config: network.Config = json.loads(file.read_text())
    return config
