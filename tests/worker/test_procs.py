"""How many workers there are, whose GPU is whose, and what keeps the machine awake meanwhile."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path
from typing import Any

import click
import mlx.core as mx
import pytest
import rig
from program import FAST_MODEL, Program

from batchsr.cli import keep_awake
from batchsr.cli.options import WorkersType
from batchsr.cli.watch import watch_command
from batchsr.cli.work import _worker_command, _workers, work_command
from batchsr.errors import UsageError
from batchsr.models.compute import backend, device
from batchsr.queue.opening import open_queue
from batchsr.worker.supervisor import supervise


def gpus(monkeypatch: pytest.MonkeyPatch, count: int, visible: str | None = None) -> None:
    """Let there be so many NVIDIA GPUs, `visible` being what CUDA_VISIBLE_DEVICES says."""
    monkeypatch.setattr(device, "nvidia_nodes", lambda: count)
    monkeypatch.setattr(device, "gpu_kind", lambda: "cuda" if count else None)
    monkeypatch.setattr(mx, "device_count", lambda kind: len(visible.split(",")) if visible else count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


@pytest.mark.parametrize(
    ("count", "visible", "procs", "expected"),
    [
        (0, None, None, (1, [])),
        (0, None, 4, (4, [])),
        (1, None, None, (1, [])),
        (1, None, 1, (1, [])),
        (2, None, None, (2, ["0", "1"])),
        (2, None, 2, (2, ["0", "1"])),
        (2, None, 1, (1, [])),
        (4, "3,1", None, (2, ["3", "1"])),
        (4, "GPU-aa, GPU-bb", 2, (2, ["GPU-aa", "GPU-bb"])),
    ],
)
def test_one_worker_for_each_gpu_that_may_be_used(
    monkeypatch: pytest.MonkeyPatch, count: int, visible: str | None, procs: int | None, expected: tuple[int, list[str]]
) -> None:
    gpus(monkeypatch, count, visible)
    number, environments = _workers(procs, None, share_gpu=False)
    assert (number, [each["CUDA_VISIBLE_DEVICES"] for each in environments]) == expected


@pytest.mark.parametrize(("given", "meant"), [("auto", None), ("1", 1), ("64", 64)])
@pytest.mark.parametrize("command", [work_command, watch_command])
def test_auto_is_what_is_done_without_the_option(command: click.Command, given: str, meant: int | None) -> None:
    (option,) = (parameter for parameter in command.params if parameter.name == "procs")
    assert option.type.convert(given, option, None) == meant


@pytest.mark.parametrize("given", ["0", "65", "Auto", "", "two"])
def test_no_other_word_is_a_number_of_workers(given: str) -> None:
    with pytest.raises(click.BadParameter):
        WorkersType().convert(given, None, None)


@pytest.mark.parametrize(("count", "procs", "said"), [(1, 2, "there is one GPU"), (2, 3, "there are 2 GPUs")])
def test_more_workers_than_gpus_are_refused_with_the_reason_unless_they_may_share(
    monkeypatch: pytest.MonkeyPatch, count: int, procs: int, said: str
) -> None:
    gpus(monkeypatch, count)
    with pytest.raises(UsageError, match=said) as refused:
        _workers(procs, None, share_gpu=False)
    assert "slower" in refused.value.message
    assert "--share-gpu" in (refused.value.remedy or "")
    assert _workers(procs, None, share_gpu=True)[0] == procs
    assert _workers(procs, "cpu", share_gpu=False) == (procs, []), "on the CPU nobody shares a GPU"


def test_a_mac_has_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "gpu_kind", lambda: "metal")
    assert backend.worker_environments() == [{}]
    with pytest.raises(UsageError, match="there is one GPU"):
        _workers(2, None, share_gpu=False)


def test_each_worker_and_whoever_replaces_it_has_the_same_gpu(tmp_path: Path) -> None:
    """Each says which it has; the first to have GPU 1 dies, and is replaced."""
    told = tmp_path / "told"
    program = (
        "import os, sys, pathlib\n"
        "gpu = os.environ['CUDA_VISIBLE_DEVICES']\n"
        "told, died = map(pathlib.Path, sys.argv[1:])\n"
        "with told.open('a') as file: file.write(gpu + '\\n')\n"
        "if gpu == '1' and not died.exists():\n"
        "    died.touch()\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    environments = [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]
    with open_queue(tmp_path / "q.db") as queue:
        command = lambda limit: [sys.executable, "-c", program, str(told), str(tmp_path / "died")]  # noqa: E731
        assert supervise(queue, command, 2, rig.Told(), poll_s=0.05, environments=environments) == 0
    assert sorted(told.read_text().split()) == ["0", "1", "1"]


def test_a_worker_under_a_supervisor_is_one() -> None:
    words = _worker_command(["--db", "q", "work", "--procs", "4", "--share-gpu", "--device=gpu"], None, 3)
    assert words[-4:] == ["--procs", "1", "--stop-after", "3"]
    assert words.count("--procs") == 1
    assert "--device=gpu" in words


# --- staying awake ----------------------------------------------------------------------------------------------------


@pytest.fixture
def inhibitor(tmp_path: Path) -> Path:
    """A command as `caffeinate` is one: it writes down when it begins and ends, and runs its words in between."""
    path = tmp_path / "bin" / ("caffeinate" if sys.platform == "darwin" else "systemd-inhibit")
    path.parent.mkdir()
    log = tmp_path / "awake"
    lines = [
        "#!/bin/sh",
        f"echo begin >> {log}",
        'while [ $# -gt 0 ]; do case "$1" in -*) shift;; *) break;; esac; done',
        '"$@"',
        f"echo end >> {log}",
    ]
    path.write_text("\n".join(lines) + "\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def worked(program: Program, inhibitor: Path, *options: str) -> str:
    program.environment |= FAST_MODEL
    program.environment["PATH"] = f"{inhibitor.parent}{os.pathsep}{os.environ['PATH']}"
    rig.enqueue(program.db, [rig.record(program.folder / "in" / "a.wav", 0.4)], program.folder / "out")
    program.run("work", "--variant", "fast", *options)
    log = program.folder / "awake"
    deadline = time.monotonic() + 10
    while log.exists() and "end" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    return log.read_text() if log.exists() else ""


def test_the_machine_is_kept_awake_while_files_are_in_flight(program: Program, inhibitor: Path) -> None:
    assert worked(program, inhibitor) == "begin\nend\n"


def test_it_may_fall_asleep_if_asked(program: Program, inhibitor: Path) -> None:
    assert worked(program, inhibitor, "--no-keep-awake") == ""


def test_a_default_inhibitor_that_fails_is_no_trouble_and_one_that_was_asked_for_is_said(program: Program) -> None:
    program.environment |= FAST_MODEL
    sources = [rig.record(program.folder / "in" / f"{n}.wav", 0.4, seed=n) for n in range(2)]
    rig.enqueue(program.db, sources, program.folder / "out")
    done = program.run("work", "--variant", "fast", "--keep-awake", "/nonexistent/caffeinate -i")
    assert "does not run" in done.stderr
    assert program.status()["jobs"]["done"] == 2


def test_the_default_is_the_system_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = {"caffeinate": "/usr/bin/caffeinate", "systemd-inhibit": None}
    monkeypatch.setattr(keep_awake.shutil, "which", found.get)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_awake.default_command() == ["caffeinate", "-i"]
    monkeypatch.setattr(sys, "platform", "linux")
    assert keep_awake.default_command() == ()
    found["systemd-inhibit"] = "/usr/bin/systemd-inhibit"
    assert keep_awake.default_command()[0] == "systemd-inhibit"
