"""Where a file ends by what it says itself: by its header, or by walking over its packets, boxes, frames or pages.

Sources: those of batchsr.audio.containers.beginnings; ISO/IEC 13818-1 (MPEG program and transport streams).
"""

from __future__ import annotations

from typing import Final

from batchsr.audio.containers import asf, beginnings, framed, mp4
from batchsr.audio.containers.bytes_at import BytesAt

_MOST_UNITS: Final = 5_000_000
_TRANSPORT: Final = b"G"
_TRANSPORT_BYTES: Final = 188
_TOLD: Final = ("SOX", "XOS", "QCP", "AVI", "DFF", "DSF", "APE", "MPC", "TTA", "ASF", "MKA", "MP4")
_PACKETS: Final = 10_000
_BOXES: Final = (*mp4.FIRST, b"udta", b"uuid", b"meta", b"moof", b"mfra", b"sidx", b"styp")
_PROGRAM: Final = b"\0\0\1\xba"


def told_end(file: BytesAt) -> int | None:
    """Return where a file ends by its own header, before the end of what is there; None where it does not tell."""
    head = file.at(0, beginnings.LONGEST_WORD)
    kind = beginnings.kind_of(head)
    if kind not in _TOLD or (kind in ("SOX", "XOS") and not any(head[8:16])):
        return None
    end = end_of_stream(file, kind)
    return end if end is not None and 0 < end < file.size else None


def end_of_stream(file: BytesAt, kind: str) -> int | None:
    """Return where a file ends that ffmpeg reads, by what it says itself; None where it does not say."""
    head = file.at(0, 64)
    if kind == "MKA":
        return _ebml_end(file)
    if kind in ("AVI", "QCP"):
        return _riff_end(file)
    if kind == "DFF":
        return 12 + int.from_bytes(head[4:12], "big")
    if kind == "APE":
        return sum(int.from_bytes(head[i : i + 4], "little") for i in (8, 12, 16, 20, 24, 32)) + (
            int.from_bytes(head[28:32], "little") << 32
        )
    if kind == "SOX":
        return 4 + int.from_bytes(head[4:8], "little") + 4 * int.from_bytes(head[8:16], "little")
    if kind == "XOS":
        return 4 + int.from_bytes(head[4:8], "big") + 4 * int.from_bytes(head[8:16], "big")
    if kind == "ASF":
        return asf.size(file)
    if kind == "FLV":
        return _walked(file, 13, lambda at: 15 + int.from_bytes(file.at(at, 4)[1:], "big"), (b"\x08", b"\x09", b"\x12"))
    if kind == "MPC":
        return _musepack_end(file)
    if kind == "MP4" or head[4:8] in mp4.FIRST:
        return _mp4_end(file)
    if kind == "OGG":
        return last_page_end(file, 0)
    if head.startswith(_PROGRAM):
        return _program_end(file)
    for packet in (_TRANSPORT_BYTES, _TRANSPORT_BYTES + 4):
        block = file.at(0, 4 * packet)[packet - _TRANSPORT_BYTES :: packet]
        if block == 4 * _TRANSPORT:
            return _transport_end(file, packet)
    return framed.end(file)


def _program_end(file: BytesAt) -> int:
    """Behind the last packet of an MPEG program stream."""
    at = 0
    for _ in range(_MOST_UNITS):
        head = file.at(at, 14)
        if head[:3] != b"\0\0\1" or len(head) < 6 or head[3] < 0xB9:
            break
        if head[3] == 0xB9:
            at += 4
        elif head[3] == 0xBA:
            at += 14 + (head[13] & 7) if head[4] >> 6 == 1 and len(head) == 14 else 12
        else:
            at += 6 + int.from_bytes(head[4:6], "big")
    return at


def _transport_end(file: BytesAt, packet: int) -> int:
    """Behind the last packet of an MPEG transport stream."""
    at, ahead = 0, packet - _TRANSPORT_BYTES
    while letters := file.at(at, packet * _PACKETS)[ahead::packet]:
        if letters.count(_TRANSPORT) < len(letters):
            return at + packet * next(i for i, octet in enumerate(letters) if octet != _TRANSPORT[0])
        at += packet * len(letters)
    return at


def _walked(file: BytesAt, at: int, length_of: framed.Length, first: tuple[bytes, ...]) -> int:
    for _ in range(_MOST_UNITS):
        if file.at(at, 1) not in first:
            break
        at += length_of(at)
    return at


def _number(file: BytesAt, at: int) -> tuple[int | None, int]:
    """Return a length as EBML writes it: (the number, None for an unknown one; where it ends)."""
    raw = file.at(at, 8)
    width = 9 - raw[0].bit_length() if raw and raw[0] else 0
    if not width or len(raw) < width:
        return None, at
    value = int.from_bytes(raw[:width], "big") & (1 << 7 * width) - 1
    return (None if value == (1 << 7 * width) - 1 else value), at + width


def _ebml_end(file: BytesAt) -> int | None:
    at = 0
    while (word := file.at(at, 4)) in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67") and (at == 0 or word[0] == 0x18):
        length, body = _number(file, at + 4)
        if length is None:
            return None
        at = body + length
    return at


def _riff_end(file: BytesAt) -> int:
    at = 0
    while file.at(at, 4) == b"RIFF" and (at == 0 or file.at(at + 8, 4) == b"AVIX"):
        length = int.from_bytes(file.at(at + 4, 4), "little")
        at += 8 + length + (length & 1)
    return at


def _musepack_end(file: BytesAt) -> int:
    at = 4
    for _ in range(_MOST_UNITS):
        key, length, place = file.at(at, 2), 0, at + 2
        if not (len(key) == 2 and key.isalpha() and key.isupper()):
            break
        for octet in file.at(place, 9):
            length, place = length << 7 | octet & 0x7F, place + 1
            if not octet & 0x80:
                break
        at += max(length, 3)
        if key == b"SE":
            break
    return at


def _mp4_end(file: BytesAt) -> int:
    """Behind the last box that is whole; a further file's first box is none of this one's."""
    at = 0
    while at + 8 <= file.size:
        box = file.at(at, 16)
        length, name = int.from_bytes(box[:4], "big"), box[4:8]
        if length == 1:
            length = int.from_bytes(box[8:16], "big")
        if length == 0:
            return file.size
        if length < 8 or not all(32 <= c < 127 or c == 0xA9 for c in name):
            break
        if at and beginnings.kind_of(file.at(at, beginnings.LONGEST_WORD)) and name != b"ftyp":
            break
        if at + length > file.size:
            return file.size if name in _BOXES else at  # it was cut, or letters of something else stand there
        at += length
    return at


def last_page_end(file: BytesAt, start: int) -> int | None:
    """Return where the last page of an Ogg ends; None where its last bytes hold none."""
    stop = file.size
    while stop > start:
        begin = max(stop - beginnings.BLOCK_BYTES, start)
        block = file.at(begin, min(stop - begin + beginnings.LONGEST_WORD, file.size - begin))
        at = block.rfind(b"OggS\x00")
        if at >= 0:
            head = file.at(begin + at, 27 + 255)
            return begin + at + 27 + head[26] + sum(head[27 : 27 + head[26]]) if len(head) > 27 else None
        stop = begin
    return None
