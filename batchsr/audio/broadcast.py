"""The chunks of a broadcast WAV that know about samples, brought to 48 kHz: bext, cue, adtl, iXML.

Sources: EBU Tech 3285 v2 (bext), EBU R 98 (coding history), Microsoft multimedia programming interface 1991
(cue, LIST adtl), iXML specification 3.0.
"""

from __future__ import annotations

import dataclasses
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from batchsr.audio.windows import SAMPLE_RATE_HZ

_BEXT_BYTES: Final = 602
_UMID: Final = slice(348, 412)
_LOUDNESS: Final = slice(412, 422)
_LOUDNESS_UNSET: Final = struct.pack("<H", 0x7FFF) * 5
_POINT: Final = "<II4sIII"
_LARGEST: Final = 0xFFFFFFFF


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


def rescaled(samples: int, rate_hz: int) -> int:
    """A position at `rate_hz`, at 48 kHz."""
    return (2 * samples * SAMPLE_RATE_HZ + rate_hz) // (2 * rate_hz)


def bext_fields(body: bytes) -> Mapping[str, str | int]:
    """What a bext chunk says, for people."""
    body = body.ljust(_BEXT_BYTES, b"\0")
    names = (("description", 0, 256), ("originator", 256, 288), ("originator_reference", 288, 320))
    fields: dict[str, str | int] = {name: text(body[start:end]) for name, start, end in names}
    fields["date"], fields["time"] = text(body[320:330]), text(body[330:338])
    fields["time_reference"], fields["version"] = struct.unpack("<QH", body[338:348])
    if any(body[_UMID]):
        fields["umid"] = body[_UMID].hex()
    fields["coding_history"] = text(body[_BEXT_BYTES:])
    return MappingProxyType({key: value for key, value in fields.items() if value != ""})


def rescale_bext(body: bytes, rate_hz: int, history: str) -> tuple[bytes, list[str]]:
    """The bext chunk for the output, and what it no longer says.

    TimeReference counts samples and is brought to 48 kHz; `history` is added to the coding history. The UMID
    names the source's material and the loudness is the source's, so neither goes into a derivative.
    """
    out = bytearray(body.ljust(_BEXT_BYTES, b"\0"))
    lost = []
    (reference,) = struct.unpack("<Q", out[338:346])
    out[338:346] = struct.pack("<Q", min(rescaled(reference, rate_hz), 2**64 - 1))
    if any(out[_UMID]):
        out[_UMID] = bytes(64)
        lost.append("bext UMID (it names the source, not a derivative)")
    if any(out[_LOUDNESS]) and out[_LOUDNESS] != _LOUDNESS_UNSET:
        lost.append("bext loudness (it is the source's)")
    out[_LOUDNESS] = _LOUDNESS_UNSET if out[346] >= 2 else bytes(10)
    before = bytes(out[_BEXT_BYTES:]).rstrip(b"\0\r\n")
    lines = [*([before] if before else []), history.encode("ascii", "replace")]
    return bytes(out[:_BEXT_BYTES]) + b"\r\n".join(lines) + b"\r\n", lost


def read_markers(cue: bytes, adtl: bytes) -> tuple[Marker, ...]:
    """Markers of a cue chunk and of the LIST adtl chunk (without its four letters) that names them."""
    labels: dict[int, str] = {}
    notes: dict[int, str] = {}
    lengths: dict[int, int] = {}
    for key, body in sub_chunks(adtl):
        if len(body) < 4:
            continue
        (number,) = struct.unpack("<I", body[:4])
        if key == b"labl":
            labels[number] = text(body[4:])
        elif key == b"note":
            notes[number] = text(body[4:])
        elif key == b"ltxt" and len(body) >= 8:
            (lengths[number],) = struct.unpack("<I", body[4:8])
    size = struct.calcsize(_POINT)
    points = [struct.unpack(_POINT, cue[at : at + size]) for at in range(4, len(cue) - size + 1, size)]
    return tuple(
        Marker(number, offset, labels.get(number, ""), notes.get(number, ""), lengths.get(number, 0))
        for number, _, _, _, _, offset in points
    )


def write_markers(markers: Sequence[Marker], rate_hz: int) -> tuple[list[tuple[bytes, bytes]], list[str]]:
    """cue and LIST adtl chunks with the markers at 48 kHz, and what does not fit into 32 bits."""
    fitting = [marker for marker in markers if rescaled(marker.sample, rate_hz) <= _LARGEST]
    lost = [f"{len(markers) - len(fitting)} markers beyond 24 hours"] if len(fitting) < len(markers) else []
    if not fitting:
        return [], lost
    points = adtl = b""
    for marker in fitting:
        at = rescaled(marker.sample, rate_hz)
        points += struct.pack(_POINT, marker.number, at, b"data", 0, 0, at)
        number = struct.pack("<I", marker.number)
        if marker.label:
            adtl += _sub_chunk(b"labl", number + marker.label.encode() + b"\0")
        if marker.note:
            adtl += _sub_chunk(b"note", number + marker.note.encode() + b"\0")
        if marker.length_samples:
            length = min(rescaled(marker.length_samples, rate_hz), _LARGEST)
            adtl += _sub_chunk(b"ltxt", number + struct.pack("<I4sHHHH", length, b"rgn ", 0, 0, 0, 0))
    chunks = [(b"cue ", struct.pack("<I", len(fitting)) + points)]
    return chunks + ([(b"LIST", b"adtl" + adtl)] if adtl else []), lost


def rescale_ixml(body: bytes, rate_hz: int, bits: int) -> bytes:
    """An iXML document whose numbers about samples are true of the output; the rest of it stays byte for byte."""

    def value(name: bytes) -> int | None:
        found = re.search(rb"<" + name + rb">\s*(\d{1,20})\s*</", body)
        return int(found[1]) if found else None

    new: dict[bytes, int] = {b"FILE_SAMPLE_RATE": SAMPLE_RATE_HZ, b"AUDIO_BIT_DEPTH": bits}
    low, high = (value(b"TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_" + part) for part in (b"LO", b"HI"))
    if low is not None:
        own_rate_hz = value(b"TIMESTAMP_SAMPLE_RATE") or rate_hz
        since = rescaled(((high or 0) << 32) + low, own_rate_hz)
        new |= {
            b"TIMESTAMP_SAMPLE_RATE": SAMPLE_RATE_HZ,
            b"TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO": since & _LARGEST,
            b"TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI": since >> 32,
        }
    for name, number in new.items():
        body = re.sub(rb"(<" + name + rb">)[^<]*(</)", rb"\g<1>%d\g<2>" % number, body)
    return body


def sub_chunks(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(id, body) of each chunk inside a LIST chunk, as far as they are whole."""
    at = 0
    while at + 8 <= len(body):
        (length,) = struct.unpack("<I", body[at + 4 : at + 8])
        if at + 8 + length > len(body):
            return
        yield body[at : at + 4], body[at + 8 : at + 8 + length]
        at += 8 + length + (length & 1)


def text(raw: bytes) -> str:
    """Text as archives hold it: up to the first NUL, UTF-8 where it is that, else Windows' Western European."""
    raw = raw.split(b"\0", 1)[0]
    try:
        return raw.decode("utf-8").strip()
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace").strip()


def _sub_chunk(key: bytes, body: bytes) -> bytes:
    return key + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1)
