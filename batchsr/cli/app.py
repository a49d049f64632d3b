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
from batchsr.display import printable, shown, without_passwords
from batchsr.errors import UsageError
from batchsr.queue import Queue, roots
from batchsr.queue.opening import QueueAddress, fleet_url, open_fleet, open_queue, without_password
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
    fleet: str | None = dataclasses.field(default=None, repr=False)
    """The URL of a fleet's database, which may hold a password; None for a queue in a file."""
    json: bool = False
    verbosity: int = 0
    color: bool = True
    streams: Streams | None = None
    """This process's own, where it is the program; None where commands are called from other code."""
    notifier: Any = None
    """Whom the command tells how it ends (notifications.Notifier); None in commands that tell nobody."""

    @property
    def db(self) -> Path:
        """The database's path: --db, BATCHSR_DB, or the user's data folder.

        Raises UsageError for what is no file, and where a fleet is named.
        """
        if self.fleet is not None:
            raise UsageError(
                "this is for a queue in a file, and a fleet is named",
                remedy="leave --fleet and BATCHSR_FLEET away, or name the file with --db",
            )
        if self.db_path is not None:
            if {"postgresql:", "postgres:"} & set(self.db_path.parts):
                raise UsageError("--db and BATCHSR_DB name a file, not a URL", remedy="a fleet is named by --fleet")
            if kind := storage.no_file(self.db_path):
                raise UsageError(f"{shown(self.db_path)} is {kind}, no database", remedy="name a file with --db")
            return self.db_path
        return self._own_folder() / "queue.db"

    @property
    def database(self) -> str:
        """Names the queue to people and in answers: the database's path, or a fleet's URL without its password."""
        return without_password(self.fleet) if self.fleet is not None else str(self.db)

    @property
    def address(self) -> QueueAddress:
        """Where the queue is kept, for another process or another part of this one."""
        if self.fleet is not None:
            return QueueAddress(fleet=self.fleet, host_folder=self.host_folder)
        return QueueAddress(self.db)

    @property
    def host_folder(self) -> Path:
        """Where a fleet's host keeps lock files and scratch: BATCHSR_FLEET_FOLDER, or the user's data folder."""
        named = os.environ.get("BATCHSR_FLEET_FOLDER")
        return Path(named).absolute() if named else self._own_folder()

    @staticmethod
    def _own_folder() -> Path:
        from platformdirs import user_data_path

        folder = user_data_path("batchsr")
        if str(folder).startswith(textfile.NO_HOME):
            raise UsageError("there is no home folder to keep the queue in", remedy="say where it is: --db FILE")
        return folder

    def name_fleet(self, url: str, *, typed: bool) -> None:
        """Use the queue of a fleet from now on. What is typed counts before what is set once for all.

        Raises UsageError for what is no fleet, a password that was typed, and where --db was typed as well.
        """
        if self.db_is_typed and typed:
            raise UsageError("--db and --fleet name two queues", remedy="leave one of them away")
        if not self.db_is_typed:
            self.fleet = fleet_url(url, typed=typed)

    def has_queue(self) -> bool:
        """Return whether there is a queue to look at; a fleet's is asked for when it is opened."""
        return self.fleet is not None or self.db.exists()

    def queue(self, *, make: bool = False) -> Queue:
        """Open the queue, migrating the database as needed. Raises the QueueError family.

        Only who has something to put into it makes a database (`make`): where one was named that is not there,
        UsageError is raised, since its name is likely misspelled.
        """
        if self.fleet is not None:
            return open_fleet(self.fleet, self.host_folder)
        path = self.db
        if not make and self.db_path is not None and not storage.is_there(path):
            raise UsageError(f"there is no queue at {shown(self.db_path)}", remedy="`batchsr enqueue` makes one")
        return open_queue(path)

    def say(self, text: str = "") -> None:
        """Print one line of data on stdout. A name's stray bytes come out as they are in the file system."""
        click.echo(text.encode("utf-8", "surrogateescape"))

    def emit(self, document: Mapping[str, Any]) -> None:
        """Print one JSON object on one line of stdout, with the number of its schema in front (docs/json.md)."""
        click.echo(as_line(document))

    def answer(self, document: Mapping[str, Any], lines: str | Iterable[str]) -> None:
        """Print one answer on stdout: with --json the object, else the line or lines. An iterator is read only then."""
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
        """Print one line for the person, on stderr; `level` 1 only with -v, silent with -q."""
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
    text = without_passwords(text)
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


def fleet_options(function: F) -> F:
    """`--fleet` and `--named-root`, before or after the command's name."""

    def remember(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
        if value is not None:
            context.ensure_object(App).name_fleet(value, typed=_is_typed(context, parameter))

    def place(context: click.Context, _: click.Parameter, value: tuple[str, ...]) -> None:
        if value:
            roots.use(roots.places() | roots.parsed(value))

    add_fleet = click.option(
        "--fleet", metavar="URL", expose_value=False, callback=remember, help="The PostgreSQL database of a fleet."
    )
    add_root = click.option(
        "--named-root",
        multiple=True,
        metavar="NAME=FOLDER",
        expose_value=False,
        callback=place,
        help="Where a share of the fleet is on this host.",
    )
    return add_fleet(add_root(function))


def no_database(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Return the paths of an argument. Raises UsageError for a database's URL among them, which may hold a password."""
    if any(path.startswith(("postgresql://", "postgres://")) for path in value):
        raise UsageError("a database's URL is no recording", remedy="a fleet is named by --fleet, or BATCHSR_FLEET")
    return value


def _is_typed(context: click.Context, parameter: click.Parameter) -> bool:
    return context.get_parameter_source(parameter.name or "") is click.core.ParameterSource.COMMANDLINE


def json_option(function: F) -> F:
    """`--json`, before or after the command's name."""

    def remember(context: click.Context, _: click.Parameter, value: bool) -> bool:
        if value:
            context.ensure_object(App).json = True
        return value

    return click.option(
        "--json", "json_", is_flag=True, expose_value=False, callback=remember, help="Machine-readable output."
    )(function)
