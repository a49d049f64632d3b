"""Whether a share that a file of a fleet lies on is mounted on this host.

A folder for an output is made where it is missing, so on a host without the share it would be made on its own disk, and
the output be where no other host sees it. Two things tell: a named root whose folder is not there (or, to read from,
empty), and a mount point of this machine's table of file systems on which nothing is mounted.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from batchsr.queue import Job, Trouble, roots
from batchsr.queue.trouble import Side
from batchsr.remote.address import is_url

TABLE: Final = Path("/etc/fstab")


def trouble_of(job: Job) -> Trouble | None:
    """Return what is away of the shares that a job needs."""
    for side, path in (("source", job.source), ("output", job.output)):
        if not is_url(path) and (away := away_above(path, empty_is_away=side == "source")) is not None:
            named: Side = "source" if side == "source" else "output"
            return Trouble(away, named, "gone", f"{away} is gone", "mount its disk or share", False)
    return None


def away_above(path: str, *, empty_is_away: bool) -> str | None:
    """Return the folder above a path whose share is not mounted here; None where none is known to be away."""
    above = [str(parent) for parent in Path(path).parents]
    for folder in roots.places().values():
        if folder in above and (not os.path.isdir(folder) or (empty_is_away and _is_empty(folder))):
            return folder
    points = _mount_points() & {folder for folder in above if folder != "/"}
    return next((folder for folder in sorted(points) if not os.path.ismount(folder)), None)


def _is_empty(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:
        return False


def _mount_points() -> frozenset[str]:
    """Return where this machine's table of file systems mounts something, as fstab(5) writes it."""
    try:
        lines = TABLE.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return frozenset()
    fields = (line.split() for line in lines if not line.lstrip().startswith("#"))
    found = (one[1].replace("\\040", " ").replace("\\011", "\t") for one in fields if len(one) > 2 and one[2] != "swap")
    return frozenset(os.path.normpath(point) for point in found if point.startswith("/"))
