"""The tables: one migration for each version (see versions.py).

Rules that no program may break stand in the database itself: STRICT types, CHECKs, unique indexes, and
triggers that refuse an impossible change of state and write down every possible one.
"""

from __future__ import annotations

import os
from typing import Final

from sqlite_utils import Database, Migrations

from batchsr.queue.changes import CHANGES
from batchsr.queue.job import State
from batchsr.queue.sqlite.folders import folder_id
from batchsr.queue.sqlite.reports import packed, remarks_of

migrations: Final = Migrations("batchsr")

_STATES: Final = ", ".join(f"'{state}'" for state in State)
_ALLOWED: Final = ", ".join(f"'{old}>{new}'" for old, news in CHANGES.items() for new in news)

_JOBS: Final = f"""
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ({_STATES})),
    batch TEXT NOT NULL DEFAULT '',
    priority INTEGER NOT NULL DEFAULT 0,
    source ANY NOT NULL CHECK (typeof(source) IN ('text', 'blob')),   -- a blob holds a name that is no UTF-8
    source_key TEXT NOT NULL,
    output ANY NOT NULL CHECK (typeof(output) IN ('text', 'blob')),
    output_key TEXT NOT NULL,
    wanted_key TEXT NOT NULL,          -- of the output first wished for
    overwrite INTEGER NOT NULL CHECK (overwrite IN (0, 1)),
    identity TEXT NOT NULL,
    dedupe_key TEXT NOT NULL,
    settings TEXT NOT NULL CHECK (json_valid(settings)),
    wanted_variant TEXT,
    variant TEXT, repository TEXT, revision TEXT, weights_sha256 TEXT, dtype TEXT, device TEXT, batch_windows INTEGER,
    size_bytes INTEGER, mtime_ns INTEGER, inode INTEGER, source_device INTEGER,
    frames INTEGER, sample_rate INTEGER, channels INTEGER, audio_s REAL,
    claim_seq INTEGER NOT NULL DEFAULT 0,
    worker TEXT REFERENCES workers(id),
    windows_done INTEGER NOT NULL DEFAULT 0 CHECK (windows_done >= 0),
    windows_total INTEGER CHECK (windows_total >= windows_done),
    attempts INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    failures INTEGER NOT NULL DEFAULT 0 CHECK (failures >= 0),
    crashes INTEGER NOT NULL DEFAULT 0 CHECK (crashes >= 0),
    wall_s REAL NOT NULL DEFAULT 0 CHECK (wall_s >= 0),
    run_at REAL,                       -- end of the backoff by the wall clock
    run_at_steady REAL,                -- the same by the steady clock of boot `run_boot`
    run_boot TEXT,
    error_code TEXT, error TEXT,
    note TEXT NOT NULL DEFAULT '',
    provenance TEXT NOT NULL DEFAULT '' CHECK (provenance = '' OR json_valid(provenance)),
    source_sha256 TEXT, output_sha256 TEXT, output_bytes INTEGER, windows_resumed INTEGER, clipped_samples INTEGER,
    report TEXT,
    created_at REAL NOT NULL, started_at REAL, finished_at REAL,
    changed_at REAL NOT NULL,
    reason TEXT NOT NULL DEFAULT '',   -- of the last change of state
    CHECK ((state IN ('running', 'committing')) = (worker IS NOT NULL)),
    CHECK ((state = 'waiting') = (run_at IS NOT NULL)),
    CHECK (state NOT IN ('committing', 'done') OR output_sha256 IS NOT NULL),
    CHECK (state NOT IN ('failed', 'quarantined') OR error_code IS NOT NULL)
) STRICT;
CREATE INDEX jobs_ready ON jobs (priority DESC, id, variant) WHERE state = 'queued';
CREATE INDEX jobs_waiting ON jobs (run_at) WHERE state = 'waiting';
CREATE INDEX jobs_owned ON jobs (worker) WHERE worker IS NOT NULL;
CREATE INDEX jobs_state ON jobs (state, audio_s, wall_s);
CREATE INDEX jobs_batch ON jobs (batch, state);
CREATE INDEX jobs_source ON jobs (source_key);
CREATE UNIQUE INDEX jobs_dedupe ON jobs (dedupe_key) WHERE state <> 'superseded';
CREATE UNIQUE INDEX jobs_output ON jobs (output_key) WHERE state NOT IN ('cancelled', 'superseded');
CREATE TRIGGER jobs_change BEFORE UPDATE OF state ON jobs
    WHEN new.state <> old.state AND old.state || '>' || new.state NOT IN ({_ALLOWED})
    BEGIN SELECT RAISE(ABORT, 'impossible change of state'); END;
CREATE TRIGGER jobs_fence BEFORE UPDATE OF claim_seq ON jobs
    WHEN new.claim_seq < old.claim_seq
    BEGIN SELECT RAISE(ABORT, 'claim_seq may not fall'); END;
CREATE TRIGGER jobs_born AFTER INSERT ON jobs
    BEGIN
        INSERT INTO events (job, at, old, new, claim_seq, reason)
        VALUES (new.id, new.changed_at, NULL, new.state, new.claim_seq, new.reason);
    END;
CREATE TRIGGER jobs_event AFTER UPDATE OF state ON jobs WHEN new.state <> old.state
    BEGIN
        INSERT INTO events (job, at, old, new, claim_seq, worker, reason)
        VALUES (new.id, new.changed_at, old.state, new.state, new.claim_seq, coalesce(new.worker, old.worker),
                new.reason);
    END;
"""


@migrations()
def create_tables(db: Database) -> None:
    """Version 1."""
    db.create_table(
        "workers",
        {
            "id": str,
            "pid": int,
            "host": str,
            "boot": str,
            "variant": str,
            "device": str,
            "started_at": float,
            "started_steady": float,
            "ended_at": float,
            "ending": str,
        },
        pk="id",
        not_null={"id", "pid", "host", "boot", "started_at", "started_steady"},
        strict=True,
    )
    db.executescript(_JOBS)  # CHECKs, partial indexes and triggers are beyond create_table
    db.create_table(
        "events",
        {
            "id": int,
            "job": int,
            "at": float,
            "old": str,
            "new": str,
            "claim_seq": int,
            "worker": str,
            "reason": str,
        },
        pk="id",
        foreign_keys=[("job", "jobs", "id")],
        not_null={"job", "at", "new", "claim_seq"},
        strict=True,
    )
    db.table("events").create_index(["job"])
    db.create_table(
        "attempts",
        {
            "job": int,
            "claim_seq": int,
            "worker": str,
            "variant": str,
            "revision": str,
            "started_at": float,
            "started_steady": float,
            "boot": str,
            "windows_start": int,
            "windows_done": int,
            "seen_at": float,
            "seen_steady": float,
            "wall_s": float,
            "ended_at": float,
            "outcome": str,
            "error_code": str,
            "error": str,
        },
        pk=("job", "claim_seq"),
        foreign_keys=[("job", "jobs", "id"), ("worker", "workers", "id")],
        not_null={"worker", "started_at", "started_steady", "boot", "windows_done", "seen_at", "seen_steady", "wall_s"},
        strict=True,
    )
    db.create_table(
        "control",
        {"id": int, "paused": int, "kind": str, "reason": str, "probes": str, "since": float},
        pk="id",
        not_null={"paused"},
        strict=True,
    )
    db.table("control").insert({"id": 1, "paused": 0})


_PLACES: Final = (
    "CREATE TABLE folders (id INTEGER PRIMARY KEY, path ANY NOT NULL UNIQUE) STRICT",
    """CREATE TABLE places (
    id INTEGER PRIMARY KEY,
    path ANY NOT NULL,
    side TEXT NOT NULL CHECK (side IN ('source', 'output', 'scratch')),
    code TEXT NOT NULL,
    reason TEXT NOT NULL,
    remedy TEXT NOT NULL,
    whole_system INTEGER NOT NULL CHECK (whole_system IN (0, 1)),
    since REAL NOT NULL,
    UNIQUE (path, side)
) STRICT""",
    "ALTER TABLE jobs ADD COLUMN held INTEGER REFERENCES places(id)",  # set while queued alone
    "ALTER TABLE jobs ADD COLUMN source_folder INTEGER REFERENCES folders(id)",
    "ALTER TABLE jobs ADD COLUMN output_folder INTEGER REFERENCES folders(id)",
    "ALTER TABLE jobs ADD COLUMN outages INTEGER NOT NULL DEFAULT 0",  # deaths that were not the file's alone
    "ALTER TABLE jobs ADD COLUMN last_try INTEGER NOT NULL DEFAULT 0",  # 1 once it was tried again after quarantine
    "ALTER TABLE control ADD COLUMN generation TEXT",
    "DROP INDEX jobs_ready",
    "CREATE INDEX jobs_ready ON jobs (priority DESC, id, variant) WHERE state = 'queued' AND held IS NULL",
    "CREATE INDEX jobs_ready_source ON jobs (source_folder) WHERE state = 'queued' AND held IS NULL",
    "CREATE INDEX jobs_ready_output ON jobs (output_folder) WHERE state = 'queued' AND held IS NULL",
    "CREATE INDEX jobs_held ON jobs (held, variant) WHERE held IS NOT NULL",
    "CREATE INDEX workers_alive ON workers (id) WHERE ended_at IS NULL",
    """CREATE TRIGGER jobs_let_go AFTER UPDATE OF state ON jobs WHEN new.state <> 'queued' AND new.held IS NOT NULL
    BEGIN UPDATE jobs SET held = NULL WHERE id = new.id; END""",
    """CREATE TRIGGER places_over AFTER UPDATE OF held ON jobs WHEN old.held IS NOT NULL AND new.held IS NOT old.held
    BEGIN
        DELETE FROM places WHERE id = old.held AND NOT EXISTS (SELECT 1 FROM jobs WHERE held = old.held);
    END""",
)
"""Places in trouble. That a hold ends with its last job, and with its job's turn, is the database's own doing."""


@migrations()
def add_places(db: Database) -> None:
    """Version 2: places, folders, deaths that are nobody's fault, which database this is."""
    for statement in _PLACES:
        db.execute(statement)
    fill_folders(db)
    db.execute("UPDATE control SET generation = lower(hex(randomblob(16)))")


def fill_folders(db: Database) -> None:
    """Note the folders of jobs that have none noted."""
    ids: dict[str | bytes, int] = {}

    def folder_of(path: str | bytes) -> int:
        folder = os.path.dirname(path)
        if folder not in ids:
            ids[folder] = folder_id(db, folder)
        return ids[folder]

    rows = db.conn.execute("SELECT id, source, output FROM jobs WHERE source_folder IS NULL").fetchall()
    db.conn.executemany(
        "UPDATE jobs SET source_folder = ?, output_folder = ? WHERE id = ?",
        ((folder_of(source), folder_of(output), number) for number, source, output in rows),
    )


_REPORTS: Final = (
    "CREATE TABLE reports (job INTEGER PRIMARY KEY REFERENCES jobs(id), data BLOB NOT NULL) STRICT",
    "ALTER TABLE jobs ADD COLUMN remarks TEXT",  # of the report's source, since they are shown; JSON
)


@migrations()
def move_reports(db: Database) -> None:
    """Version 3: reports of finished jobs, compressed, in a table of their own."""
    for statement in _REPORTS:
        db.execute(statement)
    last = 0
    while rows := db.conn.execute(
        "SELECT id, report FROM jobs WHERE id > ? AND report IS NOT NULL ORDER BY id LIMIT 500",
        (last,),
    ).fetchall():
        last = rows[-1][0]
        db.conn.executemany("INSERT INTO reports VALUES (?, ?)", [(number, packed(text)) for number, text in rows])
        db.conn.executemany(
            "UPDATE jobs SET report = NULL, remarks = ? WHERE id = ?",
            [(remarks_of(text), number) for number, text in rows],
        )


@migrations()
def remember_last_number(db: Database) -> None:
    """Version 4: the highest number that a job ever had, since jobs can be forgotten."""
    db.execute("ALTER TABLE control ADD COLUMN last_id INTEGER NOT NULL DEFAULT 0")
