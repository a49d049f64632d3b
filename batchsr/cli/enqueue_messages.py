"""What `enqueue` tells of each path: what became of it, and why."""

from __future__ import annotations

import os

from batchsr.cli.app import App
from batchsr.intake import known_files, walk
from batchsr.queue import OWNED, Answer, Outcome
from batchsr.remote.address import is_url

TO_DO = (Outcome.QUEUED, Outcome.SUPERSEDING, Outcome.UPDATED, Outcome.DONE_AGAIN)
_REFUSED = {
    Answer.IN_HAND: "a worker has it in hand, and finishes it as it was asked for",
    Answer.DONE: "it is done: add --overwrite to make it anew, or --out to make another beside it",
    Answer.TWIN: "another job does that already",
    Answer.GONE: "it went away meanwhile",
    Answer.OVER: "it is cancelled or superseded",
}
"""Why a job keeps its settings."""


def _note(settled: known_files.SettledIntake) -> str:
    """Return what a person should know of one path that the queue knows already."""
    answer = settled.intake.enqueued
    if answer.outcome is Outcome.ALREADY_DONE and not is_url(answer.output) and not os.path.lexists(answer.output):
        return f"its output is gone, with its folder: `batchsr retry --redo {answer.job_id}` makes it again"
    if answer.outcome is Outcome.DONE_AGAIN:
        return "its output is gone"
    if answer.outcome is Outcome.UPDATED:
        return "it has these settings already" if settled.answer is Answer.UNCHANGED else "takes the settings given now"
    if answer.outcome is Outcome.OTHER_SETTINGS:
        if settled.answer is not None:
            return _REFUSED[settled.answer]
        how = "in a worker's hands" if answer.state in OWNED else str(answer.state)
        gone = ", its output is gone" if known_files.is_gone(settled.intake) else ""
        return f"it is {how} with other settings{gone}; --update gives it these"
    if answer.beside is not None:
        return "another job restores it as well, to another output"
    return ""


def tell_taken(app: App, settled: known_files.SettledIntake, told_of_priority: str, *, is_known: bool) -> None:
    taken = settled.intake
    answer, job = taken.enqueued, taken.job
    is_new = answer.outcome in TO_DO
    number = answer.job_id if is_known else None
    note = "; ".join(filter(None, (told_of_priority, _note(settled), job.note)))
    document = {
        "source": job.source,
        "outcome": str(answer.outcome),
        "id": number,
        "state": str(answer.state) if answer.state else None,
        "output": answer.output,
        "audio_s": job.audio_s,
        "note": note,
    }
    told = f"#{number}" if number is not None else "-"
    arrow = f" -> {answer.output}" if is_new else ""
    app.answer(document, f"{answer.outcome!s:<16} {told:<6} {job.source}{arrow}{f'  ({note})' if note else ''}")


def tell_refused(app: App, one: walk.Refused) -> None:
    app.answer(
        {"source": one.path, "outcome": "refused", "id": None, "error_code": one.code, "error": one.message},
        f"{'refused':<16} {'-':<6} {one.message}",
    )
