"""What a recording says about itself arrives at 48 kHz, or the report says what did not."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from batchsr.audio import metadata
from batchsr.audio.broadcast import Marker, rescale_ixml, rescaled
from batchsr.audio.containers.riff import chunk
from batchsr.audio.files import SUBTYPES, Embedded, Writer, probe
from batchsr.audio.metadata import Carried, Metadata
from tests.audio.conftest import Make


def carried_to(found: Metadata, path: Path, form: str, rate_hz: int, channels: int = 1) -> tuple[Carried, Metadata]:
    """Write an output that holds what it can of `found`, and read that back."""
    subtype = SUBTYPES[form][0]
    carried = metadata.carry_over(
        found,
        form=form,
        subtype=subtype,
        channels=channels,
        source_rate_hz=rate_hz,
        program="batchsr 1.2, FlashSR int4",
    )
    with Writer(path, channels, form, subtype, frames=100, embedded=carried.embedded) as writer:
        writer.write(np.zeros((100, channels), np.float32))
    assert probe(path).frames == 100
    return carried, metadata.read(path)


def with_chunks(make: Make, *chunks: tuple[bytes, bytes], **options: object) -> Path:
    """A WAV with chunks behind its audio."""
    path = make(**options)
    whole = path.read_bytes() + b"".join(chunk(key, body) for key, body in chunks)
    path.write_bytes(whole[:4] + struct.pack("<I", len(whole) - 8) + whole[8:])
    return path


@pytest.fixture
def tape(recordings: Path) -> Metadata:
    return metadata.read(recordings / "inputs" / "bwf" / "dir-intro-fn_8k_bext_info.wav")


def test_a_broadcast_wav_is_read_whole(tape: Metadata) -> None:
    assert dict(tape.texts) == {
        "title": "Dial-by-name intro",
        "artist": "Allison Smith",
        "comment": "Café — UTF-8 comment",
        "date": "2008-05-17",
        "copyright": "CC-BY-SA-3.0",
    }
    assert tape.markers == (Marker(1, 8000),)
    assert tape.unread == ()
    told = json.loads(json.dumps(tape.to_dict()))
    assert told["bext"]["time_reference"] == 123_456_789
    assert told["bext"]["description"] == "Asterisk prompt archive tape 12, side A"
    assert "archive" in told["ixml"]


def test_a_broadcast_wav_stays_one_at_48_khz(tape: Metadata, tmp_path: Path) -> None:
    carried, out = carried_to(tape, tmp_path / "out.wav", "wav", 8000)
    assert dict(out.texts) == dict(tape.texts)
    assert out.markers == (Marker(1, 48_000),)
    assert out.ixml == tape.ixml
    before, after = tape.to_dict()["bext"], out.to_dict()["bext"]
    assert after["time_reference"] == 6 * 123_456_789
    assert after["coding_history"].splitlines() == [
        before["coding_history"],
        "A=PCM,F=48000,W=16,M=mono,T=batchsr 1.2; FlashSR int4",
    ]
    for name in ("description", "originator", "originator_reference", "date", "time"):
        assert after[name] == before[name]
    assert carried.lost == ("bext UMID (it names the source, not a derivative)",)


@pytest.mark.parametrize("form", ["flac", "ogg", "aiff", "caf", "w64"])
def test_what_another_container_cannot_hold_is_listed(tape: Metadata, tmp_path: Path, form: str) -> None:
    carried, out = carried_to(tape, tmp_path / "out", form, 8000)
    lost = "\n".join(carried.lost)
    for name, value in tape.texts.items():
        assert (out.texts.get(name) == value) != (f"{name}: {value}" in carried.lost), name
    for words in ("time_reference: 123456789", "iXML", "1 markers", "side A"):
        assert words in lost
    if form in ("flac", "ogg", "caf"):
        assert len(out.texts) == 5


@pytest.mark.parametrize("form", ["flac", "ogg", "caf", "aiff", "wav"])
def test_texts_of_every_container_reach_a_wav(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"in.{form}"
    with soundfile.SoundFile(path, "w", 8000, 1, format=form.upper(), subtype=SUBTYPES[form][0]) as file:
        file.title, file.artist, file.comment = "Tape 3", "Émile", "slow"
        file.write(np.zeros(100))
    _, out = carried_to(metadata.read(path), tmp_path / "out.wav", "wav", 8000)
    assert {name: out.texts[name] for name in ("title", "artist", "comment")} == {
        "title": "Tape 3",
        "artist": "Émile",
        "comment": "slow",
    }


def id3(**frames: str) -> bytes:
    body = b"".join(
        key.encode() + struct.pack(">I", len(raw)) + b"\0\0" + raw
        for key, value in frames.items()
        for raw in [b"\x03" + value.encode()]
    )
    size = bytes(len(body) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x04\0\0" + size + body


def test_id3_is_read_from_mp3_and_from_wav(make: Make, tmp_path: Path) -> None:
    mp3 = make("in.mp3", subtype="MPEG_LAYER_III")
    mp3.write_bytes(id3(TIT2="Tape 3", TPE1="Émile") + mp3.read_bytes())
    wav = with_chunks(make, (b"id3 ", id3(TIT2="Tape 3", TPE1="Émile", TCOM="Nina")))
    for path in (mp3, wav):
        texts = metadata.read(path).texts
        assert (texts["title"], texts["artist"]) == ("Tape 3", "Émile")
    carried, out = carried_to(metadata.read(wav), tmp_path / "out.wav", "wav", 8000)
    assert out.texts["composer"] == "Nina"
    assert carried.lost == ()


def test_markers_keep_names_notes_and_regions(make: Make, tmp_path: Path) -> None:
    markers = (Marker(1, 100, "side A", "hum until here"), Marker(7, 2000, "Größe", "", 441))
    first, _ = carried_to(Metadata(markers=markers), tmp_path / "a.wav", "wav", 48_000)
    read = metadata.read(tmp_path / "a.wav").markers
    assert read == markers
    _, out = carried_to(Metadata(markers=read), tmp_path / "b.wav", "wav", 44_100)
    assert out.markers == (Marker(1, 109, "side A", "hum until here"), Marker(7, 2177, "Größe", "", 480))
    assert first.lost == ()


def test_markers_of_an_aiff_are_read(make: Make, tmp_path: Path) -> None:
    path = make("in.aiff")
    body = struct.pack(">HHIB", 2, 1, 80, 6) + b"side A\0" + struct.pack(">HIB", 2, 160, 3) + b"end"
    path.write_bytes(path.read_bytes() + b"MARK" + struct.pack(">I", len(body)) + body)
    found = metadata.read(path)
    assert found.markers == (Marker(1, 80, "side A"), Marker(2, 160, "end"))
    assert carried_to(found, tmp_path / "out.wav", "wav", 8000)[1].markers[1] == Marker(2, 960, "end")


def test_markers_beyond_32_bits_are_listed() -> None:
    carried = metadata.carry_over(
        Metadata(markers=(Marker(1, 2**31), Marker(2, 5))),
        form="wav",
        subtype="PCM_24",
        channels=1,
        source_rate_hz=8000,
        program="x",
    )
    assert carried.lost == ("1 markers beyond 24 hours",)
    assert dict(carried.embedded.chunks)[b"cue "][:4] == struct.pack("<I", 1)


def test_numbers_about_samples_in_ixml_are_brought_along() -> None:
    document = (
        b"<BWFXML><TAPE>12</TAPE><SPEED><FILE_SAMPLE_RATE>8000</FILE_SAMPLE_RATE><AUDIO_BIT_DEPTH>16</AUDIO_BIT_DEPTH>"
        b"<TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI>0</TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI>"
        b"<TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO>4000000000</TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO>"
        b"<TIMESTAMP_SAMPLE_RATE>8000</TIMESTAMP_SAMPLE_RATE></SPEED></BWFXML>"
    )
    out = rescale_ixml(document, 8000, 24)
    assert b"<TAPE>12</TAPE>" in out
    assert b"<FILE_SAMPLE_RATE>48000<" in out
    assert b"<AUDIO_BIT_DEPTH>24<" in out
    since = 6 * 4_000_000_000
    assert b"_HI>%d<" % (since >> 32) in out
    assert b"_LO>%d<" % (since & 0xFFFFFFFF) in out


def test_what_nobody_understands_is_listed(make: Make, tmp_path: Path) -> None:
    info = b"INFO" + b"ICMT" + struct.pack("<I", 4) + b"hi\0\0" + b"IXYZ" + struct.pack("<I", 4) + b"odd\0"
    found = metadata.read(with_chunks(make, (b"smpl", bytes(36)), (b"LIST", info), (b"levx", b"<x/>")))
    assert found.unread == ("chunk smpl", "INFO IXYZ: odd", "chunk levx")
    assert carried_to(found, tmp_path / "out.wav", "wav", 8000)[0].lost == found.unread


def test_parts_of_flac_and_caf_that_are_left_behind_are_listed(make: Make) -> None:
    flac = make("in.flac")
    whole = flac.read_bytes()
    flac.write_bytes(whole[:42] + b"\x02\0\0\x04riff" + whole[42:])
    assert "chunk APPLICATION" in metadata.read(flac).unread
    caf = make("in.caf")
    caf.write_bytes(caf.read_bytes() + b"mark" + struct.pack(">q", 8) + bytes(8))
    assert metadata.read(caf).unread == ("chunk mark",)
    w64 = make("in.w64")
    w64.write_bytes(w64.read_bytes() + w64_chunk(b"acid", bytes(24)) + w64_chunk(b"bext", b"Reel 17".ljust(602, b"\0")))
    found = metadata.read(w64)
    assert found.unread == ("chunk acid",)
    assert found.to_dict()["bext"]["description"] == "Reel 17"


def w64_chunk(key: bytes, body: bytes) -> bytes:
    tail = bytes.fromhex("f3acd3118cd100c04f8edb8a")
    return key + tail + struct.pack("<Q", 24 + len(body)) + body + bytes(-len(body) % 8)


def test_loudness_of_the_source_is_not_claimed_for_the_output(make: Make, tmp_path: Path) -> None:
    bext = bytearray(602)
    bext[346] = 2
    bext[412:422] = struct.pack("<5h", -2300, 100, -100, -2000, -2100)
    carried, out = carried_to(metadata.read(with_chunks(make, (b"bext", bytes(bext)))), tmp_path / "o.wav", "wav", 8000)
    assert carried.lost == ("bext loudness (it is the source's)",)
    assert out.bext is not None
    assert out.bext[412:422] == struct.pack("<H", 0x7FFF) * 5


@pytest.mark.parametrize(("mask", "channels", "kept"), [(0x60F, 6, 0x60F), (0x60F, 1, None)])
def test_loudspeakers_are_kept_when_their_number_is(
    make: Make, tmp_path: Path, mask: int, channels: int, kept: int | None
) -> None:
    path = tmp_path / "in.wav"
    with Writer(path, 6, embedded=Embedded(channel_mask=mask)) as writer:
        writer.write(np.zeros((10, 6), np.float32))
    found = metadata.read(path)
    assert found.channel_mask == mask
    assert carried_to(found, tmp_path / "out.wav", "wav", 48_000, channels)[0].embedded.channel_mask == kept


def test_western_text_that_is_not_utf_8_is_read(make: Make) -> None:
    info = b"INFO" + b"IART" + struct.pack("<I", 6) + "Émile\0".encode("cp1252")
    assert metadata.read(with_chunks(make, (b"LIST", info))).texts["artist"] == "Émile"


def test_broken_metadata_never_raises(make: Make, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    whole = with_chunks(
        make, (b"cue ", bytes(30)), (b"LIST", b"INFOICMT\xff\xff\xff\xff"), (b"bext", b"short")
    ).read_bytes()
    flac = make("in.flac").read_bytes()
    mp3 = id3(TIT2="Tape", COMM="xyz") + make("in.mp3", subtype="MPEG_LAYER_III").read_bytes()
    ogg = make("in.ogg", subtype="VORBIS").read_bytes()
    path = tmp_path / "broken"
    for good, region in ((whole, len(whole)), (flac, 200), (mp3, 60), (ogg, 300)):
        for _ in range(30):
            broken = bytearray(good)
            for at in rng.integers(12, region, 6):
                broken[at] = rng.integers(256)
            path.write_bytes(broken)
            found = metadata.read(path)
            json.dumps(found.to_dict())
            assert (
                metadata.carry_over(
                    found, form="wav", subtype="PCM_24", channels=1, source_rate_hz=8000, program="x"
                ).embedded.tags
                == {}
            )


def test_a_text_too_long_for_the_target_is_listed(tmp_path: Path) -> None:
    carried, out = carried_to(Metadata(texts={"title": "x" * 5000, "artist": "y"}), tmp_path / "o.flac", "flac", 8000)
    assert carried.lost == ("title: " + "x" * 5000,)
    assert dict(out.texts) == {"artist": "y"}


def test_positions_are_rounded_to_the_nearest_sample() -> None:
    assert [rescaled(n, 44_100) for n in (0, 1, 2, 441)] == [0, 1, 2, 480]
    assert rescaled(2**40, 8000) == 6 * 2**40
