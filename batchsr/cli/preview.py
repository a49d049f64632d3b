"""`--preview`: hear some seconds in several ways before the weekend is spent."""

from __future__ import annotations

import functools
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

import click

from batchsr.cli.app import App
from batchsr.cli.paths import UserPath, check_page
from batchsr.display import counted, shown
from batchsr.errors import BatchsrError, UsageError
from batchsr.settings.profile import Settings
from batchsr.signals import Stop
from batchsr.temporary import whole_file

F = TypeVar("F", bound=Callable[..., Any])
MOST_FILES: Final = 3
_NO_HEAD: Final[Mapping[str, Any]] = MappingProxyType({})


def preview_options(function: F) -> F:
    """Add the options of a preview; the command gets them as `preview`, a Preview or None."""
    options = [
        click.option(
            "--preview", type=click.FloatRange(1, 60), metavar="SECONDS", help="Only hear so much, in several ways."
        ),
        click.option(
            "--at", metavar="TIME", help="Where the preview begins, like 90 or 1:30.  [default: where it is loud]"
        ),
        click.option(
            "--compare",
            multiple=True,
            metavar="WHAT",
            help="Of a preview: keep-band, lowpass or a variant; more than once.  [default: both]",
        ),
        click.option("--page", type=UserPath(path_type=Path), help="The preview's page."),
    ]

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        seconds, at, compare, page = (kwargs.pop(name) for name in ("preview", "at", "compare", "page"))
        if seconds is None and (at is not None or compare or page is not None):
            raise UsageError("--at, --compare and --page are for a preview", remedy="add --preview SECONDS")
        kwargs["preview"] = None if seconds is None else Preview(seconds, at, compare, page)
        return function(*args, **kwargs)

    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


class Preview:
    """What is to be heard, and where the page goes."""

    def __init__(self, seconds: float, at: str | None, compare: Sequence[str], page: Path | None) -> None:
        """Raises UsageError for a place that is none, ConfigError for what cannot be compared."""
        from batchsr.models import registry
        from batchsr.report.page import preview
        from batchsr.settings.schedule import position_s

        self.seconds = seconds
        self.start_s = position_s(at) if at else None
        self.compare = tuple(compare)
        self.page = page
        preview.check(self.compare, registry.variants())

    def make(
        self,
        app: App,
        sources: Iterable[Path],
        settings: Settings,
        variant: str,
        *,
        page: Path,
        dtype: str | None = None,
        device: str | None = None,
        head: Mapping[str, Any] = _NO_HEAD,
    ) -> None:
        """Restore a stretch of each source in each way, and write the page. Nothing is queued, no output is made.

        page: where it goes where nothing else was said. head: fields that the answer for programs begins with.
        A source that cannot be heard is told, and stands on the page.
        Raises UsageError if none could be. A signal ends the program between two windows.
        """
        from batchsr.models import registry
        from batchsr.report.page import build, preview

        page = self.page or page
        check_page(page)
        wanted = preview.ways(settings, variant, self.compare)
        load = functools.lru_cache(maxsize=1)(functools.partial(_load, registry.load, dtype, device))
        files: list[dict[str, Any]] = []
        notes: list[str] = ["The cutoff was found in each stretch alone; in a whole recording it may differ."]
        stop = Stop(lambda number: None, lambda number: None)

        def on_windows(done: int, total: int) -> None:
            app.note(f"window {done} of {total}", level=1)
            if stop.signal is not None and done < total:
                raise _Stopped(stop.signal)

        with tempfile.TemporaryDirectory(prefix="batchsr-") as folder, stop:
            for source in sources:
                try:
                    files += preview.previews(
                        source,
                        wanted,
                        Path(folder),
                        load,
                        seconds=self.seconds,
                        start_s=self.start_s,
                        first_number=len(files) + 1,
                        on_way=lambda way, name=source.name: app.note(f"{name}: {way.label}"),  # type: ignore[misc]
                        on_windows=on_windows,
                    )
                except _Stopped as e:
                    app.note(f"{signal.Signals(e.number).name}: stopped, no page was made")
                    sys.exit(128 + e.number)
                except BatchsrError as e:
                    if e.code.startswith("model"):
                        raise
                    app.note(f"{shown(source)} cannot be heard: {e}")
                    notes.append(f"{source.name} cannot be heard: {e}")
        if not files:
            raise UsageError("there is nothing to hear", remedy="name recordings that can be read")
        with whole_file(page) as target:
            build.write_page(target, [], totals={}, title="batchsr preview", heard=files, notes=notes)
        app.note(f"{counted(len(files), 'way', 'ways')} to hear; nothing was queued or restored as a whole")
        app.answer({**head, "page": str(page), "ways": [file["name"] for file in files]}, str(page))


class _Stopped(Exception):
    """Raised between two windows when a signal asked to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _load(load: Callable[..., Any], dtype: str | None, device: str | None, variant: str) -> Any:
    return load(variant, dtype=dtype, device=device)


def some_of(paths: Sequence[str]) -> list[Path]:
    """Return the first, the last and the one in the middle of a list, each once."""
    indices = sorted({0, len(paths) // 2, len(paths) - 1}) if paths else []
    return [Path(paths[index]) for index in indices][:MOST_FILES]
