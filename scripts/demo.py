#!/usr/bin/env python3
"""The main job on a real recording, on a machine that has Python 3.11 and nothing else.

Makes a virtual environment, installs the package into it, then enqueues the shipped telephone recording,
restores it and prints the report, echoing each command. Everything it makes is under demo/ and .venv/.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "demo"
VENV = Path(os.environ.get("BATCHSR_VENV", ROOT / ".venv"))


def run(*command: str) -> None:
    """Echo a command as a person would type it, and run it; stop where it fails."""
    shown = [Path(command[0]).name, *command[1:]]
    print("$", *shown, flush=True)
    result = subprocess.run(command, cwd=ROOT, env={**os.environ, "BATCHSR_DB": str(DEMO / "queue.db")})
    if result.returncode:
        sys.exit(result.returncode)


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 - this file is what tells a person with an older one
        sys.exit("batchsr needs Python 3.11 or newer")
    if "BATCHSR_VENV" not in os.environ:  # an environment that is named is taken as it is
        if not (VENV / "bin" / "python").exists():
            print(f"making a virtual environment in {VENV.name}/", flush=True)
            venv.create(VENV, with_pip=True)
        subprocess.run([VENV / "bin" / "python", "-m", "pip", "install", "--quiet", "--editable", ROOT], check=True)
    shutil.rmtree(DEMO, ignore_errors=True)
    DEMO.mkdir()
    batchsr = str(VENV / "bin" / "batchsr")
    print("# `tiny` comes with the package: a small model of preview quality, for trying the program.", flush=True)
    run(batchsr, "enqueue", "tests/data/phone_8k.wav", "--out", "demo", "--profile", "speech")
    run(batchsr, "work", "--variant", "tiny")
    run(batchsr, "report")


if __name__ == "__main__":
    main()
