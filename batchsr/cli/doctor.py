"""`doctor`: what this machine gives us."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import click

from batchsr import __version__
from batchsr.cli.app import App, json_option, pass_app
from batchsr.storage import printable


@click.command("doctor")
@json_option
@pass_app
def doctor_command(app: App) -> None:
    """What this machine gives us: versions, backend, BLAS, database, models."""
    from batchsr.models import hub
    from batchsr.models.compute import backend
    from batchsr.models.tools import check
    from batchsr.queue.opening import describe
    from batchsr.storage import free_bytes

    found = backend.doctor()
    models = hub.list_models()
    warnings = {row["variant"]: check.warnings_of(Path(row["path"])) for row in models if row["path"]}
    document: dict[str, Any] = {
        "batchsr": __version__,
        "python": platform.python_version(),
        "system": f"{platform.platform()} {platform.machine()}",
        "cores": os.cpu_count(),
        **found,
        "sqlite": describe(),
        "database": str(app.db),
        "database_free_gb": round(free_bytes(Path(app.db)) / 1e9, 1),
        "models": {row["variant"]: bool(row["cached"]) for row in models},
        "bundle_warnings": {variant: told for variant, told in warnings.items() if told},
    }
    app.answer(document, (printable(f"{key:<18} {value}") for key, value in document.items()))
