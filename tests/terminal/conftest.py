"""A terminal as a person has one: the program on a real pseudo-terminal, its screen as pyte draws it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import forked
import numpy as np
import pyte
import pytest
import soundfile
from program import FAST_MODEL


class Terminal:
    """A program on a terminal of `columns` by `rows`."""

    def __init__(self, command: list[str], environment: dict[str, str], cwd: Path, columns: int, rows: int) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=2_000)
        self._stream = pyte.ByteStream(self.screen)
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = forked.Forked(
            command, stdin=slave, stdout=slave, stderr=slave, cwd=cwd, env=environment, start_new_session=True
        )
        os.close(slave)

    def read(self, seconds: float = 0.0) -> bool:
        """Draw what the program wrote, for so long. False at its end."""
        ends = time.monotonic() + seconds
        while True:
            ready = select.select([self._master], [], [], max(0.0, ends - time.monotonic()))[0]
            if not ready:
                return True
            try:
                data = os.read(self._master, 65_536)
            except OSError:
                return False
            if not data:
                return False
            self._stream.feed(data)

    def until(self, seen: Callable[[str], bool], seconds: float = 60.0) -> str:
        """Wait until the screen shows it. Returns the screen's text."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            going = self.read(0.05)
            if seen(self.text):
                return self.text
            if not going:
                break
        raise AssertionError(f"never seen; at last:\n{self.text}")

    def end(self, seconds: float = 60.0) -> int:
        """Wait for the end. Returns the exit code."""
        ends = time.monotonic() + seconds
        while self.read(0.1) and time.monotonic() < ends:
            pass
        return self.process.wait(timeout=max(0.1, ends - time.monotonic()))

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    @property
    def text(self) -> str:
        """All that scrolled by and all that stands on the screen, without blanks at the ends of lines."""
        columns = self.screen.columns
        above = ["".join(line[x].data for x in range(columns)).rstrip() for line in self.screen.history.top]
        return "\n".join([*above, *(line.rstrip() for line in self.screen.display)]).rstrip()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)


Run = Callable[..., Terminal]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Start the program on a terminal: run("work", "--variant", "fast", columns=40, pace_s=0.1)."""
    terminals = []

    def start(*arguments: str | Path, columns: int = 80, rows: int = 24, pace_s: float = 0.0) -> Terminal:
        environment = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "BATCHSR_FAULT")}
        environment |= {
            **FAST_MODEL,
            "TERM": "xterm-256color",
            "BATCHSR_DB": str(tmp_path / "queue.db"),
            "BATCHSR_PACE_S": str(pace_s),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
        }
        command = [sys.executable, "-m", "batchsr", *map(str, arguments)]
        terminals.append(Terminal(command, environment, tmp_path, columns, rows))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.close()


@pytest.fixture
def enqueue(tmp_path: Path, run: Run) -> Callable[..., list[Path]]:
    """Record and enqueue so many files of so many seconds."""

    def make(count: int, seconds: float = 1.0, folder: str = "in") -> list[Path]:
        paths = [tmp_path / folder / f"tape {number}.wav" for number in range(count)]
        for number, path in enumerate(paths):
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.random.default_rng(number).uniform(-0.1, 0.1, int(8_000 * seconds)), 8_000)
        done = run("enqueue", *paths)
        assert done.end() == 0, done.text
        return paths

    return make
