"""PREMIS 3: what happened to each file of a package, to what, by whom, as one XML document written piece by piece.

    objects   each recording (not in the package), output and copy, with size and checksums
    events    migration (the restoration), validation (the output was read and is what its record says), fixity check
    agents    the program, and the model with its revision

Source: PREMIS Data Dictionary for Preservation Metadata, version 3.0, and its XML schema (Library of Congress).
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import os
import re
import uuid
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from batchsr import __version__
from batchsr.archive.contents import Item, Work
from batchsr.archive.package_files import Brought
from batchsr.display import printable
from batchsr.errors import ConfigError

if TYPE_CHECKING:
    from lxml.etree import _Element

NAMESPACE: Final = "http://www.loc.gov/premis/v3"
_XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"
_SPACES: Final = MappingProxyType({None: NAMESPACE, "xsi": _XSI})
_OWN: Final = uuid.UUID("6f1b1f5e-0e52-4d7e-9a0a-6a5f0b9d7c11")
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NAMES: Final = {"sha256": "SHA-256", "sha512": "SHA-512", "sha1": "SHA-1", "md5": "MD5"}


def needed() -> Any:
    """Return lxml.etree. Raises ConfigError where it is not installed."""
    try:
        from lxml import etree
    except ImportError as e:
        raise ConfigError("--premis needs lxml", remedy="pip install 'batchsr[archive]'") from e
    return etree


def write(file: BinaryIO, works: Iterable[Work], read: Mapping[str, Brought], checked_at: datetime.datetime) -> None:
    """Write the document of a package. `read` is of its files; their headers were read at `checked_at`."""
    etree = needed()
    works = list(works)
    with etree.xmlfile(file, encoding="UTF-8") as xml:
        xml.write_declaration()
        with xml.element(_name("premis"), {"version": "3.0"}, nsmap=dict(_SPACES)):
            maker = _Maker(etree, read, checked_at.isoformat(timespec="seconds"))
            pieces = itertools.chain(map(maker.objects, works), map(maker.events, works), [maker.agents(works)])
            for element in itertools.chain.from_iterable(pieces):
                xml.write(element)


def _name(tag: str) -> str:
    return f"{{{NAMESPACE}}}{tag}"


def _replaced(match: re.Match[str]) -> str:
    """Return what XML has no place for, as an escape."""
    return f"\\u{ord(match[0]):04x}"


def _identifier(*parts: object) -> str:
    """Return an identifier, always the same for the same parts."""
    return str(uuid.uuid5(_OWN, "\0".join(map(printable, parts))))


class _Maker:
    def __init__(
        self,
        etree: Any,
        read: Mapping[str, Brought],
        checked_at: str,
    ) -> None:
        self._etree = etree
        self._read = read
        self._checked_at = checked_at
        self._check = uuid.uuid4().hex
        self._sources: set[str] = set()

    def objects(self, work: Work) -> list[_Element]:
        """Return the recording, unless another work had it already, the output and its copies."""
        source = work.document["source"]
        made = []
        if _source_id(work) not in self._sources:
            self._sources.add(_source_id(work))
            made.append(self._object(_source_id(work), source.get("path"), source, {"sha256": source["sha256"]}))
        for item in work.items:
            if item.role == "sidecar":
                continue
            own = {"size_bytes": self._read[item.path].size_bytes, "format": os.path.splitext(item.path)[1].lstrip(".")}
            element = self._object(_item_id(work, item.path), item.path, own, self._read[item.path].checksums)
            relation = self._add(element, "relationship")
            self._add(relation, "relationshipType", "derivation")
            self._add(relation, "relationshipSubType", "has source")
            self._linked(relation, "relatedObject", _source_id(work))
            self._linked(relation, "relatedEvent", _event_id(work, "migration"))
            made.append(element)
        return made

    def events(self, work: Work) -> list[_Element]:
        """Return what happened to one recording, and to what came of it."""
        document = work.document
        said = document["synthetic"]["sentence"]
        detail = f"Restored by batchsr with {printable(document['model'].get('variant', ''))}. {printable(said)}"
        finished = document.get("finished")
        at = _moment(finished) or self._checked_at
        made_of = [item for item in work.items if item.role != "sidecar"]
        migration = self._event(_event_id(work, "migration"), "migration", at, detail)
        for identifier in _agents(work):
            self._linked(migration, "linkingAgent", identifier)
        self._linked(migration, "linkingObject", _source_id(work), "source")
        self._outcomes(migration, work, made_of)
        words = "The output's header was read: rate, channels and length are those of its record."
        validation = self._event(_event_id(work, self._check), "validation", self._checked_at, words)
        self._linked(validation, "linkingAgent", _program_id())
        self._outcomes(validation, work, [item for item in made_of if item.role == "output"])
        made = [migration, validation]
        runs: dict[str, list[Item]] = {}
        for item in made_of:
            runs.setdefault(self._read[item.path].run, []).append(item)
        for run, items in runs.items():  # what a killed export read is dated when it did
            read_at = max(self._read[item.path].read_at for item in items)
            words = "SHA-256 of each of these files in the package is that of its record."
            made.append(self._event(_event_id(work, "fixity", run), "fixity check", read_at, words))
            self._linked(made[-1], "linkingAgent", _program_id())
            self._outcomes(made[-1], work, items)
        return made

    def agents(self, works: Iterable[Work]) -> list[_Element]:
        """Return the program as it is now, the programs that restored, and the models."""
        found = {_program_id(): ("batchsr", "software", __version__)}
        for work in works:
            found |= _agents(work)
        made = []
        for identifier, (name, kind, version) in found.items():
            agent = self._etree.Element(_name("agent"), nsmap=dict(_SPACES))
            self._linked(agent, "agent", identifier)
            self._add(agent, "agentName", printable(name))
            self._add(agent, "agentType", kind)
            self._add(agent, "agentVersion", printable(version))
            made.append(agent)
        return made

    def _object(
        self, identifier: str, name: object, facts: Mapping[str, Any], checksums: Mapping[str, str]
    ) -> _Element:
        element: _Element = self._etree.Element(_name("object"), {f"{{{_XSI}}}type": "file"}, nsmap=dict(_SPACES))
        self._linked(element, "object", identifier)
        about = self._add(element, "objectCharacteristics")
        for algorithm, value in checksums.items():
            fixity = self._add(about, "fixity")
            self._add(fixity, "messageDigestAlgorithm", _NAMES[algorithm])
            self._add(fixity, "messageDigest", value)
        self._add(about, "size", str(facts["size_bytes"]))
        form = self._add(self._add(about, "format"), "formatDesignation")
        self._add(form, "formatName", printable(facts.get("format") or "unknown"))
        self._add(element, "originalName", printable(name or "unknown"))
        return element

    def _event(self, identifier: str, kind: str, at: str, detail: str) -> _Element:
        event: _Element = self._etree.Element(_name("event"), nsmap=dict(_SPACES))
        self._linked(event, "event", identifier)
        self._add(event, "eventType", kind)
        self._add(event, "eventDateTime", at)
        self._add(self._add(event, "eventDetailInformation"), "eventDetail", detail)
        self._add(self._add(event, "eventOutcomeInformation"), "eventOutcome", "success")
        return event

    def _outcomes(self, event: _Element, work: Work, items: Iterable[Item]) -> None:
        for item in items:
            self._linked(event, "linkingObject", _item_id(work, item.path), "outcome")

    def _linked(self, above: _Element, what: str, identifier: str, role: str = "") -> None:
        """Write an identifier of an object, event or agent: its own (`object`), or a link to one (`linkingObject`)."""
        element = self._add(above, f"{what}Identifier")
        self._add(element, f"{what}IdentifierType", "UUID")
        self._add(element, f"{what}IdentifierValue", identifier)
        if role:
            self._add(element, f"{what}Role", role)

    def _add(self, above: _Element, tag: str, text: str | None = None) -> _Element:
        element: _Element = self._etree.SubElement(above, _name(tag))
        element.text = None if text is None else _NO_XML.sub(_replaced, text)
        return element


def _agents(work: Work) -> dict[str, tuple[str, str, str]]:
    """Identifier -> (name, type, version) of what restored a recording."""
    model, program = work.document["model"], work.document.get("program")
    version = str(program.get("version", "")) if isinstance(program, dict) else ""
    variant, revision = os.path.basename(str(model.get("variant", "")) or "unknown"), str(model.get("revision", ""))
    return {
        _identifier("batchsr", version): ("batchsr", "software", version or "unknown"),
        _identifier("model", variant, revision): (f"model {variant}", "software", revision or "unknown"),
    }


def _program_id() -> str:
    return _identifier("batchsr", __version__)


def _source_id(work: Work) -> str:
    return _identifier("source", work.document["source"]["sha256"], work.document["source"].get("path"))


def _event_id(work: Work, *what: str) -> str:
    """Return what identifies something that happened to a recording.

    It is made of its record, which says who made it when, as no other queue's row does.
    """
    return _identifier("event", *what, json.dumps(_made(work), sort_keys=True))


def _made(work: Work) -> list[Any]:
    said, own = work.document, work.document.get("job")
    own = own if isinstance(own, dict) else {}
    return [
        *(said["source"]["sha256"], said["output"]["sha256"], said.get("settings_sha256")),
        *(said.get("finished"), said.get("wall_s"), said["source"].get("path"), said["output"].get("path")),
        *(own.get(key) for key in ("id", "claim", "worker")),
    ]


def _item_id(work: Work, path: str) -> str:
    return _identifier(
        "file", json.dumps(_made(work)), path, next(item.sha256 for item in work.items if item.path == path)
    )


def _moment(value: object) -> str | None:
    """Return a time as the schema wants it; None for what is none."""
    with contextlib.suppress(ValueError, OverflowError):
        moment = datetime.datetime.fromisoformat(value) if isinstance(value, str) else None
        if moment is not None and moment.tzinfo is not None:
            return moment.astimezone(datetime.UTC).isoformat(timespec="seconds")
    return None
