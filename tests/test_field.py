"""What archives, recorders and converters really write ends as it should, through one `enqueue` and one `work`."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from program import FAST_MODEL, Program

from batchsr.audio import metadata
from batchsr.audio.files import Source, probe
from tests.audio import odd_files as odd

# Lengths at 48 kHz that are a matter of taste: samples before and behind that an encoder put there, or a rounding.
TASTE: dict[str, int] = {
    "chain_of_two.opus": 960,
    "joined_late.opus": 1440,
    "two_rates_16bit.voc": 4,
    "riff_in_data.wav": 132,
    "gsm_with_fact_zero.wav": 1920,
}
MPEG_TASTE = 7200  # 0.15 s: delay and padding of encoders that say nothing of it
DECODER_DELAY = 1105
# Rows whose length the manifest gives in words: (samples at the source's rate, its rate, how much less it may be).
IN_WORDS: dict[str, tuple[int, int, int]] = {
    "two_joined.mp3": (40_000, 16_000, 2_500),
    "xing_counts_half.mp3": (32_000, 16_000, 2_400),
    "xing_counts_a_third_stereo.mp3": (66_150, 44_100, 6_600),
    "layer2_variable_fast_first.mp2": (77 * 1152, 44_100, DECODER_DELAY),
    "layer2_variable_slow_first.mp2": (84 * 1152 // 2, 24_000, 48_000),
    "layer2_constant_44100.mp2": (66_150, 44_100, DECODER_DELAY),
    "layer2_constant_48000.mp2": (72_000, 48_000, DECODER_DELAY),
    "rate_changes_44100_48000.mp3": (96_000, 48_000, 9_600),
    "two_rates_16bit.voc": (22_050, 22_050, 2),
    "fibonacci.8svx": (8_000, 8_000, 100),
}
MUST_FAIL = {"g726.wav", "shorten.sph", "m4a_inside.wav", "page_inside.mp3"}
MAY_FAIL = {
    "float_as_integers.wav",
    "double_as_integers.wav",
    "flac_32bit.flac",
    "page_lost.ogg",
    "two_streams_side_by_side.ogg",
}
# What must not pass without a word, if it is done.
SAID = {
    "length_halved.wav": "input.longer_than_header",
    "length_halved.au": "input.longer_than_header",
    "length_a_quarter.aiff": "input.longer_than_header",
    "two_data_chunks.wav": "input.several_parts",
    "three_riffs_joined.wav": "input.several_parts",
    "two_rates_16bit.voc": "input.several_parts",
    "md5_wrong.flac": "md5",
    "page_lost.ogg": "input.",
    "one_bit_wrong.flac": "input.",
    "float_as_integers.wav": "input.",
    "double_as_integers.wav": "input.",
}
QUIET = {
    "good.wav",
    "chunks_behind.wav",
    "float_in_range.wav",
    "md5_unset.flac",
    "rate_37800.wav",
    "twenty_of_24_bits.wav",
    "zeros_behind_riff.wav",
    "chunks_behind.caf",
    "chunk_behind_audio.w64",
    "sound_offset_24bit.aiff",
    "length_unknown.caf",
    "length_unknown_annotated.au",
    "bw64.wav",
    "rf64_bext_behind.wav",
    "ape_and_id3v1_behind.mp3",
    "picture_of_700_kB_before.mp3",
    "id3v1_behind.ogg",
    "seektable_of_placeholders.flac",
}
WORDS_TO_AVOID = {
    "g726.wav": "cut short",
    "m4a_inside.wav": "cut short",
    "page_inside.mp3": "cut short",
    "shorten.sph": "cut short",
}
NAMED = {"g726.wav": "G.726", "shorten.sph": "shorten", "m4a_inside.wav": "MPEG-4", "page_inside.mp3": "web page"}
# What output or sidecar must hold.
TEXTS = {
    "rf64_bext_behind.wav": "Reel 17, side A",
    "odd_data_without_pad_24bit.wav": "Well 3",
    "title_in_shift_jis_with_cset.wav": "昭和の録音",
    "title_in_cp1252.wav": "Gespräch über Öl, 2 €",
    "title_in_utf16_without_mark.wav": "Harbour, tape 8",
    "comment_padded_with_nul.wav": "Side B, noisy",
    "history_of_60_kB.wav": "Studer A80, serial 4711",
    "label_in_cp1252_region.wav": "Gespräch über Öl, 2 €",
}
MARKERS = {
    "cue_position_zero.wav": [400, 1600, 3200],
    "cue_offset_zero.wav": [400, 3200],
    "label_in_cp1252_region.wav": [1600],
}


@pytest.fixture(scope="module")
def rows(shared: Path) -> dict[str, dict[str, str]]:
    with (shared / "field" / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return {row["file"]: row for row in csv.DictReader(file) if row["file"]}


@pytest.fixture(scope="module")
def jobs(
    shared: Path, rows: dict[str, dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """Every file of the field, enqueued at once and worked at once."""
    folder = tmp_path_factory.mktemp("field")
    for name in rows:
        shutil.copy(shared / "field" / name, folder / name)
    program = Program(folder)
    program.run("enqueue", "-r", folder, "--out", folder / "out", code=None)
    program.run("work", "--variant", "fast", code=3, environment=FAST_MODEL)
    return {Path(job["source"]).name: job for job in program.jobs()}


def names() -> list[str]:
    manifest = Path(__file__).resolve().parent.parent.parent / "shared" / "field" / "manifest.csv"
    if not manifest.is_file():
        return []
    with manifest.open(newline="", encoding="utf-8") as file:
        return [row["file"] for row in csv.DictReader(file) if row["file"]]


def sidecar(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(job["output"] + ".json").read_text(encoding="utf-8"))
    return found


def test_every_file_of_the_field_has_a_row(jobs: dict[str, dict[str, Any]], rows: dict[str, dict[str, str]]) -> None:
    assert set(jobs) == set(rows)
    assert {job["state"] for job in jobs.values()} <= {"done", "failed"}


@pytest.mark.parametrize("name", names())
def test_a_file_of_the_field_ends_as_its_row_says(
    name: str, jobs: dict[str, dict[str, Any]], rows: dict[str, dict[str, str]]
) -> None:
    job, expected = jobs[name], rows[name]["expected"]
    if job["state"] == "failed":
        assert name in MUST_FAIL | MAY_FAIL, job["error"]
        assert "fail" in expected
        assert job["error_code"].startswith("input.")
        assert name in job["error"]
        assert "(" in job["error"]  # a remedy
        assert len(job["error"]) < 2000
        assert WORDS_TO_AVOID.get(name, "internal") not in job["error"]
        assert NAMED.get(name, "") in job["error"]
        return
    assert name not in MUST_FAIL
    output = soundfile.info(job["output"])
    remarks = sidecar(job)["source"]["remarks"]
    codes = " ".join(remark["code"] for remark in remarks)
    if (given := re.search(r"(\d+) at 48000 Hz\)", expected)) is not None:
        slack = MPEG_TASTE if name.endswith((".mp3", "mp3_in_wav.wav")) else TASTE.get(name, 1)
        assert abs(output.frames - int(given[1])) <= slack
    elif name in IN_WORDS:
        samples, rate_hz, less = IN_WORDS[name]
        wanted = samples * 48_000 / rate_hz
        assert wanted - less * 48_000 / rate_hz - 2 <= output.frames <= wanted + MPEG_TASTE
    assert SAID.get(name, "") in codes
    assert name not in QUIET or remarks == []


@pytest.mark.parametrize("name", TEXTS)
def test_texts_of_the_field_are_carried_over(name: str, jobs: dict[str, dict[str, Any]]) -> None:
    told = json.dumps(sidecar(jobs[name])["metadata"], ensure_ascii=False)
    assert TEXTS[name] in told
    assert "\\u0000" not in told
    carried = metadata.read(Path(jobs[name]["output"]))
    assert TEXTS[name] in json.dumps(carried.to_dict(), ensure_ascii=False)


@pytest.mark.parametrize("name", MARKERS)
def test_markers_of_the_field_stand_at_the_same_moments(name: str, jobs: dict[str, dict[str, Any]]) -> None:
    out = metadata.read(Path(jobs[name]["output"])).markers
    assert [marker.sample for marker in out] == [6 * sample for sample in MARKERS[name]]
    if "label" in name:
        assert (out[0].label, out[0].length_samples) == (TEXTS[name], 4800)


def test_tracks_of_a_field_recorder_keep_their_names(jobs: dict[str, dict[str, Any]], shared: Path) -> None:
    job = jobs["sixteen_tracks.wav"]
    before = metadata.read(shared / "field" / "sixteen_tracks.wav").ixml
    after = metadata.read(Path(job["output"])).ixml
    assert before is not None
    assert after is not None
    assert re.findall(rb"<NAME>.*?</NAME>", before) == re.findall(rb"<NAME>.*?</NAME>", after) != []
    assert soundfile.info(job["output"]).channels == 16


@pytest.mark.parametrize("name", names())
def test_nothing_but_the_sound_of_a_file_is_heard(name: str, shared: Path) -> None:
    """Chunks, tags, headers and compressed bytes read as samples are white noise at full scale."""
    if name in MUST_FAIL | MAY_FAIL:
        pytest.skip("it need not be read")
    with Source.open(shared / "field" / name) as source:
        samples = np.concatenate(list(source.blocks()))[:, 0].astype(np.float64)
    assert len(samples) == probe(shared / "field" / name).frames
    if len(samples) < 400 or name in ("clipped_8bit.wav",):
        return
    # The first and last stretch, where what is not sound would stand, against the middle.
    power = np.array([np.square(np.diff(part)).mean() for part in np.array_split(samples, 20)])
    middle = np.median(power)
    assert power[0] < 300 * middle + 1e-6
    assert power[-1] < 300 * middle + 1e-6


def test_a_dry_run_already_tells_what_the_headers_show_and_counts_it(shared: Path, tmp_path: Path) -> None:
    program = Program(tmp_path)
    chosen = [*sorted(MUST_FAIL), "good.wav"]
    told = program.run("enqueue", "--dry-run", *[shared / "field" / name for name in chosen], code=None)
    for name in MUST_FAIL:
        [line] = [line for line in told.stdout.splitlines() if name in line]
        assert "input.format" in line
        assert NAMED[name] in line
    [line] = [line for line in told.stdout.splitlines() if "good.wav" in line]
    assert "input." not in line
    assert f"{len(MUST_FAIL)} will fail" in told.stderr


def situation(folder: Path, files: dict[str, bytes], *options: str, code: int = 0) -> tuple[list[dict[str, Any]], str]:
    """Files that are enqueued and worked with some options: their jobs in order, and what `work` said on its way."""
    program = Program(folder)
    for name, data in files.items():
        odd.write(folder, name, data)
    program.run("enqueue", *[folder / name for name in files], *options, code=None)
    told = program.run("work", "--variant", "fast", code=code, environment=FAST_MODEL)
    return program.jobs(), told.stdout + told.stderr


def test_an_old_macs_rate_of_22254_hz_and_a_half_keeps_its_length_for_20_s(tmp_path: Path) -> None:
    frames = 445_091
    samples = np.random.default_rng(0).integers(-100, 100, frames).astype(np.int8)
    [job], _ = situation(
        tmp_path, {"mac.aif": odd.aiff(samples.tobytes(), frames=frames, bits=8, rate=22_254.5454545454)}
    )
    assert abs(soundfile.info(job["output"]).frames - frames * 48_000 / 22_254.5454545454) <= 2


def test_an_inverted_side_is_said_where_the_mean_is_asked_for(tmp_path: Path) -> None:
    left = odd.sound(8000)
    data = odd.wav(np.concatenate([left, -left], axis=1))
    [job], told = situation(tmp_path, {"stereo.wav": data}, "--channels", "mono")
    assert job["state"] == "done"
    assert "input.channels_cancel" in told
    assert "cancel each other" in json.dumps(sidecar(job)["source"]["remarks"])


def test_whole_numbers_in_floats_fail_with_their_scale_and_are_restored_with_it(tmp_path: Path) -> None:
    samples = odd.sound(8000).astype("<f4")
    data = odd.riff(odd.chunk(b"fmt ", odd.fmt(bits=32, tag=3)), odd.chunk(b"data", samples.tobytes()))
    [job], _ = situation(tmp_path, {"a.wav": data}, code=3)
    assert (job["state"], job["error_code"]) == ("failed", "input.levels")
    assert "--input-scale 32768" in job["error"]
    (tmp_path / "again").mkdir()
    [job], told = situation(tmp_path / "again", {"a.wav": data}, "--input-scale", "32768", "--subtype", "FLOAT")
    assert job["state"] == "done"
    assert "input.scaled" in told
    assert sidecar(job)["settings"]["input_scale"] == 32_768.0
    assert 0.05 < np.abs(soundfile.read(job["output"])[0]).max() < 1.5


def test_a_cut_file_fails_with_what_is_missing_and_is_restored_where_that_is_accepted(tmp_path: Path) -> None:
    data = odd.wav(odd.sound(8000))[:-6000]
    [job], _ = situation(tmp_path, {"a.wav": data}, code=3)
    assert job["error_code"] == "input.truncated"
    assert "16,000 bytes of audio, 10,000 are there" in job["error"]
    assert "--accept-truncated" in job["error"]
    (tmp_path / "again").mkdir()
    [job], told = situation(tmp_path / "again", {"a.wav": data}, "--accept-truncated")
    assert job["state"] == "done"
    assert soundfile.info(job["output"]).frames == 5000 * 6
    assert "input.cut_short" in told
    assert sidecar(job)["settings"]["accept_truncated"] is True


def test_audio_behind_the_claimed_end_is_said_on_the_files_line(tmp_path: Path) -> None:
    sound = odd.sound(8000)
    [job], told = situation(tmp_path, {"a.wav": odd.wav(sound, data_claims=4000, claimed=4036)})
    assert soundfile.info(job["output"]).frames == 48_000
    assert "the header says 4,000 bytes of audio, 16,000 are there" in told


def test_a_dead_side_stays_dead_and_the_other_sounds(tmp_path: Path) -> None:
    left = odd.sound(4000)
    files = {
        "right.wav": odd.wav(np.concatenate([left, 0 * left], axis=1)),
        "left.wav": odd.wav(np.concatenate([0 * left, left], axis=1)),
    }
    jobs, _ = situation(tmp_path, files)
    for job, dead in zip(sorted(jobs, key=lambda job: job["id"]), (1, 0), strict=True):
        out = soundfile.read(job["output"])[0]
        assert not np.abs(out[:, dead]).max() > 1e-6
        assert np.abs(out[:, 1 - dead]).max() > 0.01
        assert sidecar(job)["source"]["silent_channels"] == [dead]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not on this machine")
def test_the_command_that_is_offered_for_dialogic_adpcm_makes_one_second_of_4000_bytes(tmp_path: Path) -> None:
    [job], _ = situation(tmp_path, {"a.vox": np.random.default_rng(1).bytes(4000)}, code=3)
    command = re.search(r"(ffmpeg .* OUT\.wav)", job["error"])
    assert command is not None
    subprocess.run(shlex.split(command[1]), cwd=tmp_path, check=True, capture_output=True)
    made = soundfile.info(tmp_path / "OUT.wav")
    assert (made.frames, made.samplerate, made.channels) == (8000, 8000, 1)


def test_a_wav_that_somebody_still_writes_without_a_length_is_not_taken(tmp_path: Path) -> None:
    hot = tmp_path / "hot"
    hot.mkdir()
    odd.write(hot, "good.wav", odd.wav(odd.sound()))
    growing = odd.write(hot, "growing.wav", odd.wav(odd.sound(), data_claims=0xFFFFFFFF, claimed=0xFFFFFFFF))
    script = "import sys, time\nwhile True:\n    open(sys.argv[1], 'ab').write(bytes(800))\n    time.sleep(0.1)\n"
    writer = subprocess.Popen([sys.executable, "-c", script, str(growing)])
    try:
        program = Program(tmp_path)
        program.run("watch", hot, "--once", "--settle", "0.6", code=None)
    finally:
        writer.kill()
        writer.wait()
    assert [Path(job["source"]).name for job in program.jobs()] == ["good.wav"]
