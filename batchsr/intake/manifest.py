"""What a collection is: a manifest (jobs/*.toml) names it, its sources, where they go and how they are restored.

name = "phone-archive"            # the batch; filters status, list and report
notes = "..."                     # goes into every sidecar
profile = "speech"
priority = 0                      # higher goes first

[sources]                         # relative paths start at the manifest's folder
folders = ["~/calls"]             # searched with all below them
globs = ["~/old/**/*.wav"]
lists = ["calls.txt"]             # one path a line
exclude = ["*/rejected/*"]        # against the whole path

[output]
root = "restored"                 # mirrors the tree; absent: beside the sources
base = "~/calls"                  # where the mirrored tree begins; absent: the folder common to all
suffix = "_upsampled"
overwrite = false

[options]                         # as in a profile, and stronger than it
seed = 1
"""

from __future__ import annotations

import dataclasses
import fnmatch
import glob
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from batchsr.display import shown
from batchsr.errors import ConfigError
from batchsr.intake.gather import Found, Request, gather
from batchsr.intake.walk import LeftOut, Refused
from batchsr.remote.address import is_url
from batchsr.settings import profile as profiles
from batchsr.settings import textfile, tomlfile
from batchsr.settings.profile import OUTPUT_SUFFIX, Effective, Layer, layer

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PRIORITY_LIMIT: Final = 1_000_000


class _Sources(msgspec.Struct, forbid_unknown_fields=True):
    folders: list[str] = []
    globs: list[str] = []
    lists: list[str] = []
    exclude: list[str] = []


class _Output(msgspec.Struct, forbid_unknown_fields=True):
    root: str | None = None
    base: str | None = None
    suffix: str = OUTPUT_SUFFIX
    overwrite: bool = False


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    """A manifest as it stands in its file."""

    name: str | None = None
    notes: str = ""
    profile: str | None = None
    priority: int = 0
    sources: _Sources = msgspec.field(default_factory=_Sources)
    output: _Output = msgspec.field(default_factory=_Output)
    options: dict[str, Any] = {}


@dataclasses.dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as read; every path absolute."""

    path: Path
    sha256: str
    name: str
    notes: str
    profile: str | None
    priority: int
    folders: tuple[str, ...]
    globs: tuple[str, ...]
    lists: tuple[str, ...]
    exclude: tuple[str, ...]
    root: str | None
    base: str | None
    suffix: str
    overwrite: bool
    options: Layer

    def found(self, left: LeftOut | None = None) -> Iterator[Found | Refused]:
        """Yield the sources, in the manifest's order, each once; what is passed by is counted in `left`.

        Raises ConfigError when a list cannot be read.
        """
        arguments = [*self.folders, *self.globs, *(path for one in self.lists for path in _listed(one))]
        for one in gather(arguments, recursive=True, root=self.base, left=left):
            if not any(fnmatch.fnmatchcase(one.path, pattern) for pattern in self.exclude):
                yield one

    def effective(self, *, profile: str | None = None, given: Mapping[str, Any] | None = None) -> Effective:
        """Return the settings that hold for it: `profile` instead of its own, and `given` stronger than its options."""
        return profiles.effective(profile=profile or self.profile, options=self.options, given=given)

    def request(
        self,
        effective: Effective,
        *,
        variant: str | None = None,
        out: str | None = None,
        priority: int | None = None,
        overwrite: bool = False,
    ) -> Request:
        """Return how the sources are to be restored; what is given here is stronger than the manifest."""
        return Request(
            settings=effective.settings,
            variant=variant or effective.variant,
            out=out or self.root,
            batch=self.name,
            priority=self.priority if priority is None else priority,
            overwrite=overwrite or self.overwrite,
            suffix=self.suffix,
            provenance=provenance(effective, self),
        )


def load(path: Path) -> Manifest:
    """Read a manifest strictly. Raises ConfigError naming the file, the key and the remedy."""
    said = tomlfile.decoded(path, _Document)
    sources, output = said.sources, said.output
    name = path.stem if said.name is None else said.name
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{path}: name = {name!r}", remedy="name takes letters, digits, dots, dashes and underscores")
    if not (sources.folders or sources.globs or sources.lists):
        raise ConfigError(f"{path}: no sources", remedy="give folders, globs or lists below [sources]")
    if abs(said.priority) > _PRIORITY_LIMIT:
        raise ConfigError(f"{path}: priority = {said.priority}", remedy=f"priority takes at most {_PRIORITY_LIMIT}")
    if os.sep in output.suffix or "\0" in output.suffix or (not output.suffix and output.root is None):
        raise ConfigError(
            f"{path}: output.suffix = {output.suffix!r}",
            remedy="output.suffix takes part of a file name; it may be empty only with output.root",
        )
    return Manifest(
        path=path,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        name=name,
        notes=said.notes.strip(),
        profile=_absolute(path, said.profile) if said.profile is not None and os.sep in said.profile else said.profile,
        priority=said.priority,
        folders=tuple(_absolute(path, one) for one in sources.folders),
        globs=tuple(_absolute(path, one, pattern=True) for one in sources.globs),
        lists=tuple(_absolute(path, one) for one in sources.lists),
        exclude=tuple(sources.exclude),
        root=_absolute(path, output.root) if output.root is not None else None,
        base=_absolute(path, output.base) if output.base is not None else None,
        suffix=output.suffix,
        overwrite=output.overwrite,
        options=layer(path, said.options, prefix="options."),
    )


def provenance(effective: Effective, manifest: Manifest | None = None) -> str:
    """Return the canonical JSON of where the settings came from, for the queue and the sidecar."""
    facts: dict[str, Any] = {"profile": effective.profile, "profile_sha256": effective.profile_sha256}
    if manifest is not None:
        facts |= {"manifest": manifest.path.name, "manifest_sha256": manifest.sha256, "notes": manifest.notes}
    return json.dumps(facts, sort_keys=True, separators=(",", ":"))


def _absolute(manifest: Path, path: str, *, pattern: bool = False) -> str:
    if is_url(path):
        return path
    folder = os.path.abspath(manifest.parent)
    return os.path.normpath(os.path.join(glob.escape(folder) if pattern else folder, textfile.expanded(path)))


def _listed(path: str) -> Iterator[str]:
    """Yield paths of a list, one a line; those that begin with # are skipped. Relative to the list."""
    try:
        data = Path(path).read_bytes()
    except OSError as e:
        message = f"{shown(path)} cannot be read: {e.strerror}"
        raise ConfigError(message, remedy="sources.lists takes text files") from e
    for line in textfile.paths(data, path, notes=True):
        yield line if is_url(line) else os.path.join(os.path.dirname(path), textfile.expanded(line))
