"""`listen`: hear and see one file before and after."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from batchsr.cli import completing
from batchsr.cli.app import App, fleet_options, json_option, pass_app
from batchsr.cli.paths import UserPath, check_page
from batchsr.cli.selection import job_ids
from batchsr.display import shown
from batchsr.errors import UsageError
from batchsr.queue import Job, State
from batchsr.remote.address import is_url
from batchsr.settings.schedule import position_s


@click.command("listen")
@click.argument("what", metavar="ID|FILE", shell_complete=completing.numbers_or_files)
@click.option("-o", "--output", type=UserPath(path_type=Path), help="The page.  [default: beside the restored file]")
@click.option("--at", "start", metavar="TIME", help="Where it begins, like 90 or 1:30.  [default: where it is loud]")
@click.option("--seconds", type=click.FloatRange(1, 60), default=10.0, show_default=True, help="Its length.")
@click.option("--open", "open_", is_flag=True, help="Open it in the browser.")
@fleet_options
@json_option
@pass_app
def listen_command(app: App, what: str, output: Path | None, start: str | None, seconds: float, open_: bool) -> None:
    """Make a page to hear and see one file before and after: a job by its number, or a restored file by its name.

    Two excerpts at one loudness, their difference, spectrograms, and in words what was done.
    """
    from batchsr.report.page.build import page_of_one
    from batchsr.report.page.heard import heard

    source, restored, report, job = _found(app, what)
    output = output or restored.with_name(restored.name + ".html")
    check_page(output)
    file = heard(
        str(source),
        source,
        restored,
        report,
        number=job.id if job else 0,
        seconds=seconds,
        start_s=position_s(start) if start else None,
    )
    page_of_one(output, file, job)
    app.answer({"page": str(output), "source": str(source), "output": str(restored)}, str(output))
    if open_:
        click.launch(output.resolve().as_uri())


def _found(app: App, what: str) -> tuple[Path, Path, Mapping[str, Any], Job | None]:
    """Return the source, the restored file, its sidecar, and its job if a queue knows it."""
    from batchsr.report.page.heard import report_of

    job = None
    if not Path(what).exists() and what.removeprefix("#").isdigit():
        with app.queue() as queue:
            job = queue.get(job_ids((what,))[0])
        if job is None:
            raise UsageError(f"there is no job {what}", remedy="`batchsr list` shows those there are")
        if job.state != State.DONE:
            raise UsageError(f"job {job.id} is {job.state}, so there is nothing to hear yet", remedy="`batchsr work`")
    if job is not None and (is_url(job.source) or is_url(job.output)):
        told = f"job {job.id} is in a store, in part or whole, and a page to hear it needs the files here"
        raise UsageError(told, remedy="copy source and output to this machine, and name the copy of the output")
    restored = Path(job.output if job else what)
    report = report_of(restored, job)
    source = job.source if job else (report.get("source") or {}).get("path")
    if not isinstance(source, str):
        raise UsageError(
            f"{shown(restored)} has no sidecar that says where it comes from",
            remedy="name a restored file that has one, or a job by its number",
        )
    return Path(source), restored, report, job
