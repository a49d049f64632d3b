"""`export`: a batch as a package for other programs and other times."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from batchsr.cli import completing
from batchsr.cli.app import App, json_option, pass_app
from batchsr.cli.paths import UserPath
from batchsr.cli.selection import check_batch
from batchsr.display import counted, shown
from batchsr.errors import UsageError
from batchsr.queue import Answer, Job, Move, Queue, State


@click.command("export")
@click.option("--batch", required=True, shell_complete=completing.batches, help="Which batch.")
@click.argument("folder", metavar="DIR", type=UserPath(path_type=Path))
@click.option("--bag", "in_bag", is_flag=True, help="As a BagIt bag.")
@click.option("--premis", "with_premis", is_flag=True, help="With PREMIS 3: objects, events, agents.")
@click.option("--checksums", default="sha256", show_default=True, help="Some of sha256, sha512, sha1, md5.")
@click.option("--copy", "way", flag_value="copy", default=True, help="Copy the files.  [default]")
@click.option("--link", "way", flag_value="link", help="Give them a second name (hard links); one file system.")
@click.option("--move", "way", flag_value="move", help="Move them there; the queue then knows where they are.")
@json_option
@pass_app
def export_command(
    app: App, batch: str, folder: Path, in_bag: bool, with_premis: bool, checksums: str, way: str
) -> None:
    """Pack what a batch has done into DIR: outputs, sidecars, copies for access, a report, lists of checksums.

    The package appears whole or not at all; a killed export goes on with the same command, and for a batch that has
    grown it makes the package anew from what is in it. Every file is read in the package and must be as it was made.
    """
    from batchsr.archive import checksums as lists
    from batchsr.archive.contents import works_of
    from batchsr.archive.export import Wish, check, export
    from batchsr.report import batch as batch_report
    from batchsr.report import columns

    app.acts()
    target = Path(os.path.abspath(folder))
    algorithms = lists.chosen(checksums)
    with app.queue() as queue:
        check_batch(queue, batch)
        wish = Wish(batch, target, in_bag, with_premis, algorithms, way)  # type: ignore[arg-type]
        check(wish)
        works = works_of(queue, batch, target, content=wish.content, in_bag=in_bag)
        counts = queue.counts(batch)
        if not works:
            raise UsageError(f"nothing of batch {batch!r} is done yet", remedy="`batchsr work` restores it")
        rows = queue.rows(columns.RECORD, batch=batch)
        report = "".join(batch_report.table(rows, "csv", columns.RECORD)).encode("utf-8", "surrogateescape")
        notes = dict.fromkeys(str(_job_notes(work.document)) for work in works if _job_notes(work.document))
        wish = Wish(batch, target, in_bag, with_premis, algorithms, way, tuple(notes))  # type: ignore[arg-type]
        files = sum(len(work.items) for work in works)
        export(works, wish, report, on_file=lambda path: app.note(path, level=1))
        if way == "move":
            for work in works:
                items = {item.origin: item.path for item in work.items}
                if not _moved(queue, work.job, target / wish.content, items):
                    app.note(f"#{work.job.id} changed meanwhile: its files are in the package and where they were")
    left = sum(counts.values()) - len(works)
    document: dict[str, Any] = {
        "package": str(target),
        "batch": batch,
        "bag": in_bag,
        "recordings": len(works),
        "files": files,
        "left_out": {state: number for state, number in counts.items() if number and state != State.DONE},
    }
    app.answer(document, f"{shown(target)}: {counted(len(works), 'recording')}, {counted(files, 'file')}")
    if left:
        app.note(f"{counted(left, 'job')} of the batch {'is' if left == 1 else 'are'} not done and not in it")


def _job_notes(document: Any) -> str:
    own = document.get("job")
    notes = own.get("notes") if isinstance(own, dict) else ""
    return notes if isinstance(notes, str) else ""


def _moved(queue: Queue, job: Job, content: Path, items: dict[Path, str]) -> bool:
    """Tell the queue where a job's output is now, then remove its files from where they were; False: they stay."""
    output = str(content / items[Path(job.output)])
    if output == job.output:
        return True
    moved = Move(
        job_id=job.id,
        source=job.source,
        output=output,
        identity=job.identity,
        dedupe_key=job.dedupe_key,  # as it was wished, so that `enqueue` knows the recording again
        size_bytes=job.size_bytes or 0,
        mtime_ns=job.mtime_ns or 0,
        inode=job.inode or 0,
        device=job.source_device or 0,
        wanted=job.output,
    )
    if any(changed.answer is not Answer.CHANGED for changed in queue.relocate([moved])):
        return False
    for origin in items:
        origin.unlink(missing_ok=True)
    return True
