"""Hints from the file system that something may have changed. watchdog lives here, and psutil, for the table of mounts.

Events are hints and the disk is the truth: they may be lost (a full inotify queue, a dropped FSEvents
batch) or made up, and nothing but speed depends on them.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import threading
import time
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, Protocol

import psutil
from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

Kind = Literal["changed", "closed", "folder", "lost"]
PollMode = Literal["auto", "always", "never"]

# Opening and reading must not be among them: the watcher's own looks would set it off for ever.
_WANTED: Final[list[type[FileSystemEvent]]] = [
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileClosedEvent,
    DirCreatedEvent,
    DirMovedEvent,
]
_MAX_PENDING: Final = 100_000
_COALESCE_S: Final = 0.05  # a copy in progress makes thousands of events a second, and one look answers them all

# File systems whose kernel sees every change. All others (shares, FUSE, what is not known) are polled.
_LOCAL: Final = frozenset(
    "ext2 ext3 ext4 xfs btrfs zfs bcachefs f2fs jfs nilfs2 reiserfs tmpfs ramfs overlay vfat exfat ntfs3 msdos hfsplus"
    " apfs hfs ufs udf iso9660 squashfs".split()
)


@dataclasses.dataclass(frozen=True, slots=True)
class Hint:
    """`changed`: a file appeared or changed; `closed`: a writer closed it; `folder`: a folder appeared, look below;
    `lost`: hints were dropped, look everywhere."""

    kind: Kind
    path: str


class Events(Protocol):
    """Where hints come from. Tests bring one that replays a script."""

    def watch(self, folders: Iterable[str]) -> dict[str, str]:
        """Watch these folders and all below them from now on, and no others. Returns why, for those that cannot be."""
        ...

    def wait(self, timeout_s: float) -> list[Hint]:
        """Return hints since the last call; wait for one, at most so long. Returns at once after `wake`."""
        ...

    def wake(self) -> None:
        """End a `wait` from another thread or a signal handler."""
        ...

    def is_listening(self) -> bool:
        """False when hints will not come any more, unless `watch` is called again."""
        ...

    def close(self) -> None:
        """Watch nothing any more."""
        ...


class NoEvents:
    """For file systems that tell nothing: the watcher's own scans find everything, only later."""

    def __init__(self) -> None:
        self._woken = threading.Event()

    def watch(self, folders: Iterable[str]) -> dict[str, str]:
        """Do nothing."""
        return {}

    def wait(self, timeout_s: float) -> list[Hint]:
        """Wait; there are never hints."""
        self._woken.wait(timeout_s)
        self._woken.clear()
        return []

    def wake(self) -> None:
        """End the wait."""
        self._woken.set()

    def is_listening(self) -> bool:
        """As much as ever."""
        return True

    def close(self) -> None:
        """Do nothing."""


class ObserverEvents:
    """inotify, FSEvents or kqueue, through watchdog."""

    def __init__(self) -> None:
        self._handler = _Handler()
        self._observer: Any = None
        self._threads: list[threading.Thread] = []
        # watchdog logs overflows, and warns (at the length of all its watches) when a folder that was just made is
        # found twice. The next scan answers the ones, and the others are harmless.
        logging.getLogger("watchdog").addHandler(logging.NullHandler())
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"watchdog\.observers")

    def watch(self, folders: Iterable[str]) -> dict[str, str]:
        """Return a fresh observer each time: one whose folder was unmounted or replaced is blind to the new one."""
        self._stop_observer()
        before = set(threading.enumerate())
        self._observer = Observer()
        self._observer.start()
        failed = {}
        for folder in folders:
            # The kernel watches the folder, not a link to it, and tells names below that; they are told as ours.
            real = os.path.realpath(folder)
            self._handler.spelled[real] = folder
            try:
                self._observer.schedule(self._handler, real, recursive=True, event_filter=_WANTED)
            except OSError as e:
                failed[folder] = e.strerror or str(e)
        # Those of the observer, of its emitters, and of the reader below them, where there is one: watchdog names only
        # the former two.
        self._threads = [
            thread
            for thread in threading.enumerate()
            if thread not in before and type(thread).__module__.startswith("watchdog.")
        ]
        return failed

    def wait(self, timeout_s: float) -> list[Hint]:
        """Return hints, each file once."""
        return self._handler.wait(timeout_s)

    def wake(self) -> None:
        """End the wait."""
        self._handler.woken.set()

    def is_listening(self) -> bool:
        """Return whether all of the observer's threads live."""
        return self._observer is not None and all(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """Stop the observer's threads."""
        self._stop_observer()

    def _stop_observer(self) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None


class _Handler(FileSystemEventHandler):
    """Collects hints from the observer's thread."""

    def __init__(self) -> None:
        self.woken = threading.Event()
        self._same = same_name if sys.platform == "darwin" else str.__eq__
        self.spelled: dict[str, str] = {}
        """Watched folders as the kernel names them, and as whoever watches does."""
        self._lock = threading.Lock()
        self._pending: dict[str, Kind] = {}
        self._lost = False

    def wait(self, timeout_s: float) -> list[Hint]:
        """Return what was collected; waits for something, or for `woken`."""
        if self.woken.wait(timeout_s):
            time.sleep(_COALESCE_S)
        self.woken.clear()
        with self._lock:
            pending, self._pending = self._pending, {}
            lost, self._lost = self._lost, False
        hints = [Hint(kind, path) for path, kind in pending.items()]
        return [*hints, Hint("lost", "")] if lost else hints

    def dispatch(self, event: FileSystemEvent) -> None:
        """From the observer's thread."""
        path = os.fsdecode(event.dest_path if isinstance(event, DirMovedEvent | FileMovedEvent) else event.src_path)
        if not path:
            return
        path = self._as_spelled(path)
        kind: Kind = "folder" if event.is_directory else "closed" if isinstance(event, FileClosedEvent) else "changed"
        with self._lock:
            if self._pending.get(path) == "closed" and kind == "changed":
                return  # what comes after the close is the rename or touch that belongs to it; the look will tell
            if len(self._pending) >= _MAX_PENDING:
                self._pending.clear()
                self._lost = True
            self._pending[path] = kind
        self.woken.set()

    def _as_spelled(self, path: str) -> str:
        parts = path.split(os.sep)
        for real in sorted(self.spelled, key=len, reverse=True):
            mine = real.split(os.sep)
            if len(mine) <= len(parts) and all(map(self._same, mine, parts)):
                return os.sep.join([self.spelled[real], *parts[len(mine) :]])
        return path


def same_name(one: str, other: str) -> bool:
    """Return whether two names are one on a Mac's disks, which keep letter case and accents as written and ignore them.

    FSEvents tells a name as the disk has it, `realpath` as it was typed.
    """
    return one == other or _folded(one) == _folded(other)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def must_poll(folder: str, mode: PollMode) -> bool:
    """Return whether `folder` is on a file system that does not tell of changes made elsewhere."""
    return mode == "always" or (mode == "auto" and file_system(folder) not in _LOCAL)


def file_system(folder: str) -> str:
    """Return the type of the file system that holds `folder`: "ext4", "nfs4", "apfs"...; "" if the system does
    not say."""
    try:
        mounts = [(one.mountpoint, one.fstype) for one in psutil.disk_partitions(all=True)]
    except OSError:
        return ""
    return type_of(os.path.realpath(folder), mounts)


def type_of(folder: str, mounts: Sequence[tuple[str, str]]) -> str:
    """Return the type of the last, longest mount point above `folder`; `mounts` are (mount point, type), in mount
    order."""
    best, kind = "", ""
    for point, name in mounts:
        inside = point == "/" or folder == point or folder.startswith(point + "/")
        if inside and len(point) >= len(best):
            best, kind = point, name
    return kind
