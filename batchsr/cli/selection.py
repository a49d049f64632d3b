"""Which jobs a command line means: by number, state, batch, path or error, in the same words for every command."""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import functools
import glob
import sys
from collections.abc import Callable, Iterator, Set
from typing import Any, TypeVar

import click

from batchsr.cli import completing
from batchsr.cli.app import App
from batchsr.display import counted
from batchsr.errors import EXIT_DECLINED, BatchsrError, ConfigError, UsageError
from batchsr.queue import Job, Queue, Sort, State

F = TypeVar("F", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """What the command line says; all conditions must hold."""

    numbers: tuple[str, ...] = ()
    """Job numbers, and spans like 3-17."""
    states: tuple[State, ...] = ()
    batch: str | None = None
    path: str | None = None
    """Glob against the source's whole path, or a part of it."""
    held: bool = False
    """Only those that wait for a place in trouble; together with `states`, those as well."""
    error: str | None = None
    """Glob against the error's code, like `input.*`."""

    @property
    def is_empty(self) -> bool:
        """Whether the command line names nothing."""
        return self == Selection()

    @property
    def is_wide(self) -> bool:
        """Whether it means jobs that are not named one by one."""
        return self != Selection(self.numbers) or any("-" in number for number in self.numbers)

    def ids(self) -> list[int] | None:
        """Return the numbers, or None if none were given. Raises ConfigError for what is no number."""
        return job_ids(self.numbers) or None

    def jobs(
        self,
        queue: Queue,
        *,
        newest_first: bool = False,
        limit: int | None = None,
        sort: Sort = "id",
        failures_first: bool = False,
    ) -> Iterator[Job]:
        """Yield the jobs in an order, by default the one they came in. Raises UsageError for a batch that is
        not there."""
        check_batch(queue, self.batch)
        check_code(queue, self.error)
        narrow = self.path is not None or self.error is not None or self.held
        found = queue.jobs(
            states=(*self.states, *((State.QUEUED,) if self.held else ())),
            batch=self.batch,
            ids=self.ids(),
            newest_first=newest_first,
            limit=None if narrow else limit,
            sort=sort,
            failures_first=failures_first,
        )
        left = limit
        for job in found:
            if left == 0:
                return
            if self._fits(job):
                left = None if left is None else left - 1
                yield job

    def _fits(self, job: Job) -> bool:
        if self.held and job.held is None and job.state not in self.states:
            return False
        if self.path is not None and not (fnmatch.fnmatchcase(job.source, self.path) or self.path in job.source):
            return False
        return self.error is None or fnmatch.fnmatchcase(job.error_code or "", self.error)

    def check_any(self, queue: Queue) -> None:
        """Raise UsageError where numbers were given and none of them is there: before anything is done or said."""
        ids = self.ids()
        if ids is not None and next(iter(queue.jobs(ids=ids, limit=1)), None) is None:
            self.check(queue)

    def check(self, queue: Queue, *, besides: Set[int] = frozenset()) -> None:
        """Raise UsageError for job numbers that are not there, nor among those `besides` that were."""
        ids = self.ids()
        if ids is None:
            return
        there = besides | {job.id for job in queue.jobs(ids=ids)}
        if missing := [one for one in ids if one not in there]:
            names = ", ".join(map(str, missing[:10])) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
            raise UsageError(
                f"there is no job {names}" if len(missing) == 1 else f"there are no jobs {names}",
                remedy="`batchsr list` shows those there are",
            )


_HELD = "held"
"""Not a state of its own: queued, but held for a place in trouble. People see it in the place of the state."""


class _StateType(click.Choice[str]):
    """A state; a misspelled one is answered with the nearest."""

    def __init__(self) -> None:
        super().__init__([*(str(state) for state in State), _HELD])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As every choice does it, with a proposal."""
        if value not in self.choices and (near := difflib.get_close_matches(str(value), self.choices, 1, 0.5)):
            self.fail(f"{value!r} is no state. Did you mean {near[0]!r}?", param, ctx)
        return super().convert(value, param, ctx)


def selection_options(function: F) -> F:
    """Add the arguments and options that say which jobs are meant; the command gets them as `selection`."""
    options = [
        click.argument("ids", nargs=-1, shell_complete=completing.numbers),
        click.option("--state", "states", multiple=True, type=_StateType(), help="In a state."),
        click.option("--batch", shell_complete=completing.batches, help="Of this batch."),
        click.option("--path", metavar="GLOB", help="Whose source's path matches, or holds this text."),
        click.option(
            "--error",
            shell_complete=completing.errors,
            metavar="CODE",
            help="Whose error has this code, like 'input.*'.",
        ),
    ]

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in ("batch", "path", "error")}
        named = kwargs.pop("states")
        states = tuple(State(state) for state in named if state != _HELD)
        selection = Selection(kwargs.pop("ids"), states, held=_HELD in named, **given)
        return function(*args, selection=selection, **kwargs)

    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


def job_ids(values: tuple[str, ...]) -> list[int]:
    """Return job numbers of the command line, `3-17` as all from 3 to 17. Raises ConfigError."""
    ids: list[int] = []
    for value in values:
        first, dash, last = value.removeprefix("#").partition("-")
        try:
            low, high = int(first), int(last if dash else first)
        except ValueError as e:
            raise ConfigError(
                f"{value!r} is no job's number", remedy="jobs are named by the number that `batchsr list` shows"
            ) from e
        if not 0 <= low <= high < 2**63 or high - low >= 10_000_000:
            raise ConfigError(f"{value!r} is no span of job numbers", remedy="write it like 3-17")
        ids += range(low, high + 1)
    return ids


def check_batch(queue: Queue, batch: str | None) -> None:
    """Raise UsageError for a batch that is not there, naming those that are."""
    if batch is None or any(queue.counts(batch).values()):
        return
    names = [name for name in queue.batches() if name]
    there = ", ".join(repr(name) for name in names[:10]) + (" ..." if len(names) > 10 else "")
    raise UsageError(
        f"there is no batch {batch!r}", remedy=f"there are: {there}" if names else "no batch has a name yet"
    )


def check_code(queue: Queue, pattern: str | None) -> None:
    """Raise UsageError for an error's code that neither the program nor the queue knows, with the nearest."""
    known = _codes()
    if pattern is None or any(fnmatch.fnmatchcase(code, pattern) for code in known):
        return
    if any(fnmatch.fnmatchcase(str(row["error_code"] or ""), pattern) for row in queue.rows(("error_code",))):
        return
    near = difflib.get_close_matches(pattern, known, 1, 0.5) if not glob.has_magic(pattern) else []
    raise UsageError(
        f"no error has the code {pattern!r}",
        remedy=f"did you mean {near[0]!r}?" if near else "`batchsr list --state failed` shows codes in brackets",
    )


def _codes() -> list[str]:
    """Return every code that an error of the program can have."""
    found, waiting = {"undone"}, [BatchsrError]
    while waiting:
        error = waiting.pop()
        found.add(error.code)
        waiting += error.__subclasses__()
    return sorted(found)


def yes_option(function: F) -> F:
    """`--yes`, for commands that ask first; the command gets it as `yes`."""
    return click.option("-y", "--yes", is_flag=True, help="Do not ask.")(function)


def ask(app: App, question: str, jobs: int, *, yes: bool) -> None:
    """Have a person confirm what is done to so many jobs; no other answer than yes goes on.

    Off a terminal nobody can be asked: then UsageError is raised unless `--yes` was given. No ends the program.
    """
    if yes or not jobs:
        return
    told = question.format(counted(jobs, "job"))
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{told}? Nobody is there to be asked", remedy="add --yes")
    if not click.confirm(f"{told}?", err=True):
        app.note("nothing was changed")
        sys.exit(EXIT_DECLINED)


def tell_ids(app: App, what: str, ids: list[int]) -> None:
    """Say what was done to how many jobs, and to which."""
    shown = " ".join(f"#{one}" for one in ids[:50]) + (f" and {len(ids) - 50:,} more" if len(ids) > 50 else "")
    app.answer({what: ids}, f"{what} {len(ids)}" + (f": {shown}" if ids else ""))
