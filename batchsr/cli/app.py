"""What all commands share: where the queue is, how to print, the options of a restoration."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from batchsr.errors import ConfigError
from batchsr.profile import FORMATS, SUBTYPES, Settings
from batchsr.queue import Queue
from batchsr.storage import printable

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_VARIANT: Final = "int4"


@dataclasses.dataclass
class App:
    """The global options of one run of the program."""

    db_path: Path | None = None
    json: bool = False
    verbosity: int = 0
    color: bool = True

    @property
    def db(self) -> Path:
        """The database's path: --db, BATCHSR_DB, or the user's data folder."""
        if self.db_path is not None:
            return self.db_path
        from platformdirs import user_data_path

        return user_data_path("batchsr") / "queue.db"

    def queue(self) -> Queue:
        """Open the queue, making and migrating the database as needed. Raises the QueueError family."""
        return Queue.open(self.db)

    def say(self, text: str = "") -> None:
        """One line of data on stdout. A name's stray bytes come out as they are in the file system."""
        click.echo(text.encode("utf-8", "surrogateescape"))

    def emit(self, document: Mapping[str, Any]) -> None:
        """One JSON object on one line of stdout. ASCII, so that any file name passes any pipe."""
        click.echo(json.dumps(document, ensure_ascii=True))

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


class LowpassType(click.ParamType[Any]):
    """off, auto, or a frequency in Hz."""

    name = "off|auto|HZ"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in ("off", "auto") or isinstance(value, float):
            return value
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither off, auto nor a frequency in Hz", param, ctx)


def restoration_options(function: F) -> F:
    """The options of a restoration, the same words everywhere; the command gets them as one `settings`."""
    options = [
        click.option("--timestep", type=int, help="Diffusion step, 0 to 999.  [default: 999]"),
        click.option("--seed", type=int, help="Seed of the noise.  [default: 0]"),
        click.option("--overlap", type=float, metavar="S", help="Seconds that windows share.  [default: 0.5]"),
        click.option("--lowpass", type=LowpassType(), help="Low-pass before the model.  [default: off]"),
        click.option("--keep-band/--no-keep-band", default=None, help="Keep the recording below its cutoff."),
        click.option("--format", "format_", type=click.Choice(FORMATS), help="Container.  [default: wav]"),
        click.option("--subtype", type=click.Choice(SUBTYPES), help="Sample format.  [default: PCM_24]"),
        click.option("--channels", type=click.Choice(["all", "mono"]), help="Every channel, or their mean."),
        click.option("--sidecar/--no-sidecar", default=None, help="Write OUTPUT.json beside the output."),
    ]
    names = [field.name for field in dataclasses.fields(Settings)]

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        kwargs["format"] = kwargs.pop("format_")
        given = {name: kwargs.pop(name) for name in names}
        kwargs["given"] = {name: value for name, value in given.items() if value is not None}
        return function(*args, **kwargs)

    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


def job_ids(values: tuple[str, ...]) -> list[int]:
    """Job numbers of the command line. Raises ConfigError."""
    try:
        return [int(value) for value in values]
    except ValueError as e:
        raise ConfigError(f"{e}", remedy="jobs are named by the number that `batchsr list` shows") from e
