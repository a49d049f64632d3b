"""What all commands share: where the queue is, and how to print."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from batchsr.cli.streams import Streams
from batchsr.display import printable
from batchsr.queue import Queue
from batchsr.queue.opening import open_queue

F = TypeVar("F", bound=Callable[..., Any])


@dataclasses.dataclass
class App:
    """The global options of one run of the program."""

    db_path: Path | None = None
    json: bool = False
    verbosity: int = 0
    color: bool = True
    streams: Streams | None = None
    """This process's own, where it is the program; None where commands are called from other code."""

    @property
    def db(self) -> Path:
        """The database's path: --db, BATCHSR_DB, or the user's data folder."""
        if self.db_path is not None:
            return self.db_path
        from platformdirs import user_data_path

        return user_data_path("batchsr") / "queue.db"

    def queue(self) -> Queue:
        """Open the queue, making and migrating the database as needed. Raises the QueueError family."""
        return open_queue(self.db)

    def say(self, text: str = "") -> None:
        """One line of data on stdout. A name's stray bytes come out as they are in the file system."""
        click.echo(text.encode("utf-8", "surrogateescape"))

    def emit(self, document: Mapping[str, Any]) -> None:
        """One JSON object on one line of stdout. ASCII, so that any file name passes any pipe."""
        click.echo(json.dumps(document, ensure_ascii=True))

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

    def stays(self) -> None:
        """Say that this command runs for long: it waits for no reader, and its lines off a terminal bear the time."""
        if self.streams is not None:
            self.streams.stay()

    def note(self, text: str, *, level: int = 0) -> None:
        """One line for the person, on stderr; `level` 1 only with -v, silent with -q."""
        if self.verbosity >= level:
            click.echo(printable(text), err=True)


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
