"""What a person sees while files are restored. rich lives here.

`Screen` keeps a `Progress` up to date from what a worker tells it. On a terminal it draws it under the messages, which
stay; elsewhere it prints one plain line for each file that ends, and one a minute for a file that takes long.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Protocol, Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from batchsr.display import clock, printable
from batchsr.report.progress import Finished, InFlight, Progress, closing, line, picture, wrapped

_FILES_SHOWN: Final = 4
_OTHER_LINES: Final = 8  # of a screen: the totals above the workers' lines, and a few of what was said before
_MOST_TOLD: Final = 64
_LINE_EVERY_S: Final = 60.0  # for a file that takes long, off a terminal


class JobView(Protocol):
    """What the screen shows of a job."""

    @property
    def id(self) -> int: ...
    @property
    def source(self) -> str: ...
    @property
    def output(self) -> str: ...
    @property
    def audio_s(self) -> float | None: ...
    @property
    def windows_done(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def wall_s(self) -> float | None: ...
    @property
    def error(self) -> str | None: ...
    @property
    def error_code(self) -> str | None: ...
    @property
    def remarks(self) -> Sequence[Mapping[str, str]]: ...


class TroubleView(Protocol):
    """What the screen shows of a place in trouble."""

    @property
    def path(self) -> str: ...


def screen_console(*, color: bool) -> Console:
    """Standard error, as wide as its terminal is: COLUMNS, which is often stale, is not asked."""
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    return Console(stderr=True, no_color=not color, highlight=False, _environ=environment)


class Picture:
    """The moving part of the screen, as wide as the terminal is when it is drawn."""

    def __init__(self, progress: Progress, now: Callable[[], float]) -> None:
        self._progress = progress
        self._now = now

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = max(_FILES_SHOWN, options.size.height - _OTHER_LINES) if self._progress.workers else _FILES_SHOWN
        for text in picture(self._progress, options.max_width, self._now(), files_shown=shown):
            yield Text(printable(text), no_wrap=True, overflow="crop")


class Screen:
    """Listens to a worker and shows what it does, on stderr.

    On a terminal it animates; elsewhere, or with `plain`, it prints lines. `now` is the clock, in seconds, that tests
    replace.
    """

    def __init__(
        self, console: Console, *, plain: bool = False, quiet: bool = False, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.console = console
        self.quiet = quiet
        self.progress = Progress()
        self._now = now
        self._told: set[str] = set()
        self._worker = 0
        self._live: Live | None = None
        if console.is_terminal and not plain and not quiet:
            self._live = Live(Picture(self.progress, now), console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the moving part away. What was said stays."""
        if self._live is not None:
            self._live.stop()

    def expect(
        self, files: int, audio_s: float, *, ended: Mapping[str, int] | None = None, ended_audio_s: float = 0.0
    ) -> None:
        """Take in how much there is to do, from the queue: files and audio left, and what earlier runs of the batch
        `ended` ("done", "failed": files)."""
        progress = self.progress
        if ended is not None and not progress.done_here and not progress.failed_here:
            progress.files_done, progress.files_failed = ended.get("done", 0), ended.get("failed", 0)
            progress.audio_ended_s = ended_audio_s
        progress.files_total = progress.files_done + progress.files_failed + files
        progress.audio_left_s = audio_s
        progress.audio_total_s = progress.audio_ended_s + audio_s

    def hears(self, worker: int) -> None:
        """Take what is told from now on as told by this worker, by its number from 1."""
        self._worker = worker
        self.progress.workers.setdefault(worker, "")

    def left(self, worker: int) -> None:
        """Take out a worker that ended: it and what it had in hand are no longer in sight."""
        self._tick()
        self.progress.workers.pop(worker, None)
        for file in [one for one in self.progress.in_flight.values() if one.worker == worker]:
            self.progress.audio_left_s += self.progress.in_flight.pop(file.id).left_s

    def phase(self, text: str) -> None:
        """Tell what goes on while no file moves; "" when it is over."""
        if self._worker:
            self.progress.workers[self._worker] = text
            return
        if text == self.progress.phase:
            return
        self.progress.phase, self.progress.phase_since_s = text, self._now()
        if text and self._live is None and not self.quiet:
            self._print(text)

    def claimed(self, job: JobView) -> None:
        """Tell that a worker begins, or goes on with, a file."""
        progress, now_s = self.progress, self._now()
        self._tick()
        progress.in_flight[job.id] = InFlight(
            job.id, job.source, job.audio_s, job.windows_done, job.windows_done, 0, self._worker, now_s, now_s
        )
        progress.audio_left_s = max(0.0, progress.audio_left_s - (job.audio_s or 0.0))
        self.phase("")
        self._told.clear()

    def windows(self, job: JobView, done: int, total: int) -> None:
        """Note that windows of a file are safe."""
        file = self.progress.in_flight.get(job.id)
        if file is None:  # what told of its beginning was lost on the way
            self.claimed(job)
            file = self.progress.in_flight[job.id]
        self._tick()
        if file.windows_total == 0:  # the first call says what the scratch held already
            file.windows_at_start = done
            if done and (job.windows_done or done < total):  # all at once: full-band, nothing was there before
                self._say(f"{'resuming':<11}  {_named(job)}  at window {done} of {total}")
        if (done, total) != (file.windows_done, file.windows_total):
            file.moved_at_s = self._now()
        file.windows_done, file.windows_total = done, total
        if self._live is None and (now_s := self._now()) - file.told_at_s >= _LINE_EVERY_S:
            file.told_at_s = now_s
            self._say(
                f"{file.phase:<11}  {_named(job)}  window {done} of {total}, "
                f"{clock(self.progress.seconds_left)} left for all files"
            )

    def done(self, job: JobView) -> None:
        """Tell that a file is restored."""
        if file := self._let_go(job):
            self.progress.audio_restored_s += file.restored_s
        note = "; ".join(f"{remark['message']} [{remark['code']}]" for remark in job.remarks)
        self._ended(Finished(job.id, job.source, "done", job.audio_s, job.wall_s, note))

    def failed(self, job: JobView) -> None:
        """Tell that a file will not be tried again by itself."""
        self._let_go(job)
        code = job.error_code or ""
        self._ended(Finished(job.id, job.source, str(job.state), job.audio_s, None, f"{job.error} [{code}]", code))

    def retrying(self, job: JobView, wait_s: float) -> None:
        """Tell that a file is tried again later."""
        self._let_go(job)
        self.message(f"trying #{job.id} again in {clock(wait_s)}: {job.error}")

    def released(self, job: JobView) -> None:
        """Tell that a file went back to the queue with its finished windows."""
        file = self._let_go(job) or InFlight(job.id, job.source)
        self.progress.released_here += 1
        self.progress.audio_left_s += file.left_s
        self.message(
            f"{'released':<11}  {_named(job)}  with {file.windows_done} of {file.windows_total} windows "
            "done; `batchsr work` goes on from there"
        )

    def waiting(self, reason: str, seconds: float) -> None:
        """Note that there is nothing to do for now."""
        if self._live is not None or self._worker:
            self.phase(f"waiting: {reason}")
        self.message(f"waiting {clock(seconds)}: {reason}")

    def paused(self, reason: str) -> None:
        """Tell that the queue is paused."""
        self.message(f"paused: {reason or 'by request'}  (`batchsr resume` lets it go on)")

    def resumed(self) -> None:
        """Tell that the queue goes on."""
        self.message("resumed")
        self._told.clear()

    def held(self, trouble: TroubleView) -> None:
        """Tell that a place is in trouble; the jobs that need it wait for it."""
        self.message(f"held: {trouble}; jobs elsewhere go on")

    def freed(self, trouble: TroubleView) -> None:
        """Tell that a place works again."""
        self.message(f"{trouble.path} works again: its jobs go on")
        self._told.clear()

    def message(self, text: str) -> None:
        """Show something that a person should know. It stays on the screen; what is repeated is said once."""
        if text in self._told:
            return
        if len(self._told) >= _MOST_TOLD:
            self._told.clear()
        self._told.add(text)
        self._say(text, style="yellow")

    def lost(self, job: JobView) -> None:
        """Tell that a file was taken away."""
        self._let_go(job)
        self.message(f"job {job.id} is no longer ours: {job.state}")

    def show_summary(self, *, batch: str | None = None) -> None:
        """Show the totals of this run, each kind of failure once, and what to type next. Once, at the end.

        batch: of a run that restores this batch alone (`closing`).
        """
        self.close()
        if self.quiet:
            return
        for text in closing(self.progress, batch=batch):
            self._print(text, style="red" if text.startswith("  ") else "")

    def _tick(self) -> None:
        """Count the time since the last event, if a file was in flight."""
        progress, now_s = self.progress, self._now()
        if progress.in_flight:
            progress.busy_s += now_s - progress.busy_since_s
        progress.busy_since_s = now_s

    def _let_go(self, job: JobView) -> InFlight | None:
        self._tick()
        return self.progress.in_flight.pop(job.id, None)

    def _ended(self, one: Finished) -> None:
        self.progress.ended(one)
        self._told.clear()
        self._say(line(one), style="" if one.state == "done" else "red")

    def _say(self, text: str, *, style: str = "") -> None:
        """Print a line above the moving part, where it stays."""
        if not self.quiet:
            self._print(text, style=style)

    def _print(self, text: str, *, style: str = "") -> None:
        text = printable(text)
        for part in wrapped(text, self.console.width) if self.console.is_terminal else [text]:
            self.console.print(part, style=style or None, markup=False, highlight=False, soft_wrap=True)


def _named(job: JobView) -> str:
    return f"#{job.id}  {job.source}" if job.id else job.source  # a file without a queue has no number
