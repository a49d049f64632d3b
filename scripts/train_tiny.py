#!/usr/bin/env python3
"""Train a small FlashSR, such as the bundle `tiny`, on a CUDA or Apple machine.

    python scripts/train_tiny.py DATA --out RUN --minutes 60

DATA holds sound files in one folder a Debian package (scripts/training/sounds.py). RUN gets `log.jsonl`, every few
minutes `state.safetensors` (all that is needed to go on: the same command resumes) and `weights.safetensors` (float32,
the running mean of the weights), and at the end `bundle`. The schedule follows the clock with --minutes, the count
with --steps.

Everything is trained together, from scratch: the VAE on log-mels, the UNet on the VAE's latents, the vocoder half on
true and half on predicted mels; discriminators join for the last part. Same seed, same batches in the same order;
CUDA's own sums are not repeatable, so weights differ in rounding.

A step is thousands of small operations: with MLX_USE_CUDA_GRAPHS=0 MLX_CUDA_CONV_CACHE_SIZE=4096 in the environment it
took 137 ms instead of 206 on an H100. MLX_ENABLE_TF32=0 for the last third keeps the rounding of TF32 from filling
in for the quietest noise, which the model would then lack elsewhere.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.training import sounds  # without MLX: processes are forked before it starts

WEIGHTS = {
    "rec": 1.0, "pred": 1.0, "latent": 0.3, "kl": 1e-5,
    "log": 2.0, "linear": 1.0, "lsd": 2.0, "band": 3.0, "kept": 2.0, "fine": 1.0,
    "judge": 1.0, "fool": 0.6, "features": 8.0,
}  # fmt: skip
WARM_UP = 0.06
"""Share of the run in which the learning rate rises."""
MAX_NORM = 5.0
"""Longer gradients are shortened to this."""
LAST = 999
"""The timestep of one-step restoration."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    tiny = Path(__file__).parent / "training" / "tiny.json"
    parser.add_argument("--config", type=Path, default=tiny, help="config.json of the bundle to be (default: tiny's)")
    parser.add_argument("--init", type=Path, help="weights.safetensors of an earlier run, to begin with")
    parser.add_argument("--format", default="int8", help="of the bundle: float32, float16, int8 or int4")
    parser.add_argument("--out", type=Path, required=True)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="of training in all, over every resumption")
    length.add_argument("--steps", type=int)
    parser.add_argument("--stop-after", type=float, default=math.inf, help="minutes; leave off here, to be resumed")
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--crop", type=int, default=61_440, help="samples, a multiple of what the UNet divides by")
    parser.add_argument("--rate", type=float, default=5e-4, help="peak learning rate")
    parser.add_argument("--adversarial-from", type=float, default=0.5, help="share of the run; 1 for never")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=max(0, (os.cpu_count() or 1) - 2))
    parser.add_argument("--save-every", type=float, default=1.0, help="minutes")
    return parser.parse_args()


def prefetch(batches: Iterator[sounds.Batch], ahead: int = 4) -> Iterator[sounds.Batch]:
    """The same batches, unpacked by a thread while the device computes."""
    ready: queue.Queue[sounds.Batch] = queue.Queue(maxsize=ahead)

    def fill() -> None:
        for batch in batches:
            ready.put(batch)

    threading.Thread(target=fill, daemon=True).start()
    while True:
        yield ready.get()


class Flat:
    """The trainable parameters of a module as one vector: an optimiser's step is then ten kernels, not thousands."""

    ALIGNED = 4
    """Every parameter starts at a multiple of this, for kernels that read 16 bytes at a time."""

    def __init__(self, module: Any) -> None:
        import mlx.core as mx
        from mlx.utils import tree_flatten

        items = tree_flatten(module.trainable_parameters())
        self.names = [name for name, _ in items]
        self.shapes = [value.shape for _, value in items]
        gaps = [mx.zeros((-value.size % self.ALIGNED,)) for _, value in items]
        self.starts = list(
            itertools.accumulate((v.size + g.size for (_, v), g in zip(items, gaps, strict=True)), initial=0)
        )
        self.vector = mx.concatenate(
            [piece for (_, v), g in zip(items, gaps, strict=True) for piece in (v.reshape(-1), g)]
        )

        @mx.custom_function
        def parts(vector: Any) -> list[Any]:
            return [vector[a : a + math.prod(s)].reshape(s) for a, s in zip(self.starts, self.shapes, strict=False)]

        @parts.vjp
        def together(_vector: Any, slopes: list[Any], _parts: Any) -> Any:
            # MLX would add up hundreds of vectors of this length, each zero but for one part.
            return mx.concatenate([piece for s, g in zip(slopes, gaps, strict=True) for piece in (s.reshape(-1), g)])

        self._parts = parts

    def named(self, vector: Any) -> list[tuple[str, Any]]:
        """Name and value of each parameter out of such a vector."""
        return list(zip(self.names, self._parts(vector), strict=True))

    def into(self, module: Any, vector: Any) -> None:
        """Let the module compute with these parameters."""
        from mlx.utils import tree_unflatten

        module.update(tree_unflatten(self.named(vector)))


class Trainer:
    """Networks, optimisers and one step."""

    def __init__(self, config_file: Path, rate: float, seed: int, init: Path | None = None) -> None:
        import mlx.core as mx
        from mlx import optimizers

        from batchsr.models.compute import activation, backend
        from batchsr.models.flashsr.config import ModelConfig
        from batchsr.models.flashsr.networks import Networks
        from batchsr.models.flashsr.schedule import cumulative_alphas
        from scripts.training.convolution import make_trainable
        from scripts.training.losses import Discriminators, SpectralLoss

        print(backend.prepare(), flush=True)
        mx.random.seed(seed)
        self.config = ModelConfig.from_mapping(json.loads(config_file.read_text()))
        self.model = Networks(self.config)
        # A log-mel of quiet sound is about -6: the decoder needn't spend its first hundred steps on that.
        self.model.vae.decoder.conv_out.bias = mx.full((1,), -6.0)
        if init:
            self.model.load_weights(str(init))
            self.model.set_dtype(mx.float32)
        if mx.default_device() == mx.gpu and mx.cuda.is_available():
            make_trainable(self.model.voc)
            activation.fused()  # tests itself at first, outside of any derivative
        self.judges = Discriminators()
        self.rate = rate
        self.weights, self.judge_weights = Flat(self.model), Flat(self.judges)
        first = next(i for i, name in enumerate(self.weights.names) if name.startswith("voc."))
        self.vocoder_from = self.weights.starts[first]
        self.arrays = {
            "weights": self.weights.vector, "mean": self.weights.vector, "judges": self.judge_weights.vector,
        }  # fmt: skip
        self.optimiser = optimizers.AdamW(learning_rate=rate, betas=[0.8, 0.99], weight_decay=0.01)
        self.judge_optimiser = optimizers.AdamW(learning_rate=rate, betas=[0.5, 0.9], weight_decay=0.01)
        self.optimiser.init({"all": self.weights.vector})
        self.judge_optimiser.init({"all": self.judge_weights.vector})
        self.spectral = SpectralLoss()
        a = cumulative_alphas()
        self.signal, self.noise = np.sqrt(a).astype(np.float32), np.sqrt(1 - a).astype(np.float32)
        mx.eval(self.arrays)
        self._gradients = {
            adversarial: mx.value_and_grad(functools.partial(self._losses, adversarial=adversarial), argnums=(0, 1))
            for adversarial in (False, True)
        }

    def _losses(
        self, vector: Any, judge_vector: Any, low: Any, high: Any, scale: Any, *drawn: Any, adversarial: bool
    ) -> tuple[Any, dict[str, Any]]:
        """(weighted sum, each) of the losses. `drawn` are the last arguments of `_restore`."""
        import mlx.core as mx

        from scripts.training.losses import balanced, fool_loss, judge_loss

        self.weights.into(self.model, vector)
        # The vocoder is the slowest to train, and needs less context than the mel side: it gets the middle half.
        hop, frames = self.config.mel.hop, low.shape[1] // self.config.mel.hop
        part = slice(frames // 4, frames // 4 + frames // 2)
        samples = slice(part.start * hop, part.stop * hop)
        y, losses = self._restore(low, high, part, *drawn)
        y = balanced(y)
        losses |= self.spectral(y, high[:, samples], low[:, samples], scale)
        if adversarial:  # half of the rows: enough to judge by, and discriminators are slow
            half = max(1, len(y) // 2)
            original, y = (high[:half, samples] * scale[:half], y[:half] * scale[:half])
            self.judge_weights.into(self.judges, judge_vector)
            seen = self.judges(mx.concatenate([original, mx.stop_gradient(y)]))
            losses["judge"] = judge_loss(seen, half)
            self.judge_weights.into(self.judges, mx.stop_gradient(judge_vector))
            losses["fool"], losses["features"] = fool_loss(seen, self.judges(y))
        return sum(WEIGHTS[name] * value for name, value in losses.items()), losses

    def _restore(self, low: Any, high: Any, part: slice, noise: Any, t: Any, weights: Any, use_true: Any) -> Any:
        """(restoration of the frames in `part`, losses of the mel side).

        `use_true` (B, 1, 1): 1 where the vocoder gets the true mel. A quarter of the originals goes through the VAE.
        """
        import mlx.core as mx

        from scripts.training.losses import gentle

        vae, hop = self.model.vae, self.config.mel.hop
        B = low.shape[0]
        n = max(1, B // 4)
        mels = self.model.log_mel(mx.concatenate([high, low]))
        target = mels[:B]
        mean, spread = vae.moments(mx.concatenate([target[:n], mels[B:]]))
        spread = mx.clip(spread, -30, 20)
        kl = 0.5 * (mx.square(mean) + mx.exp(spread) - 1 - spread).mean()
        true_z, cond = vae.scale * mean[:n], vae.scale * mean[n:]
        v = self.model.ldm(noise, cond, t)
        z = weights[:, 0, None, None, None] * noise - weights[:, 1, None, None, None] * v
        decoded = vae.decode(mx.concatenate([true_z, z]))
        rec, pred = decoded[:n], decoded[n:]
        variance = mx.stop_gradient(mx.var(true_z)) + 1e-4
        losses = {
            "rec": mx.abs(rec - target[:n]).mean(),
            "pred": 0.5
            * (mx.abs(pred - target).mean() + mx.sqrt(mx.square(pred - target).mean(axis=-1) + 1e-6).mean()),
            "latent": mx.square(z[:n] - mx.stop_gradient(true_z)).mean() / variance,
            "kl": kl,
        }
        mel = (use_true * target + (1 - use_true) * gentle(pred))[:, part]
        return self.model.voc(mel, low[:, part.start * hop : part.stop * hop]), losses

    def step(self, batch: sounds.Batch, index: int, progress: float, seed: int, *, adversarial: bool) -> Any:
        """One update; gives the losses, not yet computed."""
        import mlx.core as mx

        rng = np.random.default_rng([seed, index, 1])
        B, T = batch.low.shape
        shape = (T // self.config.latent_samples, *self.config.noise_shape[1:])
        steps = np.where(rng.random(B) < 0.85, LAST, rng.integers(300, LAST, B))
        weights = mx.array(np.stack([self.signal[steps], self.noise[steps]], axis=1))
        t = mx.array(steps.astype(np.int32))
        noise = mx.array(rng.standard_normal((B, *shape), np.float32))
        # True mels teach the vocoder to listen; at the end it mostly gets predicted ones, as in use.
        use_true = mx.array((rng.random((B, 1, 1)) < 0.5 * (1 - progress)).astype(np.float32))
        low, high, scale = (mx.array(x) for x in (batch.low, batch.high, batch.scale))
        rate = self.rate * min(1.0, progress / WARM_UP + 1e-3)
        self.optimiser.learning_rate = rate * (0.02 + 0.49 * (1 + math.cos(math.pi * progress)))
        self.judge_optimiser.learning_rate = rate / 2

        (total, losses), (gradient, judge_gradient) = self._gradients[adversarial](
            self.arrays["weights"], self.arrays["judges"], low, high, scale, noise, t, weights, use_true
        )
        # The mel side and the vocoder don't share a limit: a wild step of the one must not slow down the other.
        parts = mx.split(gradient, [self.vocoder_from])
        norms = [mx.linalg.norm(part) for part in parts]
        parts = [part * mx.minimum(1.0, MAX_NORM / (norm + 1e-6)) for part, norm in zip(parts, norms, strict=True)]
        # A step with a gradient that isn't finite leaves everything but the optimiser's means as it is.
        gradient = mx.where(mx.isfinite(sum(norms)), mx.concatenate(parts), 0.0)
        updated = self.optimiser.apply_gradients({"all": gradient}, {"all": self.arrays["weights"]})["all"]
        keep = min(0.999, (1 + index) / (20 + index))
        if adversarial:
            judge_gradient = mx.where(mx.isfinite(mx.linalg.norm(judge_gradient)), judge_gradient, 0.0)
            stepped = self.judge_optimiser.apply_gradients({"all": judge_gradient}, {"all": self.arrays["judges"]})
            self.arrays["judges"] = stepped["all"]
        self.arrays["weights"] = updated
        self.arrays["mean"] = keep * self.arrays["mean"] + (1 - keep) * updated
        losses |= {"total": total, "norm_mel": norms[0], "norm_vocoder": norms[1]}
        mx.async_eval(losses, self.arrays, self.optimiser.state, self.judge_optimiser.state)
        return losses

    def save(self, folder: Path, meta: dict[str, Any]) -> None:
        """Write the state and the running mean of the weights, each under a new name first."""
        import mlx.core as mx
        from mlx.utils import tree_flatten

        frozen = {k: v for k, v in tree_flatten(self.model.parameters()) if k not in self.weights.names}
        weights = frozen | dict(self.weights.named(self.arrays["mean"]))
        flat = dict(self.arrays)
        for part in ("optimiser", "judge_optimiser"):
            flat |= {f"{part}/{k}": v for k, v in tree_flatten(getattr(self, part).state)}
        for name, arrays in (("weights", weights), ("state", flat)):
            mx.save_safetensors(str(folder / f"{name}-new.safetensors"), arrays)
            (folder / f"{name}-new.safetensors").replace(folder / f"{name}.safetensors")
        (folder / "meta.json").write_text(json.dumps(meta))

    def export(self, folder: Path, form: str) -> None:
        """Write the running mean of the weights as a bundle."""
        from mlx.utils import tree_flatten

        from batchsr.models.flashsr import bundle
        from batchsr.models.tools import make

        named = dict(tree_flatten(self.model.parameters())) | dict(self.weights.named(self.arrays["mean"]))
        bundle.write(folder, make.in_format(self.config, form), lambda name, _: np.array(named[name]))

    def load(self, file: Path) -> None:
        """Go on from a saved state."""
        import mlx.core as mx
        from mlx.utils import tree_unflatten

        arrays = mx.load(str(file))
        self.arrays = {name: arrays[name] for name in self.arrays}
        for part in ("optimiser", "judge_optimiser"):
            items = [(k.removeprefix(f"{part}/"), v) for k, v in arrays.items() if k.startswith(f"{part}/")]
            getattr(self, part).state = tree_unflatten(items)


def main() -> None:
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    reels = sounds.cached_reels(options.data, options.out / "reels.npz")
    minutes = {kind: sum(map(len, items)) / 48_000 / 60 for kind, items in reels.items()}
    print(f"channel-minutes: {minutes}; read in {time.monotonic() - start:.0f} s", flush=True)

    state = options.out / "state.safetensors"
    first, spent = 0, 0.0
    if state.exists():
        meta = json.loads((options.out / "meta.json").read_text())
        first, spent = meta["step"], meta["seconds"]
    crops = sounds.Crops(reels, options.crop, options.batch, options.seed)
    batches = sounds.stream(crops, first, options.processes)
    batches = prefetch(itertools.chain([next(batches)], batches))

    trainer = Trainer(options.config, options.rate, options.seed, options.init)
    if first:
        trainer.load(state)
    import mlx.core as mx

    log = (options.out / "log.jsonl").open("a")
    index, pending = first, None
    begun = time.monotonic() - spent
    saved = time.monotonic()
    while True:
        seconds = time.monotonic() - begun
        progress = index / options.steps if options.steps else seconds / 60 / options.minutes
        done = progress >= 1 or seconds - spent > options.stop_after * 60
        if done or time.monotonic() - saved > options.save_every * 60:
            meta = {"step": index, "seconds": seconds, "progress": progress, "seed": options.seed}
            trainer.save(options.out, meta)
            saved = time.monotonic()
        if done:
            break
        adversarial = progress >= options.adversarial_from
        losses = trainer.step(next(batches), index, progress, options.seed, adversarial=adversarial)
        # Look at the step before: asking for this one's figures would make the device wait.
        if pending is not None and (index % 20 == 0 or index < first + 5):
            mx.eval(pending)
            figures = {k: round(float(v), 4) for k, v in pending.items()}
            line = {"step": index, "seconds": round(seconds, 1), "progress": round(progress, 4)} | figures
            print(json.dumps(line), file=log, flush=True)
            if index % 100 == 0 or index < first + 5:
                print(json.dumps(line), flush=True)
        pending = losses
        if index == first:
            mx.eval(losses)
            begun = time.monotonic() - spent  # the first step compiles kernels for seconds; that's no training
        if index % 4 == 0:
            mx.eval(losses)  # keep the queue of work, and its memory, short
        index += 1
    trainer.export(options.out / "bundle", options.format)
    print(f"{index} steps, {(time.monotonic() - begun) / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    main()
