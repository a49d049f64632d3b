"""Somebody is told when work ends, and whatever becomes of that, the work and its exit code stay the same."""

from __future__ import annotations

import http.server
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rig
import soundfile
from program import FAST_MODEL, Program

from batchsr.cli import desktop


@pytest.fixture
def program(tmp_path: Path) -> Program:
    one = Program(tmp_path)
    one.environment |= FAST_MODEL
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(1).uniform(-0.1, 0.1, 800), 8_000)
    return one


@pytest.fixture
def calls() -> Iterator[tuple[str, list[str]]]:
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", paths
        server.shutdown()
        thread.join()


HOOKS = ("--on-done", 'cat > done.json; echo "$BATCHSR_DONE" > done.txt', "--on-trouble", "cat > trouble.json")


@pytest.mark.parametrize("procs", [(), ("--procs", "2", "--share-gpu")])
def test_a_good_end_is_told_once(program: Program, calls: tuple[str, list[str]], procs: tuple[str, ...]) -> None:
    url, paths = calls
    program.run("enqueue", "a.wav")
    program.run("work", "--variant", "fast", *procs, *HOOKS, "--ping", f"{url}/id?rid=7")
    facts = json.loads((program.folder / "done.json").read_text())
    assert (facts["event"], facts["exit_code"], facts["done"], facts["failed"]) == ("done", 0, 1, 0)
    assert facts["db"] == str(program.db)
    assert (program.folder / "done.txt").read_text() == "1\n"
    assert not (program.folder / "trouble.json").exists()
    assert paths == ["/id/start?rid=7", "/id?rid=7"]


def test_failed_files_and_a_pause_are_trouble(program: Program, calls: tuple[str, list[str]]) -> None:
    url, paths = calls
    (program.folder / "b.wav").write_text("no sound")
    program.run("enqueue", "b.wav")
    program.run("work", "--variant", "fast", *HOOKS, "--ping", url, code=3)
    facts = json.loads((program.folder / "trouble.json").read_text())
    assert (facts["event"], facts["exit_code"], facts["failed"]) == ("trouble", 3, 1)
    program.run("pause")
    program.run("enqueue", "a.wav")
    program.run("work", "--variant", "fast", *HOOKS, code=75)
    assert json.loads((program.folder / "trouble.json").read_text())["exit_code"] == 75
    assert not (program.folder / "done.json").exists()
    assert paths == ["/start", "/fail"]


def test_a_notification_that_fails_is_said_and_the_work_is_done(program: Program) -> None:
    program.run("enqueue", "a.wav")
    notify = ("--on-done", "echo out; exit 9", "--ping", "http://127.0.0.1:9/x")
    result = program.run("work", "--variant", "fast", *notify)
    assert "ended with 9" in result.stderr
    assert "did not answer" in result.stderr
    assert result.stdout == ""
    assert program.status()["jobs"]["done"] == 1
    assert "web address" in program.run("work", "--ping", "file:///etc/passwd", code=2).stderr


def test_excluded_names_and_paths_are_not_taken(program: Program) -> None:
    (program.folder / "rejected").mkdir()
    for name in ("b_old.wav", "rejected/c.wav"):
        (program.folder / name).write_bytes((program.folder / "a.wav").read_bytes())
    result = program.run("enqueue", "-r", ".", "--exclude", "*_old.*", "--exclude", "rejected/*")
    assert [Path(job["source"]).name for job in program.jobs()] == ["a.wav"]
    assert "excluded: 2" in result.stderr


def on_the_desktop(program: Program) -> Path:
    """A desktop, as far as notify-send is one: it writes down its words."""
    path = program.folder / "bin" / "notify-send"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nprintf "%s|" "$@" >> {program.folder}/notified\n')
    path.chmod(0o755)
    program.environment["PATH"] = f"{path.parent}{os.pathsep}{os.environ['PATH']}"
    return program.folder / "notified"


@pytest.mark.skipif(sys.platform != "linux", reason="a Mac has osascript")
@pytest.mark.parametrize("procs", [(), ("--procs", "2", "--share-gpu")])
def test_the_desktop_is_told_once_and_only_if_asked(program: Program, procs: tuple[str, ...]) -> None:
    notified = on_the_desktop(program)
    program.run("enqueue", "a.wav")
    program.run("work", "--variant", "fast")
    assert not notified.exists()
    program.run("retry", "--redo", "1")
    program.run("work", "--variant", "fast", *procs, environment={"BATCHSR_NOTIFY": "1"})
    assert notified.read_text() == "--app-name=batchsr|--|batchsr is done|1 file done|"
    notified.unlink()
    (program.folder / "b.wav").write_text("no sound")
    program.run("enqueue", "b.wav")
    program.run("work", "--notify", "--variant", "fast", code=3)
    assert notified.read_text().endswith("batchsr: trouble|1 file done, 1 failed|")


def test_a_desktop_that_fails_or_is_not_there_changes_nothing(program: Program, tmp_path: Path) -> None:
    on_the_desktop(program)
    (program.folder / "bin" / "notify-send").write_text("#!/bin/sh\nexit 1\n")
    program.run("enqueue", "a.wav")
    assert "notify" not in program.run("work", "--variant", "fast", "--notify").stderr
    with_none = {"PATH": str(tmp_path / "nowhere")}
    assert "notify" not in program.run("work", "--variant", "fast", "--notify", environment=with_none).stderr


def test_osascript_gets_the_text_as_arguments_not_as_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(desktop.shutil, "which", lambda name: f"/usr/bin/{name}")
    command = desktop.command_for("batchsr", '" & do shell script "true')
    assert command is not None
    assert command[-2:] == ["batchsr", '" & do shell script "true']
    assert not any("shell script" in word for word in command[:-1])


def test_a_watcher_tells_each_time_that_all_which_arrived_is_dealt_with(program: Program) -> None:
    watched = program.folder / "in"
    watched.mkdir()
    hooks = ("--on-done", "echo done >> told", "--on-trouble", "echo trouble >> told")
    told = program.folder / "told"
    command = ("watch", "in", "--work", "--variant", "fast", "--settle", "0.1", "--rescan", "0.3", *hooks)
    process = program.start(*command)
    try:
        (program.folder / "a.wav").rename(watched / "a.wav")
        rig.until(lambda: told.exists() and told.read_text() == "done\n", 60)
        (watched / "b.wav").write_text("no sound at all, and no header that might still grow")
        rig.until(lambda: told.read_text() == "done\ntrouble\n", 60)
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 143
    assert told.read_text() == "done\ntrouble\n", "who stops it knows that it ended"


def test_a_watcher_that_ends_by_itself_tells_how(program: Program) -> None:
    (program.folder / "in").mkdir()
    (program.folder / "a.wav").rename(program.folder / "in" / "a.wav")
    program.run("watch", "in", "--once", "--work", "--variant", "fast", "--settle", "0", *HOOKS)
    assert json.loads((program.folder / "done.json").read_text())["done"] == 1
