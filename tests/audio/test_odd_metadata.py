"""Texts and markers come through however a program wrote them: code pages, wide letters, places, missing pad bytes."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from batchsr.audio import broadcast, metadata
from batchsr.audio.broadcast import Marker
from batchsr.audio.files import Writer, probe
from batchsr.audio.metadata import Metadata
from tests.audio import odd_files as odd

SOUND = odd.sound(800)
TITLE = "Gespräch über Öl, 2 €"


def info(*items: tuple[bytes, bytes], order: str = "<") -> bytes:
    return odd.chunk(b"LIST", b"INFO" + b"".join(odd.chunk(key, raw, order=order) for key, raw in items), order=order)


def cset(page: int) -> bytes:
    return odd.chunk(b"CSET", struct.pack("<HHHH", page, 0, 0, 0))


def read(folder: Path, data: bytes) -> Metadata:
    return metadata.read(odd.write(folder, "x", data))


@pytest.mark.parametrize(
    ("raw", "page", "title"),
    [
        (TITLE.encode(), None, TITLE),
        (TITLE.encode(), 1252, TITLE),
        (TITLE.encode("cp1252"), None, TITLE),
        (TITLE.encode("cp1252"), 1252, TITLE),
        ("昭和の録音".encode("cp932"), 932, "昭和の録音"),
        ("Запись № 5".encode("cp1251"), 1251, "Запись № 5"),
        ("Größe".encode("mac-roman"), 10_000, "Größe"),
        ("Größe".encode("cp437"), 437, "Größe"),
        ("Größe".encode("cp1252"), 64_999, "Größe"),
        (b"\xff\xfe" + "Запись 5".encode("utf-16-le"), None, "Запись 5"),
        (b"\xfe\xff" + "Запись 5".encode("utf-16-be"), None, "Запись 5"),
        ("Harbour, tape 8".encode("utf-16-le"), None, "Harbour, tape 8"),
        ("Harbour, tape 8".encode("utf-16-le") + b"\0\0", None, "Harbour, tape 8"),
        ("Harbour, tape 8".encode("utf-16-be") + b"\0\0", None, "Harbour, tape 8"),
        ("Größe".encode("utf-16-le"), None, "Größe"),
        (b"Side B" + bytes(3000), None, "Side B"),
        (b"Side B   \0", None, "Side B"),
        (b"Side B\0second half", None, "Side B; second half"),
        (b"Side B\0\x01\x02\x03", None, "Side B"),
        (b"\0\0Side B", None, "Side B"),
        (b"7", None, "7"),
        (b"A\0", None, "A"),
    ],
)
def test_a_title_is_read_in_whatever_letters_it_was_written(
    tmp_path: Path, raw: bytes, page: int | None, title: str
) -> None:
    chunks = [info((b"INAM", raw)), *([cset(page)] if page is not None else [])]
    assert read(tmp_path, odd.wav(SOUND, *chunks)).texts["title"] == title
    assert read(tmp_path, odd.wav(SOUND, *reversed(chunks))).texts["title"] == title


def test_blanks_alone_are_no_text(tmp_path: Path) -> None:
    assert dict(read(tmp_path, odd.wav(SOUND, info((b"INAM", b"   \0"), (b"IART", bytes(9))))).texts) == {}


def test_items_of_odd_length_without_a_pad_byte_are_all_read(tmp_path: Path) -> None:
    items = odd.chunk(b"INAM", b"abc", pad=False) + odd.chunk(b"IART", b"de") + odd.chunk(b"ICMT", b"f", pad=False)
    found = read(tmp_path, odd.wav(SOUND, odd.chunk(b"LIST", b"INFO" + items)))
    assert dict(found.texts) == {"title": "abc", "artist": "de", "comment": "f"}


def points(*places: tuple[int, int, int]) -> bytes:
    """A cue chunk of (number, dwPosition, dwSampleOffset)."""
    body = struct.pack("<I", len(places))
    return odd.chunk(b"cue ", body + b"".join(struct.pack("<II4sIII", n, p, b"data", 0, 0, o) for n, p, o in places))


@pytest.mark.parametrize(
    ("places", "samples"),
    [
        ([(1, 0, 400), (2, 0, 700)], [400, 700]),
        ([(1, 400, 0), (2, 700, 0)], [400, 700]),
        ([(1, 400, 400), (2, 700, 700)], [400, 700]),
        ([(1, 0, 0), (2, 0, 700)], [0, 700]),
        ([(1, 0, 0), (2, 700, 0)], [0, 700]),
        ([(1, 1, 400), (2, 2, 700)], [400, 700]),
        ([(1, 0, 0)], [0]),
    ],
    ids=["offset", "position", "both", "offset from the start", "position from the start", "a count beside", "start"],
)
def test_markers_stand_where_either_of_their_places_says(
    tmp_path: Path, places: list[tuple[int, int, int]], samples: list[int]
) -> None:
    markers = read(tmp_path, odd.wav(SOUND, points(*places))).markers
    assert [marker.sample for marker in markers] == samples


def adtl(*chunks: bytes) -> bytes:
    return odd.chunk(b"LIST", b"adtl" + b"".join(chunks))


def test_labels_and_regions_keep_their_names_in_any_code_page(tmp_path: Path) -> None:
    region = struct.pack("<II4sHHHH", 2, 90, b"rgn ", 0, 0, 0, 1251) + "Припев".encode("cp1251") + b"\0"
    labels = adtl(
        odd.chunk(b"labl", struct.pack("<I", 1) + TITLE.encode("cp1252") + b"\0", pad=False),
        odd.chunk(b"note", struct.pack("<I", 1) + "昭和".encode("cp932") + b"\0"),
        odd.chunk(b"ltxt", region),
    )
    found = read(tmp_path, odd.wav(SOUND, points((1, 0, 9), (2, 0, 80)), labels))
    assert [(m.label, m.length_samples) for m in found.markers] == [(TITLE, 0), ("Припев", 90)]
    found = read(tmp_path, odd.wav(SOUND, points((1, 0, 9), (2, 0, 80)), labels, cset(932)))
    assert found.markers[0].note == "昭和"


BEXT = odd.chunk(b"bext", b"Reel 17, side A".ljust(602, b"\0") + b"A=ANALOGUE,T=Studer A80\r\n")
ODD_24 = odd.chunk(b"data", bytes(range(1, 100)) * 1, pad=False)


@pytest.mark.parametrize(
    "data",
    [
        odd.wav(SOUND, BEXT, info((b"INAM", b"Well 3"))),
        odd.wav(SOUND, BEXT, info((b"INAM", b"Well 3")), data_claims=100),
        odd.riff(odd.chunk(b"fmt ", odd.fmt(bits=24)), ODD_24, BEXT, info((b"INAM", b"Well 3"))),
        odd.riff(
            odd.chunk(b"fmt ", odd.fmt(bits=24)),
            odd.chunk(b"inst", b"odd", pad=False),
            ODD_24,
            info((b"INAM", b"Well 3")),
            BEXT,
        ),
        odd.rf64(SOUND, BEXT, info((b"INAM", b"Well 3")), ds64=struct.pack("<QQQI", 9000, 1600, 800, 0)),
        odd.rf64(SOUND, BEXT, info((b"INAM", b"Well 3")), ds64=struct.pack("<QQQI", 9000, 1600, 800, 0), magic=b"BW64"),
        odd.rf64(SOUND, BEXT, info((b"INAM", b"Well 3")), ds64=bytes(28)),
        odd.riff(odd.chunk(b"data", SOUND.tobytes()), info((b"INAM", b"Well 3")), odd.chunk(b"fmt ", odd.fmt()), BEXT),
    ],
    ids=["plain", "length too short", "odd audio", "odd chunks", "rf64", "bw64", "rf64 of zeros", "fmt behind"],
)
def test_what_stands_behind_odd_audio_is_read(tmp_path: Path, data: bytes) -> None:
    found = read(tmp_path, data)
    assert found.texts["title"] == "Well 3"
    assert found.to_dict()["bext"]["description"] == "Reel 17, side A"
    assert found.unread == () or found.unread == ("chunk inst",)


def test_id3_among_the_chunks_is_read_wherever_it_stands(tmp_path: Path) -> None:
    title = b"\x03Tape 3"
    frame = b"TIT2" + struct.pack(">I", len(title)) + b"\0\0" + title
    tag = b"ID3\x04\0\0" + bytes([0, 0, 0, len(frame)]) + frame
    for data in (odd.wav(SOUND, odd.chunk(b"id3 ", tag)), odd.riff(odd.chunk(b"ID3 ", tag), odd.wav(SOUND)[12:])):
        assert read(tmp_path, data).texts["title"] == "Tape 3"


def test_a_history_of_60_kb_is_kept_whole(tmp_path: Path) -> None:
    lines = "".join(f"A=ANALOGUE,T=machine {n}\r\n" for n in range(2500))
    found = read(tmp_path, odd.wav(SOUND, odd.chunk(b"bext", bytes(602) + lines.encode())))
    assert "machine 2499" in found.to_dict()["bext"]["coding_history"]
    carried = metadata.carry_over(found, form="wav", subtype="PCM_24", channels=1, source_rate_hz=8000, program="x")
    assert b"machine 2499" in carried.embedded.chunks[0][1]


@pytest.mark.parametrize("cut", [13, 16, 19, 22, 30, 40])
def test_metadata_of_a_cut_header_never_raises(tmp_path: Path, cut: int) -> None:
    whole = odd.riff(odd.chunk(b"fmt ", odd.extensible(1, 16, valid=16, mask=4)), odd.chunk(b"data", SOUND.tobytes()))
    assert read(tmp_path, whole[:cut]) == Metadata()


def test_metadata_is_bounded(tmp_path: Path) -> None:
    many = info(*[(b"I" + str(n).zfill(3).encode(), b"x" * 900) for n in range(900)], (b"ICMT", b"y" * 400_000))
    found = read(tmp_path, odd.wav(SOUND, many, *[odd.chunk(f"a{n:03}".encode(), b"") for n in range(900)]))
    assert len(json.dumps(found.to_dict())) < 500_000
    assert found.unread[-1].endswith("parts more")


def test_thousands_of_markers_are_written_in_little_time(tmp_path: Path) -> None:
    markers = tuple(Marker(n, n, f"take {n}") for n in range(20_000))
    chunks, lost = broadcast.write_markers(markers, 8000)
    assert lost == []
    assert len(chunks[0][1]) == 4 + 24 * 20_000
    path = tmp_path / "x.wav"
    with Writer(path, 1, embedded=metadata.Embedded(chunks=tuple(chunks))) as writer:
        writer.write(np.zeros((10, 1), np.float32))
    assert probe(path).frames == 10
    assert metadata.read(path).markers[19_999].label == "take 19999"
