#!/usr/bin/env python3
"""Write the self-test's reference anew: what each stage of `tiny` makes of a known window, in float32 on the CPU.

scripts/make_reference.py                  # after `tiny` was trained on, or a network was changed on purpose
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

MANTISSA_BITS = 14
"""Kept of the 23: the file is half as large, and 3e-5 lies far below every tolerance."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--bundle", type=Path, default=Path(__file__).parents[1] / "batchsr" / "bundles" / "tiny")
    args = parser.parse_args(argv)

    from batchsr.models.compute import backend

    chosen = backend.prepare("float32", "cpu")
    from batchsr.models import self_test
    from batchsr.models.flashsr import bundle

    config, networks = bundle.load(args.bundle, chosen.mlx_dtype())
    given = self_test.window(config.audio.frame_samples, config.noise_shape)
    found = {name: rounded(values) for name, values in self_test.stages(networks, *given).items()}
    digest = np.frombuffer(bytes.fromhex(bundle.weights_sha256(args.bundle)), np.uint8)
    path = args.bundle / self_test.REFERENCE_NAME
    np.savez_compressed(path, weights_sha256=digest, **found)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")
    for name, values in found.items():
        print(f"{name:8s} {values.shape}, rms {np.sqrt(np.mean(values**2)):.4f}")
    return 0


def rounded(values: np.ndarray) -> np.ndarray:
    """The same with fewer bits, rounded to the nearest."""
    drop = 23 - MANTISSA_BITS
    bits = values.astype(np.float32).view(np.uint32) + np.uint32(1 << (drop - 1))
    return (bits & np.uint32(0xFFFFFFFF << drop & 0xFFFFFFFF)).view(np.float32)


if __name__ == "__main__":
    sys.exit(main())
