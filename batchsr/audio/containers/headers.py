"""What a file's header claims, against the bytes that are there. Parsed here, because libsndfile does not compare.

libsndfile reads whatever it finds: half a WAV whose header promises an hour, a pipe's output whose length
was never filled in, an Ogg stream cut in mid-page. An archive has to know.

Each family has a module beside this one; here the first bytes decide which is asked.

Sources of the layouts: FLAC (RFC 9639), Ogg (RFC 3533).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Final

from batchsr.audio.containers import caf, iff, mp3, voc, wave
from batchsr.audio.containers.chunks import MAX_CHUNKS, BytesAt
from batchsr.audio.containers.found import Header

_MPEG_TAGS: Final = (0x0050, 0x0055)
_OGG_TAIL_BYTES: Final = 2 * 65_307  # the longest page there can be, twice


def inspect(fd: int, size: int) -> Header:
    """Read the header of an open file of `size` bytes. Container "" means that this module does not know it.

    Raises OSError when the file cannot be read.
    """
    file = BytesAt(fd, size)
    head = file.at(0, 40)
    for magic, name, parse in _PARSERS:
        if head.startswith(magic):
            header = parse(file, name)
            return _mpeg_inside(file, header) if header.codec_tag in _MPEG_TAGS else header
    return mpeg(file, 0, size, whole=True)


def _mpeg_inside(file: BytesAt, header: Header) -> Header:
    """MPEG audio in a WAV: its frames say what there is of it."""
    if header.trouble not in (None, "cut"):
        return header
    end = min(header.data_start + header.data_bytes, file.size)
    inside = mpeg(file, header.data_start, end, whole=False)
    if not inside.container:
        return header
    if header.trouble == "cut":
        inside = dataclasses.replace(inside, trouble="cut", detail=header.detail, rest=inside.rest or inside.pieces)
    return dataclasses.replace(
        inside,
        container=header.container,
        remarks=(*header.remarks, *inside.remarks),
        still_growing=header.still_growing,
    )


def _unpatched(header: Header) -> Header:
    detail = "its header's length was never filled in, as a pipe or a crashed recorder leaves it"
    return dataclasses.replace(header, trouble="unpatched", detail=detail)


def _flac(file: BytesAt, name: str) -> Header:
    position = 4
    frames = rate = channels = 0
    for _ in range(MAX_CHUNKS):
        head = file.at(position, 4 + 34)
        if len(head) < 4:
            return Header(name, "cut", "it ends inside its header")
        length = int.from_bytes(head[1:4], "big")
        if head[0] & 0x7F == 0 and len(head) == 38:
            packed = int.from_bytes(head[14:22], "big")
            rate, channels, frames = packed >> 44, (packed >> 41 & 7) + 1, packed & (1 << 36) - 1
        position += 4 + length
        if head[0] & 0x80:
            break
    header = Header(name, None, "", rate, channels, None, position, max(file.size - position, 0))
    if frames:
        return (
            header if header.data_bytes else dataclasses.replace(header, trouble="cut", detail="its audio is missing")
        )
    synced = file.at(position, 2)[:1] == b"\xff"
    return _unpatched(header) if synced else dataclasses.replace(header, trouble="no_frames")


def _ogg(file: BytesAt, name: str) -> Header:
    """The last page has to be whole and to carry the flag that ends the stream."""
    offset = max(file.size - _OGG_TAIL_BYTES, 0)
    tail = file.at(offset, _OGG_TAIL_BYTES)
    for first in _finds(tail, b"OggS"):
        position, last_flags = first, 0
        while tail[position : position + 5] == b"OggS\0" and (head := tail[position : position + 27])[26:]:
            lacing = tail[position + 27 : position + 27 + head[26]]
            last_flags, position = head[5], position + 27 + head[26] + sum(lacing)
        if tail[position : position + 4] == b"OggS":
            return Header(name, "cut", "it ends inside the header of a page")
        if position > len(tail):
            return Header(name, "cut", "it ends in the middle of a page")
        if last_flags & 4:
            return Header(name)
        if position == len(tail):
            return Header(name, "cut", "its last page does not end the stream")
        # Neither at the end nor at an end of stream: the four letters stood inside a page's data by chance.
    return Header(name, "cut", "no page ends its stream")


def mpeg(file: BytesAt, start: int, end: int, *, whole: bool) -> Header:
    """Walk the MPEG audio frames between two places. `whole` says that they are all of the file, not a chunk in it."""
    stream = mp3.find(file.fd, end, start)
    if stream is None:
        return Header("")
    first, remarks = stream.first, tuple(stream.remarks)
    header = Header("MP3", None, "", first.rate_hz, first.channels, remarks=remarks)
    if stream.too_many:
        detail = f"its frames change their rate or channels more than {mp3.MAX_STRETCHES} times"
        return dataclasses.replace(header, trouble="mangled", detail=detail)
    header = dataclasses.replace(header, pieces=mp3.pieces(stream, whole=whole))
    return dataclasses.replace(header, trouble="cut", detail=stream.cut) if stream.cut else header


def _finds(text: bytes, word: bytes) -> Iterator[int]:
    position = text.find(word)
    while position >= 0:
        yield position
        position = text.find(word, position + 1)


_PARSERS: Final[tuple[tuple[bytes, str, Callable[[BytesAt, str], Header]], ...]] = (
    (b"RIFF", "WAV", wave.inspect),
    (b"RIFX", "RIFX", wave.inspect),
    (b"RF64", "RF64", wave.inspect),
    (b"BW64", "BW64", wave.inspect),
    (b"riff\x2e\x91\xcf\x11", "W64", wave.inspect),
    (b"FORM", "AIFF", iff.inspect),
    (b".snd", "AU", caf.inspect_au),
    (b"dns.", "AU", caf.inspect_au),
    (b"caff", "CAF", caf.inspect),
    (b"NIST_1A", "NIST", caf.inspect_nist),
    (b"Creative Voice File\x1a", "VOC", voc.inspect),
    (b"fLaC", "FLAC", _flac),
    (b"OggS", "OGG", _ogg),
)


__all__ = ["MAX_CHUNKS", "BytesAt", "Header", "inspect"]
