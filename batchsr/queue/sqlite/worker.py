"""A worker that has joined a queue: its name, and how it leaves."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from batchsr.queue.sqlite import claims
from batchsr.queue.sqlite.owners import OwnerLock
from batchsr.queue.sqlite.store import Store


class SqliteWorker:
    """A living worker of a queue. It owns what it claims for as long as this process lives."""

    def __init__(self, store: Store, lock: OwnerLock) -> None:
        self._store = store
        self._lock = lock

    @property
    def name(self) -> str:
        """Unique, never used again."""
        return self._lock.worker

    def leave(self, ending: str = "left") -> None:
        """Sign off; what it still owns is taken by the next reaper."""
        claims.sign_off(self._store, self.name, ending)
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
