"""The options of a restoration, the same words in every command."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from batchsr.display import shown
from batchsr.errors import UsageError
from batchsr.settings.profile import COPIES, FORMATS, RATES_HZ, RECOGNISERS, STEM_NETWORKS, SUBTYPES, Settings

_RECOGNISER = f"name one of {', '.join(RECOGNISERS)}, or a folder in the form of CTranslate2"
_NETWORK = f"name one of {', '.join(STEM_NETWORKS)}, or an ONNX file"

F = TypeVar("F", bound=Callable[..., Any])


class WordsOrNumber(click.ParamType[Any]):
    """One of some words, or a number."""

    def __init__(self, name: str, what: str, words: tuple[str, ...] = ("off", "auto")) -> None:
        self.name = "|".join((*words, name))
        self._what = what
        self._words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in self._words or isinstance(value, float):
            return value
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither {', '.join(self._words)} nor {self._what}", param, ctx)


class WorkersType(click.IntRange):
    """A number of workers; or auto, which is what is done without the option."""

    name = "auto|number"

    def __init__(self) -> None:
        super().__init__(1, 64)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "auto" else super().convert(value, param, ctx)


_STEMS = (
    click.option(
        "--stems",
        type=click.Choice(["off", "mix", "files"]),
        help="Separate music, restore its stems apart: mix sums them, files writes each too.  [default: off]",
    ),
    click.option(
        "--stems-network",
        metavar="NETWORK",
        callback=lambda _, __, value: network_named(value),
        help="What separates: htdemucs, htdemucs-fp16, or an ONNX file.  [default: htdemucs]",
    ),
)

_WORDS = (
    click.option(
        "--check-words",
        metavar="[=MODEL]",
        callback=lambda _, __, value: recogniser_named(value),
        help="Put on record which words a recogniser no longer hears: "
        f"{', '.join(RECOGNISERS)}, or a folder; {RECOGNISERS[0]} where none is named.  [default: off]",
    ),
    click.option("--keep-text/--no-keep-text", default=None, help="Put those words on record, beside their times."),
)


def recogniser_named(value: str | None) -> str | None:
    """Return the recogniser that is meant; the option alone comes as "" (`LazyGroup.parse_args`).

    Raises UsageError for what is neither a name nor such a folder. A path of which there is nothing here, not even a
    filled folder around it, may be one that workers have.
    """
    if value is None or value in ("off", *RECOGNISERS):
        return value
    if not value:
        return RECOGNISERS[0]
    folder = os.path.abspath(os.path.expanduser(value))  # behind `=` a shell leaves ~ as it is
    if os.path.basename(value) == value or _is_filled(os.path.dirname(folder)):
        if not os.path.isdir(folder):
            raise UsageError(f"there is no recogniser {shown(value)}, and no such folder", remedy=_RECOGNISER)
        if not os.path.isfile(os.path.join(folder, "model.bin")):
            raise UsageError(f"{shown(value)} is no recogniser's folder: model.bin is not there", remedy=_RECOGNISER)
    return folder


def network_named(value: str | None) -> str | None:
    """Return what separates, a name or an absolute path. Raises UsageError for what is neither a name nor a file.

    A path of which there is nothing here may be one that workers have, as for `recogniser_named`.
    """
    if value is None or value in STEM_NETWORKS:
        return value
    path = os.path.abspath(os.path.expanduser(value))
    if os.path.isdir(path):
        raise UsageError(f"{shown(value)} is a folder, and no network", remedy=_NETWORK)
    here = os.path.basename(value) == value or _is_filled(os.path.dirname(path))
    if here and not os.path.isfile(path):
        raise UsageError(f"there is no network {shown(value)}, and no such file", remedy=_NETWORK)
    return path


def _is_filled(folder: str) -> bool:
    """Return whether a folder is there with something in it; an empty one is what a share leaves that is away."""
    with contextlib.suppress(OSError):
        return bool(os.listdir(folder))
    return False


def restoration_options(function: F) -> F:
    """Add the options of a restoration, the same words everywhere; the command gets those that are given as `given`."""
    options = [
        click.option("--timestep", type=int, help="Diffusion step, 0 to 999.  [default: 999]"),
        click.option("--seed", type=int, help="Seed of the noise.  [default: 0]"),
        click.option("--overlap", type=float, metavar="S", help="Seconds that windows share.  [default: 0.5]"),
        click.option(
            "--lowpass",
            type=WordsOrNumber("HZ", "a frequency in Hz"),
            help="Low-pass before the model.  [default: off]",
        ),
        click.option("--keep-band/--no-keep-band", default=None, help="Keep the recording below its cutoff."),
        click.option(
            "--denoise",
            type=WordsOrNumber("DB", "a limit in dB, 6 to 100"),
            help="Denoise speech, by so much at most.  [default: off]",
        ),
        click.option("--quality/--no-quality", default=None, help="Put opinions of the speech on record."),
        click.option(
            "--review-below",
            type=WordsOrNumber("X", "an opinion from 1 to 5", ("off",)),
            help="Mark outputs of which the opinion is lower; asks for --quality.",
        ),
        *_WORDS,
        click.option(
            "--declick",
            type=WordsOrNumber("K", "a number from 4 to 10", ("off",)),
            help="Interpolate clicks: 4 touches much, 10 little.  [default: off]",
        ),
        click.option(
            "--dehum", type=click.Choice(["off", "auto"]), help="Subtract mains hum that stands out.  [default: off]"
        ),
        *_STEMS,
        click.option("--format", "format_", type=click.Choice(FORMATS), help="Container.  [default: wav]"),
        click.option("--subtype", type=click.Choice(SUBTYPES), help="Sample format.  [default: PCM_24]"),
        click.option(
            "--rate",
            type=click.Choice([str(rate_hz) for rate_hz in RATES_HZ]),
            help="Sample rate of the output, in Hz.  [default: 48000]",
        ),
        click.option("--channels", type=click.Choice(["all", "mono"]), help="Every channel, or their mean."),
        click.option("--umid/--no-umid", default=None, help="Give a broadcast WAV a UMID of its own."),
        click.option("--sidecar/--no-sidecar", default=None, help="Write OUTPUT.json beside the output."),
        click.option(
            "--also",
            multiple=True,
            type=click.Choice(COPIES),
            help="Write a copy for access beside it; more than once.",
        ),
        click.option(
            "--accept-truncated/--no-accept-truncated",
            default=None,
            help="Restore what is there of files that are cut short.",
        ),
        click.option(
            "--input-scale",
            type=WordsOrNumber("FULL", "the sample value that is full scale"),
            help="Full scale of float files: 32768 for 16-bit numbers written as floats.  [default: off]",
        ),
    ]
    names = [field.name for field in dataclasses.fields(Settings)]

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        kwargs["format"] = kwargs.pop("format_")
        kwargs["also"] = ",".join(form for form in COPIES if form in kwargs["also"]) or None
        kwargs["rate"] = kwargs["rate"] and int(kwargs["rate"])
        given = {name: kwargs.pop(name) for name in names}
        kwargs["given"] = {name: value for name, value in given.items() if value is not None}
        return function(*args, **kwargs)

    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


def compute_options(function: F) -> F:
    """Add the options that say where and how exactly it is computed; the command gets `dtype` and `device`, None where
    it is left open."""
    for option in (
        click.option("--device", type=click.Choice(["cpu", "gpu"]), help="What computes.  [default: the GPU, if any]"),
        click.option(
            "--dtype", type=click.Choice(["float32", "float16", "bfloat16"]), help="Precision it computes in."
        ),
    ):
        function = option(function)
    return function
