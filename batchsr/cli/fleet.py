"""`fleet`: the tables of a fleet's database, and whether this host can take part."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import click

from batchsr.cli.app import App, fleet_options, json_option, pass_app
from batchsr.cli.paths import UserPath
from batchsr.cli.share_checks import troubles_of
from batchsr.display import counted
from batchsr.errors import EXIT_IO, UsageError
from batchsr.queue import roots
from batchsr.queue.opening import check_fleet, fleet_url, init_fleet, migrate_fleet

_CLOCKS_APART_S: Final = 5.0


@click.group("fleet")
def fleet_command() -> None:
    """Many hosts, one queue: make its tables, migrate them, check a host."""


@fleet_command.command("init")
@click.argument("url", required=False)
@click.option(
    "--lease",
    type=click.FloatRange(1, 3600),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a host may be silent before others take its files.",
)
@fleet_options
@json_option
@pass_app
def init_command(app: App, url: str | None, lease: float) -> None:
    """Make the tables, once for a fleet. Safe to repeat. URL is --fleet or BATCHSR_FLEET where it is left out."""
    url = _url(app, url)
    made = init_fleet(url, app.host_folder, lease)
    said = f"{app.database} is ready"
    if not made:
        kept = check_fleet(url, app.host_folder, restored=False)["lease_s"]
        typed = click.get_current_context().get_parameter_source("lease") is click.core.ParameterSource.COMMANDLINE
        if typed and kept != lease:
            raise UsageError(
                f"{app.database} had a fleet's tables already, whose lease is {kept:g} s and stays",
                remedy="leave --lease out, or make the fleet anew in another database",
            )
        said = f"{app.database} had a fleet's tables already, which stay"
    app.answer({"database": app.database, "made": made}, said)


@fleet_command.command("migrate")
@click.argument("url", required=False)
@fleet_options
@json_option
@pass_app
def migrate_command(app: App, url: str | None) -> None:
    """Bring the tables to this program's version, once, after a backup."""
    before, now = migrate_fleet(_url(app, url), app.host_folder)
    said = f"{app.database} is up to date" if before == now else f"{app.database}: schema {before} is now {now}"
    app.answer({"database": app.database, "before": before, "now": now}, said)


@fleet_command.command("check")
@click.argument("url", required=False)
@click.option("--out", multiple=True, type=UserPath(path_type=Path), help="A folder that outputs go to.")
@click.option("--restored", is_flag=True, help="The database was restored from a backup: let no earlier claim count.")
@fleet_options
@json_option
@pass_app
def check_command(app: App, url: str | None, out: tuple[Path, ...], restored: bool) -> None:
    """Say whether the queue is sound and this host can take part: clock, named roots, links where outputs go."""
    document = check_host(app, _url(app, url), out, restored=restored)
    app.answer(document, _lines(document))
    if document["problems"]:
        sys.exit(EXIT_IO)


def check_host(app: App, url: str, folders: Iterable[Path], *, restored: bool = False) -> dict[str, Any]:
    """Return what `fleet check` answers: the database, the named roots and the folders, as this host has them."""
    found = check_fleet(url, app.host_folder, restored=restored)
    problems = list(found["problems"])
    if abs(found["clock_s"]) > _CLOCKS_APART_S:
        problems.append(f"this host's clock is {found['clock_s']:+.1f} s from the server's: have it set (NTP)")
    places = roots.places()
    for name, place in places.items():
        if not os.access(place, os.R_OK | os.X_OK):
            problems.append(f"the named root {name} cannot be read at {place}")
    problems += [
        f"the fleet's files lie below a root named {name}, and this host has not said where that is: "
        f"--named-root {name}=FOLDER, or BATCHSR_ROOTS={name}=FOLDER"
        for name in found.pop("roots_in_use")
        if name not in places
    ]
    problems += [said for place in folders for said in troubles_of(place)]
    return found | {"roots": places, "problems": problems, "sound": not problems}


def _url(app: App, given: str | None) -> str:
    """Return the URL that was named in whichever way. Raises UsageError for none."""
    if given is not None:
        app.fleet = fleet_url(given, typed=True)
    if app.fleet is None:
        raise UsageError("no fleet is named", remedy="give its URL, or set BATCHSR_FLEET")
    return app.fleet


def _lines(document: dict[str, Any]) -> list[str]:
    lines = [
        f"{document['database']}: {document['server']}, schema {document['tables']}, "
        f"{counted(document['jobs'], 'job')}, {document['bytes'] / 1e6:,.0f} MB",
        f"lease {document['lease_s']:g} s, a look takes {document['round_trip_s'] * 1e3:.1f} ms, "
        f"this host's clock is {document['clock_s']:+.1f} s from the server's",
    ]
    if document["taken_back"] is not None:
        lines.append(f"no claim of before counts any more; {counted(document['taken_back'], 'job')} queued again")
    lines += [f"{name} is {place} here" for name, place in document["roots"].items()]
    return [*lines, *(document["problems"] or ["sound"])]
