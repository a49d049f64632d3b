"""Every remark that the program makes stands in docs/formats.md, and every one that stands there is made."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = re.compile(r"input\.[a-z0-9_]+")


def codes(path: Path) -> set[str]:
    constants = (node.value for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Constant))
    return {value for value in constants if isinstance(value, str) and CODE.fullmatch(value)}


def test_the_table_of_remarks_is_that_of_the_code() -> None:
    errors = codes(ROOT / "batchsr" / "errors.py")
    made = set().union(*map(codes, (ROOT / "batchsr" / "audio").rglob("*.py"))) - errors
    assert len(errors) > 5
    assert len(made) > 15
    text = (ROOT / "docs" / "formats.md").read_text("utf-8")
    told = set(re.findall(r"^\| `(input\.[a-z0-9_]+)` \|", text, re.MULTILINE))
    assert told == made
