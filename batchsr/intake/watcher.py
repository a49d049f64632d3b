"""The hot folder: which files below some folders are there, whole, and not taken yet.

The disk is the truth. `run` starts listening FIRST and scans THEN, so that nothing falls between the two, and
scans again every `rescan_s` seconds, because hints get lost in silence. What it yields is decided by looks at
files alone (batchsr.intake.settle). The caller owns the loop, the clock and the end.

Longer than other modules: what is known of a file is changed by scans, by hints and by renames alike.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from batchsr.intake import gather, leftovers, walk
from batchsr.intake.events import Events, Hint
from batchsr.intake.settle import FileStat, SettledFile, Settler
from batchsr.settings.profile import OUTPUT_SUFFIX

_RESCAN_SHARE: Final = 10  # scanning takes at most a tenth of the time, however many files there are


@dataclasses.dataclass(frozen=True, slots=True)
class Scope:
    """Which files are wanted."""

    folders: tuple[str, ...]
    """Absolute; each is watched with all below it."""
    include: tuple[str, ...] = ()
    """Globs on the name or the path below its folder; empty: what looks like audio."""
    exclude: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    """Absolute folders that are never entered: where outputs and finished sources go."""
    suffix: str = OUTPUT_SUFFIX
    """What our own outputs' stems end with."""

    def root_of(self, path: str) -> str | None:
        """Return the innermost watched folder that holds `path`."""
        return max((root for root in self.folders if path.startswith(_below(root))), key=len, default=None)

    def enters(self, folder: str) -> bool:
        """Return whether the folder `folder` below a watched one is searched. By its name alone; links are the
        caller's."""
        name = os.path.basename(folder)
        return not (name.startswith(".") or leftovers.is_left_folder(name) or folder in self.skip)

    def wants(self, path: str, root: str) -> bool:
        """Return whether the file `path` below `root` is a recording to take. May read its first bytes."""
        name, relative = os.path.basename(path), os.path.relpath(path, root)
        if name.startswith(".") or leftovers.is_left_file(name) or _matches(self.exclude, name, relative):
            return False
        if self.is_own(path):
            return False
        return _matches(self.include, name, relative) if self.include else walk.is_audio(path)

    def is_own(self, path: str) -> bool:
        """Return whether the name says that we wrote it: a sidecar, or an output whose sidecar or source stands beside
        it.

        The queue knows better for the outputs it remembers; this holds for those of a queue that is gone.
        """
        if path.endswith(".json"):
            return walk.is_audio(path.removesuffix(".json"))
        stem = os.path.splitext(path)[0]
        if not self.suffix or not stem.endswith(self.suffix):
            return False
        if os.path.lexists(path + ".json"):
            return True
        source = stem.removesuffix(self.suffix)
        suffixes = [*gather.AUDIO_SUFFIXES, *(known.upper() for known in gather.AUDIO_SUFFIXES), ""]
        return any(os.path.lexists(source + extension) for extension in suffixes)


class Watcher:
    """Finds files. `remember` what was taken: whatever is not remembered is found again."""

    def __init__(
        self,
        scope: Scope,
        events: Events,
        settler: Settler,
        *,
        rescan_s: float = 60.0,
        tick_s: float = 1.0,
        polls: Callable[[str], bool] = lambda folder: False,
        clock: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._scope = scope
        self._events = events
        self._settler = settler
        self._rescan_s = rescan_s
        self._tick_s = tick_s
        self._polls = polls
        self._clock = clock
        self._say = say
        self._known: dict[str, FileStat] = {}
        self._name_of: dict[tuple[int, int], str] = {}  # (size, inode) of known files -> their name
        self._renamed: list[SettledFile] = []
        self._gone: list[str] = []
        self._soonest_scan_s = 0.0
        self._trouble: set[str] = set()
        self._roots: dict[str, tuple[int, int] | None] = {}
        self._left: walk.LeftOut | None = walk.LeftOut()
        """What the first scan passes by; None once it was said."""

    def run(self, stop: threading.Event) -> Iterator[list[SettledFile]]:
        """Yield lists of settled files, for ever; an empty one every `tick_s` seconds. Ends after `stop` is set."""
        self._listen()
        next_scan_s = self._scan_all()
        while not stop.is_set():
            now_s = self._clock()
            settled, self._renamed = [*self._renamed, *self._settler.settled(now_s)], []
            yield settled
            if stop.is_set():
                return
            due_s = self._settler.due_s
            until_s = min(next_scan_s, now_s + self._tick_s, next_scan_s if due_s is None else due_s)
            lost = False
            for hint in self._events.wait(max(0.0, until_s - self._clock())):
                lost = self._follow(hint) or lost
            if lost:  # at once, but a storm must not make it scan without a pause
                next_scan_s = min(next_scan_s, self._soonest_scan_s)
            if self._clock() >= next_scan_s:
                self._listen_again_where_needed()
                next_scan_s = self._scan_all()

    def once(
        self, sleep: Callable[[float], None] = time.sleep, wall: Callable[[], float] = time.time
    ) -> Iterator[list[SettledFile]]:
        """Scan, and yield what holds still one settling time later. What does not is left, and said.

        A file whose header does not fit is taken, as not whole, if its last change is longer ago than the patience.
        """
        self._scan_all()
        last_s = self._clock() + self._settler.settle_s
        while (due_s := self._settler.due_s) is not None and due_s <= last_s:
            sleep(max(0.0, due_s - self._clock()))
            yield self._settler.settled(self._clock())
        given_up = []
        for path, look, still in self._settler.drain():
            if still and wall() - look.mtime_ns / 1e9 > self._settler.patience_s:
                given_up.append(SettledFile(path, look, whole=False))
            else:
                self._say(f"{path} is still being written; left for the next time")
        yield given_up

    def remember(self, path: str, look: FileStat) -> None:
        """Remember that this file, as it looked then, needs no more attention."""
        self._known[path] = look
        self._name_of[look.size_bytes, look.inode] = path

    def forget(self, path: str) -> None:
        """Treat the file, if it is ever there again, as new."""
        self._known.pop(path, None)

    def take_gone(self) -> list[str]:
        """Return the files that were remembered and are gone, though the folder and its disk are there. Each once."""
        gone, self._gone = self._gone, []
        return gone

    def is_here(self, path: str) -> bool:
        """Return whether the watched folder of `path` can be read, on the file system that the path's file was
        seen on."""
        root = self._scope.root_of(path)
        identity = _identity(root) if root is not None else None
        known = self._known.get(path)
        return identity is not None and root not in self._trouble and (known is None or known.device == identity[0])

    def _listen(self) -> None:
        self._roots = {root: _identity(root) for root in self._scope.folders}
        listening = [root for root, identity in self._roots.items() if identity is not None and not self._polls(root)]
        for root, why in self._events.watch(listening).items():
            self._say(f"{root}: no events ({why}); it is searched every {self._rescan_s:g} s instead")

    def _listen_again_where_needed(self) -> None:
        """Listen anew to folders that need it: one that was unmounted, replaced or came back is another one to the
        kernel; and threads may die."""
        changed = any(_identity(root) != identity for root, identity in self._roots.items())
        if changed or not self._events.is_listening():
            self._listen()

    def _scan_all(self) -> float:
        """Notice every file there is. Returns when to do it again."""
        began_s = self._clock()
        seen: set[str] = set()
        whole = True
        for root in self._scope.folders:
            whole = self._scan(root, root, seen) and whole
        if whole:
            self._forget_gone(seen)
        if self._left is not None:
            if self._left.counts:
                self._say(f"left out: {self._left.told()}")
            self._left = None
        now_s = self._clock()
        self._soonest_scan_s = now_s + _RESCAN_SHARE * (now_s - began_s)
        return max(now_s + self._rescan_s, self._soonest_scan_s)

    def _forget_gone(self, seen: set[str]) -> None:
        """Keep memory from growing with files that are gone; those of a share that is away are not gone."""
        for path in [path for path in self._known if path not in seen and self.is_here(path)]:
            look = self._known.pop(path)
            if self._name_of.get((look.size_bytes, look.inode)) == path:
                del self._name_of[look.size_bytes, look.inode]
                self._gone.append(path)

    def _scan(self, top: str, root: str, seen: set[str]) -> bool:
        """Notice the files below a folder. Returns whether all of it could be read."""
        whole = True
        folders = [top]  # and no recursion: a tree may be deeper than Python's stack
        while folders:
            entries = self._entries(folder := folders.pop())
            if entries is None:
                whole = whole and folder != root and not os.path.lexists(folder)
                continue
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        folders += self._entered(entry)
                        continue
                    status = entry.stat()
                except OSError:
                    continue  # gone, a dangling or looping link, or not to be looked at: the next scan sees
                if stat.S_ISREG(status.st_mode):
                    seen.add(entry.path)
                    self._notice(entry.path, root, FileStat.of(status))
        return whole

    def _entered(self, folder: os.DirEntry[str]) -> list[str]:
        """Return the path of a folder that a scan goes on in: not one that is scanned by itself, nor a
        program's own."""
        if folder.path in self._scope.folders:
            return []
        if self._scope.enters(folder.path):
            return [folder.path]
        if self._left is not None and leftovers.is_left_folder(folder.name):
            self._left.program(folder.path)
        return []

    def _entries(self, folder: str) -> list[os.DirEntry[str]] | None:
        """Return what is in a folder; None, and said once, where it cannot be searched."""
        entries = walk.entries(folder)
        if not isinstance(entries, walk.Refused):
            if folder in self._trouble:
                self._trouble.discard(folder)
                self._say(f"{folder} is there again")
            return entries
        if folder in self._trouble:  # said, and not to be said every minute
            return None
        if entries.code != "input.missing" or folder in self._scope.folders:
            self._trouble.add(folder)
            why = "it is not there" if entries.code == "input.missing" else entries.message
            self._say(f"{folder} cannot be searched: {why}; it is tried again and again")
        return None

    def _follow(self, hint: Hint) -> bool:
        """Look where a hint points. Returns whether hints were lost."""
        if hint.kind == "lost":
            return True
        root = self._scope.root_of(hint.path)
        if root is None or not self._enters_all(os.path.dirname(hint.path), root):
            return False
        if hint.kind == "folder":
            if self._scope.enters(hint.path) and not os.path.islink(hint.path):
                self._scan(hint.path, root, set())
            return False
        try:
            status = os.stat(hint.path)
        except OSError:
            return False  # gone again
        if stat.S_ISREG(status.st_mode):
            self._notice(hint.path, root, FileStat.of(status), closed=hint.kind == "closed")
        return False

    def _notice(self, path: str, root: str, look: FileStat, *, closed: bool = False) -> None:
        if self._known.get(path) == look:
            return
        if path not in self._settler and not self._scope.wants(path, root):
            if self._left is not None and not self._scope.is_own(path):
                self._left.passed(path)
            self._known[path] = look  # until it changes
            return
        if (old := self._old_name(path, look)) is not None:
            self.forget(old)
            self._settler.forget(path)
            self._renamed.append(SettledFile(path, look, renamed_from=old))
            return
        self._settler.notice(path, self._clock(), look, closed=closed)

    def _old_name(self, path: str, look: FileStat) -> str | None:
        """Return the name under which this very file was taken, if it has no longer that name."""
        old = self._name_of.get((look.size_bytes, look.inode))
        if old is None or old == path or self._known.get(old) != look:
            return None
        if not os.path.lexists(old):
            return old
        # Where names differ in case alone, the old one may still seem to be there.
        if old.casefold() == path.casefold() and os.path.basename(old) not in os.listdir(os.path.dirname(old)):
            return old
        return None

    def _enters_all(self, folder: str, root: str) -> bool:
        """Return whether a scan from `root` would come to `folder`."""
        while folder != root:
            if len(folder) <= len(root) or not self._scope.enters(folder) or os.path.islink(folder):
                return False
            folder = os.path.dirname(folder)
        return True


def _below(folder: str) -> str:
    return folder if folder.endswith(os.sep) else folder + os.sep


def _matches(patterns: Iterable[str], name: str, relative: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(relative, pattern) for pattern in patterns)


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None
