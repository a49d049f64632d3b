"""What is on record of an output. No audio library is needed here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchsr.errors import OutputExists
from batchsr.queue import Job
from batchsr.restoration import sidecar, sidecar_reading


def report_of(output: Path, job: Job | None = None) -> Mapping[str, Any]:
    """Return what is on record of an output: its sidecar, or what its row keeps of it; empty where there is neither."""
    try:
        record = sidecar_reading.read(sidecar.sidecar_path(output))
    except OutputExists:
        record = None
    if record is not None:
        return record.document
    try:
        kept = json.loads((job.report if job else None) or "{}")
    except ValueError:
        kept = {}
    return kept if isinstance(kept, dict) else {}
