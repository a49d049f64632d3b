#!/usr/bin/env python3
"""Make a folder of sound small enough to be carried to a machine with a GPU: a part of each recording that is used.

    python -m scripts.training.pack DATA PACK --speech 60 --music 60 --effects 25 --percussion 15

The numbers are megabytes of each kind. What is not full-band is left out, and what is there twice.
Of an Ogg file whole pages are kept, from a third of it on, behind its headers: what a lossy codec has made is not coded
once more. WAV and FLAC become FLAC of one channel, 16 bit. Of each voice and each folder of short sounds, as much is
taken as of the others.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile as sf

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from scripts.training import sounds

HEADERS = 3
"""Packets of Vorbis before the sound."""
LEAST = 2_000
"""Bytes: less of a file is left out."""
SHORT_S = 2.0
"""So much of each one-shot of an instrument: the rest is its dying away."""


def pages(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Each Ogg page with the number of packets that end in it."""
    at = 0
    while data[at : at + 4] == b"OggS":
        count = data[at + 26]
        lacing = data[at + 27 : at + 27 + count]
        length = 27 + count + sum(lacing)
        yield data[at : at + length], sum(value < 255 for value in lacing)
        at += length


def part_of_ogg(data: bytes, size: int) -> bytes:
    """The headers of an Ogg Vorbis file and pages of `size` bytes, from a third of the sound on; all if it is small."""
    head, packets, rest = [], 0, []
    for page, ends in pages(data):
        if packets < HEADERS:
            head.append(page)
            packets += ends
        else:
            rest.append(page)
    total = sum(map(len, rest))
    if total <= size:
        return data
    passed = 0
    kept: list[bytes] = []
    for page in rest:
        passed += len(page)
        if passed > min(total / 3, total - size) and sum(map(len, kept)) < size:
            kept.append(page)
    return b"".join([*head, *kept])


def as_flac(path: Path, to: Path, seconds: float) -> None:
    """The first channel's first seconds, 16 bit."""
    samples, rate_hz = sf.read(path, dtype="float32", always_2d=True)
    sf.write(to, np.clip(samples[: int(seconds * rate_hz), 0], -1, 1), rate_hz, format="FLAC", subtype="PCM_16")


def size_of(path: Path, kind: str, share: int) -> int:
    """Bytes that a part of at most `share` bytes would have, about."""
    if path.suffix.lower() in (".ogg", ".oga"):
        return min(path.stat().st_size, share)
    info = sf.info(path)
    seconds = min(info.duration, SHORT_S if kind == "percussion" else share / 60_000)
    return int(seconds * 60_000)


def chosen(files: list[Path], kind: str, budget: int) -> list[tuple[Path, int]]:
    """Files and bytes of each: as much of every group (a voice, a folder) as fits, and within it of every file."""
    groups: dict[str, list[Path]] = {}
    for path in files:
        groups.setdefault(path.as_posix() if kind == "music" else sounds.voice_of(path), []).append(path)

    def taken(share: int) -> list[tuple[Path, int]]:
        items = []
        for group in groups.values():
            left = share
            # Not the first ones: a folder's order goes by name, from one subject to the next.
            for path in [group[i] for i in np.random.default_rng(0).permutation(len(group))]:
                size = size_of(path, kind, left)
                if left < LEAST or size < LEAST:
                    continue
                items.append((path, size))
                left -= size
        return items

    low, high = 0, budget
    while high - low > 2_000:
        middle = (low + high) // 2
        low, high = (low, middle) if sum(size for _, size in taken(middle)) > budget else (middle, high)
    return taken(low)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("pack", type=Path)
    for kind in sounds.SHARES:
        parser.add_argument(f"--{kind}", type=float, default=10, help="megabytes (10)")
    options = parser.parse_args(argv)
    found: dict[str, list[Path]] = {kind: [] for kind in sounds.SHARES}
    seen: set[bytes] = set()
    for path in sounds.files_in(options.data):
        digest = hashlib.sha256(path.read_bytes()).digest()
        if digest not in seen and sounds.is_full_band(path):
            found[sounds.kind_of(path)].append(path)
        seen.add(digest)
    for kind, files in found.items():
        items = chosen(files, kind, int(getattr(options, kind) * 1e6))
        for path, size in items:
            to = options.pack / path.relative_to(options.data)
            to.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix.lower() in (".ogg", ".oga"):
                to.write_bytes(part_of_ogg(path.read_bytes(), size))
            else:
                as_flac(path, to.with_suffix(".flac"), size / 60_000)
        print(f"{kind}: {len(items)} of {len(files)} files, {sum(size for _, size in items) / 1e6:.1f} MB")
    return os.EX_OK


if __name__ == "__main__":
    raise SystemExit(main())
