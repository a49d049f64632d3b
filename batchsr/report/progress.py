"""How far a run is: what the screen draws, and the words and figures it draws with. No library is needed here."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from batchsr.display import clock, counted, printable

MEASURING: Final = "time left: measuring"
_FIGURES: Final = re.compile(r"\d[\d:]* of audio in [\d:]+,?|RTF [\d.]+ \([\d.]+ x real time\)")
_TIE: Final = "\x1f"  # a space that no line ends with; printable text has no control characters
STILL_S: Final = 2.0
"""Seconds without a window behind which a file's line shows how many they are."""
FAILURES_IN_SIGHT: Final = 3
"""So many lines of failed files are still to be seen at the end; what they say is not said again."""


@dataclasses.dataclass(slots=True)
class Finished:
    """A file that ended: what its line says."""

    id: int
    name: str
    state: str
    audio_s: float | None = None
    wall_s: float | None = None
    note: str = ""
    code: str = ""
    """Code of the error that it failed with."""

    @property
    def rtf(self) -> float | None:
        """Real-time factor: seconds of work for a second of audio. Below 1 is faster than real time."""
        return self.wall_s / self.audio_s if self.wall_s and self.audio_s else None


@dataclasses.dataclass(slots=True)
class InFlight:
    """A file that is being restored."""

    id: int
    name: str
    audio_s: float | None = None
    windows_done: int = 0
    windows_at_start: int = 0
    windows_total: int = 0
    """0 until it is known."""
    worker: int = 0
    """The number of the worker that restores it, under a supervisor; 0 where there is one alone."""
    told_at_s: float = 0.0
    """When a line was last printed for it, off a terminal."""
    moved_at_s: float | None = None
    """When it was taken up, or a window of it was last safe."""

    @property
    def phase(self) -> str:
        """What is done with it, in one word."""
        if not self.windows_total:
            return "reading"
        return "joining" if self.windows_done >= self.windows_total else "restoring"

    @property
    def restored_s(self) -> float:
        """Audio restored by this run, seconds."""
        fresh = self.windows_done - self.windows_at_start
        return fresh / self.windows_total * self.audio_s if self.windows_total and self.audio_s else 0.0

    @property
    def left_s(self) -> float:
        """Audio still to be restored, seconds."""
        if not self.audio_s:
            return 0.0
        return self.audio_s * (1 - self.windows_done / self.windows_total) if self.windows_total else self.audio_s


@dataclasses.dataclass(slots=True)
class Failures:
    """The failures of one kind."""

    count: int
    example: str
    """What was said of the first of them."""


@dataclasses.dataclass(slots=True)
class Progress:
    """The state of a run. Of files that ended only sums are kept, so that it does not grow with the archive."""

    files_total: int = 0
    """Files of the batch: those that earlier runs ended too."""
    files_done: int = 0
    files_failed: int = 0
    audio_total_s: float = 0.0
    audio_ended_s: float = 0.0
    """Audio of files that ended, in this run and before."""
    audio_left_s: float = 0.0
    """Audio in files not yet begun."""
    in_flight: dict[int, InFlight] = dataclasses.field(default_factory=dict)
    """The files that are being restored, by job, the first one in front."""
    audio_restored_s: float = 0.0
    """Audio restored by this run, of files that are done."""
    busy_s: float = 0.0
    """Seconds in which a file was in flight, up to `busy_since_s`."""
    busy_since_s: float = 0.0
    phase: str = ""
    """What the worker itself is doing while no file moves: loading the model, waiting."""
    phase_since_s: float = 0.0
    workers: dict[int, str] = dataclasses.field(default_factory=dict)
    """Under a supervisor: what each worker does while it has no file, by its number."""
    done_here: int = 0
    failed_here: int = 0
    released_here: int = 0
    audio_done_here_s: float = 0.0
    wall_s: float = 0.0
    """Work for the files done here, as their rows say."""
    failures: dict[str, Failures] = dataclasses.field(default_factory=dict)
    """By code."""

    @property
    def rtf(self) -> float | None:
        """Real-time factor of this run so far."""
        restored_s = self.audio_restored_s + sum(file.restored_s for file in list(self.in_flight.values()))
        return self.busy_s / restored_s if restored_s > 0 and self.busy_s > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Time left at the speed so far, or None while nothing is known."""
        if self.rtf is None:
            return None
        return (self.audio_left_s + sum(file.left_s for file in list(self.in_flight.values()))) * self.rtf

    @property
    def restored_s(self) -> float:
        """Audio of the batch that is restored, also that of files in flight."""
        files = list(self.in_flight.values())
        under_way = sum((file.audio_s or 0.0) - file.left_s for file in files)
        return self.audio_ended_s + under_way

    def ended(self, one: Finished) -> None:
        """Count a file that is done or failed."""
        self.audio_ended_s += one.audio_s or 0.0
        if one.state == "done":
            self.files_done += 1
            self.done_here += 1
            self.audio_done_here_s += one.audio_s or 0.0
            self.wall_s += one.wall_s or 0.0
            return
        self.files_failed += 1
        self.failed_here += 1
        kind = self.failures.setdefault(one.code or one.state, Failures(0, one.note))
        kind.count += 1


def speed(rtf: float | None) -> str:
    """Return both figures, each named: people read them the wrong way round otherwise."""
    return "RTF -" if not rtf else f"RTF {rtf:.3f} ({1 / rtf:.2f} x real time)"


def line(one: Finished) -> str:
    """Return one plain line for a file that ended, for logs and pipes."""
    parts = [f"{one.state:<11}", f"#{one.id}", one.name]
    if one.state == "done":
        parts.append(f"{clock(one.audio_s)} of audio in {clock(one.wall_s)}, {speed(one.rtf)}")
    if one.note:
        parts.append(one.note)
    return "  ".join(parts)


def end_of(name: str, width: int) -> str:
    """Return a path that fits `width`: what is cut is its beginning, since its end tells files apart."""
    if len(name) <= width:
        return name
    return "…" + name[len(name) - max(0, width - 1) :] if width > 1 else name[:width]


def picture(progress: Progress, width: int, now_s: float, *, files_shown: int = 4) -> Iterator[str]:
    """Yield the lines under the messages of a terminal `width` columns wide; none is longer. `now_s` moves the
    seconds."""
    ended = progress.files_done + progress.files_failed
    left = progress.seconds_left
    facts = [f"{ended:,} of {counted(max(progress.files_total, ended), 'file')}"]
    facts.append(f"{clock(left)} left" if left is not None else MEASURING)
    if progress.rtf:
        facts.append(f"{1 / progress.rtf:.2f} x real time")
    if progress.files_failed:
        facts.append(f"{progress.files_failed:,} failed")
    if progress.audio_total_s:
        facts.append(f"{clock(progress.restored_s)} of {clock(progress.audio_total_s)} of audio")
    yield from _filled(facts, width)
    share = (
        progress.restored_s / progress.audio_total_s if progress.audio_total_s else ended / (progress.files_total or 1)
    )
    yield _bar(min(1.0, share), min(width, 60))
    files = sorted(progress.in_flight.values(), key=lambda file: file.worker)
    if progress.phase:
        yield end_of(f"{progress.phase}  {clock(max(0.0, now_s - progress.phase_since_s))}", width)
    lines = [_in_flight(file, width, now_s) for file in files]
    busy = {file.worker for file in files}
    idle = [(number, doing) for number, doing in sorted(progress.workers.items()) if number not in busy]
    lines += [f"{number:>2} {printable(doing) or 'has no file'}"[:width] for number, doing in idle]
    shown = files_shown if len(lines) <= files_shown else files_shown - 1 if progress.workers else files_shown
    yield from lines[:shown]
    if len(lines) > shown:
        rest, what = len(lines) - shown, "more line" if progress.workers else "more file"
        yield (f"and {counted(rest, what)}" + ("" if progress.workers else " in flight"))[:width]


def _in_flight(file: InFlight, width: int, now_s: float) -> str:
    """Return one file, with the worker that restores it where there are several.

    Where a window takes long, its seconds stand behind the name: what moves nothing else shows that it is alive.
    """
    who = f"{file.worker:>2} " if file.worker else ""
    windows = f"{file.windows_done}/{file.windows_total}" if file.windows_total else ""
    head = who + (f"{file.phase:<9} {windows:>7} " if width >= 40 else f"{windows or file.phase} ")
    still_s = now_s - file.moved_at_s if file.moved_at_s is not None else 0.0
    tail = f"  {clock(still_s)}" if still_s >= STILL_S and width >= 40 else ""
    return head[:width] + end_of(printable(file.name), max(0, width - len(head) - len(tail))) + tail


def closing(progress: Progress, *, batch: str | None = None) -> Iterator[str]:
    """Yield the last lines of a run: the totals, each kind of failure once, and the next command to type.

    batch: that of a run which restores this batch alone, makes its page itself, and goes on by the same command.
    """
    left = progress.files_total - progress.files_done - progress.files_failed
    if batch is not None and left > 0 and not progress.done_here and not progress.failed_here:
        yield f"{counted(left, 'file')} left: run the same command again to go on"
    if not progress.done_here and not progress.failed_here:
        return
    totals = counted(progress.done_here, "file") + " done"
    if progress.failed_here:
        totals += f", {progress.failed_here:,} failed"
    if progress.done_here:
        rtf = progress.wall_s / progress.audio_done_here_s if progress.audio_done_here_s else None
        totals += f": {clock(progress.audio_done_here_s)} of audio in {clock(progress.wall_s)} of work, {speed(rtf)}"
    yield totals
    kinds = progress.failures.items() if progress.failed_here > FAILURES_IN_SIGHT else ()
    for code, kind in sorted(kinds, key=lambda item: -item[1].count):
        example = kind.example.removesuffix(f" [{code}]")
        yield (
            f"  {kind.count:,} x {code}: {example}" if kind.count == 1 else f"  {kind.count:,} x {code}, as: {example}"
        )
    if left > 0:
        again = "`batchsr work` goes on" if batch is None else "run the same command again to go on"
        yield f"{counted(left, 'file')} left: {again}"
    if progress.failed_here and batch is not None:
        yield f"Next: `batchsr retry --batch {batch}`, then the same command again, tries what failed once more"
    elif progress.failed_here:
        yield "Next: `batchsr list --state failed` names them; `batchsr retry` tries them again"
    elif left <= 0 and batch is None:
        yield "Next: `batchsr report` for the record, `batchsr verify` to check the outputs"


def wrapped(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` columns, broken between words only: a longer word stays whole.

    Figures that are read together stay in one line where they fit.
    """
    indent = " " * (len(text) - len(text.lstrip()) + 2)

    def tied(figures: re.Match[str]) -> str:
        return figures[0].replace(" ", _TIE) if len(figures[0]) + len(indent) <= width else figures[0]

    lines = textwrap.wrap(
        _FIGURES.sub(tied, text), width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return [one.replace(_TIE, " ") for one in lines] or [""]


def _filled(facts: Sequence[str], width: int) -> Iterator[str]:
    """Yield facts side by side, as many in a line as fit; one that is wider than a line is cut."""
    row = ""
    for fact in facts:
        if row and len(row) + 3 + len(fact) > width:
            yield row[:width]
            row = fact
        else:
            row = f"{row} · {fact}" if row else fact
    yield row[:width]


def _bar(share: float, width: int) -> str:
    percent = f" {100 * share:3.0f} %"
    cells = max(0, width - len(percent))
    full = int(share * cells)
    return ("━" * full + "─" * (cells - full) + percent)[:width]
