"""What every test may ask for."""

from __future__ import annotations

import collections
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked
import pytest
from program import Program

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cpu", type=int, default=0, metavar="N", help="name the N tests that took most of the processor's time"
    )


def _cpu_s() -> float:
    """Seconds of the processor that this process, and those that it has waited for, have taken."""
    return sum(os.times()[:4])


_counted_s = [_cpu_s()]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """What was taken since the phase before goes with the report of a phase, also from a worker of xdist."""
    report: Any = yield
    now_s = _cpu_s()
    report.cpu_s, _counted_s[0] = now_s - _counted_s[0], now_s
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if (most := config.getoption("--cpu")) == 0:
        return
    taken: collections.Counter[str] = collections.Counter()
    for report in (one for reports in terminalreporter.stats.values() for one in reports):
        if hasattr(report, "cpu_s"):
            taken[report.nodeid] += report.cpu_s
    terminalreporter.section(f"{taken.total() / 60:.1f} min of the processor in tests")
    for name, seconds in taken.most_common(most):
        terminalreporter.write_line(f"{seconds:7.2f} s {name}")


@pytest.fixture
def untraced() -> Iterator[None]:
    """Without coverage, for what is done hundreds of times: tracing takes as long as the thing itself."""
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)


@pytest.fixture(autouse=True)
def dispositions() -> Iterator[None]:
    """Programs that are started obey Ctrl-C, also where the tests run in the background and ignore it.

    They inherit what this process ignores. So whatever a test changes of it ends with the test: the program's `main`
    ignores SIGINT once it is on its way out, also where a test calls it.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    if before[0] is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture(scope="session", autouse=True)
def sources() -> Iterator[None]:
    """The processes of which programs are forked end with the tests."""
    yield
    forked.end()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recordings and full-size golden files that stands beside a developer's checkout."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        assert not os.environ.get("CI"), f"{folder} must be there in CI"
        pytest.skip("the shared recordings are not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def recordings(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 60 good recordings (`inputs/`) and the 30 broken ones (`bad/`), unpacked."""
    folder = tmp_path_factory.mktemp("recordings")
    for name in ("inputs", "bad"):
        with tarfile.open(shared / "audio" / f"{name}.tar") as archive:
            archive.extractall(folder, filter="fully_trusted")
    return folder


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with random weights and windows of 0.32 s that takes milliseconds a window."""
    from batchsr.models.tools import make

    folder = tmp_path_factory.mktemp("bundle") / "random"
    make.write_random(folder, make.config_of_size("tiny"), "tests")
    return folder


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "batchsr-test", str(folder)]
    if not sys.platform.startswith("linux") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The machine's own Chromium, without a window."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        assert not os.environ.get("CI"), "chromium is missing"
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        one = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        )
        yield one
        one.close()
