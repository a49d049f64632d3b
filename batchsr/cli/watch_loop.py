"""The loop of `watch`: what settles goes to the hot folder, the worker is kept running, and signals end both."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any, Final

from batchsr.cli.app import App
from batchsr.cli.idle_notices import IdleNotices
from batchsr.intake.child_processes import SleepInhibitor, WorkerProcess
from batchsr.queue import Queue
from batchsr.settings import schedule

_SETTLE_S: Final = 10.0
_SETTLE_POLLING_S: Final = 30.0
_LOOK_AT_WORK_S: Final = 2.0  # how often it is asked whether the machine has to stay awake


class WatchLoop:
    """The loop of `watch`, and the signals that end it."""

    def __init__(self, app: App, scope: Any, options: dict[str, Any]) -> None:
        from batchsr.intake.events import NoEvents, ObserverEvents, must_poll
        from batchsr.intake.settle import Settler
        from batchsr.intake.watcher import Watcher

        polled = [root for root in scope.folders if must_poll(root, options["poll"])]
        settle_s = options["settle"]
        if settle_s is None:
            settle_s = _SETTLE_POLLING_S if polled else _SETTLE_S
        rescan_s = min(options["rescan"], max(settle_s, 1.0)) if polled else options["rescan"]
        self.events = NoEvents() if len(polled) == len(scope.folders) else ObserverEvents()
        self.watcher = Watcher(
            scope,
            self.events,
            Settler(settle_s=settle_s, patience_s=max(settle_s, schedule.duration_s(options["patience"]))),
            rescan_s=rescan_s,
            polls=lambda root: must_poll(root, options["poll"]),
            say=app.note,
        )
        self._stop = threading.Event()
        self._app = app
        for root in scope.folders:
            how = f"searching every {rescan_s:g} s" if root in polled else "listening"
            app.note(f"watching {root} ({how}; a file is taken after {settle_s:g} s without a change)")

    def run(self, hot_folder: Any, worker: WorkerProcess | None, awake: SleepInhibitor, queue: Queue) -> int:
        """Run until a signal comes, or the worker has reached its limit. Returns the exit code."""
        from batchsr.signals import Stop

        def first(number: int) -> None:
            self._stop.set()
            self.events.wake()
            if worker is not None:
                worker.send(number)
            self._app.note(
                "stopping" + ("; the worker finishes the windows in hand (once more: at once)" if worker else "")
            )

        def second(number: int) -> None:
            if worker is not None:
                worker.send(number)

        def rotated() -> None:
            if worker is not None:
                worker.pass_on(signal.SIGHUP)

        code: int | None = None
        look_at_work_s = 0.0
        notices = IdleNotices(self._app, queue) if worker is not None else None
        with Stop(first, second, rotated) as stop:
            for settled in self.watcher.run(self._stop):
                hot_folder.tick(settled)
                if notices is not None and settled:
                    notices.arrived()
                if worker is not None and (code := worker.tick()) is not None:
                    break
                if time.monotonic() >= look_at_work_s:
                    look_at_work_s = time.monotonic() + _LOOK_AT_WORK_S
                    awake.hold(worker is not None and _is_working(queue))
                    if notices is not None:
                        notices.look()
                if stop.signal is not None:
                    break
            if worker is not None and code is None:
                worker.wait()
            hot_folder.finish()  # what the worker finished last is moved now, not at the next start
            return 128 + stop.signal if stop.signal is not None else code or 0

    def once(self, hot_folder: Any, worker: WorkerProcess | None) -> int:
        """Scan once; with a worker, do its whole work. Returns the exit code."""
        for settled in self.watcher.once():
            hot_folder.tick(settled)
        if worker is None:
            hot_folder.finish()
            return 0
        from batchsr.signals import Stop

        with Stop(worker.send, worker.send, lambda: worker.pass_on(signal.SIGHUP)) as stop:
            code = None
            while code is None and stop.signal is None:
                code = worker.tick()
                stop.wait(0.2)
            code = worker.wait() if code is None else code
            hot_folder.finish()
            return 128 + stop.signal if stop.signal is not None else code


def _is_working(queue: Queue) -> bool:
    return bool(queue.in_hand())
