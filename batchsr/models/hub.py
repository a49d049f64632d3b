"""Where bundles are: a folder, the package itself, the hub's cache, or the hub. Importable without MLX.

What the cache holds is used as it is, without asking the hub: a batch that runs for weeks must not change models in
between, and needs no network. But it must be what the hub published: the checksums that the hub gave are kept beside
the snapshot, and weights that no longer match are refused. `pull` is what looks for a newer revision.

What speech-swift has fetched is used where it lies, read-only, once its checksums are found to be the hub's.

Longer than other modules: the places where a bundle may lie are tried in one order.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import platformdirs

from batchsr import storage
from batchsr.display import printable
from batchsr.errors import BatchsrError, BundleError, ModelUnavailable
from batchsr.models import checksums, hub_client
from batchsr.models.flashsr.config_file import MAX_CONFIG_BYTES, check_weights_file, read_config_file
from batchsr.models.hub_client import Published
from batchsr.models.hub_trouble import HubError
from batchsr.temporary import write_atomic

REPOSITORIES = {"int4": "aufklarer/FlashSR-MLX-4bit", "int8": "aufklarer/FlashSR-MLX-8bit"}
"""Variants that live on the hub."""
PACKAGED = ("tiny",)
"""Variants that come with the program."""
FILES = ("config.json", "model.safetensors")
"""All that is ever fetched, in this order: the small one says which revision the large one must have."""
_BUNDLES = Path(__file__).resolve().parent.parent / "bundles"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CHECKSUMS = "checksums"
"""Folder beside the snapshots, with what the hub said of each file of a commit."""
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Location:
    """A bundle's folder and where it came from; `repository` and `revision` are None for a plain folder."""

    variant: str
    folder: Path
    repository: str | None = None
    revision: str | None = None
    """Commit of the hub."""
    source: str = "folder"
    """Who put it there: folder, package, hub or speech-swift."""


def variants() -> tuple[str, ...]:
    """Return the names that `resolve` knows; any other is taken for a path."""
    return (*REPOSITORIES, *PACKAGED)


def resolve(variant: str | Path) -> Location:
    """Return the bundle of a variant (int4, int8, tiny) or of a folder's path; fetch it if the cache does not have it.

    A name is a variant even where a folder of that name stands: write ./int4 for the folder. Raises ModelUnavailable
    when it is nowhere to be had, BundleError when it is not what the hub published, ResourceError when the disk cannot
    take it.
    """
    if isinstance(variant, str) and variant in REPOSITORIES:
        location = _cached(variant)
        if location is not None:
            _check(location)
            return location
        return _from_speech_swift(variant) or pull(variant, progress=sys.stderr.isatty())
    if isinstance(variant, str) and variant in PACKAGED:
        return _packaged(variant)
    folder = Path(variant)
    if not folder.is_dir():
        raise unknown(variant, variants())
    return Location(str(variant), folder.resolve())


def unknown(variant: str | Path, known: Iterable[str]) -> ModelUnavailable:
    """Return the error for what is neither one of the names nor a folder."""
    remedy = f"give {', '.join(known)}, or the folder of a bundle"
    if "audiosr" in str(variant).lower():
        remedy = f"AudioSR is another model, which needs many steps; {remedy}"
    return ModelUnavailable(f"there is no model {printable(variant)!r}", remedy=remedy)


def pull(variant: str, progress: bool = False, *, again: bool = False) -> Location:
    """Fetch the newest revision of a variant into the hub's cache; what is there and as published is not fetched.

    With `again` it is fetched in any case. Where the hub cannot be asked, what the cache holds is the newest there is,
    and a warning is logged. `progress` draws a bar on stderr. Raises ModelUnavailable after seconds when the hub cannot
    be reached, BundleError when that is so and the cache's is damaged, ResourceError when the disk cannot take it.
    """
    if variant in PACKAGED:
        return _packaged(variant)
    if variant not in REPOSITORIES:
        known = ", ".join(variants())
        other = "AudioSR is another model, which needs many steps; " if "audiosr" in variant.lower() else ""
        raise ModelUnavailable(f"there is no model {variant!r} on the hub", remedy=f"{other}known: {known}")
    try:
        return _fetched(variant, progress=progress, again=again)
    except HubError as e:
        if not again:
            cached = _cached(variant)
            if cached is not None:
                _check(cached)
                log.warning("using %s as cached, at revision %s: %s", variant, cached.revision, e.why)
                return cached
        raise _unavailable(variant, e) from e


def list_models() -> list[dict[str, Any]]:
    """Return a row a variant: `variant, repository, cached, source, revision, bytes, path`; None for what is not known.

    Nothing is fetched or checked.
    """
    rows = []
    for variant in variants():
        location: Location | None
        if variant in PACKAGED:
            folder = _BUNDLES / variant
            location = Location(variant, folder, source="package") if _complete(folder) else None
        else:
            location = _cached(variant) or _speech_swift(variant)
        rows.append(
            {
                "variant": variant,
                "repository": REPOSITORIES.get(variant),
                "cached": location is not None,
                "source": location.source if location else None,
                "revision": location.revision if location else None,
                "bytes": sum((location.folder / name).stat().st_size for name in FILES) if location else None,
                "path": str(location.folder) if location else None,
            }
        )
    return rows


def published_checksums(location: Location) -> dict[str, str]:
    """Return what the hub said of a bundle's files, by name; of the hub's cache also from the names of its blobs."""
    if location.source == "speech-swift":
        kept = checksums.read_json(_adopted_path()).get(str(location.folder), {})
        told = kept.get("files") if isinstance(kept, dict) else None
    elif location.source == "hub":
        told = checksums.read_json(_record(location.folder)).get("files")
    else:
        return {}
    known = {name: etag for name, etag in (told if isinstance(told, dict) else {}).items() if isinstance(etag, str)}
    for name in FILES:
        blob = (location.folder / name).resolve().name
        if name not in known and location.source == "hub":
            known[name] = blob
    return {name: etag for name, etag in known.items() if checksums.SHA256.fullmatch(etag) or _COMMIT.fullmatch(etag)}


def _check(location: Location) -> None:
    """Raise BundleError unless the files are those that the hub published."""
    for name, etag in published_checksums(location).items():
        path = location.folder / name
        try:
            good = checksums.matches(path, etag)
        except OSError as e:
            raise BundleError(f"{path} cannot be read: {e.strerror}", remedy=_again(location.variant)) from e
        if not good:
            raise BundleError(f"{path} is not what the hub published", remedy=_again(location.variant))


def _again(variant: str) -> str:
    return f"fetch it again: `batchsr models pull {variant} --again`"


def _fetched(variant: str, *, progress: bool, again: bool) -> Location:
    """Return both files of the hub's newest commit, cached and checked, or those of speech-swift. Raises HubError."""
    repository = REPOSITORIES[variant]
    small = hub_client.published(repository, FILES[0])
    files = [small, *(hub_client.published(repository, name, small.commit) for name in FILES[1:])]
    if not checksums.SHA256.fullmatch(files[-1].etag):
        raise HubError(f"the hub gives no SHA-256 of {FILES[-1]}", "check HF_ENDPOINT: it may be no complete mirror")
    if any(file.commit != small.commit for file in files):
        raise HubError("the hub answers with files of two revisions", "try again")
    if small.size_bytes > MAX_CONFIG_BYTES:
        raise _no_bundle(variant, small, f"its {small.name} has {small.size_bytes} bytes")
    cache = hub_client.cache_folder(repository)
    snapshot = cache / "snapshots" / small.commit
    fetched = False
    if not again:
        other = _speech_swift(variant)
        if other is not None and not _complete(snapshot) and _adopted(other, files):
            return dataclasses.replace(other, revision=small.commit)
    for file in files:
        if again or not _is(snapshot / file.name, file.etag):
            if again or not _is(cache / "blobs" / file.etag, file.etag):
                hub_client.download(file, cache / "blobs" / file.etag, progress=progress)
            _see_that_it_is_a_bundle_s(variant, file, cache / "blobs" / file.etag)
            _link(cache / "blobs" / file.etag, snapshot / file.name)
            fetched = True
    told = {"repository": repository, "commit": small.commit, "files": {file.name: file.etag for file in files}}
    if fetched or checksums.read_json(_record(snapshot)) != told:
        checksums.write_json(_record(snapshot), told)
    _remember_main(cache, small.commit)
    return Location(variant, snapshot, repository, small.commit, "hub")


def _see_that_it_is_a_bundle_s(variant: str, file: Published, blob: Path) -> None:
    """Raise BundleError, and remove the file, unless it is a bundle's: a checksum does not tell that."""
    try:
        if file.name == FILES[0]:
            read_config_file(blob)
        else:
            check_weights_file(blob)
    except BundleError as e:
        with contextlib.suppress(OSError):
            blob.unlink()
        raise _no_bundle(variant, file, e.message.replace(str(blob), file.name)) from e


def _no_bundle(variant: str, file: Published, why: str) -> BundleError:
    repository = REPOSITORIES[variant]
    return BundleError(
        f"what the hub publishes as {repository} at revision {file.commit} is no bundle of FlashSR: {why}",
        remedy="check HF_ENDPOINT; what was pulled before is still used, and --variant tiny is part of the program",
    )


def _is(path: Path, etag: str) -> bool:
    """Return whether a file is here and what an ETag says."""
    with contextlib.suppress(OSError):
        return path.is_file() and checksums.matches(path, etag)
    return False


def _link(blob: Path, name: Path) -> None:
    """Give a blob its name in a snapshot, as the hub's library does: a relative link, or a copy where there is none."""
    with storage.resource_errors(name, "link"):
        name.parent.mkdir(parents=True, exist_ok=True)
        temporary = name.with_name(f".{name.name}.{secrets.token_hex(8)}")
        try:
            temporary.symlink_to(os.path.relpath(blob, name.parent))
        except OSError:
            shutil.copyfile(blob, temporary)
        temporary.replace(name)


def _remember_main(cache: Path, commit: str) -> None:
    """Note in the cache that main is this commit, if it can be written: `_cached` asks for main."""
    reference = cache / "refs" / "main"
    with contextlib.suppress(BatchsrError, OSError):
        reference.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(reference, commit.encode())


def _record(snapshot: Path) -> Path:
    return snapshot.parent.parent / _CHECKSUMS / f"{snapshot.name}.json"


def _complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in FILES)


def _packaged(variant: str) -> Location:
    folder = _BUNDLES / variant
    if not _complete(folder):
        raise ModelUnavailable(
            f"the model {variant!r} is not part of this installation", remedy="install batchsr from its wheel again"
        )
    return Location(variant, folder, source="package")


def _cached(variant: str) -> Location | None:
    """Return the variant as the hub's cache has it, if it has both files of the revision it calls main."""
    repository = REPOSITORIES[variant]
    cache = hub_client.cache_folder(repository)
    reference = cache / "refs" / "main"
    try:
        if not reference.is_file() or reference.stat().st_size > 1000:
            return None
        commit = reference.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    snapshot = cache / "snapshots" / commit
    if not _COMMIT.fullmatch(commit) or not _complete(snapshot):
        return None
    return Location(variant, snapshot, repository, commit, "hub")


# --- what speech-swift has fetched ------------------------------------------------------------------------------------


def _speech_swift(variant: str) -> Location | None:
    """Return the bundle that speech-swift keeps, if it is complete; its revision if it is known."""
    repository = REPOSITORIES[variant]
    try:
        folder = Path.home() / "Library" / "Caches" / "qwen3-speech" / "models" / repository
    except RuntimeError:  # a user without a home
        return None
    if not _complete(folder):
        return None
    kept = checksums.read_json(_adopted_path()).get(str(folder), {})
    commit = kept.get("commit") if isinstance(kept, dict) else None
    revision = commit if isinstance(commit, str) and _COMMIT.fullmatch(commit) else None
    return Location(variant, folder, repository, revision, "speech-swift")


def _from_speech_swift(variant: str) -> Location | None:
    """Return the same, once it is known to be what the hub published; None if it is something else.

    Where the hub cannot be asked it is taken as it is, with a warning: nothing else can be had then.
    """
    location = _speech_swift(variant)
    if location is None:
        return None
    if location.revision is not None:
        with contextlib.suppress(BundleError):
            _check(location)
            return location
        log.warning("%s has changed since it was compared with the hub", location.folder)
    repository = REPOSITORIES[variant]
    try:
        small = hub_client.published(repository, FILES[0])
        files = [small, *(hub_client.published(repository, name, small.commit) for name in FILES[1:])]
    except HubError as e:
        if location.revision is not None:
            return None
        log.warning("using %s, not compared with the hub's checksums: %s", location.folder, e.why)
        return location
    if not _adopted(location, files):
        return None
    return dataclasses.replace(location, revision=small.commit)


def _adopted(location: Location, files: list[Published]) -> bool:
    """Return whether a folder's files are those that the hub publishes; that they are is remembered."""
    if not all(_is(location.folder / file.name, file.etag) for file in files):
        log.warning("%s is not what the hub publishes now, and is left alone", location.folder)
        return False
    kept = checksums.read_json(_adopted_path())
    kept[str(location.folder)] = {"commit": files[0].commit, "files": {file.name: file.etag for file in files}}
    checksums.write_json(_adopted_path(), kept)
    return True


def _adopted_path() -> Path:
    return platformdirs.user_cache_path("batchsr") / "adopted.json"


def _spoilt(variant: str) -> str | None:
    """Return what keeps a revision that the cache does hold from being found, or None if it holds none."""
    cache = hub_client.cache_folder(REPOSITORIES[variant])
    reference = cache / "refs" / "main"
    with contextlib.suppress(OSError):
        whole = [folder.name for folder in sorted((cache / "snapshots").iterdir()) if _complete(folder)]
        if whole and reference.exists():
            return f"{reference} does not name a revision that is here ({', '.join(whole[:3])} would be)"
        if whole:
            return f"{reference} is missing, though revision {', '.join(whole[:3])} is here"
    return None


def _unavailable(variant: str, error: HubError) -> ModelUnavailable:
    """Return what to tell a user who has no model: why, what to do, and what works at once."""
    now = "; --variant tiny works now, it is part of the program" if _complete(_BUNDLES / "tiny") else ""
    spoilt = _spoilt(variant)
    here = f"cannot be found in the cache, since {spoilt}," if spoilt else "is not in the cache"
    return ModelUnavailable(
        f"the model {variant!r} ({REPOSITORIES[variant]}) {here} and cannot be fetched: {error.why}",
        remedy=f"{error.remedy}; run `batchsr models pull {variant}` where the hub can be reached, copy that cache "
        f"here (HF_HOME), or give the folder of a bundle as --variant{now}",
    )
