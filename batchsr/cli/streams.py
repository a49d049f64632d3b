"""Standard output and standard error as the program writes them: answers are data, and the log never holds work up.

The log (stderr) is written by a thread of its own from a bounded queue. When nobody reads it (a full pipe, Ctrl-S),
lines wait, then are dropped and counted; when it cannot be written at all (a closed terminal, a reader that left, a
full disk), they are lost, and the work goes on as if they had been read.

Answers (stdout) are written at once. When they cannot be written, a command that only looks ends with an error; one
that does something goes on with it, and the program says so at its end. A reader that has seen enough (`| head`) is
no error.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import datetime
import errno
import io
import os
import select
import stat
import sys
import threading
from collections.abc import Callable
from typing import Final, cast

from batchsr.display import counted
from batchsr.errors import ResourceError

_QUEUE_BYTES: Final = 256 * 1024
_ANSWERS_BYTES: Final = 64 * 1024 * 1024
_NO_READER_S: Final = 2.0  # how long the end of the program waits for a reader that takes nothing
_RETRY_S: Final = 0.2


class ReaderLeft(Exception):
    """Whoever read the answers has seen enough. No OSError: click would end the program with 1."""


class QueuedWriter(io.RawIOBase):
    """Bytes for a file descriptor, written by a thread, so that `write` never waits and never fails.

    `stamp` gives the text that stands before each line, or nothing. `failed(error)` is told what could not be written.
    """

    def __init__(
        self,
        fd: int,
        *,
        limit_bytes: int = _QUEUE_BYTES,
        failed: Callable[[OSError], None] = lambda error: None,
        dropped: Callable[[int], bytes] = lambda lines: b"",
    ) -> None:
        super().__init__()
        self.stamp: Callable[[], bytes] = lambda: b""
        self._fd = fd
        self._is_terminal = os.isatty(fd)
        self._limit_bytes = limit_bytes
        self._failed = failed
        self._told_dropped = dropped
        self._pending: collections.deque[bytes] = collections.deque()
        self._pending_bytes = 0
        self._dropped = 0
        self._starts_line = True
        self._moved = 0
        """Bytes that left the queue, so that `drain` sees whether somebody reads."""
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """Return the descriptor below, for who asks about the terminal."""
        return self._fd

    def isatty(self) -> bool:
        """Return whether it was a terminal at the start; one that was closed meanwhile counts as one."""
        return self._is_terminal

    @property
    def dropped(self) -> int:
        """Lines that were dropped and not yet told of."""
        return self._dropped

    def write(self, data: object) -> int:
        """Queue bytes, or drop them where too many wait already."""
        text = bytes(cast(bytes, data))
        with self._changed:
            stamped = self._stamped(text)
            if self._pending_bytes + len(stamped) > self._limit_bytes:
                self._dropped += max(1, text.count(b"\n"))
            else:
                if self._dropped and (told := self._told_dropped(self._dropped)):
                    self._push(self._stamp_of(told))
                    self._dropped = 0
                self._push(stamped)
            self._changed.notify_all()
        return len(text)

    def drain(self, patience_s: float = _NO_READER_S) -> None:
        """Wait until all is written, but no longer than `patience_s` after the last byte that somebody took."""
        with self._changed:
            while self._pending:
                before = self._moved
                if not self._changed.wait(patience_s) and self._moved == before:
                    return

    def _push(self, data: bytes) -> None:
        self._pending.append(data)
        self._pending_bytes += len(data)

    def _stamp_of(self, line: bytes) -> bytes:
        return self.stamp() + line

    def _stamped(self, text: bytes) -> bytes:
        if not text or not (stamp := self.stamp()):
            self._starts_line = text.endswith(b"\n") if text else self._starts_line
            return text
        lines = text.splitlines(keepends=True)
        first = stamp if self._starts_line else b""
        self._starts_line = text.endswith(b"\n")
        return first + stamp.join(lines)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._pending))
                data = self._pending[0]
            try:
                self._write_whole(data)
            except OSError as e:
                self._failed(e)
            with self._changed:
                self._pending.popleft()
                self._pending_bytes -= len(data)
                self._moved += 1
                self._changed.notify_all()

    def _write_whole(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                taken = os.write(self._fd, view[:4096])
            except BlockingIOError:  # somebody who shares the descriptor made it non-blocking
                select.select([], [self._fd], [], _RETRY_S)
                continue
            view = view[taken:]
            with self._changed:
                self._moved += taken
                self._changed.notify_all()


class Answers(io.RawIOBase):
    """Standard output. Raises ResourceError where it cannot be written, ReaderLeft where nobody reads any more.

    With `goes_on` neither is raised: what cannot be written is lost, and `lost` says why (not for a reader that left).
    """

    def __init__(self, fd: int) -> None:
        super().__init__()
        self.goes_on = False
        self.lost: OSError | None = None
        self._is_off = False
        self._fd = fd
        self._queued: QueuedWriter | None = None

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """Return the descriptor below."""
        return self._fd

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return os.isatty(self._fd)

    def write(self, data: object) -> int:
        """Write all of it."""
        view = memoryview(cast(bytes, data)).cast("B")
        length = len(view)
        if self._queued is not None:
            return self._queued.write(view)
        while view and not self._is_off:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                select.select([], [self._fd], [], _RETRY_S)
            except OSError as e:
                self._trouble(e)
        return length

    def queue(self) -> None:
        """Let a thread write from now on: nothing waits for the reader any more."""
        self.goes_on = True
        if self._queued is None:
            self._queued = QueuedWriter(self._fd, limit_bytes=_ANSWERS_BYTES, failed=self._note)

    def turn_off(self) -> None:
        """Write nothing any more."""
        self._is_off = True

    def finish(self) -> int:
        """Wait for what is queued, as long as somebody reads. Returns how many lines were dropped."""
        if self._queued is None:
            return 0
        self._queued.drain()
        return self._queued.dropped

    def _trouble(self, error: OSError) -> None:
        self._is_off = True
        if self.goes_on:
            self._note(error)
            return
        if error.errno == errno.EPIPE:
            raise ReaderLeft from error
        raise lost_answers(error) from error

    def _note(self, error: OSError) -> None:
        if error.errno != errno.EPIPE and self.lost is None:
            self.lost = error


def lost_answers(error: OSError) -> ResourceError:
    """Return the error that says that standard output cannot be written."""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return ResourceError(
        f"standard output cannot be written: {error.strerror or error}",
        remedy="make room, or send it elsewhere" if is_full else "send it to a file, a pipe or a terminal that is open",
    )


class Streams:
    """Both streams of this process, put in the place of sys.stdout and sys.stderr."""

    def __init__(self) -> None:
        _open_closed_ones()
        self.answers = Answers(1)
        self.log = QueuedWriter(
            2, dropped=lambda lines: f"({counted(lines, 'line')} dropped here: nobody read them)\n".encode()
        )
        # Through a buffer: one call of the system for a table, not one for each of its cells.
        self._stdout = io.TextIOWrapper(io.BufferedWriter(self.answers), encoding="utf-8", errors="backslashreplace")
        self._stderr = io.TextIOWrapper(
            cast(io.BufferedWriter, self.log), encoding="utf-8", errors="backslashreplace", write_through=True
        )
        sys.stdout, sys.stderr = self._stdout, self._stderr
        atexit.register(self.log.drain)  # after the traceback of what nobody foresaw

    def go_on(self) -> None:
        """Do what was asked for, whether or not anybody reads the answers."""
        self.answers.goes_on = True

    def stay(self, *, stamped: bool = True) -> None:
        """This process runs for long: nothing waits for a reader. If `stamped`, lines off a terminal bear the time."""
        self.answers.queue()
        if stamped and not self.log.isatty() and not _is_journal(2):
            self.log.stamp = lambda: f"{datetime.datetime.now().astimezone():%Y-%m-%d %H:%M:%S%z} ".encode()

    def finish(self) -> None:
        """Write what is left. Raises ResourceError when answers were lost."""
        try:
            with contextlib.suppress(ReaderLeft):
                self._stdout.flush()
        finally:
            dropped = self.answers.finish()
            self.answers.turn_off()
        if self.answers.lost is not None:
            raise lost_answers(self.answers.lost)
        if dropped:
            sys.stderr.write(f"batchsr: {counted(dropped, 'line')} of standard output dropped: nobody read them\n")


def _open_closed_ones() -> None:
    """Open what stands in for a stream that is closed: the next file, a database, would get its number otherwise."""
    for fd, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            opened = os.open(os.devnull, mode)  # reading and writing answers still fails, as it should
            if opened != fd:
                os.dup2(opened, fd)
                os.close(opened)


def _is_journal(fd: int) -> bool:
    """Return whether systemd's journal is behind it, which notes the time by itself (systemd.exec(5))."""
    status = os.fstat(fd)
    return stat.S_ISSOCK(status.st_mode) and os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
