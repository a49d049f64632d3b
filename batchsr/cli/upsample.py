"""`upsample`: one file, without the queue."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from batchsr.cli import completing
from batchsr.cli.app import App, json_option, pass_app
from batchsr.cli.options import compute_options, restoration_options
from batchsr.cli.paths import UserPath
from batchsr.cli.preview import Preview, preview_options
from batchsr.cli.signing import signing_options
from batchsr.cli.variant import KINDS, VariantType, chosen_variant, model_option
from batchsr.display import printable, remarks_in
from batchsr.errors import UsageError
from batchsr.report.live import Screen, screen_console
from batchsr.settings import profile as profiles
from batchsr.settings.outputs import with_format_of
from batchsr.settings.profile import DEFAULT_VARIANT, OUTPUT_SUFFIX, Settings
from batchsr.signals import Stop
from batchsr.storage import fitted_name

if TYPE_CHECKING:
    from batchsr.restoration.credentials import Signing
    from batchsr.restoration.task import Restored

STANDARD: Final = Path("-")
_COPIED_BYTES: Final = 1 << 20
FINISHING: Final = "finishing the windows in hand, then stopping (once more: at once)"


@click.command("upsample")
@click.argument("source", type=UserPath(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=UserPath(path_type=Path),
    help="Its extension chooses the format; - is standard output.  [default: SOURCE's stem + _upsampled.wav]",
)
@click.option("--variant", type=VariantType(), help=f"{KINDS}.  [default: the profile's, else int4]")
@model_option
@click.option(
    "--profile", shell_complete=completing.profiles, help="How to restore: default, speech, music, archive, or a file."
)
@compute_options
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@preview_options
@restoration_options
@signing_options
@json_option
@pass_app
def upsample_command(
    app: App,
    source: Path,
    output: Path | None,
    variant: str | None,
    model: str | None,
    profile: str | None,
    dtype: str | None,
    device: str | None,
    overwrite: bool,
    preview: Preview | None,
    signing: Signing | None,
    given: dict[str, Any],
) -> None:
    """Restore SOURCE to 48 kHz: one file, at once, without the queue. SOURCE - is standard input.

    After Ctrl-C, or any other end, the same command goes on where it was.
    """
    if model is not None:
        variant = chosen_variant(model, variant, profiles.effective(profile=profile).variant)
    if preview is not None:
        _preview(app, preview, source, output, variant, profile, dtype, device, given)
        return
    with contextlib.ExitStack() as held:
        if STANDARD in (source, output):
            output = _checked(app, output, given)
            folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="batchsr-")))
            if output == STANDARD:
                given["sidecar"] = False
                form = profiles.effective(profile=profile, given=given).settings.format
                output, piped = folder / f"stdout.{form}", True
            else:
                piped = False
            if source == STANDARD:
                source = folder / "stdin"
                with source.open("xb") as file:
                    shutil.copyfileobj(sys.stdin.buffer, file, _COPIED_BYTES)
            from batchsr.restoration import single

            held.callback(single.forget, source, output)
        else:
            piped = False
        _upsample(app, source, output, variant, profile, dtype, device, overwrite, given, piped=piped, signing=signing)


def _preview(
    app: App,
    preview: Preview,
    source: Path,
    output: Path | None,
    variant: str | None,
    profile: str | None,
    dtype: str | None,
    device: str | None,
    given: dict[str, Any],
) -> None:
    """Make the page of a preview, beside where the output would stand."""
    if STANDARD in (source, output):
        raise UsageError("a preview needs files that have names", remedy="name SOURCE and leave -o out, or name it too")
    effective = profiles.effective(profile=profile, given=given)
    beside = output if output is not None else source
    page = beside.with_name(fitted_name(beside.stem, "_preview.html"))
    name = variant or effective.variant or DEFAULT_VARIANT
    preview.make(app, [source], effective.settings, name, page=page, dtype=dtype, device=device)


def _checked(app: App, output: Path | None, given: Mapping[str, Any]) -> Path:
    """Return the output, where it or the source is a pipe. Raises UsageError for what cannot be meant."""
    if output is None:
        raise UsageError("standard input has no name to make an output's from", remedy="name the output with -o")
    if output == STANDARD:
        if app.json:
            raise UsageError("--json and -o - both want standard output", remedy="leave out one of them")
        if sys.stdout.isatty():
            raise UsageError("standard output is a terminal, and the output is no text", remedy="add | or > to it")
        if given.get("also"):
            raise UsageError("a copy for access needs a name to stand beside", remedy="leave out --also, or name -o")
    return output


def _upsample(
    app: App,
    source: Path,
    output: Path | None,
    variant: str | None,
    profile: str | None,
    dtype: str | None,
    device: str | None,
    overwrite: bool,
    given: dict[str, Any],
    *,
    piped: bool,
    signing: Signing | None,
) -> None:
    if output is not None:
        given = with_format_of(output, given)
    effective = profiles.effective(profile=profile, given=given)
    settings = effective.settings
    if output is None:
        output = source.with_name(fitted_name(source.stem, f"{OUTPUT_SUFFIX}.{settings.format}"))

    from batchsr.restoration import single

    name = variant or effective.variant or DEFAULT_VARIANT
    console = screen_console(color=app.color)
    with Screen(console, plain=not app.color, quiet=app.verbosity < 0) as screen:
        stop = Stop(lambda number: screen.message(f"{signal.Signals(number).name}: {FINISHING}"), lambda number: None)
        file = _File(str(source), str(output))
        with stop:
            try:
                done = single.restore_one(
                    source,
                    output,
                    settings,
                    lambda: _load(screen, file, settings, name, dtype, device),
                    overwrite=overwrite,
                    on_windows=lambda windows, total: _on_windows(app, screen, file, stop, windows, total),
                    on_notice=screen.message,
                    signing=signing,
                )
            except _Stopped as e:
                kept = f"{file.windows_done} of {file.windows_total} windows are kept"
                screen.message(f"stopped: {kept}; run the same command again to go on")
                screen.close()
                sys.exit(128 + e.number)
    _answer(app, source, output, done, piped=piped)


def _answer(app: App, source: Path, output: Path, done: Restored, *, piped: bool) -> None:
    """Tell what was done; where the output goes into a pipe, write it to stdout instead."""
    rtf = done.wall_s / done.audio_s
    document: dict[str, Any] = {
        "source": str(source),
        "output": str(output),
        "audio_s": round(done.audio_s, 3),
        "wall_s": round(done.wall_s, 3),
        "rtf": round(rtf, 4),
        "windows_total": done.windows_total,
        "windows_resumed": done.windows_resumed,
        "clipped_samples": done.clipped_samples,
        "output_sha256": done.output_sha256,
        "remarks": remarks_in(done.report),
    }
    for remark in document["remarks"]:
        app.note(f"{source.name}: {remark['message']} [{remark['code']}]")
    if piped:
        with output.open("rb") as made:
            shutil.copyfileobj(made, sys.stdout.buffer, _COPIED_BYTES)
        sys.stdout.buffer.flush()
        return
    times = f"duration {done.audio_s:.2f} s, wall time {done.wall_s:.2f} s"
    app.answer(document, (printable(str(output)), f"{times}, RTF {rtf:.3f} ({1 / rtf:.2f} x real time)"))


class _Stopped(Exception):
    """Raised between two windows when a signal asked to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclasses.dataclass(slots=True)
class _File:
    """The one file, as the screen wants to see it."""

    source: str
    output: str
    id: int = 0
    audio_s: float | None = None
    windows_done: int = 0
    windows_total: int = 0
    state: str = "running"
    wall_s: float | None = None
    error: str | None = None
    error_code: str | None = None
    remarks: Sequence[Mapping[str, str]] = ()


def _load(screen: Screen, file: _File, settings: Settings, variant: str, dtype: str | None, device: str | None) -> Any:
    from batchsr.audio import files
    from batchsr.models import registry

    file.audio_s = files.probe(Path(file.source), accept_truncated=settings.accept_truncated).duration_s
    screen.expect(1, file.audio_s)
    model = registry.load(variant, dtype=dtype, device=device, say=screen.phase)
    screen.claimed(file)
    return model


def _on_windows(app: App, screen: Screen, file: _File, stop: Stop, done: int, total: int) -> None:
    if done != file.windows_done:
        app.note(f"window {done} of {total}", level=1)
    file.windows_done, file.windows_total = done, total
    screen.windows(file, done, total)
    if stop.signal is not None and done < total:
        raise _Stopped(stop.signal)
