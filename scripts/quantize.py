#!/usr/bin/env python3
"""Write a bundle again in another format.

scripts/quantize.py FOLDER_IN FOLDER_OUT --format int4
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("source", type=Path, help="a bundle's folder, best in float32 or float16")
    parser.add_argument("folder", type=Path, help="where to write the new bundle")
    parser.add_argument("--format", default="int8", help="float32, float16, bfloat16, int8 (default) or int4")
    args = parser.parse_args(argv)

    from batchsr.errors import BatchsrError
    from batchsr.model import backend

    try:
        backend.prepare()
        from batchsr.model import bundle, make

        config = make.rewrite(args.source, args.folder, args.format)
    except BatchsrError as error:
        print(f"quantize: {error}", file=sys.stderr)
        return error.exit_code
    size_bytes = (args.folder / bundle.WEIGHTS_NAME).stat().st_size
    quantised = len(config.quantized_shapes)
    print(f"{args.folder}: {size_bytes / 2**20:.1f} MiB, {config.format}, {quantised} tensors quantised")
    return 0


if __name__ == "__main__":
    sys.exit(main())
