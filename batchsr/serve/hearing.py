"""Pictures and clips of one file, made by a process of its own: the server knows no audio libraries.

Run as a program (`python -m batchsr.serve.hearing DATABASE NUMBER`) it writes them to standard output as JSON; DATABASE
is empty for a fleet, whose URL is in BATCHSR_FLEET, where no list of processes shows its password. A
decoder that falls over a broken file, or takes for ever, takes that process along and nothing else.
"""

from __future__ import annotations

import base64
import collections
import json
import os
import subprocess
import sys
import threading
from typing import Any, Final

from batchsr.display import printable
from batchsr.errors import BatchsrError, ResourceError, UsageError
from batchsr.queue import Job, State
from batchsr.queue.opening import QueueAddress
from batchsr.remote.address import is_url, path_of
from batchsr.serve import files

WORDS: Final = ("source", "restored", "difference")
PATIENCE_S: Final = 120.0
_KEPT: Final = 16  # files, some 300 kB each


class Hearing:
    """Has files heard, one at a time, and keeps the latest of what it got."""

    def __init__(self, address: QueueAddress) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._kept: collections.OrderedDict[tuple[int, str | None], dict[str, Any]] = collections.OrderedDict()

    def of(self, job: Job) -> dict[str, Any]:
        """Return what the page shows of a job that is done, as `report.page.heard` makes it.

        Raises UsageError or the InputError family where it cannot be heard, ResourceError where another one takes too
        long just now.
        """
        if job.state is not State.DONE:
            raise UsageError(f"#{job.id} is not restored yet", remedy="it can be heard when it is done")
        os.close(files.opened(job, "source"))
        os.close(files.opened(job, "output"))
        key = (job.id, job.output_sha256)
        if not self._lock.acquire(timeout=PATIENCE_S):
            raise ResourceError("others are being prepared to be heard", remedy="ask again in a minute")
        try:
            if key not in self._kept:
                self._kept[key] = self._made(job)
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]
        finally:
            self._lock.release()

    def clip(self, job: Job, word: str) -> bytes:
        """Return a clip as Ogg Opus. Raises as `of` does."""
        return base64.b64decode(self.of(job)["clips"][word])

    def _made(self, job: Job) -> dict[str, Any]:
        file = self._address.file
        command = [sys.executable, "-m", "batchsr.serve.hearing", "" if file is None else str(file), str(job.id)]
        try:
            ended = subprocess.run(
                command,
                env=os.environ | self._address.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PATIENCE_S,
                check=False,
            )
        except subprocess.TimeoutExpired as e:
            raise UsageError(f"#{job.id} takes too long to be heard", remedy=f"`batchsr listen {job.id}`") from e
        if ended.returncode:
            lines = ended.stderr.decode("utf-8", "replace").strip().splitlines()
            raise UsageError(printable(lines[-1] if lines else f"#{job.id} cannot be heard"))
        made: dict[str, Any] = json.loads(ended.stdout)
        return made


def main(database: str, number: str) -> int:
    """Write what is to be heard of a job. Returns the exit code."""
    from batchsr.report.page import heard

    try:
        with QueueAddress.of(database, os.environ).open() as queue:
            job = queue.get(int(number))
        if job is None:
            raise UsageError(f"there is no job {number}")
        if is_url(job.source) or is_url(job.output):
            raise UsageError(f"#{number} cannot be heard here: it is in a store")
        report = heard.report_of(path_of(job.output), job)
        made = heard.heard(path_of(job.source).name, path_of(job.source), path_of(job.output), report, number=job.id)
    except BatchsrError as e:
        print(printable(e), file=sys.stderr)
        return 1
    print(json.dumps(made, ensure_ascii=True))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
