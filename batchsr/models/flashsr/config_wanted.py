"""What a key of a config may say of a network, and names as they are compared."""

from __future__ import annotations

import functools
import operator
import unicodedata
from collections.abc import Callable

from batchsr.models.flashsr.config_sizes import ModelSizes

TIMESTEPS = 1000
"""Steps of the schedule that the model was trained with (batchsr.models.flashsr.schedule)."""
Wanted = Callable[[ModelSizes], tuple[object, ...]]
"""What a key may say of a network, the usual first; a pattern is what a text must not hold; () is not looked at."""


@functools.lru_cache(maxsize=4096)
def folded(name: str) -> str:
    """Return a name without what its spellings differ in: case, and whatever is no letter or digit."""
    return "".join(c for c in unicodedata.normalize("NFKC", name[:200]).casefold() if c.isalnum())


def of(path: str, *others: object) -> Wanted:
    """Return what is right when it is the config's value under a path, or one of the others."""
    get = operator.attrgetter(path)
    return lambda config: (get(config), *others)


def size(path: str) -> Wanted:
    """Return what is right for a size that the tensors themselves prove: the config's own, or the published one.

    A bundle of smaller networks whose config repeats the published sizes where nobody reads them is computed no other.
    """
    return proven(operator.attrgetter(path))


def proven(get: Callable[[ModelSizes], object]) -> Wanted:
    """Return the same of a size that follows from others, by a function of the config."""
    return lambda config: (get(config), get(ModelSizes()))


def only(*values: object) -> Wanted:
    """Return what is right when it is one of these, whatever the config."""
    return lambda config: values


def named(**wanted: tuple[str, Wanted]) -> dict[str, Wanted]:
    """Return folded name -> wanted, of (names that mean the same, what they may say)."""
    return {folded(name): right for names, right in wanted.values() for name in names.split()}
