"""Whatever bytes a stranger sends, reading them ends soon, in samples or in an error of ours, and in silence."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from batchsr.audio import metadata
from tests.audio import fuzzing
from tests.audio import odd_files as odd

ROOT = Path(__file__).resolve().parent.parent.parent


def test_five_hundred_broken_files_break_no_rule(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "fuzz"), "500", "--keep", str(tmp_path / "kept")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    outcomes = {
        name: int(count.replace(",", "")) for count, name in re.findall(r"^ +([\d,]+) (\S+)$", result.stdout, re.M)
    }
    assert sum(outcomes.values()) == 500
    assert outcomes["read"] > 100  # some of them are still recordings
    assert outcomes["input.format"] > 20
    assert outcomes["input.truncated"] > 20
    assert result.stderr == ""


SOUND = odd.sound(400)
TINY = odd.wav(odd.sound(1))
FAST_TINY = odd.riff(odd.chunk(b"fmt ", odd.fmt(rate_hz=16_000)), odd.chunk(b"data", b"ab"))
ROOM = 2**20 - 2000
CRAFTED: dict[str, bytes] = {
    "files joined": TINY * (ROOM // len(TINY)),
    "files of two rates joined": (TINY + FAST_TINY) * (ROOM // len(TINY + FAST_TINY)),
    "empty chunks before": odd.riff(odd.chunk(b"abcd", b"") * (ROOM // 8), odd.chunk(b"fmt ", odd.fmt())),
    "empty chunks behind": odd.wav(SOUND, odd.chunk(b"abcd", b"") * (ROOM // 8)),
    "formats": odd.riff(odd.chunk(b"fmt ", odd.fmt()) * (ROOM // 24), odd.chunk(b"data", SOUND.tobytes())),
    "audio in crumbs": odd.riff(odd.chunk(b"fmt ", odd.fmt()), odd.chunk(b"data", b"ab") * (ROOM // 10)),
    "names where audio could go on": odd.wav(SOUND, data_claims=400, claimed=436) + b"LIST" * (ROOM // 4),
    "chunks that nearly fill the end": odd.wav(SOUND, data_claims=400, claimed=436)
    + odd.chunk(b"LIST", b"") * (ROOM // 8)
    + b"x" * 30,
    "endless chunks": odd.w64(SOUND, before=odd.w64_chunk(b"fmt ", b"", claimed=2**64 - 1) * (ROOM // 24)),
    "files in files": odd.riff(odd.chunk(b"fmt ", odd.fmt()), b"".join(odd.wav(SOUND)[:44] for _ in range(ROOM // 44))),
    "silences": odd.voc(*[(3, b"\xff\xff\0")] * (ROOM // 7), (1, b"\x9c\0abc")),
    "silences between crumbs": odd.voc(*[(1, b"\x9c\0a"), (3, b"\0\0\x9c")] * (ROOM // 14)),
    "markers": odd.aiff(
        SOUND.tobytes(),
        odd.chunk(b"MARK", b"\0\1" + (struct.pack(">HIB", 1, 80, 1) + b"a") * (ROOM // 8), order=">"),
        frames=400,
    ),
    "items": odd.wav(SOUND, odd.chunk(b"LIST", b"INFO" + odd.chunk(b"IXYZ", b"a\0") * (ROOM // 10))),
    "texts": odd.wav(SOUND, odd.chunk(b"LIST", b"INFO" + odd.chunk(b"ICMT", b"a\0" * (ROOM // 2)))),
}


@pytest.mark.parametrize("accept_truncated", [False, True])
@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("name", CRAFTED)
def test_a_file_made_to_cost_much_costs_little(tmp_path: Path, name: str, accept_truncated: bool) -> None:
    path = odd.write(tmp_path, "x", CRAFTED[name])
    assert fuzzing.read_all(path, accept_truncated=accept_truncated).wrong == ""


def test_the_rules_are_seen_when_they_are_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(dict(fuzzing.seeds())["WAV PCM_16"])
    assert fuzzing.read_all(path, accept_truncated=False).wrong == ""
    monkeypatch.setattr(fuzzing, "LONGEST_S", -1.0)
    assert " s" in fuzzing.read_all(path, accept_truncated=False).wrong
    monkeypatch.setattr(fuzzing, "LONGEST_S", 60.0)
    monkeypatch.setattr(fuzzing, "MOST_BYTES", -1)
    assert "MB" in fuzzing.read_all(path, accept_truncated=False).wrong
    monkeypatch.setattr(metadata, "read", lambda path: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        fuzzing.read_all(path, accept_truncated=False)


def test_the_same_number_gives_the_same_broken_file() -> None:
    good = fuzzing.seeds()
    assert len(good) > 80
    assert [fuzzing.mutated(n, good) for n in range(40)] == [fuzzing.mutated(n, good) for n in range(40)]
    assert len({fuzzing.mutated(n, good)[1] for n in range(40)}) == 40
