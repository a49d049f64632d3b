"""All that is known of one job, in words for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

from batchsr.display import clock, counted, printable
from batchsr.remote.address import is_url
from batchsr.report.facts import facts
from batchsr.report.progress import speed
from batchsr.settings import extras

_LABEL: Final = 14
_STATES: Final = {
    "queued": "waits for a worker",
    "waiting": "failed for now, and is tried again by itself",
    "running": "a worker restores it",
    "committing": "it is restored, and its output is being given its name",
    "done": "restored; the output is there",
    "failed": "given up",
    "quarantined": "given up: its workers died on it again and again",
    "cancelled": "nobody wants it any more",
    "superseded": "its source changed before it was done; a newer job took its place",
}
_CHANGES: Final = {
    "queued": "queued again",
    "waiting": "waits to be tried again",
    "running": "claimed",
    "committing": "all windows restored",
    "done": "done",
    "failed": "failed",
    "quarantined": "quarantined",
    "cancelled": "cancelled",
    "superseded": "superseded",
}
_UNSAID: Final = ("claimed", "interrupted")  # reasons that the change itself says already


def about(document: Mapping[str, Any], report: Mapping[str, Any], width: int | None = None) -> Iterator[str]:
    """Yield the lines that tell of one job, at most `width` columns wide; a longer word stays whole.

    document: as `show --json` answers it. report: the output's sidecar, or empty.
    """
    name = printable(document["source"].rsplit("/", 1)[-1])
    yield from _filled(f"#{document['id']}  {name}: {state_in_words(document)}", width)
    for heading, entries in sections(document, report):
        beside = max([_LABEL, *(len(label) + 2 for label, _ in entries)])
        lines = [line for label, text in entries for line in _entry(label, text, width, beside)]
        if lines:
            yield ""
            if heading:
                yield heading
            yield from lines
    if next_ := _next(document):
        yield ""
        yield from _filled(next_, width)


def state_in_words(document: Mapping[str, Any]) -> str:
    """Return the state with what it means."""
    held = "; held for a place in trouble (`batchsr status`)" if document["held"] else ""
    return f"{document['state']}, {_STATES[document['state']]}{held}"


def sections(document: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield what is told of one job: headings, and under each labels with their texts, which are not yet printable."""
    yield "", list(_row(document))
    yield "How it is restored", list(_how_restored(document))
    yield "What was done", list(facts(report))
    yield "History (UTC)", list(_history(document["events"]))
    yield "Attempts", list(_attempts(document["attempts_made"]))


def _row(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what the row says, less what is open."""
    yield "source", document["source"]
    yield "output", document["output"]
    if document["batch"]:
        yield "batch", document["batch"]
    if document["priority"]:
        yield "priority", str(document["priority"])
    if document["sample_rate"]:
        channels = {1: "mono", 2: "stereo"}.get(document["channels"], f"{document['channels']} channels")
        yield "recording", f"{clock(document['audio_s'])} of audio, {document['sample_rate']:,} Hz, {channels}"
    if document["windows_total"]:
        yield "progress", f"{document['windows_done']:,} of {counted(document['windows_total'], 'window')} restored"
    if document["wall_s"]:
        yield "work", clock(document["wall_s"]) + (f", {speed(document['rtf'])}" if document["state"] == "done" else "")
    if document["error"]:
        yield "error", f"{document['error']} [{document['error_code']}]"
    if document["retry_at"] and document["state"] == "waiting":
        yield "tried again", _time(document["retry_at"]) + " UTC"
    if document["note"] and document["note"].partition(": ")[2] not in (document["error"] or ""):
        yield "note", document["note"]
    for remark in document["remarks"]:
        yield "remark", f"{remark['message']} [{remark['code']}]"


def _how_restored(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the settings, and what computes or is to compute."""
    origin = document["provenance"]
    if origin.get("profile"):
        yield "profile", str(origin["profile"])
    said = [f"{key} {_value(value)}" for key, value in document["settings"].items() if key != "sidecar"]
    yield "settings", ", ".join(said)
    if document["variant"]:
        revision = f" at {document['revision']}" if document["revision"] else ""
        yield "model", f"{document['variant']}{revision}, {document['dtype']} on {document['device']}"
    else:
        yield "model", document["wanted_variant"] or "left to the worker that claims it"
    for key in ("notes", "manifest"):
        if origin.get(key):
            yield key, " ".join(str(origin[key]).split())


def _history(events: list[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield every change of state: when, and what."""
    for event in events:
        what = "enqueued" if event["old"] is None else _CHANGES.get(event["new"], event["new"])
        who = f" by worker {event['worker']}" if event["new"] == "running" and event["worker"] else ""
        why = f": {event['reason']}" if event["reason"] and event["reason"] not in _UNSAID else ""
        yield _time(event["at"]), what + who + why


def _attempts(attempts: list[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield every claim that was not the only one, or did not end well."""
    if len(attempts) == 1 and attempts[0]["outcome"] in ("done", "failed"):
        return
    for number, one in enumerate(attempts, 1):
        made = (one["windows_done"] or 0) - (one["windows_start"] or 0)
        ended = one["outcome"] or "under way"
        error = f": {one['error']}" + (f" [{one['error_code']}]" if one["error_code"] else "") if one["error"] else ""
        took = f" in {clock(one['wall_s'])}" if one["wall_s"] is not None else ""
        yield f"{number}.", f"{ended}, {counted(made, 'window')}{took}, worker {one['worker']}{error}"


def _next(document: Mapping[str, Any]) -> str:
    number = document["id"]
    if document["state"] == "queued":
        asked = document["settings"]
        lacks = {line for key, line in extras.missing().items() if asked.get(key, "off") not in ("off", False)}
        if lacks:
            return f"Next: a worker that can do it restores it; here {' and '.join(sorted(lacks))}, then `batchsr work`"
    if document["state"] == "done" and any(is_url(document[side]) for side in ("source", "output")):
        return f"Next: `batchsr verify {number}` to check the output"  # a page to hear it needs the files here
    return {
        "done": f"Next: `batchsr listen {number}` to hear it, `batchsr verify {number}` to check the output",
        "failed": f"Next: `batchsr retry {number}` once the cause is mended",
        "quarantined": f"Next: `batchsr retry {number}` once the cause is mended",
        "cancelled": f"Next: `batchsr retry {number}` takes it up again",
        "queued": "Next: `batchsr work` restores it",
    }.get(document["state"], "")


def _value(value: object) -> str:
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _time(text: str | None) -> str:
    return (text or "")[:19].replace("T", " ")


def _entry(label: str, text: str, width: int | None, beside: int) -> list[str]:
    """Return one entry: its label, and its text, which begins `beside` columns from there."""
    return _filled(f"  {printable(label):<{beside}}{printable(text)}", width, indent=beside + 2)


def _filled(text: str, width: int | None, indent: int = 2) -> list[str]:
    if width is None:
        return [text]
    after = " " * (indent if width >= 2 * indent else 4)
    return textwrap.wrap(
        text, width, subsequent_indent=after, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )
