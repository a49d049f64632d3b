"""Find the record of a restored file: its sidecar beside it, or the one beside the output that it is a copy of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from batchsr.audio import formats
from batchsr.display import shown
from batchsr.errors import SidecarForeign, UsageError
from batchsr.restoration import sidecar_reading, sidecar_versions
from batchsr.restoration.sidecar import sidecar_path
from batchsr.settings import outputs


def record_of(path: Path) -> tuple[Path, dict[str, Any], tuple[str, ...]]:
    """Return the sidecar that speaks of a file: its path, its document in today's form, and what of it is twisted.

    `path` is an output, a copy for access, a stem, or the sidecar itself. The file need not be there, and is not read.
    Raises SidecarForeign where what stands there is no sidecar of ours, UsageError where there is none.
    """
    if path.is_dir():
        raise UsageError(f"{shown(path)} is a folder", remedy="name a restored file in it")
    beside = sidecar_path(path)
    if (record := sidecar_reading.read(beside)) is not None:
        return beside, sidecar_versions.newest(record.document), record.twisted
    if path.suffix == ".json" and (record := sidecar_reading.read(path)) is not None:
        return path, sidecar_versions.newest(record.document), record.twisted
    for output in _outputs_of(path):
        other = sidecar_path(output)
        try:
            record = sidecar_reading.read(other)
        except SidecarForeign:
            continue
        if record is not None and _has_copy(record.document, path.name):
            return other, sidecar_versions.newest(record.document), record.twisted
    there = os.path.lexists(path)
    raise UsageError(
        f"{shown(path)} {'has no sidecar beside it' if there else 'is not there, and no sidecar of it either'}",
        remedy=f"its sidecar would be {shown(beside)}; name the sidecar itself if it lies elsewhere",
    )


def _outputs_of(copy: Path) -> Iterator[Path]:
    yield from (copy.with_suffix(f".{extension}") for extension in sorted(formats.WRITTEN))
    if (whole := outputs.whole_of(copy)) is not None:
        yield whole


def _has_copy(document: dict[str, Any], name: str) -> bool:
    return any(os.path.basename(copy["path"]) == name for copy in document.get("copies", []))
