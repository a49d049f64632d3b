"""`watch` as a process: killed, stopped, started again, with its worker, and what its options refuse."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rig
from click.testing import CliRunner
from program import FAST_MODEL

from batchsr.cli import cli
from batchsr.errors import BatchsrError
from batchsr.queue.opening import open_queue

FAST = ("--settle", "0.3", "--rescan", "0.5")
WORK = ("--work", "--variant", "fast", "--min-free", "0")


@pytest.fixture
def program(program: Any) -> Any:
    """The program with a model that takes microseconds."""
    program.environment |= FAST_MODEL
    return program


@contextlib.contextmanager
def running(program: Any, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    process = program.start("watch", *arguments)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def states(program: Any) -> dict[str, int]:
    if not program.db.exists():
        return {}
    with open_queue(program.db) as queue:
        return {state: count for state, count in queue.counts().items() if count}


def workers(program: Any) -> list[int]:
    with open_queue(program.db) as queue:
        return [worker["pid"] for worker in queue.status()["workers"]]


def test_a_watcher_killed_again_and_again_misses_nothing(program: Any) -> None:
    root = program.folder / "in"
    count = 0
    for _ in range(3):
        with running(program, root, *FAST) as process:
            for _ in range(15):
                rig.record(root / str(count % 4) / f"{count}.wav", 0.05)
                count += 1
                time.sleep(0.06)
            process.kill()
    rig.record(root / "after.wav", 0.05)
    program.run("watch", root, "--once", "--settle", "0.1")
    with open_queue(program.db) as queue:
        sources = [job.source for job in queue.jobs()]
        assert queue.check() == []
    assert len(sources) == len(set(sources)) == count + 1


def test_watch_and_work_restore_what_arrives_also_after_the_worker_was_killed(program: Any) -> None:
    root, out, done = program.folder / "in", program.folder / "out", program.folder / "in" / "done"
    for number in range(4):
        rig.record(root / f"{number}.wav", 0.8, seed=number)
    program.environment["BATCHSR_PACE_S"] = "0.05"
    arguments = (root, *WORK, "--out", out, "--done", done, *FAST)
    with running(program, *arguments) as process:
        rig.until(lambda: states(program).get("running"), 60)
        os.kill(workers(program)[0], signal.SIGKILL)
        rig.record(root / "while it was dead.wav", 0.5)
        rig.until(lambda: states(program).get("done") == 5, 120)
        rig.until(lambda: not list(root.glob("*.wav")), 20)
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "SIGKILL" in stderr
    assert len(stdout.splitlines()) == 5
    assert len(list(done.glob("*.wav"))) == len(list(out.glob("*_upsampled.wav"))) == 5
    assert states(program) == {"done": 5}
    assert workers(program) == []


def test_a_worker_ends_when_its_watcher_is_killed(program: Any) -> None:
    root = program.folder / "in"
    rig.record(root / "a.wav", 0.2)
    with running(program, root, *WORK, *FAST) as process:
        rig.until(lambda: states(program).get("done") == 1, 60)
        (worker,) = workers(program)
        process.kill()
        rig.until(
            lambda: not Path(f"/proc/{worker}").exists() if Path("/proc/self").exists() else not _alive(worker), 20
        )
    assert workers(program) == []


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_once_with_work_restores_moves_and_tells_failures_by_its_exit_code(program: Any, tmp_path: Path) -> None:
    root = program.folder / "in"
    good = rig.record(root / "good.wav", 0.2)
    (root / "bad.wav").write_bytes(good.read_bytes()[:1000])
    os.utime(root / "bad.wav", (1, 1))
    result = program.run(
        "watch", root, "--once", *WORK, "--settle", "0.1",
        "--done", tmp_path / "done", "--failed", tmp_path / "failed", "--nice", "5", "--json", code=3,
    )  # fmt: skip
    assert states(program) == {"done": 1, "failed": 1}
    assert (tmp_path / "done" / "good.wav").exists()
    assert (tmp_path / "failed" / "bad.wav").exists()
    assert '"outcome": "queued"' in result.stdout


def test_the_machine_is_kept_awake_while_a_file_is_restored_and_no_longer(program: Any, tmp_path: Path) -> None:
    root, log = program.folder / "in", tmp_path / "awake.log"
    script = tmp_path / "keep awake"
    script.write_text(f'#!/bin/sh\necho held >> {log}\n"$@"\necho let go >> {log}\n')
    script.chmod(0o700)
    rig.record(root / "long.wav", 60.0)
    program.environment["BATCHSR_PACE_S"] = "0.1"
    with running(program, root, *WORK, *FAST, "--keep-awake", f"'{script}'") as process:
        rig.until(log.exists, 60)
        assert states(program).get("running") == 1
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert log.read_text().split("\n")[:2] == ["held", "let go"]


def test_a_worker_that_is_started_again_does_what_is_left_of_its_limit(program: Any) -> None:
    for number in range(6):
        rig.record(program.folder / "in" / f"{number}.wav", 1.0, seed=number)
    program.environment["BATCHSR_PACE_S"] = "0.2"
    with running(program, program.folder / "in", *WORK, *FAST, "--stop-after", "3") as process:
        rig.until(lambda: states(program).get("done"), 60)
        (worker,) = {line["pid"] for line in program.status()["workers"]}
        os.kill(worker, signal.SIGKILL)
        process.communicate(timeout=60)
    assert states(program) == {"done": 3, "queued": 3}


def test_without_a_model_it_ends_with_69_and_loses_nothing(program: Any) -> None:
    del program.environment["PYTHONPATH"]  # the real model code, which looks for the bundle
    rig.record(program.folder / "in" / "a.wav", 0.1)
    missing = program.folder / "no such" / "bundle"
    with running(program, "in", "--work", "--variant", missing, "--min-free", "0", *FAST) as process:
        process.communicate(timeout=60)
    assert process.returncode == 69
    assert states(program) == {"queued": 1}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["in/a.wav"], "is not a folder"),
        (["in", "--done", "in"], "is a watched folder itself"),
        (["in", "--failed", "link"], "is a watched folder itself"),
        (["nowhere", "--once"], "there is no folder"),
        (["in", "--only-between", "19-7"], "write it like 19:00-07:00"),
        (["in", "--for", "soon"], "write it like 90s"),
        (["in", "--patience", "soon"], "write it like 90s"),
        (["in", "--profile", "speach"], "known profiles"),
        (["in", "--timestep", "1000"], "0 to 999"),
        ([], "Missing argument"),
    ],
)
def test_a_mistake_in_the_options_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    rig.record(tmp_path / "in" / "a.wav", 0.05)
    (tmp_path / "link").symlink_to(tmp_path / "in")
    result = CliRunner().invoke(cli, ["--db", "queue.db", "watch", *arguments])
    if isinstance(result.exception, BatchsrError):  # main() makes the exit code of it
        assert (result.exception.exit_code, said in str(result.exception)) == (2, True), result.exception
    else:
        assert (result.exit_code, said in result.output) == (2, True), result.output


def test_the_unit_that_service_prints_runs_this_watch(program: Any, tmp_path: Path) -> None:
    root = program.folder / "in box"
    root.mkdir()
    result = program.run(
        "service", "print", "systemd", "in box", "--out", "restored", "--settle=3", "--profile", "speech"
    )
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("ExecStart=")]
    assert line.startswith(
        f'ExecStart={sys.executable} -m batchsr --db {program.db} watch --work "{root}" '
        f"--out {program.folder / 'restored'} --settle=3 --profile speech --keep-awake "
    )
    program.run("service", "print", "systemd", "in box", "--setle", "3", code=2)
    assert "<key>KeepAlive</key>" in program.run("service", "print", "launchd", "in box").stdout
    if (analyze := shutil.which("systemd-analyze")) is not None:
        unit = tmp_path / "batchsr.service"
        unit.write_text(result.stdout)
        checked = subprocess.run(
            [analyze, "--man=no", "verify", str(unit)], capture_output=True, text=True, check=False
        )
        assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_completion_script_that_it_understands(program: Any, shell: str, tmp_path: Path) -> None:
    script = tmp_path / f"completion.{shell}"
    script.write_text(program.run("completion", shell).stdout)
    assert f"_BATCHSR_COMPLETE={shell}_complete" in script.read_text()
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not on this machine: its script is made, but nobody read it")
    subprocess.run([shell, "-n", str(script)], check=True)


def test_completion_knows_commands_options_and_choices(program: Any) -> None:
    def complete(words: str, index: int) -> set[str]:
        environment = {"_BATCHSR_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(index)}
        stdout = program.run(environment=environment).stdout
        return {line.partition(",")[2] for line in stdout.splitlines()}

    assert {"watch", "work"} <= complete("batchsr w", 1)
    assert {"--settle"} <= complete("batchsr watch --se", 2)
    assert complete("batchsr watch --poll a", 3) == {"auto", "always"}
