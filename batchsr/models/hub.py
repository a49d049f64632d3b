"""Where bundles are: a folder, the package itself, the hub's cache, or the hub. Importable without MLX.

What the cache holds is used as it is, without asking the hub: a batch that runs for weeks must not change models in
between, and needs no network. `pull` is what looks for a newer revision.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import importlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from batchsr.errors import ModelUnavailable, ResourceError
from batchsr.temporary import write_atomic

REPOSITORIES = {"int4": "aufklarer/FlashSR-MLX-4bit", "int8": "aufklarer/FlashSR-MLX-8bit"}
"""Variants that live on the hub."""
PACKAGED = ("tiny",)
"""Variants that come with the program."""
FILES = ("config.json", "model.safetensors")
"""All that is ever fetched, in this order: the small one says which revision the large one must have."""
TIMEOUT_S = 5.0
"""How long the hub may take to answer at all."""
_BUNDLES = Path(__file__).resolve().parent.parent / "bundles"
log = logging.getLogger(__name__)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclasses.dataclass(frozen=True, slots=True)
class Location:
    """A bundle's folder and where it came from; `repository` and `revision` are None for a plain folder."""

    variant: str
    folder: Path
    repository: str | None = None
    revision: str | None = None
    """Commit of the hub."""


def variants() -> tuple[str, ...]:
    """The names that `resolve` knows; any other is taken for a path."""
    return (*REPOSITORIES, *PACKAGED)


def resolve(variant: str | Path) -> Location:
    """The bundle of a variant (int4, int8, tiny) or of a folder's path; fetches it if the cache does not have it.

    A name is a variant even where a folder of that name stands: write ./int4 for the folder. Raises ModelUnavailable
    when it is nowhere to be had, ResourceError when the disk cannot take it.
    """
    if isinstance(variant, str) and variant in REPOSITORIES:
        return _cached(variant) or pull(variant, progress=sys.stderr.isatty())
    if isinstance(variant, str) and variant in PACKAGED:
        return _packaged(variant)
    folder = Path(variant)
    if not folder.is_dir():
        known = ", ".join(variants())
        raise ModelUnavailable(f"there is no model {str(variant)!r}", remedy=f"give {known}, or the folder of a bundle")
    return Location(str(variant), folder.resolve())


def pull(variant: str, progress: bool = False) -> Location:
    """Fetch the newest revision of a variant into the hub's cache; nothing is fetched that is there already.

    Where the hub cannot be asked, what the cache holds is the newest there is, and a warning is logged.
    `progress` draws a bar on stderr. Raises ModelUnavailable after seconds when the hub cannot be reached,
    ResourceError when the disk cannot take the files.
    """
    if variant in PACKAGED:
        return _packaged(variant)
    if variant not in REPOSITORIES:
        known = ", ".join(variants())
        raise ModelUnavailable(f"there is no model {variant!r} on the hub", remedy=f"known: {known}")
    repository = REPOSITORIES[variant]
    cached = _cached(variant)
    try:
        with _hub_errors(variant), _progress_bars(progress):
            return _fetched(variant, repository)
    except ModelUnavailable as e:
        if cached is None:
            raise
        log.warning("using %s as cached, at revision %s: %s", variant, cached.revision, e.message)
        return cached


def _fetched(variant: str, repository: str) -> Location:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    # Asked first, because this request is not repeated for half a minute when there is no network. Its commit is that
    # of both files, even if the repository changes in between.
    revision = get_hf_file_metadata(hf_hub_url(repository, FILES[0]), timeout=TIMEOUT_S).commit_hash
    paths = [Path(hf_hub_download(repository, name, revision=revision, etag_timeout=TIMEOUT_S)) for name in FILES]
    folder = paths[0].parent
    _remember_main(folder)
    return Location(variant, folder, repository, folder.name)


def _remember_main(folder: Path) -> None:
    """Note in the cache that main is this commit: `_cached` asks for main, and fetching a commit does not say so."""
    reference = folder.parent.parent / "refs" / "main"
    reference.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(reference, folder.name.encode())


def list_models() -> list[dict[str, Any]]:
    """A row a variant: `variant, repository, cached, revision, bytes, path`; None for what is not known without it."""
    rows = []
    for variant in variants():
        location: Location | None
        if variant in PACKAGED:
            folder = _BUNDLES / variant
            location = Location(variant, folder) if _complete(folder) else None
        else:
            location = _cached(variant)
        rows.append(
            {
                "variant": variant,
                "repository": REPOSITORIES.get(variant),
                "cached": location is not None,
                "revision": location.revision if location else None,
                "bytes": sum((location.folder / name).stat().st_size for name in FILES) if location else None,
                "path": str(location.folder) if location else None,
            }
        )
    return rows


def _complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in FILES)


def _packaged(variant: str) -> Location:
    folder = _BUNDLES / variant
    if not _complete(folder):
        raise ModelUnavailable(
            f"the model {variant!r} is not part of this installation", remedy="install batchsr from its wheel again"
        )
    return Location(variant, folder)


def _cached(variant: str) -> Location | None:
    """The variant as the hub's cache has it, if it has both files of the revision it calls main."""
    from huggingface_hub import try_to_load_from_cache

    repository = REPOSITORIES[variant]
    found = [try_to_load_from_cache(repository, name) for name in FILES]
    if not all(isinstance(path, str) for path in found):
        return None
    folders = {Path(str(path)).parent for path in found}
    if len(folders) != 1:
        return None
    folder = folders.pop()
    return Location(variant, folder, repository, folder.name)


@contextlib.contextmanager
def _hub_errors(variant: str) -> Iterator[None]:
    """Turn what huggingface_hub and the HTTP library below it raise into errors of ours."""
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    # The library below was changed once (requests, httpx); the class that HfHubHTTPError extends is its root.
    http_error = cast(type[Exception], HfHubHTTPError.__mro__[1])
    try:
        yield
    except (http_error, EntryNotFoundError, OSError, ValueError, RuntimeError) as e:
        if isinstance(e, OSError) and e.errno in _DISK_FULL:
            raise ResourceError(
                f"cannot store the model {variant!r}: {e.strerror}", remedy="free some space, or set HF_HOME elsewhere"
            ) from e
        repository = REPOSITORIES[variant]
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE", "0") not in ("0", "") else ""
        raise ModelUnavailable(
            f"the model {variant!r} ({repository}) is not in the cache and cannot be fetched{offline}: {_summary(e)}",
            remedy=f"run `batchsr models pull {variant}` where the hub can be reached, copy that cache here (HF_HOME), "
            "or give the folder of a bundle as --variant",
        ) from e


def _summary(error: BaseException) -> str:
    """The first line of an error and, where it says little, of its cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


@contextlib.contextmanager
def _progress_bars(wanted: bool) -> Iterator[None]:
    """huggingface_hub's bars, on or off, as they were before afterwards."""
    bars = importlib.import_module("huggingface_hub.utils")  # they are public, but not declared so

    before = bars.are_progress_bars_disabled()
    if wanted != before or os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS"):
        yield
        return
    (bars.enable_progress_bars if wanted else bars.disable_progress_bars)()
    try:
        yield
    finally:
        (bars.disable_progress_bars if before else bars.enable_progress_bars)()
