"""Taking jobs in: the same work once, each output for one job, any file name."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import rig
from hypothesis import given
from hypothesis import strategies as st

from batchsr.queue import Job, Outcome, Queue, Result, State
from batchsr.queue.job import exact_key, folded_key, loaded_path, stored_path
from batchsr.queue.opening import open_queue, preview_of

RESULT = Result("ab" * 32, 1000)


def take(queue: Queue, *jobs: rig.NewJob) -> list[str]:
    return [str(answer.outcome) for answer in queue.enqueue(jobs)]


def outputs(queue: Queue) -> list[str]:
    return [job.output for job in queue.jobs()]


def finish(queue: Queue) -> Job:
    with queue.join() as worker:
        job = queue.claim(worker, rig.BACKEND)
        assert job is not None
        queue.committing(job, RESULT)
        return queue.finish(job)


def test_the_same_work_twice_is_one_job(queue: Queue) -> None:
    assert take(queue, rig.new_job(), rig.new_job()) == ["queued", "already queued"]
    assert take(queue, rig.new_job()) == ["already queued"]
    assert len(list(queue.jobs())) == 1


def test_what_is_done_stays_done(queue: Queue) -> None:
    take(queue, rig.new_job())
    finish(queue)
    assert take(queue, rig.new_job()) == ["already done"]


@pytest.mark.parametrize("how", ["failed", "cancelled", "quarantined"])
def test_what_was_given_up_needs_retry_and_the_answer_says_so(queue: Queue, how: str) -> None:
    take(queue, rig.new_job())
    if how == "cancelled":
        queue.cancel([1])
    elif how == "failed":
        with queue.join() as worker:
            queue.fail(queue.claim(worker, rig.BACKEND), "input.format", "not audio")
    else:
        for _ in range(3):
            die_with_a_claim(queue)
    (answer,) = queue.enqueue([rig.new_job()])
    assert (answer.outcome, answer.state, answer.job_id) == (Outcome.NEEDS_RETRY, State(how), 1)


def die_with_a_claim(queue: Queue) -> None:
    worker = queue.join()
    assert queue.claim(worker, rig.BACKEND) is not None
    worker._lock.release()  # what the kernel does when a process ends
    queue.reap()


def test_other_settings_for_the_same_output_are_told_and_make_no_second_job(queue: Queue) -> None:
    other = rig.new_job(settings=rig.Settings(seed=1).to_json())
    assert take(queue, rig.new_job(), other) == ["queued", "other settings"]
    assert outputs(queue) == ["/archive/a_upsampled.wav"]
    queue.cancel([1])
    assert take(queue, other) == ["queued"], "nobody wants the cancelled one"


def test_other_settings_for_another_output_are_another_job_that_names_the_first(queue: Queue) -> None:
    other = rig.new_job(settings=rig.Settings(seed=1).to_json(), output="/elsewhere/a.wav")
    answers = list(queue.enqueue([rig.new_job(), other]))
    assert [(str(one.outcome), one.beside) for one in answers] == [("queued", None), ("queued", 1)]


def test_two_inputs_never_get_one_output_even_if_names_differ_in_case_or_composition_alone(queue: Queue) -> None:
    def clash(extension: str, output: str) -> rig.NewJob:
        return rig.new_job(source=f"/archive/a.{extension}", output=output, identity=extension)

    composed, decomposed = "/archive/caf\u00e9.wav", "/archive/cafe\u0301.wav"
    take(queue, rig.new_job(), clash("flac", "/archive/a_upsampled.wav"), clash("aiff", "/archive/A_UPSAMPLED.wav"))
    take(queue, clash("mp3", composed), clash("ogg", decomposed))
    assert outputs(queue) == [
        "/archive/a_upsampled.wav",
        "/archive/a.wav_upsampled.wav",
        "/archive/a.wav_upsampled_2.wav",
        composed,
        "/archive/a.wav_upsampled_3.wav",
    ]


def test_a_name_of_a_source_is_never_taken_for_an_output(queue: Queue) -> None:
    take(queue, rig.new_job("a_upsampled"), rig.new_job("a"))
    assert outputs(queue) == ["/archive/a_upsampled_upsampled.wav", "/archive/a.wav_upsampled.wav"]


def test_our_own_output_is_not_restored_again(queue: Queue) -> None:
    assert take(queue, rig.new_job("a"), rig.new_job("a_upsampled")) == ["queued", "is our own output"]
    assert queue.is_output("/archive/a_upsampled.wav")
    assert not queue.is_output("/archive/A_upsampled.wav"), "on a case-sensitive file system that is another file"
    assert not queue.is_output("/archive/a.wav")


def test_an_output_is_known_by_another_name_of_the_same_file(queue: Queue, tmp_path: Path) -> None:
    real, link = tmp_path / "x_upsampled.wav", tmp_path / "X_upsampled.wav"
    real.touch()
    link.hardlink_to(real)  # as a case-insensitive file system shows one file under both names
    take(queue, rig.new_job(output=str(real)))
    assert queue.is_output(str(link))
    assert take(queue, rig.new_job("b", source=str(link))) == ["is our own output"]


def test_a_source_that_changed_supersedes_its_unfinished_job_and_takes_its_output(queue: Queue) -> None:
    take(queue, rig.new_job())
    assert take(queue, rig.new_job(identity="changed")) == ["superseding"]
    assert [(job.state, job.output) for job in queue.jobs()] == [
        (State.SUPERSEDED, "/archive/a_upsampled.wav"),
        (State.QUEUED, "/archive/a_upsampled.wav"),
    ]
    assert take(queue, rig.new_job()) == ["superseding"], "changed back: the superseded job does not count"


def test_a_source_that_changes_within_one_chunk_leaves_one_job(queue: Queue) -> None:
    assert take(queue, rig.new_job(), rig.new_job(identity="changed")) == ["queued", "superseding"]
    assert queue.counts()["queued"] == 1


def test_a_source_that_changed_after_it_was_done_does_not_replace_the_output_unasked(queue: Queue) -> None:
    take(queue, rig.new_job())
    finish(queue)
    assert take(queue, rig.new_job(identity="changed")) == ["queued"]
    assert queue.get(2).output == "/archive/a.wav_upsampled.wav"
    assert take(queue, rig.new_job(identity="again", overwrite=True)) == ["superseding"]
    assert queue.get(3).output == "/archive/a_upsampled.wav"
    assert queue.get(1).state is State.SUPERSEDED


def test_a_cancelled_job_whose_name_went_to_another_comes_back_under_a_new_one(queue: Queue) -> None:
    take(queue, rig.new_job())
    queue.cancel([1])
    take(queue, rig.new_job(source="/archive/a.flac", identity="flac"))
    assert queue.get(2).output == "/archive/a_upsampled.wav"
    assert queue.retry([1]) == [1]
    assert queue.get(1).output == "/archive/a_upsampled_2.wav"


def test_a_preview_says_what_enqueue_would_say_and_writes_nothing(queue: Queue) -> None:
    take(queue, rig.new_job("a"))
    jobs = [rig.new_job(name) for name in ("a", "b", "b", "b_upsampled")] + [rig.new_job("a", identity="changed")]
    before = list(queue.jobs())
    said = list(queue.preview(jobs))
    assert list(queue.jobs()) == before
    assert said == list(queue.enqueue(jobs))


def test_a_preview_needs_no_database_and_makes_none(tmp_path: Path) -> None:
    with preview_of(tmp_path / "folder" / "queue.db") as queue:
        assert take(queue, rig.new_job()) == ["queued"]
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_locked_while_the_next_job_is_being_looked_for(queue: Queue, tmp_path: Path) -> None:
    def slowly() -> list[rig.NewJob]:
        for number in range(3):
            with open_queue(tmp_path / "queue.db") as other:
                other.pause(f"written while {number} was probed")
            yield rig.new_job(f"n{number}")

    assert len(list(queue.enqueue(slowly()))) == 3


@pytest.mark.parametrize(
    "name",
    [
        b"/a/plain.wav",
        "/a/Fl\u00fcstern \U0001f3b5.wav".encode(),
        b"/a/\xff\xfe latin.wav",
        b"/a/line\nbreak\ttab.wav",
        b"/a/'; --.wav",
    ],
)
def test_any_file_name_comes_back_byte_for_byte(queue: Queue, name: bytes) -> None:
    source, output = os.fsdecode(name), os.fsdecode(name + b"_up.wav")
    take(queue, rig.new_job(source=source, output=output))
    job = queue.get(1)
    assert (os.fsencode(job.source), os.fsencode(job.output)) == (name, name + b"_up.wav")
    assert queue.is_output(output)
    assert take(queue, rig.new_job(source=source, output=output)) == ["already queued"]


@given(st.binary(min_size=1).filter(lambda raw: b"\0" not in raw))
def test_every_path_is_stored_and_loaded_and_keyed(raw: bytes) -> None:
    path = os.fsdecode(raw)
    assert loaded_path(stored_path(path)) == path
    assert exact_key(path) == exact_key(os.fsdecode(raw))
    assert folded_key(path) == folded_key(path)


@given(st.text(max_size=20), st.text(max_size=20))
def test_names_fold_together_only_if_some_file_system_folds_them(one: str, other: str) -> None:
    import unicodedata

    def plain(text: str) -> str:
        return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())

    assert (folded_key(one) == folded_key(other)) == (plain(one) == plain(other))


def test_inode_numbers_beyond_63_bits_survive(queue: Queue) -> None:
    take(queue, rig.new_job(inode=2**64 - 5, device=2**63))
    assert queue.get(1).inode == 2**64 - 5


def test_ten_thousand_paths_take_a_few_seconds(queue: Queue) -> None:
    count = 10_000  # timed by what this process uses, whatever else the machine does
    began = time.process_time()
    assert (
        sum(answer.outcome is Outcome.QUEUED for answer in queue.enqueue(rig.new_job(str(n)) for n in range(count)))
        == count
    )
    assert time.process_time() - began < 4.0
    assert queue.counts()["queued"] == count
