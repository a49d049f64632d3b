"""Notifications that a run has begun and how it ended: by a command, a ping, the desktop."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import click

from batchsr.cli import desktop
from batchsr.cli.app import App
from batchsr.display import counted, shown
from batchsr.errors import EXIT_OK, EXIT_SIGHUP, EXIT_SIGINT, EXIT_SIGTERM, BatchsrError, UsageError
from batchsr.signals import SUPERVISOR_VARIABLE

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS: Final = ("--on-done", "--on-trouble", "--ping")
FLAGS: Final = ("--notify",)
_STOPPED: Final = (EXIT_SIGHUP, EXIT_SIGINT, EXIT_SIGTERM)
"""Somebody stopped it, who knows: there is nothing to tell."""
_COMMAND_S: Final = 60.0
_PING_S: Final = 10.0


def notification_options(function: F) -> F:
    """Add the options that say whom to tell. What they do never changes how the command itself ends.

    The command finds whoever it tells in `app.notifier`, for what is to be told before the end.
    """
    options = [
        click.option(
            "--on-done", metavar="COMMAND", help="Run by sh when it ended well; facts in BATCHSR_* and on stdin."
        ),
        click.option("--on-trouble", metavar="COMMAND", help="The same when files failed, or it paused or broke off."),
        click.option("--ping", metavar="URL", help="Call URL/start, then URL or URL/fail, as healthchecks wants it."),
        click.option(
            "--notify", is_flag=True, envvar="BATCHSR_NOTIFY", help="Say it on the desktop, where there is one."
        ),
    ]

    @functools.wraps(function)
    def wrapped(app: App, /, *args: Any, **kwargs: Any) -> Any:
        on_done, on_trouble, ping, notify = (kwargs.pop(name) for name in ("on_done", "on_trouble", "ping", "notify"))
        if ping is not None and not ping.startswith(("http://", "https://")):
            raise UsageError(f"--ping {ping}: not a web address", remedy="it begins with https:// or http://")
        ours = os.environ.get(SUPERVISOR_VARIABLE) != str(os.getppid())  # else whoever started us tells it
        app.notifier = Notifier(app, on_done, on_trouble, ping, notify=notify and ours)
        with app.notifier:
            return function(app, *args, **kwargs)

    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


class Notifier:
    """Tells of the beginning of a run, and of its end by whichever way that comes, which is then taken."""

    def __init__(
        self, app: App, on_done: str | None, on_trouble: str | None, ping: str | None, *, notify: bool
    ) -> None:
        self._app = app
        self._on_done = on_done
        self._on_trouble = on_trouble
        self._ping = ping
        self._notify = notify

    @property
    def is_wanted(self) -> bool:
        """Whether anybody is to be told."""
        return bool(self._on_done or self._on_trouble or self._ping or self._notify)

    def tell(self, exit_code: int, error: str = "") -> None:
        """Tell that what there was to do is over, well or not. Takes a minute and 15 seconds at the most."""
        well = exit_code == EXIT_OK
        if self._ping is not None:
            _call(self._app, self._ping if well else _with_path(self._ping, "fail"))
        command = self._on_done if well else self._on_trouble
        if command is not None or self._notify:
            facts = _facts(self._app, exit_code, error)
            if self._notify:
                desktop.show("batchsr is done" if well else "batchsr: trouble", _in_words(facts))
            if command is not None:
                _run(self._app, command, facts)

    def __enter__(self) -> Self:
        if self._ping is not None:
            _call(self._app, _with_path(self._ping, "start"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        code, said = EXIT_OK, ""
        if isinstance(error, SystemExit):
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        elif isinstance(error, BatchsrError):
            code, said = error.exit_code, str(error)
        elif error is not None:
            code = EXIT_SIGINT if isinstance(error, KeyboardInterrupt) else 1
            said = f"{type(error).__name__}: {error}"
        if code not in _STOPPED:
            self.tell(code, said)


def _in_words(facts: Mapping[str, Any]) -> str:
    """Return what a notification says of the queue."""
    failed = facts.get("failed", 0) + facts.get("quarantined", 0)
    left = sum(facts.get(state, 0) for state in ("queued", "waiting", "running", "committing"))
    said = [counted(facts.get("done", 0), "file") + " done", *([f"{failed:,} failed"] if failed else [])]
    return ", ".join([*said, *([f"{left:,} left"] if left else [])]) + (f". {facts['error']}" if facts["error"] else "")


def _facts(app: App, exit_code: int, error: str) -> dict[str, Any]:
    """Return what a command is told: how it ended, and how many jobs of the whole queue are in which state."""
    facts = {
        "schema": 1,
        "event": "done" if exit_code == EXIT_OK else "trouble",
        "exit_code": exit_code,
        "error": error,
        "host": socket.gethostname(),
        "db": os.path.abspath(app.db) if app.fleet is None else app.database,
    }
    with contextlib.suppress(BatchsrError):
        if app.has_queue():
            with app.queue() as queue:
                facts |= {str(state): count for state, count in queue.counts().items()}
    return facts


def _run(app: App, command: str, facts: dict[str, Any]) -> None:
    """Run one command by sh, for a minute at the most. Its output goes to stderr: stdout holds our answers."""
    variables = {
        f"BATCHSR_{name.upper()}": str(value).replace("\0", "") for name, value in facts.items() if name != "db"
    }
    environment = {**os.environ, **variables} | ({} if app.fleet is not None else {"BATCHSR_DB": str(facts["db"])})
    try:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=sys.stderr.fileno(),
            env=environment,
            start_new_session=True,  # so that what it started ends with it
        )
    except (OSError, ValueError) as e:
        app.note(f"batchsr: {shown(command)} could not be run: {e}")
        return
    try:
        process.communicate(json.dumps(facts).encode(), timeout=_COMMAND_S)
    except subprocess.TimeoutExpired:
        app.note(f"batchsr: {shown(command)} was ended: it ran for more than {_COMMAND_S:.0f} s")
        return
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        app.note(f"batchsr: {shown(command)} ended with {process.returncode}")


def _with_path(url: str, word: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{word}"))


def _call(app: App, url: str) -> None:
    """Call one address. That nobody answers is said, and changes nothing."""
    ended: list[str] = []
    caller = threading.Thread(target=_answer, args=(url, ended), daemon=True)
    caller.start()
    caller.join(_PING_S)  # looking up a name, or an answer that drips, heeds no timeout of a socket
    trouble = ended[0] if ended else f"waited {_PING_S:.0f} s"
    if trouble:
        app.note(f"batchsr: --ping: {shown(url)} did not answer ({trouble})")


def _answer(url: str, ended: list[str]) -> None:
    """Call one address, and put down what was wrong, or nothing."""
    try:
        with urllib.request.urlopen(url, timeout=_PING_S):
            ended.append("")
    except (OSError, ValueError, http.client.HTTPException) as e:
        ended.append(str(e) or type(e).__name__)
