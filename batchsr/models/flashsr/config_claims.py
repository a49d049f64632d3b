"""What a config says of its model under keys that this program does not read.

Such keys are many and mostly harmless, so they are noted and let pass; but one that names a property of the sound, in
any spelling, and another value than this network has, is an error. So is null where a value must be. Sections that
speak of how a model was made or tried are not looked at.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping

from batchsr.errors import BundleError
from batchsr.models.flashsr import config_names
from batchsr.models.flashsr.config_sizes import ModelSizes
from batchsr.models.flashsr.config_wanted import TIMESTEPS, Wanted, folded
from batchsr.models.flashsr.json_files import name_shown, shown

_OF_ITS_MAKING = re.compile(
    r"(?:pre)?train|teacher|distil|optimi|learning|histor|(?:train|test|eval)?data(?:set|loader|module)?s?$|corpus|corpora"
    r"|eval|valid|augment|benchmark|metric|discrimin|(?:loss|losses|ema|lr|inputs?|val|tests?|testing|dev|source|original"
    r"|provenance|citation|examples?|hardware|environment|requirements?|references?|callbacks?|logger|logging)$"
)
"""How a word begins that a section on how a model was made or tried has in its name."""
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_TRANSPARENT = frozenset({"value", "default", "current"})
_ENDINGS = re.compile(r"(?:config|configs|configuration|params|parameters|settings|args|kwargs|options|cfg)$")
_UNIT = re.compile(r"(?i)([-+0-9.e]+)\s*(k?)\s*(?:hz)?")


def check(claims: Iterable[tuple[tuple[str, ...], object]], config: ModelSizes) -> None:
    """Raise BundleError naming the first of (path, value) that says of the model what is not so."""
    for start, value in claims:
        for path, leaf in _leaves(value, start):
            _check_one(path, leaf, config)


def same(value: object, wanted: object) -> bool:
    """Return whether a value of JSON says what `wanted` does, however written: 10.0, "48 kHz", "Hann", 1 for true."""
    if isinstance(value, str) and value.strip().lower() in ("null", "none"):
        value = None
    if isinstance(wanted, re.Pattern):
        return not isinstance(value, str) or wanted.search(value[:1000].lower()) is None
    if isinstance(wanted, tuple):
        if isinstance(value, str):
            value = [part for part in re.split(r"[\s,;x\[\]()]+", value[:1000]) if part]
        return (
            isinstance(value, list | tuple)
            and len(value) == len(wanted)
            and all(same(a, b) for a, b in zip(value, wanted, strict=True))
        )
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if wanted is None or value is None:
        return value is None and (wanted is None or wanted is False)
    if isinstance(wanted, bool):
        if isinstance(value, str):
            return value.strip().lower() in (("true", "yes", "on", "1") if wanted else ("false", "no", "off", "0"))
        return isinstance(value, bool | int | float) and value == wanted
    if isinstance(wanted, int | float):
        number = _number(value)
        return number is not None and math.isclose(number, wanted, rel_tol=1e-6)
    return (
        isinstance(value, str | int) and not isinstance(value, bool) and folded(str(value)[:200]) == folded(str(wanted))
    )


def _check_one(path: tuple[str, ...], value: object, config: ModelSizes) -> None:
    names = [part for key in path for part in re.split(r"[./:]", key[:1000]) if part]
    while len(names) > 1 and folded(names[-1]) in _TRANSPARENT:
        names.pop()
    if not names or any(_is_of_its_making(section) for section in names[:-1]):
        return
    name = folded(names[-1])
    if name in config_names.STEPS or name in config_names.STEPS_OR_TRAINING:
        sections = [_section(section) for section in names[:-1]]
        either = name in config_names.STEPS_OR_TRAINING
        allowed = (TIMESTEPS,) if "schedule" in sections else (1, TIMESTEPS) if either else (1,)
        number = _number(value)
        if (
            value is not None
            and (number is not None or not either)
            and not any(same(value, right) for right in allowed)
        ):
            raise BundleError(
                f"config.json: {_joined(path)} = {shown(value)}, but FlashSR restores in one step",
                remedy="a model that needs many steps, such as AudioSR, is another; take a FlashSR bundle",
            )
        return
    wanted = _wanted(names[:-1], name)
    if wanted is None:
        return
    rights = wanted(config)
    if not rights or any(same(value, right) for right in rights):
        return
    instead = f"this network computes with {shown(rights[0])}"
    if isinstance(rights[0], re.Pattern):
        instead = "this network is another"
    raise BundleError(
        f"config.json: {_joined(path)} = {shown(value)}, but {instead}", remedy="this program cannot run that model"
    )


def _wanted(sections: list[str], name: str) -> Wanted | None:
    """Return what a name means in the innermost section that is known, or anywhere."""
    within, found = True, False
    for section in reversed(sections):
        known = _section(section)
        if known is not None:
            if (within or name not in config_names.TOO_LITTLE) and name in config_names.IN_SECTION[known]:
                return config_names.IN_SECTION[known][name]
            found = True
        within = within and not _ENDINGS.sub("", folded(section)).strip("0123456789")
    return config_names.ANYWHERE.get(name) or (None if found else config_names.ALONE.get(name))


def _section(name: str) -> str | None:
    name = folded(name)
    return config_names.SECTIONS.get(name) or config_names.SECTIONS.get(_ENDINGS.sub("", name))


def _is_of_its_making(section: str) -> bool:
    return any(_OF_ITS_MAKING.match(word.lower()) for word in _WORDS.findall(section[:200]))


def _number(value: object) -> float | None:
    """Return what a value says as a number, or None."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, str) and (found := _UNIT.fullmatch(value[:60].strip())):
            return float(found[1]) * (1000 if found[2] else 1)
    except (OverflowError, ValueError):
        return math.inf if isinstance(value, int) else None
    return None


def _leaves(value: object, start: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """(path, value) of everything under a value that is no object; a list's entries that are objects too."""
    waiting: list[tuple[tuple[str, ...], object]] = [(start, value)]
    while waiting:
        path, at = waiting.pop()
        if isinstance(at, Mapping):
            waiting += [((*path, str(name)), entry) for name, entry in list(at.items())[::-1]]
        elif isinstance(at, list) and any(_has_objects(entry) for entry in at):
            waiting += [((*path, str(number)), entry) for number, entry in enumerate(at)]
        elif path:
            yield path, at


def _has_objects(entry: object) -> bool:
    return isinstance(entry, Mapping) or (
        isinstance(entry, list) and any(isinstance(inner, Mapping | list) for inner in entry)
    )


def _joined(path: tuple[str, ...]) -> str:
    """Return a path as messages show it, its beginning and its end if it is long."""
    parts = [name_shown(part) for part in path]
    return ".".join(parts if len(parts) <= 6 else [*parts[:3], "...", *parts[-2:]])
