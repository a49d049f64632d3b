"""Being asked to stop: once gently, twice at once. And SIGHUP, which asks only where there is a terminal.

Python runs signal handlers in the main thread between two bytecodes, and a forward pass of a model may be
half a minute without one. So the handlers do nothing, the C level writes each signal's number into a pipe,
and a thread reads them: the first sets a flag that the worker looks at after each batch of windows, the
second lets go of the claim and ends the process, whatever the main thread is doing.

SIGHUP says that the terminal is gone, and stops like the others. A process without a terminal (a service, cron) gets
it from whoever rotates logs: then the files behind standard output and error are opened again under their names.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, Self

SUPERVISOR_VARIABLE: Final = "BATCHSR_SUPERVISOR"
"""Process id of the supervisor that started this worker; without it the worker stops too."""


class Stop:
    """Whether, and by which signal, this process was asked to stop.

    `on_first(signal)` and `on_second(signal)` are called in a thread of their own; after the latter the
    process ends with 128 + signal. `on_rotated()` is called after the logs were opened again. In a thread other than
    the main one no signal is taken.
    """

    def __init__(
        self,
        on_first: Callable[[int], None],
        on_second: Callable[[int], None],
        on_rotated: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_first = on_first
        self._on_second = on_second
        self._on_rotated = on_rotated
        self._logs: Logs | None = None
        """Where SIGHUP means the logs; None where it asks to stop."""
        self._flag = threading.Event()
        self._signal: int | None = None
        self._supervisor = int(os.environ.get(SUPERVISOR_VARIABLE, "0"))
        self._handlers: dict[int, Any] = {}
        self._unheard: dict[int, Any] = {}
        self._thread: threading.Thread | None = None
        self._pipe: tuple[int, int] | None = None
        self._wakeup_before = -1

    @property
    def signal(self) -> int | None:
        """The signal, or None while nobody asked."""
        if self._signal is None and self._supervisor and os.getppid() != self._supervisor:
            self.ask(signal.SIGTERM)  # nobody is left to replace or to stop us
        return self._signal

    def ask(self, number: int) -> None:
        """Stop gently, as the first signal does: whoever looks sees it before anything is said about it."""
        if self._signal is None:
            self._signal = number
            self._flag.set()
            self._on_first(number)

    def wait(self, seconds: float) -> None:
        """Sleep, but not past a signal."""
        self._flag.wait(seconds)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._logs = None if has_terminal() else Logs()
            self._pipe = os.pipe()
            os.set_blocking(self._pipe[1], False)
            self._wakeup_before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                    self._handlers[number] = signal.signal(number, _nothing)
            for number in (signal.SIGUSR1, signal.SIGUSR2):  # by default they end a process, as if it had crashed
                if signal.getsignal(number) is signal.SIG_DFL:
                    self._unheard[number] = signal.signal(number, _nothing)
            self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pipe is None or self._thread is None:
            return
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in (self._handlers | self._unheard).items():
            signal.signal(number, handler)
        os.write(self._pipe[1], b"\0")
        self._thread.join()
        for fd in self._pipe:
            os.close(fd)

    def _listen(self) -> None:
        assert self._pipe is not None
        while number := os.read(self._pipe[0], 1)[0]:
            if number not in self._handlers:
                continue
            if number == signal.SIGHUP and self._logs is not None:
                self._logs.open_again()
                self._on_rotated()
            elif self._signal is None:
                self.ask(number)
            else:
                try:
                    self._on_second(number)
                finally:
                    os._exit(128 + number)


class Logs:
    """The files behind standard output and standard error, by the names that they have now."""

    def __init__(self) -> None:
        self._names = {fd: name for fd in (1, 2) if (name := _name_of(fd)) is not None}

    def open_again(self) -> None:
        """Open each again under its name, where another file, or none, stands there by now. Trouble keeps the old."""
        for fd, name in self._names.items():
            with contextlib.suppress(OSError):
                old = os.fstat(fd)
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.stat(name, follow_symlinks=False), old):
                        continue
                mode = stat.S_IMODE(old.st_mode) & 0o666
                new = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, mode)
                try:
                    if stat.S_ISREG(os.fstat(new).st_mode):
                        os.dup2(new, fd)
                finally:
                    os.close(new)


def has_terminal() -> bool:
    """Return whether this process has a controlling terminal, which could be closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def _name_of(fd: int) -> str | None:
    """Return the path of the regular file behind a descriptor; None for others, and where the system does not say."""
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return None
        if sys.platform == "darwin":
            import fcntl

            name = os.fsdecode(fcntl.fcntl(fd, fcntl.F_GETPATH, bytes(1024)).split(b"\0")[0])
        else:
            name = os.readlink(f"/proc/self/fd/{fd}")
        return name if os.path.samestat(os.stat(name), status) else None
    except OSError:
        return None


def _nothing(number: int, frame: FrameType | None) -> None:
    """Do nothing: a handler must be there, or the signal would end the process."""
