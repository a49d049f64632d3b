"""A WAV is a broadcast WAV of version 2: how loud it is, what was done, and what the source said, as others read it."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import struct
import subprocess
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from batchsr import restore_file
from batchsr.audio import broadcast, metadata
from batchsr.audio.containers.riff import chunk
from batchsr.audio.decoders import ffmpeg
from batchsr.audio.files import Embedded, Writer
from batchsr.audio.meters.loudness import LoudnessMeter
from batchsr.audio.meters.true_peak import TruePeakMeter
from batchsr.models.resample import Resample

SET = {
    "integrated_lufs": -23.0,
    "range_lu": 7.25,
    "max_true_peak_dbtp": -1.13,
    "max_momentary_lufs": -12.5,
    "max_short_term_lufs": -16.0,
}


def mediainfo(path: Path) -> dict[str, Any]:
    """General and Audio of a file, as MediaInfo reads them."""
    if shutil.which("mediainfo") is None:
        assert not os.environ.get("CI"), "mediainfo is missing"
        pytest.skip("mediainfo is not installed")
    said = subprocess.run(["mediainfo", "--Output=JSON", path], capture_output=True, text=True, check=True).stdout
    general, audio = json.loads(said)["media"]["track"]
    return {**general, **audio, "extra": {**general.get("extra", {}), **audio.get("extra", {})}}


def tone(seconds: float, *, level_db: float = -20.0, hz: float = 997.0, rate: int = 48_000) -> np.ndarray:
    return 10 ** (level_db / 20) * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)[:, None]


def measured(signal: np.ndarray, parts: int = 7) -> LoudnessMeter:
    meter = LoudnessMeter(signal.shape[1])
    for block in np.array_split(signal.astype(np.float32), parts):
        meter.add(block)
    return meter


@pytest.mark.parametrize(("levels_db", "range_lu"), [((-20, -30), 10), ((-20, -15), 5), ((-40, -20), 20)])
def test_the_loudness_range_is_that_of_ebu_tech_3342(levels_db: tuple[int, int], range_lu: int) -> None:
    """Its cases 1 to 3: two tones of 20 s each in stereo, within 1 LU."""
    signal = np.concatenate([np.repeat(tone(20, level_db=level, hz=1_000), 2, axis=1) for level in levels_db])
    meter = measured(signal)
    assert meter.range_lu == pytest.approx(range_lu, abs=1)


def test_short_term_and_momentary_are_those_of_ebu_tech_3341() -> None:
    """A stereo tone at -23 dBFS is -23 LUFS by every measure; one of 0.4 s in silence has that momentary maximum."""
    meter = measured(np.repeat(tone(10, level_db=-23, hz=1_000), 2, axis=1))
    assert meter.max_momentary_lufs == pytest.approx(-23, abs=0.1)
    assert meter.max_short_term_lufs == pytest.approx(-23, abs=0.1)
    assert meter.range_lu == pytest.approx(0, abs=0.11)
    burst = np.concatenate([np.zeros((9_600, 2)), np.repeat(tone(0.4, level_db=-23, hz=1_000), 2, axis=1)])
    burst = np.concatenate([burst, np.zeros((240_000, 2))])
    assert measured(burst).max_momentary_lufs == pytest.approx(-23, abs=0.2)
    assert measured(burst).max_short_term_lufs == pytest.approx(-23 + 10 * math.log10(0.4 / 3), abs=0.3)


@pytest.mark.parametrize("parts", [1, 3, 500])
def test_the_measures_do_not_depend_on_the_size_of_blocks(parts: int) -> None:
    rng = np.random.default_rng(2)
    signal = rng.standard_normal((5 * 48_000, 2)) * np.repeat(rng.uniform(0.01, 0.3, 50), 4_800)[:, None]
    whole, cut = measured(signal, 1), measured(signal, parts)
    for name in ("lufs", "range_lu", "max_momentary_lufs", "max_short_term_lufs"):
        assert getattr(cut, name) == pytest.approx(getattr(whole, name), abs=1e-6), name
    peaks = []
    for blocks in (np.array_split(signal, 1), np.array_split(signal, parts)):
        meter = TruePeakMeter(2)
        for block in blocks:
            meter.add(block.astype(np.float32))
        peaks.append(meter.peak)
    assert peaks[0] == pytest.approx(peaks[1], rel=1e-6)


@pytest.mark.parametrize(("hz", "phase"), [(12_000, 45), (8_000, 60), (6_000, 0), (16_000, 30), (19_000, 0)])
def test_the_true_peak_stands_between_the_samples(hz: int, phase: int) -> None:
    """EBU Tech 3341, cases 15 to 19: within +0.2 and -0.4 dB of the sine's own peak."""
    t = np.arange(9_600) / 48_000
    signal = 0.5 * np.sin(2 * np.pi * hz * t + math.radians(phase)) * np.hanning(9_600)
    meter = TruePeakMeter(1)
    meter.add(signal[:, None].astype(np.float32))
    assert -0.4 < 20 * math.log10(meter.peak / 0.5) < 0.2


def test_a_peak_at_the_very_end_is_heard_and_silence_has_none() -> None:
    meter = TruePeakMeter(1)
    assert meter.peak == 0
    meter.add(np.zeros((100, 1), np.float32))
    assert meter.peak == 0
    end = np.zeros((200, 1), np.float32)
    end[-2:] = 0.5
    meter.add(end)
    assert meter.peak > 0.55


def test_each_value_of_loudness_is_hundredths_and_what_has_none_is_unset() -> None:
    raw = broadcast.loudness_fields(SET)
    assert struct.unpack("<5h", raw) == (-2300, 725, -113, -1250, -1600)
    body = bytes(346) + struct.pack("<H", 2) + bytes(64) + raw + bytes(180)
    assert dict(broadcast.read_loudness(body)) == SET
    for odd in (None, 100.0, -100.0, 1e9, -1e9):
        assert broadcast.loudness_fields(SET | {"range_lu": odd})[2:4] == b"\xff\x7f"
    assert broadcast.loudness_fields({}) == b"\xff\x7f" * 5
    assert dict(broadcast.read_loudness(body[:412] + b"\xff\x7f" * 5 + bytes(180))) == {}
    assert dict(broadcast.read_loudness(bytes(602))) == {}, "version 0 has no loudness"


@pytest.mark.parametrize("rate", [48_000, 44_100])
def test_mediainfo_reads_the_loudness_that_the_sidecar_has(tmp_path: Path, rate: int) -> None:
    source = tmp_path / "a.wav"
    soundfile.write(source, np.concatenate([tone(2, rate=8_000), tone(2, level_db=-30, rate=8_000)]), 8_000)
    done = restore_file(source, tmp_path / "b.wav", model=Resample(), rate=rate)
    said = done.report["output"]["loudness"]
    assert said["integrated_lufs"] == done.report["output"]["loudness_lufs"]
    read = mediainfo(tmp_path / "b.wav")
    assert read["extra"]["bext_Version"] == "2"
    names = ("LoudnessValue", "LoudnessRange", "MaxTruePeakLevel", "MaxMomentaryLoudness", "MaxShortTermLoudness")
    for name, own in zip(names, broadcast.LOUDNESS, strict=True):
        assert float(read["extra"][name]) == pytest.approx(said[own], abs=0.011), name
    assert read["Encoded_Library_Settings"].startswith(f"A=PCM,F={rate},W=24,M=mono,T=batchsr ")
    assert float(read["Duration"]) == pytest.approx(4, abs=0.01)


def test_ffmpeg_measures_the_loudness_that_the_output_says_of_itself(tmp_path: Path) -> None:
    if (program := ffmpeg.program()) is None:
        pytest.skip("there is no ffmpeg")
    levels = ((-18, -30), (-24, -26))
    sides = [np.concatenate([tone(2, level_db=first), tone(2, level_db=then)]) for first, then in levels]
    soundfile.write(tmp_path / "a.wav", np.hstack(sides), 48_000, subtype="PCM_24")
    restore_file(tmp_path / "a.wav", tmp_path / "b.wav", model=Resample())
    body = metadata.read(tmp_path / "b.wav").bext
    assert body is not None
    own = broadcast.read_loudness(body)
    command = [program, "-nostats", "-i", tmp_path / "b.wav", "-af", "ebur128=peak=true", "-f", "null", "-"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL).stderr
    summary = said[said.rindex("Summary:") :]
    measures = (("integrated_lufs", "I:", 0.11), ("range_lu", "LRA:", 0.5), ("max_true_peak_dbtp", "Peak:", 0.11))
    for name, pattern, off in measures:  # of a range, Tech 3342 allows 1 LU; of 4 s there are few windows
        found = re.search(pattern + r"\s+(-?[\d.]+)", summary)
        assert found is not None
        assert float(found[1]) == pytest.approx(own[name], abs=off), name


@pytest.mark.parametrize("seconds", [0.2, 1.0])
def test_silence_and_short_sound_have_no_loudness_rather_than_a_false_one(tmp_path: Path, seconds: float) -> None:
    source = tmp_path / "a.wav"
    soundfile.write(source, np.zeros((round(8_000 * seconds), 2)), 8_000)
    done = restore_file(source, tmp_path / "b.wav", model=Resample())
    assert set(done.report["output"]["loudness"].values()) == {None}
    body = metadata.read(tmp_path / "b.wav").bext
    assert body is not None
    assert body[412:422] == b"\xff\x7f" * 5
    assert not any(name.startswith(("Loudness", "Max")) for name in mediainfo(tmp_path / "b.wav")["extra"])


def broadcast_wav(path: Path, *more: tuple[bytes, bytes]) -> Path:
    """A broadcast WAV of version 1 at 8 kHz with all that a programme can have."""
    soundfile.write(path, tone(1, rate=8_000), 8_000, subtype="PCM_16")
    body = b"Interview, reel 3".ljust(256, b"\0") + b"Archive".ljust(32, b"\0") + b"AR-0003".ljust(32, b"\0")
    body += b"1998-04-0212:30:00" + struct.pack("<QH", 8_000 * 60, 1) + bytes(range(64)) + bytes(190)
    body += b"A=ANALOGUE,M=mono,T=Studer A80; 38 cm/s\r\nA=PCM,F=8000,W=16,M=mono,T=RME\r\n"
    chunks = ((b"bext", body), (b"axml", b"<ebuCoreMain/>"), *more)
    raw = path.read_bytes() + b"".join(chunk(key, one) for key, one in chunks)
    path.write_bytes(raw[:4] + struct.pack("<I", len(raw) - 8) + raw[8:])
    return path


def test_what_a_broadcast_wav_said_stays_and_one_line_of_history_is_added(tmp_path: Path) -> None:
    done = restore_file(broadcast_wav(tmp_path / "a.wav"), tmp_path / "b.wav", model=Resample())
    out = metadata.read(tmp_path / "b.wav")
    assert out.bext is not None
    assert out.axml == b"<ebuCoreMain/>"
    fields = broadcast.bext_fields(out.bext)
    assert fields["description"] == "Interview, reel 3"
    assert (fields["originator"], fields["originator_reference"]) == ("Archive", "AR-0003")
    assert (fields["date"], fields["time"]) == ("1998-04-02", "12:30:00")
    assert (fields["version"], fields["time_reference"]) == (2, 48_000 * 60)
    history = str(fields["coding_history"]).splitlines()
    assert history[:2] == ["A=ANALOGUE,M=mono,T=Studer A80; 38 cm/s", "A=PCM,F=8000,W=16,M=mono,T=RME"]
    assert len(history) == 3
    assert "umid" not in fields, "a UMID names the source's material"
    assert any("UMID" in line for line in done.report["metadata"]["not_carried_over"])
    read = mediainfo(tmp_path / "b.wav")
    assert (read["Producer"], read["Description"]) == ("Archive", "Interview, reel 3")
    assert read["Encoded_Library_Settings"].count("A=") == 3
    assert read["Delay"].startswith("60"), "the time reference is a minute at either rate"


def test_the_timers_of_a_cart_are_brought_along_and_the_rest_of_it_stays(tmp_path: Path) -> None:
    cart = b"0101" + b"Evening news".ljust(64, b"\0") + bytes(684 - 68)
    cart += (
        b"INTs" + struct.pack("<I", 800) + b"EOD\0" + struct.pack("<I", 2**32 - 1) + bytes(4) + b"\1\0\0\0" + bytes(40)
    )
    cart += bytes(276) + b"https://archive.example".ljust(1024, b"\0") + b"tag text"
    done = restore_file(broadcast_wav(tmp_path / "a.wav", (b"cart", cart)), tmp_path / "b.wav", model=Resample())
    out = metadata.read(tmp_path / "b.wav").cart
    assert out is not None
    assert struct.unpack_from("<I", out, 688) == (4_800,)
    assert struct.unpack_from("<I", out, 696) == (2**32 - 1,), "as far as it can count"
    assert (out[:684], out[700:]) == (cart[:684], cart[700:])
    assert done.report["metadata"]["cart"] == {"title": "Evening news"}
    assert broadcast.rescale_cart(b"cut", 8_000) == b"cut"


def test_the_loudness_is_written_wherever_the_chunk_stands(tmp_path: Path) -> None:
    """With room for RF64 in front, and with iXML before it."""
    body = bytes(346) + struct.pack("<H", 2) + bytes(64) + b"\xff\x7f" * 5 + bytes(180)
    for frames in (None, 1_001):
        for chunks in (((b"bext", body),), ((b"iXML", b"<BWFXML/>"), (b"LIST", b"INFO"), (b"bext", body))):
            path = tmp_path / "x.wav"
            path.unlink(missing_ok=True)
            with Writer(path, 1, embedded=Embedded(chunks=chunks), frames=frames) as writer:
                writer.write(np.zeros((1_001, 1), np.float32))
                writer.amend(b"bext", broadcast.LOUDNESS_AT, broadcast.loudness_fields(SET))
                writer.amend(b"none", 0, b"x")
            found = metadata.read(path).bext
            assert found is not None
            assert dict(broadcast.read_loudness(found)) == SET
            assert soundfile.info(path).frames == 1_001


def test_the_same_source_still_gives_the_same_bytes(tmp_path: Path) -> None:
    source = broadcast_wav(tmp_path / "a.wav")
    made = [restore_file(source, tmp_path / f"{i}.wav", model=Resample()).output_sha256 for i in range(2)]
    assert made[0] == made[1]


def test_a_umid_is_a_basic_one_of_audio_and_of_what_it_is_made_of() -> None:
    one = broadcast.umid(1, "source", "settings")
    assert one[:16].hex() == "060a2b340101010501010820" + "13000000"
    assert uuid.UUID(bytes=one[16:32]).version == 5
    assert one[32:] == bytes(32)
    assert broadcast.umid(2, "source", "settings")[10:12] == b"\x09\x20"
    assert broadcast.umid(1, "source", "settings") == one != broadcast.umid(1, "source", "other")
