"""Where a speech recogniser is: a folder in the form of CTranslate2, or the hub, from which it is fetched once.

The names are those of the library faster-whisper (faster_whisper/utils.py 1.2.1, `_MODELS`). From the first fetch on
the cache's revision is used as it is, without asking the hub, so a batch does not change recognisers in between.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from batchsr import storage
from batchsr.display import printable
from batchsr.errors import StageFailed
from batchsr.models import checksums, hub_client
from batchsr.models.hub_trouble import HubError
from batchsr.settings.profile import RECOGNISERS
from batchsr.temporary import write_atomic

REPOSITORIES: Final[Mapping[str, str]] = MappingProxyType(
    {name: f"Systran/faster-whisper-{name}" for name in RECOGNISERS}
)
"""Name -> repository of the hub."""
FILES: Final = ("config.json", "tokenizer.json", "vocabulary.txt", "model.bin")
_ASK_AGAIN_S: Final = 600.0
_lock = threading.Lock()
_failed: dict[str, tuple[float, StageFailed]] = {}


def find(wanted: str) -> Path:
    """Return the folder of a recogniser: of a name, fetched if the cache does not have it; or a folder itself.

    Raises StageFailed when it is not to be had; where the hub could not be asked, for ten minutes without asking again.
    ResourceError when the disk cannot take it.
    """
    if wanted not in REPOSITORIES:
        folder = Path(wanted)
        missing = [name for name in ("config.json", "model.bin") if not (folder / name).is_file()]
        if missing:
            raise StageFailed(
                f"{printable(wanted)} is no recogniser's folder: {missing[0]} is not there",
                remedy=f"give a folder in the form of CTranslate2, or one of {', '.join(REPOSITORIES)}",
            )
        return folder
    with _lock:
        since, failed = _failed.get(wanted, (0.0, None))
        if failed is not None and time.monotonic() - since < _ASK_AGAIN_S:
            raise failed
        try:
            return _cached(wanted) or _fetched(wanted)
        except StageFailed as e:
            _failed[wanted] = time.monotonic(), e
            raise


def _place(name: str) -> Path:
    return hub_client.cache_folder(REPOSITORIES[name]) / "batchsr"


def _cached(name: str) -> Path | None:
    told = checksums.read_json(_place(name) / "recogniser.json")
    if not isinstance(told, dict) or not checksums.GIT.fullmatch(str(told.get("commit"))):
        return None
    folder = _place(name) / str(told["commit"])
    etags = told.get("files")
    whole = isinstance(etags, dict) and all(
        (folder / file).is_file() and checksums.matches(folder / file, str(etags.get(file))) for file in FILES
    )
    return folder if whole else None


def _fetched(name: str) -> Path:
    told = checksums.read_json(_place(name) / "recogniser.json")
    pinned = (
        str(told["commit"]) if isinstance(told, dict) and checksums.GIT.fullmatch(str(told.get("commit"))) else "main"
    )
    try:
        first, *others = FILES
        files = [hub_client.published(REPOSITORIES[name], first, pinned)]
        files += [hub_client.published(REPOSITORIES[name], one, files[0].commit) for one in others]
        folder = _place(name) / files[0].commit
        for file in files:
            if not ((folder / file.name).is_file() and checksums.matches(folder / file.name, file.etag)):
                hub_client.download(file, folder / file.name)
    except HubError as e:
        raise StageFailed(
            f"the recogniser {name} of {REPOSITORIES[name]} is not here and cannot be fetched: {e.why}",
            remedy=f"{e.remedy}; or fetch it elsewhere and name its folder",
        ) from e
    note = {"commit": files[0].commit, "files": {file.name: file.etag for file in files}}
    with storage.resource_errors(folder, "write"):
        write_atomic(_place(name) / "recogniser.json", f"{json.dumps(note)}\n".encode())
    return folder
