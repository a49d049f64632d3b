"""Copies that an export made of outputs that the queue knows: they are no jobs of their own."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from batchsr.archive import mark
from batchsr.queue import Finished, Job


class SecondCopies:
    """Tells a package's copies from outputs, by the package's own record and by what the queue knows."""

    def __init__(self, done: Iterable[Job]) -> None:
        """Take the jobs that are done, whose outputs are the first copies."""
        self._outputs: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._marks: dict[Path, mark.Mark | None] = {}
        for job in done:
            if job.output_sha256 is not None:
                self._outputs[job.source, job.output_sha256].add(job.output)

    def note(self, one: Finished) -> None:
        """Know an output from now on."""
        self._outputs[one.job.source, one.result.output_sha256].add(one.job.output)

    def first(self, one: Finished) -> str | None:
        """Return the output of which this is the copy in a package, if it still is a file; None: it is no copy."""
        others = self._outputs.get((one.job.source, one.result.output_sha256), set()) - {one.job.output}
        there = sorted(path for path in others if os.path.isfile(path))
        return there[0] if there and self._was_copied(Path(one.job.output)) else None

    def _was_copied(self, output: Path) -> bool:
        """Return whether an export says that it copied or linked the file to where it is."""
        for above in output.parents:
            if above not in self._marks:
                self._marks[above] = mark.read(above)
            found = self._marks[above]
            if found is not None:
                put = found.files.get(os.path.relpath(output, above))
                return put is not None and put.way in ("copy", "link")
        return False
