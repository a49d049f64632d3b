"""What a collection demands of its files, and whether they keep it: a small table of ours, or a policy of MediaConch.

    name = "masters"
    rate = 48000                   # or several: [44100, 48000]
    bits = [24, 32]
    channels = [1, 2]
    format = "wav"
    min_loudness_lufs = -40.0      # integrated, as measured when the output was made
    max_loudness_lufs = -10.0
    max_true_peak_dbtp = 0.0
    clipping = false               # no sample had to be clamped
    sidecar = true                 # it stands beside the output, and speaks of it

What is not named is not asked. That the hash is right is asked in any case.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import xml.etree.ElementTree
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from batchsr.audio import files, formats
from batchsr.display import printable, shown
from batchsr.errors import ConfigError, InputError, SidecarForeign
from batchsr.queue import Job, Queue, State
from batchsr.remote.address import is_url, path_of
from batchsr.restoration import sidecar_reading, sidecar_versions
from batchsr.restoration.sidecar import sidecar_path
from batchsr.settings import tomlfile

Check = Callable[[Job, Mapping[str, Any] | None], list[str]]
"""A job and the report that the queue keeps of it (None: its sidecar has it) -> what its output breaks, in words."""
_BITS: Final = {"PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "FLOAT": 32}
_CONTAINERS: Final = {"WAVEX": "wav", "RF64": "wav"}
_FAR: Final = "it is in a store, where its form is not looked at: copy it to this machine"
_MOST_LEVEL: Final = 1_000.0
_MOST_S: Final = 600.0
_SPACE: Final = "{https://mediaarea.net/mediaconch}"


class Policy(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What is asked of each output; None and True for `clipping` ask nothing."""

    name: str = ""
    rate: int | list[int] | None = None
    bits: int | list[int] | None = None
    channels: int | list[int] | None = None
    format: str | list[str] | None = None
    min_loudness_lufs: float | None = None
    max_loudness_lufs: float | None = None
    max_true_peak_dbtp: float | None = None
    clipping: bool = True
    sidecar: bool = False


def read(path: Path) -> Check:
    """Return the check that a file asks for: a TOML table as above, or a policy of MediaConch (.xml).

    Raises ConfigError for what is neither, names an unknown key, or needs a MediaConch that is not there.
    """
    if path.suffix.lower() != ".xml":
        policy = tomlfile.decoded(path, Policy)
        _check(path, policy)
        if policy == Policy(name=policy.name):
            raise ConfigError(f"{shown(path)} asks for nothing", remedy="name at least one of the keys")
        if policy.format is not None:
            policy = msgspec.structs.replace(policy, format=[form.lower() for form in _listed(policy.format)])
        return functools.partial(_broken, policy)
    program = shutil.which("mediaconch")
    if program is None:
        raise ConfigError(
            f"{shown(path)} is a policy of MediaConch, which is not on this machine",
            remedy="install mediaconch, or write the policy as TOML",
        )
    if not path.is_file():
        raise ConfigError(f"{shown(path)} cannot be read: there is no such file", remedy="check the name")
    return lambda job, report: [_FAR] if is_url(job.output) else _conch(program, path, path_of(job.output))


def judged(queue: Queue, rows: Iterable[dict[str, Any]], check: Check) -> Iterator[dict[str, Any]]:
    """Add to each row of a report `policy` (`pass`, `fail`, None for what is not done) and `policy_breaks`, in words.

    Nothing is hashed: `verify` does that.
    """
    for row in rows:
        job = queue.get(row["id"]) if row["state"] == State.DONE else None
        breaks = check(job, queue.report_of(job.id)) if job is not None else []
        verdict = None if job is None else "fail" if breaks else "pass"
        yield row | {"policy": verdict, "policy_breaks": "; ".join(breaks)}


def _check(path: Path, policy: Policy) -> None:
    """Raise ConfigError, with key and remedy, for a demand that no file could ever keep, or that is none."""

    def must(ok: bool, key: str, takes: str) -> None:
        if not ok:
            message = f"{path}: {key} = {getattr(policy, key)!r:.200} asks for what no output can be"
            raise ConfigError(message, remedy=f"{key} takes {takes}")

    for key, among in (("rate", None), ("bits", tuple(sorted(set(_BITS.values())))), ("channels", None)):
        values = getattr(policy, key)
        takes = "a number from 1 on" if among is None else " or ".join(map(str, among))
        ok = all(value in among if among is not None else value >= 1 for value in _listed(values))
        must(values is None or (values != [] and ok), key, f"{takes}, or a list of such")
    known = set(formats.WRITTEN)
    ok = policy.format != [] and {form.lower() for form in _listed(policy.format)} <= known
    must(policy.format is None or ok, "format", f"one of {', '.join(sorted(known))}, or a list of such")
    for key in ("min_loudness_lufs", "max_loudness_lufs", "max_true_peak_dbtp"):
        value = getattr(policy, key)
        must(value is None or abs(value) <= _MOST_LEVEL, key, f"a level from {-_MOST_LEVEL:g} to {_MOST_LEVEL:g}")
    low, high = policy.min_loudness_lufs, policy.max_loudness_lufs
    must(low is None or high is None or low <= high, "min_loudness_lufs", "a level that max_loudness_lufs is not below")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _broken(policy: Policy, job: Job, report: Mapping[str, Any] | None) -> list[str]:
    output = path_of(job.output)
    if is_url(job.output):
        return [_FAR]
    try:
        info = files.probe(output)
    except InputError as e:
        return [f"it cannot be read: {e.message}"]
    found = {
        "rate": info.sample_rate,
        "bits": _BITS.get(info.subtype),
        "channels": info.channels,
        "format": "opus" if info.subtype == "OPUS" else _CONTAINERS.get(info.format, info.format.lower()),
    }
    broken = []
    for name, value in found.items():
        asked = getattr(policy, name)
        allowed = asked if isinstance(asked, list) else [asked]
        if asked is not None and value not in allowed:
            broken.append(f"{name} is {value if value is not None else 'none'}, not {_either(allowed)}")
    document, why = _record(job, report)
    if policy.sidecar and report is not None:
        why = "no sidecar stands beside it"
    if policy.sidecar and why:
        broken.append(why)
    return broken + _levels(policy, document)


def _record(job: Job, report: Mapping[str, Any] | None) -> tuple[Mapping[str, Any], str]:
    """Return what is on record of an output, in today's form, and why there is nothing: its sidecar is gone or
    another's."""
    if report is not None:
        return sidecar_versions.newest(report), ""
    try:
        record = sidecar_reading.read(sidecar_path(path_of(job.output)))
    except SidecarForeign as e:
        return {}, printable(e.message)
    if record is None:
        return {}, "no sidecar stands beside it"
    if record.said.output.sha256 != job.output_sha256:
        return {}, "the sidecar beside it speaks of another file"
    return sidecar_versions.newest(record.document), ""


def _levels(policy: Policy, document: Mapping[str, Any]) -> list[str]:
    said = document.get("output") or {}
    loudness = said.get("loudness") or {}
    integrated, peak = loudness.get("integrated_lufs"), loudness.get("max_true_peak_dbtp")
    broken = []
    if policy.min_loudness_lufs is not None or policy.max_loudness_lufs is not None:
        low, high = policy.min_loudness_lufs, policy.max_loudness_lufs
        if integrated is None:
            broken.append("no loudness is on record of it")
        elif low is not None and integrated < low:
            broken.append(f"loudness is {integrated} LUFS, less than {low}")
        elif high is not None and integrated > high:
            broken.append(f"loudness is {integrated} LUFS, more than {high}")
    if policy.max_true_peak_dbtp is not None:
        if peak is None and (integrated is not None or not document):
            broken.append("no true peak is on record of it")
        elif peak is not None and peak > policy.max_true_peak_dbtp:
            broken.append(f"true peak is {peak} dBTP, more than {policy.max_true_peak_dbtp}")
    if not policy.clipping:
        clipped = said.get("clipped_samples")
        if clipped is None:
            broken.append("whether it clips is not on record")
        elif clipped:
            broken.append(f"{clipped:,} samples were clamped")
    return broken


def _conch(program: str, policy: Path, output: Path) -> list[str]:
    """Ask MediaConch. Raises ConfigError where it does not take the policy."""
    command = [program, "-p", str(policy.resolve()), "-fx", str(output)]
    try:
        said = subprocess.run(command, capture_output=True, timeout=_MOST_S, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return [f"MediaConch gave no answer in {_MOST_S:.0f} s"]
    try:
        root = xml.etree.ElementTree.fromstring(said.stdout)
        verdicts = list(root.iter(f"{_SPACE}policy"))
    except xml.etree.ElementTree.ParseError:
        verdicts = []
    if not verdicts:
        words = printable((said.stderr or said.stdout).decode("utf-8", "replace").strip()[:300]) or "it says nothing"
        raise ConfigError(
            f"MediaConch does not take {shown(policy)}: {words}", remedy="check it with mediaconch itself"
        )
    if verdicts[0].get("outcome") == "pass":
        return []
    failed = [rule for rule in root.iter(f"{_SPACE}rule") if rule.get("outcome") == "fail"]
    return [
        f"{rule.get('name')}: {rule.get('value')} is {rule.get('actual')}, not {rule.get('requested')}"
        for rule in failed
    ] or [f"{verdicts[0].get('name')}: fail"]


def _either(allowed: list[Any]) -> str:
    return " or ".join(map(str, allowed))
