"""What a worker asks for every file, as functions of the database: one message each, and no lock but those of rows.

    claim_job      the next job, bound and counted; others that are being claimed are passed by (SKIP LOCKED)
    peek_job       the job that a claim would give
    commit_job     what is about to be published, its report and its intent
    finish_job     the output stands under its name
    note_windows   how far all the files in a worker's hands are

They say what `queue/sqlite/claims.py` says in several statements, and the same tests hold for both. That they may run
beside each other rests on this: a claim's number is given while the job's row is locked; every later write names that
number, the worker and the states it may come from, in the statement that locks the row; the row of the worker is locked
against its end while it claims. (The worker, since a database that comes back from a backup gives numbers again.) All
of them share the lock that wide changes take alone (store.py).

Rows are locked in one order, so that none waits for another in a circle: the worker's, the job's, the attempt's.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

LOST_WORKER: Final = "BSR01"
"""The SQLSTATE for a worker that was taken for dead."""

BESIDE_OTHERS: Final = "pg_advisory_xact_lock_shared(hashtextextended(current_schema(), 20))"
"""The fleet's lock, as all take it who change one job that they own."""

_READY: Final = """
        SELECT jobs.id, jobs.priority FROM jobs WHERE state = 'queued' AND held IS NULL AND {variant}
        AND (of_batch IS NULL OR batch = of_batch)
        AND NOT EXISTS (SELECT 1 FROM unnest(without) AS setting WHERE strpos(settings, '"' || setting || '"') > 0)
        ORDER BY variant, -priority, id LIMIT 1{locked}"""
"""In an order that no other index has: else, where all seem to be of one variant, the planner takes one that does not
know it, and reads the whole queue once they are not."""

_DUE: Final = """
        state = 'waiting' AND CASE WHEN run_boot = the_boot THEN run_at_steady <= steady
        ELSE run_at <= now_at OR now_at < changed_at END"""


def _first(locked: str) -> str:
    """Return a query for the first job that is open or the first that is bound, each by its own part of an index."""
    arms = (_READY.format(variant=which, locked=locked) for which in ("variant IS NULL", "variant = the_variant"))
    one, other = (f"SELECT * FROM ({arm}) AS arm" for arm in arms)
    return f"SELECT first.id, first.priority FROM ({one} UNION ALL {other}) AS first ORDER BY priority DESC, id LIMIT 1"


RESULT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "output_sha256": "TEXT",
        "output_bytes": "BIGINT",
        "source_sha256": "TEXT",
        "windows_total": "BIGINT",
        "windows_resumed": "BIGINT",
        "audio_s": "FLOAT8",
        "sample_rate": "BIGINT",
        "channels": "BIGINT",
        "frames": "BIGINT",
        "clipped_samples": "BIGINT",
        "wall_s": "FLOAT8",
        "report": "BYTEA",
        "remarks": "TEXT",
    }
)
"""What a result has -> its type, in the order of the functions' parameters."""
_RESULT: Final = ", ".join(f"the_{name} {kind}" for name, kind in RESULT.items())
_KNOWN: Final = ", ".join(
    f"{name} = coalesce(the_{name}, {name})" for name in RESULT if name not in ("wall_s", "report")
)
_NOTE_REPORT: Final = """
    IF the_report IS NOT NULL THEN
        INSERT INTO reports VALUES (the_job, the_report) ON CONFLICT (job) DO UPDATE SET data = EXCLUDED.data;
    END IF;"""
_SAME: Final = " AND ".join(
    f"{name} IS NOT DISTINCT FROM the_{name}"
    for name in ("variant", "revision", "weights_sha256", "dtype", "device", "batch_windows")
)

FUNCTIONS: Final = f"""
CREATE INDEX jobs_ready_variant ON jobs (variant, (-priority), id) WHERE state = 'queued' AND held IS NULL;
CREATE INDEX workers_home ON workers (home) WHERE ended_at IS NULL;

CREATE FUNCTION claim_job(
    the_worker TEXT, the_variant TEXT, the_revision TEXT, the_weights_sha256 TEXT, the_dtype TEXT, the_device TEXT,
    the_batch_windows BIGINT, the_repository TEXT, now_at FLOAT8, steady FLOAT8, the_boot TEXT, of_batch TEXT,
    without TEXT[]
) RETURNS SETOF jobs LANGUAGE plpgsql AS $$
DECLARE
    chosen BIGINT;
    claimed jobs%ROWTYPE;
BEGIN
    PERFORM {BESIDE_OTHERS};
    IF (SELECT paused FROM control) = 1 THEN
        RETURN;
    END IF;
    UPDATE workers SET variant = the_variant, device = the_device
    WHERE id = the_worker AND ended_at IS NULL AND variant IS DISTINCT FROM the_variant;
    PERFORM 1 FROM workers WHERE id = the_worker AND ended_at IS NULL FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'worker % was taken for dead; it must join anew', the_worker USING ERRCODE = '{LOST_WORKER}';
    END IF;
    IF EXISTS (SELECT 1 FROM jobs WHERE {_DUE}) THEN
        UPDATE jobs SET state = 'queued', run_at = NULL, run_at_steady = NULL, run_boot = NULL, changed_at = now_at,
            reason = 'backoff over'
        WHERE id IN (SELECT id FROM jobs WHERE {_DUE} ORDER BY id FOR UPDATE SKIP LOCKED);
    END IF;
    SELECT found.id INTO chosen FROM ({_first(" FOR UPDATE SKIP LOCKED")}) AS found;
    IF chosen IS NULL THEN
        RETURN;
    END IF;
    UPDATE jobs SET state = 'running', worker = the_worker, claim_seq = claim_seq + 1, attempts = attempts + 1,
        windows_done = CASE WHEN {_SAME} THEN windows_done ELSE 0 END,
        windows_total = CASE WHEN {_SAME} THEN windows_total END,
        variant = the_variant, revision = the_revision, weights_sha256 = the_weights_sha256, dtype = the_dtype,
        device = the_device, batch_windows = the_batch_windows, repository = the_repository,
        started_at = coalesce(started_at, now_at), finished_at = NULL, error_code = NULL, error = NULL,
        changed_at = now_at, reason = 'claimed'
    WHERE id = chosen RETURNING * INTO claimed;
    INSERT INTO attempts (job, claim_seq, worker, variant, revision, started_at, started_steady, boot, windows_done,
        seen_at, seen_steady, wall_s)
    VALUES (claimed.id, claimed.claim_seq, the_worker, the_variant, the_revision, now_at, steady, the_boot,
        claimed.windows_done, now_at, steady, 0.0);
    RETURN NEXT claimed;
END $$;

CREATE FUNCTION peek_job(
    the_variant TEXT, now_at FLOAT8, steady FLOAT8, the_boot TEXT, of_batch TEXT, without TEXT[]
) RETURNS SETOF jobs LANGUAGE plpgsql AS $$
DECLARE
    ready RECORD;
    due RECORD;
BEGIN
    SELECT * INTO ready FROM ({_first("")}) AS found;
    SELECT jobs.id, jobs.priority INTO due FROM jobs WHERE {_DUE}
        AND (variant IS NULL OR variant = the_variant) AND (of_batch IS NULL OR batch = of_batch)
        AND NOT EXISTS (SELECT 1 FROM unnest(without) AS setting WHERE strpos(settings, '"' || setting || '"') > 0)
        ORDER BY priority DESC, id LIMIT 1;
    IF due.id IS NOT NULL AND (ready.id IS NULL OR due.priority > ready.priority
            OR (due.priority = ready.priority AND due.id < ready.id)) THEN
        ready := due;
    END IF;
    RETURN QUERY SELECT * FROM jobs WHERE jobs.id = ready.id;
END $$;

CREATE FUNCTION commit_job(
    the_job BIGINT, the_claim BIGINT, the_worker TEXT, now_at FLOAT8, steady FLOAT8, first_window BIGINT,
    last_window BIGINT, the_intent BYTEA, {_RESULT}
) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
DECLARE
    had RECORD;
    spent_s FLOAT8 := 0;
BEGIN
    PERFORM {BESIDE_OTHERS};
    PERFORM 1 FROM jobs WHERE id = the_job FOR UPDATE;
    SELECT j.wall_s, greatest(0, steady - a.seen_steady) / greatest(1, (
            SELECT count(*) FROM jobs AS others WHERE others.worker = a.worker)) AS share_s
        INTO had FROM attempts a JOIN jobs j ON j.id = a.job
        WHERE a.job = the_job AND a.claim_seq = the_claim AND a.ended_at IS NULL;
    IF FOUND THEN
        spent_s := coalesce(the_wall_s - had.wall_s, had.share_s);
    END IF;
    UPDATE jobs SET state = 'committing', changed_at = now_at, reason = '', {_KNOWN},
        windows_done = least(greatest(windows_done, coalesce(last_window, 0)),
            coalesce(the_windows_total, windows_total, 9223372036854775807)),
        wall_s = greatest(0, wall_s + spent_s)
    WHERE id = the_job AND claim_seq = the_claim AND worker = the_worker AND state = 'running';
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE attempts SET wall_s = greatest(0, wall_s + spent_s), seen_at = now_at, seen_steady = steady,
        windows_start = coalesce(windows_start, first_window),
        windows_done = greatest(windows_done, coalesce(last_window, 0))
    WHERE job = the_job AND claim_seq = the_claim;{_NOTE_REPORT}
    INSERT INTO intents (job, claim_seq, sha256, bytes, data)
    VALUES (the_job, the_claim, the_output_sha256, the_output_bytes, the_intent)
    ON CONFLICT (job, claim_seq) DO UPDATE SET sha256 = EXCLUDED.sha256, bytes = EXCLUDED.bytes, data = EXCLUDED.data;
    RETURN true;
END $$;

CREATE FUNCTION finish_job(
    the_job BIGINT, the_claim BIGINT, the_worker TEXT, now_at FLOAT8, the_reason TEXT, keep_report BOOLEAN,
    {_RESULT}
) RETURNS SETOF jobs LANGUAGE plpgsql AS $$
DECLARE
    done jobs%ROWTYPE;
BEGIN
    PERFORM {BESIDE_OTHERS};
    UPDATE jobs SET state = 'done', worker = NULL, finished_at = now_at, changed_at = now_at, reason = the_reason,
        failures = 0, crashes = 0, outages = 0, last_try = 0, error_code = NULL, error = NULL, {_KNOWN},
        wall_s = coalesce(the_wall_s, wall_s), windows_done = coalesce(windows_total, windows_done)
    WHERE id = the_job AND claim_seq = the_claim AND worker = the_worker AND state = 'committing' RETURNING * INTO done;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    UPDATE attempts SET ended_at = now_at, outcome = 'done', error_code = NULL, error = NULL
    WHERE job = the_job AND claim_seq = the_claim;
    IF keep_report THEN{_NOTE_REPORT}
    ELSE
        DELETE FROM reports WHERE job = the_job;
    END IF;
    IF done.overwrite = 0 THEN  -- whose the output is need not be known any longer: its name is taken
        DELETE FROM intents WHERE job = the_job;
    END IF;
    RETURN NEXT done;
END $$;

CREATE FUNCTION note_windows(
    the_worker TEXT, now_at FLOAT8, steady FLOAT8, of_jobs BIGINT[], of_claims BIGINT[], firsts BIGINT[],
    dones BIGINT[], totals BIGINT[]
) RETURNS SETOF BIGINT LANGUAGE plpgsql AS $$
DECLARE
    one RECORD;
    spent_s FLOAT8;
BEGIN
    PERFORM {BESIDE_OTHERS};
    FOR one IN SELECT * FROM unnest(of_jobs, of_claims, firsts, dones, totals)
            AS told (job, claim_seq, first_window, done, total) ORDER BY job LOOP
        SELECT greatest(0, steady - a.seen_steady) / greatest(1, (
                SELECT count(*) FROM jobs AS others WHERE others.worker = a.worker))
            INTO spent_s FROM attempts a
            WHERE a.job = one.job AND a.claim_seq = one.claim_seq AND a.ended_at IS NULL;
        CONTINUE WHEN NOT FOUND;
        UPDATE jobs SET windows_done = one.done, windows_total = one.total, wall_s = wall_s + spent_s,
            crashes = CASE WHEN one.done > windows_done THEN 0 ELSE crashes END,
            outages = CASE WHEN one.done > windows_done THEN 0 ELSE outages END,
            last_try = CASE WHEN one.done > windows_done THEN 0 ELSE last_try END,
            failures = CASE WHEN one.done > windows_done THEN 0 ELSE failures END
        WHERE id = one.job AND claim_seq = one.claim_seq AND worker = the_worker AND state = 'running';
        CONTINUE WHEN NOT FOUND;
        UPDATE attempts SET wall_s = wall_s + spent_s, seen_at = now_at, seen_steady = steady,
            windows_start = coalesce(windows_start, one.first_window), windows_done = one.done
        WHERE job = one.job AND claim_seq = one.claim_seq;
        RETURN NEXT one.job;
    END LOOP;
END $$;
"""
"""Version 2 of the tables."""
