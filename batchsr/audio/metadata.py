"""What a recording says about itself: read from any container, carried into the output, and never lost silently.

Broadcast chunks and LIST/INFO are read here; Vorbis comments and ID3 by tinytag (MIT-licensed; mutagen would
bind the project to the GPL). Metadata that is broken is reported, not raised: the sound is worth more.

Longer than other modules: what is lost is what was read less what is carried over, so the two are read together.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final

import tinytag

from batchsr.audio import broadcast, probe
from batchsr.audio.broadcast import Marker
from batchsr.audio.containers import headers, iff, unread_parts, wave
from batchsr.audio.containers.bytes_at import BytesAt
from batchsr.audio.containers.chunks import Chunk
from batchsr.audio.formats import WRITTEN
from batchsr.audio.treatment import NOTHING_SYNTHETIC, Synthetic
from batchsr.audio.windows import SAMPLE_RATE_HZ
from batchsr.audio.writer import Embedded
from batchsr.display import counted

# LIST/INFO's names and ours.
_INFO: Final = MappingProxyType(
    {
        b"INAM": "title",
        b"IART": "artist",
        b"IPRD": "album",
        b"ICRD": "date",
        b"IGNR": "genre",
        b"ICMT": "comment",
        b"ICOP": "copyright",
        b"ITRK": "tracknumber",
        b"ISFT": "software",
        b"IMUS": "composer",
        b"IENG": "engineer",
        b"ITCH": "technician",
        b"IKEY": "keywords",
        b"ISBJ": "subject",
        b"ISRC": "source",
        b"ISRF": "source_form",
        b"IMED": "medium",
        b"ILNG": "language",
        b"IARL": "archival_location",
        b"ICMS": "commissioned",
    }
)
_INFO_ID: Final = MappingProxyType({name: key for key, name in _INFO.items()})
_TINYTAG: Final = MappingProxyType({"year": "date", "track": "tracknumber"})
# About the file that is left behind, not about the recording.
_NOT_TEXT: Final = (
    "encoder",
    "encoder_settings",
    "filename",
    "filesize",
    "mime_type",
    "duration",
    "bitrate",
    "samplerate",
    "channels",
    "bitdepth",
)
# Chunks that are about the layout of the file itself.
_LAYOUT: Final = (
    b"fmt ",
    b"data",
    b"fact",
    b"ds64",
    b"JUNK",
    b"junk",
    b"PAD ",
    b"FLLR",
    b"PEAK",
    b"FVER",
    b"COMM",
    b"SSND",
    b"VHDR",
    b"BODY",
    b"CSET",
    b"levl",
)
_AIFF_TEXTS: Final = MappingProxyType({b"NAME": "title", b"AUTH": "artist", b"(c) ": "copyright", b"ANNO": "comment"})
_LARGEST_CHUNK_BYTES: Final = 16 * 2**20
_LONGEST_TEXT: Final = 200_000
_MOST_CHARACTERS: Final = 1_000_000
_MOST_TEXTS: Final = 500
_LONGEST_NAME: Final = 2_000
_MOST_UNREAD: Final = 200
_LONGEST_TAG: Final = 2_000  # libsndfile keeps all texts of a header in one small buffer


@dataclasses.dataclass(frozen=True, slots=True)
class Metadata:
    """What a recording says about itself."""

    texts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """title, artist, date... and whatever other names the container has."""
    bext: bytes | None = None
    ixml: bytes | None = None
    axml: bytes | None = None
    cart: bytes | None = None
    markers: tuple[Marker, ...] = ()
    channel_mask: int | None = None
    unread: tuple[str, ...] = ()
    """What is there and is not understood: chunks by name, pictures, broken tags."""

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON types, for the sidecar, where what the output cannot hold still stands."""
        found: dict[str, Any] = {"texts": dict(self.texts), "unread": list(self.unread)}
        if self.bext is not None:
            found["bext"] = dict(broadcast.bext_fields(self.bext))
        if self.ixml is not None:
            found["ixml"] = broadcast.text(self.ixml)
        if self.axml is not None:
            found["axml"] = broadcast.text(self.axml)
        if self.cart is not None:
            found["cart"] = dict(broadcast.cart_fields(self.cart))
        if self.markers:
            found["markers"] = [dataclasses.asdict(marker) for marker in self.markers]
        return found


def read(path: Path) -> Metadata:
    """Return the metadata of a file that `probe` has accepted. Raises an InputError only when it cannot be opened."""
    fd, status = probe.open_regular(path)
    with os.fdopen(fd, "rb") as file:
        container = headers.inspect(fd, status.st_size).container
        whole = BytesAt(fd, status.st_size)
        found, tagged = Metadata(), None
        if container in ("WAV", "RIFX", "RF64", "BW64", "W64", "AIFF", "SVX"):
            found, tagged = _from_chunks(whole, container)
            texts, unread = _tags(tagged) if tagged is not None else ({}, ())
        else:
            texts, unread = _tags(file)
        unread = (*unread, *unread_parts.parts_left_behind(whole, container))
    # What was read here is better: tinytag cuts and reinterprets.
    return _bounded(
        dataclasses.replace(found, texts=MappingProxyType({**texts, **found.texts}), unread=(*found.unread, *unread))
    )


def _bounded(found: Metadata) -> Metadata:
    """No more of it than a sidecar should hold; what is beyond is said to be."""
    texts: dict[str, str] = {}
    unread = list(found.unread)
    left = _MOST_CHARACTERS
    for name, value in found.texts.items():
        if len(value) > min(_LONGEST_TEXT, left) or len(texts) >= _MOST_TEXTS:
            unread.append(f"{name[:100]} ({len(value):,} characters)")
            continue
        texts[name[:100]] = value
        left -= len(value)
    cut = [one if len(one) <= _LONGEST_NAME else one[: _LONGEST_NAME - 3] + "..." for one in unread[:_MOST_UNREAD]]
    if len(unread) > len(cut):
        cut.append(f"{counted(len(unread) - len(cut), 'part')} more")
    return dataclasses.replace(found, texts=MappingProxyType(texts), unread=tuple(cut))


def _tags(file: BinaryIO) -> tuple[dict[str, str], tuple[str, ...]]:
    """Vorbis comments, ID3 and the like: (texts, what is there besides)."""
    try:
        tag = tinytag.TinyTag.get(file_obj=file, duration=False, image=True)
    except tinytag.UnsupportedFormatError:
        try:
            return probe.texts_of(file.fileno()), ()
        except OSError:  # part of a file, not one
            return {}, ("tags that are broken",)
    except (tinytag.TinyTagException, ValueError, LookupError, TypeError, EOFError, OSError, struct.error):
        return {}, ("tags that are broken",)
    pictures = sum(len(images) for images in tag.images.as_dict().values())
    return _texts_of(tag), (counted(pictures, "picture"),) if pictures else ()


def _texts_of(tag: tinytag.TinyTag) -> dict[str, str]:
    texts = {}
    for name, values in tag.as_dict().items():
        if name in _NOT_TEXT:
            continue
        joined = "; ".join(str(value).strip("\0 ") for value in (values if isinstance(values, list) else [values]))
        if joined:
            texts[_TINYTAG.get(name, name)] = joined
    return texts


def _from_chunks(file: BytesAt, container: str) -> tuple[Metadata, BinaryIO | None]:
    """Return what the chunks of a WAV or AIFF file say, and the ID3 among them, if there is any."""
    big_endian = container in ("AIFF", "SVX", "RIFX")
    endian = ">" if big_endian else "<"
    chunks = (iff.walk(file) if container in ("AIFF", "SVX") else wave.walk(file, container)).chunks
    tagged: BinaryIO | None = None
    texts: dict[str, str] = {}
    unread: list[str] = []
    bext = ixml = axml = cart = None
    cue = adtl = b""
    markers: tuple[Marker, ...] = ()
    mask = None
    codec = _code_page(file, chunks, endian)
    for chunk in chunks:
        key, start, length = chunk.key, chunk.start, chunk.end - chunk.start
        name = key.decode("latin-1").strip()
        if key == b"fmt " and len(body := file.at(start, min(length, 24))) == 24:
            tag, mask_bits = struct.unpack(endian + "H18xI", body)
            mask = mask_bits if tag == 0xFFFE else None
        if key in _LAYOUT or not all(32 <= c < 127 for c in key):
            continue
        if chunk.cut or length > _LARGEST_CHUNK_BYTES:
            unread.append(f"chunk {name} (cut or too large)")
            continue
        body = file.at(start, length)
        if key == b"bext":
            bext = body
        elif key == b"iXML":
            ixml = body.rstrip(b"\0")
        elif key == b"axml":
            axml = body.rstrip(b"\0")
        elif key == b"cart":
            cart = body
        elif key == b"cue ":
            cue = body
        elif key == b"LIST" and body[:4] == b"INFO":
            texts |= _info(body[4:], unread, codec, big_endian)
        elif key == b"LIST" and body[:4] == b"adtl":
            adtl = body[4:]
        elif key == b"MARK":
            markers = tuple(itertools.islice(_aiff_markers(body), broadcast.MOST_MARKERS))
        elif key in _AIFF_TEXTS:
            value = broadcast.text(body)
            texts[_AIFF_TEXTS[key]] = "; ".join(filter(None, (texts.get(_AIFF_TEXTS[key]), value)))
        elif key in (b"id3 ", b"ID3 ") and body[:3] == b"ID3":
            tagged = io.BytesIO(body)
        else:
            unread.append(f"chunk {name}")
    markers = markers or broadcast.read_markers(cue, adtl, codec, big_endian=big_endian)
    texts = {name: value for name, value in texts.items() if value}
    return Metadata(texts, bext, ixml, axml, cart, markers, mask, tuple(unread)), tagged


def _code_page(file: BytesAt, chunks: Sequence[Chunk], endian: str) -> str | None:
    """Return the code page that a CSET chunk names for the texts, as Python calls it."""
    for chunk in chunks:
        body = file.at(chunk.start, min(chunk.end - chunk.start, 8))
        if chunk.key == b"CSET" and len(body) == 8:
            return broadcast.code_page(struct.unpack_from(endian + "H", body)[0])
    return None


def _info(body: bytes, unread: list[str], codec: str | None, big_endian: bool) -> dict[str, str]:
    texts = {}
    for key, raw in broadcast.sub_chunks(body, big_endian=big_endian):
        value = broadcast.text(raw, codec, behind_nul=True)
        if key in _INFO:
            texts[_INFO[key]] = value
        elif value:
            unread.append(f"INFO {key.decode('latin-1')}: {value}")
    return texts


def _aiff_markers(body: bytes) -> Iterator[Marker]:
    at = 2
    while at + 7 <= len(body):
        number, sample, length = struct.unpack(">HIB", body[at : at + 7])
        yield Marker(number, sample, broadcast.text(body[at + 7 : at + 7 + length]))
        at += 7 + length + (1 - length % 2)


@dataclasses.dataclass(frozen=True, slots=True)
class Carried:
    """What goes into the output, and what does not."""

    embedded: Embedded
    lost: tuple[str, ...]
    """One line each, for the report."""


def carry_over(
    metadata: Metadata,
    *,
    form: str,
    subtype: str,
    channels: int,
    source_rate_hz: int | Fraction,
    program: str,
    rate_hz: int = SAMPLE_RATE_HZ,
    synthetic: Synthetic = NOTHING_SYNTHETIC,
) -> Carried:
    """Bring metadata to an output of `rate_hz` in the container `form` (a key of `SUBTYPES`).

    `program` is what the coding history names: the program, its version and the model. What is `synthetic` of the
    output is said in its comment and, where there is one, in its bext chunk.
    """
    lost = list(metadata.unread)
    if synthetic.sentence:
        metadata = dataclasses.replace(metadata, texts=_marked(metadata.texts, synthetic.sentence, form))
    mask = metadata.channel_mask
    if mask is not None and mask.bit_count() != channels:
        mask = None
    if form == "wav":
        chunks, more = _wav_chunks(metadata, subtype, channels, source_rate_hz, program, rate_hz, synthetic)
        return Carried(Embedded(chunks=chunks, channel_mask=mask), (*lost, *more))
    tags = {
        name: value
        for name, value in metadata.texts.items()
        if name in WRITTEN[form].tags and len(value) <= _LONGEST_TAG
    }
    lost += [f"{name}: {value}" for name, value in metadata.texts.items() if name not in tags]
    if metadata.bext is not None:
        lost += [f"bext {name}: {value}" for name, value in broadcast.bext_fields(metadata.bext).items()]
    lost += ["iXML"] if metadata.ixml is not None else []
    lost += ["axml"] if metadata.axml is not None else []
    lost += ["cart"] if metadata.cart is not None else []
    lost += [f"{len(metadata.markers)} markers"] if metadata.markers else []
    return Carried(Embedded(tags=MappingProxyType(tags)), tuple(lost))


def _marked(texts: Mapping[str, str], sentence: str, form: str) -> Mapping[str, str]:
    """Return the texts with the sentence in the comment, behind what stands there; alone where both are too
    long a tag."""
    before = texts.get("comment", "")
    if sentence in before:
        return texts
    said = f"{before.rstrip()} {sentence}" if before.strip() else sentence
    if form != "wav" and len(said) > _LONGEST_TAG:
        return MappingProxyType({**texts, "comment": sentence, "comment of the source": before})
    return MappingProxyType({**texts, "comment": said})


def _wav_chunks(
    metadata: Metadata,
    subtype: str,
    channels: int,
    source_rate_hz: int | Fraction,
    program: str,
    rate_hz: int,
    synthetic: Synthetic,
) -> tuple[tuple[tuple[bytes, bytes], ...], list[str]]:
    bits = {"PCM_16": 16, "PCM_24": 24}.get(subtype, 32)
    chunks: list[tuple[bytes, bytes]] = []
    lost: list[str] = []
    if metadata.bext is not None or program:
        mode = {1: "mono", 2: "stereo"}.get(channels, "multitrack")
        told = "; ".join(filter(None, (program, synthetic.short.rstrip("."))))
        history = f"A=PCM,F={rate_hz},W={bits},M={mode},T={told.replace(',', ';')}"
        said = (synthetic.sentence, synthetic.short)
        body, lost = broadcast.rescale_bext(metadata.bext, source_rate_hz, history, rate_hz, said)
        chunks.append((b"bext", body))
    if metadata.ixml is not None:
        chunks.append((b"iXML", broadcast.rescale_ixml(metadata.ixml, source_rate_hz, bits, rate_hz)))
    if metadata.axml is not None:
        chunks.append((b"axml", metadata.axml))
    if metadata.cart is not None:
        chunks.append((b"cart", broadcast.rescale_cart(metadata.cart, source_rate_hz, rate_hz)))
    info = b""
    for name, value in sorted(metadata.texts.items()):
        if name in _INFO_ID:
            raw = value.encode("utf-8", "replace") + b"\0"
            info += _INFO_ID[name] + struct.pack("<I", len(raw)) + raw + b"\0" * (len(raw) & 1)
        else:
            lost.append(f"{name}: {value}")
    if info:
        chunks.append((b"LIST", b"INFO" + info))
    markers, more = broadcast.write_markers(metadata.markers, source_rate_hz, rate_hz)
    return (*chunks, *markers), lost + more
