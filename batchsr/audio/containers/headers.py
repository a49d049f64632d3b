"""What a file's header claims, against the bytes that are there. Parsed here, because libsndfile does not compare.

libsndfile reads whatever it finds: half a WAV whose header promises an hour, a pipe's output whose length
was never filled in, an Ogg stream cut in mid-page. An archive has to know.

Sources of the layouts: RIFF/WAVE (Microsoft, 1991), RF64 (EBU Tech 3306), Wave64 (Sony/VCS), AIFF-C (Apple,
1991), AU (Sun), CAF (Apple), NIST SPHERE, Creative Voice, FLAC (RFC 9639), Ogg (RFC 3533).
"""

from __future__ import annotations

import dataclasses
import os
import struct
from collections.abc import Callable, Iterator
from typing import Final, Literal

from batchsr.audio.containers import flac, mp3, ogg_pages
from batchsr.audio.decoders.interface import Part, Piece
from batchsr.audio.decoders.virtual_file import Range
from batchsr.audio.remarks import Remark

Trouble = Literal["cut", "unpatched", "mid_sample", "no_data", "no_frames", "mangled"]
"""cut: the header promises more than is there. unpatched: a length that the writer never filled in. mid_sample: the
audio is no whole number of frames. no_data: no chunk of audio. no_frames: a chunk of audio that is rightly empty.
mangled: what is there is no recording any more, and nothing is to be made of it."""

MAX_CHUNKS: Final = 100_000
_STREAMED: Final = 0xFFFFFFFF
# WAVE format tags whose blocks are single frames: PCM, float, A-law, mu-law, extensible.
_FRAMED_TAGS: Final = {0x0001, 0x0003, 0x0006, 0x0007, 0xFFFE}
_MPEG_TAGS: Final = (0x0050, 0x0055)
_OGG_TAIL_BYTES: Final = 2 * 65_307  # the longest page there can be, twice


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """What could be read without decoding. None or 0 where the container does not say."""

    container: str
    trouble: Trouble | None = None
    detail: str = ""
    rate_hz: int | None = None
    channels: int | None = None
    codec_tag: int | None = None
    data_start: int = 0
    data_bytes: int = 0
    pieces: tuple[Piece, ...] = ()
    """How the audio is to be read where libsndfile would not read the file as it is; () where it does."""
    remarks: tuple[Remark, ...] = ()
    """What is odd, and does not keep the file from being restored."""


class BytesAt:
    """Random access to an open file that leaves its position alone."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd, self.size = fd, size

    def at(self, start: int, length: int) -> bytes:
        """The bytes there are, at most `length`."""
        parts = []
        while length > 0 and (part := os.pread(self.fd, length, start)):
            parts.append(part)
            start, length = start + len(part), length - len(part)
        return b"".join(parts)


def inspect(fd: int, size: int) -> Header:
    """Read the header of an open file of `size` bytes. Container "" means that this module does not know it.

    Raises OSError when the file cannot be read.
    """
    file = BytesAt(fd, size)
    head = file.at(0, 40)
    for magic, name, parse in _PARSERS:
        if head.startswith(magic):
            return parse(file, name)
    behind = mp3.behind_id3(fd, size)
    for magic, parse_behind in ((b"fLaC", _flac), (b"OggS", _ogg)):
        if behind and file.at(behind, 4) == magic:
            return parse_behind(file, magic.decode().upper().removesuffix("S"), behind)
    return mpeg(file, 0, size, whole=True)


def chunks(file: BytesAt, start: int, endian: Literal["<", ">"]) -> Iterator[tuple[bytes, int, int]]:
    """(id, first byte of the body, claimed length) of each chunk of a RIFF or IFF file, overrunning ones too."""
    for _ in range(MAX_CHUNKS):
        head = file.at(start, 8)
        if len(head) < 8:
            return
        (length,) = struct.unpack(endian + "I", head[4:])
        yield head[:4], start + 8, length
        start += 8 + length + (length & 1)


def _judge(file: BytesAt, header: Header, frame_bytes: int) -> Header:
    """Compare the claimed audio with the file's size. `frame_bytes` is 0 where frames have no fixed length."""
    there = max(file.size - header.data_start, 0)
    if header.data_bytes > there:
        detail = f"its header promises {header.data_bytes:,} bytes of audio, {there:,} are there"
        return dataclasses.replace(header, trouble="cut", detail=detail)
    # Some writers count the byte that pads a chunk to an even length; it is no cut sample.
    padded = header.data_bytes % 2 == 0 and frame_bytes and (header.data_bytes - 1) % frame_bytes == 0
    if frame_bytes and header.data_bytes % frame_bytes and not padded:
        detail = f"its {header.data_bytes:,} bytes of audio end in the middle of a frame of {frame_bytes} bytes"
        return dataclasses.replace(header, trouble="mid_sample", detail=detail)
    return header


def _riff(file: BytesAt, name: str) -> Header:
    head = file.at(0, 12)
    if head[8:12] != b"WAVE":
        return Header("")
    endian: Literal["<", ">"] = ">" if name == "RIFX" else "<"
    long_data = 0
    tag = channels = rate = frame_bytes = 0
    for key, start, length in chunks(file, 12, endian):
        body = file.at(start, 16)
        if key == b"ds64" and len(body) == 16:
            (long_data,) = struct.unpack(endian + "8xQ", body)
        elif key == b"fmt " and len(body) == 16:
            tag, channels, rate, frame_bytes = struct.unpack(endian + "HHI4xH2x", body)
        elif key == b"data":
            header = Header(name, None, "", rate, channels, tag, start, length)
            if length == _STREAMED and name in ("RF64", "BW64"):
                header = dataclasses.replace(header, data_bytes=long_data)
            elif length == _STREAMED:
                return _unpatched(header)
            if not header.data_bytes and not _only_chunks(file, start, endian):
                return _unpatched(header)
            if not header.data_bytes:
                return dataclasses.replace(header, trouble="no_frames")
            if tag in _MPEG_TAGS and header.data_bytes <= file.size - start:
                inside = mpeg(file, start, start + header.data_bytes, whole=False)
                return dataclasses.replace(inside, container=name) if inside.container else header
            return _judge(file, header, frame_bytes if tag in _FRAMED_TAGS else 0)
    return _without_data(file, name, struct.unpack(endian + "I", head[4:8])[0] + 8)


def _unpatched(header: Header) -> Header:
    detail = "its header's length was never filled in, as a pipe or a crashed recorder leaves it"
    return dataclasses.replace(header, trouble="unpatched", detail=detail)


def _only_chunks(file: BytesAt, start: int, endian: Literal["<", ">"]) -> bool:
    """Whether nothing but well-formed chunks lies from `start` to the end: then an empty data chunk is meant so."""
    for key, body, length in chunks(file, start, endian):
        if not all(32 <= c < 127 for c in key) or body + length > file.size:
            return False
        start = body + length
    return file.size - start < 8


def _without_data(file: BytesAt, name: str, promised: int) -> Header:
    if promised > file.size:
        return Header(
            name, "cut", f"its header promises {promised:,} bytes, {file.size:,} are there, none of them audio"
        )
    return Header(name, "no_data", "it has no chunk of audio")


def _w64(file: BytesAt, name: str) -> Header:
    position = 40  # riff GUID, size, wave GUID
    tag = channels = rate = frame_bytes = 0
    for _ in range(MAX_CHUNKS):
        head = file.at(position, 40)
        if len(head) < 24:
            break
        (length,) = struct.unpack("<Q", head[16:24])
        if head[:4] == b"fmt " and len(head) == 40:
            tag, channels, rate, frame_bytes = struct.unpack("<HHI4xH2x", head[24:])
        elif head[:4] == b"data":
            header = Header(name, None, "", rate, channels, tag, position + 24, max(length - 24, 0))
            if length <= 24 and file.size > position + 24:
                return _unpatched(header)
            return _judge(file, header, frame_bytes if tag in _FRAMED_TAGS else 0)
        position += max(length + 7 & ~7, 24)
    (promised,) = struct.unpack("<Q", file.at(16, 8).ljust(8, b"\0"))
    return _without_data(file, name, promised)


def _iff(file: BytesAt, name: str) -> Header:
    head = file.at(0, 12)
    body_key = {b"AIFF": b"SSND", b"AIFC": b"SSND", b"8SVX": b"BODY", b"16SV": b"BODY"}.get(head[8:12])
    if body_key is None:
        return Header("")
    channels = frames = bits = 0
    codec = b"NONE"
    for key, start, length in chunks(file, 12, ">"):
        body = file.at(start, 22)
        if key == b"COMM" and len(body) >= 18:
            channels, frames, bits = struct.unpack(">hIh", body[:8])
            codec = body[18:22] if head[8:12] == b"AIFC" and len(body) == 22 else codec
        elif key == body_key:
            extra = 8 if key == b"SSND" else 0  # offset and block size stand before the samples
            header = Header(name, None, "", None, channels or None, None, start + extra, max(length - extra, 0))
            if not header.data_bytes and (frames or not _only_chunks(file, start + length + (length & 1), ">")):
                return _unpatched(header)
            plain = codec in (b"NONE", b"sowt", b"twos", b"fl32", b"FL32", b"fl64", b"FL64", b"in24", b"in32")
            return _judge(file, header, channels * (bits + 7 >> 3) if plain and key == b"SSND" else 0)
    if channels and not frames:
        return Header(name, "no_frames")  # AIFF leaves SSND out when there is no sample
    return _without_data(file, name, struct.unpack(">I", head[4:8])[0] + 8)


def _au(file: BytesAt, name: str) -> Header:
    head = file.at(0, 24)
    if len(head) < 24:
        return Header(name, "cut", "it ends inside its header")
    start, length, encoding, rate, channels = struct.unpack((">" if head[:4] == b".snd" else "<") + "4x5I", head)
    there = max(file.size - start, 0)
    frame_bytes = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}.get(encoding, 0) * channels
    # An unknown length is lawful in this format: the audio goes on to the end of the file.
    header = Header(name, None, "", rate, channels, None, start, there if length == _STREAMED else length)
    return _unpatched(header) if not length and there else _judge(file, header, frame_bytes)


def _caf(file: BytesAt, name: str) -> Header:
    position, rate, channels, frame_bytes = 8, 0, 0, 0
    for _ in range(MAX_CHUNKS):
        head = file.at(position, 12)
        if len(head) < 12:
            break
        (length,) = struct.unpack(">q", head[4:])
        position += 12
        if head[:4] == b"desc" and len(body := file.at(position, 32)) == 32:
            rate_hz, packet_bytes, packet_frames, channels = struct.unpack(">d8xIII4x", body)
            rate = int(rate_hz) if 0 < rate_hz < 2**31 else 0
            frame_bytes = packet_bytes if packet_frames == 1 else 0
        elif head[:4] == b"data":
            # The chunk begins with an edit count. A length of -1 is lawful: the audio goes on to the end of the file.
            claimed = file.size - position - 4 if length == -1 else length - 4
            return _judge(
                file, Header(name, None, "", rate, channels, None, position + 4, max(claimed, 0)), frame_bytes
            )
        if length < 0:
            break
        position += length
    return Header(name, "cut", "it ends before its audio begins")


def _nist(file: BytesAt, name: str) -> Header:
    lines = file.at(0, 1024).decode("latin-1").splitlines()
    fields = {part[0]: part[2] for line in lines if len(part := line.split(None, 2)) == 3}
    try:
        start = int(lines[1])
        frames, channels, sample_bytes = (int(fields[k]) for k in ("sample_count", "channel_count", "sample_n_bytes"))
    except (IndexError, KeyError, ValueError):
        return Header(name)
    return _judge(file, Header(name, None, "", None, channels, None, start, frames * channels * sample_bytes), 0)


def _voc(file: BytesAt, name: str) -> Header:
    position = int.from_bytes(file.at(20, 2), "little")
    for _ in range(MAX_CHUNKS):
        head = file.at(position, 4)
        if not head or head[0] == 0:  # the block that ends the file has no length, and may be missing
            return Header(name)
        position += 4 + int.from_bytes(head[1:], "little")
        if len(head) < 4 or position > file.size:
            break
    return Header(name, "cut", f"its blocks promise {position:,} bytes, {file.size:,} are there")


def _flac(file: BytesAt, name: str, start: int = 0) -> Header:
    info = flac.info_at(file, start)
    if info is None:
        return Header(name, "cut", "it ends inside its header")
    there = max(file.size - info.audio, 0)
    header = Header(name, None, "", info.rate_hz, info.channels, None, info.audio, there)
    if info.bits > 24:
        return dataclasses.replace(header, trouble="mangled", detail=f"FLAC of {info.bits} bits is not read here")
    if info.samples and not there:
        return dataclasses.replace(header, trouble="cut", detail="its audio is missing")
    found = flac.walk(file, info)
    if not info.samples and not found.end:
        synced = file.at(info.audio, 2)[:1] == b"\xff"
        return _unpatched(header) if synced else dataclasses.replace(header, trouble="no_frames")
    if len(found.parts) > flac.MAX_PARTS:
        return dataclasses.replace(header, trouble="mangled", detail=f"it is in {len(found.parts):,} parts")
    parts = tuple(found.parts) or (Part((Range(start, file.size - start),), opener=flac.open_plain),)
    return dataclasses.replace(header, pieces=parts, remarks=tuple(found.remarks))


def _ogg(file: BytesAt, name: str, start: int = 0) -> Header:
    found = ogg_pages.walk(file.fd, file.size, start)
    if found.given_up:
        return Header(name, "mangled", "it is full of pages whose checksums are wrong")
    parts, remarks = ogg_pages.pieces(file.fd, file.size, found)
    header = Header(name, pieces=parts, remarks=tuple(remarks))
    if len(parts) > ogg_pages.MAX_PARTS:
        return dataclasses.replace(header, trouble="mangled", detail=f"it is in {len(parts):,} parts")
    return dataclasses.replace(header, trouble="cut", detail=found.cut) if found.cut else header


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
    (b"RIFF", "WAV", _riff),
    (b"RIFX", "RIFX", _riff),
    (b"RF64", "RF64", _riff),
    (b"BW64", "BW64", _riff),
    (b"riff\x2e\x91\xcf\x11", "W64", _w64),
    (b"FORM", "AIFF", _iff),
    (b".snd", "AU", _au),
    (b"dns.", "AU", _au),
    (b"caff", "CAF", _caf),
    (b"NIST_1A", "NIST", _nist),
    (b"Creative Voice File\x1a", "VOC", _voc),
    (b"fLaC", "FLAC", _flac),
    (b"OggS", "OGG", _ogg),
)
