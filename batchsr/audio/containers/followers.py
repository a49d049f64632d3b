"""Where a file of another kind begins that was joined behind a recording.

Each reader reads its own kind to the end and looks at nothing behind it. Here the rest is searched for the beginnings
of all kinds of sound files, by words long enough to be no accident in coded sound. What a container says of its own
length tells where the rest begins; where it says nothing, everything behind the first bytes is searched.

Sources: the formats' own descriptions, named in the modules that read them; Matroska (RFC 9559) and EBML (RFC 8794);
Monkey's Audio SDK (descriptor); Musepack SV8 (packets); DSDIFF 1.5 (form chunk); FLV 10.1 (tags); SoX (header).
"""

from __future__ import annotations

import re
from typing import Final

from batchsr.audio.containers import asf, behind, first_bytes, flac, frame_rows, framed, mp4
from batchsr.audio.containers.bytes_at import BytesAt
from batchsr.audio.containers.found import Header
from batchsr.audio.decoders.interface import Part
from batchsr.audio.decoders.virtual_file import Range

_BLOCK_BYTES: Final = 1 << 22
_LONGEST_WORD: Final = 64
_FRAMES_WITHIN: Final = 1 << 16
_MOST_UNITS: Final = 5_000_000
_OGG_FLAC: Final = b"\x7fFLAC"
_TRANSPORT: Final = b"G"
_TRANSPORT_BYTES: Final = 188
_PACKETS: Final = 10_000
_BOXES: Final = (*mp4.FIRST, b"udta", b"uuid", b"meta", b"moof", b"mfra", b"sidx", b"styp")
_PROGRAM: Final = b"\0\0\1\xba"
_WORDS: Final = {
    "WAV": rb"(?:RIFF|RIFX|RF64|BW64).{4}WAVE",
    "AVI": rb"RIFF.{4}AVI LIST",
    "QCP": rb"RIFF.{4}QLCMfmt ",
    "W64": rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb",
    "AIFF": rb"FORM.{4}(?:AIF[FC]|8SVX|16SV)",
    "CAF": rb"caff\x00\x01\x00\x00desc",
    "AU": rb"\.snd\x00\x00[\x00-\x0f].{5}\x00\x00\x00[\x01-\x1b]\x00[\x00-\x0b]",
    "NIST": rb"NIST_1A\n",
    "VOC": rb"Creative Voice File\x1a",
    "FLAC": rb"fLaC[\x00\x80]\x00\x00\x22",
    "OGG": rb"OggS\x00[\x02\x06]\x00{8}",
    "ASF": re.escape(asf.MAGIC),
    "MKA": rb"\x1a\x45\xdf\xa3.{0,48}?\x42\x82.(?:webm|matroska)",
    "MP4": rb"\x00\x00\x00[\x08-\xff]ftyp[0-9A-Za-z]{3}",
    "FLV": rb"FLV\x01[\x01\x04\x05]\x00\x00\x00\x09",
    "NUT": rb"nut/multimedia container\x00",
    "SOX": rb"\.SoX..\x00\x00|XoS\.\x00\x00",
    "MPC": rb"MPCKSH",
    "APE": rb"MAC .\x0f\x00\x00\x34\x00\x00\x00",
    "TTA": rb"TTA1[\x01\x02]\x00[\x01-\x20]\x00[\x08\x10\x18\x20]\x00",
    "TAK": rb"tBaK\x01.\x00\x00",
    "WV": rb"wvpk...\x00[\x02-\x10]\x04",
    "DSF": rb"DSD \x1c\x00{7}",
    "DFF": rb"FRM8\x00.{7}DSD ",
    "AMR": rb"#!AMR(?:-WB)?\n",
    "RM": rb"\.RMF\x00\x00\x00\x12|\.ra\xfd\x00[\x03\x04\x05]",
}
_ANY: Final = re.compile(b"|".join(b"(?P<%s>%s)" % (key.encode(), word) for key, word in _WORDS.items()), re.DOTALL)
_AT_THE_END: Final = (b"ajkg", b"MP+", b"\x02dss", b"\x03dss", b"\x03ds2", b"dns.")
"""Words too short to be searched for; they count where the recording ends."""
_OWN_JOINS: Final = {"FLAC": ("FLAC",), "OGG": ("OGG",)}
_BY_FRAMED: Final = ("WV", "AMR", "TTA", "DSF", "ASF", "MP4")
"""Kinds of which batchsr.audio.containers.framed finds the further ones."""


def next_file(file: BytesAt, header: Header, start: int = 0) -> int | None:
    """Return where a file begins that stands behind the one at `start`, of which `header` tells; None where none does.

    Files of the same kind that the kind's own reader joins are none. Raises OSError when the file cannot be read.
    """
    match = _ANY.match(file.at(start, _LONGEST_WORD))
    kind = match.lastgroup or "" if match else ""
    if header.container:
        begin, end, own = _native(file, header, start, kind)
    else:
        end = _end_of_stream(BytesAt(file.fd, file.size - start, start), kind)
        begin = start + (end if end is not None and kind != "AMR" else 16)  # its frames look like anything
        end = None if end is None else _behind_own(file, start, start + end, kind)
        own = (kind,) if kind in _BY_FRAMED or (kind in ("MKA", "RM") and end is None) else ()
    if end is not None and end >= file.size and begin >= end:
        return None
    found = _search(file, begin, own)
    if end is not None and found is not None and found < end:
        return found
    if end is not None:
        found = _at_the_end(file, end, found, frame_rows.kind_at(file, start))
    return found if found is not None and found > start else None


def _behind_own(file: BytesAt, start: int, end: int, kind: str) -> int:
    """Return where the files end that stand one behind another, all of the first one's kind, and are joined
    elsewhere."""
    form = first_bytes.format_of(file.at(start, 32)) if kind in _BY_FRAMED else None
    while form is not None and start < end < file.size:
        start = behind.behind_tags(file, end)
        if first_bytes.format_of(file.at(start, 32)) is not form:
            break
        end = start + (_end_of_stream(BytesAt(file.fd, file.size - start, start), kind) or file.size - start)
    return end


def _native(file: BytesAt, header: Header, start: int, kind: str) -> tuple[int, int | None, tuple[str, ...]]:
    """(where the search begins, where the recording ends if that is known, the kinds that its reader joins)."""
    if header.container in ("FLAC", "OGG"):
        last = flac.last_frame(file, start) if header.container == "FLAC" else _last_page_end(file, start)
        return start + 16, last, _OWN_JOINS.get(kind or header.container, ())
    end = header.data_start + header.data_bytes
    if header.container == "MP3":
        return header.data_start, end, ()
    if header.still_growing:  # what its header does not count may be sound up to there
        return header.data_start, None, ()
    for piece in (*header.pieces, *header.own):
        for segment in piece.segments or () if isinstance(piece, Part) else ():
            if isinstance(segment, Range):
                end = max(end, segment.start + segment.length)
    return end, end, ()


def _last_page_end(file: BytesAt, start: int) -> int | None:
    """Return where the last page of an Ogg ends; None where its last bytes hold none."""
    stop = file.size
    while stop > start:
        begin = max(stop - _BLOCK_BYTES, start)
        block = file.at(begin, min(stop - begin + _LONGEST_WORD, file.size - begin))
        at = block.rfind(b"OggS\x00")
        if at >= 0:
            head = file.at(begin + at, 27 + 255)
            return begin + at + 27 + head[26] + sum(head[27 : 27 + head[26]]) if len(head) > 27 else None
        stop = begin
    return None


def _search(file: BytesAt, begin: int, own: tuple[str, ...]) -> int | None:
    """Return where the first word of a kind stands that is none of the recording's own."""
    while begin < file.size:
        block = file.at(begin, _BLOCK_BYTES)
        for match in _ANY.finditer(block):
            at = begin + match.start()
            inside_ogg = match.lastgroup == "FLAC" and _OGG_FLAC in file.at(max(at - 9, 0), min(at, 9))
            if match.lastgroup not in own and not inside_ogg:
                return at
        if len(block) < _BLOCK_BYTES:
            return None
        begin += len(block) - _LONGEST_WORD
    return None


def _at_the_end(file: BytesAt, end: int, found: int | None, own: str) -> int | None:
    """Return where frames of another kind than `own` or a short word stand behind the recording, or what was found
    further."""
    at = min(behind.behind_tags(file, end), file.size)
    if at >= file.size:
        return found
    if file.at(at, 4).startswith(_AT_THE_END) or first_bytes.format_of(file.at(at, 32)) is not None:
        return at
    stop = min(at + _FRAMES_WITHIN, file.size, file.size if found is None else found)
    row = frame_rows.find(file, at, stop)
    if not row or row[1] == own:
        return found
    return end if row[0] == at and file.at(end, 3) == b"ID3" else row[0]  # the tag is that of what follows


def _end_of_stream(file: BytesAt, kind: str) -> int | None:
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
    if kind == "SOX" and head[:1] == b".":
        return int.from_bytes(head[4:8], "little") + 4 * int.from_bytes(head[8:16], "little")
    if kind == "SOX":
        return int.from_bytes(head[4:8], "big") + 4 * int.from_bytes(head[8:16], "big")
    if kind == "ASF":
        return asf.size(file)
    if kind == "FLV":
        return _walked(file, 13, lambda at: 15 + int.from_bytes(file.at(at, 4)[1:], "big"), (b"\x08", b"\x09", b"\x12"))
    if kind == "MPC":
        return _musepack_end(file)
    if kind == "MP4" or head[4:8] in mp4.FIRST:
        return _mp4_end(file)
    if kind == "OGG":
        return _last_page_end(file, 0)
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
        if at and _ANY.match(file.at(at, _LONGEST_WORD)) and name != b"ftyp":
            break
        if at + length > file.size:
            return file.size if name in _BOXES else at  # it was cut, or letters of something else stand there
        at += length
    return at
