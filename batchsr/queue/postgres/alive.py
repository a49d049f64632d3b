"""Who of a fleet is alive: on its own host a lock tells at once, between hosts a lease on the server's clock.

A worker's `Heartbeat`, a thread, writes a sign of life ten times in a lease, without the fleet's lock, and sees in the
same message which of its claims it has lost; a second one says how far all its files are. Nobody takes from a host that
is silent until he himself has been heard for a whole lease, and the server has been up for one: after an outage of the
database all have been silent. Where more than half of the hosts look dead, a second lease must pass.
"""

from __future__ import annotations

import contextlib
import os
import platform
import random
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from batchsr import storage
from batchsr.errors import BatchsrError
from batchsr.queue.postgres.store import PgStore

BEATS_IN_A_LEASE: Final = 10
_IDLE_S: Final = 5.0


def home_of(folder: Path) -> str:
    """Return the name of this host's lock folder, making it where there is none: random, with the host's name.

    Workers of one home tell by their locks who is dead. Raises ResourceError.
    """
    storage.make_folder(folder)
    path = folder / "home"
    with storage.resource_errors(path, "keep this host's name in"):
        with contextlib.suppress(FileExistsError):
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            os.write(fd, secrets.token_hex(8).encode())
            os.close(fd)
        for _ in range(100):  # another process may just have made it, still empty
            if (name := path.read_text()) != "":
                return f"{name}@{platform.node()}"
            time.sleep(0.01)
    return f"{secrets.token_hex(8)}@{platform.node()}"


class Heartbeat:
    """The signs of life of one worker, in a thread of its own with a connection of its own."""

    def __init__(
        self, worker: str, store: PgStore, others: PgStore, beat_s: float, write_windows: Callable[[], None]
    ) -> None:
        self._worker = worker
        self._write_windows = write_windows
        self._store = store
        self._others = others
        self._beat_s = beat_s
        self._healthy_since_s: float | None = time.monotonic()
        self._owned: dict[int, int] | None = None
        self._asked_s = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"heartbeat of {worker}", daemon=True)
        self._thread.start()

    @property
    def healthy_s(self) -> float:
        """For how long every sign of life has arrived; 0 when the last one did not."""
        since_s = self._healthy_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def has_lost(self, job_id: int, claim_seq: int, claimed_s: float) -> bool:
        """Return whether a claim, made at a steady time, was not among this worker's at a look that began later."""
        owned = self._owned
        return owned is not None and claimed_s < self._asked_s and owned.get(job_id) != claim_seq

    def stop(self) -> None:
        """Give no more signs."""
        self._ended.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(20.0)
        self._store.close()

    def beat(self) -> None:
        """Give one sign of life, and look what this worker still owns."""
        asked_s = time.monotonic()
        owned = self._store.rows(
            "WITH living AS (UPDATE workers SET seen_at = extract(epoch FROM clock_timestamp()) "
            "WHERE id = ? AND ended_at IS NULL RETURNING id) "
            "SELECT jobs.id, jobs.claim_seq FROM living JOIN jobs ON jobs.worker = living.id",
            (self._worker,),
        )
        self._owned, self._asked_s = {row["id"]: row["claim_seq"] for row in owned}, asked_s
        if self._healthy_since_s is None:
            self._healthy_since_s = asked_s
        self._write_windows()

    def _run(self) -> None:
        due_s = time.monotonic() + self._beat_s
        while not self._ended.wait(min(_IDLE_S, max(0.05, due_s - time.monotonic()))):
            if time.monotonic() >= due_s:
                try:
                    self.beat()
                    due_s = time.monotonic() + self._beat_s * random.uniform(0.8, 1.0)
                    if self._beat_s > _IDLE_S:
                        self._store.close()  # so that a host has one connection nearly always, not two
                except BatchsrError:
                    self._healthy_since_s = None
                    due_s = time.monotonic() + min(5.0, self._beat_s)
            self._store.close_if_idle(_IDLE_S)
            self._others.close_if_idle(_IDLE_S)


def silent(store: PgStore, home: str, lease_s: float, healthy_s: float) -> list[str]:
    """Return the workers of other hosts whose lease is over, those silent for longest first; none while in doubt."""
    if healthy_s < lease_s:
        return []
    rows = store.rows(
        "SELECT id, home, ended_at, extract(epoch FROM clock_timestamp())::float8 - seen_at AS silent_s, "
        "extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float8 AS up_s "
        "FROM workers WHERE ended_at IS NULL OR id IN (SELECT worker FROM jobs WHERE worker IS NOT NULL) "
        "ORDER BY seen_at"
    )
    if not rows or rows[0]["up_s"] < lease_s:
        return []
    homes = {row["home"] for row in rows if row["ended_at"] is None}
    speaking = {row["home"] for row in rows if row["ended_at"] is None and row["silent_s"] <= lease_s}
    patience_s = lease_s if 2 * len(homes - speaking) <= len(homes) else 2 * lease_s
    return [row["id"] for row in rows if row["home"] != home and row["silent_s"] > patience_s]
