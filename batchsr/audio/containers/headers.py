"""What a file's header claims, against the bytes that are there. Parsed here, because libsndfile does not compare.

libsndfile reads whatever it finds: half a WAV whose header promises an hour, a pipe's output whose length
was never filled in, an Ogg stream cut in mid-page. An archive has to know.

Each family has a module beside this one; here the first bytes decide which is asked.

Sources of the layouts: FLAC (RFC 9639), Ogg (RFC 3533).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Final

from batchsr.audio.containers import (
    behind,
    caf,
    first_bytes,
    flac,
    frame_rows,
    iff,
    mp3,
    mp3_frames,
    ogg_pages,
    voc,
    wave,
)
from batchsr.audio.containers.bytes_at import BytesAt
from batchsr.audio.containers.chunks import MAX_CHUNKS
from batchsr.audio.containers.found import MENDED, Header
from batchsr.audio.containers.wave_format import PCM
from batchsr.audio.decoders.interface import Gap, Part, Piece
from batchsr.audio.decoders.virtual_file import Range
from batchsr.audio.remarks import Remark

_LEFT_OUT: Final = "input.bytes_left_out"
_OTHER_BYTES: Final = 1 << 20
_LOOK_BYTES: Final = 1 << 14
"""So many bytes that two frames of any codec stand in them."""
_BEGINNINGS: Final = (
    ("FLAC", re.compile(rb"fLaC[\x00\x80]\x00\x00\x22", re.DOTALL)),
    ("Ogg", re.compile(rb"OggS\x00[\x02\x06].{8}", re.DOTALL)),
    ("WAV", re.compile(rb"(?:RIFF|RF64|BW64).{4}WAVE", re.DOTALL)),
    ("AIFF", re.compile(rb"FORM.{4}AIF[FC]", re.DOTALL)),
    ("CAF", re.compile(rb"caff\x00\x01\x00\x00desc", re.DOTALL)),
    ("W64", re.compile(rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb", re.DOTALL)),
    ("VOC", re.compile(rb"Creative Voice File\x1a", re.DOTALL)),
    ("NIST", re.compile(rb"NIST_1A\n", re.DOTALL)),
)
_MPEG_TAGS: Final = (0x0050, 0x0055)
_PLAIN_CONTAINERS: Final = ("WAV", "RIFX", "RF64", "BW64", "W64", "AIFF", "AU")


def inspect(fd: int, size: int) -> Header:
    """Read the header of an open file of `size` bytes. Container "" means that this module does not know it.

    Raises OSError when the file cannot be read.
    """
    file = BytesAt(fd, size)
    head = file.at(0, _LOOK_BYTES)
    for magic, name, parse in _PARSERS:
        if head.startswith(magic) and head[28:36] != b"Speex   ":
            header = parse(file, name)
            return _mpeg_inside(file, header) if header.codec_tag in _MPEG_TAGS else _mpeg_behind(file, header)
    if first_bytes.is_for_ffmpeg(head, ""):
        return Header("")  # and not what looks like frames of MPEG audio in it
    tagged = mp3.behind_id3(fd, size)
    for magic, parse_behind in ((b"fLaC", _flac), (b"OggS", _ogg)):
        if tagged and file.at(tagged, 4) == magic:
            return parse_behind(file, magic.decode().upper().removesuffix("S"), tagged)
    header = mpeg(file, 0, size, whole=True)
    if header.container and header.trouble is None:
        return header
    if first_bytes.named(head)[0]:
        return header  # a ZIP, a disc image, a page: what holds a recording is more than bytes before it
    return _behind_other_bytes(file) or header


def inspect_part(file: BytesAt, start: int, end: int) -> Header:
    """Read the header of a file that stands from `start` to `end` in another; its pieces are by their places there.

    Container "" where it is none that is read here. Raises OSError when the file cannot be read.
    """
    head = file.at(start, 40)
    upto = BytesAt(file.fd, end)
    header = Header("")
    for magic, name, parse in _PARSERS:
        if not head.startswith(magic) or head[28:36] == b"Speex   ":
            continue
        if parse is _flac:
            header = _flac(upto, name, start)
        elif parse is _ogg:
            header = _ogg(upto, name, start)
        else:
            header = _moved(parse(BytesAt(file.fd, end - start, start), name), start)
            mpeg_or_not = _mpeg_inside if header.codec_tag in _MPEG_TAGS else _mpeg_behind
            header = mpeg_or_not(upto, header)
        break
    else:
        if not first_bytes.is_for_ffmpeg(file.at(start, _LOOK_BYTES), ""):
            header = mpeg(upto, start, end, whole=False)
    if not header.container or header.pieces:
        return header
    return dataclasses.replace(header, pieces=header.own or (Part((Range(start, end - start),)),), own=())


def _moved(header: Header, by: int) -> Header:
    """Return the header of a stretch that begins `by` bytes into its file, as seen from the file's beginning."""

    def moved(pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
        return tuple(
            piece
            if isinstance(piece, Gap) or piece.segments is None
            else dataclasses.replace(
                piece,
                segments=tuple(s if isinstance(s, bytes) else Range(s.start + by, s.length) for s in piece.segments),
            )
            for piece in pieces
        )

    def whole(pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
        return tuple(
            dataclasses.replace(piece, segments=(Range(0, header.data_start + header.data_bytes),))
            if isinstance(piece, Part) and piece.segments is None
            else piece
            for piece in pieces
        )

    pieces, own, rest = (moved(whole(p)) for p in (header.pieces, header.own, header.rest))
    return dataclasses.replace(header, data_start=header.data_start + by, pieces=pieces, own=own, rest=rest)


def _behind_other_bytes(file: BytesAt) -> Header | None:
    """Return a recording that begins behind bytes of something else; None where none is found."""
    begin = file.at(0, _OTHER_BYTES)
    found = [(match.start(), name) for name, magic in _BEGINNINGS if (match := magic.search(begin))]
    if not found:
        return None
    start, name = min(found)
    said = f"{start:,} bytes of something else stand before the recording"
    if name not in ("FLAC", "Ogg"):
        header = inspect_part(file, start, file.size)
        if header.trouble is None and header.container and not header.still_growing:
            message = f"{said}: they were left out, and what the recording says of itself is not carried over"
            return dataclasses.replace(header, remarks=(Remark(_LEFT_OUT, message), *header.remarks))
        remedy = f"cut them off: tail -c +{start + 1} {{name}} > OUT.{name.lower()}"
        return Header(name, "unsupported", said, remedy=remedy)
    header = _flac(file, "FLAC", start) if name == "FLAC" else _ogg(file, "OGG", start)
    remark = Remark(_LEFT_OUT, f"{said}: they were left out")
    return dataclasses.replace(header, remarks=(remark, *header.remarks))


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


def _mpeg_behind(file: BytesAt, header: Header) -> Header:
    """Return what the file is if MPEG audio stands behind a header of plain samples, as a tool makes it that writes one
    before anything; the header itself otherwise."""
    plain = header.container in _PLAIN_CONTAINERS and header.codec_tag in (None, PCM)
    if not plain or not header.data_start or header.trouble not in (None, "cut", "mid_sample", "unpatched"):
        return header
    at = behind.behind_tags(file, header.data_start)
    first = mp3_frames.frame_header(file.at(at, 4))
    # The frame's first bytes come again within it where they are samples of a signal that repeats.
    if first is None or not frame_rows.kind_at(file, at) or file.at(at, first.length_bytes).count(file.at(at, 4)) > 1:
        return header
    end = min(header.data_start + header.data_bytes, file.size) if header.trouble is None else file.size
    inside = mpeg(file, at, end, whole=False)
    if not inside.container:
        return header
    message = "its header says plain samples, behind it stands MPEG audio: that was read"
    return dataclasses.replace(inside, remarks=(Remark(MENDED, message), *inside.remarks))


def _unpatched(header: Header) -> Header:
    detail = "its header's length was never filled in, as a pipe or a crashed recorder leaves it"
    return dataclasses.replace(header, trouble="unpatched", detail=detail)


def _flac(file: BytesAt, name: str, start: int = 0) -> Header:
    info = flac.info_at(file, start)
    if info is None:
        return Header(name, "cut", "it ends inside its header")
    there = max(file.size - info.audio, 0)
    header = Header(name, None, "", info.rate_hz, info.channels, None, info.audio, there)
    if info.bits > 24:
        detail = f"FLAC of {info.bits} bits is not read here"
        remedy = "convert it with the flac program, version 1.4 or newer: flac -d -o OUT.wav {name}"
        return dataclasses.replace(header, trouble="unsupported", detail=detail, remedy=remedy)
    if info.samples and not there:
        all_of_it = f", all {info.samples / info.rate_hz:,.2f} s of it" if info.rate_hz else ""
        return dataclasses.replace(header, trouble="cut", detail=f"its audio is missing{all_of_it}")
    found = flac.walk(file, info)
    if not info.samples and not found.end:
        synced = file.at(info.audio, 2)[:1] == b"\xff"
        return _unpatched(header) if synced else dataclasses.replace(header, trouble="no_frames")
    if len(found.parts) > flac.MAX_PARTS:
        return dataclasses.replace(header, trouble="mangled", detail=f"it is in {len(found.parts):,} parts")
    parts = tuple(found.parts) or (Part((Range(start, file.size - start),), opener=flac.open_plain),)
    rest = flac.without_last_frame(file, found.infos[-1], found.parts)
    last = None if found.parts else flac.last_frame(file, start)
    walked = (Range(start, last - start),) if last else ()
    return dataclasses.replace(header, pieces=parts, remarks=tuple(found.remarks), rest=rest, walked=walked)


def _ogg(file: BytesAt, name: str, start: int = 0) -> Header:
    found = ogg_pages.walk(file.fd, file.size, start)
    if found.given_up:
        return Header(name, "mangled", "it is full of pages whose checksums are wrong")
    parts, remarks = ogg_pages.pieces(file.fd, file.size, found)
    header = Header(name, pieces=parts, remarks=tuple(remarks), walked=ogg_pages.pages_of(found))
    if len(parts) > ogg_pages.MAX_PARTS:
        return dataclasses.replace(header, trouble="mangled", detail=f"it is in {len(parts):,} parts")
    if found.cut:
        rest = parts or (Part((Range(start, file.size - start),)),)
        return dataclasses.replace(header, trouble="cut", detail=found.cut, rest=rest)
    return header


def mpeg(file: BytesAt, start: int, end: int, *, whole: bool) -> Header:
    """Walk the MPEG audio frames between two places. `whole` says that they are all of the file, not a chunk in it."""
    stream = mp3.find(file.fd, end, start)
    if stream is None:
        return Header("")
    first, remarks = stream.first, tuple(stream.remarks)
    header = Header("MP3", None, "", first.rate_hz, first.channels, remarks=remarks, walked=mp3.frames_of(stream))
    if stream.too_many:
        detail = f"its frames change their rate or channels more than {mp3.MAX_STRETCHES} times"
        return dataclasses.replace(header, trouble="mangled", detail=detail)
    there = stream.end - stream.start
    pieces = mp3.pieces(stream, whole=whole)
    header = dataclasses.replace(header, pieces=pieces, data_start=stream.start, data_bytes=there)
    if stream.cut:
        rest = mp3.pieces(stream, whole=False)
        return dataclasses.replace(header, trouble="cut", detail=stream.cut, rest=rest)
    return header


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
