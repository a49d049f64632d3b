"""`service`: unit files that keep `watch --work`, or `serve`, running."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from batchsr.cli.app import App, pass_app
from batchsr.cli.child_command import parsed, program
from batchsr.cli.paths import UserPath
from batchsr.cli.serve import serve_command
from batchsr.cli.watch import watch_command
from batchsr.errors import UsageError
from batchsr.intake import services
from batchsr.queue.opening import QueueAddress
from batchsr.settings import textfile


@click.group("service")
def service_command() -> None:
    """Keep `watch --work` running: unit files for systemd and launchd."""


@service_command.command("print", context_settings={"ignore_unknown_options": True})
@click.argument("system", type=click.Choice(["systemd", "launchd"]))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[DIR...] [OPTIONS]")
@click.option("--serve", is_flag=True, help="systemd: a unit for `serve`, with its options, instead of `watch --work`.")
@click.option("--system", "machine", is_flag=True, help="systemd: a unit for the machine, run in a name of its own.")
@click.option("--user", default="batchsr", show_default=True, metavar="NAME", help="Whose name, with --system.")
@click.option("--label", default="org.batchsr.watch", show_default=True, help="launchd's name for the service.")
@click.option(
    "--log", type=UserPath(path_type=Path), help="Where launchd writes what it says.  [default: beside the database]"
)
@pass_app
def print_command(
    app: App,
    system: str,
    arguments: tuple[str, ...],
    serve: bool,
    machine: bool,
    user: str,
    label: str,
    log: Path | None,
) -> None:
    """Print a unit that runs `watch --work` with these folders and options; the comments in it say where to put it."""
    if app.fleet is not None:
        raise UsageError(
            "these units are for a queue in a file, and a fleet is named",
            remedy="copy configs/fleet/batchsr-fleet.service (docs/fleet.md), or leave --fleet and BATCHSR_FLEET away",
        )
    if serve:
        _print_server(app, system, arguments, user if machine else None)
        return
    if not arguments:
        raise UsageError("no folder is named", remedy="say which one is to be watched, or --serve")
    absolute = list(_absolute_words(watch_command, arguments))
    with watch_command.make_context("batchsr watch", [*absolute]) as context:
        given = context.params  # a wrong option is told now, not by a service that does not start
    database = services.STATE_FOLDER / "queue.db" if machine and app.db_path is None else app.db.absolute()
    command = [*program(QueueAddress(database)), "watch", "--work", *(word for word in absolute if word != "--work")]
    if system == "systemd":
        click.echo(
            services.systemd(command, user=user if machine else None, writable=_written(given, database)), nl=False
        )
    else:
        click.echo(
            services.launchd(command, label=label, log=log or app.db.absolute().with_name("batchsr.log")), nl=False
        )


def _print_server(app: App, system: str, arguments: tuple[str, ...], user: str | None) -> None:
    """Print a unit that runs `serve`. `user` is None for a person's own. Raises UsageError for launchd."""
    if system != "systemd":
        raise UsageError("--serve makes a unit for systemd alone", remedy="leave --serve out, or say systemd")
    absolute = list(_absolute_words(serve_command, arguments))
    with serve_command.make_context("batchsr serve", [*absolute]):
        pass  # a wrong option is told now
    database = services.STATE_FOLDER / "queue.db" if user is not None and app.db_path is None else app.db.absolute()
    own = [] if database.parent == services.STATE_FOLDER else [str(database.parent)]
    click.echo(
        services.systemd_of_server([*program(QueueAddress(database)), "serve", *absolute], user=user, writable=own),
        nl=False,
    )


def _written(given: Mapping[str, Any], database: Path) -> list[str]:
    """Return the folders that `watch` with these options writes into, beside the service's own."""
    moves = [folder for name in ("done", "failed", "out") if (folder := given.get(name)) is not None]
    lists = [os.path.dirname(file) for name in ("done_list", "failed_list") if (file := given.get(name)) is not None]
    watched = [] if given.get("out") and not (given.get("done") or given.get("failed")) else list(given["folders"])
    own = [] if database.parent == services.STATE_FOLDER else [str(database.parent)]
    return list(dict.fromkeys(os.path.abspath(folder) for folder in (*watched, *moves, *lists, *own)))


def _absolute_words(command: click.Command, arguments: tuple[str, ...]) -> Iterator[str]:
    """Yield the same words, with paths made absolute: a service has another working folder."""
    takes_path = {name for param in command.params if isinstance(param.type, click.Path) for name in param.opts}
    takes_value = {
        name for param in command.params if isinstance(param, click.Option) and not param.is_flag for name in param.opts
    }
    for option, value, words in parsed(arguments, takes_value):
        if not option:
            yield os.path.abspath(textfile.expanded(words[0]))
        elif option in takes_path and value is not None:
            absolute = os.path.abspath(textfile.expanded(value))
            yield from (option, absolute) if len(words) == 2 else (f"{option}={absolute}",)
        else:
            yield from words
