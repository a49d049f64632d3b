"""`upsample` on a real terminal: something moves, Ctrl-C keeps what is done, and the same command goes on."""

from __future__ import annotations

import hashlib
import re
import signal
from pathlib import Path

import numpy as np
import soundfile


def test_ctrl_c_keeps_windows_and_the_same_command_goes_on_to_the_same_bytes(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    source = tmp_path / "reel.wav"
    soundfile.write(source, np.random.default_rng(0).uniform(-0.1, 0.1, 40_000), 8_000)
    words = ("upsample", source, "--variant", "fast", "-o")
    terminal = run(*words, tmp_path / "a.wav", columns=60, pace_s=0.1)
    terminal.until(lambda text: re.search(r"restoring +[2-9]", text) is not None)
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    text = " ".join(terminal.text.split())
    assert "run the same command again to go on" in text
    assert not (tmp_path / "a.wav").exists()
    again = run(*words, tmp_path / "a.wav", columns=200)
    assert again.end() == 0
    assert re.search(r"resuming .* at window [1-9]", again.text)
    assert run(*words, tmp_path / "b.wav").end() == 0
    one, other = (hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("a.wav", "b.wav"))
    assert one == other
