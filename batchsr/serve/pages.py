"""The pages for people. Nothing here changes anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from batchsr.errors import BatchsrError, UsageError
from batchsr.queue import LIVE, Job, State
from batchsr.remote.address import path_of
from batchsr.report import about, record
from batchsr.report.facts import facts
from batchsr.serve import files
from batchsr.serve.hearing import WORDS, Hearing
from batchsr.serve.render import Renderer
from batchsr.serve.source import Source
from batchsr.serve.wanted import SORTS, STATES, Wanted

ROWS: Final = 100
_LIVE: Final = tuple(map(str, LIVE))
_FAILED: Final = (str(State.FAILED), str(State.QUARANTINED))


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """How far a batch is."""

    name: str
    files: int
    done: int
    failed: int
    left: int
    share: int
    """Of the audio that is to be restored, what is, in percent."""
    left_audio_s: float


class Pages:
    """Answers with pages."""

    def __init__(self, source: Source, renderer: Renderer, hearing: Hearing) -> None:
        self._source = source
        self._render = renderer
        self._hearing = hearing

    def overview(self, request: Request) -> Response:
        """Return what is going on, what is in the way, what failed, and when all of it is done."""
        found = self._source.overview()
        return self._render.page(request, "overview.html", found=found, jobs=found.status["jobs"], live=_LIVE)

    def files(self, request: Request) -> Response:
        """Return the list of files: searched, filtered, sorted, a page at a time."""
        wanted = Wanted.of(request.query_params)
        with self._source.queue() as queue:
            page = queue.browser.page(
                wanted.filter,
                sort=wanted.sort,
                descending=wanted.descending,
                after=request.query_params.get("after", ""),
                limit=ROWS,
            )
            count = queue.browser.count(wanted.filter)
        found = self._source.overview()
        return self._render.page(
            request,
            "files.html",
            wanted=wanted,
            page=page,
            count=count,
            first="after" not in request.query_params,
            states=STATES,
            sorts=SORTS,
            batches=list(found.batches),
            kinds=found.failures,
        )

    def file(self, request: Request) -> Response:
        """Show one file: facts, history, pictures, sound, sidecar."""
        with self._source.queue() as queue:
            job = self._job(request)
            document = {
                **job.to_dict(),
                "attempts_made": queue.attempts(job.id),
                "events": queue.events(job.id),
            }
        trouble, report = "", dict[str, Any]()
        if job.state is State.DONE:
            try:
                report = dict(record.report_of(path_of(job.output), job))
            except (BatchsrError, OSError) as e:
                trouble = str(e)
        return self._render.page(
            request,
            "file.html",
            job=job,
            sections=about.sections(document, {}),
            what_state=about.state_in_words(document),
            facts=list(facts(report)),
            report=report,
            trouble=trouble,
            can_hear=job.state is State.DONE,
        )

    def batches(self, request: Request) -> Response:
        """Return the batches, and how far each is."""
        found = self._source.overview()
        batches = [_batch(name, totals) for name, totals in found.batches.items()]
        return self._render.page(request, "batches.html", batches=batches)

    def workers(self, request: Request) -> Response:
        """Return the workers, their machines and what each has in hand."""
        return self._render.page(request, "workers.html", found=self._source.overview())

    def heard(self, request: Request) -> Response:
        """Return what the player of one file needs; the clips are addresses of their own."""
        job = self._job(request)
        made = {key: value for key, value in self._hearing.of(job).items() if key != "clips"}
        made["addresses"] = {word: f"{self._render.prefix}/files/{job.id}/clips/{word}.ogg" for word in WORDS}
        return JSONResponse(made)

    def clip(self, request: Request) -> Response:
        """Send one clip, whole or in ranges."""
        word = request.path_params["word"]
        if word not in WORDS:
            raise UsageError("there is no such clip")
        data = self._hearing.clip(self._job(request), word)
        headers = {"Content-Type": "audio/ogg", "Accept-Ranges": "bytes"}
        return files.span_answer(data, len(data), request.headers.get("range"), headers)

    def sound(self, request: Request) -> Response:
        """Return the recording or its restoration, whole or in ranges."""
        side = request.path_params["side"]
        if side not in ("source", "output"):
            raise UsageError("there is no such sound")
        return files.answer(self._job(request), side, request.headers.get("range"))

    def _job(self, request: Request) -> Job:
        """Return the job that the address names. Raises UsageError where there is none."""
        number = request.path_params["number"]
        with self._source.queue() as queue:
            job = queue.get(number) if 0 <= number < 2**63 else None
        if job is None:
            raise UsageError(f"there is no file {number}", remedy="the list of files shows those there are")
        return job


def _batch(name: str, totals: Mapping[str, Mapping[str, float]]) -> Batch:
    def jobs(*states: str) -> int:
        return sum(int(totals.get(state, {}).get("jobs", 0)) for state in states)

    done_s = float(totals.get("done", {}).get("audio_s", 0.0))
    left_s = sum(float(totals.get(state, {}).get("audio_s", 0.0)) for state in _LIVE)
    done, left = jobs("done"), jobs(*_LIVE)
    share = done_s / (done_s + left_s) if done_s + left_s else done / (done + left) if done + left else 1.0
    return Batch(name, jobs(*totals), done, jobs(*_FAILED), left, int(100 * share), left_s)
