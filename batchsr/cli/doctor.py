"""`doctor`: what this machine gives us."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchsr import __version__
from batchsr.cli.app import App, fleet_options, json_option, pass_app
from batchsr.cli.fleet import check_host
from batchsr.cli.options import compute_options
from batchsr.cli.paths import UserPath
from batchsr.cli.share_checks import troubles_of
from batchsr.cli.variant import model_option
from batchsr.display import printable
from batchsr.errors import EXIT_IO, EXIT_NO_MODEL, EXIT_OK, QueueBusy, QueueError, ResourceError, UsageError

if TYPE_CHECKING:
    from batchsr.models.family import Family


@click.command("doctor")
@click.option("--out", multiple=True, type=UserPath(path_type=Path), help="Of a fleet: a folder that outputs go to.")
@click.option("--share", is_flag=True, help="Print one block, without names of yours, to paste into a report.")
@model_option
@compute_options
@fleet_options
@json_option
@pass_app
def doctor_command(
    app: App, out: tuple[Path, ...], share: bool, model: str | None, dtype: str | None, device: str | None
) -> None:
    """What this machine gives us: versions, device, self-test, BLAS, database, models.

    Exit 69 if nothing can be restored here: MLX does not work, or computes a known window wrongly.
    """
    if share:
        if model not in (None, "flashsr"):
            raise UsageError("--share tells of FlashSR", remedy="leave --model out")
        from batchsr.models.tools import machine_report

        lines, failed = machine_report.lines(dtype, device, app.note)
        app.say("\n".join(lines))
        sys.exit(EXIT_NO_MODEL if failed else EXIT_OK)

    from batchsr.models import registry
    from batchsr.queue.opening import describe
    from batchsr.storage import free_bytes

    computes, failed = registry.MODELS[model or registry.FLASHSR].family().look_over(dtype, device)
    families = [entry.family() for name, entry in registry.MODELS.items() if model in (None, name)]
    rows = [(family, row) for family in families for row in family.installed()]
    document: dict[str, Any] = {
        "batchsr": __version__,
        "python": platform.python_version(),
        "system": f"{platform.platform()} {platform.machine()}",
        "cores": os.cpu_count(),
        **computes,
        "sqlite": describe(),
        "database": app.database,
        "database_free_gb": round(free_bytes(app.host_folder if app.fleet is not None else Path(app.db)) / 1e9, 1),
        "models": {row["variant"]: bool(row["cached"]) for _, row in rows},
        "bundle_warnings": {} if failed and "mlx" not in computes else _warnings(rows),
    }
    if app.fleet is not None:
        document["fleet_problems"] = _troubles_of_fleet(app, app.fleet, out)
    app.answer(document, (printable(line) for line in _lines(document)))
    if not failed and document.get("fleet_problems"):
        sys.exit(EXIT_IO)
    sys.exit(EXIT_NO_MODEL if failed else EXIT_OK)


def _troubles_of_fleet(app: App, url: str, folders: Iterable[Path]) -> list[str]:
    """Return why this host cannot take part in the fleet, one sentence each; none if it can."""
    try:
        return list(check_host(app, url, folders)["problems"])
    except (QueueError, QueueBusy, ResourceError) as e:
        return [str(e), *(said for folder in folders for said in troubles_of(folder))]


def _warnings(rows: Iterable[tuple[Family, dict[str, Any]]]) -> dict[str, Any]:
    """Return what of the bundles that are here is taken calmly, by variant."""
    told = {row["variant"]: family.warnings(Path(row["path"])) for family, row in rows if row["path"]}
    return {variant: warnings for variant, warnings in told.items() if warnings}


def _lines(document: dict[str, Any]) -> list[str]:
    """Return a line for each fact, and one for each precision's kernels."""
    lines = []
    for key, value in document.items():
        if key == "kernels":
            lines += [f"{f'{dtype}':<18} {what}" for dtype, what in value.items()]
        else:
            lines.append(f"{key:<18} {value}")
    return lines
