"""Which words are no longer heard in an output that was made earlier, by the source that its sidecar names."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from batchsr.audio import files, reader
from batchsr.audio.windows import Block
from batchsr.errors import InputMissing, SidecarForeign
from batchsr.restoration import sidecar_reading
from batchsr.restoration.sidecar_reading import Record
from batchsr.speech.recogniser import Recogniser
from batchsr.speech.words import WordCheck


def outputs_below(place: Path) -> Iterator[Path]:
    """Yield the outputs with a sidecar below a folder, in a fixed order; a file alone, whether it has one or not.

    Raises OSError where a folder cannot be listed.
    """
    if not place.is_dir():
        yield place
        return
    with os.scandir(place) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from outputs_below(path)
        elif entry.name.endswith(".json") and path.with_suffix("").is_file() and sidecar_reading.is_ours(path):
            yield path.with_suffix("")


def check(output: Path, source: Path | None, load: Callable[[], Recogniser], *, keep_text: bool) -> dict[str, Any]:
    """Hear a recording and its output, and return what `WordCheck.finish` says, JSON-able.

    The source is the one that the sidecar names, where no other is given. Raises InputMissing without one,
    SidecarForeign for a sidecar that is none of ours, and what reading raises.
    """
    named = source or source_of(output)
    heard = WordCheck(load, keep_text=keep_text)
    with files.Source.open(named, accept_truncated=True) as before, files.Source.open(output) as after:
        pairs = itertools.zip_longest(reader.resampled(before), reader.resampled(after))
        for one, other in pairs:
            if one is not None:
                heard.add_before(_bounded(one))
            if other is not None:
                heard.add_after(_bounded(other))
    return heard.finish()


def source_of(output: Path) -> Path:
    """Return the source that an output's sidecar names, which is there. Raises InputMissing, SidecarForeign."""
    sidecar = Path(f"{output}.json")
    record = sidecar_reading.read(sidecar)
    if record is None:
        raise InputMissing(f"{output} has no sidecar that names its source", remedy="name the source with --source")
    path = _path_of(record, sidecar)
    if not path.is_file():
        raise InputMissing(f"{path}, the source of {output}, is not there", remedy="name the source with --source")
    return path


def _path_of(record: Record, sidecar: Path) -> Path:
    path = (record.document.get("source") or {}).get("path")
    if not isinstance(path, str) or not path:
        raise SidecarForeign(f"{sidecar} names no source", remedy="name the source with --source")
    return Path(os.path.join(sidecar.parent, path))


def _bounded(block: Block) -> Block:
    return np.clip(block, -1.0, 1.0)
