"""Two clocks, because neither will do alone.

The wall clock is for people and may jump. The steady clock counts seconds awake since boot, the same for
all processes of a machine, so a backoff or a sign of life measured with it survives a clock that is set and
a laptop that sleeps; it means nothing after a reboot, which `boot` tells.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import time
from pathlib import Path


class Clock:
    """The time as the queue sees it; tests pass one whose hands they move."""

    def wall(self) -> float:
        """Return seconds since 1970, UTC."""
        return time.time()

    def steady(self) -> float:
        """Return the seconds awake since boot (CLOCK_MONOTONIC on Linux, mach_absolute_time on macOS)."""
        return time.monotonic()

    @property
    def boot(self) -> str:
        """Names this boot of the machine: steady times of another boot cannot be compared with ours."""
        return _boot_id()


@functools.cache
def _boot_id() -> str:
    try:
        if sys.platform == "darwin":
            command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"  # one boot for ever: backoffs then fall back to the longest wait
