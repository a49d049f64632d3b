"""`models`: which there are, fetch one, check one."""

from __future__ import annotations

import sys
from typing import Any

import click

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
    from batchsr.models import hub

    for row in hub.list_models():
        where = row["path"] if row["cached"] else "not here yet: `batchsr models pull " + row["variant"] + "`"
        size = f"{row['bytes'] / 2**20:.0f} MiB" if row["bytes"] else ""
        app.answer(row, printable(f"{row['variant']:<6} {row['repository'] or '':<32} {size:>8}  {where}"))


@models_command.command("pull")
@click.argument("variant")
@json_option
@pass_app
def pull_command(app: App, variant: str) -> None:
    """Fetch VARIANT from the hub into the cache."""
    from batchsr.models import hub

    location = hub.pull(variant, progress=sys.stderr.isatty() and app.verbosity >= 0)
    app.answer(
        {"variant": location.variant, "revision": location.revision, "path": str(location.folder)},
        f"{location.variant} at revision {location.revision}: {location.folder}",
    )


@models_command.command("check")
@click.argument("variant")
@json_option
@pass_app
def check_command(app: App, variant: str) -> None:
    """Check VARIANT (a name or a bundle's folder): keys, shapes, finite weights, and a test window."""
    from batchsr.models.tools import check

    document: dict[str, Any] = check.check(variant)
    app.answer(document, (printable(f"{key}: {value}") for key, value in document.items()))
