"""What people and programs read of jobs whose files are in a store."""

from __future__ import annotations

from pathlib import Path

import pytest
import rig
from object_store import Store
from person import called

from batchsr.errors import InputMissing
from batchsr.serve import files


def test_every_page_and_table_knows_files_in_a_store(store: Store, tape: bytes, db: Path, tmp_path: Path) -> None:
    store.put("in/tape.wav", tape)
    called("--db", db, "enqueue", "s3://tapes/in/tape.wav", "--out", "s3://tapes/out")
    rig.work(db)
    page = tmp_path / "page.html"
    called("--db", db, "report", "-o", page, "--as", "html")
    (tmp_path / "policy.toml").write_text("rate = 48000\n")
    for words in (
        ("report", "--as", "csv"),
        ("report", "--as", "json"),
        ("report", "--policy", tmp_path / "policy.toml", "--as", "csv"),
        ("show", "1", "--json"),
        ("list", "--json"),
        ("list", "--path", "s3://tapes/in/*"),
    ):
        said = called("--db", db, *words)
        assert "s3://tapes/in/tape.wav" in said.out, words
        assert "s3:/tapes" not in said.out, words
        assert "/proc" not in said.out, words
    assert "cannot be heard here: it is in a store" in page.read_text()
    assert "/proc" not in page.read_text()
    for side in ("source", "output"):
        with pytest.raises(InputMissing, match="in a store"):
            files.opened(rig.job_of(db, 1), side)  # type: ignore[arg-type]
