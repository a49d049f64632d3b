"""Looking at a long queue a page at a time, and at its failures and batches by kind. Nothing here writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from batchsr.errors import ConfigError
from batchsr.queue.filters import FailureKind, JobFilter, Page, Sort
from batchsr.queue.job import LIVE, Job, State, stored_text
from batchsr.queue.sqlite.claims import COLUMNS, ROWS, to_job
from batchsr.queue.sqlite.store import Store

_KEYS: Final[Mapping[Sort, str]] = {
    "id": "id",
    "path": "CAST(source AS BLOB)",
    "length": "coalesce(audio_s, 0.0)",
    "rtf": "CASE WHEN audio_s > 0 THEN wall_s / audio_s ELSE 0.0 END",
    "changed": "changed_at",
}
_LATEST: Final = 500  # changes among which those that ended are looked for


class Browser:
    """See batchsr.queue.filters.Browser."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def page(
        self, matching: JobFilter, *, sort: Sort = "id", descending: bool = False, after: str = "", limit: int = 100
    ) -> Page:
        """Return the jobs behind a key. Raises ConfigError for an `after` that no page gave."""
        conditions, values = _conditions(matching)
        key = _KEYS[sort]
        if after:
            conditions.append(f"({key}, id) {'<' if descending else '>'} (:key, :last)")
            values["key"], values["last"] = _place(after, sort)
        way = "DESC" if descending else "ASC"
        order = f"id {way}" if sort == "id" else f"{key} {way}, id {way}"
        # Numbers first: what is sorted is small, whatever the width of the rows.
        wanted = self._store.column(
            f"SELECT id FROM jobs WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT {limit + 1}", values
        )
        jobs = self._by_ids(wanted[:limit].tolist())
        if len(wanted) <= limit or not jobs:
            return Page(jobs, None)
        (last,) = self._store.rows(f"SELECT hex({key}) AS path, {key} AS value FROM jobs WHERE id = ?", (jobs[-1].id,))
        return Page(jobs, f"{jobs[-1].id}~{last['path'] if sort == 'path' else repr(last['value'])}")

    def _by_ids(self, ids: list[int]) -> list[Job]:
        """Return jobs in the order of these numbers; those that are not there are left out."""
        sql = f"SELECT {COLUMNS} FROM jobs WHERE id IN (SELECT value FROM json_each(?))"
        found = {row["id"]: row for row in self._store.rows(sql, (json.dumps(ids),))}
        return [to_job(found[one]) for one in ids if one in found]

    def numbers(self, matching: JobFilter) -> list[int]:
        """Return the numbers of all of them, ascending."""
        conditions, values = _conditions(matching)
        return self._store.column(f"SELECT id FROM jobs WHERE {' AND '.join(conditions)} ORDER BY id", values).tolist()

    def count(self, matching: JobFilter) -> int:
        """Return how many there are."""
        conditions, values = _conditions(matching)
        return int(self._store.column(f"SELECT count(*) FROM jobs WHERE {' AND '.join(conditions)}", values)[0])

    def failures(self) -> list[FailureKind]:
        """Return what failed, by kind, the most frequent first."""
        found = self._store.rows(
            "SELECT coalesce(error_code, '') AS code, count(*) AS jobs, min(id) AS first FROM jobs "
            "WHERE state IN ('failed', 'quarantined') GROUP BY 1 ORDER BY 2 DESC, 1"
        )
        said = {job.id: job.error or "" for job in self._by_ids([row["first"] for row in found])}
        return [FailureKind(str(row["code"]), row["jobs"], said.get(row["first"], "")) for row in found]

    def lately(self, limit: int) -> list[Job]:
        """Return the jobs that were brought to an end last, the latest first; by the latest changes alone."""
        ids = self._store.column(
            f"SELECT job FROM (SELECT id, job, new FROM events ORDER BY id DESC LIMIT {_LATEST}) AS latest "
            "WHERE new IN ('done', 'failed', 'quarantined') GROUP BY job ORDER BY max(id) DESC LIMIT ?",
            (limit,),
        )
        return [job for job in self._by_ids(ids.tolist()) if job.state in (State.DONE, State.FAILED, State.QUARANTINED)]

    def totals_by_batch(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return for each batch and state that it has `jobs`, `audio_s` and `wall_s`."""
        found: dict[str, dict[str, dict[str, float]]] = {}
        for row in self._store.rows(
            "SELECT batch, state, count(*) AS jobs, coalesce(sum(audio_s), 0.0) AS audio_s, "
            "coalesce(sum(wall_s), 0.0) AS wall_s FROM jobs GROUP BY batch, state ORDER BY batch"
        ):
            found.setdefault(str(row.pop("batch")), {})[str(row.pop("state"))] = row
        return found

    def left_channel_s(self) -> float:
        """Return the seconds of audio still to be restored, counted once for each channel, or stem of one."""
        live = ", ".join(f"'{state}'" for state in LIVE)
        (row,) = self._store.rows(
            f"SELECT coalesce(sum(audio_s * {ROWS} "
            "* (1.0 - coalesce(min(1.0, 1.0 * windows_done / windows_total), 0.0))), 0.0) AS s "
            f"FROM jobs WHERE state IN ({live})"
        )
        return float(row["s"])


def _place(after: str, sort: Sort) -> tuple[Any, int]:
    """Return the key and the number that a page ended with."""
    number, _, key = after.partition("~")
    try:
        last = int(number)
        value: Any = bytes.fromhex(key) if sort == "path" else int(key) if sort == "id" else float(key)
    except ValueError as e:
        raise ConfigError("this is no place in the list", remedy="begin with its first page") from e
    if not -(2**63) <= last < 2**63 or (sort == "id" and not -(2**63) <= value < 2**63):
        raise ConfigError("this is no place in the list", remedy="begin with its first page")
    return value, last


def _conditions(matching: JobFilter) -> tuple[list[str], dict[str, Any]]:
    conditions, values = ["1"], dict[str, Any]()
    if matching.states:
        conditions.append("state IN (SELECT value FROM json_each(:states))")
        values["states"] = json.dumps([str(State(state)) for state in matching.states])
    if matching.held:
        conditions.append("held IS NOT NULL")
    if matching.batch is not None:
        conditions.append("batch = :batch")
        values["batch"] = stored_text(matching.batch)
    if matching.text:
        # LIKE knows upper and lower case of ASCII; its own signs are escaped.
        text = stored_text(matching.text).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        conditions.append("(CAST(source AS TEXT) LIKE :text ESCAPE '\\' OR error LIKE :text ESCAPE '\\')")
        values["text"] = f"%{text}%"
    if matching.error is not None:
        conditions.append("error_code GLOB :error")
        values["error"] = stored_text(matching.error)
    if matching.ids is not None:
        conditions.append("id IN (SELECT value FROM json_each(:ids))")
        values["ids"] = json.dumps(sorted(matching.ids))
    return conditions, values
