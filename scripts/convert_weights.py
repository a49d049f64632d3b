#!/usr/bin/env python3
"""Turn the authors' PyTorch checkpoints into a bundle, with a model card to be filled in.

    scripts/convert_weights.py CHECKPOINTS FOLDER --format int8

CHECKPOINTS is a folder with student_ldm.pth, sr_vocoder.pth and vae.pth. They are pickles, which could do anything if
they were loaded: they are not, their tensors are read (batchsr.models.tools.torch_files). PyTorch is not needed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("checkpoints", type=Path, help="folder with the three .pth files")
    parser.add_argument("folder", type=Path, help="where to write the bundle")
    parser.add_argument("--format", default="float16", help="float32, float16 (default), bfloat16, int8 or int4")
    parser.add_argument("--config", type=Path, help="config.json naming other sizes (default: the published ones)")
    args = parser.parse_args(argv)

    from batchsr.errors import BatchsrError
    from batchsr.models.compute import backend

    try:
        backend.prepare()
        from batchsr.models.flashsr import bundle
        from batchsr.models.tools import card, convert, make, torch_files

        config = bundle.read_config(args.config.parent) if args.config else make.config_of_size("published")
        tensors = convert.converted(
            config, {part: torch_files.state_dict(args.checkpoints / name) for part, name in convert.FILES.items()}
        )
        written = bundle.write(args.folder, make.in_format(config, args.format), lambda name, _: tensors[name])
        card.write(
            args.folder, written, f"Written by `scripts/convert_weights.py` from {', '.join(convert.FILES.values())}."
        )
    except BatchsrError as error:
        print(f"convert_weights: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{args.folder}: {len(tensors)} tensors, {args.format}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
