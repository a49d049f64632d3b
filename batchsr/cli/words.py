"""`words`: which words a recogniser no longer hears in outputs that were made earlier."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from batchsr.cli.app import App, json_option, pass_app
from batchsr.cli.options import recogniser_named
from batchsr.cli.paths import UserPath
from batchsr.display import counted, printable, shown
from batchsr.errors import EXIT_SOME_FAILED, BatchsrError, InputMissing, UsageError
from batchsr.settings import extras
from batchsr.settings.profile import RECOGNISERS, Settings


@click.command("words")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=UserPath(path_type=Path))
@click.option(
    "--source",
    type=UserPath(path_type=Path),
    help="What the only PATH was made from, or a folder to which sources were moved.  [its sidecar's]",
)
@click.option(
    "--recogniser",
    default=RECOGNISERS[0],
    callback=lambda _, __, value: recogniser_named(value),
    help=f"{', '.join(RECOGNISERS)}, or a folder.  [default: {RECOGNISERS[0]}]",
)
@click.option("--keep-text", is_flag=True, help="Show the words, not their times alone.")
@click.option("--recorded", is_flag=True, help="Hear nothing: what --check-words put on record.")
@json_option
@pass_app
def words_command(
    app: App, paths: tuple[Path, ...], source: Path | None, recogniser: str, keep_text: bool, recorded: bool
) -> None:
    """Hear outputs beside their sources, and say which words went.

    PATH is an output or a folder of them; each one's sidecar names its source. What the recogniser was sure of in the
    source and does not hear in the output is counted, beside the words that it changed when it heard the source once
    more (its own unrest). Nothing is written. Without --json the worst come first, when all are heard. Ends with 3 if
    one is to be reviewed, or could not be heard.

    With --recorded a batch made with --check-words is listed, the worst first, from its sidecars alone.
    """
    if source is not None and not source.is_dir() and (len(paths) > 1 or paths[0].is_dir()):
        raise UsageError(
            "--source is of a single output", remedy="name one output, or the folder that the sources lie in"
        )
    if recorded and (source is not None or keep_text):
        raise UsageError("--recorded hears nothing", remedy="leave out --source and --keep-text")
    for path in paths:
        if not os.path.lexists(path):
            raise UsageError(f"{shown(path)} is not there", remedy="name an output, or a folder of them")
    app.acts()
    from batchsr.restoration import words_of_outputs

    hears = words_of_outputs.recorded if recorded else _hearing(source, recogniser, keep_text)
    found: list[dict[str, Any]] = []
    failed = 0
    seen: set[str] = set()
    try:
        for output, unlisted in itertools.chain.from_iterable(map(words_of_outputs.outputs_below, paths)):
            if (place := os.path.realpath(output)) in seen:
                continue  # named twice, or by its folder as well
            seen.add(place)
            try:
                if unlisted is not None:
                    raise unlisted
                document = {"output": str(output), **hears(output)}
            except BatchsrError as e:
                if recorded and isinstance(e, InputMissing) and output not in paths:
                    continue  # most folders hold outputs that nobody asked words of
                failed += 1
                app.answer({"output": str(output), "error": str(e), "error_code": e.code}, ())
                app.note(f"{shown(output)}: {e}")
                continue
            failed += document["not_counted_because"] == "recogniser_failed"
            found.append(document)
            app.answer(document, ())
            app.note(f"heard {len(found):,}: {shown(output)}", level=1)
    finally:  # what was heard is said, also to who stops it
        if not app.json:
            for document in sorted(found, key=_excess, reverse=True):
                app.say(_line(document))
    if not found and not failed:
        app.note(
            "there is no output with words on record here"
            if recorded
            else "nothing was heard: there is no output with a sidecar here"
        )
    to_review = sum(document["review"] is True for document in found)
    if to_review:
        app.note(f"{counted(to_review, 'output')} to be reviewed: listen at the times named")
    if failed or to_review:
        sys.exit(EXIT_SOME_FAILED)


def _hearing(source: Path | None, name: str, keep_text: bool) -> Callable[[Path], dict[str, Any]]:
    """Return what hears an output beside its source. Raises ExtraMissing, StageFailed."""
    extras.check(Settings(check_words=name))
    from batchsr.models import recognisers
    from batchsr.restoration import words_of_outputs
    from batchsr.speech import recogniser

    folder = recognisers.find(name)
    return lambda output: words_of_outputs.check(output, source, lambda: recogniser.load(folder), keep_text=keep_text)


def _excess(document: dict[str, Any]) -> float:
    return -1.0 if document["gone"] is None else float(document["gone"] - document["own_unrest"])


def _line(document: dict[str, Any]) -> str:
    if document["gone"] is None:
        why = str(document["not_counted_because"]).replace("_", " ")
        trouble = f": {document['trouble']}" if document.get("trouble") else ""
        return printable(f"{'-':>7}  {document['output']}  not counted, {why}{trouble}")
    places = ", ".join(
        f"{place['start_s']:.1f} s" + (f" {place['before']} > {place['after'] or '-'}" if "before" in place else "")
        for place in document["places"]
    )
    mark = "  review it" if document["review"] else ""
    counts = f"{document['gone']} of {document['sure']} gone, own unrest {document['own_unrest']}{mark}"
    return printable(
        f"{_excess(document):>7.0f}  {document['output']}  {counts}" + (f"  at {places}" if places else "")
    )
