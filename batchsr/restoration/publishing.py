"""The last step of a restoration: the output gets its name, and then its sidecar stands beside it.

    both are written, as temporaries, and synced
    -> the output's name is taken         who comes second is told so, and has changed nothing
    -> the sidecar gets its name          of the one whose output it is, so the two always belong together
    -> the folder is synced, and only then does the queue say that it is done

A crash between the two names leaves an output without a sidecar. The next claim finds it by the hash in the queue,
which was written before, and writes the sidecar from the queue (`complete`). Where the queue is lost too, the sidecar's
temporary is still there, whole, and proves itself by the output's hash: it gets its name (`mend`).
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from batchsr import faults, storage, temporary
from batchsr.errors import BatchsrError, OutputExists, OutputPathError, ResourceError, SidecarForeign
from batchsr.restoration import sidecar_reading
from batchsr.restoration.sidecar import sidecar_path
from batchsr.temporary import Temporary


def check_names(output: Path, *, overwrite: bool, sidecar: bool) -> None:
    """Refuse at the start what would be refused at the end, hours later.

    Raises OutputExists, or SidecarForeign where something else than a sidecar of ours has the sidecar's name.
    """
    with storage.output_errors(output, "write"):
        temporary.refuse_special(output)
        if not overwrite and _is_there(output):
            raise OutputExists(f"{output} exists already{_hint(output)}", remedy="move it away, or pass --overwrite")
        if sidecar:
            _want_place(sidecar_path(output))


def record_bytes(document: Mapping[str, Any]) -> bytes:
    """Return a sidecar as it is written."""
    return (json.dumps(document, indent=2, ensure_ascii=True) + "\n").encode("ascii")


def record_beside(output: Path, document: Mapping[str, Any]) -> Temporary:
    """Write and sync the sidecar of an output, but not yet under its name. Raises ResourceError."""
    record = Temporary.beside(sidecar_path(output))
    try:
        record.write(record_bytes(document))
        record.sync()
    except BaseException:
        record.discard()
        raise
    return record


def publish(
    output: Temporary, record: Temporary | None, *, overwrite: bool, still_ours: Callable[[], None] = lambda: None
) -> None:
    """Give an output and its sidecar (`record_beside`) their names, durably.

    `still_ours()` is asked right before something is replaced, and keeps it from that by raising.

    Raises OutputExists with both still without a name when another file has the output's, unless `overwrite`, or what
    is not ours has the sidecar's; OutputPathError, ResourceError, TransientError as `Temporary.take_name` does.
    """
    folder = output.final.parent
    output.sync()
    faults.point("rename.before")
    with temporary.locked_folder(folder):  # so that of two who overwrite, the second has both names, not one
        replaces = False
        if record is not None:
            replaces = _want_place(record.final)
            _sync_folder(folder)  # the record's own name must survive what the output's name survives
        if overwrite:
            still_ours()
        output.take_name(overwrite=overwrite)
        faults.point("rename.after")
        if record is not None:
            record.take_name(overwrite=replaces)
            faults.point("sidecar.after")
    faults.point("folder_fsync.before")
    _sync_folder(folder)
    faults.point("folder_fsync.after")


def want_links(folder: Path) -> None:
    """Make sure that a name can be taken by a link, which alone is safe between machines; tried once for each folder.

    Raises OutputPathError where the file system has none, ResourceError.
    """
    if str(folder) in _with_links or not os.path.isdir(folder):
        return
    with Temporary.beside(folder / "link") as one:
        other = one.path.with_name(one.path.name + ".link")
        try:
            os.link(one.path, other)
        except OSError as e:
            if e.errno not in temporary.WITHOUT_LINKS:
                raise ResourceError(f"a link cannot be made in {folder}: {e}", remedy="check the share") from e
            raise OutputPathError(
                f"{folder} is on a file system without hard links, where hosts cannot tell who was first",
                remedy="put outputs on one that has them (NFS, or SMB with a server that knows them), or use one host",
            ) from e
        other.unlink()
    _with_links.add(str(folder))


_with_links: set[str] = set()


def complete(output: Path, document: Mapping[str, Any]) -> None:
    """Put an output's sidecar beside it where it is missing or another output's: a crash fell between the two names.

    `document` is the sidecar. Nothing is done where the output is not, or no longer, the one that it speaks of. Raises
    SidecarForeign, ResourceError.
    """
    path = sidecar_path(output)
    with contextlib.suppress(SidecarForeign):
        found = sidecar_reading.read(path)
        if found is not None and found.said.output.sha256 == document["output"]["sha256"]:
            return
    with record_beside(output, document) as record, temporary.locked_folder(output.parent):
        try:
            still = storage.sha256(output) == document["output"]["sha256"]
        except OSError:
            still = False
        if still:
            record.take_name(overwrite=_want_place(path))
            _sync_folder(output.parent)


def mend(output: Path) -> bool:
    """Give the sidecar of an output its name, if a crash has left both of it but that. Returns whether it did."""
    path = sidecar_path(output)
    if os.path.lexists(path) or not _is_file(output):
        return False
    for record in temporary.dead_temporaries(path):
        found = _parsed(record)
        try:
            if found is not None and _is_of(found.said.output, output):
                record.publish(overwrite=False)
                return True
        except (BatchsrError, OSError):
            pass  # it stays where it is, for the next who looks
        finally:
            record.close()
    return False


def _is_of(said: sidecar_reading.Output, output: Path) -> bool:
    return said.size_bytes == output.stat().st_size and said.sha256 == storage.sha256(output)


def mend_folder(folder: Path) -> None:
    """`mend` every output in a folder whose sidecar a dead process left without its name."""
    outputs: list[Path] = []
    for record in temporary.dead_in(folder):
        found = _parsed(record)
        if found is not None:
            outputs.append(folder / Path(str(found.document["output"].get("path", ""))).name)
        record.close()
    for output in outputs:
        mend(output)


def _parsed(record: Temporary) -> sidecar_reading.Record | None:
    """Return what a temporary says, if it is a sidecar."""
    try:
        if record.size_bytes() > sidecar_reading.MOST_BYTES:
            return None
        return sidecar_reading.parse(record.path, os.pread(record.fd, sidecar_reading.MOST_BYTES, 0))
    except (SidecarForeign, OSError):
        return None


def _want_place(path: Path) -> bool:
    """Return whether a sidecar of ours stands there, to be replaced. Raises SidecarForeign where anything else does."""
    if not _is_there(path):
        return False
    if sidecar_reading.is_ours(path):
        return True
    message = f"{path} exists and is not a sidecar of batchsr"
    raise SidecarForeign(message, remedy="move it away, or pass --no-sidecar")


def _hint(output: Path) -> str:
    """Return why the output that stands there is not taken for one of ours, where that can be said."""
    try:
        found = sidecar_reading.read(sidecar_path(output))
    except SidecarForeign as e:
        return f", and {e.message}"
    return "" if found is not None else ", and no sidecar beside it says what it is"


def _is_there(path: Path) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _sync_folder(folder: Path) -> None:
    with storage.output_errors(folder, "publish in"):
        storage.fsync_path(folder)
