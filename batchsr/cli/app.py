"""What all commands share: where the queue is, and how to print."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click

from batchsr import storage
from batchsr.cli.streams import Streams
from batchsr.display import printable, shown
from batchsr.errors import UsageError
from batchsr.queue import Queue
from batchsr.queue.opening import open_queue
from batchsr.report.answers import SCHEMA as SCHEMA
from batchsr.report.answers import as_line
from batchsr.report.progress import wrapped
from batchsr.settings import textfile

F = TypeVar("F", bound=Callable[..., Any])


@dataclasses.dataclass
class App:
    """The global options of one run of the program."""

    db_path: Path | None = None
    db_is_typed: bool = False
    """Whether --db was typed, which may be misspelled, and not set once for all in BATCHSR_DB."""
    json: bool = False
    verbosity: int = 0
    color: bool = True
    streams: Streams | None = None
    """This process's own, where it is the program; None where commands are called from other code."""
    notifier: Any = None
    """Whom the command tells how it ends (notifications.Notifier); None in commands that tell nobody."""

    @property
    def db(self) -> Path:
        """The database's path: --db, BATCHSR_DB, or the user's data folder. Raises UsageError for what is no file."""
        if self.db_path is not None:
            if kind := storage.no_file(self.db_path):
                raise UsageError(f"{shown(self.db_path)} is {kind}, no database", remedy="name a file with --db")
            return self.db_path
        from platformdirs import user_data_path

        folder = user_data_path("batchsr")
        if str(folder).startswith(textfile.NO_HOME):
            raise UsageError("there is no home folder to keep the queue in", remedy="say where it is: --db FILE")
        return folder / "queue.db"

    def queue(self, *, make: bool = False) -> Queue:
        """Open the queue, migrating the database as needed. Raises the QueueError family.

        Only who has something to put into it makes a database (`make`): where one was named that is not there,
        UsageError is raised, since its name is likely misspelled.
        """
        path = self.db
        if not make and self.db_path is not None and not path.exists():
            raise UsageError(f"there is no queue at {shown(self.db_path)}", remedy="`batchsr enqueue` makes one")
        return open_queue(path)

    def say(self, text: str = "") -> None:
        """One line of data on stdout. A name's stray bytes come out as they are in the file system."""
        click.echo(text.encode("utf-8", "surrogateescape"))

    def emit(self, document: Mapping[str, Any]) -> None:
        """One JSON object on one line of stdout, with the number of its schema in front (docs/json.md)."""
        click.echo(as_line(document))

    def answer(self, document: Mapping[str, Any], lines: str | Iterable[str]) -> None:
        """One answer on stdout: with --json the object, otherwise the line or lines. An iterator is read only then."""
        if self.json:
            self.emit(document)
            return
        for line in (lines,) if isinstance(lines, str) else lines:
            self.say(printable(line))

    def acts(self) -> None:
        """Say that this command does something: it goes on when nobody reads its answers any more."""
        if self.streams is not None:
            self.streams.go_on()

    def stays(self, *, stamped: bool = True) -> None:
        """Say that this command runs for long: it waits for no reader, and its lines off a terminal bear the time."""
        if self.streams is not None:
            self.streams.stay(stamped=stamped)

    def note(self, text: str, *, level: int = 0) -> None:
        """One line for the person, on stderr; `level` 1 only with -v, silent with -q."""
        if self.verbosity >= level:
            tell(printable(text))


def screen_width(stream: TextIO | None) -> int | None:
    """Return the columns of the terminal that a stream goes to; None where it is none, or does not say."""
    try:
        return (os.get_terminal_size(stream.fileno()).columns or None) if stream is not None else None
    except (OSError, ValueError):
        return None


def tell(text: str) -> None:
    """Print for the person, on stderr: one line, on a terminal as many as it takes, broken between words."""
    width = screen_width(sys.stderr)
    for part in wrapped(text, width) if width else (text,):
        click.echo(part, err=True)


class LogHandler(logging.Handler):
    """Shows the person what modules log: warnings, as one line each."""

    def __init__(self, app: App) -> None:
        super().__init__(logging.WARNING)
        self._app = app

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record. -q leaves it out."""
        self._app.note(f"batchsr: {record.getMessage()}")


pass_app = click.make_pass_decorator(App, ensure=True)


def json_option(function: F) -> F:
    """`--json`, before or after the command's name."""

    def remember(context: click.Context, _: click.Parameter, value: bool) -> bool:
        if value:
            context.ensure_object(App).json = True
        return value

    return click.option(
        "--json", "json_", is_flag=True, expose_value=False, callback=remember, help="Machine-readable output."
    )(function)
