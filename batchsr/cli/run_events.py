"""The events of a whole run of `work`: what its listener is, how it began and how it ended."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from batchsr.cli.app import App
from batchsr.errors import EXIT_OK, BatchsrError
from batchsr.queue import Queue
from batchsr.report.events import Events
from batchsr.report.live import Screen


@contextlib.contextmanager
def events_of_run(
    app: App, queue: Queue, screen: Screen, workers: int, *, supervised: bool
) -> Iterator[Screen | Events]:
    """Give the listener of the run: the screen, with events beside it where they are wanted.

    The first event tells what there is to do, the last how it ended, by whichever way that comes.
    """
    if not (app.json or supervised):
        yield screen
        return
    events = Events(screen, app.emit, wall=queue.clock.wall, steady=queue.clock.steady)
    if supervised:
        yield events
        return
    events.event("began", database=app.database, workers=workers, jobs=queue.counts())
    exit_code, error = EXIT_OK, None
    try:
        yield events
    except SystemExit as e:
        exit_code = e.code if isinstance(e.code, int) else int(e.code is not None)
        raise
    except BatchsrError as e:
        exit_code, error = e.exit_code, e
        raise
    except BaseException:
        exit_code = 1
        raise
    finally:
        progress = screen.progress
        jobs: Mapping[str, int] | None = None
        with contextlib.suppress(BatchsrError):
            jobs = queue.counts()
        events.event(
            "ended",
            exit_code=exit_code,
            error_code=error.code if error else None,
            error=str(error) if error else None,
            done=progress.done_here,
            failed=progress.failed_here,
            released=progress.released_here,
            audio_s=progress.audio_done_here_s,
            wall_s=progress.wall_s,
            jobs=jobs,
        )
