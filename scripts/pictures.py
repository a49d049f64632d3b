#!/usr/bin/env python3
"""Make the pictures of README anew from the real program: its screen as SVG, its report as PNG, into docs/pictures/.

Needs the group `dev` and a Chromium. Takes two minutes on two cores: `tiny` restores a few recordings by two workers.
"""

from __future__ import annotations

import argparse
import fcntl
import io
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

import numpy as np
import pyte
import soundfile
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
COLUMNS, ROWS = 88, 16
LENGTHS_S = {
    "interview 07, side A.wav": 8,
    "interview 07, side B.wav": 60,
    "interview 08.wav": 60,
    "radio play.wav": 30,
}
WHOLE = re.compile(r"^failed.*^done.*^ 1 restoring +[1-9].*^ 2 restoring +[1-9]", re.MULTILINE | re.DOTALL)
"""What the screen shows when the picture is taken."""
COLORS = {"brown": "yellow", "default": ""}  # pyte's names that rich does not know


def archive(folder: Path) -> None:
    """Make a small archive: stretches of the shipped telephone recording, and a page that calls itself one."""
    x, rate_hz = soundfile.read(ROOT / "tests" / "data" / "phone_8k.wav")
    folder.mkdir(parents=True)
    for name, seconds in LENGTHS_S.items():
        soundfile.write(folder / name, np.resize(x, seconds * rate_hz), rate_hz)
    (folder / "label.wav").write_text("<html>log in</html>" * 50)


def screen_of(command: list[str], environment: dict[str, str]) -> pyte.Screen:
    """Run `work` on a terminal until it shows all that the picture is to show. It runs to its end."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    seen: pyte.Screen | None = None
    kept = io.BytesIO()
    while process.poll() is None:
        if not select.select([master], [], [], 0.1)[0]:
            continue
        try:
            data = os.read(master, 65_536)
        except OSError:
            break
        stream.feed(data)
        if seen is None:
            kept.write(data)
            if WHOLE.search("\n".join(screen.display)):
                seen = pyte.Screen(COLUMNS, ROWS)
                pyte.ByteStream(seen).feed(kept.getvalue())
    process.wait()
    os.close(master)
    if seen is None:
        raise SystemExit("the screen never showed all of it; at last:\n" + "\n".join(screen.display))
    return seen


def svg(screen: pyte.Screen, title: str) -> str:
    """Draw a screen. Nothing in the drawing is fetched from elsewhere."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    last = max(number for number, line in enumerate(screen.display) if line.strip())
    for row in range(last + 1):
        text = Text(no_wrap=True)
        for column in range(COLUMNS):
            cell = screen.buffer[row][column]
            color = COLORS.get(cell.fg, cell.fg)
            text.append(cell.data, style=f"{'bold ' if cell.bold else ''}{color}".strip())
        text.rstrip()
        console.print(text)
    drawn = console.export_svg(title=title, theme=MONOKAI, unique_id="batchsr")
    return re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)


def screenshot(page: Path, target: Path) -> None:
    """Take a picture of the page as a browser shows it."""
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1_000, "height": 775}, color_scheme="light")
        tab.goto(page.as_uri())
        tab.wait_for_selector("body[data-ready=yes]")
        time.sleep(0.5)  # the spectrograms are drawn in the next frames
        tab.screenshot(path=target)
        browser.close()


def main() -> None:
    """Make both pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--archive", type=Path, default=Path("/archive"), help="made for it, and removed; in the picture"
    )
    root = parser.parse_args().archive
    if root.exists():
        raise SystemExit(f"{root} is there already: name another with --archive")
    pictures = ROOT / "docs" / "pictures"
    try:
        archive(root / "1968")
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "BATCHSR_DB": f"{folder}/queue.db", "TERM": "xterm-256color"}
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
            environment.pop("NO_COLOR", None)
            program = [sys.executable, "-m", "batchsr"]
            paths = [str(root / "1968" / name) for name in ("label.wav", *LENGTHS_S)]
            subprocess.run([*program, "enqueue", *paths], env=environment, check=True, stdout=subprocess.DEVNULL)
            seen = screen_of([*program, "work", "--variant", "tiny", "--procs", "2"], environment)
            (pictures / "screen.svg").write_text(svg(seen, "batchsr work --variant tiny --procs 2"))
            page = Path(folder) / "report.html"
            subprocess.run([*program, "report", "-o", page, "--review", "1"], env=environment, check=True)
            screenshot(page, pictures / "report.png")
    finally:
        shutil.rmtree(root, ignore_errors=True)
    for name in ("screen.svg", "report.png"):
        print(f"{pictures / name}: {(pictures / name).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
