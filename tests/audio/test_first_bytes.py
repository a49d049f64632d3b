"""What is no recording, or none that is read here, is told by its bytes and not by its name."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import soundfile

from batchsr.audio.files import probe
from batchsr.errors import InputFormat
from tests.audio import odd_files as odd

REST = bytes(range(256)) * 12
STRANGERS: dict[str, tuple[bytes, str]] = {
    "a page": (b"\xef\xbb\xbf\r\n  <!DOCTYPE html>\n<html lang='de'><body>Anmelden</body></html>", "web page"),
    "a text": (b"Dear archive,\nplease find enclosed the tapes.\n" * 20, "a text"),
    "a listing in XML": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"),
    "a ZIP": (b"PK\x03\x04" + REST, "ZIP"),
    "a picture": (b"\xff\xd8\xff\xe0" + REST, "picture"),
    "a PDF": (b"%PDF-1.7\n%\xe2\xe3" + REST, "PDF"),
    "notes": (b"MThd\0\0\0\6" + REST, "MIDI"),
    "what macOS leaves": (b"\0\5\x16\7\0\2\0\0Mac OS X" + REST, "macOS"),
    "a video": (b"RIFF\xff\xff\0\0AVI LIST" + REST, "AVI"),
    "a QCP": (b"RIFF\xff\xff\0\0QLCMfmt " + REST, "QCP"),
    "a Matroska": (b"\x1a\x45\xdf\xa3" + REST, "Matroska"),
    "a DSD": (b"DSD " + REST, "DSD"),
}


def test_a_riff_file_of_another_kind_is_not_promised_to_a_program_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "x.rmp"
    path.write_bytes(b"RIFF" + (4000).to_bytes(4, "little") + b"RMP3data" + bytes(4000))
    with pytest.raises(InputFormat, match="none that is read") as caught:
        probe(path)
    assert "ffmpeg" not in caught.value.remedy


@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".raw"])
@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_is_named_whatever_its_extension_says(tmp_path: Path, name: str, suffix: str) -> None:
    data, word = STRANGERS[name]
    with pytest.raises(InputFormat, match=word) as caught:
        probe(odd.write(tmp_path, "x" + suffix, data))
    assert "cut short" not in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("before", [REST[:3001], b"From: studio\nSubject: tape 7\n\n", b"\0" * 512, b"\xff" * 900])
@pytest.mark.parametrize("form", ["FLAC", "OGG", "WAV", "RF64", "AIFF", "CAF"])
def test_a_recording_behind_other_bytes_is_read(tmp_path: Path, form: str, before: bytes) -> None:
    whole = tmp_path / "whole"
    soundfile.write(whole, odd.sound(4000), 8000, format=form)
    path = odd.write(tmp_path, "x." + form.lower(), before + whole.read_bytes())
    info = probe(path)
    assert (info.frames, [remark.code for remark in info.remarks]) == (4000, ["input.bytes_left_out"])
    assert f"{len(before):,} bytes of something else" in info.remarks[0].message


def test_a_flac_inside_a_zip_is_not_taken_out_of_it(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.flac", odd.sound(4000), 8000)
    with zipfile.ZipFile(tmp_path / "x.wav", "w") as archive:
        archive.write(tmp_path / "in.flac")
    with pytest.raises(InputFormat, match="ZIP"):
        probe(tmp_path / "x.wav")


def test_noise_under_the_name_of_headerless_audio_is_told_with_the_command_for_it(tmp_path: Path) -> None:
    with pytest.raises(InputFormat, match="headerless") as caught:
        probe(odd.write(tmp_path, "x.vox", REST))
    assert "adpcm_ima_oki -ar 8000" in caught.value.remedy
