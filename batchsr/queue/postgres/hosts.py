"""The hosts of a fleet: what each has in hand, when it was heard, how fast it is; and a pause of one host alone.

A host is paused by a person (`pause --host`), to take it out; or by its own workers, where what they lack is the
host's: memory, threads, its own disk, a share that is away here alone. Its workers end what they have in hand and claim
nothing, and look whether it works again; other hosts go on. Where every host at work lacks the same place, the fleet
holds the files that need it, and all go on with others.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import platform
from collections.abc import Sequence
from typing import Any, Final

from batchsr.errors import UsageError
from batchsr.queue.job import Job, iso, stored_path, stored_text
from batchsr.queue.postgres import alive
from batchsr.queue.postgres.store import PgStore
from batchsr.queue.sqlite import steering
from batchsr.queue.sqlite.api import SqliteQueue
from batchsr.queue.trouble import Pause, PauseKind, Trouble

TABLE: Final = """
CREATE TABLE hosts (
    name TEXT COLLATE "C" PRIMARY KEY, kind TEXT NOT NULL, reason TEXT NOT NULL, probes TEXT NOT NULL,
    since FLOAT8 NOT NULL
);
"""
PLACES: Final = """
ALTER TABLE hosts ADD COLUMN place TEXT COLLATE "C", ADD COLUMN side TEXT;
"""
"""What a paused host cannot use, where it is a place: its path (none for scratch, each host's own) and its use."""
_SPEED_OF_S: Final = 7200.0
"""What was worked on for so long tells how fast a host is."""


def listed(store: PgStore) -> list[dict[str, Any]]:
    """Return the hosts with a living worker, a file in hand or a pause, by name, JSON-able.

    `name`, `workers` and `jobs` (how many), `heard_s` (seconds since its last sign of life; None without a worker),
    `speed` (seconds of audio, of one channel, that it restores in a second, over the last two hours; None if nothing
    was), `paused`, `paused_kind`, `paused_reason`, `paused_since`.
    """
    found: dict[str, dict[str, Any]] = {
        row["host"]: row
        for row in store.rows(
            "SELECT w.host, count(DISTINCT w.id) FILTER (WHERE w.ended_at IS NULL) AS workers, count(j.id) AS jobs, "
            "extract(epoch FROM clock_timestamp())::float8 - max(w.seen_at) AS heard_s FROM workers w "
            "LEFT JOIN jobs j ON j.worker = w.id WHERE w.ended_at IS NULL OR j.id IS NOT NULL GROUP BY w.host"
        )
    }
    pauses = {row["name"]: row for row in store.rows("SELECT name, kind, reason, since FROM hosts")}
    speeds = _speeds(store)
    return [
        {
            "name": name,
            "workers": found.get(name, {}).get("workers", 0),
            "jobs": found.get(name, {}).get("jobs", 0),
            "heard_s": found.get(name, {}).get("heard_s"),
            "speed": speeds.get(name),
            "paused": name in pauses,
            "paused_kind": pauses[name]["kind"] if name in pauses else None,
            "paused_reason": pauses[name]["reason"] if name in pauses else None,
            "paused_since": iso(pauses[name]["since"]) if name in pauses else None,
        }
        for name in sorted({*found, *pauses})
    ]


def _speeds(store: PgStore) -> dict[str, float]:
    """Return how many seconds of audio each host restores in a second of work; concurrent work counts once."""
    rows = store.rows(
        f"SELECT w.host, a.started_at, a.ended_at, {steering.CHANNEL_S} AS channel_s "
        "FROM attempts a JOIN jobs j ON j.id = a.job JOIN workers w ON w.id = a.worker "
        f"WHERE a.started_at > ? AND {steering.HAS_WORKED}",
        (store.clock.wall() - _SPEED_OF_S,),
    )
    channel_s: dict[str, float] = collections.defaultdict(float)
    spans: dict[str, list[tuple[float, float]]] = collections.defaultdict(list)
    for row in rows:
        channel_s[row["host"]] += row["channel_s"] or 0.0
        spans[row["host"]].append((row["started_at"], row["ended_at"]))
    busy_s = {host: steering.busy(worked)[0] for host, worked in spans.items()}
    return {host: channel_s[host] / busy_s[host] for host in spans if busy_s[host] > 0}


def pause_of(store: PgStore, name: str) -> Pause | None:
    """Return the pause of one host, if there is one."""
    rows = store.rows("SELECT kind, reason, probes, since FROM hosts WHERE name = ?", (stored_text(name),))
    if not rows:
        return None
    probes = tuple(os.fsdecode(bytes.fromhex(probe)) for probe in json.loads(rows[0]["probes"]))
    return Pause(rows[0]["kind"], rows[0]["reason"], rows[0]["since"], probes)


def pause(store: PgStore, name: str, reason: str, kind: PauseKind = "user", probes: Sequence[str] = ()) -> None:
    """Pause one host. A person's pause is not weakened by its workers'."""
    store.rows(
        "INSERT INTO hosts (name, kind, reason, probes, since) VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE "
        "SET kind = EXCLUDED.kind, reason = EXCLUDED.reason, probes = EXCLUDED.probes, since = EXCLUDED.since "
        "WHERE hosts.kind <> 'user' OR EXCLUDED.kind = 'user'",
        (
            stored_text(name),
            kind,
            stored_text(reason),
            json.dumps([os.fsencode(probe).hex() for probe in probes]),
            store.clock.wall(),
        ),
    )


def is_alone_with(store: PgStore, trouble: Trouble, lease_s: float) -> bool:
    """Return whether another host is at work that is not paused for the same trouble, nor by a person."""
    place, side = _key(trouble)
    (row,) = store.rows(
        "SELECT EXISTS (SELECT 1 FROM workers w WHERE w.ended_at IS NULL AND w.host <> ? "
        "AND w.seen_at > extract(epoch FROM clock_timestamp())::float8 - ? AND NOT EXISTS (SELECT 1 FROM hosts h "
        "WHERE h.name = w.host AND (h.kind = 'user' OR (h.place = ? AND h.side = ?)))) AS others",
        (stored_text(platform.node()), lease_s, place, side),
    )
    return bool(row["others"])


def pause_for(store: PgStore, name: str, trouble: Trouble, job: Job) -> None:
    """Pause one host for a place that fails it alone, until it works again."""
    kind: PauseKind = "source" if trouble.side == "source" else "resource"
    probe = {"source": job.source, "output": os.path.dirname(job.output), "scratch": trouble.path}[trouble.side]
    pause(store, name, f"{trouble.reason} on this host alone ({trouble.remedy})", kind, [probe])
    store.rows(
        "UPDATE hosts SET place = ?, side = ? WHERE name = ? AND kind <> 'user' RETURNING 1", (*_key(trouble), name)
    )


def resume_from(store: PgStore, trouble: Trouble) -> None:
    """End the pauses of hosts for a place that no host can use: the files that need it are held instead."""
    store.rows("DELETE FROM hosts WHERE kind <> 'user' AND place = ? AND side = ? RETURNING 1", _key(trouble))


def _key(trouble: Trouble) -> tuple[bytes | str, str]:
    return ("" if trouble.side == "scratch" else stored_path(trouble.path)), trouble.side


def resume(store: PgStore, name: str, only: Pause | None = None) -> bool:
    """End the pause of one host, or `only` this one. Returns whether there was one."""
    condition, values = "name = ?", list[object]([stored_text(name)])
    if only is not None:
        condition, values = "name = ? AND kind = ? AND since = ?", [stored_text(name), only.kind, only.since]
    return bool(store.rows(f"DELETE FROM hosts WHERE {condition} RETURNING name", values))


def resume_those_in_trouble(store: PgStore) -> bool:
    """End the pauses that workers made; those who lack something still will make them anew."""
    return bool(store.rows("DELETE FROM hosts WHERE kind <> 'user' RETURNING name"))


def known(store: PgStore, name: str) -> str:
    """Return the name of a host that ever had a worker here. Raises UsageError, with names there are, for another."""
    names = [str(row["host"]) for row in store.rows("SELECT DISTINCT host FROM workers ORDER BY host")]
    names += [str(row["name"]) for row in store.rows("SELECT name FROM hosts ORDER BY name")]
    if name in names:
        return name
    short = sorted({one for one in names if one.partition(".")[0].casefold() == name.partition(".")[0].casefold()})
    if len(short) == 1:
        return short[0]
    there = ", ".join(dict.fromkeys(names[:12])) or "none yet"
    raise UsageError(f"no host {name!r} ever worked in this fleet", remedy=f"its hosts are: {there}")


class QueueOfHosts(SqliteQueue):
    """What of a fleet's queue concerns its hosts: a person pauses the fleet or a host, a worker its own host alone."""

    def __init__(self, store: PgStore) -> None:
        super().__init__(store)  # type: ignore[arg-type]  # PgStore has all that the statements ask of a Store
        self._pg = store

    def release_as(self, job: Job, outcome: str, reason: str) -> Job:
        """`release`, with this outcome in the history. Raises ClaimLost."""
        raise NotImplementedError

    def pause(self, reason: str = "", kind: PauseKind = "user", probes: Sequence[str] = ()) -> None:
        """See WorkQueue.pause. What a worker lacks is its host's, and pauses that host alone."""
        if kind == "user":
            super().pause(reason, kind, probes)
            resume_those_in_trouble(self._pg)
        elif super().paused() is None:
            pause(self._pg, platform.node(), reason, kind, probes)

    def give_back(self, job: Job, reason: str, kind: PauseKind = "resource", probes: Sequence[str] = ()) -> Job:
        """See WorkQueue.give_back: the pause is this host's."""
        given = self.release_as(job, kind, reason)
        self.pause(reason, kind, probes)
        return given

    def is_taken_out(self) -> bool:
        """Return whether this host is paused, by a person or by its workers."""
        return pause_of(self._pg, platform.node()) is not None

    def resume(self, only: Pause | None = None) -> bool:
        """See WorkQueue.resume; `only` a pause of this host where there is such a one."""
        if only is not None and only.kind != "user":
            return resume(self._pg, platform.node(), only)
        went_on = resume_those_in_trouble(self._pg) if only is None else False
        return super().resume(only) or went_on

    def paused(self) -> Pause | None:
        """Return the pause of the fleet, or of this host, if there is one."""
        pause = super().paused()
        if pause is None and (pause := pause_of(self._pg, platform.node())) is not None and pause.kind == "user":
            said = f"this host is taken out{': ' + pause.reason if pause.reason else ''}"
            return dataclasses.replace(pause, reason=f"{said} (`batchsr resume --host {platform.node()}`)")
        return pause

    def pause_host(self, name: str, reason: str = "") -> str:
        """See IntakeQueue.pause_host."""
        name = known(self._pg, name)
        pause(self._pg, name, reason)
        return name

    def resume_host(self, name: str) -> tuple[str, bool]:
        """See IntakeQueue.resume_host."""
        name = known(self._pg, name)
        return name, resume(self._pg, name)

    def files_ended(self, since: float, pid: int | None = None) -> int:
        """See Overview.files_ended: by workers of this host alone."""
        (row,) = self._store.rows(
            "SELECT count(*) AS files FROM attempts a JOIN workers w ON w.id = a.worker WHERE w.home = :home "
            "AND w.started_at >= :since AND (:pid::bigint IS NULL OR w.pid = :pid) AND a.outcome IN ('done', 'failed')",
            {"home": alive.home_of(self.workers_folder), "pid": pid, "since": since},
        )
        return int(row["files"])
