"""Broken files without end, the same for the same seed, and what reading one may at most cost."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import resource
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from batchsr.audio import metadata
from batchsr.audio.files import Source, fits_header, probe
from batchsr.errors import InputError
from tests.audio import odd_files as odd

LONGEST_S = 5.0
MOST_BYTES = 500 * 2**20
LONGEST_MESSAGE = 2000
_LARGEST_SEED_BYTES = 120_000
_EXTREMES = (0, 1, 2, 3, 4, 7, 8, 255, 256, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 8, 2**32 - 1)
_LONG_EXTREMES = (*_EXTREMES, 2**33, 2**62, 2**63 - 9, 2**63 - 1, 2**63, 2**64 - 16, 2**64 - 1)
_NAMES = (
    b"fmt |data|fact|LIST|JUNK|bext|cue |ds64|RIFF|RF64|WAVE|COMM|SSND|FORM|MARK|VHDR|BODY|CHAN|desc|free|info|caff"
    b"|.snd|OggS|fLaC|ID3 |ID3\4|TAG\0|Xing|Info|VBRI|\xff\xfb\x90\x44|APET|wavl|CSET|8SVX|AIFC"
).split(b"|")


def seeds(field: Path | None = None) -> list[tuple[str, bytes]]:
    """Return small good files of every format that is read, and odd ones; those of the `field` too, if it is there."""
    found = list(_made())
    sound = odd.sound(1200)
    tone = odd.sound(600, 2)
    found += [
        (
            "w64 with chunks",
            odd.w64(sound, odd.w64_chunk(b"bext", bytes(602)), before=odd.w64_chunk(b"junk", bytes(29))),
        ),
        ("rf64", odd.rf64(sound, odd.chunk(b"bext", bytes(602)), ds64=struct.pack("<QQQI", 3200, 2400, 1200, 0))),
        ("bw64", odd.rf64(sound, ds64=struct.pack("<QQQI", 3200, 2400, 1200, 0), magic=b"BW64")),
        ("joined", odd.wav(sound) + odd.wav(sound)),
        ("joined with lists", odd.wav(tone, odd.chunk(b"LIST", b"INFO" + odd.chunk(b"INAM", b"Tape 3\0"))) * 2),
        (
            "markers",
            odd.wav(sound, odd.chunk(b"cue ", struct.pack("<I", 1) + struct.pack("<II4sIII", 1, 9, b"data", 0, 0, 9))),
        ),
        ("two data", odd.riff(odd.chunk(b"fmt ", odd.fmt()), *2 * (odd.chunk(b"data", sound.tobytes()),))),
        ("wrapped", odd.riff(odd.chunk(b"fmt ", odd.fmt()), odd.chunk(b"data", odd.wav(sound)))),
        (
            "extensible",
            odd.riff(odd.chunk(b"fmt ", odd.extensible(1, 16, valid=16, mask=4)), odd.chunk(b"data", sound.tobytes())),
        ),
        ("aiff with offset", odd.aiff(bytes(8) + sound.astype(">i2").tobytes(), frames=1200, offset=8)),
        ("aifc sowt", odd.aiff(sound.tobytes(), frames=1200, codec=b"sowt")),
        ("caf with chunks", odd.caf(sound, odd.caf_chunk(b"midi", bytes(300)), odd.caf_chunk(b"info", bytes(4)))),
        ("au annotated", odd.au(sound, claimed=0xFFFFFFFF, note=bytes(100))),
        ("8svx", odd.svx(bytes(1000), once=1000, stereo=True)),
        ("8svx fibonacci", odd.svx(bytes(1000), once=1000, compression=1)),
        (
            "voc blocks",
            odd.voc(
                (1, b"\x9c\0" + bytes(500)),
                (2, bytes(300)),
                (3, b"\x63\0\x9c"),
                (8, b"\0\0\0\1"),
                (1, b"\x9c\0" + bytes(50)),
            ),
        ),
        (
            "voc rates",
            odd.voc(*((9, struct.pack("<IBBHI", rate, 16, 1, 4, 0) + sound.tobytes()) for rate in (8000, 11025))),
        ),
    ]
    if field is not None and field.is_dir():
        for path in sorted(field.iterdir()):
            if path.suffix != ".csv" and path.stat().st_size <= _LARGEST_SEED_BYTES:
                found.append((path.name, path.read_bytes()))
    return found


def _made() -> Iterator[tuple[str, bytes]]:
    samples = (0.3 * np.sin(np.arange(1600) / 9))[:, None]
    for form in sorted(set(soundfile.available_formats()) - {"RAW", "SD2"}):
        for subtype in soundfile.available_subtypes(form):
            if subtype.startswith("DWVW") or (form, subtype) == ("WAV", "MPEG_LAYER_III"):
                continue
            file = io.BytesIO()
            try:
                soundfile.write(file, samples, 8000, format=form, subtype=subtype)
            except soundfile.LibsndfileError:
                continue  # it reads it only
            yield f"{form} {subtype}", file.getvalue()


def mutated(number: int, good: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    """Return broken file `number`: (what it was, its bytes). The same number gives the same file."""
    rng = np.random.default_rng([17, number])
    name, data = good[int(rng.integers(len(good)))]
    broken = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        _break(broken, rng, good)
    return name, bytes(broken[: 2**20 - 1])


def _break(data: bytearray, rng: np.random.Generator, good: list[tuple[str, bytes]]) -> None:
    size = len(data)
    if size < 16:
        data += bytes(64)
        return
    # Headers stand at the front, and some things at the end.
    reach = size if rng.random() < 0.25 else min(size, 200)
    at = int(rng.integers(reach)) if rng.random() < 0.9 else max(size - int(rng.integers(1, 200)), 0)
    kind = int(rng.integers(12))
    if kind <= 1:
        data[at] = int(rng.integers(256))
    elif kind == 2:
        data[at] ^= 1 << int(rng.integers(8))
    elif kind == 3:
        value = _EXTREMES[int(rng.integers(len(_EXTREMES)))]
        data[at : at + 4] = value.to_bytes(4, "big" if rng.random() < 0.5 else "little")
    elif kind == 4:
        value = _LONG_EXTREMES[int(rng.integers(len(_LONG_EXTREMES)))]
        data[at : at + 8] = value.to_bytes(8, "big" if rng.random() < 0.5 else "little")
    elif kind == 5:
        del data[int(rng.integers(size)) :]
    elif kind == 6:
        del data[at : at + int(rng.integers(1, 64))]
    elif kind == 7:
        data[at:at] = rng.bytes(int(rng.integers(1, 64)))
    elif kind == 8:
        data[at:at] = data[at : at + int(rng.integers(1, 400))]
    elif kind == 9:
        name = _NAMES[int(rng.integers(len(_NAMES)))]
        data[at : at + 4] = name
        if rng.random() < 0.5:
            data[at + 4 : at + 4] = int(rng.choice(_EXTREMES)).to_bytes(4, "little")
    elif kind == 10:
        data += good[int(rng.integers(len(good)))][1][: int(rng.integers(1, 4000))]
    else:
        other = good[int(rng.integers(len(good)))][1]
        cut = int(rng.integers(min(len(other), 300)))
        data[at : at + cut] = other[:cut]


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """What came of reading one file."""

    outcome: str
    """"read", or the code of the error."""
    seconds: float
    wrong: str = ""
    """What must not be, "" where all is well."""


def read_all(path: Path, *, accept_truncated: bool) -> Cost:
    """Read a file as `work` does: probe, metadata, every sample. Anything but an InputError of ours comes out."""
    before_bytes = _peak_bytes()
    started, worked = time.monotonic(), time.process_time()
    outcome, texts = "read", []
    try:
        fits_header(path)
        texts += [remark.message for remark in probe(path, accept_truncated=accept_truncated).remarks]
        found = metadata.read(path)
        metadata.carry_over(found, form="wav", subtype="PCM_24", channels=1, source_rate_hz=8000, program="fuzz")
        json.dumps(found.to_dict())
        with Source.open(path, accept_truncated=accept_truncated) as source:
            count = sum(len(block) for block in source.blocks())
            assert count == source.info.frames > 0
            texts += [remark.message for remark in source.remarks]
    except InputError as e:
        outcome = e.code
        texts.append(str(e))
    # A busy machine makes all slow: what is spent counts, and of the clock only what no machine explains.
    seconds = max(time.process_time() - worked, (time.monotonic() - started) / 6)
    grown = _peak_bytes() - before_bytes
    wrong = []
    if seconds > LONGEST_S:
        wrong.append(f"{seconds:.1f} s")
    if grown > MOST_BYTES:
        wrong.append(f"{grown / 2**20:.0f} MB")
    wrong += [f"a message of {len(text):,} characters" for text in texts if len(text) > LONGEST_MESSAGE or "\n" in text]
    return Cost(outcome, seconds, ", ".join(wrong))


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if os.uname().sysname == "Darwin" else peak * 1024
