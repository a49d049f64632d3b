"""`evaluate`: how well variants restore full-band clips."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import click
from rich.console import Console

from batchsr.cli.app import App, json_option, pass_app
from batchsr.cli.options import compute_options
from batchsr.cli.paths import UserPath
from batchsr.cli.variant import KINDS, VariantType, model_option, variant_name, variant_of
from batchsr.report.tables import figures_table


@click.command("evaluate")
@click.argument("clips", type=UserPath(path_type=Path))
@click.option("--variant", "variants", type=VariantType(), multiple=True, help=f"{KINDS}; may be given again.  [tiny]")
@model_option
@click.option("--rate", "rates_hz", multiple=True, type=int, help="Hz; may be given again.  [8000, 16000, 24000]")
@click.option("--seconds", type=float, help="Only so much of each clip, out of its middle.")
@click.option("--visqol", is_flag=True, help="ViSQOL's opinion as well, 1 to 5; needs batchsr[visqol].")
@compute_options
@json_option
@pass_app
def evaluate_command(
    app: App,
    clips: Path,
    variants: tuple[str, ...],
    model: str | None,
    rates_hz: tuple[int, ...],
    seconds: float | None,
    visqol: bool,
    dtype: str | None,
    device: str | None,
) -> None:
    """Degrade the full-band clips in folder CLIPS, restore them, and measure the distance to what they were.

    Rows are plain interpolation, spectral band replication, and each variant with and without --keep-band;
    figures are log-spectral distances (lower is better), with both constants in use, and with --visqol what
    listeners would say (higher is better). Off a terminal the table is Markdown.
    """
    from batchsr.models import registry, upsampling
    from batchsr.quality import evaluate
    from batchsr.quality.visqol import mos
    from batchsr.settings import extras

    if visqol:
        extras.need_visqol()
    methods = dict(evaluate.BASELINES)
    paths = evaluate.find_clips(clips)
    for named in variants or (None,):
        variant = variant_of(model, named) or "tiny"
        loaded = registry.load(variant_name(variant) or variant, dtype=dtype, device=device)
        methods |= evaluate.both_ways(Path(variant).name, functools.partial(upsampling.upsample, loaded))
    results = []
    for path in paths:
        for rate_hz in rates_hz or evaluate.RATES_HZ:
            for result, _ in evaluate.compare(path, methods, rate_hz, seconds, mos if visqol else None):
                results.append(result)
                if app.json:
                    app.emit(result.to_dict(visqol=visqol))
                app.note(f"{result.clip} at {rate_hz} Hz, {result.method}: {result.score.lsd:.2f}", level=1)
    if app.json:
        return
    if not sys.stdout.isatty():
        app.say(evaluate.tabulate(results, visqol=visqol))
        return
    heads, rows = evaluate.head(visqol=visqol), evaluate.rows(results, visqol=visqol)
    figures_table(Console(no_color=not app.color), heads, rows, evaluate.NOTE)
