"""What is asked of the hub: what a file is, and the file. The only module that knows huggingface_hub.

The library's own download throws away what a cut connection brought, waits as long as a server asks it to, and believes
what it is sent. Here a file's commit, size and checksum are asked for first; then it is fetched to a part file, which
the next attempt goes on with, and it gets its name only when its checksum is the one that was promised.

Whatever goes wrong is a HubError with a sentence and a remedy, within seconds of the last sign of life, and without a
word of what the other side or the library said, since that may hold a token.

Longer than other modules: a request, its failures and its resumption are one conversation.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import io
import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from batchsr import storage
from batchsr.errors import ResourceError
from batchsr.models import checksums
from batchsr.models.hub_trouble import HubError, WrongBytes, errors, host, of_status, token, told

OTHER_S: Final = 60.0
"""How long another process that fetches the same may bring nothing."""
ANSWER_S: Final = 5.0
"""How long the hub may be silent before it says what a file is; it may take twice as long in all."""
_LEAST_BYTES: Final = 1 << 16
"""A download that brings less than this within the limit of silence stands still."""
_TRIES: Final = 2
"""Connections in a row that may break off without having brought so much."""
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_PART_SUFFIX: Final = ".batchsr-part"
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """What the hub says of one file."""

    name: str
    commit: str
    etag: str
    """SHA-256 of a large file, git's hash of a small one, hexadecimal."""
    size_bytes: int
    url: str
    """Where the hub sends one on to its bytes: each time to an address that is good for an hour."""


def cache_folder(repository: str) -> Path:
    """Return the folder of a repository in the hub's cache, which need not be there.

    By the variables that the library goes by, without importing it: it takes a while, and fails if one makes no sense.
    """
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    return Path(os.path.expandvars(os.path.expanduser(cache))) / f"models--{repository.replace('/', '--')}"


def published(repository: str, name: str, revision: str = "main") -> Published:
    """Ask the hub what a file of a repository is now, or was at a commit. Raises HubError within seconds."""
    with errors("the hub"), contextlib.redirect_stdout(io.StringIO()):  # where the library says what it cannot import
        from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

        if constants.HF_HUB_OFFLINE:
            raise HubError("HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE")
        url = hf_hub_url(repository, name, revision=revision)
    own = token()
    with errors(url):
        found = _within(2 * ANSWER_S, lambda: get_hf_file_metadata(url, token=own or False, timeout=ANSWER_S))
    if found.commit_hash is None or not _COMMIT.fullmatch(found.commit_hash):
        raise HubError(
            f"what answers at {host(url)} is not the hub (the login page of a network?)",
            "log in to the network, or check HF_ENDPOINT and the proxy",
        )
    etag = found.etag or ""
    if not (checksums.SHA256.fullmatch(etag) or checksums.GIT.fullmatch(etag)) or found.size is None:
        raise HubError(
            f"{host(url)} gives no checksum or no size of {name}", "check HF_ENDPOINT: it may be no complete mirror"
        )
    return Published(
        name, found.commit_hash, etag, found.size, hf_hub_url(repository, name, revision=found.commit_hash)
    )


def download(file: Published, blob: Path, *, progress: bool = False) -> None:
    """Fetch a file to `blob`, going on where an earlier attempt was cut, and check it.

    Raises HubError when the hub does not send it, or not what it promised, of which nothing stays; ResourceError when
    the disk cannot take it.
    """
    part = blob.with_name(f"{blob.name}{_PART_SUFFIX}")
    with _disk_errors(blob.parent):
        blob.parent.mkdir(parents=True, exist_ok=True)
        asked = time.time()
        with _held(part) as fd:
            if _fetched_since(blob, asked) and checksums.matches(blob, file.etag):
                part.unlink()
                return
            left = file.size_bytes - os.fstat(fd).st_size
            if shutil.disk_usage(blob.parent).free < left:
                raise ResourceError(
                    f"{blob.parent} has too little space for {file.size_bytes / 2**20:.0f} MiB of {file.name}",
                    remedy="free some space, or set HF_HOME to another disk",
                )
            with _bar(file, progress) as tell:
                resumed = os.fstat(fd).st_size > 0
                _fetch(file, fd, tell)
                if resumed and not _is_whole(file, fd, part):  # what was kept may have been another file's
                    os.ftruncate(fd, 0)
                    _fetch(file, fd, tell)
            storage.fsync(fd)
            if not _is_whole(file, fd, part):
                part.unlink()
                raise WrongBytes(
                    f"{host(file.url)} sent another {file.name} than the hub promised: its checksum is wrong",
                    "try again; if it stays so, a proxy or a mirror (HF_ENDPOINT) changes what passes through it",
                )
            part.chmod(0o644 & ~_umask())
            part.replace(blob)


def _is_whole(file: Published, fd: int, part: Path) -> bool:
    return os.fstat(fd).st_size == file.size_bytes and checksums.matches(part, file.etag, anew=True)


@contextlib.contextmanager
def _held(part: Path) -> Iterator[int]:
    """Open the part file for us alone. Its name can be guessed, so what is no file of ours is removed.

    Another process that fetches the same is waited for as long as it gets on. Raises HubError when it does not.
    """
    seen, since = -1, time.monotonic()
    while True:
        fd = _opened(part)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_uid != os.geteuid():
                part.unlink(missing_ok=True)
            elif _locked(fd) and _is_at(fd, part):  # else the other one has just finished, and it has another name
                yield fd
                return
            elif status.st_size != seen:
                seen, since = status.st_size, time.monotonic()
            elif time.monotonic() - since > OTHER_S:
                raise HubError(
                    "another process has begun to fetch it, and does not get on",
                    "end it, or wait for it; then try again",
                )
        finally:
            os.close(fd)
        time.sleep(0.2)


def _fetched_since(blob: Path, asked: float) -> bool:
    """Return whether another process has put the file in place while we waited for it."""
    try:
        return blob.stat().st_ctime >= asked
    except OSError:
        return False


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except OSError:
        return False


def _opened(part: Path, more: int = 0) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | more
    try:
        return os.open(part, flags, 0o600)
    except OSError as e:
        if e.errno != errno.ELOOP or more:
            raise
    part.unlink()  # a symbolic link
    return _opened(part, os.O_EXCL)


def _fetch(file: Published, fd: int, tell: Callable[[int], None]) -> None:
    """Bring the part file to its size, over as many connections as it takes while each brings something."""
    tries = 0
    while (have := os.fstat(fd).st_size) < file.size_bytes:
        try:
            _watched(file, fd, tell)
            return
        except HubError:
            raise
        except Exception as e:  # whatever the HTTP library raises, which was changed before
            if isinstance(e, OSError) and e.errno is not None and not _is_of_http(e):
                raise
            tries = 0 if os.fstat(fd).st_size - have >= _LEAST_BYTES else tries + 1
            if tries >= _TRIES:
                raise told(e, file.url) from None
            time.sleep(0.5)
    if have > file.size_bytes:  # of another file under this name
        os.ftruncate(fd, 0)
        _fetch(file, fd, tell)


def _watched(file: Published, fd: int, tell: Callable[[int], None]) -> None:
    """Ask through one connection, in a thread that is left behind when it brings nothing for too long."""
    from huggingface_hub import constants

    silence_s = float(constants.HF_HUB_DOWNLOAD_TIMEOUT)
    given_up = threading.Event()
    outcome: list[BaseException | None] = []

    mine = os.dup(fd)  # for the thread, which may outlive ours by a read

    def work() -> None:
        try:
            _receive(file, mine, silence_s, given_up)
            outcome.append(None)
        except BaseException as e:  # noqa: BLE001 - handed to the thread that waits
            outcome.append(e)
        finally:
            os.close(mine)

    thread = threading.Thread(target=work, name="batchsr-fetch", daemon=True)
    thread.start()
    seen, since = os.fstat(fd).st_size, time.monotonic()
    while not outcome:
        thread.join(0.1)
        have = os.fstat(fd).st_size
        tell(have)
        if abs(have - seen) >= _LEAST_BYTES:
            seen, since = have, time.monotonic()
        elif not outcome and time.monotonic() - since > 2 * silence_s:
            given_up.set()
            raise HubError(
                f"{host(file.url)} has sent next to nothing for {2 * silence_s:.0f} s",
                "try again: what was fetched is kept, and it goes on from there",
            )
    if outcome[0] is not None:
        raise outcome[0]


def _receive(file: Published, fd: int, silence_s: float, given_up: threading.Event) -> None:
    """Append what one connection sends to the part file."""
    from huggingface_hub import get_session

    have = os.fstat(fd).st_size
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    own = token(quiet=True)
    if own and host(file.url) == host(_endpoint()):
        headers["Authorization"] = f"Bearer {own}"
    session: Any = get_session()
    with session.stream("GET", file.url, headers=headers, timeout=silence_s, follow_redirects=True) as response:
        if response.status_code >= 400 and response.status_code != 416:
            raise of_status(response, file.url)
        if response.status_code < 300:
            _check_answer(file, response, have)
        begins = str(response.headers.get("Content-Range", "")).startswith(f"bytes {have}-")
        if response.status_code == 416 or (have and not (response.status_code == 206 and begins)):
            os.ftruncate(fd, 0)  # it does not go on there: from the beginning
            have = 0
            if response.status_code != 200:
                raise ConnectionError("no such range")
        for chunk in response.iter_raw():
            if given_up.is_set():
                return
            if have + len(chunk) > file.size_bytes:
                os.ftruncate(fd, 0)
                raise HubError(
                    f"{host(file.url)} sent more than the {file.size_bytes} bytes of {file.name}",
                    "try again; if it stays so, a proxy or a mirror (HF_ENDPOINT) changes what passes through it",
                )
            view = memoryview(chunk)
            while view:
                count = os.pwrite(fd, view, have)
                view, have = view[count:], have + count
    if have < file.size_bytes:
        raise ConnectionError("cut")


def _check_answer(file: Published, response: Any, have: int) -> None:
    """Raise HubError, before a byte is kept, if an answer's headers say that it is not the file from `have` on."""
    at, headers = host(str(response.url)), response.headers
    if "html" in str(headers.get("Content-Type", "")).lower():
        raise HubError(
            f"{at} sends a page instead of {file.name} (the login page of a network?)",
            "log in to the network, or check HF_ENDPOINT and the proxy",
        )
    begun = re.fullmatch(
        r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", str(headers.get("Content-Range", "")).strip()
    )
    partial = response.status_code == 206
    if partial and begun and int(begun[1]) != have:
        return  # it is asked for from the beginning
    total = begun[2] if partial and begun else "*" if partial else str(headers.get("Content-Length", "*"))
    if total.isdecimal() and int(total) != file.size_bytes:
        raise HubError(
            f"{at} sends {int(total)} bytes in place of the {file.size_bytes} of {file.name}",
            "try again; if it stays so, a proxy or a mirror (HF_ENDPOINT) changes what passes through it",
        )


def _within(limit_s: float, function: Callable[[], T]) -> T:
    """Call a function that may hang, in the name service for one, and give it up after a while."""
    outcome: list[tuple[T | None, BaseException | None]] = []

    def work() -> None:
        try:
            outcome.append((function(), None))
        except BaseException as e:  # noqa: BLE001 - handed to the thread that waits
            outcome.append((None, e))

    thread = threading.Thread(target=work, name="batchsr-ask", daemon=True)
    thread.start()
    thread.join(limit_s)
    if not outcome:
        raise TimeoutError
    result, error = outcome[0]
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


def _is_of_http(error: OSError) -> bool:
    return isinstance(error, ConnectionError | TimeoutError)


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Turn an OSError of our own writing into a ResourceError."""
    try:
        yield
    except OSError as e:
        raise ResourceError(
            f"cannot store the model in {folder}: {e.strerror or type(e).__name__}",
            remedy="free some space or allow writing there, or set HF_HOME elsewhere",
        ) from e


@contextlib.contextmanager
def _bar(file: Published, wanted: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr that is told how many bytes are here."""
    if not wanted or os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS"):
        yield lambda have: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TextColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(file.name, total=file.size_bytes)
        yield lambda have: bar.update(task, completed=have)
        bar.update(task, completed=file.size_bytes)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
