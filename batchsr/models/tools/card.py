"""The model card that the bundle tools put beside the weights: facts filled in, the rest asked of whoever publishes."""

from __future__ import annotations

import os
from pathlib import Path

from batchsr.models.flashsr import bundle
from batchsr.models.flashsr.config import ModelConfig
from batchsr.models.flashsr.networks import tensor_shapes
from batchsr.temporary import write_atomic

NAME = "MODEL_CARD.md"
NETWORKS = {"vae": "VAE", "ldm": "UNet", "voc": "vocoder"}

TEMPLATE = """# {name}: a FlashSR bundle

{origin}

| | |
| --- | --- |
| Parameters | {parameters} |
| Format | {form}, {megabytes:.1f} MB |
| SHA-256 of model.safetensors | `{sha256}` |
| Window | {samples:,} samples ({seconds:g} s) at 48 kHz |
| Noise of a window | {noise[0]} x {noise[1]} x {noise[2]} |

`batchsr models check {name}` verifies it. What follows is for whoever passes the bundle on; a question that stays
unanswered is a question for the reader as well.

## Where the weights are from
Checkpoints or training run, with revision and date. Of a training: code, steps, hours, machine, seed.

## What they were trained on
Each source with its amount, its bandwidth and its licence; what was kept out to judge by.

## Quality
The table of `batchsr evaluate CLIPS --variant {name}`, with clips that were never trained on, speech and music apart.

## What it does badly
What spectrograms show (`scripts/evaluate.py CLIPS --variant {name} --spectrograms FOLDER`): buzzing lines, a wrong
level of a band, smeared onsets, harm below the cutoff.

## Licence
Of the weights, and what the sources ask for.
"""


def write(folder: Path, config: ModelConfig, origin: str) -> None:
    """Put a card into a bundle's folder, unless it has one. `origin`: how the bundle was made, in a sentence."""
    card = folder / NAME
    if os.path.lexists(card):
        return
    counts = bundle.parameter_count(tensor_shapes(config))
    parts = ", ".join(f"{NETWORKS[part]} {count / 1e6:.1f} M" for part, count in counts.items())
    text = TEMPLATE.format(
        name=folder.resolve().name,
        origin=origin,
        parameters=f"{sum(counts.values()) / 1e6:.1f} M: {parts}",
        form=config.format,
        megabytes=(folder / bundle.WEIGHTS_NAME).stat().st_size / 1e6,
        sha256=bundle.weights_sha256(folder),
        samples=config.audio.frame_samples,
        seconds=config.audio.frame_samples / config.audio.sample_rate,
        noise=config.noise_shape,
    )
    write_atomic(card, text.encode())
