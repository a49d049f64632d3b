#!/usr/bin/env python3
"""Write a bundle of any size with random weights that anyone can make again.

    scripts/make_bundle.py demo/bundle                      # small and fast: for trying the program
    scripts/make_bundle.py full --size published --format int4

Its sound is noise: the weights are random, whatever the size.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path, help="where to write config.json and model.safetensors")
    parser.add_argument("--size", choices=("tiny", "small", "published"), default="tiny", help="widths (default: tiny)")
    parser.add_argument("--format", default="float32", help="float32 (default), float16, bfloat16, int8 or int4")
    parser.add_argument("--seed", default="demo", help="any text; the same text gives the same weights")
    parser.add_argument("--frame-samples", type=int, help="samples of a window (default: 245760; tiny: 15360)")
    args = parser.parse_args(argv)

    from batchsr.errors import BatchsrError
    from batchsr.models.compute import backend

    try:
        backend.prepare()
        from batchsr.models.tools import card, make

        config = make.config_of_size(args.size, format=args.format, frame_samples=args.frame_samples)
        made = make.write_random(args.folder, config, args.seed)
        card.write(
            args.folder, config, f"Random weights, seed {args.seed!r}, by `scripts/make_bundle.py`: it makes noise."
        )
    except BatchsrError as error:
        print(f"make_bundle: {error}", file=sys.stderr)
        return error.exit_code
    print(
        f"{args.folder}: {made.parameters / 1e6:.1f} M parameters, {made.size_bytes / 2**20:.1f} MiB, {config.format}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
