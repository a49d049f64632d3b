"""Files that the queue knows already: to be restored otherwise, or done and their output gone."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from typing import Final

from batchsr.intake.gather import Intake
from batchsr.intake.instructions import instructions_of
from batchsr.queue import Answer, Enqueued, Outcome, Queue, State
from batchsr.remote.address import is_url

_AT_ONCE: Final = 500


@dataclasses.dataclass(frozen=True, slots=True)
class SettledIntake:
    """What became of one path in the end."""

    intake: Intake
    answer: Answer | None = None
    """Of the job that took, or could not take, other settings."""


def settled(queue: Queue, taken: Iterable[Intake], *, update: bool) -> Iterator[SettledIntake]:
    """Yield the answers with what was done about files that are known.

    A job that is done and whose output is gone is queued again, but not where the output's folder is gone as well: that
    is rather a share that is away. With `update` a job of the same source and output takes the settings asked for: a
    queued one stays queued, a failed one and one whose output is gone (or may be overwritten) is queued again, one that
    is in hand or done stays as it is. Answers come in order, some hundreds at once where something is to be written.
    """
    waiting: list[Intake] = []
    for one in taken:
        waiting.append(one)
        if len(waiting) >= _AT_ONCE:
            yield from _settle(queue, waiting, update=update)
            waiting.clear()
    yield from _settle(queue, waiting, update=update)


def _settle(queue: Queue, some: list[Intake], *, update: bool) -> Iterator[SettledIntake]:
    gone = [one.enqueued.job_id for one in some if one.enqueued.outcome is Outcome.ALREADY_DONE and is_gone(one)]
    again = set(queue.retry([number for number in gone if number is not None], redo=True)) if gone else set()
    wanted = [one for one in some if update and one.enqueued.outcome is Outcome.OTHER_SETTINGS]
    asked = [
        instructions_of(one.enqueued.job_id, one.job, again=_may_be_made(one))
        for one in wanted
        if one.enqueued.job_id is not None
    ]
    answers = {answer.job_id: answer for answer in queue.instruct(asked)} if asked else {}
    for one in some:
        enqueued = one.enqueued
        if enqueued.job_id in again and enqueued.outcome is Outcome.ALREADY_DONE:
            yield SettledIntake(dataclasses.replace(one, enqueued=_became(enqueued, Outcome.DONE_AGAIN)))
        elif enqueued.outcome is Outcome.OTHER_SETTINGS and enqueued.job_id in answers:
            answer = answers[enqueued.job_id]
            if answer.answer in (Answer.CHANGED, Answer.UNCHANGED):
                became = dataclasses.replace(_became(enqueued, Outcome.UPDATED), output=answer.output)
                yield SettledIntake(dataclasses.replace(one, enqueued=became), answer.answer)
            else:
                yield SettledIntake(one, answer.answer)
        else:
            yield SettledIntake(one)


def is_gone(one: Intake) -> bool:
    """Return whether the output of a job that is done is gone, though its folder is there. In a store `verify` looks,
    since asking for each of 100,000 takes long."""
    output, state = one.enqueued.output, one.enqueued.state
    if is_url(output):
        return False
    return state is State.DONE and not os.path.lexists(output) and os.path.isdir(os.path.dirname(output))


def _may_be_made(one: Intake) -> bool:
    """Return whether an output may be made by the new settings: none stands there, or it may be overwritten."""
    return one.enqueued.state is not State.DONE or one.job.overwrite or is_gone(one)


def _became(enqueued: Enqueued, outcome: Outcome) -> Enqueued:
    return dataclasses.replace(enqueued, outcome=outcome, state=State.QUEUED)
