"""Verifying what was done, and removing what nobody needs: that, and never anything else."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import rig
from rig import job_of

from batchsr.queue import State
from batchsr.queue.opening import open_queue
from batchsr.temporary import Temporary
from batchsr.worker import maintenance


def test_verify_finds_outputs_that_are_missing_changed_or_truncated(db: Path, out: Path, tmp_path: Path) -> None:
    sources = [rig.record(tmp_path / "in" / f"{name}.wav", 0.2, seed=seed) for seed, name in enumerate("abcde")]
    rig.enqueue(db, sources, out)
    rig.work(db)
    (out / "b_upsampled.wav").unlink()
    changed = bytearray((out / "c_upsampled.wav").read_bytes())
    changed[-1] ^= 1
    (out / "c_upsampled.wav").write_bytes(changed)
    os.truncate(out / "d_upsampled.wav", 100)
    with open_queue(db) as queue:
        verdicts = {verdict.job.id: verdict.verdict for verdict in maintenance.verify(queue)}
        assert verdicts == {1: "ok", 2: "missing", 3: "changed", 4: "truncated", 5: "ok"}
        assert [verdict.job.id for verdict in maintenance.verify(queue, [5, 2])] == [2, 5]
        (out / "c_upsampled.wav").unlink()
        (out / "d_upsampled.wav").unlink()
        queue.retry([2, 3, 4], redo=True)
    rig.work(db)
    with open_queue(db) as queue:
        assert {verdict.verdict for verdict in maintenance.verify(queue)} == {"ok"}


def left_by_the_dead(final: Path) -> Path:
    """What a process that was killed leaves beside an output."""
    temporary = Temporary.beside(final)
    temporary.close()
    return temporary.path


def test_gc_removes_what_nobody_needs_and_nothing_else(db: Path, out: Path, sources: list[Path]) -> None:
    done, cancelled, failed = rig.enqueue(db, sources, out)
    with open_queue(db) as queue, contextlib.ExitStack() as held:
        queue.cancel([cancelled])
        with queue.join() as worker:
            queue.fail(queue.claim(worker, rig.BACKEND), "x", "x")
        (done, failed) = (failed, done)
        rig.work(db)
        queued = rig.enqueue(db, sources[:1], out, settings={"seed": 1})[0]
        scratch = queue.scratch_folder
        scratch.mkdir(exist_ok=True)
        names = {job.id: job.scratch_name for job in queue.jobs()}
        garbage = [
            scratch / names[done],
            scratch / names[cancelled],
            scratch / "999-0123456789abcdef.slots",
            scratch / f"{queued}-0123456789abcdef.slots",  # of an older queue under this name
            left_by_the_dead(Path(job_of(db, done).output)),
            left_by_the_dead(Path(job_of(db, done).output + ".json")),
            left_by_the_dead(Path(job_of(db, failed).output)),
        ]
        living = held.enter_context(Temporary.beside(Path(job_of(db, done).output)))
        os.mkfifo(out / ".batchsr-0123456789ab-0123456789abcdef.part")
        precious = [
            living.path,  # of this process, or another queue's
            out / ".batchsr-0123456789ab-0123456789abcdef.part",  # a pipe under a name like ours
            scratch / names[failed],
            scratch / names[queued],
            scratch / "notes.txt",
            out / "their.part",
            out / ".batchsr-0123456789ab-1-7.part",
            *sources,
            *out.glob("*.wav*"),
        ]
        for path in (*garbage, *precious):
            if not path.exists() or (path.name.endswith(".part") and path.is_file()):
                path.write_bytes(b"12345")
        would = maintenance.collect_garbage(queue, dry_run=True)
        assert sorted(would.files) == sorted(garbage)
        assert all(path.exists() for path in garbage)
        did = maintenance.collect_garbage(queue)
        assert (sorted(did.files), did.bytes) == (sorted(garbage), 5 * len(garbage))
        assert not any(path.exists() for path in garbage)
        assert all(path.exists() for path in precious)
        assert maintenance.collect_garbage(queue).files == []


def test_gc_leaves_a_running_jobs_scratch_alone(db: Path, sources: list[Path]) -> None:
    rig.enqueue(db, sources[:1])
    with open_queue(db) as queue, queue.join() as worker:
        job = queue.claim(worker, rig.BACKEND)
        queue.scratch_folder.mkdir()
        path = queue.scratch_folder / job.scratch_name
        path.touch()
        with Temporary.beside(Path(job.output)) as temporary:
            assert maintenance.collect_garbage(queue).files == []
            assert temporary.path.exists()
        assert path.exists()
        assert queue.release(job).state is State.QUEUED
