#!/usr/bin/env python3
"""Write a bundle of a training's weights, of the means of two trainings' with a share for each network, or of several.

    scripts/mix_weights.py RUN/weights.safetensors BUNDLE
    scripts/mix_weights.py RUN/weights.safetensors LATER/weights.safetensors BUNDLE --voc 0.4
    scripts/mix_weights.py RUN1/weights.safetensors RUN2/weights.safetensors RUN3/weights.safetensors BUNDLE

The second training must have begun with the first one's weights (train_tiny.py --from), or their means are noise. What
a training without discriminators gains in levels is the VAE's and the UNet's; its vocoder buzzes. So `tiny` took all of
the former and a part of the latter. Three or more count alike: short trainings from the same weights, each with a seed
of its own, differ by chance, and their mean by less.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

NETWORKS = ("vae", "ldm", "voc")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="+", help="weights.safetensors of a training, and of a later one")
    parser.add_argument("bundle", type=Path, help="folder to write")
    for network in NETWORKS:
        parser.add_argument(f"--{network}", type=float, default=1.0, help=f"the second's share in `{network}.*` (1)")
    tiny = Path(__file__).parent / "training" / "tiny.json"
    parser.add_argument("--config", type=Path, default=tiny, help="config.json of both (default: tiny's)")
    parser.add_argument("--format", default="int8", help="float32, float16, int8 (default) or int4")
    options = parser.parse_args(argv)
    if len(options.weights) > 2 and any(getattr(options, network) != 1.0 for network in NETWORKS):
        parser.error("shares are for two trainings; three or more count alike")

    from batchsr.models.compute import backend

    backend.prepare(device="cpu")
    import mlx.core as mx

    from batchsr.models.flashsr import bundle
    from batchsr.models.flashsr.config import ModelConfig
    from batchsr.models.tools import make

    trainings = [mx.load(str(file)) for file in options.weights]
    config = make.in_format(ModelConfig.from_mapping(json.loads(options.config.read_text())), options.format)

    def mixed(name: str, _: tuple[int, ...]) -> np.ndarray:
        arrays = [np.array(weights[name].astype(mx.float32)) for weights in trainings]
        if len(arrays) > 2:
            return np.asarray(np.mean(arrays, axis=0))
        share = getattr(options, name.partition(".")[0])
        return np.asarray(arrays[0] + np.float32(share) * (arrays[-1] - arrays[0]))

    bundle.write(options.bundle, config, mixed)
    print(f"{options.bundle}: {(options.bundle / 'model.safetensors').stat().st_size / 1e6:.2f} MB, {config.format}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
