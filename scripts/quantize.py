#!/usr/bin/env python3
"""Write a bundle again in another format, with a model card to be filled in.

    scripts/quantize.py FOLDER_IN FOLDER_OUT --format int4
    scripts/quantize.py FOLDER_IN FOLDER_OUT --format int4 --errors tests/data/phone_8k.wav

The second prints, stage by stage, how far the new numbers lie from the old ones on a window out of a recording.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("source", type=Path, help="a bundle's folder, best in float32 or float16")
    parser.add_argument("folder", type=Path, help="where to write the new bundle")
    parser.add_argument("--format", default="int8", help="float32, float16, bfloat16, int8 (default) or int4")
    parser.add_argument("--errors", type=Path, metavar="RECORDING", help="measure what it costs, on this sound")
    args = parser.parse_args(argv)

    from batchsr.errors import BatchsrError
    from batchsr.models.compute import backend

    try:
        backend.prepare()
        from batchsr.models.flashsr import bundle
        from batchsr.models.tools import card, make

        config = make.rewrite(args.source, args.folder, args.format)
        origin = f"Written by `scripts/quantize.py` from {args.source.resolve().name}"
        card.write(args.folder, config, f"{origin} ({bundle.read_config(args.source).format}).")
    except BatchsrError as error:
        print(f"quantize: {error}", file=sys.stderr)
        return error.exit_code
    size_bytes = (args.folder / bundle.WEIGHTS_NAME).stat().st_size
    quantised = len(config.quantized_shapes)
    print(f"{args.folder}: {size_bytes / 2**20:.1f} MiB, {config.format}, {quantised} tensors quantised")
    if args.errors:
        for stage, error in errors(args.source, args.folder, args.errors).items():
            print(f"{stage:<8} {error:.1e}")
    return 0


def errors(source: Path, folder: Path, recording: Path) -> Mapping[str, float]:
    """Relative errors of a bundle against its source, on the middle window of a recording."""
    import numpy as np

    from batchsr.models.flashsr import bundle
    from batchsr.models.tools import compare
    from batchsr.quality import measure

    config, reference = bundle.load(source)
    _, other = bundle.load(folder)
    sound = measure.sinc(*measure.read_sound(recording))
    x = measure.fit(measure.middle(sound, config.audio.frame_samples / 48_000), config.audio.frame_samples)[None]
    noise = np.random.default_rng(0).standard_normal((1, *config.noise_shape))
    return compare.stage_errors(reference, other, 0.5 * x / np.abs(x).max(), noise)


if __name__ == "__main__":
    sys.exit(main())
