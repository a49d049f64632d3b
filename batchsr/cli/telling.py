"""Telling somebody that a run has begun and how it ended: by a command, by a ping."""

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
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import click

from batchsr.cli.app import App
from batchsr.display import shown
from batchsr.errors import EXIT_OK, EXIT_SIGHUP, EXIT_SIGINT, EXIT_SIGTERM, BatchsrError, UsageError

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS: Final = ("--on-done", "--on-trouble", "--ping")
_STOPPED: Final = (EXIT_SIGHUP, EXIT_SIGINT, EXIT_SIGTERM)
"""Somebody stopped it, who knows: there is nothing to tell."""
_COMMAND_S: Final = 60.0
_PING_S: Final = 10.0


def telling_options(function: F) -> F:
    """The options that say whom to tell. What they do never changes how the command itself ends."""
    options = [
        click.option(
            "--on-done", metavar="COMMAND", help="Run by sh when it ended well; facts in BATCHSR_* and on stdin."
        ),
        click.option("--on-trouble", metavar="COMMAND", help="The same when files failed, or it paused or broke off."),
        click.option("--ping", metavar="URL", help="Call URL/start, then URL or URL/fail, as healthchecks wants it."),
    ]

    @functools.wraps(function)
    def wrapped(app: App, /, *args: Any, **kwargs: Any) -> Any:
        on_done, on_trouble, ping = (kwargs.pop(name) for name in ("on_done", "on_trouble", "ping"))
        if ping is not None and not ping.startswith(("http://", "https://")):
            raise UsageError(f"--ping {ping}: not a web address", remedy="it begins with https:// or http://")
        with _told(app, on_done, on_trouble, ping):
            return function(app, *args, **kwargs)

    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


@contextlib.contextmanager
def _told(app: App, on_done: str | None, on_trouble: str | None, ping: str | None) -> Iterator[None]:
    """Tell of the beginning, and of the end by whichever way it comes, which is then taken."""
    if ping is not None:
        _call(app, _with_path(ping, "start"))
    exit_code, error = EXIT_OK, ""
    try:
        yield
    except SystemExit as e:
        exit_code = e.code if isinstance(e.code, int) else int(e.code is not None)
        raise
    except BatchsrError as e:
        exit_code, error = e.exit_code, str(e)
        raise
    except BaseException as e:
        exit_code, error = EXIT_SIGINT if isinstance(e, KeyboardInterrupt) else 1, f"{type(e).__name__}: {e}"
        raise
    finally:
        if exit_code not in _STOPPED:
            well = exit_code == EXIT_OK
            if ping is not None:
                _call(app, ping if well else _with_path(ping, "fail"))
            if (command := on_done if well else on_trouble) is not None:
                _run(app, command, _facts(app, exit_code, error))


def _facts(app: App, exit_code: int, error: str) -> dict[str, Any]:
    """Return what a command is told: how it ended, and how many jobs of the whole queue are in which state."""
    facts = {
        "schema": 1,
        "event": "done" if exit_code == EXIT_OK else "trouble",
        "exit_code": exit_code,
        "error": error,
        "host": socket.gethostname(),
        "db": os.path.abspath(app.db),
    }
    with contextlib.suppress(BatchsrError):
        if app.db.exists():
            with app.queue() as queue:
                facts |= {str(state): count for state, count in queue.counts().items()}
    return facts


def _run(app: App, command: str, facts: dict[str, Any]) -> None:
    """Run one command by sh, for a minute at the most. Its output goes to stderr: stdout holds our answers."""
    variables = {
        f"BATCHSR_{name.upper()}": str(value).replace("\0", "") for name, value in facts.items() if name != "db"
    }
    environment = {**os.environ, **variables, "BATCHSR_DB": str(facts["db"])}
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
