"""The statements of `queue/sqlite` in PostgreSQL's words.

They are nearly the same language. What differs is listed here, and nothing else is done: how parameters are written,
comparing with NULL, lists as JSON, SQLite's two-armed `iif`, its `max` and `min` of two values (which are NULL when one
of them is), `instr`, paths as bytes, hints for its planner, and row locks: those stand in the statements as comments
(`/* pg: FOR UPDATE */`), since SQLite has one lock for all.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Final

_LITERAL: Final = re.compile(r"'(?:[^']|'')*'")
_KEPT: Final = re.compile("\ue000(\\d+)\ue001")
_TEXT_COLUMNS: Final = frozenset(("state", "dedupe_key", "output_key", "source_key"))
_RULES: Final[tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]] = (
    (re.compile(r"/\* pg: ([A-Z ]+) \*/"), r"\1"),
    (re.compile(r"\bINDEXED BY \w+|\bNOT INDEXED\b"), ""),
    (re.compile(r"\bIS NOT (?=[:?])"), "IS DISTINCT FROM "),
    (re.compile(r"\bIS (?=[:?])"), "IS NOT DISTINCT FROM "),
    (re.compile(r"\bWHERE 1\b(?! *[=<>+*/-])"), "WHERE true"),
    (re.compile(r"\b(?:(\w+)\.)?rowid\b"), lambda found: f"{found[1]}.started_at" if found[1] else "started_at"),
    (re.compile(r"\bCAST\((\w+) AS BLOB\)"), lambda found: f"convert_to({found[1]}, \ue002)"),
    (re.compile(r"(\S+) GLOB (:\w+)"), r"globbed(\1, \2)"),
    (re.compile(r"\bLIKE\b"), "ILIKE"),
    (
        re.compile(r"\bINSERT OR REPLACE INTO reports VALUES \(\?, \?\)"),
        "INSERT INTO reports VALUES (?, ?) ON CONFLICT (job) DO UPDATE SET data = EXCLUDED.data",
    ),
)


@functools.lru_cache(maxsize=1024)
def translated(sql: str) -> str:
    """Return a statement as psycopg takes it: `:name` and `?` become `%(name)s` and `%s`."""
    literals: list[str] = []

    def keep(found: re.Match[str]) -> str:
        literals.append(found[0])
        return f"\ue000{len(literals) - 1}\ue001"

    text = _LITERAL.sub(keep, sql).replace("%", "%%")
    for pattern, by in _RULES:
        text = pattern.sub(by, text)
    text = text.replace("\ue002", "'UTF8'")
    text = re.sub(r"(\w+(?:\.\w+)?) IN \(SELECT value FROM json_each\((:\w+|\?)\)\)", _among, text)
    text = re.sub(
        r"\bjson_extract\(([\w.]+), \ue000(\d+)\ue001\)",
        lambda found: f"({found[1]}::jsonb ->> '{literals[int(found[2])][3:-1]}')",
        text,
    )
    for name, rewritten in _FUNCTIONS.items():
        text = _replace_calls(text, name, rewritten)
    text = re.sub(r"(?<![:\w]):([a-z_]\w*)", r"%(\1)s", text)
    text = text.replace("?", "%s")
    return _KEPT.sub(lambda found: literals[int(found[1])].replace("%", "%%"), text)


def _among(found: re.Match[str]) -> str:
    column, parameter = found[1], found[2]
    kind = "" if column.rpartition(".")[2] in _TEXT_COLUMNS else "::bigint"
    return f"{column} = ANY(ARRAY(SELECT jsonb_array_elements_text({parameter}::jsonb){kind}))"


def _iif(arguments: list[str]) -> str | None:
    condition, yes, no = arguments
    return f"CASE WHEN {condition} THEN {yes} ELSE {no} END"


def _instr(arguments: list[str]) -> str | None:
    return f"(strpos({', '.join(arguments)}) > 0)"


def _extreme(function: str, arguments: list[str]) -> str | None:
    if len(arguments) != 2:
        return None  # the aggregate
    one, other = arguments
    return f"CASE WHEN {one} IS NULL OR ({other}) IS NULL THEN NULL ELSE {function}({one}, {other}) END"


_FUNCTIONS: Final[dict[str, Callable[[list[str]], str | None]]] = {
    "iif": _iif,
    "instr": _instr,
    "max": functools.partial(_extreme, "greatest"),
    "min": functools.partial(_extreme, "least"),
}


def _replace_calls(text: str, name: str, by: Callable[[list[str]], str | None]) -> str:
    """Replace the calls of a function, inner ones first; `by` gives None for those that stay."""
    start = len(text)
    while (start := text.rfind(f"{name}(", 0, start)) >= 0:
        if start and (text[start - 1].isalnum() or text[start - 1] in "_."):
            continue
        arguments, end = _arguments(text, start + len(name) + 1)
        replaced = by(arguments)
        if replaced is not None:
            text = text[:start] + replaced + text[end:]
    return text


def _arguments(text: str, start: int) -> tuple[list[str], int]:
    """Return the arguments of a call whose first one starts here, and where the call ends."""
    depth, arguments, begin = 0, list[str](), start
    for place in range(start, len(text)):
        sign = text[place]
        if sign == "(":
            depth += 1
        elif sign == ")" and depth:
            depth -= 1
        elif sign in ",)" and not depth:
            arguments.append(text[begin:place].strip())
            begin = place + 1
            if sign == ")":
                return arguments, place + 1
    raise ValueError(f"a call without its end: {text}")
