"""Rebuild a queue's history from the outputs on the disk: each with its sidecar, each proved by its hash.

A sidecar is input that anybody may have written. What it says is taken only where the output beside it has the hash
that it names, and where its settings are ones that a restoration could have had. Nothing is read outside the folder
that was named, but for the size and time of the source, if it is still where it was.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from batchsr import storage
from batchsr.archive import exchange
from batchsr.display import shown
from batchsr.errors import ConfigError, SidecarForeign, UsageError
from batchsr.queue import Backend, Finished, NewJob
from batchsr.remote.address import Address, is_url
from batchsr.restoration import sidecar_reading
from batchsr.restoration.sidecar import sidecar_path
from batchsr.settings.profile import Settings
from batchsr.worker.recovery import result_of

_MOST_TEXT: Final = 1_000
_BEGINNING_BYTES: Final = 256
_OWN_TO_THE_ROW: Final = ("id", "batch", "attempts", "claim", "worker")


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """A sidecar that was not taken, or a folder that could not be read."""

    path: Path
    why: str


def finished_below(folder: Path, *, batch: str | None = None) -> Iterator[Finished | Refused]:
    """Find what was finished below a folder, in a fixed order, and what there is that cannot be believed.

    Each output is hashed. JSON that no sidecar is passes by unsaid. Links are not followed. `batch` is taken in place
    of what the sidecars say.
    """
    for path in _sidecars_below(folder):
        if isinstance(path, Refused):
            yield path
        elif sidecar_reading.is_ours(path) or _was_ours(path):
            try:
                yield _finished(path, batch)
            except SidecarForeign as e:
                yield Refused(path, e.message)
            except ConfigError as e:
                yield Refused(path, f"its settings are none that this program knows: {e.message}")
            except _Doubt as e:
                yield Refused(path, str(e))


def _was_ours(path: Path) -> bool:
    """Return whether it begins as a sidecar does; what is cut or damaged must not pass by unsaid."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return sidecar_reading.PREFIX.encode() in os.read(fd, _BEGINNING_BYTES)
    except OSError:
        return False
    finally:
        os.close(fd)


_UNFINISHED: Final = "an export that was stopped left it: the same `batchsr export` goes on with it, or rename it"


class _Doubt(Exception):
    """Why a sidecar is not taken."""


def _sidecars_below(folder: Path) -> Iterator[Path | Refused]:
    """Yield each folder's files before those of the next, however deep they lie: folders are not nested calls."""
    folders = [folder]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as e:
            yield Refused(folder, f"the folder cannot be read: {e.strerror}")
            continue
        inner = []
        for entry in listed:
            try:
                is_folder = entry.is_dir(follow_symlinks=False)
                if is_folder and exchange.is_unfinished(entry.name):
                    yield Refused(Path(entry.path), _UNFINISHED)
                elif is_folder:
                    inner.append(Path(entry.path))
                elif entry.name.endswith(".json") and entry.is_file(follow_symlinks=False):
                    yield Path(entry.path)
            except OSError:
                continue
        folders += reversed(inner)


def _finished(path: Path, batch: str | None) -> Finished:
    """Read and prove one. Raises _Doubt, SidecarForeign, ConfigError."""
    record = sidecar_reading.read(path)
    if record is None:
        raise _Doubt("it is gone")
    said, document = record.said, record.document
    output = _proved_output(path, document, said.output.sha256, said.output.size_bytes)
    settings = Settings.from_mapping(_table(document, "settings"))
    if settings.digest() != said.settings_sha256:
        raise _Doubt("its settings do not have the hash that it names for them")
    source = document["source"].get("path")
    if not isinstance(source, str) or not _is_whole_name(source) or not storage.is_path(source) or len(source) > 4_096:
        raise _Doubt("it does not say where the recording was")
    own = _table(document, "job")
    made_by = _table(document, "model")
    found = None if is_url(source) else _of_the_source(source, said.source.size_bytes)
    job = NewJob(
        source=source,
        output=str(output),
        alt_output=str(output),
        identity=_identity(source, found, said.source.size_bytes, document),
        settings=settings.to_json(),
        batch=batch if batch is not None else _text(own, "batch")[:200],
        size_bytes=said.source.size_bytes,
        frames=said.source.frames,
        sample_rate=said.source.sample_rate_hz,
        channels=said.source.channels,
        audio_s=said.source.duration_s,
        provenance=_provenance(own),
    )
    if found is not None:
        job = dataclasses.replace(
            job, mtime_ns=storage.kept_ns(found.st_mtime_ns), inode=found.st_ino, device=found.st_dev
        )
    backend = Backend(
        variant=_text(made_by, "variant"),
        revision=_text(made_by, "revision"),
        weights_sha256=said.model.weights_sha256[:_MOST_TEXT],
        dtype=said.model.dtype[:_MOST_TEXT],
        device=said.model.device[:_MOST_TEXT],
        batch_windows=max(1, min(_whole(made_by, "batch_windows"), 2**31)),
        repository=_text(made_by, "repository") or None,
    )
    result = result_of(record, windows_resumed=said.windows.resumed)
    return Finished(job, backend, result, _when(document.get("finished")))


def _is_whole_name(source: str) -> bool:
    """Return whether this says where a recording was: an absolute path, or a URL that can be taken."""
    if not is_url(source):
        return os.path.isabs(source)
    try:
        Address.parse(source)
    except UsageError:
        return False
    return True


def _proved_output(path: Path, document: Mapping[str, Any], sha256: str, size_bytes: int) -> Path:
    """Return the output beside a sidecar, which is the one it speaks of. It may have been moved with its sidecar."""
    name = os.path.basename(str(document["output"].get("path", "")))
    if not storage.is_name(name) or sidecar_path(path.parent / name).name != path.name:
        raise _Doubt("it has not the name of a sidecar of the output that it names")
    output = Path(os.path.abspath(path.parent / name))
    try:
        status = os.lstat(output)
        if not stat.S_ISREG(status.st_mode):
            raise _Doubt(f"{shown(name)} is no file")
        if status.st_size != size_bytes:
            raise _Doubt(f"{shown(name)} has {status.st_size:,} bytes and not {size_bytes:,}")
        found = storage.sha256(output)
    except FileNotFoundError as e:
        raise _Doubt(f"{shown(name)} is not there") from e
    except OSError as e:
        raise _Doubt(f"{shown(name)} cannot be read: {e.strerror}") from e
    if found != sha256:
        raise _Doubt(f"{shown(name)} has SHA-256 {found} and not {sha256}")
    return output


def _identity(source: str, status: os.stat_result | None, size_bytes: int, document: Mapping[str, Any]) -> str:
    """As `enqueue` makes it, so that it knows the recording again; for one that is gone or changed, like no other."""
    modified = document["source"].get("modified")
    e_tag = document["source"].get("e_tag")
    if is_url(source) and isinstance(e_tag, str):
        return f'{source}\0{size_bytes}\0"{e_tag}"'[:8_192]
    if status is not None and _iso(status.st_mtime_ns) == modified:
        return f"{os.path.realpath(source)}\0{status.st_size}\0{status.st_mtime_ns}"
    return f"{source}\0{size_bytes}\0{modified if isinstance(modified, str) else ''}"[:8_192]


def _of_the_source(source: str, size_bytes: int) -> os.stat_result | None:
    """Return what the recording is like on the disk, if it is still there and as long as it was."""
    try:
        status = os.stat(source)
    except OSError:
        return None
    return status if status.st_size == size_bytes else None


def _iso(time_ns: int) -> str:
    """Return a file's time as sidecars have it."""
    moment = datetime.datetime.fromtimestamp(storage.kept_ns(time_ns) / 1e9, datetime.UTC)
    return moment.isoformat(timespec="seconds")


def _when(value: object) -> float | None:
    try:
        return datetime.datetime.fromisoformat(value).timestamp() if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


def _provenance(own: Mapping[str, Any]) -> str:
    kept = {key: value for key, value in own.items() if key not in _OWN_TO_THE_ROW}
    return json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=True) if kept else ""


def _table(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _text(table: Mapping[str, Any], key: str) -> str:
    found = table.get(key)
    return found[:_MOST_TEXT] if isinstance(found, str) else ""


def _whole(table: Mapping[str, Any], key: str) -> int:
    found = table.get(key)
    return found if isinstance(found, int) and not isinstance(found, bool) else 0
