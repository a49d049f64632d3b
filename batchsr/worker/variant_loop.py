"""The work of one process: the variant that was named, or one after the other those that the jobs left are bound to."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Final

from batchsr.queue import Queue
from batchsr.restoration.batcher import WindowModel
from batchsr.worker import worker
from batchsr.worker.listener import Listener, Summary
from batchsr.worker.maintenance import KEEP_EVENTS_S
from batchsr.worker.options import WorkerOptions

_TIDY_EVERY_S: Final = 3600.0


class VariantLoop:
    """Works for as long as there is something to do, and adds up what came of it.

    `load` gives the model of a variant; the last one is kept. `before` is called before each variant's turn.
    Of the variants that jobs are bound to, only those have a turn that it `takes`.
    """

    def __init__(
        self,
        queue: Queue,
        options: WorkerOptions,
        listener: Listener,
        load: Callable[[str], WindowModel],
        before: Callable[[], None] = lambda: None,
        takes: Callable[[str], bool] = lambda variant: True,
    ) -> None:
        self._queue = queue
        self._options = options
        self._listener = listener
        self._load = functools.lru_cache(maxsize=1)(load)
        self._before = before
        self._takes = takes
        self._sum = Summary()
        self._tidied_s = -math.inf

    def work(self, variant: str | None, default: str) -> Summary:
        """Work for `variant`, or if it is left open for what comes, open jobs for `default` if no others name one."""
        if variant is not None:
            self._run(variant, elsewhere=self._tidy)
        elif self._options.stay:
            while self._stay(next(iter(self._bound()), default)):
                pass
        else:
            self._all(self._bound() or [default])
        return self._sum

    def _bound(self) -> list[str]:
        return [variant for variant in self._queue.bound_variants() if self._takes(variant)]

    def _all(self, variants: Sequence[str]) -> None:
        """Work for each in its turn; places in trouble are waited for when that is all that is left of any."""
        for name in variants if len(variants) > 1 else ():
            if self._run(name, wait_for_places_s=0.0):
                return
        if len(variants) > 1:
            variants = [name for name in variants if self._queue.places(name, counted=False)]
        self._sum.places.clear()
        for name in variants:
            if self._run(name):
                return

    def _stay(self, variant: str) -> bool:
        """Work until there is something for another variant alone, and say whether that is why it ended."""
        moved = False

        def elsewhere() -> bool:
            nonlocal moved
            self._tidy()
            others = [name for name in self._bound() if name != variant]
            moved = any(self._queue.peek(name) is not None for name in others)
            return moved

        return not self._run(variant, elsewhere=elsewhere) and moved

    def _tidy(self) -> bool:
        """Forget old history, now and then, while there is nothing else to do: a worker may stay for years."""
        now_s = self._queue.clock.steady()
        if now_s - self._tidied_s >= _TIDY_EVERY_S:
            self._tidied_s = now_s
            self._queue.prune_events(KEEP_EVENTS_S)
        return False

    def _run(self, variant: str, **options: object) -> bool:
        """Work for one variant. Returns whether that was to be the last."""
        self._before()
        limit = self._options.limit
        if limit is not None:
            limit -= self._sum.done + self._sum.failed
        wanted = dataclasses.replace(self._options, variant=variant, limit=limit, **options)  # type: ignore[arg-type]
        one = worker.run(self._queue, lambda: self._load(variant), wanted, self._listener)
        self._sum.add(one)
        return one.stopped_by is not None or one.paused
