"""What is queued can be asked for otherwise, and nothing about that is silent; jobs can be forgotten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import rig
from person import Person
from program import Program

from batchsr.errors import ClaimLost
from batchsr.queue import Result, State
from batchsr.queue.opening import open_queue
from batchsr.settings.profile import Settings


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(tmp_path)


def seed(person: Person, number: int) -> int:
    return Settings.from_json(person.job(number).settings).seed


def test_a_file_queued_with_other_settings_is_said_to_be_and_takes_them_with_update(person: Person) -> None:
    (a,) = person.record("a.wav")
    person.run("enqueue", a)
    said = person.run("enqueue", a, "--seed", 5)
    assert "other settings" in said.out
    assert "--update gives it these" in said.out
    assert "1 file is known with other settings" in said.err
    assert (len(person.run("list").out.splitlines()), seed(person, 1)) == (1, 0)
    assert "updated" in person.run("enqueue", a, "--seed", 5, "--update").out
    assert (len(person.run("list").out.splitlines()), seed(person, 1)) == (1, 5)
    assert "already queued" in person.run("enqueue", a, "--seed", 5, "--update").out
    person.work()
    assert json.loads((person.folder / "a_upsampled.wav.json").read_text())["settings"]["seed"] == 5


def test_update_of_what_failed_queues_it_again_and_of_what_is_done_only_where_it_may_be_made(person: Person) -> None:
    a, bad = person.record("a.wav", "b.wav")
    bad.write_bytes(b"no sound")
    person.run("enqueue", a, bad)
    person.work()
    assert person.job(2).state is State.FAILED
    said = person.run("enqueue", a, bad, "--seed", 3, "--update")
    assert "it is done: add --overwrite" in said.out
    assert (person.job(1).state, seed(person, 1)) == (State.DONE, 0)
    assert (person.job(2).state, seed(person, 2), person.job(2).error) == (State.QUEUED, 3, None)
    before = (person.folder / "a_upsampled.wav").read_bytes()
    person.run("enqueue", a, "--seed", 3, "--update", "--overwrite")
    person.work()
    assert person.job(1).state is State.DONE
    assert (person.folder / "a_upsampled.wav").read_bytes() != before
    assert not list(person.folder.glob("a.wav_upsampled*"))


def test_a_job_in_flight_keeps_its_settings_and_that_is_said(person: Person) -> None:
    (a,) = person.record("a.wav")
    person.run("enqueue", a)
    with open_queue(person.db) as queue, queue.join() as worker:
        job = queue.claim(worker, rig.BACKEND)
        assert job is not None
        assert "a worker has it in hand" in person.run("enqueue", a, "--seed", 5, "--update").out
        assert "in a worker's hands, and are finished" in person.run("edit", 1, "--profile", "speech").err
        assert "in a worker's hands" in person.run("forget", 1, "--yes", code=3).err
        queue.release(job)
    assert seed(person, 1) == 0


def test_what_is_done_and_whose_output_is_gone_is_done_again_but_not_where_its_folder_is_gone_too(
    person: Person,
) -> None:
    a, b = person.record("a.wav", "b.wav")
    person.run("enqueue", a, b, "--out", person.folder / "out")
    person.work()
    first = (person.folder / "out" / "a_upsampled.wav").read_bytes()
    (person.folder / "out" / "a_upsampled.wav").unlink()
    again = ("enqueue", a, b, "--out", person.folder / "out")
    dry = person.run(*again, "--dry-run", "--json").documents
    assert [one.get("outcome") for one in dry] == ["done again", "already done", "summary"]
    assert person.job(1).state is State.DONE, "a dry run writes nothing"
    said = person.run(*again)
    assert "done again" in said.out
    assert (person.job(1).state, person.job(2).state) == (State.QUEUED, State.DONE)
    person.work()
    assert (person.folder / "out" / "a_upsampled.wav").read_bytes() == first
    (person.folder / "out").rename(person.folder / "away")
    assert "gone, with its folder" in person.run(*again).out
    assert person.job(1).state is State.DONE


def test_a_dry_run_invents_no_numbers_and_counts_what_will_fail_by_code(person: Person) -> None:
    a, bad = person.record("a.wav", "bad.wav")
    bad.write_bytes(b"no sound")
    documents = person.run("enqueue", a, bad, a.parent / "." / "a.wav", "--dry-run", "--json").documents
    assert all(one["id"] is None for one in documents if "id" in one)
    assert documents[-1]["summary"]["will_fail"] == {"input.format": 1}
    assert documents[-1]["summary"]["outcomes"] == {"queued": 2}
    assert "1 will fail as it looks (1 input.format)" in person.run("enqueue", a, bad, "--dry-run").err
    assert not person.db.exists()


def test_edit_gives_waiting_and_failed_jobs_another_profile_and_folder_and_no_two_the_same_output(
    person: Person,
) -> None:
    a, b, c, bad = person.record("x/a.wav", "y/a.wav", "x/c.wav", "x/bad.wav")
    bad.write_bytes(b"no sound")
    person.run("enqueue", a, b, "--batch", "waiting", "--priority", -1)
    person.run("enqueue", c, bad)
    person.work(options=rig.dataclasses.replace(rig.OPTIONS, limit=2))
    assert [person.job(n).state for n in (1, 2, 3, 4)] == [State.QUEUED, State.QUEUED, State.DONE, State.FAILED]
    out = person.folder / "out"
    said = person.run("edit", "1-4", "--profile", "speech", "--out", out, "--root", person.folder / "x", "--yes")
    assert "edited 3: #1 #2 #4" in said.out
    assert "are done" in said.err
    settings = Settings.from_json(person.job(1).settings)
    assert settings.lowpass == "auto"
    assert person.job(4).state is State.FAILED
    # y/a.wav lies beside the root: ../y, so each has a name of its own
    assert [person.job(n).output for n in (1, 2)] == [f"{out}/a_upsampled.wav", f"{person.folder}/y/a_upsampled.wav"]
    person.run("edit", "2", "--out", out, "--root", person.folder / "y")
    assert person.job(2).output == f"{out}/a.wav_upsampled.wav"
    assert "edited 0" in person.run("edit", "2", "--out", out, "--root", person.folder / "y").out
    person.work()
    assert sorted(path.name for path in out.glob("*.wav")) == ["a.wav_upsampled.wav", "a_upsampled.wav"]
    with open_queue(person.db) as queue:
        assert queue.check() == []


def test_edit_to_what_another_job_does_already_is_refused(person: Person) -> None:
    (a,) = person.record("a.wav")
    person.run("enqueue", a)
    person.run("enqueue", a, "--out", person.folder / "out")
    said = person.run("edit", 1, "--out", person.folder / "out")
    assert "what another job does already" in said.err
    assert person.job(1).output == str(person.folder / "a_upsampled.wav")


def test_windows_of_the_settings_before_do_not_count(person: Person) -> None:
    (a,) = person.record("a.wav", seconds=2)
    person.run("enqueue", a)

    with open_queue(person.db) as queue, queue.join() as worker:
        job = queue.claim(worker, rig.BACKEND)
        assert job is not None
        queue.progress(job, 3, 9)
        queue.release(job)
    assert person.job(1).windows_done == 3
    before = person.job(1).scratch_name
    person.run("edit", 1, "--profile", "speech")
    after = person.job(1)
    assert (after.windows_done, after.windows_total, after.variant) == (0, None, None)
    assert after.scratch_name != before


def test_forget_asks_takes_rows_and_history_and_leaves_files_and_numbers(person: Person) -> None:
    a, b = person.record("a.wav", "b.wav")
    person.run("enqueue", a, b)
    person.work()
    assert "forget 1 job, whose files stay? Nobody is there" in person.run("forget", 2, code=2).err
    assert "forgotten 1: #2" in person.run("forget", 2, "--yes").out
    assert (person.folder / "b_upsampled.wav").exists()
    assert [one["id"] for one in person.run("list", "--json").documents] == [1]
    person.run("enqueue", b)
    assert person.job(3).source == str(b), "a number is never given twice"
    assert "there is no job 2" in person.run("forget", 2, "--yes", code=2).err
    assert "nothing is named" in person.run("forget", "--yes", code=2).err
    with open_queue(person.db) as queue:
        assert queue.check() == []
        assert queue.events(2) == []


def test_a_worker_that_still_holds_a_forgotten_claim_changes_no_later_job(person: Person) -> None:
    a, b = person.record("a.wav", "b.wav")
    person.run("enqueue", a)
    with open_queue(person.db) as queue, queue.join() as worker:
        old = queue.claim(worker, rig.BACKEND)
        assert old is not None
        queue.cancel([1])
        assert queue.forget([1]) == [1]
        person.run("enqueue", b)
        new = queue.claim(worker, rig.BACKEND)
        assert new is not None
        assert new.id != old.id
        with pytest.raises(ClaimLost):
            queue.finish(old, Result("0" * 64, 1))
        queue.release(new)


@pytest.mark.parametrize("command", ["list", "retry", "cancel", "edit", "forget"])
def test_misspelled_states_and_codes_are_answered_with_the_nearest(person: Person, command: str) -> None:
    (a,) = person.record("a.wav")
    person.run("enqueue", a)
    more = {"edit": ("--priority", "1"), "forget": ("--yes",), "cancel": ("--yes",)}.get(command, ())
    assert "Did you mean 'failed'?" in person.run(command, "--state", "faild", *more, code=2).err
    assert "did you mean 'input.format'?" in person.run(command, "--error", "input.fromat", *more, code=2).err
    assert "no error has the code 'xyz.*'" in person.run(command, "--error", "xyz.*", *more, code=2).err
    person.run(command, "--error", "input.*", *more)
    person.run(command, "--state", "held", *more)


def test_a_hot_folder_with_another_profile_says_what_it_leaves_as_it_is(tmp_path: Path) -> None:
    program = Program(tmp_path)
    rig.record(tmp_path / "in" / "a.wav", 0.3)
    program.run("watch", "in", "--once", "--settle", "0")
    again = program.run("watch", "in", "--once", "--settle", "0", "--profile", "speech")
    assert "1 file is known with other settings" in again.stderr
    assert len(program.jobs()) == 1


def test_where_no_named_job_is_there_nothing_is_said_to_be_done(person: Person) -> None:
    person.run("enqueue", *person.record("a.wav"))
    for words in (("retry",), ("cancel",), ("edit", "--priority", "3"), ("undo", "--yes"), ("forget", "--yes")):
        for names in (("99",), ("98-99",)):
            said = person.run(*words, *names, code=2)
            assert said.out == "", words
            assert "99" in said.err
    for command in ("list", "cancel"):
        assert "'1-'" in person.run(command, "1-", code=2).err
    assert person.job(1).state is State.QUEUED


def test_where_nothing_is_done_nothing_is_called_verified(person: Person) -> None:
    person.run("enqueue", *person.record("a.wav"))
    assert "nothing was verified" in person.run("verify").err
    assert "there is no job 7" in person.run("verify", "7", code=2).err
    assert "there is no job 7" in person.run("verify", "1", "7", code=2).err


def test_a_selection_that_means_no_job_is_answered_with_a_sentence(person: Person) -> None:
    person.run("enqueue", *person.record("a.wav"))
    for words in (("--path", "nosuch"), ("--state", "failed"), ("--error", "input.*")):
        said = person.run("list", *words)
        assert (said.out, said.err) == ("", "no job is meant by that\n")
    assert person.run("list", "--state", "failed", "--json").out == ""
    person.run("forget", "1", "--yes")
    assert person.run("list").err == "the queue holds no job\n"


def test_an_empty_path_as_of_a_variable_that_nobody_set_is_no_folder(person: Person) -> None:
    (a,) = person.record("a.wav")
    for words in (
        ("enqueue", a, "--out", ""),
        ("run", a, "--out", ""),
        ("run", a, "--report", ""),
        ("undo", "1", "--into", ""),
    ):
        assert "empty" in person.run(*words, code=2).err
    assert not person.db.exists()


def test_a_file_where_the_output_folder_would_be_is_told_when_it_is_enqueued(person: Person) -> None:
    a, b = person.record("a.wav", "b.wav")
    (person.folder / "link").symlink_to(person.folder / "nowhere")
    for out in (b, b / "deep" / "er", person.folder / "link" / "x"):
        for words in ((), ("--dry-run",)):
            said = person.run("enqueue", a, "--out", out, *words, code=3)
            assert "output.closed" in said.err
            assert "choose another one with --out" in said.out


def test_a_folder_in_whose_way_a_file_stands_is_refused_where_jobs_and_hot_folders_get_it(person: Person) -> None:
    a, b = person.record("a.wav", "b.wav")
    person.run("enqueue", a)
    (inbox := person.folder / "in").mkdir()
    for folder in (b, b / "deep"):
        assert "is no folder" in person.run("edit", "1", "--out", folder, code=2).err
        for option in ("--out", "--done", "--failed"):
            told = person.run("watch", inbox, "--once", option, folder, code=2).err
            assert f"{option} {folder}" in told
    assert person.job(1).output == str(person.folder / "a_upsampled.wav")
