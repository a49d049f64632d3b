#!/usr/bin/env python3
"""Train a small FlashSR, such as the bundle `tiny`, in pieces of any length; needs JAX.

    python scripts/train_tiny.py DATA --from batchsr/bundles/tiny --out RUN --minutes 10
    python scripts/train_tiny.py DATA --from RUN/state.safetensors --out RUN2 --minutes 10 --decay 0.5
    python scripts/mix_weights.py RUN2/weights.safetensors tiny

DATA holds sound files in one folder a Debian package (scripts/training/sounds.py). --from is a bundle (of random
weights, by scripts/make_bundle.py, for a training from scratch), the state that an earlier run left, or weights alone.
RUN gets `log.jsonl`, every few minutes `state.safetensors`, to go on from, and `weights.safetensors` (float16, the
running mean of the weights), to make a bundle of.

Over the last part of a run (--decay) the rate falls to nothing: that gives the better weights, but not the better state
to go on from. So the state is that of the moment before; a run that only passes its state on has --decay 0.

On an H100 (JAX 0.11.2) `tiny` compiles in 90 s and takes 64 ms a step; there, XLA_FLAGS=--xla_gpu_enable_cublaslt=false
has to be in the environment, since one product failed in cublasLt. JAX_COMPILATION_CACHE_DIR=FOLDER spares the next run
the compiling. `python -m scripts.training.pack` makes DATA small enough to be carried there.

Everything is trained together: the VAE on log-mels, the UNet on the VAE's latents, the vocoder half on true and half
on predicted mels, and discriminators. Same seed and step, same batch; a GPU's own sums are not repeatable.
"""

from __future__ import annotations

import argparse
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
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.training import sounds  # without JAX: processes are forked before it starts

if TYPE_CHECKING:
    from scripts.training.held import Held
    from scripts.training.trainer import State, Trainer

TRUE_MELS = 0.2
"""Share of the rows whose vocoder gets the true mel, which teaches it to listen; none at the end, as in use."""
REST = 0.02
"""Share of the learning rate that is left at the end of the decay."""


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    tiny = Path(__file__).parent / "training" / "tiny.json"
    parser.add_argument("--config", type=Path, default=tiny, help="config.json of the bundle to be (default: tiny's)")
    parser.add_argument("--from", dest="begin", type=Path, required=True, help="bundle, state or weights to begin with")
    parser.add_argument("--out", type=Path, required=True)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="of this run, compiling not counted")
    length.add_argument("--steps", type=int, help="of this run")
    parser.add_argument("--decay", type=float, default=0.3, help="last share of the run, in which the rate falls (0.3)")
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--crop", type=int, default=61_440, help="samples, a multiple of what the UNet divides by")
    parser.add_argument("--rate", type=float, default=3e-4, help="learning rate before the decay")
    parser.add_argument("--heed", type=float, default=1.0, help="of the discriminators; 0: train for levels alone (1)")
    parser.add_argument("--still", nargs="*", default=[], choices=("vae", "ldm", "voc"), help="networks that stay")
    parser.add_argument("--by-measure", action="store_true", help="roots of mean squares, as the quality measure has")
    parser.add_argument("--held", type=Path, help="folder of clips to measure at every saving, by the running mean")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=max(0, (os.cpu_count() or 1) - 2))
    parser.add_argument("--save-every", type=float, default=2.0, help="minutes")
    parser.add_argument("--cache", type=Path, help="keep the decoded sound here (default: RUN/reels.npz)")
    return parser.parse_args(argv)


def prefetch(batches: Iterator[sounds.Batch], ahead: int = 4) -> Iterator[sounds.Batch]:
    """The same batches, brought to the device by a thread while it computes."""
    import jax

    ready: queue.Queue[Any] = queue.Queue(maxsize=ahead)

    def fill() -> None:
        for batch in batches:
            ready.put(sounds.Batch(*(jax.device_put(x) for x in (batch.low, batch.high, batch.scale))))

    threading.Thread(target=fill, daemon=True).start()
    while True:
        yield ready.get()


def beginning(source: Path) -> State:
    """The state in a file, or that of a training that has not begun: at a file's weights or a bundle's."""
    from safetensors import safe_open

    from scripts.training.trainer import State

    if source.is_dir():
        from batchsr.models.compute import backend

        backend.prepare(device="cpu")
        import mlx.core as mx
        from mlx.utils import tree_flatten

        from batchsr.models.flashsr import bundle

        _, networks = bundle.load(source, mx.float32)
        return State.of({name: np.array(value) for name, value in tree_flatten(networks.parameters())})
    with safe_open(source, "np") as stored:
        if stored.metadata() and "step" in stored.metadata():
            return State.read(source)
        return State.of({name: stored.get_tensor(name).astype(np.float32) for name in stored.keys()})  # noqa: SIM118


def share_of_rate(progress: float, decay: float) -> float:
    """What the schedule leaves of the rate: all, then half a cosine down to REST over the last share `decay`."""
    if progress <= 1 - decay or not decay:
        return 1.0
    fallen = min(1.0, (progress - (1 - decay)) / decay)
    return REST + (1 - REST) * 0.5 * (1 + math.cos(math.pi * fallen))


def new_trainer(options: argparse.Namespace) -> Trainer:
    from batchsr.models.flashsr.config_sizes import MelConfig
    from batchsr.models.flashsr.mel_bands import mel_bands
    from batchsr.models.flashsr.schedule import cumulative_alphas
    from scripts.training import losses
    from scripts.training.trainer import Trainer, read_config

    config = read_config(options.config)
    bands = {n: mel_bands(MelConfig(n_fft=n, n_mels=m, fmin=200.0 * 2048 / n)) for n, m in losses.BANDS.items()}
    bands[0] = mel_bands(MelConfig(**config["mel"]))
    state = beginning(options.begin)
    settings = {"heed": options.heed, "still": options.still, "by_measure": options.by_measure}
    return Trainer(config, state, bands, cumulative_alphas(), options.seed, **settings)


def held_out(folder: Path, trainer: Trainer) -> Held:
    """Clips to measure by; what they measure to begin with is printed."""
    from scripts.training.held import Held

    held = Held(folder, trainer.config, trainer.bands[0], trainer.signal, trainer.noise)
    print(json.dumps({"step": trainer.step_count} | held.distances(trainer.mean_weights())), flush=True)
    return held


def save(trainer: Trainer, folder: Path, *, decaying: bool) -> None:
    """Write the weights and, before the decay, the state."""
    from safetensors.numpy import save_file

    from scripts.training.trainer import half

    state = trainer.state()
    if not decaying:
        state.write(folder / "state.safetensors")
    new = folder / "weights-new.safetensors"
    save_file({name: half(x) for name, x in state.mean.items()}, new)
    new.replace(folder / "weights.safetensors")


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    reels = sounds.cached_reels(options.data, options.cache or options.out / "reels.npz")
    minutes = {kind: round(sum(map(len, items)) / 48_000 / 60, 1) for kind, items in reels.items()}
    print(f"channel-minutes: {minutes}; read in {time.monotonic() - start:.0f} s", flush=True)

    # The step is needed before JAX may start, and the weights are read by it: so the batches' seed is the step's.
    first = first_step(options.begin)
    crops = sounds.Crops(reels, options.crop, options.batch, options.seed)
    batches = sounds.stream(crops, first, options.processes)
    batches = prefetch(itertools.chain([next(batches)], batches))
    trainer = new_trainer(options)
    import jax

    held = held_out(options.held, trainer) if options.held else None
    log = (options.out / "log.jsonl").open("a")
    pending, decaying = None, False
    begun = saved = time.monotonic()
    for index in itertools.count():
        seconds = time.monotonic() - begun
        progress = index / options.steps if options.steps else seconds / 60 / options.minutes
        ends = progress >= 1
        falls = not decaying and options.decay > 0 and progress > 1 - options.decay
        if ends or falls or time.monotonic() - saved > options.save_every * 60:
            save(trainer, options.out, decaying=decaying)
            if held is not None:
                line = {"step": first + index, "seconds": round(seconds, 1)} | held.distances(trainer.mean_weights())
                print(json.dumps(line), file=log, flush=True)
                print(json.dumps(line), flush=True)
            saved = time.monotonic()
        decaying |= falls
        if ends:
            break
        rate = options.rate * share_of_rate(progress, options.decay)
        found = trainer.step(next(batches), rate, TRUE_MELS * (1 - progress))
        # Look at the step before: asking for this one's figures would make the device wait.
        if pending is not None and (index % 20 == 0 or index < 5):
            figures = {name: round(float(value), 4) for name, value in pending.items()}
            line = {"step": first + index, "seconds": round(seconds, 1), "progress": round(progress, 4)} | figures
            print(json.dumps(line), file=log, flush=True)
            if index % 200 == 0 or index < 5:
                print(json.dumps(line), flush=True)
        pending = found
        if index == 0:
            jax.block_until_ready(found)
            print(f"compiled: {time.monotonic() - start:.0f} s after the start", flush=True)
            begun = saved = time.monotonic()  # that's no training
        if index % 4 == 0:
            jax.block_until_ready(found)  # keep the queue of work, and its memory, short
    print(f"{index} steps, {(time.monotonic() - begun) / 60:.1f} minutes", flush=True)
    return 0


def first_step(source: Path) -> int:
    """How many steps the weights in a file have seen; 0 if it does not say."""
    from safetensors import safe_open

    if source.is_dir():
        return 0
    with safe_open(source, "np") as stored:
        return int((stored.metadata() or {}).get("step", 0))


if __name__ == "__main__":
    raise SystemExit(main())
