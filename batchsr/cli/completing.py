"""What the shell completes: profiles, batches, numbers of jobs and codes of errors, as they are at this moment."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

import click
from click.shell_completion import CompletionItem

from batchsr.cli.app import App
from batchsr.errors import BatchsrError
from batchsr.queue import roots

_NUMBERS: Final = 200


def profiles(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the names of profiles that begin like this, else leave it to the shell's files."""
    from batchsr.settings import profile

    names = [CompletionItem(name) for name in profile.names() if name.startswith(incomplete)]
    return names or [CompletionItem(incomplete, type="file")]


def batches(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the batches of the queue that begin like this; none where there is no queue."""
    app = _app(context)
    with contextlib.suppress(BatchsrError):
        if app.has_queue():
            with app.queue() as queue:
                return [CompletionItem(name) for name in queue.batches() if name and name.startswith(incomplete)]
    return []


def numbers(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the newest jobs whose number begins like this, with state and source; none where there is no queue."""
    app = _app(context)
    with contextlib.suppress(BatchsrError):
        if app.has_queue():
            with app.queue() as queue:
                jobs = queue.jobs(newest_first=True, limit=_NUMBERS)
                return [
                    CompletionItem(str(job.id), help=f"{job.state} {job.source!a}")
                    for job in jobs
                    if str(job.id).startswith(incomplete)
                ]
    return []


def numbers_or_files(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return what `numbers` does, else leave it to the shell's files."""
    return numbers(context, parameter, incomplete) or [CompletionItem(incomplete, type="file")]


def errors(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the codes of errors that begin like this, and each family of them as `input.*`."""
    codes = {error.code for error in _below(BatchsrError)}
    families = {f"{code.partition('.')[0]}.*" for code in codes if "." in code}
    return [CompletionItem(code) for code in sorted(codes | families) if code.startswith(incomplete)]


def _below(error: type[BatchsrError]) -> Iterator[type[BatchsrError]]:
    for child in error.__subclasses__():
        yield child
        yield from _below(child)


def _app(context: click.Context) -> App:
    """Return the queue that the command line names so far: the shell completes without running the group's own
    function."""
    app = context.find_object(App) or App()
    given = context.find_root().params
    app.db_path = app.db_path or given.get("db")
    if app.fleet is None and (url := given.get("fleet")) is not None:
        app.fleet = url
    if named := os.environ.get("BATCHSR_ROOTS"):
        roots.use(roots.listed(named))
    return app
