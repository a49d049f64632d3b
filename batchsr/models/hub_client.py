"""What is asked of the hub: what a file is, and the file. The only module that knows huggingface_hub.

The library's own download throws away what a cut connection brought, waits as long as a server asks it to, and believes
what it is sent. Here a file's commit, size and checksum are asked for first; then it is fetched to a part file, which
the next attempt goes on with, and it gets its name only when its checksum is the one that was promised.

Whatever goes wrong is a HubError with a sentence and a remedy, within seconds of the last sign of life, and without a
word of what the other side or the library said, since that may hold a token.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import logging
import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from batchsr.errors import ResourceError
from batchsr.models import checksums

ANSWER_S: Final = 5.0
"""How long the hub may be silent before it says what a file is; it may take twice as long in all."""
_LEAST_BYTES: Final = 1 << 16
"""A download that brings less than this within the limit of silence stands still."""
_TRIES: Final = 2
"""Connections in a row that may break off without having brought so much."""
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_TOKEN: Final = re.compile(r"[!-~]+")
_PART_SUFFIX: Final = ".batchsr-part"
T = TypeVar("T")
log = logging.getLogger(__name__)


class HubError(Exception):
    """The hub could not be asked, or its answer cannot be used. `why` and `remedy` are sentences for people."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """What the hub says of one file."""

    name: str
    commit: str
    etag: str
    """SHA-256 of a large file, git's hash of a small one, hexadecimal."""
    size_bytes: int
    url: str
    """Where its bytes are."""


def cache_folder(repository: str) -> Path:
    """Return the folder of a repository in the hub's cache, which need not be there."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"


def offline() -> bool:
    """Whether the user forbids the network (HF_HUB_OFFLINE)."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def published(repository: str, name: str, revision: str = "main") -> Published:
    """Ask the hub what a file of a repository is now, or was at a commit. Raises HubError within seconds."""
    if offline():
        raise HubError("HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE")
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repository, name, revision=revision)
    token = _token()
    with _errors(url):
        found = _within(2 * ANSWER_S, lambda: get_hf_file_metadata(url, token=token or False, timeout=ANSWER_S))
    if found.commit_hash is None or not _COMMIT.fullmatch(found.commit_hash):
        raise HubError(
            f"what answers at {_host(url)} is not the hub (the login page of a network?)",
            "log in to the network, or check HF_ENDPOINT and the proxy",
        )
    etag = found.etag or ""
    if not (checksums.SHA256.fullmatch(etag) or checksums.GIT.fullmatch(etag)) or found.size is None:
        raise HubError(
            f"{_host(url)} gives no checksum or no size of {name}", "check HF_ENDPOINT: it may be no complete mirror"
        )
    return Published(name, found.commit_hash, etag, found.size, found.location)


def download(file: Published, blob: Path, *, progress: bool = False) -> None:
    """Fetch a file to `blob`, going on where an earlier attempt was cut, and check it.

    Raises HubError when the hub does not send it, or not what it promised, of which nothing stays; ResourceError when
    the disk cannot take it.
    """
    part = blob.with_name(f"{blob.name}{_PART_SUFFIX}")
    with _disk_errors(blob.parent):
        blob.parent.mkdir(parents=True, exist_ok=True)
        with _held(part) as fd:
            left = file.size_bytes - os.fstat(fd).st_size
            if shutil.disk_usage(blob.parent).free < left:
                raise ResourceError(
                    f"{blob.parent} has too little space for {file.size_bytes / 2**20:.0f} MiB of {file.name}",
                    remedy="free some space, or set HF_HOME to another disk",
                )
            with _bar(file, progress) as tell:
                _fetch(file, fd, tell)
            os.fsync(fd)
            if os.fstat(fd).st_size != file.size_bytes or not checksums.matches(part, file.etag, anew=True):
                part.unlink()
                raise HubError(
                    f"{_host(file.url)} sent another {file.name} than the hub promised: its checksum is wrong",
                    "try again; if it stays so, a proxy or a mirror (HF_ENDPOINT) changes what passes through it",
                )
            part.chmod(0o644 & ~_umask())
            part.replace(blob)


@contextlib.contextmanager
def _held(part: Path) -> Iterator[int]:
    """The part file, open for us alone. Its name can be guessed, so what is no file of ours is removed."""
    fd = _opened(part)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_uid != os.geteuid():
        os.close(fd)
        part.unlink()
        fd = _opened(part, os.O_EXCL)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HubError("another process is fetching it at this moment", "wait for it, then try again") from None
        yield fd
    finally:
        os.close(fd)


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
                raise _told(e, file.url) from None
            time.sleep(0.5)
    if have > file.size_bytes:  # of another file under this name
        os.ftruncate(fd, 0)
        _fetch(file, fd, tell)


def _watched(file: Published, fd: int, tell: Callable[[int], None]) -> None:
    """One connection, in a thread that is left behind when it brings nothing for too long."""
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
                f"{_host(file.url)} has sent next to nothing for {2 * silence_s:.0f} s",
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
    token = _token(quiet=True)
    if token and _host(file.url) == _host(_endpoint()):
        headers["Authorization"] = f"Bearer {token}"
    session: Any = get_session()
    with session.stream("GET", file.url, headers=headers, timeout=silence_s, follow_redirects=True) as response:
        if response.status_code >= 400 and response.status_code != 416:
            raise _of_status(response, file.url)
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
                    f"{_host(file.url)} sent more than the {file.size_bytes} bytes of {file.name}",
                    "try again; if it stays so, a proxy or a mirror (HF_ENDPOINT) changes what passes through it",
                )
            view = memoryview(chunk)
            while view:
                count = os.pwrite(fd, view, have)
                view, have = view[count:], have + count
    if have < file.size_bytes:
        raise ConnectionError("cut")


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


@contextlib.contextmanager
def _errors(url: str) -> Iterator[None]:
    """Turn what the library, and the HTTP library below it, raise into a HubError."""
    try:
        yield
    except HubError:
        raise
    except Exception as e:  # noqa: BLE001 - the library below was changed twice, and each has a tree of its own
        raise _told(e, url) from None


def _told(error: BaseException, url: str) -> HubError:
    """The sentence for what was raised, by its class's name and those above it."""
    response = getattr(error, "response", None)
    if response is not None and getattr(response, "status_code", 0) >= 400:
        return _of_status(response, url)
    host = _host(url)
    names = {cls.__name__ for cls in type(error).__mro__}
    chain = " ".join(str(e) for e in _causes(error)).lower()
    if "TooManyRedirects" in names:
        return HubError(f"{host} sends us round in redirects", "check HF_ENDPOINT and the proxy")
    if names & {"TimeoutException", "TimeoutError"}:
        return HubError(f"{host} does not answer in time", "look at the network, then try again")
    if "certificate" in chain or "ssl" in chain:
        return HubError(
            f"the certificate of {host} is not trusted", "check the clock, or SSL_CERT_FILE behind an inspecting proxy"
        )
    if "ProxyError" in names:
        return HubError("the proxy refuses the connection", "check HTTPS_PROXY and its password")
    if names & {"ConnectError", "NetworkError", "ConnectionRefusedError", "gaierror"}:
        return HubError(
            f"there is no connection to {host}", "look at the network, or check HF_ENDPOINT and HTTPS_PROXY"
        )
    if names & {"RemoteProtocolError", "ProtocolError", "ConnectionError", "ReadError"}:
        return HubError(f"the connection to {host} broke off", "try again: what was fetched is kept")
    if names & {"InvalidURL", "UnsupportedProtocol", "LocalProtocolError", "HFValidationError"}:
        return HubError("the hub's address or a header of ours is not valid", "check HF_ENDPOINT and HTTPS_PROXY")
    return HubError(f"{host} could not be asked ({type(error).__name__})", "check HF_ENDPOINT and the network")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _of_status(response: Any, url: str) -> HubError:
    """The sentence for an answer that is an HTTP error."""
    status, host = int(response.status_code), _host(url)
    if status == 401:
        return HubError(
            f"{host} does not accept the token (401)" if _token(quiet=True) else f"{host} wants a token (401)",
            "set HF_TOKEN to a valid token, or unset it where the bundle is public",
        )
    if status == 403:
        return HubError(
            f"{host} refuses access (403)", "ask for access on the bundle's page, or check the token's rights"
        )
    if status == 404:
        return HubError(f"{host} has no such repository or file (404)", "check HF_ENDPOINT; the bundle may have moved")
    if status == 407:
        return HubError("the proxy wants a password (407)", "put it into HTTPS_PROXY")
    if status == 429:
        wait = str(response.headers.get("Retry-After", ""))
        seconds = f" {int(wait)} s" if re.fullmatch(r"[0-9]{1,6}", wait) else " a while"
        return HubError(f"{host} has had too many requests (429)", f"wait{seconds}, then try again")
    if status >= 500:
        return HubError(f"{host} has trouble of its own ({status})", "try again later")
    return HubError(f"{host} answers {status}", "check HF_ENDPOINT and the proxy")


def _is_of_http(error: OSError) -> bool:
    return isinstance(error, ConnectionError | TimeoutError)


def _token(*, quiet: bool = False) -> str | None:
    """The user's token, if it can be one; else it is left out, which is enough for bundles that are public."""
    from huggingface_hub import get_token

    try:
        token = get_token()
    except (OSError, ValueError):
        token = "\n"
    if token and not _TOKEN.fullmatch(token):
        if not quiet:
            log.warning(
                "the hub's token is left out: it holds characters that none has; set HF_TOKEN anew, or unset it"
            )
        return None
    return token


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _host(url: str) -> str:
    """Host and port of a URL: all of it that a message may repeat."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2][:100] or "the hub"
    except ValueError:
        return "the hub"


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
    """A bar on stderr that is told how many bytes are here."""
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
