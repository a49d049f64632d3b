"""A stretch of a recording, restored in several ways, to hear them beside each other before a batch is begun."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from batchsr.audio import excerpts
from batchsr.display import clock, printable
from batchsr.errors import ConfigError
from batchsr.report.page.heard import heard
from batchsr.restoration import single
from batchsr.restoration.batcher import WindowModel
from batchsr.settings.profile import Settings

AXES: Final = ("keep-band", "lowpass")
"""What can be compared beside variants."""


@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """One way to restore."""

    label: str
    settings: Settings
    variant: str


def ways(settings: Settings, variant: str, compare: Sequence[str]) -> list[Way]:
    """Return what was asked for, and one more way for each thing to compare: an axis turned over, or a variant.

    Nothing named means both axes. The format is that of the page's clips, so outputs are plain WAV.
    """
    plain = dataclasses.replace(settings, format="wav", subtype="FLOAT", also="", sidecar=False)
    found = [Way(f"as asked: {_said(plain, variant)}", plain, variant)]
    for one in dict.fromkeys(compare or AXES):
        if one == "keep-band":
            other, name = dataclasses.replace(plain, keep_band=not plain.keep_band), variant
        elif one == "lowpass":
            other, name = dataclasses.replace(plain, lowpass="auto" if plain.lowpass == "off" else "off"), variant
        else:
            other, name = plain, one
        if all((way.settings, way.variant) != (other, name) for way in found):
            found.append(Way(_said(other, name), other, name))
    return found


def previews(
    source: Path,
    wanted: Sequence[Way],
    folder: Path,
    load: Callable[[str], WindowModel],
    *,
    seconds: float,
    start_s: float | None = None,
    first_number: int = 1,
    on_way: Callable[[Way], None] = lambda way: None,
    on_windows: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[dict[str, Any]]:
    """Restore a stretch of `source` in each way, and yield what the page shows of it.

    folder: for what is made meanwhile. start_s: where the stretch begins; without it where it is loud. The cutoff is
    found in the stretch alone. Raises the InputError family for the source, ModelError for a variant.
    """
    cut = folder / f"{first_number}-excerpt.wav"
    start_s = excerpts.cut(source, cut, seconds, start_s)
    for number, way in enumerate(wanted, first_number):
        on_way(way)
        output = folder / f"{number}.wav"
        try:
            done = single.restore_one(
                cut, output, way.settings, functools.partial(load, way.variant), overwrite=True, on_windows=on_windows
            )
        finally:
            single.forget(cut, output)
        name = f"{source.name} from {clock(start_s)}: {way.label}"
        yield heard(name, cut, output, done.report, why=way.label, number=number, seconds=seconds, start_s=0.0)
        with contextlib.suppress(OSError):
            output.unlink()
    with contextlib.suppress(OSError):
        cut.unlink()


def check(compare: Sequence[str], known: Sequence[str]) -> None:
    """Raise ConfigError for what is neither an axis, a known variant nor a folder."""
    for one in compare:
        if one not in AXES and one not in known and not Path(one).is_dir():
            remedy = f"name {', '.join((*AXES, *known))} or a bundle"
            raise ConfigError(f"--compare {one}: nothing to compare by that name", remedy=remedy)


def _said(settings: Settings, variant: str) -> str:
    band = "band kept" if settings.keep_band else "band not kept"
    return printable(f"{Path(variant).name}, {band}, low-pass {settings.lowpass}")
