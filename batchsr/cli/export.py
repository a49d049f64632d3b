"""`export`: a batch as a package for other programs and other times."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from batchsr.cli import completing
from batchsr.cli.app import App, fleet_options, json_option, pass_app
from batchsr.cli.paths import UserPath
from batchsr.cli.selection import check_batch
from batchsr.display import counted, shown
from batchsr.errors import UsageError
from batchsr.queue import State


@click.command("export")
@click.option("--batch", required=True, shell_complete=completing.batches, help="Which batch.")
@click.argument("folder", metavar="DIR", type=UserPath(path_type=Path))
@click.option("--bag", "in_bag", is_flag=True, help="As a BagIt bag.")
@click.option("--premis", "with_premis", is_flag=True, help="With PREMIS 3: objects, events, agents.")
@click.option("--checksums", default="sha256", show_default=True, help="Some of sha256, sha512, sha1, md5.")
@click.option("--copy", "way", flag_value="copy", default=True, help="Copy the files.  [default]")
@click.option("--link", "way", flag_value="link", help="Give them a second name (hard links); one file system.")
@click.option("--move", "way", flag_value="move", help="Move them there; the queue then knows where they are.")
@fleet_options
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
    from batchsr.archive.export import pack
    from batchsr.archive.package_files import PackageRequest

    app.acts()
    target = Path(os.path.abspath(folder))
    request = PackageRequest(batch, target, in_bag, with_premis, lists.chosen(checksums), way)  # type: ignore[arg-type]
    with app.queue() as queue:
        check_batch(queue, batch)
        counts = queue.counts(batch)
        if not counts[State.DONE]:
            raise UsageError(f"nothing of batch {batch!r} is done yet", remedy="`batchsr work` restores it")
        packed = pack(queue, request, on_file=lambda path: app.note(path, level=1))
    for number in packed.changed:
        app.note(f"#{number} changed meanwhile: its files are in the package and where they were")
    if packed.kept:
        files = counted(len(packed.kept), "file")
        app.note(f"kept in the package, of no job of the batch that is done: {files}, such as {shown(packed.kept[0])}")
    for path in packed.left:
        app.note(f"what was put into the package while it was made anew is now in {shown(path)}")
    left = sum(counts.values()) - packed.recordings
    document: dict[str, Any] = {
        "package": str(target),
        "batch": batch,
        "bag": in_bag,
        "recordings": packed.recordings,
        "files": packed.files,
        "kept": list(packed.kept),
        "left": [str(path) for path in packed.left],
        "left_out": {state: number for state, number in counts.items() if number and state != State.DONE},
    }
    app.answer(document, f"{shown(target)}: {counted(packed.recordings, 'recording')}, {counted(packed.files, 'file')}")
    if left:
        app.note(f"{counted(left, 'job')} of the batch {'is' if left == 1 else 'are'} not done and not in it")
