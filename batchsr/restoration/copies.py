"""More files of one restoration beside its output: copies for access in smaller formats, and its stems.

They get their names before the output does, and lose them again if it cannot have its own; so an output that stands
has its copies. A crash between leaves copies without an output: the next attempt makes the same bytes, and takes those
that stand there already for its own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np

from batchsr import storage, temporary
from batchsr.audio import files, formats, metadata
from batchsr.audio.treatment import Synthetic
from batchsr.audio.windows import Block
from batchsr.errors import OutputExists
from batchsr.models.separator import STEMS
from batchsr.restoration.task import Task
from batchsr.settings.outputs import copy_beside, stem_beside
from batchsr.temporary import Temporary

_ONE_FILE: Final = "0"
"""The job's number in the tag of a restoration without a queue."""


def paths(task: Task) -> tuple[tuple[str, Path], ...]:
    """Return (format, path) of each copy and stem that a task asks for."""
    return tuple((form, path) for form, path, _, _ in _wanted(task))


def _wanted(task: Task) -> list[tuple[str, Path, str, str]]:
    """Return format, path, sample format and stem of each; "" for a copy of the output itself."""
    settings = task.settings
    wanted = [
        (form, copy_beside(task.output, form), formats.WRITTEN[form].natural, "")
        for form in settings.also.split(",")
        if form
    ]
    if settings.stems == "files":
        wanted += [(settings.format, stem_beside(task.output, stem), settings.subtype, stem) for stem in STEMS]
    return wanted


def check(task: Task, channels: int) -> None:
    """Refuse at the start what would be refused at the end. Raises OutputExists, OutputError."""
    job, _, claim = task.tag.rpartition("-")
    for form, path, subtype, _ in _wanted(task):
        files.check_format(form, subtype, channels, task.settings.rate)
        with storage.output_errors(path, "write"):
            temporary.refuse_special(path)
        first = claim == "1" or job == _ONE_FILE
        if first and not task.overwrite and os.path.lexists(path):
            raise OutputExists(f"{path} exists already", remedy="move it away, or pass --overwrite")


class Copies:
    """The copies of one output under construction. Leaving the block discards what was not published."""

    def __init__(
        self,
        task: Task,
        channels: int,
        frames: int,
        described: metadata.Metadata,
        source_rate: Any,
        synthetic: Mapping[str, Synthetic],
    ) -> None:
        """`frames` is one channel's length at the output's rate; `described` is what the recording says of itself;
        `synthetic` is what each says is made up, a copy by the key "" and a stem by "stem"."""
        self._task = task
        self._held = contextlib.ExitStack()
        self._files: list[tuple[str, Temporary, files.Writer]] = []
        self._stems: list[str] = []
        self._published: list[Temporary] = []
        try:
            for form, path, subtype, stem in _wanted(task):
                carried = metadata.carry_over(
                    described,
                    form=form,
                    subtype=subtype,
                    channels=channels,
                    source_rate_hz=source_rate,
                    program="",
                    synthetic=synthetic["stem" if stem else ""],
                    rate_hz=task.settings.rate,
                )
                file = self._held.enter_context(Temporary.beside(path))
                writer = files.Writer(
                    path,
                    channels,
                    form,
                    subtype,
                    frames=frames,
                    embedded=carried.embedded,
                    fd=file.fd,
                    rate_hz=task.settings.rate,
                )
                self._held.callback(writer.abandon)
                self._files.append((form, file, writer))
                self._stems.append(stem)
        except BaseException:
            self._held.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self._held.close()

    def write(self, block: Block) -> None:
        """Append (n, C) float32 to each copy. Raises ResourceError, OutputError."""
        for stem, (_, file, writer) in zip(self._stems, self._files, strict=True):
            if not stem:
                with storage.output_errors(file.final, "write"):
                    writer.write(block)

    def write_stems(self, block: Block) -> None:
        """Append (n, 4C) float32, each stem's channels side by side, to the stems' files. Raises as `write`."""
        each = block.shape[1] // len(STEMS)
        for stem, (_, file, writer) in zip(self._stems, self._files, strict=True):
            if stem:
                first = each * STEMS.index(stem)
                with storage.output_errors(file.final, "write"):
                    writer.write(np.ascontiguousarray(block[:, first : first + each]))

    def finish(self) -> None:
        """Finish the files, still without their names."""
        for _, file, writer in self._files:
            with storage.output_errors(file.final, "write"):
                writer.close()

    def files(self) -> Iterator[tuple[str, Temporary]]:
        """Yield (format, file) of each."""
        for form, file, _ in self._files:
            yield form, file

    def on_record(self, tick: Callable[[], None]) -> list[dict[str, Any]]:
        """Return what the sidecar says of them."""
        return [
            {
                "path": os.path.abspath(file.final),
                "sha256": file.sha256(tick=tick),
                "size_bytes": file.size_bytes(),
                "format": form,
                "subtype": writer.subtype,
                "frames": writer.samples,
                **({"stem": stem} if stem else {}),
            }
            for stem, (form, file, writer) in zip(self._stems, self._files, strict=True)
        ]

    def publish(self) -> None:
        """Give them their names, durably. Raises OutputExists where another file has one."""
        for _, file, _ in self._files:
            try:
                file.publish(overwrite=self._task.overwrite)
            except OutputExists:
                if not _is_same(file):
                    raise
            else:
                self._published.append(file)

    def take_back(self) -> None:
        """Take the names away again that `publish` gave: the output could not have its own."""
        for file in self._published:
            if file.is_published():
                with contextlib.suppress(OSError):
                    file.final.unlink()


def _is_same(file: Temporary) -> bool:
    """Return whether what stands under the name has the bytes of ours: an attempt before this one left it."""
    try:
        return not file.final.is_symlink() and storage.sha256(file.final) == file.sha256()
    except OSError:
        return False
