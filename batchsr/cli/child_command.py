"""Command lines of other processes of this program, made from the words or the options of this one."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from batchsr.queue.opening import QueueAddress

PROGRAM: Final = (sys.executable, "-m", "batchsr")


class Given(NamedTuple):
    """One option or argument of a command line, with the one or two words that it was given as."""

    option: str
    """Its name, like "--out"; empty for an argument."""
    value: str | None
    words: tuple[str, ...]


def program(queue: QueueAddress) -> list[str]:
    """Return the words that start this program with this queue; a fleet's also needs `queue.environment()`."""
    return [*PROGRAM, *queue.words()]


def parsed(words: Iterable[str], takes_value: Collection[str]) -> Iterator[Given]:
    """Yield what a command line gives, in its order; `takes_value` are the options whose value is the next word."""
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if not word.startswith("-"):
            yield Given("", word, (word,))
        elif equals:
            yield Given(option, value, (word,))
        elif option in takes_value and (following := next(rest, None)) is not None:
            yield Given(option, following, (word, following))
        else:
            yield Given(option, None, (word,))


def as_words(options: Mapping[str, Any]) -> list[str]:
    """Return the words that give these options, by the names of their parameters; None is not given."""
    words = []
    for name, value in options.items():
        if value is not None:
            words += [f"--{name.strip('_').replace('_', '-')}", str(value)]
    return words
