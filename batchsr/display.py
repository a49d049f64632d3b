"""How names and messages from outside are shown to people. Programs (`--json`, `-0`, exit codes) get them whole.

A file's name is bytes that a stranger chose. Shown as they are, an escape character moves the cursor, a carriage
return overwrites what was said before, a newline makes two rows of one, and an override of the writing direction
turns `gpj.exe` around. Here each of them becomes an escape that acts on nothing, and all else stays as it is.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

# C0 and C1 controls and DEL; the marks, embeddings, overrides and isolates of direction (Unicode Standard Annex 9);
# separators of lines and paragraphs; what is invisible and may hide text (soft hyphen, byte order mark, invisible
# operators, annotations, variation-like tags); surrogates, which are stray bytes of a name. The joiners U+200C and
# U+200D stay: Persian and emoji need them.
_ACTS: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)


_PASSWORD: Final = re.compile(r"(\b[a-z][a-z0-9+.-]*:/{1,2}[^\s/:@]*:)[^\s]*@", re.IGNORECASE)
_PASSWORD_ASKED: Final = re.compile(r"(\b(?:ssl)?password\s*=\s*)(?:'[^']*'|[^\s&'\"]+)", re.IGNORECASE)


WORDS_NOT_HEARD: Final = "check.words"
"""Code of the remark that a recogniser failed."""
_LONGEST_REMARK: Final = 400


def without_passwords(text: str) -> str:
    """Return a message without the passwords of URLs and connection strings that it quotes, whatever they are of."""
    return _PASSWORD_ASKED.sub(r"\1***", _PASSWORD.sub(r"\1***@", text))


def printable(text: object) -> str:
    """Return text on one line of valid Unicode in which nothing acts on a terminal, a table or a page."""
    return _ACTS.sub(_escaped, str(text))


def shown(path: Path | str) -> str:
    """Return a path as it may stand in a message: `printable`, and quoted as a shell wants it."""
    text = printable(os.fspath(path))
    return shlex.quote(("./" if text.startswith("-") else "") + text)


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return "1 file", "2 files": the number with the word in its right form."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(counts: Mapping[str, int] | Iterable[tuple[str, int]], limit: int = 12) -> str:
    """Return "12 .m4a, 3 .wma": the counts with their names, the largest first, at most `limit` of them."""
    pairs = sorted(dict(counts).items(), key=lambda pair: (-pair[1], pair[0]))
    told = [f"{count:,} {printable(name)}" for name, count in pairs[:limit]]
    left = sum(count for _, count in pairs[limit:])
    return ", ".join(told) + (f" and {left:,} of other kinds" if left else "")


def clock(seconds: float | None) -> str:
    """Return seconds as h:mm:ss, or --:-- when unknown."""
    if seconds is None:
        return "--:--"
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def remarks_in(report: object) -> list[dict[str, str]]:
    """Return what a person is to be told of a file that is done, {"code", "message"} each, from its sidecar's document.

    That is what was odd about the source, and why its words were not heard where that was asked for and failed. Only
    what is of that form is taken: the document may be of another program's making.
    """
    report = report if isinstance(report, dict) else {}
    source, checks = report.get("source"), report.get("checks")
    found = source.get("remarks") if isinstance(source, dict) else None
    told = [dict(one) for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    words = checks.get("words") if isinstance(checks, dict) else None
    if isinstance(words, dict) and isinstance(trouble := words.get("trouble"), str):
        told.append({"code": WORDS_NOT_HEARD, "message": f"its words were not compared: {trouble}"[:_LONGEST_REMARK]})
    return told


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, as Python's file system encoding keeps it
        return f"\\x{code - 0xDC00:02x}"
    if 0x80 <= code <= 0xFF:
        return f"\\u{code:04x}"  # a character, as against a byte
    return match[0].encode("unicode_escape").decode()
