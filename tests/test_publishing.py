"""The output's name is taken first, then its sidecar stands beside it: the winner's, whoever else was at it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rig

from batchsr import storage, temporary
from batchsr.audio import filters
from batchsr.audio.treatment import Treatment
from batchsr.errors import OutputExists, ResourceError, SidecarForeign
from batchsr.queue import State
from batchsr.queue.opening import open_queue
from batchsr.restoration import publishing
from batchsr.restoration.sidecar import sidecar_path
from batchsr.restoration.stages import registry as stages
from batchsr.settings.profile import Settings
from batchsr.temporary import Temporary

DOCUMENT: dict[str, Any] = {
    "schema": "batchsr.sidecar/1",
    "settings_sha256": "1" * 64,
    "source": {
        "sha256": "2" * 64,
        "size_bytes": 1,
        "sample_rate_hz": 8000,
        "channels": 1,
        "frames": 1,
        "duration_s": 1.0,
    },
    "output": {"path": "", "sha256": "", "size_bytes": 0, "clipped_samples": 0},
    "model": {"weights_sha256": "w", "dtype": "float32", "device": "cpu"},
    "windows": {"total": 1, "resumed": 0},
    "wall_s": 1.0,
    "rtf": 1.0,
}


def made(output: Path, data: bytes) -> tuple[Temporary, Temporary]:
    """An output and its sidecar, neither under its name yet."""
    one = Temporary.beside(output)
    one.write(data)
    said = {"path": str(output), "sha256": one.sha256(), "size_bytes": len(data), "clipped_samples": 0}
    return one, publishing.record_beside(output, DOCUMENT | {"output": said})


def sha256_said(output: Path) -> str:
    return str(json.loads(sidecar_path(output).read_text())["output"]["sha256"])


def test_the_second_publisher_is_told_so_and_has_changed_nothing(tmp_path: Path) -> None:
    output = tmp_path / "a.wav"
    first, second = made(output, b"first"), made(output, b"second")
    publishing.publish(*first, overwrite=False)
    with pytest.raises(OutputExists):
        publishing.publish(*second, overwrite=False)
    for one in second:
        one.discard()
    assert output.read_bytes() == b"first"
    assert sha256_said(output) == storage.sha256(output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "a.wav.json"]


def test_of_two_who_overwrite_the_second_has_both_names(tmp_path: Path) -> None:
    output = tmp_path / "a.wav"
    for data in (b"first", b"second"):
        publishing.publish(*made(output, data), overwrite=True)
        assert output.read_bytes() == data
        assert sha256_said(output) == storage.sha256(output)


def test_somebody_elses_file_under_the_sidecars_name_keeps_the_output_from_its_own(tmp_path: Path) -> None:
    output = tmp_path / "a.wav"
    one = made(output, b"first")
    sidecar_path(output).write_text("notes of mine")
    with pytest.raises(SidecarForeign, match=r"a\.wav\.json"):
        publishing.publish(*one, overwrite=False)
    assert not output.exists()
    assert sidecar_path(output).read_text() == "notes of mine"


def test_a_sidecar_that_a_crash_kept_from_its_name_gets_it_and_another_outputs_does_not(tmp_path: Path) -> None:
    output = tmp_path / "a.wav"
    mine, others = made(output, b"first"), made(output, b"another")
    for one in (*mine, *others):
        one.take_name(overwrite=False) if one is mine[0] else one.close()
    assert publishing.mend(output)
    assert sha256_said(output) == storage.sha256(output)
    assert not publishing.mend(output), "there is nothing more to do"


def test_a_sidecar_of_a_living_process_is_left_to_it(tmp_path: Path) -> None:
    output = tmp_path / "a.wav"
    one, record = made(output, b"first")
    one.take_name(overwrite=False)
    assert not publishing.mend(output)
    record.take_name(overwrite=False)
    assert sha256_said(output) == storage.sha256(output)


def test_a_sidecar_is_completed_for_the_output_that_stands_there_and_for_no_other(tmp_path: Path) -> None:
    output = tmp_path / "a.wav"
    output.write_bytes(b"another's by now")
    publishing.complete(output, DOCUMENT | {"output": DOCUMENT["output"] | {"sha256": "3" * 64}})
    assert not sidecar_path(output).exists()
    document = DOCUMENT | {"output": DOCUMENT["output"] | {"sha256": storage.sha256(output)}}
    publishing.complete(output, document)
    assert sha256_said(output) == storage.sha256(output)
    assert [path.name for path in tmp_path.glob(temporary.TEMPORARY_PREFIX + "*")] == []


def test_two_queues_over_one_folder_give_one_whole_output_and_its_sidecar(tmp_path: Path) -> None:
    source, out = rig.record(tmp_path / "a.wav", 0.5), tmp_path / "out"
    dbs = [tmp_path / "one.db", tmp_path / "two.db"]
    for seed, db in enumerate(dbs):
        rig.enqueue(db, [source], out, settings={"seed": seed})
    pids = [rig.fork(lambda db=db: rig.work(db, rig.FastModel(pace_s=0.01)).exit_code) for db in dbs]
    assert sorted(rig.wait(pid) for pid in pids) == [0, 3]
    states = {}
    for db in dbs:
        job = rig.job_of(db, 1)
        states[job.state] = job
    assert states[State.FAILED].error_code == "output.exists"
    output = Path(states[State.DONE].output)
    assert storage.sha256(output) == states[State.DONE].output_sha256 == sha256_said(output)
    assert sorted(path.name for path in out.iterdir()) == ["a_upsampled.wav", "a_upsampled.wav.json"]


def test_a_dead_workers_output_is_queued_again_where_its_sidecar_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db, out = tmp_path / "queue.db", tmp_path / "out"
    rig.enqueue(db, [rig.record(tmp_path / "a.wav", 0.2)], out)
    assert rig.wait(rig.fork(lambda: rig.work(db), fault="rename.after:1")) == -9

    def full(job: object) -> None:
        raise ResourceError("no space left", remedy="free some")

    with open_queue(db) as queue:
        (taken,) = queue.reap(full)
        assert taken.state is State.QUEUED
    assert rig.work(db).done == 1
    assert sha256_said(out / "a_upsampled.wav") == storage.sha256(out / "a_upsampled.wav")


@pytest.mark.parametrize(("mask", "taken_away"), [(0o002, 0o002), (0o077, 0o077), (0o027, 0o027)])
def test_everything_that_is_made_keeps_the_umask_the_database_included(
    tmp_path: Path, mask: int, taken_away: int
) -> None:
    source = rig.record(tmp_path / "in" / "a.wav", 0.4)
    place = tmp_path / "place"
    place.mkdir()

    def child() -> int:
        os.umask(mask)
        rig.enqueue(place / "queue.db", [source], place / "out")
        seen: list[str] = []

        def look(indices: object) -> None:
            for path in [place, *place.rglob("*")]:
                if path == place:
                    continue
                mode = stat.S_IMODE(path.stat().st_mode)
                wanted = (0o777 if path.is_dir() else 0o666) & ~taken_away
                if mode != wanted:
                    seen.append(f"{path.name}: {mode:o}, not {wanted:o}")

        with open_queue(place / "queue.db") as queue:
            queue.backup(place / "copy.db")
        rig.work(place / "queue.db", rig.FastModel(calls=look))
        look(())
        print(seen)
        return len(seen)

    assert rig.wait(rig.fork(child)) == 0


@pytest.mark.parametrize("cutoff_hz", [300.0, 1000.0, 3400.0, 7000.0, 20_000.0])
def test_the_low_pass_looks_no_further_than_it_says(cutoff_hz: float) -> None:
    (stage,) = stages.chain(Settings(), Treatment(cutoff_hz), 8_000)
    x = np.random.default_rng(0).uniform(-0.3, 0.3, (240_000, 1)).astype(np.float32)

    def run(samples: np.ndarray) -> np.ndarray:
        return np.concatenate(list(stages.run([stage], "model", iter([samples]), len(samples))))

    whole, first, last = run(x), 96_000, 144_000
    grid = 48_000 // np.gcd(48_000, 2 * round(cutoff_hz))  # where both rates of the conditioning have a sample
    start = int((first - stage.context_samples) // grid * grid)
    part = run(x[start : last + stage.context_samples])[first - start : last - start]
    difference = np.abs(part - whole[first:last]).max() / np.abs(whole[first:last]).max()
    assert 20 * np.log10(difference) < -115
    assert filters.reach_samples(24_000.0) == 0


def test_a_chain_says_in_the_sidecar_and_in_the_scratchs_key_what_it_is() -> None:
    chain = stages.chain(Settings(channels="mono"), Treatment(3400.0), 8_000)
    assert [(entry["name"], entry["place"]) for entry in stages.entries(chain)] == [
        ("mono", "recording"),
        ("lowpass", "model"),
    ]
    assert stages.entries(chain)[1]["settings"] == {"cutoff_hz": 3400.0}
    assert stages.chain(Settings(), Treatment(), 8_000) == []
