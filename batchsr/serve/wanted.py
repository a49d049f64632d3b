"""Which files an address means, and in which order: a list's filters as a query string."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final, get_args
from urllib.parse import urlencode

from batchsr.errors import ConfigError
from batchsr.queue import JobFilter, Sort, State

HELD: Final = "held"
"""Not a state of its own: queued, but held for a place in trouble."""
STATES: Final = (*(str(state) for state in State), HELD)
SORTS: Final[Mapping[Sort, str]] = {
    "id": "number",
    "path": "path",
    "length": "length",
    "rtf": "slowness",
    "changed": "latest change",
}
ACTIONS: Final = ("retry", "cancel", "priority", "pause", "resume")
"""What a person may do."""
_MOST_CHARACTERS: Final = 1_000


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What a list shows."""

    state: str = ""
    batch: str | None = None
    text: str = ""
    error: str = ""
    sort: Sort = "id"
    descending: bool = False

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Wanted:
        """Return what a query string asks for. Raises ConfigError for what cannot be asked."""
        given = {name: value for name, value in query.items() if value}
        if any(len(value) > _MOST_CHARACTERS for value in given.values()):
            raise ConfigError("the search is too long", remedy=f"{_MOST_CHARACTERS:,} characters are the most")
        state, sort = given.get("state", ""), given.get("sort", "id")
        if state and state not in STATES:
            raise ConfigError(f"{state!r} is no state", remedy=f"states are {', '.join(STATES)}")
        if sort not in get_args(Sort):
            raise ConfigError(f"files are not sorted by {sort!r}", remedy=f"but by {', '.join(get_args(Sort))}")
        batch = given.get("batch")
        return cls(
            state,
            {None: None, "-": ""}.get(batch, batch),
            given.get("q", ""),
            given.get("error", ""),
            sort,  # type: ignore[arg-type]  # checked above
            given.get("order") == "down",
        )

    @property
    def filter(self) -> JobFilter:
        """Return the same for the queue."""
        return JobFilter(
            states=() if self.state in ("", HELD) else (State(self.state),),
            held=self.state == HELD,
            batch=self.batch,
            text=self.text or None,
            error=self.error or None,
        )

    def pairs(self) -> list[tuple[str, str]]:
        """Return the same as fields of a form."""
        return [(name, value) for name, value in self._fields().items() if value]

    def query(self, **changes: str | bool | None) -> str:
        """Return the query string of this list, or of one that differs in so much."""
        one = dataclasses.replace(self, **changes)  # type: ignore[arg-type]
        return urlencode(one.pairs(), errors="backslashreplace")

    def _fields(self) -> dict[str, str]:
        return {
            "q": self.text,
            "state": self.state,
            "batch": "-" if self.batch == "" else self.batch or "",
            "error": self.error,
            "sort": "" if self.sort == "id" else self.sort,
            "order": "down" if self.descending else "",
        }


def steered(query: Mapping[str, str]) -> tuple[str, int] | None:
    """Return what was just done and to how many, if an address says so: one of our words and a number, no text."""
    number = query.get("number", "")
    did = query.get("did")
    if did not in (*ACTIONS, "submit") or not (number.isascii() and number.isdecimal() and len(number) < 12):
        return None
    return did, int(number)
