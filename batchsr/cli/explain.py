"""`explain`: what was done to a file, in words."""

from __future__ import annotations

import os
from pathlib import Path

import click

from batchsr.cli.app import App, json_option, pass_app
from batchsr.cli.paths import UserPath
from batchsr.display import shown

_MOST_NAMED = 10


@click.command("explain")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=UserPath(path_type=Path))
@json_option
@pass_app
def explain_command(app: App, files: tuple[Path, ...]) -> None:
    """Say in words what was done to a restored file, a copy for access or a stem, or what a sidecar speaks of.

    Needs the sidecar alone: neither queue, model nor recording; the sound is not read. `--json` gives the sidecar
    in today's form, whatever version wrote it, with the sentences.
    """
    from batchsr.archive import explain, records

    for number, path in enumerate(files):
        beside, document, twisted = records.record_of(path)
        told = list(explain.sentences(document))
        try:
            size_bytes = path.stat().st_size if path != beside else None
        except OSError:
            size_bytes = None
        if size_bytes is not None and path.name == os.path.basename(str(document["output"].get("path"))):
            said = document["output"]["size_bytes"]
            if size_bytes != said:
                told.append(
                    f"Take care: {shown(path)} has {size_bytes:,} bytes and not the {said:,} of the file that this is "
                    "said of."
                )
        if twisted:
            names = f"{', '.join(twisted[:_MOST_NAMED])}{' and more' if len(twisted) > _MOST_NAMED else ''}"
            told.append(f"Take care: the record was changed by somebody. Not of its form, and left out here: {names}.")
        app.answer(
            {"sidecar": str(beside), "sentences": told, "record": document},
            [*([""] if number else []), *told],
        )
