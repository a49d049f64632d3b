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

from batchsr.display import printable

_FILES_SHOWN: Final = 4
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
    @property
    def remarks(self) -> Sequence[Mapping[str, str]]: ...


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
class InHand:
    """A file that is being restored."""

    id: int
    name: str
    audio_s: float | None = None
    windows_done: int = 0
    windows_at_start: int = 0
    windows_total: int = 0
    """0 until it is known."""

    @property
    def restored_s(self) -> float:
        """Audio restored by this run."""
        fresh = self.windows_done - self.windows_at_start
        return fresh / self.windows_total * self.audio_s if self.windows_total and self.audio_s else 0.0

    @property
    def left_s(self) -> float:
        """Audio still to be restored."""
        if not self.audio_s:
            return 0.0
        return self.audio_s * (1 - self.windows_done / self.windows_total) if self.windows_total else self.audio_s


@dataclasses.dataclass(slots=True)
class Progress:
    """The state that the renderers draw."""

    files_total: int = 0
    files_done: int = 0
    audio_left_s: float = 0.0
    """Seconds of audio in files not yet begun."""
    in_hand: dict[int, InHand] = dataclasses.field(default_factory=dict)
    """The files that are being restored, by job, the first one in front."""
    audio_restored_s: float = 0.0
    """Audio restored by this run, of files that are done."""
    busy_s: float = 0.0
    """Seconds in which a file was in hand, up to `busy_since_s`."""
    busy_since_s: float = 0.0
    message: str = ""
    finished: list[Finished] = dataclasses.field(default_factory=list)

    @property
    def rtf(self) -> float | None:
        """Real-time factor of this run so far."""
        restored_s = self.audio_restored_s + sum(file.restored_s for file in list(self.in_hand.values()))
        return self.busy_s / restored_s if restored_s > 0 and self.busy_s > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Time left at the speed so far, or None while nothing is known."""
        if self.rtf is None:
            return None
        return (self.audio_left_s + sum(file.left_s for file in list(self.in_hand.values()))) * self.rtf


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
            Text(printable(one.name)),
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
    """The moving picture: the batch's line, a line for each of the first files in hand, and what was said last."""
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
    files = list(progress.in_hand.values())
    for file in files[:_FILES_SHOWN]:
        grid.add_row(
            "file",
            ProgressBar(total=max(1, file.windows_total), completed=file.windows_done, width=30),
            Text(f"{file.windows_done} of {file.windows_total} windows  {printable(file.name)}", overflow="ellipsis"),
        )
    if len(files) > _FILES_SHOWN:
        grid.add_row("", "", f"and {len(files) - _FILES_SHOWN} more files in hand")
    return Group(grid, Text(printable(progress.message), style="yellow")) if progress.message else grid


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
        self._tick()
        progress.in_hand[job.id] = InHand(job.id, job.source, job.audio_s, job.windows_done, job.windows_done)
        progress.audio_left_s = max(0.0, progress.audio_left_s - (job.audio_s or 0.0))
        progress.message = ""

    def windows(self, job: JobView, done: int, total: int) -> None:
        """Windows of a file are safe."""
        file = self.progress.in_hand[job.id]
        self._tick()
        if file.windows_total == 0:  # the first call says what the scratch held already
            file.windows_at_start = done
            if done and not self.quiet and self._live is None:
                self.console.print(
                    f"resuming    #{job.id}  {printable(job.source)}  at window {done} of {total}",
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )
        file.windows_done, file.windows_total = done, total

    def done(self, job: JobView) -> None:
        """A file is restored."""
        if file := self._let_go(job):
            self.progress.audio_restored_s += file.restored_s
        note = "; ".join(f"{remark['message']} [{remark['code']}]" for remark in job.remarks)
        self._ended(Finished(job.id, job.source, "done", job.audio_s, job.wall_s, note))

    def failed(self, job: JobView) -> None:
        """A file will not be tried again by itself."""
        self._let_go(job)
        self._ended(Finished(job.id, job.source, str(job.state), job.audio_s, None, f"{job.error} [{job.error_code}]"))

    def retrying(self, job: JobView, wait_s: float) -> None:
        """A file is tried again later."""
        self._let_go(job)
        self.message(f"trying #{job.id} again in {clock(wait_s)}: {job.error}")

    def released(self, job: JobView) -> None:
        """A file went back to the queue with its finished windows."""
        file = self._let_go(job) or InHand(job.id, job.source)
        self.message(
            f"released    #{job.id}  {job.source}  with {file.windows_done} of {file.windows_total} windows done; "
            "`batchsr work` goes on from there"
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

    def lost(self, job: JobView) -> None:
        """A file was taken away."""
        self._let_go(job)
        self.message(f"job {job.id} is no longer ours: {job.state}")

    def _tick(self) -> None:
        """Count the time since the last event, if a file was in hand."""
        progress, now_s = self.progress, self._now()
        if progress.in_hand:
            progress.busy_s += now_s - progress.busy_since_s
        progress.busy_since_s = now_s

    def _let_go(self, job: JobView) -> InHand | None:
        self._tick()
        return self.progress.in_hand.pop(job.id, None)

    def _ended(self, one: Finished) -> None:
        progress = self.progress
        progress.files_done += 1
        progress.finished.append(one)
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
