"""The file of the page: rows as they stream by, packed; the files to hear; style and script within."""

from __future__ import annotations

import base64
import datetime
import html
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO, Final

from batchsr.display import clock, counted, printable
from batchsr.queue import Job
from batchsr.report.columns import PAGE
from batchsr.temporary import whole_file

_CHUNK_BYTES: Final = 3 * 16_384  # base64 of a multiple of three has no padding within


def write_page(
    file: BinaryIO,
    rows: Iterable[Mapping[str, Any]],
    *,
    totals: Mapping[str, Mapping[str, float]],
    title: str = "batchsr report",
    heard: Sequence[Mapping[str, Any]] = (),
    notes: Sequence[str] = (),
) -> None:
    """Write the page to an open file. The rows are read once, and none is kept.

    rows: of `Job.to_dict`. totals: as `Queue.totals` gives them. heard: of `heard.heard`. notes: sentences for the top,
    such as why a file could not be heard.
    """
    parts = _part("page.html").split("<!--")
    filled: dict[str, Callable[[], Iterable[str]]] = {
        "STYLE": lambda: [_part("page.css")],
        "SCRIPT": lambda: [_part("player.js"), _part("page.js")],
        "TITLE": lambda: [html.escape(printable(title))],
        "SENTENCE": lambda: [html.escape(sentence(totals))],
        "FACTS": lambda: _facts(totals),
        "NOTES": lambda: [f"<p class=note>{html.escape(printable(note))}</p>" for note in notes],
        "HEARD": lambda: [_json_text({"heard": list(heard)})],
        "ROWS": lambda: _packed(_json_rows(rows)),
        "MADE": lambda: [datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")],
    }
    file.write(parts[0].encode())
    for part in parts[1:]:
        name, _, rest = part.partition("-->")
        for text in filled[name]():
            file.write(text.encode("utf-8", "replace"))
        file.write(rest.encode())


def page_of_one(path: Path, file: Mapping[str, Any], job: Job | None) -> None:
    """Write the page of one file to hear, replacing what was there. Raises ResourceError, OutputError."""
    rows = [job.to_dict()] if job is not None else []
    totals = {"done": {"jobs": 1, "audio_s": job.audio_s or 0.0, "wall_s": job.wall_s}} if job is not None else {}
    with whole_file(path) as target:
        write_page(target, rows, totals=totals, title=str(file["name"]), heard=[file])


def sentence(totals: Mapping[str, Mapping[str, float]]) -> str:
    """Return what was done, in one sentence."""
    done = totals.get("done", {})
    failed = sum(int(totals.get(state, {}).get("jobs", 0)) for state in ("failed", "quarantined"))
    left = sum(int(totals.get(state, {}).get("jobs", 0)) for state in ("queued", "waiting", "running", "committing"))
    audio_s, wall_s = float(done.get("audio_s", 0.0)), float(done.get("wall_s", 0.0) or 0.0)
    said = f"{counted(int(done.get('jobs', 0)), 'file was', 'files were')} restored"
    if audio_s and wall_s:
        said += f": {clock(audio_s)} of audio in {clock(wall_s)} of work, {audio_s / wall_s:.2f} times real time"
    said += f"; {failed:,} failed" if failed else "; none failed"
    return said + (f", {left:,} are left." if left else ".")


def _facts(totals: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    for state, total in totals.items():
        if total["jobs"]:
            yield (
                f'<div class="fact {html.escape(state)}"><b>{int(total["jobs"]):,}</b> {html.escape(state)}'
                f"<small>{clock(float(total['audio_s'] or 0.0))} of audio</small></div>"
            )


def _json_rows(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield one JSON array of arrays; what repeats in every row is left to the packing."""
    yield "[" + json.dumps(list(PAGE))
    for row in rows:
        values = [_value(row.get(column)) for column in PAGE]
        yield ",\n" + json.dumps(values, ensure_ascii=True, separators=(",", ":"))
    yield "]"


def _value(value: object) -> object:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, list):  # remarks
        return "; ".join(printable(f"{one.get('message')} [{one.get('code')}]") for one in value) or None
    if isinstance(value, str) and not (value.isascii() and value.isprintable()):
        return printable(os.fsencode(value).decode("utf-8", "backslashreplace"))
    return value


def _packed(texts: Iterable[str]) -> Iterator[str]:
    """gzip in base64, as a browser unpacks it by itself."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    waiting = b""
    for text in texts:
        waiting += packer.compress(text.encode())
        whole = len(waiting) // _CHUNK_BYTES * _CHUNK_BYTES
        if whole:
            yield base64.b64encode(waiting[:whole]).decode("ascii")
            waiting = waiting[whole:]
    yield base64.b64encode(waiting + packer.flush()).decode("ascii")


def _json_text(document: Mapping[str, Any]) -> str:
    """Return JSON that may stand in a script element, whatever is in its strings."""
    return json.dumps(document, ensure_ascii=True).replace("<", "\\u003c")


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")
