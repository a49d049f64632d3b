"""What macOS does otherwise, on any system: flushing to the disk, names that are one, remedies."""

from __future__ import annotations

import errno
import importlib
import os
import platform
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from watchdog.events import DirCreatedEvent, FileClosedEvent, FileCreatedEvent

from batchsr import storage
from batchsr.intake import events
from batchsr.queue.sqlite import store


@pytest.fixture
def full_fsync(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """macOS's fcntl: what is in the list is raised, one at a time; then it works. `os.fsync` adds "plain"."""
    answers: list[Any] = []

    def fcntl(fd: int, command: int) -> int:
        assert command == 51
        if answers and isinstance(answers[0], int):
            code = answers.pop(0)
            raise OSError(code, os.strerror(code))
        answers.append("full")
        return 0

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(storage.fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(storage.fcntl, "fcntl", fcntl)
    monkeypatch.setattr(storage.os, "fsync", lambda fd: answers.append("plain"))
    return answers


def test_a_mac_flushes_to_the_medium_itself(full_fsync: list[Any]) -> None:
    storage.fsync(3)
    assert full_fsync == ["full"]


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.EINVAL, errno.ENOTTY])
def test_a_file_system_without_full_flushes_is_flushed_plainly(full_fsync: list[Any], code: int) -> None:
    full_fsync.append(code)
    storage.fsync(3)
    assert full_fsync == ["plain"]


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EBADF])
def test_a_disk_that_fails_to_flush_is_an_error(full_fsync: list[Any], code: int) -> None:
    full_fsync.append(code)
    with pytest.raises(OSError, match=os.strerror(code)):
        storage.fsync(3)
    assert full_fsync == []


@pytest.mark.parametrize("told", ["/users/ME/In", "/Users/me/IN", "/Users/Me/in"])
def test_a_hint_in_another_letter_case_is_of_the_folder_as_it_was_typed(
    monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    handler = events._Handler()
    handler.spelled["/users/me/in"] = "/users/me/link"
    handler.dispatch(FileCreatedEvent(f"{told}/Tape A.WAV"))
    handler.dispatch(DirCreatedEvent(f"{told}/Box"))
    found = {hint.path: hint.kind for hint in handler.wait(0)}
    assert found == {"/users/me/link/Tape A.WAV": "changed", "/users/me/link/Box": "folder"}


@pytest.mark.parametrize(("typed", "told"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_hint_with_accents_put_together_otherwise_is_of_the_same_folder(
    monkeypatch: pytest.MonkeyPatch, typed: Any, told: Any
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    handler = events._Handler()
    folder = unicodedata.normalize(typed, "/Volumes/Zürich é/in")
    handler.spelled[folder] = folder
    handler.dispatch(FileClosedEvent(unicodedata.normalize(told, "/Volumes/ZÜRICH É/in") + "/a.wav"))
    assert [(hint.kind, hint.path) for hint in handler.wait(0)] == [("closed", f"{folder}/a.wav")]


def test_elsewhere_names_that_differ_in_case_are_two_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    handler = events._Handler()
    handler.spelled["/srv/in"] = "/srv/link"
    handler.dispatch(FileCreatedEvent("/srv/In/a.wav"))
    handler.dispatch(FileCreatedEvent("/srv/input/b.wav"))
    handler.dispatch(FileCreatedEvent("/srv/in/c.wav"))
    assert [hint.path for hint in handler.wait(0)] == ["/srv/In/a.wav", "/srv/input/b.wav", "/srv/link/c.wav"]


@pytest.mark.parametrize(
    ("system", "machine", "expected"),
    [("darwin", "arm64", "a Python whose SQLite"), ("linux", "x86_64", "pysqlite3"), ("linux", "aarch64", "a Python")],
)
def test_the_remedy_for_an_old_sqlite_is_one_that_the_system_has(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, expected: str, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    spec = importlib.util.find_spec(store.__name__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert expected in module._NEWER_SQLITE
