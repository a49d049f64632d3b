"""`upsample`: one file, without the queue."""

from __future__ import annotations

import dataclasses
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import click

from batchsr.cli.app import App, json_option, pass_app
from batchsr.cli.options import compute_options, restoration_options
from batchsr.cli.variant import DEFAULT_VARIANT, KINDS, VariantType
from batchsr.intake.gather import OUTPUT_SUFFIX
from batchsr.settings import profile as profiles
from batchsr.settings.profile import FORMATS
from batchsr.storage import fitted_name, printable


@click.command("upsample")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="[default: SOURCE's stem + _upsampled.wav]")
@click.option("--variant", type=VariantType(), help=f"{KINDS}.  [default: the profile's, else int4]")
@click.option("--profile", help="How to restore: default, speech, music, archive, or a file.")
@compute_options
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@restoration_options
@json_option
@pass_app
def upsample_command(
    app: App,
    source: Path,
    output: Path | None,
    variant: str | None,
    profile: str | None,
    dtype: str | None,
    device: str | None,
    overwrite: bool,
    given: dict[str, Any],
) -> None:
    """Restore SOURCE to 48 kHz: one file, at once, without the queue."""
    if output is not None and "format" not in given and output.suffix[1:].lower() in FORMATS:
        given["format"] = output.suffix[1:].lower()
    effective = profiles.effective(profile=profile, given=given)
    settings = effective.settings
    if output is None:
        output = source.with_name(fitted_name(source.stem, f"{OUTPUT_SUFFIX}.{settings.format}"))

    from batchsr.audio import files
    from batchsr.errors import BatchShrunk
    from batchsr.models.flashsr.model import FlashSR
    from batchsr.restoration import restore
    from batchsr.restoration.batcher import Batcher, run_beside_main
    from batchsr.restoration.task import Restored, Task
    from batchsr.storage import make_output_folder
    from batchsr.temporary import Temporary

    files.check_format(settings.format, settings.subtype, 1)
    info = files.probe(
        source, accept_truncated=settings.accept_truncated
    )  # a bad file is told at once, before gigabytes are loaded
    name = variant or effective.variant or DEFAULT_VARIANT

    def work(main_thread: Executor) -> Restored:
        loaded = main_thread.submit(FlashSR.from_pretrained, name, dtype=dtype, device=device, say=app.note).result()
        model = Batcher(loaded, main_thread)
        make_output_folder(output.parent)
        with Temporary.beside(output) as scratch:
            task = Task(
                source=source,
                output=output,
                scratch=scratch.path,
                settings=settings,
                overwrite=overwrite,
                tag="upsample-0",
                provenance=dataclasses.asdict(loaded.identity),
            )
            while True:
                try:
                    return restore.restore(task, model, on_windows=_progress(app), before_publish=lambda _: None)
                except BatchShrunk as e:
                    app.note(str(e))
                    model = model.renewed()

    done = run_beside_main(work)
    rtf = done.wall_s / done.audio_s
    document: dict[str, Any] = {
        "source": str(source),
        "output": str(output),
        "audio_s": round(done.audio_s, 3),
        "wall_s": round(done.wall_s, 3),
        "rtf": round(rtf, 4),
        "windows_total": done.windows_total,
        "clipped_samples": done.clipped_samples,
        "output_sha256": done.output_sha256,
        "remarks": done.report["source"]["remarks"],
    }
    for remark in document["remarks"]:
        app.note(f"{source.name}: {remark['message']} [{remark['code']}]")
    times = f"duration {info.duration_s:.2f} s, wall time {done.wall_s:.2f} s"
    app.answer(document, (printable(str(output)), f"{times}, RTF {rtf:.3f} ({1 / rtf:.2f} x real time)"))


def _progress(app: App) -> Any:
    def told(done: int, total: int) -> None:
        app.note(f"window {done} of {total}", level=1)

    return told
