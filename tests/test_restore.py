"""One file, start to end, with a model that takes a microsecond: the bytes never depend on how it got there."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from rig import serving

from batchsr import storage
from batchsr.audio import broadcast, files, metadata
from batchsr.audio.decoders import ffmpeg
from batchsr.errors import (
    ConfigError,
    InputChanged,
    InputNotFinite,
    NonFiniteOutput,
    OutputExists,
    OutputIsSource,
    ResourceError,
)
from batchsr.models.identity import About
from batchsr.restoration import sidecar as sidecars
from batchsr.restoration.restore import discard_scratch, restore
from batchsr.restoration.task import Restored, Task
from batchsr.settings.profile import Settings
from batchsr.temporary import Temporary

FRAME = 4_800


@dataclasses.dataclass(frozen=True)
class FakeIdentity:
    weights_sha256: str = "00"
    dtype: str = "float32"
    device: str = "cpu"


class FakeModel:
    """Echoes the window, plus a hiss that depends on seed and window index, as the real one does."""

    frame_samples = FRAME
    identity = FakeIdentity()
    about = About(name="fake", says="", label="Fake", synthesises=True)

    def __init__(self, batch_windows: int = 1, *, hiss: float = 0.01, broken: bool = False) -> None:
        self.batch_windows = batch_windows
        self.hiss = hiss
        self.broken = broken
        self.computed: list[list[int]] = []

    def windows(self, timestep: int, seed: int):  # type: ignore[no-untyped-def]
        def compute(x: NDArray[np.float32], indices: Sequence[int]) -> NDArray[np.float32]:
            self.computed.append(list(indices))
            noise = [
                np.random.default_rng([seed, timestep, i]).standard_normal(FRAME, dtype=np.float32) for i in indices
            ]
            y = x + np.float32(self.hiss) * np.stack(noise)
            return np.full_like(y, np.nan) if self.broken else y

        return compute

    def shrink(self) -> bool:
        return False


class Echo(FakeModel):
    """Gives what it is given, in windows of five seconds."""

    frame_samples = 245_760

    def windows(self, timestep: int, seed: int):  # type: ignore[no-untyped-def]
        return lambda x, indices: x


class Stop(Exception):
    pass


def sound(path: Path, seconds: float = 1.0, *, rate: int = 8_000, channels: int = 1, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    x = rng.uniform(-0.4, 0.4, (round(rate * seconds), channels))
    soundfile.write(path, x, rate, subtype="PCM_16")
    return path


def task_for(source: Path, output: Path, **changes: object) -> Task:
    values = {
        "source": source,
        "output": output,
        "scratch": output.with_suffix(".scratch"),
        "settings": Settings(overlap=0.02),
        "tag": "1-1",
    }
    return Task(**{**values, **changes})  # type: ignore[arg-type]


def run(task: Task, model: FakeModel, *, stop_at: int | None = None) -> Restored:
    def on_windows(done: int, total: int) -> None:
        if stop_at is not None and done >= stop_at:
            raise Stop

    with serving(model) as batcher:
        return restore(task, batcher, on_windows=on_windows, before_publish=lambda _: None)


def test_the_output_is_the_source_at_48_khz(tmp_path: Path) -> None:
    source = sound(tmp_path / "a.wav", 1.3, channels=2)
    done = run(task_for(source, tmp_path / "b.wav"), FakeModel(hiss=0))
    info = soundfile.info(tmp_path / "b.wav")
    assert (info.samplerate, info.channels, info.frames, info.subtype) == (48_000, 2, 62_400, "PCM_24")
    assert done.output_sha256 == storage.sha256(tmp_path / "b.wav")
    assert done.source_sha256 == storage.sha256(source)
    assert (done.sample_rate, done.channels, done.frames, done.audio_s) == (8_000, 2, 10_400, 1.3)


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_restoration_stopped_at_any_window_ends_with_the_same_bytes(
    tmp_path: Path, batch: int, channels: int
) -> None:
    source = sound(tmp_path / "a.wav", 1.0, channels=channels)
    whole = run(task_for(source, tmp_path / "whole.wav"), FakeModel(batch))
    for stop_at in range(1, whole.windows_total + 1):
        output = tmp_path / f"stopped{stop_at}.wav"
        first, second = FakeModel(batch), FakeModel(batch)
        with pytest.raises(Stop):
            run(task_for(source, output), first, stop_at=stop_at)
        assert not output.exists()
        resumed = run(task_for(source, output, tag="1-2"), second)
        assert resumed.output_sha256 == whole.output_sha256
        assert resumed.windows_resumed >= stop_at
        redone = [window for rows in second.computed for window in rows]
        assert len(set(redone)) == whole.windows_total - resumed.windows_resumed


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of short recordings: kinds that libsndfile reads, and, where ffmpeg is, one that only ffmpeg reads."""
    folder = tmp_path_factory.mktemp("encoded")
    source = sound(folder / "a.wav", 0.6, rate=16_000, channels=2)
    x, rate = soundfile.read(source)
    soundfile.write(folder / "a.flac", x, rate)
    soundfile.write(folder / "a.mp3", x, rate)
    if (program := ffmpeg.program()) is not None:
        command = [program, "-v", "error", "-i", str(source), "-c:a", "aac", str(folder / "a.m4a")]
        subprocess.run(command, check=True, capture_output=True)
    return {path.suffix[1:]: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("names", ["m4a", "wav m4a", "flac mp3"])
def test_what_ffmpeg_reads_and_what_was_joined_resume_to_the_same_bytes(
    tmp_path: Path, encoded: dict[str, bytes], names: str
) -> None:
    if "m4a" in names and "m4a" not in encoded:
        pytest.skip("there is no ffmpeg")
    parts = names.split()
    source = tmp_path / f"a.{parts[0]}"
    source.write_bytes(b"".join(encoded[name] for name in parts))
    whole = run(task_for(source, tmp_path / "whole.wav"), FakeModel(2))
    assert whole.audio_s == pytest.approx(0.6 * len(parts), abs=0.12)
    assert ("ffmpeg" in files.probe(source).decoder) == ("m4a" in parts)
    stop_at, output = whole.windows_total // 2, tmp_path / "stopped.wav"
    with pytest.raises(Stop):
        run(task_for(source, output), FakeModel(2), stop_at=stop_at)
    assert not output.exists()
    ffmpeg._memory.clear()  # another process takes it up
    resumed = run(task_for(source, output, tag="1-2"), FakeModel(2))
    assert resumed.output_sha256 == whole.output_sha256 == storage.sha256(output)
    assert stop_at <= resumed.windows_resumed < whole.windows_total


def test_a_stop_in_every_batch_still_ends(tmp_path: Path) -> None:
    source = sound(tmp_path / "a.wav", 1.0)
    whole = run(task_for(source, tmp_path / "whole.wav"), FakeModel())
    task = task_for(source, tmp_path / "b.wav")
    for stop_at in range(1, whole.windows_total):
        with pytest.raises(Stop):
            run(task, FakeModel(), stop_at=stop_at)
    assert run(task, FakeModel()).output_sha256 == whole.output_sha256


def test_another_seed_or_timestep_reaches_every_window(tmp_path: Path) -> None:
    source = sound(tmp_path / "a.wav", 1.0)
    base = Settings(overlap=0.02)
    outputs = {}
    for name, settings in {
        "base": base,
        "seed": dataclasses.replace(base, seed=1),
        "timestep": dataclasses.replace(base, timestep=200),
    }.items():
        run(task_for(source, tmp_path / f"{name}.wav", settings=settings), FakeModel())
        outputs[name] = soundfile.read(tmp_path / f"{name}.wav")[0]
    for name in ("seed", "timestep"):
        differs = outputs[name] != outputs["base"]
        assert all(differs[start : start + FRAME].any() for start in range(0, differs.size, FRAME))


def test_scratch_of_other_settings_is_not_taken_up(tmp_path: Path) -> None:
    source = sound(tmp_path / "a.wav", 1.0)
    task = task_for(source, tmp_path / "b.wav")
    with pytest.raises(Stop):
        run(task, FakeModel(), stop_at=5)
    other = dataclasses.replace(task, settings=Settings(overlap=0.02, seed=7))
    assert run(other, FakeModel()).windows_resumed == 0


def test_dual_mono_stays_dual_mono_and_is_computed_once(tmp_path: Path) -> None:
    x = np.random.default_rng(0).uniform(-0.4, 0.4, 8_000)
    soundfile.write(tmp_path / "a.wav", np.stack([x, x], axis=1), 8_000)
    model = FakeModel(2)
    done = run(task_for(tmp_path / "a.wav", tmp_path / "b.wav"), model)
    y = soundfile.read(tmp_path / "b.wav", dtype="int32")[0] >> 8
    # Each channel has its own dither of two least significant bits at most.
    assert np.abs(y[:, 0] - y[:, 1]).max() <= 2
    assert sorted(window for rows in model.computed for window in rows) == list(range(done.windows_total))


def test_a_dead_channel_stays_dead(tmp_path: Path) -> None:
    x = np.random.default_rng(0).uniform(-0.4, 0.4, (8_000, 2))
    x[:, 1] = 0
    soundfile.write(tmp_path / "a.wav", x, 8_000)
    run(task_for(tmp_path / "a.wav", tmp_path / "b.wav", settings=Settings(overlap=0.02, subtype="FLOAT")), FakeModel())
    y = soundfile.read(tmp_path / "b.wav")[0]
    assert not y[:, 1].any()
    assert y[:, 0].any()


def test_mono_is_the_mean_of_the_channels(tmp_path: Path) -> None:
    source = sound(tmp_path / "a.wav", 0.5, rate=48_000, channels=2)
    settings = Settings(overlap=0.02, channels="mono", subtype="FLOAT")
    run(task_for(source, tmp_path / "b.wav", settings=settings), FakeModel(hiss=0))
    x, y = soundfile.read(source)[0], soundfile.read(tmp_path / "b.wav")[0]
    np.testing.assert_allclose(y, x.mean(axis=1), atol=1e-6)


def test_the_output_never_replaces_a_file_unless_told(tmp_path: Path) -> None:
    source = sound(tmp_path / "a.wav", 0.3)
    (tmp_path / "b.wav").write_bytes(b"precious")
    model = FakeModel()
    with pytest.raises(OutputExists, match=r"b\.wav"):
        run(task_for(source, tmp_path / "b.wav"), model)
    assert (tmp_path / "b.wav").read_bytes() == b"precious"
    assert model.computed == []
    run(task_for(source, tmp_path / "b.wav", overwrite=True), model)
    assert soundfile.info(tmp_path / "b.wav").frames == 14_400


def test_in_and_out_may_not_be_one_file_whatever_its_name(tmp_path: Path) -> None:
    source = sound(tmp_path / "a.wav", 0.3)
    (tmp_path / "link.wav").hardlink_to(source)
    before = source.read_bytes()
    with pytest.raises(OutputIsSource):
        run(task_for(source, tmp_path / "link.wav", overwrite=True), FakeModel())
    assert source.read_bytes() == before


def test_a_source_that_changed_since_it_was_enqueued_is_refused(tmp_path: Path) -> None:
    source = sound(tmp_path / "a.wav", 0.3)
    status = source.stat()
    with pytest.raises(InputChanged, match="changed after it was enqueued"):
        run(
            task_for(source, tmp_path / "b.wav", size_bytes=status.st_size, mtime_ns=status.st_mtime_ns - 1),
            FakeModel(),
        )


def test_a_source_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    source = sound(tmp_path / "a.wav", 1.0)

    def change(done: int, total: int) -> None:
        if done >= 3:
            sound(source, 1.0, seed=9)

    with serving(FakeModel()) as model, pytest.raises(InputChanged):
        restore(task_for(source, tmp_path / "b.wav"), model, on_windows=change, before_publish=lambda _: None)
    assert not (tmp_path / "b.wav").exists()


def test_a_model_that_breaks_is_named_with_the_windows(tmp_path: Path) -> None:
    source = sound(tmp_path / "a.wav", 0.3)
    with pytest.raises(NonFiniteOutput, match=r"a\.wav.*window 0"):
        run(task_for(source, tmp_path / "b.wav"), FakeModel(broken=True))


def test_a_bad_sample_deep_in_the_file_fails_it_and_leaves_nothing_visible(tmp_path: Path) -> None:
    x = np.zeros(8_000, np.float32)
    x[7_000] = np.nan
    soundfile.write(tmp_path / "a.wav", x, 8_000, subtype="FLOAT")
    with pytest.raises(InputNotFinite, match=r"a\.wav"):
        run(task_for(tmp_path / "a.wav", tmp_path / "b.wav"), FakeModel())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.wav"]


def test_nothing_is_visible_when_publishing_is_called_off(tmp_path: Path) -> None:
    source = sound(tmp_path / "a.wav", 0.3)
    task = task_for(source, tmp_path / "b.wav")

    def lost(_: Restored) -> None:
        assert not task.output.exists()
        raise Stop

    with serving(FakeModel()) as model, pytest.raises(Stop):
        restore(task, model, on_windows=lambda *_: None, before_publish=lost)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.wav", "b.scratch"]
    discard_scratch(task.scratch)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.wav"]


def test_what_a_dead_claim_left_beside_the_output_is_removed(tmp_path: Path) -> None:
    source = sound(tmp_path / "a.wav", 0.3)
    for final in ("b.wav", "b.wav.json"):
        dead = Temporary.beside(tmp_path / final)
        dead.write(b"half")
        dead.close()
    run(task_for(source, tmp_path / "b.wav", tag="1-2"), FakeModel())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.wav", "b.scratch", "b.wav", "b.wav.json"]


def test_the_sidecar_says_what_was_done(tmp_path: Path) -> None:
    source = sound(tmp_path / "a.wav", 0.5)
    task = task_for(source, tmp_path / "b.wav", provenance={"variant": "int4", "revision": "abc", "job": {"id": 1}})
    done = run(task, FakeModel())
    document = json.loads(sidecars.sidecar_path(task.output).read_text())
    assert document == done.report
    assert document["source"]["sha256"] == storage.sha256(source)
    assert document["output"]["sha256"] == storage.sha256(task.output)
    assert document["settings"]["overlap"] == 0.02
    assert document["model"] == {"variant": "int4", "revision": "abc"}
    assert document["windows"]["total"] == done.windows_total


@pytest.mark.parametrize(
    "settings",
    [Settings(umid=True), Settings(keep_band=True, channels="mono"), Settings(lowpass="auto", subtype="FLOAT")],
)
def test_every_sidecar_follows_the_published_schema(tmp_path: Path, settings: Settings) -> None:
    schema = json.loads(Path(sidecars.__file__).with_name("sidecar.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    source = sound(tmp_path / "a.wav", 0.5, channels=2)
    provenance = {"variant": "tiny", "revision": "r", "weights_sha256": "w", "dtype": "float32", "device": "cpu"}
    done = run(task_for(source, tmp_path / "b.wav", settings=settings, provenance=provenance), FakeModel())
    document = json.loads(sidecars.sidecar_path(tmp_path / "b.wav").read_text())
    assert document == done.report
    assert [error.message for error in validator.iter_errors(document)] == []
    del document["source"]["sha256"]
    assert not validator.is_valid(document)


def test_a_file_of_the_users_that_has_the_sidecars_name_stays(tmp_path: Path) -> None:
    source = sound(tmp_path / "a.wav", 0.3)
    (tmp_path / "b.wav.json").write_text('{"mine": true}')
    with pytest.raises(OutputExists, match=r"b\.wav\.json"):
        run(task_for(source, tmp_path / "b.wav"), FakeModel())
    assert (tmp_path / "b.wav.json").read_text() == '{"mine": true}'
    assert not (tmp_path / "b.wav").exists()


def test_an_output_that_cannot_be_written_stops_the_model_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: files.Writer, block: object) -> None:
        raise ResourceError(f"cannot write {self.path}: No space left on device")

    source = sound(tmp_path / "a.wav", 20.0)
    task = task_for(source, tmp_path / "b.wav")
    model = FakeModel()
    with monkeypatch.context() as patch:
        patch.setattr(files.Writer, "write", full)
        with pytest.raises(ResourceError, match="No space left"):
            run(task, model)
    stopped = len(model.computed)
    assert not list(tmp_path.glob(".batchsr-*"))
    done = run(task, model)
    assert stopped < done.windows_total
    assert done.windows_resumed >= stopped - 1


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    import tracemalloc

    def peak(seconds: float) -> int:
        source = sound(tmp_path / f"{seconds}.wav", seconds)
        tracemalloc.start()
        run(task_for(source, tmp_path / f"{seconds}.out.wav"), FakeModel())
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(40) < peak(10) + 2_000_000  # a block of the recording is 8 s


def voice_like(path: Path, *, edge_hz: float, rate: int, seconds: float = 3.0) -> Path:
    """Noise that comes and goes, as speech does, with nothing above `edge_hz`."""
    rng = np.random.default_rng(4)
    frames = round(rate * seconds)
    x = rng.standard_normal(frames) * (0.55 + 0.45 * np.sin(2 * np.pi * 3 * np.arange(frames) / rate))
    spectrum = np.fft.rfft(x)
    spectrum[np.fft.rfftfreq(frames, 1 / rate) > edge_hz] = 0
    x = np.fft.irfft(spectrum, frames)
    soundfile.write(path, 0.3 * x / np.abs(x).max(), rate, subtype="FLOAT")
    return path


def test_the_kept_band_is_the_recording_itself_and_the_rest_is_the_models(tmp_path: Path) -> None:
    source = voice_like(tmp_path / "a.wav", edge_hz=7_000, rate=16_000)
    settings = Settings(overlap=0.02, keep_band=True, subtype="FLOAT")
    done = run(task_for(source, tmp_path / "b.wav", settings=settings), FakeModel(hiss=0.05))
    treatment = done.report["treatment"]
    assert 5_000 < treatment["kept_below_hz"] < treatment["synthesised_above_hz"] < 7_000
    y = soundfile.read(tmp_path / "b.wav")[0]
    with files.Source.open(source) as opened:
        x = np.concatenate(list(files.resampled(opened)))[:, 0]
    frequencies = np.fft.rfftfreq(len(x), 1 / 48_000)
    faded = np.hanning(len(x))  # without it the ends of the hiss would leak down into the kept band
    residual, reference = np.abs(np.fft.rfft((y - x) * faded)), np.abs(np.fft.rfft(x * faded))
    kept = (frequencies > 200) & (frequencies < 0.95 * treatment["kept_below_hz"])
    assert 20 * np.log10(np.linalg.norm(residual[kept]) / np.linalg.norm(reference[kept])) < -80
    above = frequencies > 8_000
    assert np.linalg.norm(np.abs(np.fft.rfft(y * faded))[above]) > 100 * np.linalg.norm(reference[above])
    assert "is synthetic" in done.report["note"]


def test_the_low_pass_reaches_the_model_in_every_window(tmp_path: Path) -> None:
    source = voice_like(tmp_path / "a.wav", edge_hz=15_000, rate=32_000)
    settings = Settings(overlap=0.02, lowpass=4_000.0, subtype="FLOAT")
    done = run(task_for(source, tmp_path / "b.wav", settings=settings), FakeModel(hiss=0))
    y = soundfile.read(tmp_path / "b.wav")[0]
    power = np.abs(np.fft.rfft(y)) ** 2
    frequencies = np.fft.rfftfreq(len(y), 1 / 48_000)
    assert power[frequencies > 5_000].sum() < 1e-6 * power.sum()
    assert done.report["treatment"]["lowpass_hz"] == 4_000


def test_a_full_band_recording_is_only_resampled_and_the_record_says_so(tmp_path: Path) -> None:
    source = voice_like(tmp_path / "a.wav", edge_hz=21_500, rate=48_000)
    settings = Settings(overlap=0.02, lowpass="auto", subtype="FLOAT")
    model = FakeModel()
    done = run(task_for(source, tmp_path / "b.wav", settings=settings), model)
    assert model.computed == []
    assert done.report["treatment"]["only_resampled"] is True
    np.testing.assert_array_equal(soundfile.read(tmp_path / "b.wav")[0], soundfile.read(source)[0])


def test_the_band_of_the_recording_is_in_the_record_whatever_the_settings(tmp_path: Path) -> None:
    source = voice_like(tmp_path / "a.wav", edge_hz=5_000, rate=16_000)
    done = run(task_for(source, tmp_path / "b.wav"), FakeModel())
    assert done.report["source"]["band"]["cutoff_hz"] == pytest.approx(5_000, rel=0.1)
    assert done.report["treatment"]["lowpass_hz"] is None


@pytest.mark.parametrize(
    "settings",
    [Settings(overlap=0.02, lowpass="auto", keep_band=True), Settings(overlap=0.0, keep_band=True, umid=True)],
)
def test_treated_files_resume_to_the_same_bytes_too(tmp_path: Path, settings: Settings) -> None:
    source = voice_like(tmp_path / "a.wav", edge_hz=3_400, rate=16_000)
    whole = run(task_for(source, tmp_path / "whole.wav", settings=settings), FakeModel(3))
    task = task_for(source, tmp_path / "b.wav", settings=settings)
    with pytest.raises(Stop):
        run(task, FakeModel(3), stop_at=6)
    assert run(task, FakeModel(3)).output_sha256 == whole.output_sha256


def test_a_umid_is_there_only_if_asked_and_another_for_another_model(tmp_path: Path) -> None:
    source, found = sound(tmp_path / "a.wav", 0.3), []
    for name, asked, revision in (
        ("none", False, "r1"),
        ("one", True, "r1"),
        ("again", True, "r1"),
        ("two", True, "r2"),
    ):
        output = tmp_path / f"{name}.wav"
        settings = Settings(overlap=0.02, umid=asked)
        run(task_for(source, output, settings=settings, provenance={"revision": revision}), FakeModel())
        bext = metadata.read(output).bext
        assert bext is not None
        found.append(broadcast.bext_fields(bext).get("umid"))
    none, one, again, two = found
    assert none is None
    assert one == again != two
    with pytest.raises(ConfigError, match="umid"):
        Settings(format="flac", umid=True)


def test_what_a_recording_says_about_itself_is_carried_over_or_listed(recordings: Path, tmp_path: Path) -> None:
    source = recordings / "inputs" / "bwf" / "dir-intro-fn_8k_bext_info.wav"
    done = run(task_for(source, tmp_path / "b.wav"), FakeModel(8))
    data = (tmp_path / "b.wav").read_bytes()
    assert b"bext" in data
    said = done.report["metadata"]
    assert said["texts"]["artist"]
    assert said["bext"]["time_reference"] == 123456789
    position = data.index(b"bext") + 8
    (time_reference,) = np.frombuffer(data, "<u8", 1, position + 338)  # EBU Tech 3285: TimeReference
    assert time_reference == 123456789 * 6  # 8 to 48 kHz
    assert b"batchsr" in data[position : position + 2_000]
    flac = run(task_for(source, tmp_path / "c.flac", settings=Settings(overlap=0.02, format="flac")), FakeModel(8))
    assert any("bext" in line for line in flac.report["metadata"]["not_carried_over"])
