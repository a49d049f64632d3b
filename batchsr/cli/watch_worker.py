"""The worker that `watch --work` starts: its command line, and what is left of its limits when it is started again."""

from __future__ import annotations

import time
from typing import Any

from batchsr.cli.app import App
from batchsr.cli.child_command import as_words, program
from batchsr.queue import Queue
from batchsr.settings import schedule


class Allowance:
    """What is left of --for and --stop-after for a worker that is started now."""

    def __init__(self, options: dict[str, Any], queue: Queue) -> None:
        self._options = options
        self._queue = queue
        self._began_s = time.monotonic()
        self._began_at = queue.clock.wall()

    def now(self) -> dict[str, Any]:
        """Return the options with what is left; where no file is left, those that end a worker at once."""
        left = dict(self._options)
        if left["for_"] is not None:
            left["for_"] = f"{max(0.0, schedule.duration_s(left['for_']) - time.monotonic() + self._began_s):.3f}s"
        if left["stop_after"] is not None:
            left["stop_after"] -= self._queue.files_ended(self._began_at)
            if left["stop_after"] <= 0:
                left |= {"stop_after": None, "for_": "0s"}
        return left


def worker_command(app: App, options: dict[str, Any], variant: str | None) -> list[str]:
    """`work` with what was asked of `watch --work`. `variant` is what the jobs name; it claims no others."""
    stay = [] if options["once"] else ["--stay"]
    flags = [
        *(["--share-gpu"] if options["share_gpu"] else []),
        *(["--no-keep-awake"] if options["keep_awake"] else []),
    ]
    names = ("procs", "dtype", "device", "min_free", "only_between", "stop_after", "for_")
    asked = {name: options[name] for name in names}
    return [*program(app.address), "--no-color", "work", *stay, *flags, *as_words({"variant": variant, **asked})]
