"""Which words are no longer heard in an output that was made earlier, by the source that its sidecar names."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from batchsr import storage
from batchsr.audio import files, reader
from batchsr.audio.windows import SAMPLE_RATE_HZ, Block
from batchsr.errors import BatchsrError, InputChanged, InputMissing, InputUnreadable, SidecarForeign
from batchsr.restoration import sidecar_reading
from batchsr.restoration.sidecar_reading import Record
from batchsr.speech.recogniser import Recogniser
from batchsr.speech.words import WordCheck

_SAID: Final = {"not_counted_because", "sure", "gone", "own_unrest", "places", "review"}
_LONGER: Final = 60 * SAMPLE_RATE_HZ
"""So much of an output is taken in behind the end of its recording; of more there is nothing to compare with."""


def outputs_below(place: Path) -> Iterator[tuple[Path, BatchsrError | None]]:
    """Yield the outputs with a sidecar below a folder, in a fixed order; a file alone, whether it has one or not.

    A folder that cannot be listed comes with the error, and what stands beside it follows.
    """
    if not place.is_dir():
        yield place, None
        return
    try:
        with os.scandir(place) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as e:
        yield place, InputUnreadable(f"{place} cannot be listed: {e.strerror}", remedy="give permission to list it")
        return
    for entry in found:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from outputs_below(path)
        elif entry.name.endswith(".json") and path.with_suffix("").is_file() and sidecar_reading.was_ours(path):
            yield path.with_suffix(""), None


def check(output: Path, source: Path | None, load: Callable[[], Recogniser], *, keep_text: bool) -> dict[str, Any]:
    """Hear a recording and its output, and return what `WordCheck.finish` says, JSON-able.

    The source is the one that the sidecar names, where no other is given; if a folder is, it is sought below that by
    its name. Raises InputMissing without one,
    InputChanged where it or the output is another file by now, SidecarForeign for a sidecar that is none of ours, and
    what reading raises.
    """
    named = source if source is not None and not source.is_dir() else source_of(output, below=source)
    heard = WordCheck(load, keep_text=keep_text)
    ahead = 0
    with files.Source.open(named, accept_truncated=True) as before, files.Source.open(output) as after:
        pairs = itertools.zip_longest(reader.resampled(before), reader.resampled(after))
        for one, other in pairs:
            if one is not None:
                heard.add_before(_bounded(one))
                ahead -= len(one)
            if other is not None and ahead < _LONGER:
                heard.add_after(_bounded(other))
                ahead += len(other)
            if one is None and ahead >= _LONGER:
                break
    return heard.finish()


def recorded(output: Path) -> dict[str, Any]:
    """Return what stands on record of an output's words, JSON-able, as `WordCheck.finish` said it.

    Raises InputMissing where nothing does, SidecarForeign.
    """
    record = sidecar_reading.read(Path(f"{output}.json"))
    words = (record.document.get("checks") or {}).get("words") if record is not None else None
    if not isinstance(words, dict):
        raise InputMissing(f"{output} has no words on record", remedy="hear it: leave out --recorded")
    if not _SAID.issubset(words):
        raise SidecarForeign(f"{output}.json was changed: of its words something is missing", remedy="hear it anew")
    return words


def source_of(output: Path, below: Path | None = None) -> Path:
    """Return the source that an output's sidecar names, which is there and as it was, as the output is.

    below: the folder to which sources were moved since, with as much of their old path as they may have kept there.

    Raises InputMissing, InputChanged, InputUnreadable, SidecarForeign.
    """
    sidecar = Path(f"{output}.json")
    record = sidecar_reading.read(sidecar)
    if record is None:
        raise InputMissing(f"{output} has no sidecar that names its source", remedy="name the source with --source")
    path = _path_of(record, sidecar)
    if below is not None:
        return _moved(output, record, path, below)
    if not path.is_file():
        raise InputMissing(
            f"{path}, the source of {output}, is not there",
            remedy="name it, or the folder that it lies in now, with --source",
        )
    if not _is(output, record.said.output.sha256):
        raise _another(output)
    if not _is(path, record.said.source.sha256):
        raise InputChanged(
            f"{path} is not the file that {output} was made from: its SHA-256 is another",
            remedy="name the source with --source, or hear it with this one by --source too",
        )
    return path


def _moved(output: Path, record: Record, path: Path, below: Path) -> Path:
    if not _is(output, record.said.output.sha256):
        raise _another(output)
    tail = path.parts[1:]
    for kept in range(len(tail)):
        candidate = below.joinpath(*tail[kept:])
        if candidate.is_file() and _is(candidate, record.said.source.sha256):
            return candidate
    raise InputMissing(
        f"the source of {output}, {path.name}, is not below {below} as it was", remedy="name the folder that it lies in"
    )


def _another(output: Path) -> InputChanged:
    return InputChanged(
        f"{output} is not the file that its sidecar speaks of: its SHA-256 is another",
        remedy="name the source with --source to hear it all the same",
    )


def _is(path: Path, sha256: str) -> bool:
    try:
        return storage.sha256(path) == sha256
    except OSError as e:
        raise InputUnreadable(f"{path} cannot be read: {e.strerror}", remedy="give permission to read it") from e


def _path_of(record: Record, sidecar: Path) -> Path:
    path = (record.document.get("source") or {}).get("path")
    if not isinstance(path, str) or not path:
        raise SidecarForeign(f"{sidecar} names no source", remedy="name the source with --source")
    return Path(os.path.join(sidecar.parent, path))


def _bounded(block: Block) -> Block:
    return np.clip(block, -1.0, 1.0)
