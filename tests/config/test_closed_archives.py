"""An archive that cannot be written is noticed when its files are enqueued, with the way out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import rig
from program import Program


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A file system with two recordings, mounted read-only."""
    folder = tmp_path / "archive"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "batchsr-test", str(folder)]
    if not sys.platform.startswith("linux") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small file system")
    for number, place in enumerate(("a.wav", "sub/b.wav")):
        rig.record(folder / place, 0.3, seed=number)
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_archive_is_noticed_at_enqueue_and_out_is_the_remedy(program: Program, read_only: Path) -> None:
    other = rig.record(program.folder / "other" / "c.wav", 0.3)
    told = program.run("enqueue", "-r", read_only, other, code=3)
    said = told.stdout + told.stderr
    assert said.count("is read-only: choose another one with --out") == 2
    assert [job["source"] for job in program.jobs()] == [str(other)], "the rest is taken"
    program.run("enqueue", "-r", read_only, "--out", program.folder / "out")
    assert len(program.jobs()) == 3
