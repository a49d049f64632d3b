from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import rig
from served import Served, serving

HOSTILE = "<img src=x onerror=document.title='owned'>\x1b[2J.wav"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A queue: #1, #2 done, #3 to #5 failed for one reason, #6 queued; #2 has a hostile name."""
    folder = tmp_path_factory.mktemp("archive")
    good = [rig.record(folder / "in" / name, 1.0, seed=n) for n, name in enumerate(("tape 1.wav", HOSTILE))]
    bad = [folder / "in" / f"page {number}.wav" for number in range(3)]
    for path in bad:
        path.write_text("<html>log in</html>" * 50)
    rig.enqueue(folder / "queue.db", good + bad, batch="reels")
    rig.work(folder / "queue.db")
    rig.enqueue(folder / "queue.db", [rig.record(folder / "in" / "later.wav", 0.5, seed=9)])
    return folder


@pytest.fixture(scope="module")
def served(archive: Path) -> Iterator[Served]:
    with serving(archive / "queue.db") as one:
        yield one
