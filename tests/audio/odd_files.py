"""Sound files written byte by byte, so that each can be wrong in one way."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 8000
W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")
W64_RIFF = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000")


def sound(frames: int = 4000, channels: int = 1, seed: int = 0) -> NDArray[np.int16]:
    """Something like speech: a wandering tone, (frames, channels)."""
    rng = np.random.default_rng(seed)
    phase = np.cumsum(rng.uniform(0.05, 0.4, (frames, channels)), axis=0)
    return (9000 * np.sin(phase) + rng.normal(0, 300, (frames, channels))).astype(np.int16)


def chunk(key: bytes, body: bytes, *, claimed: int | None = None, pad: bool = True, order: str = "<") -> bytes:
    length = len(body) if claimed is None else claimed
    return key + struct.pack(order + "I", length) + body + (b"\0" if pad and len(body) & 1 else b"")


def fmt(
    channels: int = 1,
    bits: int = 16,
    *,
    rate_hz: int = RATE_HZ,
    tag: int = 1,
    align: int | None = None,
    byte_rate: int | None = None,
    extra: bytes = b"",
    order: str = "<",
) -> bytes:
    block = channels * -(-bits // 8) if align is None else align
    rate = rate_hz * block if byte_rate is None else byte_rate
    return struct.pack(order + "HHIIHH", tag, channels, rate_hz, rate, block, bits) + extra


def extensible(channels: int, bits: int, *, valid: int, mask: int, tag: int = 1, cb: int = 22) -> bytes:
    tail = bytes.fromhex("000000001000800000aa00389b71")
    extra = struct.pack("<HHIH", cb, valid, mask, tag) + tail
    return fmt(channels, bits, tag=0xFFFE, extra=extra)


def riff(*chunks: bytes, magic: bytes = b"RIFF", claimed: int | None = None, order: str = "<") -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return magic + struct.pack(order + "I", len(body) if claimed is None else claimed) + body


def wav(
    samples: NDArray[np.int16], *behind: bytes, data_claims: int | None = None, claimed: int | None = None
) -> bytes:
    data = chunk(b"data", samples.astype("<i2").tobytes(), claimed=data_claims)
    return riff(chunk(b"fmt ", fmt(samples.shape[1])), data, *behind, claimed=claimed)


def rf64(
    samples: NDArray[np.int16], *behind: bytes, ds64: bytes, magic: bytes = b"RF64", data_claims: int = 0xFFFFFFFF
) -> bytes:
    data = chunk(b"data", samples.astype("<i2").tobytes(), claimed=data_claims)
    parts = (chunk(b"ds64", ds64), chunk(b"fmt ", fmt(samples.shape[1])), data, *behind)
    return riff(*parts, magic=magic, claimed=0xFFFFFFFF)


def w64_chunk(key: bytes, body: bytes, *, claimed: int | None = None) -> bytes:
    length = 24 + len(body) if claimed is None else claimed
    return key + W64_TAIL + struct.pack("<Q", length) + body + bytes(-len(body) % 8)


def w64(samples: NDArray[np.int16], *behind: bytes, before: bytes = b"", data_claims: int | None = None) -> bytes:
    body = before + w64_chunk(b"fmt ", fmt(samples.shape[1]))
    body += w64_chunk(b"data", samples.astype("<i2").tobytes(), claimed=data_claims) + b"".join(behind)
    return W64_RIFF + struct.pack("<Q", 40 + len(body)) + b"wave" + W64_TAIL + body


def extended(rate: float) -> bytes:
    """A number of 80 bits."""
    exponent = int(np.floor(np.log2(rate)))
    return struct.pack(">HQ", 16383 + exponent, int(rate * 2.0 ** (63 - exponent)))


def aiff(
    data: bytes,
    *behind: bytes,
    frames: int,
    channels: int = 1,
    bits: int = 16,
    rate: float = RATE_HZ,
    codec: bytes = b"",
    offset: int = 0,
    block: int = 0,
    sound_claims: int | None = None,
) -> bytes:
    comm = struct.pack(">HIH", channels, frames, bits) + extended(rate) + (codec + b"\0\0" if codec else b"")
    sound = struct.pack(">II", offset, block) + data
    body = (b"AIFC" if codec else b"AIFF") + chunk(b"COMM", comm, order=">")
    body += chunk(b"SSND", sound, claimed=sound_claims, order=">") + b"".join(behind)
    return b"FORM" + struct.pack(">I", len(body)) + body


def caf_chunk(key: bytes, body: bytes, *, claimed: int | None = None) -> bytes:
    return key + struct.pack(">q", len(body) if claimed is None else claimed) + body


def caf(samples: NDArray[np.int16], *behind: bytes, data_claims: int | None = None, rate: float = RATE_HZ) -> bytes:
    channels = samples.shape[1]
    desc = struct.pack(">d4sIIIII", rate, b"lpcm", 2, 2 * channels, 1, channels, 16)
    data = bytes(4) + samples.astype("<i2").tobytes()
    return b"caff\0\1\0\0" + caf_chunk(b"desc", desc) + caf_chunk(b"data", data, claimed=data_claims) + b"".join(behind)


def au(samples: NDArray[np.int16], *, claimed: int, note: bytes = b"", little: bool = False) -> bytes:
    order = "<" if little else ">"
    head = struct.pack(order + "5I", 24 + len(note), claimed, 3, RATE_HZ, samples.shape[1])
    return (b"dns." if little else b".snd") + head + note + samples.astype(order + "i2").tobytes()


def voc(*blocks: tuple[int, bytes]) -> bytes:
    head = b"Creative Voice File\x1a" + struct.pack("<HHH", 26, 0x0114, 0x1234 + (~0x0114 & 0xFFFF) & 0xFFFF)
    return head + b"".join(bytes([kind]) + len(body).to_bytes(3, "little") + body for kind, body in blocks) + b"\0"


def svx(
    body: bytes, *, once: int, rate_hz: int = RATE_HZ, octaves: int = 1, compression: int = 0, stereo: bool = False
) -> bytes:
    vhdr = struct.pack(">IIIHBBI", once, 0, 0, rate_hz, octaves, compression, 65536)
    inner = (
        b"8SVX" + chunk(b"VHDR", vhdr, order=">") + (chunk(b"CHAN", struct.pack(">I", 6), order=">") if stereo else b"")
    )
    inner += chunk(b"BODY", body, order=">")
    return b"FORM" + struct.pack(">I", len(inner)) + inner


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path
