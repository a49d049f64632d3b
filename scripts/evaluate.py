#!/usr/bin/env python3
"""Measure how well variants restore full-band clips, and print the table of README.

    scripts/evaluate.py CLIPS                                  # the baselines and tiny
    scripts/evaluate.py CLIPS --variant tiny --variant int4 --rate 8000 --json results.json
    scripts/evaluate.py CLIPS --spectrograms PICTURES          # before, after, original; needs matplotlib
    scripts/evaluate.py CLIPS --visqol                         # with ViSQOL's opinion; needs batchsr[visqol]

CLIPS holds WAV or FLAC files at 48 kHz; a name begins with its group (music_..., speech_...). Their channels are mixed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from batchsr.quality import evaluate, measure, visqol


def restorer(variant: str) -> evaluate.Restorer:
    """A variant or a bundle's folder as a function of (x, rate in Hz)."""
    from batchsr import FlashSR

    model = FlashSR.from_pretrained(variant)
    print(f"{variant}: {model.identity}", file=sys.stderr)
    return lambda x, rate_hz: np.asarray(model.upsample(x, rate_hz), np.float32)


def draw(path: Path, pictures: list[tuple[str, NDArray[np.float32]]]) -> None:
    """Spectrograms side by side, of 48 kHz sounds, all on one scale of 110 dB; a PNG of some 150 kB."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from PIL import Image

    figure, axes = pyplot.subplots(1, len(pictures), figsize=(5 * len(pictures), 4), sharey=True, layout="constrained")
    for axis, (title, samples) in zip(axes, pictures, strict=True):
        level_db = 10 * np.log10(evaluate.spectrogram(samples) + 1e-8).T
        extent = (0, len(samples) / 48_000, 0, 24)
        axis.imshow(level_db, origin="lower", aspect="auto", extent=extent, vmin=-80, vmax=30, cmap="magma")
        axis.set(title=title, xlabel="s")
    axes[0].set_ylabel("kHz")
    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    picture.quantize(96).save(path, optimize=True)
    pyplot.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--variant", action="append", help="a variant or a bundle's folder; may be given again")
    parser.add_argument("--rate", type=int, action="append", help="Hz; may be given again (8000, 16000, 24000)")
    parser.add_argument("--seconds", type=float, help="only so much of each clip, out of its middle")
    parser.add_argument("--visqol", action="store_true", help="ViSQOL's opinion as well")
    parser.add_argument("--json", type=Path, help="write every single result there")
    parser.add_argument("--spectrograms", type=Path, help="folder for pictures")
    options = parser.parse_args()

    methods = dict(evaluate.BASELINES)
    names = {Path(variant).name: variant for variant in options.variant or ["tiny"]}
    for name, variant in names.items():
        methods |= evaluate.both_ways(name, restorer(variant))
    opinion = visqol.mos if options.visqol else None
    results = []
    lines: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for path in evaluate.find_clips(options.clips):
        original = measure.middle(measure.read_clip(path), options.seconds)
        for rate_hz in options.rate or evaluate.RATES_HZ:
            outputs: dict[str, NDArray[np.float32]] = {}
            for result, restored in evaluate.compare(path, methods, rate_hz, options.seconds, opinion):
                results.append(result)
                outputs[result.method] = restored
                print(f"{result.clip} {rate_hz} {result.method}: {result.score.lsd:.2f}", file=sys.stderr)
            low_hz = max(6_000, rate_hz / 2)
            given = measure.line_share(original, low_hz)
            for name in names:
                lines.setdefault((name, rate_hz), []).append((measure.line_share(outputs[name], low_hz), given))
            if options.spectrograms:
                options.spectrograms.mkdir(parents=True, exist_ok=True)
                made = [(name, y) for name, y in outputs.items() if name in names]
                pictures = [(f"given: {rate_hz / 1000:g} kHz", outputs["sinc"]), *made, ("original", original)]
                draw(options.spectrograms / f"{path.stem}_{rate_hz}.png", pictures)
    print(evaluate.tabulate(results, visqol=options.visqol))
    print("\nStretches with lines at equal distances above the cutoff, harmonics or a buzz; those of the originals:")
    for (name, rate_hz), shares in lines.items():
        made, given = np.mean(shares, axis=0)
        print(f"{name} {rate_hz}: {made:.0%}, {given:.0%}")
    if options.json:
        rows = [result.to_dict(visqol=options.visqol) for result in results]
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
