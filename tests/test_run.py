"""One command for ten files: queued, restored and reported in a batch of its own, and gone on with after Ctrl-C."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import rig
import soundfile
from person import Person
from program import FAST_MODEL, Program

from batchsr.models import registry
from batchsr.queue import State
from batchsr.queue.opening import open_queue


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Person:
    monkeypatch.setitem(registry.MODELS, "fast", rig.ENTRY)
    return Person(tmp_path)


def run(person: Person, *words: object, code: int = 0):  # type: ignore[no-untyped-def]
    return person.run("run", *words, "--variant", "fast", code=code)


def test_run_restores_reports_and_leaves_the_rest_of_the_queue_alone(person: Person) -> None:
    other, a, b = person.record("other.wav", "a.wav", "b.wav")
    person.run("enqueue", other, "--priority", 100, "--batch", "night")
    said = run(person, a, b)
    page = Path(said.out.strip())
    assert page.parent == person.folder
    assert "a_upsampled" in page.read_text() or page.stat().st_size > 10_000
    assert [person.job(n).state for n in (1, 2, 3)] == [State.QUEUED, State.DONE, State.DONE]
    assert person.job(2).batch == page.stem
    again = run(person, a, b)
    assert again.out == said.out, "the same command, the same batch"
    assert person.run("status", "--batch", page.stem).code == 0


def test_failures_and_what_is_not_there_are_told_and_the_page_is_made_all_the_same(person: Person) -> None:
    a, bad = person.record("a.wav", "bad.wav")
    bad.write_bytes(b"no sound")
    said = run(person, a, bad, person.folder / "nowhere.wav", code=3)
    assert "nowhere.wav" in said.err
    missing = person.folder / "nowhere.wav"
    (document,) = person.run("run", a, bad, missing, "--variant", "fast", "--json", code=3).documents
    assert document["jobs"] == {"done": 1, "failed": 1}
    assert (document["refused"], document["report"]) == (1, said.out.strip())
    assert Path(document["report"]).exists()
    assert "there is nothing to restore" in run(person, person.folder / "none.wav", code=2).err


def test_a_file_of_another_batch_is_left_to_it_and_one_without_is_taken(person: Person) -> None:
    a, b, c = person.record("a.wav", "b.wav", "c.wav")
    person.run("enqueue", a, "--batch", "night", "--variant", "fast")
    person.run("enqueue", b, "--variant", "fast")
    said = run(person, a, b, c)
    assert "as #1 of batch night" in said.err
    assert [person.job(n).state for n in (1, 2, 3)] == [State.QUEUED, State.DONE, State.DONE]


def test_a_queue_of_one_batch_claims_no_other_job_by_any_way(tmp_path: Path) -> None:
    with open_queue(tmp_path / "q.db") as queue:
        list(queue.enqueue([rig.new_job("a"), rig.new_job("b", batch="ours", priority=-5)]))
        with queue.of_batch("ours") as own, own.join() as worker:
            assert own.peek("fast").id == 2  # type: ignore[union-attr]
            job = own.claim(worker, rig.BACKEND)
            assert job is not None
            assert job.id == 2
            assert own.claim(worker, rig.BACKEND) is None
            assert own.bound_variants() == ["fast"]
            own.release(job)
            with own.again() as another:
                assert another.peek("fast").id == 2  # type: ignore[union-attr]
        assert queue.peek("fast").id == 1  # type: ignore[union-attr]


def test_after_ctrl_c_the_same_command_goes_on(tmp_path: Path) -> None:
    program = Program(tmp_path)
    program.environment |= FAST_MODEL
    source = tmp_path / "a.wav"
    soundfile.write(source, np.random.default_rng(0).uniform(-0.1, 0.1, 8_000 * 6), 8_000)
    command = ("run", source, "--variant", "fast")
    process = program.start(*command, BATCHSR_PACE_S="0.3")
    try:

        def begun() -> bool:
            if not program.db.exists():
                return False
            with open_queue(program.db) as queue:
                return any(job.windows_done for job in queue.jobs())

        rig.until(begun, 60)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode == 130, told
    assert "run the same command again to go on" in told
    done = program.run(*command)
    assert os.path.exists(done.stdout.strip())
    with open_queue(program.db) as queue:
        (job,) = queue.jobs()
    assert job.state is State.DONE
    assert job.windows_resumed


def test_a_page_that_could_not_be_written_is_told_before_the_work_and_names_the_page(person: Person) -> None:
    (a,) = person.record("a.wav")
    nowhere = person.folder / "gone" / "page.html"
    for page in (nowhere, person.folder):
        said = run(person, a, "--report", page, code=2)
        assert str(page.parent if page is nowhere else page) in said.err
        assert ".part" not in said.err
        assert not person.db.exists()
    run(person, a)
    for words in (("report", "-o"), ("listen", "1", "-o")):
        assert str(nowhere.parent) in person.run(*words, nowhere, code=2).err
    for words in (("upsample", a), ("enqueue", a)):
        said = person.run(*words, "--preview", 1, "--variant", "fast", "--page", nowhere, code=2)
        assert str(nowhere.parent) in said.err
        assert "as asked" not in said.err, "nothing was restored for it"


def test_a_report_by_a_name_that_is_no_reports_is_refused_and_not_printed(person: Person) -> None:
    person.run("enqueue", *person.record("a.wav"))
    for name in ("report.pdf", "report", "."):
        said = person.run("report", "-o", person.folder / name, code=2)
        assert said.out == ""
        assert ".html" in said.err
    person.run("report", "-o", person.folder / "R.HTML")
    assert (person.folder / "R.HTML").read_text().startswith("<!doctype html>")


def test_run_names_no_command_that_would_not_help(person: Person) -> None:
    a, bad = person.record("a.wav", "bad.wav")
    said = run(person, a)
    assert "batchsr report" not in said.err
    assert said.err.count("run-a-") == 0, "the page's path stands once, where programs read it"
    bad.write_bytes(b"no sound")
    said = run(person, a, bad, code=3)
    assert "retry --batch run-a-" in said.err
    assert "batchsr work" in run(person, a, person.folder, "-r", code=2).err


def test_a_place_behind_the_end_of_a_recording_is_refused_and_no_other_is_taken(person: Person) -> None:
    a, b = person.record("a.wav", "b.wav", seconds=2.0)
    run(person, a)
    for place, told in (("1:30", "before 90 s"), ("2", "before 2 s"), ("0:75", "no place"), ("1:60:00", "no place")):
        assert told in person.run("listen", "1", "--at", place, code=2).err
        assert told in person.run("upsample", b, "--preview", 1, "--at", place, "--variant", "fast", code=2).err
    person.run("listen", "1", "--at", "1.5")
