"""What a person sees while `batchsr work` runs. rich lives here.

Renderers are pure functions from a `Progress` to text or tables; `Screen` keeps the `Progress` up to date
from what the worker tells it, and draws it live on a terminal or as one plain line a file elsewhere.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from batchsr.storage import printable

_TEXT_COLUMNS: Final = ("state", "source", "file", "error", "case", "figure")


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


@dataclasses.dataclass(slots=True)
class Finished:
    """One file's line in the summary."""

    id: int
    name: str
    state: str
    audio_s: float | None = None
    wall_s: float | None = None
    note: str = ""

    @property
    def rtf(self) -> float | None:
        """Real-time factor: seconds of work for a second of audio. Below 1 is faster than real time."""
        return self.wall_s / self.audio_s if self.wall_s and self.audio_s else None


@dataclasses.dataclass(slots=True)
class Progress:
    """The state that the renderers draw."""

    files_total: int = 0
    files_done: int = 0
    audio_left_s: float = 0.0
    """Seconds of audio in files not yet begun."""
    job: Finished | None = None
    windows_done: int = 0
    windows_at_start: int = 0
    windows_total: int = 0
    job_started_s: float = 0.0
    audio_restored_s: float = 0.0
    """Audio restored by this run, the running file's windows included."""
    busy_s: float = 0.0
    """Seconds spent on it."""
    message: str = ""
    finished: list[Finished] = dataclasses.field(default_factory=list)

    @property
    def rtf(self) -> float | None:
        """Real-time factor of this run so far."""
        return self.busy_s / self.audio_restored_s if self.audio_restored_s > 0 and self.busy_s > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Time left at the speed so far, or None while nothing is known."""
        if self.rtf is None:
            return None
        running = 0.0
        if self.job is not None and self.job.audio_s and self.windows_total:
            running = self.job.audio_s * (1 - self.windows_done / self.windows_total)
        return (self.audio_left_s + running) * self.rtf


def clock(seconds: float | None) -> str:
    """Seconds as h:mm:ss, or --:-- when unknown."""
    if seconds is None:
        return "--:--"
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def speed(rtf: float | None) -> str:
    """Both figures, each named: people read them the wrong way round otherwise."""
    return "RTF -" if not rtf else f"RTF {rtf:.3f} ({1 / rtf:.2f} x real time)"


def line(one: Finished) -> str:
    """One plain line for a file that ended, for logs and pipes."""
    parts = [f"{one.state:<11}", f"#{one.id}", one.name]
    if one.state == "done":
        parts.append(f"{clock(one.audio_s)} of audio in {clock(one.wall_s)}, {speed(one.rtf)}")
    if one.note:
        parts.append(one.note)
    return "  ".join(parts)


def summary(finished: list[Finished], *, limit: int = 50) -> RenderableType:
    """A table with a line a file, the last `limit` of them, and the totals."""
    table = Table(title="Files of this run", title_justify="left", expand=False)
    for name in ("job", "file", "state", "audio", "time", "RTF", "x real time"):
        table.add_column(name, justify="left" if name in ("file", "state") else "right", overflow="fold")
    for one in finished[-limit:]:
        rtf = one.rtf
        table.add_row(
            str(one.id),
            Text(one.name),
            Text(one.state, style="" if one.state == "done" else "red"),
            clock(one.audio_s) if one.audio_s is not None else "",
            clock(one.wall_s) if one.wall_s is not None else "",
            f"{rtf:.3f}" if rtf else "",
            f"{1 / rtf:.2f}" if rtf else "",
        )
    if len(finished) > limit:
        table.caption = f"the last {limit} of {len(finished)} files; `batchsr report` has them all"
    return table


def live(progress: Progress) -> RenderableType:
    """The moving picture: the batch's line, the file's line, and what was said last."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column()
    grid.add_column(width=30)
    grid.add_column(no_wrap=True)
    grid.add_row(
        "batch",
        ProgressBar(total=max(1, progress.files_total), completed=progress.files_done, width=30),
        f"{progress.files_done} of {progress.files_total} files  {speed(progress.rtf)}  "
        f"{clock(progress.seconds_left)} left",
    )
    if progress.job is not None:
        grid.add_row(
            "file",
            ProgressBar(total=max(1, progress.windows_total), completed=progress.windows_done, width=30),
            Text(
                f"{progress.windows_done} of {progress.windows_total} windows  {progress.job.name}", overflow="ellipsis"
            ),
        )
    return Group(grid, Text(progress.message, style="yellow")) if progress.message else grid


class Screen:
    """Listens to a worker and shows what it does, on stderr.

    On a terminal it animates; elsewhere, or with `plain`, it prints one line a file. `now` is the clock, in
    seconds, that tests replace.
    """

    def __init__(
        self, console: Console, *, plain: bool = False, quiet: bool = False, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.console = console
        self.quiet = quiet
        self.progress = Progress()
        self._now = now
        self._live: Live | None = None
        if console.is_terminal and not plain and not quiet:
            self._live = Live(
                console=console, get_renderable=lambda: live(self.progress), refresh_per_second=4, transient=True
            )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def expect(self, files: int, audio_s: float) -> None:
        """How much there is to do, from the queue."""
        self.progress.files_total = self.progress.files_done + files
        self.progress.audio_left_s = audio_s

    def claimed(self, job: JobView) -> None:
        """A worker begins, or goes on with, a file."""
        progress = self.progress
        progress.job = Finished(job.id, job.source, "running", job.audio_s)
        progress.windows_done = progress.windows_at_start = job.windows_done
        progress.windows_total = 0
        progress.job_started_s = self._now()
        progress.audio_left_s = max(0.0, progress.audio_left_s - (job.audio_s or 0.0))
        progress.message = ""

    def windows(self, job: JobView, done: int, total: int) -> None:
        """A batch of windows is safe."""
        progress = self.progress
        if progress.windows_total == 0:  # the first call says what the scratch held already
            progress.windows_at_start = done
            if done and not self.quiet and self._live is None:
                self.console.print(
                    f"resuming    #{job.id}  {job.source}  at window {done} of {total}",
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )
        progress.windows_done, progress.windows_total = done, total

    def done(self, job: JobView) -> None:
        """A file is restored."""
        progress = self.progress
        if job.audio_s and progress.windows_total:
            fresh = 1 - progress.windows_at_start / progress.windows_total
            progress.audio_restored_s += job.audio_s * fresh
            progress.busy_s += self._now() - progress.job_started_s
        self._ended(Finished(job.id, job.source, "done", job.audio_s, job.wall_s))

    def failed(self, job: JobView) -> None:
        """A file will not be tried again by itself."""
        self._ended(Finished(job.id, job.source, str(job.state), job.audio_s, None, f"{job.error} [{job.error_code}]"))

    def retrying(self, job: JobView, wait_s: float) -> None:
        """A file is tried again later."""
        self.progress.job = None
        self.message(f"trying #{job.id} again in {clock(wait_s)}: {job.error}")

    def released(self, job: JobView) -> None:
        """A file went back to the queue with its finished windows."""
        self.progress.job = None
        self.message(
            f"released    #{job.id}  {job.source}  with {self.progress.windows_done} of "
            f"{self.progress.windows_total} windows done; `batchsr work` goes on from there"
        )

    def waiting(self, reason: str, seconds: float) -> None:
        """Nothing to do for now."""
        self.message(f"waiting {clock(seconds)}: {reason}")

    def paused(self, reason: str) -> None:
        """The queue is paused."""
        self.message(f"paused: {reason}")

    def resumed(self) -> None:
        """The queue goes on."""
        self.message("resumed")

    def message(self, text: str) -> None:
        """Something a person should know."""
        if text == self.progress.message:
            return  # a worker that waits says so again and again
        self.progress.message = text
        if self._live is None and not self.quiet:
            self._print(text, style="yellow")

    def _ended(self, one: Finished) -> None:
        progress = self.progress
        progress.files_done += 1
        progress.finished.append(one)
        progress.job = None
        progress.message = ""
        if not self.quiet:
            self._print(line(one), style="" if one.state == "done" else "red")

    def show_summary(self) -> None:
        """The table of this run, once at the end. Only on a terminal: elsewhere the lines were the record."""
        if self._live is not None and self.progress.finished:
            self.console.print(summary(self.progress.finished))

    def _print(self, text: str, *, style: str) -> None:
        self.console.print(printable(text), style=style or None, markup=False, highlight=False, soft_wrap=True)


def plain_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Table:
    """Rows of the queue as a table for `list` and `status`."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", justify="left" if column in _TEXT_COLUMNS else "right")
    for row in rows:
        table.add_row(*(Text("" if row.get(column) is None else printable(row[column])) for column in columns))
    return table
