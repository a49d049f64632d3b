"""Where a network that separates music into stems is: a file, or the hub, from which it is fetched once.

The names are those of the package demucs-onnx, whose networks take 7.8 s of stereo at 44.1 kHz. From the first fetch on
the cache's revision is used as it is, without asking the hub, and only if its SHA-256 is the one the hub gave; so a
batch does not change networks in between. Source: demucs_onnx/_hub.py 0.3.4 (MODEL_REGISTRY).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from batchsr import storage
from batchsr.display import printable
from batchsr.errors import ResourceError, StageFailed, StageUnavailable
from batchsr.models import checksums, hub_client
from batchsr.models.hub_trouble import HubError, WrongBytes
from batchsr.temporary import write_atomic

NAMES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "htdemucs": ("StemSplitio/htdemucs-onnx", "htdemucs.onnx"),
        "htdemucs-fp16": ("StemSplitio/htdemucs-onnx", "htdemucs_fp16weights.onnx"),
    }
)
"""Name -> repository of the hub and file."""


@dataclasses.dataclass(frozen=True, slots=True)
class Network:
    """A network's file, and what it is."""

    path: Path = dataclasses.field(compare=False)
    name: str
    sha256: str
    revision: str | None = None
    """Commit of the hub; None for a file."""


def find(wanted: str) -> Network:
    """Return the network of a name, fetched if the cache does not have it, or of a file's path.

    Raises StageFailed for a file that is not there, or not what the hub published; StageUnavailable for what may come:
    the hub is away or refuses, the cache's disk is full, the file's share is gone.
    """
    if wanted in NAMES:
        return _cached(wanted) or _fetched(wanted)
    path = Path(wanted)
    if _is_no_name(path):
        raise StageFailed(
            f"there is no network {printable(wanted)} for --stems",
            remedy=f"give the path of an ONNX file, or one of {', '.join(NAMES)}",
        )
    return Network(path, path.name, _checksum(path))


def _is_no_name(path: Path) -> bool:
    """Return whether no such file is where others are; an empty folder is what a share leaves that is away."""
    with contextlib.suppress(OSError):
        return not path.exists() and bool(os.listdir(path.parent))
    return False


def _checksum(path: Path) -> str:
    try:
        state = path.stat()
        return _sha256(path, state.st_mtime_ns, state.st_size)
    except OSError as e:
        raise StageUnavailable(
            f"the network {printable(path)} for --stems cannot be read: {e.strerror}",
            remedy="mount its disk or share, or give permission there",
        ) from e


@functools.lru_cache(maxsize=8)  # a batch has one, and many recordings
def _sha256(path: Path, mtime_ns: int, size_bytes: int) -> str:
    return storage.sha256(path)


def _kept(name: str) -> Path:
    """Return where the cache notes which revision of a network is used, and its SHA-256."""
    repository, file = NAMES[name]
    return hub_client.cache_folder(repository) / "batchsr" / f"{file}.json"


def _cached(name: str) -> Network | None:
    repository, file = NAMES[name]
    told = checksums.read_json(_kept(name))
    if not isinstance(told, dict):
        return None
    commit, sha256 = str(told.get("commit")), str(told.get("sha256"))
    path = hub_client.cache_folder(repository) / "blobs" / sha256
    if not checksums.SHA256.fullmatch(sha256) or not path.is_file():
        return None
    if _checksum(path) != sha256:
        raise StageFailed(
            f"{path} is not the {file} that {repository} published at revision {commit}: its checksum is wrong",
            remedy=f"remove {path}, and it is fetched again",
        )
    return Network(path, name, sha256, commit)


def _fetched(name: str) -> Network:
    repository, file = NAMES[name]
    told = checksums.read_json(_kept(name))
    pinned = str(told["commit"]) if isinstance(told, dict) and told.get("commit") else "main"
    try:
        found = hub_client.published(repository, file, pinned)
        if not checksums.SHA256.fullmatch(found.etag):
            raise HubError(f"the hub gives no SHA-256 of {file}", "check HF_ENDPOINT: it may be no complete mirror")
        blob = hub_client.cache_folder(repository) / "blobs" / found.etag
        if not blob.is_file():
            hub_client.download(found, blob)
        kept = _kept(name)
        with storage.resource_errors(kept, "write"):
            os.makedirs(kept.parent, exist_ok=True)
            write_atomic(kept, f'{{"commit": "{found.commit}", "sha256": "{found.etag}"}}\n'.encode())
        network = _cached(name)
        if network is None:
            raise HubError(f"{blob} went away while it was fetched", "let nothing remove what is in the cache")
        return network
    except (HubError, ResourceError) as e:
        why = e.why if isinstance(e, HubError) else e.message
        kind = StageFailed if isinstance(e, WrongBytes) else StageUnavailable
        raise kind(
            f"the network {name} of {repository} for --stems is not here and cannot be fetched: {why}",
            remedy=f"{e.remedy}; or fetch {file} elsewhere and name it with --stems-network",
        ) from e
