"""`doctor`: what this machine gives us."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

import click

from batchsr import __version__
from batchsr.cli.app import App, json_option, pass_app
from batchsr.cli.options import compute_options
from batchsr.errors import EXIT_NO_MODEL, EXIT_OK, ModelError
from batchsr.storage import printable


@click.command("doctor")
@click.option("--share", is_flag=True, help="Print one block, without names of yours, to paste into a report.")
@compute_options
@json_option
@pass_app
def doctor_command(app: App, share: bool, dtype: str | None, device: str | None) -> None:
    """What this machine gives us: versions, device, self-test, BLAS, database, models.

    Exit 69 if nothing can be restored here: MLX does not work, or computes a known window wrongly.
    """
    if share:
        from batchsr.models.tools import machine_report

        lines, failed = machine_report.lines(dtype, device, app.note)
        app.say("\n".join(lines))
        sys.exit(EXIT_NO_MODEL if failed else EXIT_OK)

    from batchsr.models import hub
    from batchsr.models.tools import check
    from batchsr.queue.opening import describe
    from batchsr.storage import free_bytes

    computes, failed = _computes(app, dtype, device)
    models = hub.list_models()
    warnings = {} if "mlx" not in computes else _warnings(check, models)
    document: dict[str, Any] = {
        "batchsr": __version__,
        "python": platform.python_version(),
        "system": f"{platform.platform()} {platform.machine()}",
        "cores": os.cpu_count(),
        **computes,
        "sqlite": describe(),
        "database": str(app.db),
        "database_free_gb": round(free_bytes(Path(app.db)) / 1e9, 1),
        "models": {row["variant"]: bool(row["cached"]) for row in models},
        "bundle_warnings": warnings,
    }
    app.answer(document, (printable(line) for line in _lines(document)))
    sys.exit(EXIT_NO_MODEL if failed else EXIT_OK)


def _computes(app: App, dtype: str | None, device: str | None) -> tuple[dict[str, Any], bool]:
    """What computes here, with its self-test, or why nothing does; and whether nothing does."""
    from batchsr.models.compute import backend

    try:
        found = backend.doctor(dtype, device)
        chosen = backend.prepare(dtype, device)
    except ModelError as e:
        return {"backend": f"none: {e.message}", "remedy": e.remedy}, True
    from batchsr.models import self_test

    try:
        outcome = self_test.run(chosen)
    except ModelError as e:
        return {**found, "self_test": f"not made: {e.message}", "remedy": e.remedy}, True
    found |= {"self_test": f"{chosen.dtype}: {outcome}"}
    return found if outcome.passed else {
        **found,
        "remedy": self_test.failure(chosen, outcome).remedy,
    }, not outcome.passed


def _warnings(check: Any, models: list[dict[str, Any]]) -> dict[str, Any]:
    told = {row["variant"]: check.warnings_of(Path(row["path"])) for row in models if row["path"]}
    return {variant: warnings for variant, warnings in told.items() if warnings}


def _lines(document: dict[str, Any]) -> list[str]:
    """A line for each fact, and one for each precision's kernels."""
    lines = []
    for key, value in document.items():
        if key == "kernels":
            lines += [f"{f'{dtype}':<18} {what}" for dtype, what in value.items()]
        else:
            lines.append(f"{key:<18} {value}")
    return lines
