"""`models`: which there are, fetch one, check one."""

from __future__ import annotations

import sys
from typing import Any

import click

from batchsr.cli.app import App, json_option, pass_app
from batchsr.cli.variant import VariantType
from batchsr.display import printable


@click.group("models")
def models_command() -> None:
    """The models: which there are, fetch one, check one."""


@models_command.command("list")
@json_option
@pass_app
def list_models_command(app: App) -> None:
    """The variants, whether they are here already, and who put them there."""
    from batchsr.models import registry

    for row in (row for entry in registry.MODELS.values() for row in entry.family().installed()):
        where = row["path"] if row["cached"] else "not here yet: `batchsr models pull " + row["variant"] + "`"
        size = f"{row['bytes'] / 2**20:.0f} MiB" if row["bytes"] else ""
        source = _SOURCES.get(row["source"], "")
        app.answer(row, printable(f"{row['variant']:<6} {row['repository'] or '':<28} {size:>8}  {source:<16} {where}"))


_SOURCES = {"package": "with the program", "hub": "from the hub", "speech-swift": "by speech-swift"}


@models_command.command("pull")
@click.argument("variant", type=VariantType())
@click.option("--again", is_flag=True, help="Fetch it even if it is here.")
@json_option
@pass_app
def pull_command(app: App, variant: str, again: bool) -> None:
    """Fetch VARIANT from the hub into the cache, and check it; one that was cut goes on where it was."""
    from batchsr.models import registry

    progress = sys.stderr.isatty() and app.verbosity >= 0
    location = registry.family_of(variant).pull(variant, progress=progress, again=again)
    at = f" at revision {location.revision}" if location.revision else f" ({_SOURCES.get(location.source, '')})"
    app.answer(
        {
            "variant": location.variant,
            "revision": location.revision,
            "source": location.source,
            "path": str(location.folder),
        },
        printable(f"{location.variant}{at}: {location.folder}"),
    )


@models_command.command("check")
@click.argument("variant", type=VariantType())
@json_option
@pass_app
def check_command(app: App, variant: str) -> None:
    """Check VARIANT (a name or a bundle's folder): keys, shapes, finite weights, and a test window."""
    from batchsr.models import registry

    document: dict[str, Any] = registry.family_of(variant).check(variant)
    lines = {key: value for key, value in document.items() if key != "warnings"}
    app.answer(
        document,
        [
            *(printable(f"{key}: {value}") for key, value in lines.items()),
            *(printable(f"warning: {warning}") for warning in document["warnings"]),
        ],
    )
