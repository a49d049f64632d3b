"""The chunks of a broadcast WAV that know about samples, brought to the output's rate: bext, cue, adtl, iXML.

Sources: EBU Tech 3285 v2 (bext), EBU R 98 (coding history), Microsoft multimedia programming interface 1991
(cue, LIST adtl), iXML specification 3.0, AES46 (cart), SMPTE ST 330 (UMID).

Longer than other modules: one function to read and one to write for each of the chunks.
"""

from __future__ import annotations

import codecs
import dataclasses
import re
import struct
import uuid
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from batchsr.audio.windows import SAMPLE_RATE_HZ

_BEXT_BYTES: Final = 602
_DESCRIPTION: Final = slice(0, 256)
_UMID: Final = slice(348, 412)
UMID_AT: Final = _UMID.start
"""Where in a bext chunk its UMID stands."""
_LOUDNESS: Final = slice(412, 422)
LOUDNESS_AT: Final = _LOUDNESS.start
"""Where in a bext chunk its loudness stands, five fields of 16 bits."""
LOUDNESS: Final = ("integrated_lufs", "range_lu", "max_true_peak_dbtp", "max_momentary_lufs", "max_short_term_lufs")
_MOST_LOUDNESS: Final = 99.99
_UNSET: Final = struct.pack("<H", 0x7FFF)
_LOUDNESS_UNSET: Final = _UNSET * 5
_NEW: Final = bytes(256) + b"batchsr"
_UMIDS: Final = uuid.UUID("9a7a1f34-8a0e-4a55-8f5d-0c2d1b1f7e63")
_CART_TIMERS: Final = slice(684, 748)
_POINT: Final = "<II4sIII"
_LARGEST: Final = 0xFFFFFFFF
_LTXT_BYTES: Final = 20
MOST_MARKERS: Final = 20_000
_MOST_PARTS: Final = 1_000


@dataclasses.dataclass(frozen=True, slots=True)
class Marker:
    """A point in a recording."""

    number: int
    sample: int
    """At the source's rate."""
    label: str = ""
    note: str = ""
    length_samples: int = 0
    """More than 0 makes it a region."""


def rescaled(samples: int, rate_hz: int | Fraction, to_hz: int = SAMPLE_RATE_HZ) -> int:
    """Return a position that counts samples at `rate_hz`, counted at `to_hz`."""
    return int((2 * samples * to_hz + rate_hz) // (2 * rate_hz))


def bext_fields(body: bytes) -> Mapping[str, str | int | float]:
    """Return what a bext chunk says, for people."""
    body = body.ljust(_BEXT_BYTES, b"\0")
    names = (("description", 0, 256), ("originator", 256, 288), ("originator_reference", 288, 320))
    fields: dict[str, str | int | float] = {name: text(body[start:end]) for name, start, end in names}
    fields["date"], fields["time"] = text(body[320:330]), text(body[330:338])
    fields["time_reference"], fields["version"] = struct.unpack("<QH", body[338:348])
    if any(body[_UMID]):
        fields["umid"] = body[_UMID].hex()
    fields |= read_loudness(body)
    fields["coding_history"] = text(body[_BEXT_BYTES:])
    return MappingProxyType({key: value for key, value in fields.items() if value != ""})


def loudness_fields(values: Mapping[str, float | None]) -> bytes:
    """Return the five loudness fields of a bext chunk: hundredths in 16 bits, and 7FFF where there is no value that
    fits.

    `values` are integrated_lufs, range_lu, max_true_peak_dbtp, max_momentary_lufs and max_short_term_lufs.
    """
    fields = b""
    for name in LOUDNESS:
        value = values.get(name)
        fits = value is not None and abs(value) <= _MOST_LOUDNESS
        fields += struct.pack("<h", round(100 * value)) if fits and value is not None else _UNSET
    return fields


def umid(channels: int, *made_of: str) -> bytes:
    """Return a basic UMID (SMPTE ST 330) as a bext chunk has it, 64 bytes: the same for the same `made_of`.

    Label for one audio component or several, numbers by the UUID method; the first instance; a UUID as the material.
    """
    label = bytes.fromhex("060a2b340101010501010820" if channels == 1 else "060a2b340101010501010920")
    material = uuid.uuid5(_UMIDS, "\n".join(made_of)).bytes
    return (label + b"\x13" + bytes(3) + material).ljust(64, b"\0")


def read_loudness(body: bytes) -> Mapping[str, float]:
    """Return what a bext chunk says of loudness; nothing where it is of a version before 2, or unset."""
    if len(body) < _BEXT_BYTES or struct.unpack("<H", body[346:348])[0] < 2:
        return MappingProxyType({})
    found = zip(LOUDNESS, struct.unpack("<5h", body[_LOUDNESS]), strict=True)
    return MappingProxyType({name: value / 100 for name, value in found if abs(value) <= 100 * _MOST_LOUDNESS})


def rescale_bext(
    body: bytes | None,
    rate_hz: int | Fraction,
    history: str,
    to_hz: int = SAMPLE_RATE_HZ,
    said: Sequence[str] = (),
) -> tuple[bytes, list[str]]:
    """Return the bext chunk (version 2) for the output, and what it no longer says; a new one where the source has
    none.

    TimeReference counts samples and is brought to `to_hz`; `history` is added to the coding history. The UMID names
    the source's material and the loudness is the source's, so neither goes into a derivative: the loudness is unset,
    and `loudness_fields` belong at LOUDNESS_AT once it is known. The description keeps its text, and has behind it the
    first of the sentences `said` (the same, ever shorter) for which there is room in its 256 bytes.
    """
    out = bytearray((_NEW if body is None else body).ljust(_BEXT_BYTES, b"\0"))
    lost = []
    out[_DESCRIPTION] = described(bytes(out[_DESCRIPTION]), said)
    (reference,) = struct.unpack("<Q", out[338:346])
    out[338:346] = struct.pack("<Q", min(rescaled(reference, rate_hz, to_hz), 2**64 - 1))
    if any(out[_UMID]):
        out[_UMID] = bytes(64)
        lost.append("bext UMID (it names the source, not a derivative)")
    if out[346] >= 2 and any(out[_LOUDNESS]) and out[_LOUDNESS] != _LOUDNESS_UNSET:
        lost.append("bext loudness (it is the source's)")
    out[_LOUDNESS] = _LOUDNESS_UNSET
    out[346:348] = struct.pack("<H", 2)
    before = bytes(out[_BEXT_BYTES:]).rstrip(b"\0\r\n")
    lines = [*([before] if before else []), history.encode("ascii", "replace")]
    return bytes(out[:_BEXT_BYTES]) + b"\r\n".join(lines) + b"\r\n", lost


def described(field: bytes, said: Sequence[str]) -> bytes:
    """Return a bext description (256 bytes) with the first of the sentences `said` behind its text that there is room
    for.

    None is cut: where the text leaves no room for any, it stays as it is.
    """
    room = _DESCRIPTION.stop - _DESCRIPTION.start
    before = field.split(b"\0", 1)[0].rstrip()
    for sentence in filter(None, said):
        raw = sentence.encode("ascii", "replace")
        if raw in before:
            break
        whole = before + (b" " if before else b"") + raw
        if len(whole) <= room:
            return whole.ljust(room, b"\0")
    return field.ljust(room, b"\0")


def read_markers(cue: bytes, adtl: bytes, codec: str | None = None, *, big_endian: bool = False) -> tuple[Marker, ...]:
    """Return markers of a cue chunk and of the LIST adtl chunk (without its four letters) that names them.

    A point's place stands in dwSampleOffset; some programs fill in dwPosition alone. `codec` is that of its texts.
    """
    endian = ">" if big_endian else "<"
    labels: dict[int, str] = {}
    notes: dict[int, str] = {}
    lengths: dict[int, int] = {}
    for key, body in sub_chunks(adtl, big_endian=big_endian):
        if len(body) < 4:
            continue
        (number,) = struct.unpack(endian + "I", body[:4])
        if key == b"labl":
            labels[number] = text(body[4:], codec)
        elif key == b"note":
            notes[number] = text(body[4:], codec)
        elif key == b"ltxt" and len(body) >= 8:
            (lengths[number],) = struct.unpack(endian + "I", body[4:8])
            if len(body) > _LTXT_BYTES:
                (page,) = struct.unpack_from(endian + "H", body, _LTXT_BYTES - 2)
                labels.setdefault(number, text(body[_LTXT_BYTES:], code_page(page) or codec))
    point = endian + _POINT[1:]
    size = struct.calcsize(point)
    points = [struct.unpack_from(point, cue, at) for at in range(4, len(cue) - size + 1, size)][:MOST_MARKERS]
    by_offset = any(offset for *_, offset in points)
    return tuple(
        Marker(
            number,
            offset if by_offset else position,
            labels.get(number, ""),
            notes.get(number, ""),
            lengths.get(number, 0),
        )
        for number, position, _, _, _, offset in points
    )


def code_page(number: int) -> str | None:
    """Return Python's name for a code page of Windows or of the Macintosh; None for one that it does not know."""
    if not number:
        return None
    name = {65_001: "utf-8", 1200: "utf-16-le", 1201: "utf-16-be", 10_000: "mac-roman", 10_007: "mac-cyrillic"}.get(
        number, {28_591: "latin-1", 28_605: "iso8859-15", 20_932: "euc-jp", 51_949: "euc-kr"}.get(number, f"cp{number}")
    )
    try:
        codecs.lookup(name)
    except LookupError:
        return None
    return name


def write_markers(
    markers: Sequence[Marker], rate_hz: int | Fraction, to_hz: int = SAMPLE_RATE_HZ
) -> tuple[list[tuple[bytes, bytes]], list[str]]:
    """cue and LIST adtl chunks with the markers at `to_hz`, and what does not fit into 32 bits."""
    fitting = [marker for marker in markers if rescaled(marker.sample, rate_hz, to_hz) <= _LARGEST]
    lost = [f"{len(markers) - len(fitting)} markers beyond 24 hours"] if len(fitting) < len(markers) else []
    if not fitting:
        return [], lost
    points: list[bytes] = []
    adtl: list[bytes] = []
    for marker in fitting:
        at = rescaled(marker.sample, rate_hz, to_hz)
        points.append(struct.pack(_POINT, marker.number, at, b"data", 0, 0, at))
        number = struct.pack("<I", marker.number)
        if marker.label:
            adtl.append(_sub_chunk(b"labl", number + marker.label.encode("utf-8", "replace") + b"\0"))
        if marker.note:
            adtl.append(_sub_chunk(b"note", number + marker.note.encode("utf-8", "replace") + b"\0"))
        if marker.length_samples:
            length = min(rescaled(marker.length_samples, rate_hz, to_hz), _LARGEST)
            adtl.append(_sub_chunk(b"ltxt", number + struct.pack("<I4sHHHH", length, b"rgn ", 0, 0, 0, 0)))
    chunks = [(b"cue ", struct.pack("<I", len(fitting)) + b"".join(points))]
    return chunks + ([(b"LIST", b"adtl" + b"".join(adtl))] if adtl else []), lost


def rescale_ixml(body: bytes, rate_hz: int | Fraction, bits: int, to_hz: int = SAMPLE_RATE_HZ) -> bytes:
    """Return an iXML document whose numbers about samples are true of the output; the rest of it stays byte
    for byte."""

    def value(name: bytes) -> int | None:
        found = re.search(rb"<" + name + rb">\s*(\d{1,20})\s*</", body)
        return int(found[1]) if found else None

    new: dict[bytes, int] = {b"FILE_SAMPLE_RATE": to_hz, b"AUDIO_BIT_DEPTH": bits}
    low, high = (value(b"TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_" + part) for part in (b"LO", b"HI"))
    if low is not None:
        own_rate_hz = value(b"TIMESTAMP_SAMPLE_RATE") or rate_hz
        since = rescaled(((high or 0) << 32) + low, own_rate_hz, to_hz)
        new |= {
            b"TIMESTAMP_SAMPLE_RATE": to_hz,
            b"TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO": since & _LARGEST,
            b"TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI": since >> 32,
        }
    for name, number in new.items():
        body = re.sub(rb"(<" + name + rb">)[^<]*(</)", rb"\g<1>%d\g<2>" % number, body)
    return body


def cart_fields(body: bytes) -> Mapping[str, str]:
    """Return what a cart chunk says, for people: the first of its texts."""
    names = ("title", "artist", "cut_id", "client_id", "category", "classification", "out_cue")
    found = {name: text(body[at : at + 64]) for name, at in zip(names, range(4, 452, 64), strict=True)}
    return MappingProxyType({name: value for name, value in found.items() if value})


def rescale_cart(body: bytes, rate_hz: int | Fraction, to_hz: int = SAMPLE_RATE_HZ) -> bytes:
    """Return a cart chunk whose eight timers, which count samples, are true of the output; the rest stays byte for
    byte."""
    out = bytearray(body)
    for at in range(_CART_TIMERS.start, min(_CART_TIMERS.stop, len(body) - 7), 8):
        (samples,) = struct.unpack_from("<I", body, at + 4)
        if any(body[at : at + 4]):  # a timer without a name is none
            struct.pack_into("<I", out, at + 4, min(rescaled(samples, rate_hz, to_hz), _LARGEST))
    return bytes(out)


def sub_chunks(body: bytes, *, big_endian: bool = False) -> Iterator[tuple[bytes, bytes]]:
    """(id, body) of each chunk inside a LIST chunk, as far as they are whole, padded to an even length or not."""
    at = 0
    while at + 8 <= len(body):
        length = int.from_bytes(body[at + 4 : at + 8], "big" if big_endian else "little")
        if at + 8 + length > len(body):
            return
        yield body[at : at + 4], body[at + 8 : at + 8 + length]
        at += 8 + length
        if length & 1 and not (_is_name(body[at : at + 4]) and not _is_name(body[at + 1 : at + 5])):
            at += 1


def _is_name(key: bytes) -> bool:
    return len(key) == 4 and all(c == 32 or 48 <= c < 123 for c in key)


def text(raw: bytes, codec: str | None = None, *, behind_nul: bool = False) -> str:
    """Return text as archives hold it: UTF-16 and UTF-8 where it is that, else `codec`, else Windows' Western European.

    The first NUL ends it; with `behind_nul` what stands behind it goes on the text, as far as it can be read.
    """
    wide = _utf_16(raw)
    if wide is not None:
        return wide.split("\0", 1)[0].strip()
    parts = [_decoded(part, codec).strip() for part in raw.rstrip(b"\0").split(b"\0", _MOST_PARTS)]
    if not behind_nul:
        return parts[0]
    more = [part for part in parts[1:] if part and all(c.isprintable() or c.isspace() for c in part)]
    return "; ".join([*parts[:1], *more]).removeprefix("; ")


def _decoded(raw: bytes, codec: str | None) -> str:
    for name in ("utf-8", codec):
        try:
            if name is not None:
                return raw.decode(name)
        except UnicodeError:
            continue
    return raw.decode("cp1252", "replace")


def _utf_16(raw: bytes) -> str | None:
    """Return the text, if it is UTF-16: by its mark, or because every second byte is zero."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw[: len(raw) & ~1].decode("utf-16", "replace")
    body = raw[: len(raw) & ~1].rstrip(b"\0")
    body += b"\0" * (len(body) & 1)
    if len(body) < 4:
        return None
    even, odd = body[::2], body[1::2]
    for zeros, letters, codec in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
        if zeros.count(0) * 4 >= 3 * len(zeros) and letters.count(0) * 4 <= len(letters):
            decoded = body.decode(codec, "replace")
            if all(c.isprintable() or c.isspace() or c == "\0" for c in decoded):
                return decoded
    return None


def _sub_chunk(key: bytes, body: bytes) -> bytes:
    return key + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1)
