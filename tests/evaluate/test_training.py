"""What the small model is trained with: sounds that may be used, how they are degraded, and how they are packed."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from batchsr.quality import measure
from scripts.training import degrade, pack, sounds

ROOT = Path(__file__).resolve().parent.parent.parent


def sound(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    """Noise below 3 kHz: every degradation of 8 kHz and more leaves it."""
    noise = np.random.default_rng(seed).standard_normal(int(seconds * 48_000))
    return (0.2 * measure.kept(noise, 3_000)).astype(np.float32)


@pytest.mark.parametrize(
    ("rate_hz", "codec", "error"),
    [(8_000, "none", 0.05), (8_000, "ulaw", 0.1), (8_000, "gsm", 0.9), (16_000, "mp3", 0.5), (24_000, "opus", 0.5)],
)
def test_a_degraded_sound_lies_where_the_original_does(rate_hz: int, codec: str, error: float) -> None:
    x = sound()
    how = degrade.Degradation(rate_hz, "cheby1", 8, 0.9, codec)
    y = degrade.apply(x, how, np.random.default_rng(0))
    assert y.shape == x.shape
    middle = slice(4_800, -4_800)  # codecs fade in
    assert np.linalg.norm((y - x)[middle]) < error * np.linalg.norm(x[middle])


def test_added_noise_has_the_level_that_was_asked_for() -> None:
    x = sound()
    plain = degrade.Degradation(16_000, "soxr", 8, 0.9, "none")
    noisy = degrade.Degradation(16_000, "soxr", 8, 0.9, "none", -20.0)
    difference = degrade.apply(x, noisy, np.random.default_rng(0)) - degrade.apply(x, plain, np.random.default_rng(0))
    assert 20 * np.log10(difference.std() / x.std()) == pytest.approx(-20, abs=0.5)


def test_hiss_is_the_recordings_own_and_stays_in_what_is_to_be_restored() -> None:
    x, rng = sound(), np.random.default_rng(0)
    how = degrade.Degradation(16_000, "soxr", 8, 0.9, "none", hiss_db=-30.0)
    recorded = degrade.recorded(x, how, rng)
    assert 20 * np.log10((recorded - x).std() / x.std()) == pytest.approx(-30, abs=0.5)
    given = degrade.apply(recorded, how, rng)
    below = measure.kept(recorded - given, 7_000)
    assert below[4_800:-4_800].std() < 0.05 * (recorded - x).std(), "the given band holds the same hiss"
    assert degrade.recorded(x, degrade.Degradation(16_000, "soxr", 8, 0.9, "none"), rng) is x


def spectrum_db(x: np.ndarray, low_hz: float, high_hz: float) -> float:
    power = np.abs(np.fft.rfft(x)) ** 2
    bins = slice(int(low_hz * len(x) / 48_000), int(high_hz * len(x) / 48_000))
    return float(10 * np.log10(power[bins].mean() + 1e-20))


def test_a_telephone_passes_from_300_to_3400_hertz_and_a_tape_fades_slowly() -> None:
    x = (0.1 * np.random.default_rng(0).standard_normal(96_000)).astype(np.float32)
    plain = degrade.Degradation(8_000, "cheby1", 8, 0.9, "none")
    telephone = dataclasses.replace(plain, filter="ellip", edge=0.85, lowest_hz=300.0)
    y = degrade.apply(x, telephone, np.random.default_rng(1))
    inside = spectrum_db(y, 600, 3_000)
    assert inside == pytest.approx(spectrum_db(x, 600, 3_000), abs=1)
    assert max(spectrum_db(y, 20, 100), spectrum_db(y, 3_800, 20_000)) < inside - 30
    tape = dataclasses.replace(plain, rate_hz=44_100, filter="butter", order=2, edge=0.25)
    y = degrade.apply(x, tape, np.random.default_rng(1))
    fall = [spectrum_db(x, f, f + 500) - spectrum_db(y, f, f + 500) for f in (1_000, 5_500, 8_000, 11_000)]
    assert fall[0] < 1 < fall[1] < 10 < fall[2] < fall[3] < 50


def test_every_way_of_losing_a_band_is_drawn_and_gives_sound_of_the_same_length() -> None:
    rng, x, drawn = np.random.default_rng(0), sound(0.5), []
    for _ in range(150):
        drawn.append(degrade.draw(rng))
        assert degrade.apply(degrade.recorded(x, drawn[-1], rng), drawn[-1], rng).shape == x.shape
    assert {how.codec for how in drawn} == set(degrade.CODECS)
    assert any(how.lowest_hz for how in drawn)
    assert any(how.hiss_db is not None for how in drawn)
    assert any(how.rate_hz == 44_100 and how.filter == "butter" for how in drawn)
    assert 0.4 < np.mean([(how.filter, how.edge, how.codec) == ("cheby1", 0.9, "none") for how in drawn]) < 0.75


def test_a_crop_is_a_function_of_seed_and_index() -> None:
    reels = {"speech": [(sound(4) * 32767).astype(np.int16)], "music": [(sound(4, 1) * 32767).astype(np.int16)]}
    one, again, other = (sounds.Crops(reels, 30_720, 2, seed) for seed in (0, 0, 1))
    assert np.array_equal(one[7].low, again[7].low)
    assert not np.array_equal(one[7].low, one[8].low)
    assert not np.array_equal(one[7].low, other[7].low)
    batch = one[7]
    assert batch.low.shape == batch.high.shape == (2, 30_720)
    assert np.abs(batch.low).max() <= 0.5
    assert (batch.scale > 0).all()


def test_batches_of_several_processes_come_in_order_and_are_the_same() -> None:
    reels = {"speech": [(sound(4) * 32767).astype(np.int16)]}
    crops = sounds.Crops(reels, 15_360, 2, 0)
    # In a process of its own: what this one has started must not be forked.
    program = (
        "import sys, numpy as np; from scripts.training import sounds; reel = np.load(sys.argv[1])\n"
        "crops = sounds.Crops({'speech': [reel]}, 15_360, 2, 0); batches = sounds.stream(crops, 5, 2)\n"
        "np.save(sys.argv[2], np.stack([next(batches).low for _ in range(7)]))\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/reel.npy", reels["speech"][0])
        command = [sys.executable, "-c", program, f"{folder}/reel.npy", f"{folder}/low.npy"]
        subprocess.run(command, check=True, cwd=ROOT, timeout=120)
        low = np.load(f"{folder}/low.npy")
    assert all(np.array_equal(low[i], crops[5 + i].low) for i in range(7))


def test_a_tilt_changes_what_lies_above_a_frequency_and_hardly_what_lies_below() -> None:
    x = (0.05 * np.random.default_rng(0).standard_normal(96_000)).astype(np.float32)
    changes = []
    for seed in range(20):
        y = sounds.tilted(x, np.random.default_rng(seed))
        assert abs(spectrum_db(y, 50, 300) - spectrum_db(x, 50, 300)) < 1.5
        changes.append(spectrum_db(y, 15_000, 20_000) - spectrum_db(x, 15_000, 20_000))
    assert min(changes) < -3 < 3 < max(changes)
    assert max(map(abs, changes)) <= sounds.MOST_TILT_DB


@pytest.mark.parametrize("faster", [1.0, 1.2])
def test_an_excerpt_played_faster_is_as_long_and_higher(faster: float) -> None:
    reel = (8_000 * np.sin(2 * np.pi * 1_000 * np.arange(200_000) / 48_000)).astype(np.int16)
    x = sounds.excerpt(reel, faster, np.random.default_rng(0))
    assert x.shape == (sounds.EXCERPT_SAMPLES,)
    assert np.abs(np.fft.rfft(x)).argmax() * 48_000 / len(x) == pytest.approx(1_000 * faster, abs=1)
    ended = sounds.excerpt(reel[:1_000], faster, np.random.default_rng(0))
    assert ended.shape == x.shape
    assert not ended[1_000:].any()


@pytest.mark.parametrize(
    "path",
    [
        "wesnoth-1.16-music/usr/share/games/wesnoth/1.16/data/core/music/frantic.ogg",
        "hedgewars-data/usr/share/games/hedgewars/Data/Music/hell.ogg",
        "hedgewars-data/usr/share/games/hedgewars/Data/Sounds/voices/Default_uk/Hello.ogg",
        "klettres-data/usr/share/klettres/de/alpha/y.ogg",
        "sonic-pi-samples/usr/share/sonic-pi/samples/loop_mika.flac",
    ],
)
def test_what_the_model_is_judged_by_is_never_trained_on(path: str) -> None:
    assert sounds.is_judge(Path(path))


@pytest.mark.parametrize(
    ("path", "used", "voice"),
    [
        ("d/tuxpaint-stamps-default/usr/share/tuxpaint/stamps/food/fruit/apple_desc_es.ogg", True, "es"),
        ("d/tuxpaint-stamps-default/usr/share/tuxpaint/stamps/food/fruit/apple_desc_be.ogg", False, "be"),
        ("d/tuxpaint-stamps-default/stamps/animals/dog.ogg", True, "d/tuxpaint-stamps-default/stamps/animals"),
        ("d/klettres-data/usr/share/klettres/it/alpha/a.ogg", False, "d/klettres-data/usr/share/klettres/it/alpha"),
        ("d/klettres-data/usr/share/klettres/en/alpha/a.ogg", True, "d/klettres-data/usr/share/klettres/en/alpha"),
    ],
)
def test_what_is_spoiled_or_held_out_is_not_used_and_a_voice_stays_together(path: str, used: bool, voice: str) -> None:
    assert (sounds.is_used(Path(path)), sounds.voice_of(Path(path))) == (used, voice)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("d/tuxpaint-stamps-default/stamps/dog_desc_fr.ogg", "speech"),
        ("d/tuxpaint-stamps-default/stamps/dog.ogg", "effects"),
        ("d/hedgewars-data/Data/Sounds/voices/Singer/Yes.ogg", "speech"),
        ("d/hedgewars-data/Data/Music/city.ogg", "music"),
        ("d/megaglest-data/factions/magic/music/magic.ogg", "music"),
        ("d/hydrogen-data/drumkits/GMRockKit/Kick.flac", "percussion"),
    ],
)
def test_the_kind_of_a_sound_is_told_by_its_path(path: str, kind: str) -> None:
    assert sounds.kind_of(Path(path)) == kind


def test_every_source_of_the_shared_clips_is_kept_out(shared: Path) -> None:
    lines = (shared / "audio/eval_manifest.csv").read_text().splitlines()[1:]
    packages = tuple(f"{package}/" for package in sounds.KINDS)
    words = [word.strip(' "') for line in lines for part in line.split(",") for word in part.split(";")]
    sources = [word for word in words if word.startswith(packages)]
    assert len(sources) > 40
    assert [source for source in sources if not sounds.is_judge(Path(source))] == []


@pytest.mark.parametrize("level", [0.3, 0.01, 0.0005])
@pytest.mark.parametrize("quantised", [False, True])
def test_the_bandwidth_of_noise_below_six_kilohertz_is_six_kilohertz(level: float, quantised: bool) -> None:
    noise = level * measure.kept(np.random.default_rng(0).standard_normal(96_000), 6_000)
    if quantised:
        noise = np.round(noise * 32_768) / 32_768
    assert sounds.bandwidth_hz(noise.astype(np.float32), 48_000) == pytest.approx(6_000, abs=800)


def test_a_quiet_recording_of_the_whole_band_has_it() -> None:
    noise = 0.001 * np.random.default_rng(0).standard_normal(96_000)
    assert sounds.bandwidth_hz(noise.astype(np.float32), 44_100) > 21_000


def test_a_part_of_an_ogg_file_has_its_sound_from_a_third_on_and_the_size_that_was_asked_for(tmp_path: Path) -> None:
    seconds = np.arange(60 * 44_100) / 44_100
    sweep = 0.5 * np.sin(2 * np.pi * (200 + 50 * seconds) * seconds)  # at t seconds: 200 + 100 t Hz
    with sf.SoundFile(tmp_path / "whole.ogg", "w", 44_100, 1) as file:
        for block in np.split(sweep, 60):  # libsndfile runs out of stack when Vorbis comes all at once
            file.write(block)
    data = (tmp_path / "whole.ogg").read_bytes()
    part = pack.part_of_ogg(data, len(data) // 4)
    (tmp_path / "part.ogg").write_bytes(part)
    assert len(data) // 4 < len(part) < len(data) // 4 + 15_000, "headers and the last page come on top"
    x, _ = sf.read(tmp_path / "part.ogg")
    assert 13 < len(x) / 44_100 < 25
    start = x[4_410 : 4_410 + 8_192]
    frequency_hz = np.abs(np.fft.rfft(start * np.hanning(8_192))).argmax() * 44_100 / 8_192
    assert 200 + 100 * 18 < frequency_hz < 200 + 100 * 25
    assert pack.part_of_ogg(data, 2 * len(data)) == data


def test_a_pack_holds_full_bands_once_within_its_megabytes_and_is_read_as_the_whole_is(tmp_path: Path) -> None:
    voices = tmp_path / "data/hedgewars-data/Sounds/voices"
    noise = 0.1 * np.random.default_rng(0).standard_normal((6, 2 * 44_100))
    for i, x in enumerate(noise):
        folder = voices / ("Long" if i < 5 else "Short")
        folder.mkdir(parents=True, exist_ok=True)
        sf.write(folder / f"{i}.wav", x, 44_100)
    sf.write(voices / "Long/again.wav", noise[0], 44_100)
    sf.write(voices / "Long/narrow.wav", measure.kept(noise[1], 8_000), 44_100)
    pack.main([str(tmp_path / "data"), str(tmp_path / "pack"), "--speech", "0.5"])
    packed = sorted(path.relative_to(tmp_path / "pack").as_posix() for path in (tmp_path / "pack").rglob("*.flac"))
    by_voice = [sum(name in path for path in packed) for name in ("/Long/", "/Short/")]
    assert 2 <= by_voice[0] <= 4, "a voice with much sound does not take what another has"
    assert by_voice[1] == 1
    assert not any("narrow" in path or "again" in path for path in packed)
    assert sum(path.stat().st_size for path in (tmp_path / "pack").rglob("*.flac")) < 0.75e6
    assert list(sounds.files_in(tmp_path / "pack")) == [tmp_path / "pack" / path for path in packed]
