"""`service`: unit files that keep `watch --work` running."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from pathlib import Path

import click

from batchsr.cli.app import App, pass_app
from batchsr.cli.child_command import parsed, program
from batchsr.cli.watch import watch_command
from batchsr.intake import services
from batchsr.settings import textfile


@click.group("service")
def service_command() -> None:
    """Keep `watch --work` running: unit files for systemd and launchd."""


@service_command.command("print", context_settings={"ignore_unknown_options": True})
@click.argument("system", type=click.Choice(["systemd", "launchd"]))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="DIR... [OPTIONS OF watch]", required=True)
@click.option("--system", "machine", is_flag=True, help="systemd: a unit for the machine, run in your name.")
@click.option("--label", default="org.batchsr.watch", show_default=True, help="launchd's name for the service.")
@click.option(
    "--log", type=click.Path(path_type=Path), help="Where launchd writes what it says.  [default: beside the database]"
)
@pass_app
def print_command(
    app: App, system: str, arguments: tuple[str, ...], machine: bool, label: str, log: Path | None
) -> None:
    """Print a unit that runs `watch --work` with these folders and options; the comments in it say where to put it."""
    absolute = list(_absolute_words(arguments))
    with watch_command.make_context("batchsr watch", [*absolute]):
        pass  # a wrong option is told now, not by a service that does not start
    command = [*program(app.db), "watch", "--work", *(word for word in absolute if word != "--work")]
    if system == "systemd":
        click.echo(services.systemd(command, user=getpass.getuser() if machine else None), nl=False)
    else:
        click.echo(
            services.launchd(command, label=label, log=log or app.db.absolute().with_name("batchsr.log")), nl=False
        )


def _absolute_words(arguments: tuple[str, ...]) -> Iterator[str]:
    """The same words, with paths made absolute: a service has another working folder."""
    takes_path = {name for param in watch_command.params if isinstance(param.type, click.Path) for name in param.opts}
    takes_value = {
        name
        for param in watch_command.params
        if isinstance(param, click.Option) and not param.is_flag
        for name in param.opts
    }
    for option, value, words in parsed(arguments, takes_value):
        if not option:
            yield os.path.abspath(textfile.expanded(words[0]))
        elif option in takes_path and value is not None:
            absolute = os.path.abspath(textfile.expanded(value))
            yield from (option, absolute) if len(words) == 2 else (f"{option}={absolute}",)
        else:
            yield from words
