#!/usr/bin/env python3
"""What `batchsr serve` costs with many viewers and a long queue.

    python scripts/bench_serve.py queue.db --viewers 50 --seconds 30

Starts the server on a queue that is there already (scripts/bench_queue.py makes long ones), opens an event stream for
each viewer, has each load the overview whenever it is told of a change, and pauses or resumes the queue every three
seconds so that there are changes. Says the processor time and memory of the server, how long a page took, and how long
a write to the queue took meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from batchsr.queue.opening import open_queue


async def ask(port: int, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send one request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\nConnection: close\r\n\r\n".encode())
    await writer.drain()
    return reader, writer


async def view(port: int, took_s: list[float]) -> None:
    """Look on: load the overview at first and after each change."""
    reader, _ = await ask(port, "/changes")
    async for line in reader:
        if line.startswith(b"event: changed"):
            began_s = time.perf_counter()
            page, writer = await ask(port, "/")
            assert b" 200 " in (await page.read())[:20]
            writer.close()
            took_s.append(time.perf_counter() - began_s)


async def write(database: Path, took_s: list[float]) -> None:
    """Change the queue every three seconds."""
    with open_queue(database) as queue:
        while True:
            for change in (functools.partial(queue.pause, f"benchmark {time.monotonic()}"), queue.resume):
                began_s = time.perf_counter()
                change()
                took_s.append(time.perf_counter() - began_s)
                await asyncio.sleep(3)


async def measure(port: int, server: psutil.Process, database: Path, viewers: int, seconds: float) -> None:
    """Print the figures."""
    pages_s: list[float] = []
    writes_s: list[float] = []
    tasks = [asyncio.create_task(view(port, pages_s)) for _ in range(viewers)]
    await asyncio.sleep(5)
    pages_s.clear()
    tasks.append(asyncio.create_task(write(database, writes_s)))
    before, began_s = server.cpu_times(), time.perf_counter()
    await asyncio.sleep(seconds)
    after, wall_s = server.cpu_times(), time.perf_counter() - began_s
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    busy = (after.user + after.system - before.user - before.system) / wall_s
    print(f"{viewers} viewers, {wall_s:.0f} s: {100 * busy:.1f} % of a core, {server.memory_info().rss / 1e6:.0f} MB")
    print(
        f"overview: {len(pages_s)} loaded, median {1000 * statistics.median(pages_s):.0f} ms, "
        f"most {1000 * max(pages_s):.0f} ms"
    )
    print(
        f"writes to the queue meanwhile: median {1000 * statistics.median(writes_s):.1f} ms, "
        f"most {1000 * max(writes_s):.1f} ms"
    )
    with open_queue(database) as queue:
        queue.resume()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", type=Path)
    parser.add_argument("--viewers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    command = [sys.executable, "-m", "batchsr", "--db", str(options.database), "serve", "--bind", "127.0.0.1:0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        found = re.search(r":(\d+)/", server.stderr.readline())
        assert found is not None
        asyncio.run(
            measure(int(found[1]), psutil.Process(server.pid), options.database, options.viewers, options.seconds)
        )
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
