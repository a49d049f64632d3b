"""`models`: which there are, fetch one, check one. `doctor`: what this machine gives us."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

import click

from batchsr import __version__
from batchsr.cli.app import App, json_option, pass_app
from batchsr.storage import printable


@click.group("models")
def models_command() -> None:
    """The models: which there are, fetch one, check one."""


@models_command.command("list")
@json_option
@pass_app
def list_models_command(app: App) -> None:
    """The variants, and whether they are here already."""
    from batchsr.model import hub

    for row in hub.list_models():
        if app.json:
            app.emit(row)
        else:
            where = row["path"] if row["cached"] else "not here yet: `batchsr models pull " + row["variant"] + "`"
            size = f"{row['bytes'] / 2**20:.0f} MiB" if row["bytes"] else ""
            app.say(printable(f"{row['variant']:<6} {row['repository'] or '':<32} {size:>8}  {where}"))


@models_command.command("pull")
@click.argument("variant")
@json_option
@pass_app
def pull_command(app: App, variant: str) -> None:
    """Fetch VARIANT from the hub into the cache."""
    from batchsr.model import hub

    location = hub.pull(variant, progress=sys.stderr.isatty() and app.verbosity >= 0)
    if app.json:
        app.emit({"variant": location.variant, "revision": location.revision, "path": str(location.folder)})
    else:
        app.say(f"{location.variant} at revision {location.revision}: {location.folder}")


@models_command.command("check")
@click.argument("variant")
@json_option
@pass_app
def check_command(app: App, variant: str) -> None:
    """Check VARIANT (a name or a bundle's folder): keys, shapes, finite weights, and a test window."""
    from batchsr.model import check

    document: dict[str, Any] = check.check(variant)
    if app.json:
        app.emit(document)
    else:
        for key, value in document.items():
            app.say(printable(f"{key}: {value}"))


@click.command("doctor")
@json_option
@pass_app
def doctor_command(app: App) -> None:
    """What this machine gives us: versions, backend, BLAS, database, models."""
    from batchsr.model import backend, hub
    from batchsr.queue import describe
    from batchsr.storage import free_bytes

    found = backend.doctor()
    document: dict[str, Any] = {
        "batchsr": __version__,
        "python": platform.python_version(),
        "system": f"{platform.platform()} {platform.machine()}",
        "cores": os.cpu_count(),
        **found,
        "sqlite": describe(),
        "database": str(app.db),
        "database_free_gb": round(free_bytes(Path(app.db)) / 1e9, 1),
        "models": {row["variant"]: bool(row["cached"]) for row in hub.list_models()},
    }
    if app.json:
        app.emit(document)
    else:
        for key, value in document.items():
            app.say(printable(f"{key:<18} {value}"))
