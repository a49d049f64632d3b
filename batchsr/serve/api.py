"""For programs: the command line's JSON under /api/v1, figures for Prometheus, and whether the server lives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from batchsr.errors import ConfigError, UsageError
from batchsr.report import answers
from batchsr.report.answers import as_line
from batchsr.serve.source import Overview, Source
from batchsr.serve.stream import Changes
from batchsr.serve.wanted import Wanted

MOST_ROWS: Final = 1_000
_LINES: Final = "application/x-ndjson"


class Api:
    """Answers programs."""

    def __init__(self, source: Source, changes: Changes) -> None:
        self._source = source
        self._changes = changes

    def status(self, request: Request) -> Response:
        """Answer as `batchsr status --json` does; with `batch` as with --batch."""
        batch = request.query_params.get("batch")
        if batch is None:
            return _lines(self._source.overview().status)
        with self._source.queue() as queue:
            if not any(queue.counts(batch).values()):
                raise UsageError(f"there is no batch {batch!r}")
            return _lines(answers.status_of(queue, batch))

    def jobs(self, request: Request) -> Response:
        """Answer as `batchsr list --json` does, a page at a time; the header Link has the address of the next."""
        wanted = Wanted.of(request.query_params)
        try:
            limit = int(request.query_params.get("limit", "100"))
        except ValueError:
            limit = 0
        if not 1 <= limit <= MOST_ROWS:
            raise ConfigError(f"a page has 1 to {MOST_ROWS:,} rows", remedy="say limit=100")
        after = request.query_params.get("after", "")
        with self._source.queue() as queue:
            page = queue.browser.page(
                wanted.filter, sort=wanted.sort, descending=wanted.descending, after=after, limit=limit
            )
        made = _lines(*(job.to_dict() for job in page.jobs))
        if page.after is not None:
            rest = "&".join(filter(None, [wanted.query(), f"limit={limit}", f"after={page.after}"]))
            made.headers["Link"] = f'<?{rest}>; rel="next"'
        return made

    def job(self, request: Request) -> Response:
        """Answer as `batchsr show --json` does."""
        number = request.path_params["number"]
        with self._source.queue() as queue:
            job = queue.get(number) if 0 <= number < 2**63 else None
            if job is None:
                raise UsageError(f"there is no job {number}")
            return _lines({**job.to_dict(), "attempts_made": queue.attempts(number), "events": queue.events(number)})

    def metrics(self, request: Request) -> Response:
        """Answer with figures in Prometheus's text form."""
        text = "".join(_metrics(self._source.overview(), self._changes.listeners))
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    def health(self, request: Request) -> Response:
        """Answer whether the queue can be read."""
        with self._source.queue() as queue:
            queue.paused()
        return PlainTextResponse("ok\n")


def _lines(*documents: Mapping[str, object]) -> Response:
    return Response("".join(as_line(one) + "\n" for one in documents), media_type=_LINES)


def _metrics(found: Overview, listeners: int) -> Iterator[str]:
    status = found.status

    def family(name: str, about: str, values: Mapping[str, float], label: str = "") -> Iterator[str]:
        yield f"# HELP batchsr_{name} {about}\n# TYPE batchsr_{name} gauge\n"
        for key, value in values.items():
            labelled = f'{{{label}="{_quoted(key)}"}}' if label else ""
            yield f"batchsr_{name}{labelled} {value}\n"

    yield from family("jobs", "Files by state.", status["jobs"], "state")
    yield from family("audio_seconds", "Seconds of audio by state.", status["audio_s"], "state")
    failed = {kind.code or "unknown": float(kind.jobs) for kind in found.failures}
    yield from family("failed_jobs", "Failed and quarantined files by the error's code.", failed, "code")
    yield from family("held_jobs", "Queued files that wait for a place in trouble.", {"": status["held"]})
    yield from family("paused", "1 while nothing is claimed.", {"": int(status["paused"])})
    yield from family("workers", "Living workers.", {"": len({one["id"] for one in status["workers"]})})
    hung = len({one["id"] for one in status["workers"] if one["hung"]})
    yield from family("workers_hung", "Workers that made no window for far too long.", {"": hung})
    if found.rtf is not None:
        yield from family("rtf", "Seconds of work for a second of one channel, by the latest work.", {"": found.rtf})
    if found.left_s is not None:
        yield from family("left_seconds", "Seconds of work left at that speed.", {"": round(found.left_s, 1)})
    yield from family("serve_streams", "Pages that listen for changes.", {"": listeners})


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
