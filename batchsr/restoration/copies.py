"""Copies of an output for access, in smaller formats, written in the same pass beside it.

They get their names before the output does, and lose them again if it cannot have its own; so an output that stands
has its copies. A crash between leaves copies without an output: the next attempt makes the same bytes, and takes those
that stand there already for its own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from batchsr import storage, temporary
from batchsr.audio import files, formats, metadata
from batchsr.audio.treatment import Synthetic
from batchsr.audio.windows import Block
from batchsr.errors import OutputExists
from batchsr.restoration.task import Task
from batchsr.settings.outputs import copy_beside
from batchsr.temporary import Temporary

_ONE_FILE: Final = "0"
"""The job's number in the tag of a restoration without a queue."""


def paths(task: Task) -> tuple[tuple[str, Path], ...]:
    """Return (format, path) of each copy that a task asks for."""
    return tuple((form, copy_beside(task.output, form)) for form in task.settings.also.split(",") if form)


def check(task: Task, channels: int) -> None:
    """Refuse at the start what would be refused at the end. Raises OutputExists, OutputError."""
    job, _, claim = task.tag.rpartition("-")
    for form, path in paths(task):
        files.check_format(form, formats.WRITTEN[form].natural, channels, task.settings.rate)
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
        synthetic: Synthetic,
    ) -> None:
        """`frames` is one channel's length at the output's rate; `described` is what the recording says of itself;
        `synthetic` is what each copy says is made up."""
        self._task = task
        self._held = contextlib.ExitStack()
        self._files: list[tuple[str, Temporary, files.Writer]] = []
        self._published: list[Temporary] = []
        try:
            for form, path in paths(task):
                subtype = formats.WRITTEN[form].natural
                carried = metadata.carry_over(
                    described,
                    form=form,
                    subtype=subtype,
                    channels=channels,
                    source_rate_hz=source_rate,
                    program="",
                    synthetic=synthetic,
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
        except BaseException:
            self._held.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self._held.close()

    def write(self, block: Block) -> None:
        """Append (n, C) float32 to each. Raises ResourceError, OutputError."""
        for _, file, writer in self._files:
            with storage.output_errors(file.final, "write"):
                writer.write(block)

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
            }
            for form, file, writer in self._files
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
