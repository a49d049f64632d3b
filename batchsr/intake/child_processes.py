"""Processes beside the watcher: the worker it feeds, and what keeps the machine awake meanwhile.

Both end when the watcher ends, however it ends: the worker sees that its parent is gone (batchsr.signals), the
other one reads the end of a pipe.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from batchsr.errors import EXIT_NO_MODEL, EXIT_OK, EXIT_SOME_FAILED, EXIT_USAGE
from batchsr.signals import SUPERVISOR_VARIABLE

# What a worker that waits for more ends with on purpose: its limit is reached, or it can never work like this.
_FOR_GOOD: Final = (EXIT_OK, EXIT_SOME_FAILED, EXIT_USAGE, EXIT_NO_MODEL)
_FIRST_WAIT_S: Final = 2.0
_LONGEST_WAIT_S: Final = 300.0
_LIVED_WELL_S: Final = 60.0
_FIRST_TRY_AGAIN_S: Final = 60.0
_LONGEST_TRY_AGAIN_S: Final = 3600.0
_HOLDS_S: Final = 10.0  # what ends sooner never held


class WorkerProcess:
    """`batchsr work` as a child; one that crashed is started again, each time later, by the command as of then."""

    def __init__(
        self,
        command: Callable[[], Sequence[str]],
        say: Callable[[str], None],
        *,
        environment: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command = command
        self._environment = environment or {}
        self._say = say
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0
        self._start_at_s = 0.0
        self._wait_s = _FIRST_WAIT_S
        self._stopping: int | None = None

    @property
    def pid(self) -> int | None:
        """Return the number of the process, while there is one."""
        return self._process.pid if self._process is not None else None

    def tick(self) -> int | None:
        """Start it, or start it again, when it is time. Returns its exit code once it ended for good."""
        if self._process is None:
            if self._clock() >= self._start_at_s and self._stopping is None:
                self._start()
            return None
        code = self._process.poll()
        if code is None:
            return None
        self._process = None
        if code in _FOR_GOOD or self._stopping is not None:
            return code
        if self._clock() - self._started_s > _LIVED_WELL_S:
            self._wait_s = _FIRST_WAIT_S
        self._say(f"the worker ended with {_told(code)}; it is started again in {self._wait_s:g} s")
        self._start_at_s = self._clock() + self._wait_s
        self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)
        return None

    def send(self, number: int) -> None:
        """Pass on a signal that asks to stop; the worker is not started again."""
        self._stopping = number
        self.pass_on(number)

    def pass_on(self, number: int) -> None:
        """Send the worker a signal, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end. Returns its exit code, 0 if it is not running."""
        return self._process.wait() if self._process is not None else EXIT_OK

    def _start(self) -> None:
        # A process group of its own, so that Ctrl-C reaches it once, through us.
        self._process = subprocess.Popen(
            self._command(),
            env=os.environ | self._environment | {SUPERVISOR_VARIABLE: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            process_group=0,
        )
        self._started_s = self._clock()
        if self._stopping is not None:  # it came while we were at it
            self._process.send_signal(self._stopping)


class SleepInhibitor:
    """Holds a command that keeps the machine awake (`caffeinate -i`, `systemd-inhibit ...`) while there is work."""

    def __init__(
        self,
        command: Sequence[str],
        say: Callable[[str], None],
        *,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`quiet`: what the command itself writes to stderr is nobody's business."""
        self._command = list(command)
        self._say = say
        self._quiet = quiet
        self._process: subprocess.Popen[bytes] | None = None
        self._clock = clock
        self._started_s = self._try_at_s = 0.0
        self._wait_s = _FIRST_TRY_AGAIN_S
        self._is_told = False

    def hold(self, working: bool) -> None:
        """Start it if there is work, end it if there is none.

        One that does not run, or ends, is said once and tried again, each time later: a service may not be up yet.
        """
        if not self._command:
            return
        if working and self._process is None and self._clock() >= self._try_at_s:
            self._started_s = self._clock()
            try:
                wait_for_end = [sys.executable, "-c", "import sys; sys.stdin.read()"]
                self._process = subprocess.Popen(
                    [*self._command, *wait_for_end],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL if self._quiet else None,
                    process_group=0,
                )
            except OSError as e:
                self._failed(
                    f"{self._command[0]} does not run ({e.strerror}): the machine may fall asleep while it works"
                )
        elif working and self._process is not None and self._process.poll() is not None:
            code = self._process.returncode
            self._close()
            self._failed(f"{self._command[0]} ended with {_told(code)}: the machine may fall asleep")
        elif working and self._is_told and self._process is not None and self._clock() - self._started_s > _HOLDS_S:
            self._say(f"{self._command[0]} runs: the machine stays awake")
            self._is_told, self._wait_s = False, _FIRST_TRY_AGAIN_S
        elif not working:
            self._close()

    def __enter__(self) -> SleepInhibitor:
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def _failed(self, text: str) -> None:
        if not self._is_told:
            self._say(text)
        self._is_told = True
        self._try_at_s = self._clock() + self._wait_s
        self._wait_s = min(2 * self._wait_s, _LONGEST_TRY_AGAIN_S)

    def _close(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.communicate()  # closes its stdin, which ends it


def _told(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
