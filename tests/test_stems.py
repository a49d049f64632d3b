"""`--stems`: separated for the model, summed again or written one by one, resumable to the byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import rig
import soundfile
import stem_networks
from click.testing import CliRunner
from model.hub_server import COMMIT, hub
from person import called
from test_restore import FakeModel, Stop, run, sound, task_for, voice_like

from batchsr import storage
from batchsr.cli import cli
from batchsr.errors import ConfigError, ExtraMissing, OutputExists, OutputTooLarge, StageFailed
from batchsr.models import separator
from batchsr.models import stem_networks as places
from batchsr.queue import State
from batchsr.queue.opening import open_queue
from batchsr.restoration import restore as restoring
from batchsr.restoration import sidecar as sidecars
from batchsr.restoration.scratch import Scratch, fingerprint, stems_bytes, stems_path
from batchsr.restoration.stages import registry as stages
from batchsr.settings import extras, profile
from batchsr.settings.outputs import stem_beside
from batchsr.settings.profile import Settings
from batchsr.worker import maintenance, space, undo

pytest.importorskip("onnxruntime")
PROVENANCE = {"variant": "tiny", "revision": "r", "weights_sha256": "w", "dtype": "float32", "device": "cpu"}


def settings(network: Path, stems: str = "mix", **changes: Any) -> Settings:
    return Settings(**{"overlap": 0.02, "stems": stems, "stems_network": str(network), **changes})


def separated(network: Path, x: Any, scratch: Path, block: int = 10_000) -> Any:
    """Return what comes out of the separator for x (n, C)."""
    loaded = separator.Separator(network)
    blocks = (x[at : at + block] for at in range(0, len(x), block))
    count = loaded.chunks(len(x))
    with Scratch(scratch, key=bytes(32), channels=4 * x.shape[1], frame_samples=loaded.chunk_samples, count=count) as s:
        return np.concatenate(list(loaded.run(blocks, len(x), s, fingerprint, lambda: None)))


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("samples", [1, 9_000, 21_768, 21_769, 100_003])
def test_stems_of_any_length_sum_to_the_recording_its_first_sample_included(
    tmp_path: Path, samples: int, channels: int
) -> None:
    network = stem_networks.write(tmp_path / "fake.onnx")
    low = np.cumsum(np.random.default_rng(1).standard_normal((samples, channels)), axis=0) * 1e-3
    x = (0.1 + low).astype(np.float32)
    stems = separated(network, x, tmp_path / "scratch")
    assert stems.shape == (samples, 4 * channels)
    assert np.allclose(separator.mixed(stems)[200:-200], x[200:-200], atol=1e-3)
    assert np.allclose(stems[:, channels : 2 * channels] * 2, stems[:, :channels], atol=1e-6)
    again = separated(network, x, tmp_path / "other", block=777)
    assert stems.tobytes() == again.tobytes() == separated(network, x, tmp_path / "scratch").tobytes()


def test_the_mix_is_as_long_as_the_recording_and_the_record_names_the_network(tmp_path: Path) -> None:
    network = stem_networks.write(tmp_path / "fake.onnx")
    source = sound(tmp_path / "a.wav", 1.3, channels=2)
    task = task_for(source, tmp_path / "a.out.wav", settings=settings(network), provenance=PROVENANCE)
    done = run(task, FakeModel(hiss=0))
    plain = task_for(source, tmp_path / "plain.wav", provenance=PROVENANCE)
    run(plain, FakeModel(hiss=0))
    x, y = (soundfile.read(one.output)[0] for one in (task, plain))
    assert x.shape == y.shape == (62_400, 2)
    assert np.abs(x - y)[200:-200].max() < 1e-4
    (entry,) = [stage for stage in done.report["stages"] if stage["name"] == "stems"]
    assert entry["settings"]["network_sha256"] == storage.sha256(network)
    assert stems_path(task.scratch).stat().st_size <= stems_bytes(62_400, 2)
    restoring.discard_scratch(task.scratch)
    assert not stems_path(task.scratch).exists()


@pytest.mark.parametrize("changes", [{}, {"keep_band": True, "lowpass": "auto"}, {"rate": 44_100, "also": "mp3"}])
def test_one_stopped_at_any_window_ends_in_the_same_bytes_and_separates_no_chunk_twice(
    tmp_path: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = stem_networks.write(tmp_path / "fake.onnx")
    source = sound(tmp_path / "a.wav", 2.2, channels=2)
    wanted = settings(network, "files", **changes)
    whole = task_for(source, tmp_path / "whole.wav", settings=wanted, provenance=PROVENANCE)
    total = run(whole, FakeModel()).windows_total
    asked = []
    ask = separator.Separator._asked
    monkeypatch.setattr(separator.Separator, "_asked", lambda self, pair: asked.append(1) or ask(self, pair))
    for stop_at in (1, total // 2, total):
        asked.clear()
        task = task_for(source, tmp_path / f"stopped{stop_at}.wav", settings=wanted, provenance=PROVENANCE)
        with pytest.raises(Stop):
            run(task, FakeModel(3), stop_at=stop_at)
        again = task_for(source, task.output, settings=wanted, tag="1-2", provenance=PROVENANCE)
        run(again, FakeModel(3))
        assert len(asked) == separator.Separator(network).chunks(105_600)
        for one, other in zip(files_of(again), files_of(whole), strict=True):
            assert one.read_bytes() == other.read_bytes(), one


def files_of(task: Any) -> list[Path]:
    return [task.output, *(stem_beside(task.output, stem) for stem in separator.STEMS)]


def test_each_stem_has_a_file_that_the_record_names_and_verify_and_undo_know(tmp_path: Path) -> None:
    network = stem_networks.write(tmp_path / "fake.onnx")
    source, db = sound(tmp_path / "song.wav", 1.0), tmp_path / "queue.db"
    wanted = {"stems": "files", "stems_network": str(network), "keep_band": True, "overlap": 0.02}
    rig.enqueue(db, [source], tmp_path / "out", settings=wanted)
    assert rig.work(db, rig.FastModel(frame_samples=24_000)).done == 1
    drums, vocals = (tmp_path / "out" / f"song.{stem}_upsampled.wav" for stem in ("drums", "vocals"))
    x, _ = soundfile.read(drums)
    assert len(x) == 48_000
    written = json.loads((tmp_path / "out" / "song_upsampled.wav.json").read_text())
    schema = json.loads(Path(sidecars.__file__).with_name("sidecar.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(written)
    first = written["copies"][0]
    assert (first["stem"], first["sha256"]) == ("drums", storage.sha256(drums))
    with open_queue(db) as queue:
        (job,) = queue.jobs()
        assert job.state is State.DONE
        assert {one.verdict for one in maintenance.verify(queue)} == {"ok"}
        heard = vocals.read_bytes()
        vocals.write_bytes(b"other")
        assert "ok" not in {one.verdict for one in maintenance.verify(queue)}
        vocals.write_bytes(heard)
        list(undo.undo(queue, queue.jobs()))
        assert not vocals.exists()
        assert not drums.exists()


def test_of_a_full_band_recording_the_mix_is_the_recording_and_the_stems_are_separated_alone(tmp_path: Path) -> None:
    network = stem_networks.write(tmp_path / "fake.onnx")
    source = voice_like(tmp_path / "a.wav", edge_hz=21_500, rate=48_000)
    model = FakeModel()
    wanted = settings(network, "files", lowpass="auto")
    task = task_for(source, tmp_path / "b.wav", settings=wanted, provenance=PROVENANCE)
    entries = run(task, model).report["stages"]
    assert model.computed == []
    y, stem = (soundfile.read(path)[0] for path in files_of(task)[:2])
    assert len(stem) == len(y)
    assert 0.4 < np.std(stem) / np.std(y) < 0.55
    (entry,) = (one for one in entries if one["name"] == "stems")
    for said in (stages.sentence(entry), stages.fact(entry)[1]):
        assert "not restored" in said
        assert "summed" not in said


@pytest.mark.parametrize("output", ["b.wav", "song_upsampled.wav"])
def test_the_record_is_found_from_a_stem_and_calls_it_one(tmp_path: Path, output: str) -> None:
    network = stem_networks.write(tmp_path / "fake.onnx")
    task = task_for(
        sound(tmp_path / "a.wav"), tmp_path / output, settings=settings(network, "files"), provenance=PROVENANCE
    )
    Path(f"{task.output}.json").write_text(json.dumps(run(task, FakeModel()).report))
    told = CliRunner().invoke(cli, ["explain", str(stem_beside(task.output, "drums"))])
    assert told.exit_code == 0, told.output
    assert "The stem drums was written in the same pass" in told.stdout
    assert "copy for access" not in told.stdout
    assert CliRunner().invoke(cli, ["explain", str(stem_beside(task.output, "flute"))]).exit_code


@pytest.mark.parametrize("typed", ["htdemucs_ft", "HTDEMUCS", "./nix.onnx", "."])
def test_what_is_no_network_is_refused_before_anything_is_enqueued(
    typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sound(tmp_path / "a.wav")
    told = called("--db", "q.db", "enqueue", "a.wav", "--stems", "mix", f"--stems-network={typed}", code=2)
    assert typed in told.err
    assert "htdemucs-fp16" in told.err
    assert not Path("q.db").exists()


def test_a_network_on_a_share_that_is_away_can_be_enqueued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "share").mkdir()
    sound(tmp_path / "a.wav")
    words = ["--db", str(tmp_path / "q.db"), "enqueue", str(tmp_path / "a.wav"), "--stems", "mix"]
    told = CliRunner().invoke(cli, [*words, "--stems-network", str(tmp_path / "share" / "n.onnx")])
    assert told.exit_code == 0, told.output


def test_a_stem_s_name_that_is_taken_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    network, model = stem_networks.write(tmp_path / "fake.onnx"), FakeModel()
    task = task_for(sound(tmp_path / "a.wav"), tmp_path / "b.wav", settings=settings(network, "files"))
    stem_beside(task.output, "bass").write_bytes(b"a person's")
    with pytest.raises(OutputExists, match=r"b\.bass\.wav"):
        run(task, model)
    assert model.computed == []


@pytest.mark.parametrize(
    ("content", "gains", "said"),
    [(b"no network", None, "no ONNX"), (None, (0.5, 0.5), "no network that separates"), (None, (np.nan,) * 4, "NaN")],
)
def test_a_file_that_is_no_such_network_fails_the_recording_and_is_named(
    tmp_path: Path, content: bytes | None, gains: Any, said: str
) -> None:
    network = tmp_path / "odd.onnx"
    network.write_bytes(content) if content else stem_networks.write(network, gains=gains)
    task = task_for(sound(tmp_path / "a.wav"), tmp_path / "b.wav", settings=settings(network))
    with pytest.raises(StageFailed, match=said) as failed:
        run(task, FakeModel())
    assert "odd.onnx" in failed.value.message
    assert failed.value.remedy
    with pytest.raises(StageFailed, match="no network"):
        places.find(str(tmp_path / "gone.onnx"))


def test_a_network_of_the_hub_is_fetched_once_pinned_and_refused_when_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    content = stem_networks.write(tmp_path / "fake.onnx").read_bytes()
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    with hub({"StemSplitio/htdemucs-onnx/htdemucs.onnx": content}) as (endpoint, requests):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        found = places.find("htdemucs")
        asked = len(requests)
        assert (found.revision, found.sha256) == (COMMIT, storage.sha256(tmp_path / "fake.onnx"))
        assert places.find("htdemucs") == found
        assert len(requests) == asked
        found.path.write_bytes(content + b" ")
        with pytest.raises(StageFailed, match="checksum"):
            places.find("htdemucs")
        with pytest.raises(StageFailed, match="cannot be fetched") as failed:
            places.find("htdemucs-fp16")
    assert "--stems-network" in str(failed.value.remedy)


def test_names_of_networks_are_the_same_where_they_are_checked_and_where_they_are_found() -> None:
    assert set(places.NAMES) == set(profile.STEM_NETWORKS)


def test_without_the_extra_it_is_refused_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "_STEMS", ("no_such_module_at_all",))
    with pytest.raises(ExtraMissing) as refused:
        extras.check(Settings(stems="mix"))
    assert refused.value.remedy == "pip install 'batchsr[stems]'"


def test_a_worker_without_the_extra_leaves_its_jobs_to_one_that_has_it_and_status_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, db = stem_networks.write(tmp_path / "fake.onnx"), tmp_path / "queue.db"
    first, second = (sound(tmp_path / f"{name}.wav", 0.3) for name in "ab")
    asking = {"stems": "mix", "stems_network": str(network), "overlap": 0.02}
    rig.enqueue(db, [first], tmp_path / "out", settings=asking)
    rig.enqueue(db, [second], tmp_path / "out", settings={"overlap": 0.02})
    with monkeypatch.context() as without:
        without.setattr(extras, "_STEMS", ("no_such_module_at_all",))
        done = rig.work(db, rig.FastModel(frame_samples=24_000))
        assert (done.done, done.failed) == (1, 0)
        told = CliRunner().invoke(cli, ["--db", str(db), "status"])
        assert "1 queued with stems" in told.output
        assert "pip install 'batchsr[stems]'" in told.output
        with open_queue(db) as queue:
            assert [job.state for job in queue.jobs()] == [State.QUEUED, State.DONE]
            assert queue.asking_for(["stems", "denoise"]) == {"stems": 1}
    assert rig.work(db, rig.FastModel(frame_samples=24_000)).done == 1


@pytest.mark.parametrize("values", [{"stems": "on"}, {"stems_network": "demucs"}, {"stems_network": "./a.onnx"}])
def test_words_that_it_does_not_take_are_refused_with_those_that_it_takes(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings(**values)
    assert next(iter(values)) in str(refused.value.remedy)


def test_off_it_changes_no_digest_and_room_is_reserved_for_four_times_the_rows() -> None:
    assert "stems" not in Settings().to_json()
    assert Settings(stems="mix").digest() != Settings().digest()
    plain, files = (space.need_of_recording(480_000, 48_000, 2, Settings(stems=s)) for s in ("off", "files"))
    assert files.rows == 4 * plain.rows
    assert files.output_bytes == 5 * plain.output_bytes
    also = space.need_of_recording(480_000, 48_000, 2, Settings(also="opus"))
    assert also.output_bytes > plain.output_bytes
    assert files.scratch_bytes - stems_bytes(480_000, 2) > 3.9 * plain.scratch_bytes


def test_what_stems_take_is_counted_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, model = stem_networks.write(tmp_path / "fake.onnx"), FakeModel()
    source = sound(tmp_path / "a.wav")
    counted = space.need_of_recording(
        *(soundfile.info(source).frames, soundfile.info(source).samplerate, 1),
        settings(network, "files"),
        frame_samples=model.frame_samples,
    )
    needed = counted.scratch_bytes + counted.output_bytes
    task = task_for(source, tmp_path / "b.wav", settings=settings(network, "files"))
    monkeypatch.setattr(storage, "total_bytes", lambda folder: needed - 1)
    with pytest.raises(OutputTooLarge, match="whole disk"):
        run(task, model)
    monkeypatch.setattr(storage, "total_bytes", lambda folder: needed)
    run(task, model)


def test_chunks_that_one_file_may_not_hold_are_refused_before_one_is_separated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, refuse = stem_networks.write(tmp_path / "fake.onnx"), storage.refuse_too_large
    monkeypatch.setattr(separator.Separator, "_asked", lambda self, pair: pytest.fail("separated"))

    def of_chunks(fd: int, path: Path, size_bytes: int) -> None:
        refuse(fd, path, 2**64 if path.suffix == ".stems" else size_bytes)

    monkeypatch.setattr(storage, "refuse_too_large", of_chunks)
    with pytest.raises(OutputTooLarge):
        run(task_for(sound(tmp_path / "a.wav"), tmp_path / "b.wav", settings=settings(network)), FakeModel())
