#!/usr/bin/env python3
"""Time a window, stage by stage, and print a table.

    scripts/bench.py                               # published size, random weights, this machine's backend
    scripts/bench.py --bundle FOLDER --batch 1 8 --dtype float16 --runs 5
    scripts/bench.py --count                       # what a window multiplies and moves, and what Macs could reach
    scripts/bench.py --runner                      # and what the runner costs beside the model (bench_runner.py)

Medians of several runs after a warm-up; milliseconds are per window, whatever the batch.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PUBLISHED_TFLOP = {"encode": 0.79, "unet": 0.07, "decode": 1.72, "vocoder": 3.11, "window": 5.69}
"""Arithmetic of one window of the published size."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--bundle", type=Path, help="a bundle's folder (default: random weights of --size)")
    parser.add_argument("--size", default="published", help="published (default), small or tiny")
    parser.add_argument("--frame-samples", type=int, help="samples of a window (default: the size's own)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="windows a pass (default: 1)")
    parser.add_argument("--dtype", help="float32, float16 or bfloat16 (default: the backend's choice)")
    parser.add_argument("--device", help="cpu or gpu (default: the best there is)")
    parser.add_argument("--runs", type=int, default=3, help="runs to take the median of (default: 3)")
    parser.add_argument("--runner", action="store_true", help="go on with bench_runner.py, a few minutes")
    parser.add_argument("--count", action="store_true", help="compute nothing: count, beside what Macs can do")
    args = parser.parse_args(argv)

    from batchsr.models.compute import backend

    if args.count:
        return print_counts(args)
    chosen = backend.prepare(args.dtype, args.device)
    print(f"machine   {machine()}")
    print(f"software  Python {platform.python_version()}, numpy {np.__version__}, MLX {chosen.mlx_version}")
    print(f"backend   {chosen.label}, {chosen.dtype}")
    with backend.loading():
        networks, config = load(args, chosen)
    for batch in args.batch:
        limit_memory(networks, config, batch)
        print_table(networks, config, batch, args.runs)
    print(f"peak      {peak_memory_gb():.2f} GB of the process")
    if args.runner:
        import bench_runner

        bench_runner.main([])
    return 0


def print_counts(args: argparse.Namespace) -> int:
    """Tables of operations and bytes (scripts/counting.py) for a size or a bundle; on any machine the same."""
    from batchsr.models.compute import backend

    backend.prepare(device="cpu")
    import counting

    from batchsr.models.flashsr import bundle
    from batchsr.models.flashsr.networks import Networks
    from batchsr.models.tools import make

    config = bundle.read_config(args.bundle) if args.bundle else make.config_of_size(args.size)
    counting.print_counts(Networks(config), config)
    return 0


def load(args: argparse.Namespace, chosen: Any) -> tuple[Any, Any]:
    """The networks and their config, from a bundle or at random."""
    import mlx.core as mx

    from batchsr.models.flashsr import bundle
    from batchsr.models.flashsr.networks import Networks
    from batchsr.models.tools import make

    if args.bundle:
        config, networks = bundle.load(args.bundle, chosen.mlx_dtype())
        return networks, config
    config = make.config_of_size(args.size, frame_samples=args.frame_samples)
    mx.random.seed(0)
    networks = Networks(config)
    networks.cast(chosen.mlx_dtype())
    mx.eval(networks.parameters())
    networks.ready()
    return networks, config


def limit_memory(networks: Any, config: Any, batch: int) -> None:
    """Tell MLX to keep below what a pass takes, as a worker does that has the memory (batchsr.models.batch_size)."""
    import mlx.core as mx

    from batchsr.models import batch_size
    from batchsr.models.flashsr.networks import row_bytes

    mx.clear_cache()
    if batch_size.free_bytes() is not None:
        mx.set_memory_limit(mx.get_active_memory() + batch * row_bytes(config, networks.dtype.size))


def print_table(networks: Any, config: Any, batch: int, runs: int) -> None:
    """One line a stage."""
    import mlx.core as mx

    heads = f"{'ms/window':>10s} {'slowest':>9s} {'x real time':>11s} {'peak GB':>9s} {'TFLOP/s':>8s}"
    print(f"\n{'batch ' + str(batch):10s} {heads}")
    before_gb = mx.get_active_memory() / 1e9
    published = config.audio.frame_samples == 245_760 and config.vocoder.upsample_initial_channel == 1536
    for name, run in stages(networks, config, batch).items():
        run()
        mx.reset_peak_memory()
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) / batch)
        median = statistics.median(times)
        speed = config.audio.frame_samples / config.audio.sample_rate / median
        flops = f"{PUBLISHED_TFLOP[name] / median:8.2f}" if published and name in PUBLISHED_TFLOP else ""
        peak_gb = mx.get_peak_memory() / 1e9 - before_gb
        figures = f"{median * 1e3:10.1f} {max(times) * 1e3:9.1f} {speed:11.2f} {peak_gb:9.2f} {flops}"
        print(f"{name:10s} {figures}", flush=True)
    print(f"{'':10s} beside {before_gb:.2f} GB of weights, MLX's limit being {mx.get_memory_limit() / 1e9:.2f} GB")


def stages(networks: Any, config: Any, batch: int) -> dict[str, Callable[[], None]]:
    """Each stage as a function that runs it once, to the end."""
    import mlx.core as mx

    rng = np.random.default_rng(0)

    def random(*shape: int, scale: float = 1.0, dtype: mx.Dtype = networks.dtype) -> mx.array:
        return mx.array((scale * rng.standard_normal((batch, *shape))).astype(np.float32)).astype(dtype)

    frames, bands = config.audio.frame_samples // config.mel.hop, config.mel.n_mels
    sound, mel = random(config.audio.frame_samples, scale=0.1, dtype=mx.float32), random(frames, bands, scale=2.0)
    z, noise = random(*config.noise_shape), random(*config.noise_shape, dtype=mx.float32)
    t = mx.full((batch,), 999.0)
    weights = mx.broadcast_to(mx.array([4.93e-5, 1.0])[:, None], (2, batch))
    everything = {
        "mel": lambda: networks.log_mel(sound),
        "encode": lambda: networks.vae.encode(mel),
        "unet": lambda: networks.ldm(z, z, t),
        "decode": lambda: networks.vae.decode(z),
        "vocoder": lambda: networks.voc(mel, sound),
        "window": lambda: networks(sound, noise, t, weights),
    }
    mx.eval(sound, mel, z, noise, t, weights)
    return {name: lambda f=f: mx.eval(f()) for name, f in everything.items()}


def machine() -> str:
    """Processor and cores, in words."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    return f"{platform.system()}, {name}, {os.cpu_count()} cores"


def peak_memory_gb() -> float:
    """Most memory that this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak / 1e6


if __name__ == "__main__":
    sys.exit(main())
