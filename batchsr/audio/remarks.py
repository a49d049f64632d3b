"""What is odd about a file that can be restored all the same: said in the sidecar, the job's report, and on the screen.

A remark is no error: the output is whole, or says here what it lacks. Its code is stable, like an error's, and
begins with `input.`; its sentence is for a person.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Final

LONGEST_MESSAGE: Final = 400
MOST_REMARKS: Final = 20
"""A hostile file may be odd in a million places; a person needs the first few."""


@dataclasses.dataclass(frozen=True, slots=True)
class Remark:
    """One oddity: a stable code such as "input.longer_than_header", and one sentence without the file's name."""

    code: str
    message: str

    def __post_init__(self) -> None:
        if len(self.message) > LONGEST_MESSAGE:
            object.__setattr__(self, "message", self.message[: LONGEST_MESSAGE - 3] + "...")

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types, for the sidecar."""
        return {"code": self.code, "message": self.message}


def bounded(remarks: Iterable[Remark]) -> tuple[Remark, ...]:
    """Return each remark once, in order, and no more than MOST_REMARKS of them: the last one counts the rest."""
    once = tuple(dict.fromkeys(remarks))
    if len(once) <= MOST_REMARKS:
        return once
    kept = once[: MOST_REMARKS - 1]
    return (*kept, Remark("input.more_remarks", f"{len(once) - len(kept):,} more oddities of the kinds above"))
