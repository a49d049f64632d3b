"""A package as a bag (BagIt 1.0, RFC 8493): its tag files and manifests, checked by bagit."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from batchsr import __version__
from batchsr.archive import checksums
from batchsr.display import printable, shown
from batchsr.errors import ConfigError, PackageError

_DECLARATION = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
_COMPUTED: Final = ("bag-software-agent", "bagging-date", "payload-oxum")


def needed() -> Any:
    """Return bagit. Raises ConfigError where it is not installed."""
    try:
        import bagit
    except ImportError as e:
        raise ConfigError("--bag needs bagit", remedy="pip install 'batchsr[archive]'") from e
    return bagit


def tag_names(algorithms: Iterable[str]) -> set[str]:
    """Return the names of the tag files that a manifest of them lists."""
    return {"bagit.txt", "bag-info.txt", *(f"manifest-{name}.txt" for name in algorithms)}


def write_tags(
    folder: Path,
    found: Mapping[str, Mapping[str, str]],
    total_bytes: int,
    batch: str,
    notes: Sequence[str],
    algorithms: Iterable[str],
    now: datetime.datetime,
    before: bytes = b"",
) -> None:
    """Write bagit.txt, bag-info.txt and the manifests of the payload. `found` is path -> its checksums.

    `before` is the bag-info.txt of the bag that is made anew: what others wrote into it stays.
    """
    (folder / "bagit.txt").write_bytes(_DECLARATION)
    info = [
        ("Bag-Software-Agent", f"batchsr {__version__}"),
        ("Bagging-Date", now.date().isoformat()),
        ("External-Identifier", batch),
        *(("External-Description", note) for note in notes),
        ("Payload-Oxum", f"{total_bytes}.{len(found)}"),
    ]
    lines = [f"{label}: {_one_line(value)}\n" for label, value in info if value]
    lines += [line for line in _of_others(before) if line not in lines]
    (folder / "bag-info.txt").write_bytes("".join(lines).encode("utf-8", "surrogateescape"))
    for name in algorithms:
        (folder / f"manifest-{name}.txt").write_bytes(
            checksums.manifest({path: read[name] for path, read in found.items()})
        )


def write_tag_manifests(folder: Path, names: Sequence[str], algorithms: Iterable[str]) -> None:
    """Write the manifests of the tag files."""
    read = {name: checksums.of_file(folder / name, algorithms) for name in names}
    for algorithm in algorithms:
        (folder / f"tagmanifest-{algorithm}.txt").write_bytes(
            checksums.manifest({name: read[name][algorithm] for name in names})
        )


def check(folder: Path) -> None:
    """Have the bag looked at by bagit: all that it lists is there and nothing else. Raises PackageError."""
    bagit = needed()
    logging.getLogger("bagit").setLevel(logging.CRITICAL)
    try:
        bagit.Bag(str(folder)).validate(completeness_only=True)
    except bagit.BagError as e:
        raise PackageError(f"{shown(folder)} is no sound bag: {printable(e)}") from e


def _of_others(before: bytes) -> list[str]:
    """Return the labels of a bag-info.txt with their values, each over one line or several, but for those computed
    here."""
    found: list[str] = []
    for line in before.decode("utf-8", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if line[:1] in (" ", "\t") and found:
            found[-1] += f"{line}\n"
        elif line.strip():
            found.append(f"{line}\n")
    return [one for one in found if one.partition(":")[0].strip().lower() not in _COMPUTED]


def _one_line(value: str) -> str:
    return " ".join(printable(value.replace("\n", " ").replace("\r", " ")).split())
