"""URLs as what is to be enqueued: one object, all below a prefix, or a pattern; and the names of outputs of such.

A listing is a stream, so memory does not grow with a bucket. What it holds is taken by the names' extensions, as in a
folder, but no object is opened: one without an extension is left out.
"""

from __future__ import annotations

import fnmatch
import functools
import glob
import os
from collections.abc import Iterator, Sequence

from batchsr.audio import formats
from batchsr.display import shown
from batchsr.errors import ExtraMissing, InputUnreadable, StoreAway, UsageError
from batchsr.intake import leftovers
from batchsr.intake.walk import LeftOut, Refused, extension
from batchsr.remote import address as urls
from batchsr.remote import objects, stores
from batchsr.remote.address import Address
from batchsr.remote.objects import Facts
from batchsr.settings.profile import Settings
from batchsr.storage import fitted_name


class Named:
    """The URLs among the arguments, and what they name."""

    def __init__(self, arguments: list[str], root: str | None, recursive: bool, left: LeftOut) -> None:
        folders = [folder_above(one, recursive=recursive) for one in arguments]
        self._roots = [root.rstrip("/")] if root is not None and urls.is_url(root) else []
        by_bucket: dict[str, list[str]] = {}
        for folder in folders:
            by_bucket.setdefault(_bucket(folder), []).append(folder)
        self._common = {bucket: urls.common_folder(some) for bucket, some in by_bucket.items()}
        self._recursive = recursive
        self._left = left
        self._seen: set[int] | None = None if len(arguments) < 2 else set()
        """Hashes of the URLs that were found; with one argument none comes twice."""

    def found(self, url: str) -> Iterator[tuple[str, str, Facts] | Refused]:
        """Yield what one of them names: URL, the folder where an output tree begins, and what the store says."""
        own = self._common[_bucket(folder_above(url, recursive=self._recursive))]
        for one in found(url, recursive=self._recursive, left=self._left):
            if isinstance(one, Refused):
                yield one
                continue
            path, facts = one
            if self._seen is not None:
                if hash(path) in self._seen:
                    continue
                self._seen.add(hash(path))
            yield (path, next((root for root in self._roots if path.startswith(root + "/")), own), facts)


def _bucket(url: str) -> str:
    return "/".join(url.split("/")[:3])


def found(url: str, *, recursive: bool, left: LeftOut) -> Iterator[tuple[str, Facts] | Refused]:
    """Yield the objects that a URL names, each with what the store says of it; or why it cannot be taken.

    Raises ExtraMissing.
    """
    try:
        yield from _found(Address.parse(url), recursive=recursive, left=left)
    except ExtraMissing:
        raise
    except UsageError as e:
        yield Refused(_without_secrets(url), "usage", str(e))
    except (StoreAway, InputUnreadable) as e:
        yield Refused(url, e.code, str(e), is_named=False)


def folder_above(url: str, *, recursive: bool) -> str:
    """Return the folder that a URL names, or that its object is in: where an output tree begins by default.

    Nobody is asked: with `recursive`, a URL without the extension of a recording is that of a folder.
    """
    try:
        named = Address.parse(url)
    except UsageError:
        return url
    if not named.can_list:
        return urls.folder_of(named.url)
    fixed = _without_magic(named.key) if glob.has_magic(named.key) else named.key
    if recursive and fixed == named.key and extension(named.name) not in formats.BY_EXTENSION:
        return named.url.rstrip("/")
    return urls.folder_of(named.at(fixed).url) if fixed else named.place


def output_names(path: str, root: str, out: str | None, ending: str, most_bytes: int) -> tuple[str, str]:
    """Return the wanted output of a source, and the one that keeps its extension, where one of the two is remote.

    Parts of a key that lead elsewhere on a disk (`..`) are written with %2E; empty ones are left out. Raises UsageError
    where outputs would be written to a web server, or the key would be too long.
    """
    folder, _, name = path.rpartition("/")
    if out is None:
        parts, below = [], folder
        if not Address.parse(path).can_list:
            remedy = "name a folder, or s3://BUCKET/PREFIX, with --out"
            raise UsageError(f"{shown(path)}: an output cannot be written beside it", remedy=remedy)
    elif urls.is_url(path):
        base = root if urls.is_below(folder, root) else folder
        parts, below = Address.parse(folder + "/x").at(folder[len(base) :]).asked.split("/"), out
        name = Address.parse(path).name
    else:
        parts, below = os.path.relpath(folder, root).split(os.sep), out
        parts = [] if parts == ["."] else parts
    name = urls.safe_parts([name])[0]
    names = [fitted_name(stem, ending, most_bytes) for stem in (os.path.splitext(name)[0], name)]
    if not urls.is_url(below):
        at = os.path.join(os.path.abspath(below), *urls.safe_parts(parts))
        return os.path.join(at, names[0]), os.path.join(at, names[1])
    target = Address.parse(below)
    if not target.can_list:
        raise UsageError(
            f"{shown(below)}: outputs cannot be written there", remedy="name a folder or s3://BUCKET/PREFIX"
        )
    made = [urls.joined(target.url, urls.safe_key_parts([*parts, name])) for name in names]
    if why := next(filter(None, (Address.parse(one).refusal() for one in made)), None):
        raise UsageError(f"{shown(path)}: its output cannot be written, since {why}", remedy="name another --out")
    return made[0], made[1]


def check_out(out: str | None, settings: Settings) -> None:
    """Refuse an --out that is a URL where nothing can be written to, or not what is asked for.

    Raises UsageError, ExtraMissing.
    """
    if out is None or not urls.is_url(out):
        return
    target = Address.parse(out)
    if not target.can_list:
        raise UsageError(f"{shown(out)}: outputs cannot be written there", remedy="name a folder or s3://BUCKET/PREFIX")
    stores.check_installed(target)
    if settings.files_beside:
        told = f"{shown(out)}: copies for access and files of stems are written to folders alone"
        raise UsageError(told, remedy="leave out --also and --stems files, or name a folder with --out")


def _found(named: Address, *, recursive: bool, left: LeftOut) -> Iterator[tuple[str, Facts] | Refused]:
    stores.check_installed(named)
    key = named.key
    if named.can_list and (not key or key.endswith("/")):
        yield from _below(named, recursive=recursive, left=left)
        return
    if (why := named.refusal()) is not None:
        yield Refused(named.url, "input.unreadable", f"{_told(named)}: {why}; copy it to another key")
        return
    if (facts := objects.look(named)) is not None:
        yield named.url, facts
        if not recursive or not named.can_list:
            return
    elif glob.has_magic(key) and named.can_list:
        yield from _matching(named, left)
        return
    elif not named.can_list:
        more = " (a web server lists nothing: name each file)" if recursive or glob.has_magic(key) else ""
        yield Refused(named.url, "input.missing", f"{_told(named)}: no such file{more}")
        return
    if facts is None and not objects.has_any(named.at(key + "/")):
        yield Refused(named.url, "input.missing", f"{_told(named)}: no such object, prefix or match")
        return
    yield from _below(named.at(key + "/"), recursive=recursive, left=left)


def _below(folder: Address, *, recursive: bool, left: LeftOut) -> Iterator[tuple[str, Facts] | Refused]:
    if not recursive:
        if objects.has_any(folder):
            told = f"{_told(folder)} is a prefix (pass -r to take what is below it)"
            yield Refused(folder.url, "input.not_regular", told)
        else:
            yield Refused(folder.url, "input.missing", f"{_told(folder)}: nothing is there")
        return
    for key, facts in objects.below(folder):
        yield from _taken(folder, key, facts, left, is_search=True)


def _matching(named: Address, left: LeftOut) -> Iterator[tuple[str, Facts] | Refused]:
    """Yield what a pattern matches: `*`, `?`, `[...]` within a part of a key, and `**` for parts of any number."""
    pattern = named.key.split("/")
    folder = named.at(_without_magic(named.key))
    flat = "/" not in named.key[len(folder.key) :] and "**" not in pattern
    matched = False
    for key, facts in objects.below(folder, flat=flat):
        if _matches(tuple(pattern), tuple(key.split("/"))):
            for one in _taken(folder, key, facts, left, is_search=False):
                matched = True
                yield one
    if not matched:
        yield Refused(named.url, "input.missing", f"{_told(named)}: no such object, prefix or match")


def _taken(
    folder: Address, key: str, facts: Facts, left: LeftOut, *, is_search: bool
) -> Iterator[tuple[str, Facts] | Refused]:
    one = folder.at(key)
    parts = key[len(folder.key) :].split("/")
    if not parts[-1]:  # what stands for an empty folder in many stores
        return
    if any(leftovers.is_left_folder(part) for part in parts[:-1]) or leftovers.is_left_file(parts[-1]):
        left.program(one.url)
    elif is_search and extension(parts[-1]) not in formats.BY_EXTENSION:
        left.passed(one.url)
    elif (why := one.refusal()) is not None:
        told = f"{_told(one)} cannot be asked for: {why}; copy it to another key"
        yield Refused(one.url, "input.unreadable", told, is_named=False)
    else:
        yield one.url, facts


@functools.lru_cache(maxsize=1024)
def _matches(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        rest = pattern[1:] or ("*",)
        return any(_matches(rest, parts[start:]) for start in range(len(parts)))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(pattern[1:], parts[1:])


def _without_magic(key: str) -> str:
    """Return the folder, with its slash, up to which a pattern holds no `*`, `?` or `[`."""
    fixed = next((i for i, part in enumerate(key.split("/")) if glob.has_magic(part)), 0)
    return "".join(part + "/" for part in key.split("/")[:fixed])


def _told(named: Address) -> str:
    return shown(named.url)


def _without_secrets(url: str) -> str:
    """Return a URL that was not taken without what may be a password or a signature."""
    scheme, _, rest = url.partition("://")
    host, slash, key = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{key}".partition("?")[0]
