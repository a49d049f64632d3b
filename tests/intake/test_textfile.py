"""Lists, profiles and manifests as Windows, Macs, `find -print0` and PowerShell write them; `~` where no shell is."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import rig
from hypothesis import given
from hypothesis import strategies as st
from program import FAST_MODEL, Program, unmeasured

from batchsr.errors import ConfigError
from batchsr.settings import textfile, tomlfile

LISTS = {
    "plain": b"a.wav\nb c.wav\n",
    "without an end": b"a.wav\nb c.wav",
    "CRLF": b"a.wav\r\nb c.wav\r\n",
    "CR": b"a.wav\rb c.wav\r",
    "BOM": b"\xef\xbb\xbfa.wav\nb c.wav\n",
    "BOM and CRLF": b"\xef\xbb\xbfa.wav\r\n\r\nb c.wav\r\n",
    "NUL": b"a.wav\0b c.wav\0",
    "UTF-16 little": "\ufeffa.wav\r\nb c.wav\r\n".encode("utf-16-le"),
    "UTF-16 big": "\ufeffa.wav\nb c.wav\n".encode("utf-16-be"),
    "empty lines": b"\n\na.wav\n \nb c.wav\n\n",
}


@pytest.mark.parametrize("data", LISTS.values(), ids=LISTS)
def test_a_list_is_read_however_it_was_written(data: bytes) -> None:
    assert list(textfile.paths(data, "list.txt")) == ["a.wav", "b c.wav"]


@given(st.lists(st.binary(min_size=1).filter(lambda b: b.strip() and not set(b) & {0, 10, 13}), max_size=20))
def test_any_bytes_of_names_come_through(names: list[bytes]) -> None:
    for end, null in ((b"\n", False), (b"\r\n", False), (b"\0", True)):
        data = b"a\n"[: 2 * (end == b"\n")] + b"".join(name + end for name in names)
        if data.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
            return
        expected = [*(["a"] if end == b"\n" else []), *map(os.fsdecode, names)]
        assert list(textfile.paths(data, "list", null=null)) == expected


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32"])
def test_what_cannot_be_told_is_said_plainly(codec: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="UTF-"):
        list(textfile.paths("a.wav\r\nb.wav\r\n".encode(codec), "list.txt"))
    (tmp_path / "p.toml").write_bytes("seed = 1\n".encode(codec))
    with pytest.raises(ConfigError, match=r"p\.toml.*UTF-.*save it as UTF-8"):
        tomlfile.read(tmp_path / "p.toml")


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbfseed = 1\n",
        b"seed = 1\r\n",
        b"\xef\xbb\xbf# x\r\nseed = 1\r\n",
        "\ufeffseed = 1\n".encode("utf-16-le"),
    ],
    ids=["BOM", "CRLF", "both", "UTF-16"],
)
def test_toml_is_read_however_it_was_written(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_bytes(data)
    assert tomlfile.read(tmp_path / "p.toml") == {"seed": 1}


def test_a_nul_in_toml_is_told(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_bytes(b"seed = 1\0\n")
    with pytest.raises(ConfigError, match="not TOML"):
        tomlfile.read(tmp_path / "p.toml")


def test_lists_and_manifests_with_marks_go_through_the_program(program: Program) -> None:
    rig.record(program.folder / "a.wav", 0.05)
    rig.record(program.folder / "b c.wav", 0.05)
    for name, data in LISTS.items():
        (program.folder / f"{name}.txt").write_bytes(data)
        told = program.run("enqueue", "--dry-run", "--from-file", f"{name}.txt").stdout
        assert told.count("queued") == 2, name
    (program.folder / "job.toml").write_bytes(b'\xef\xbb\xbfsources.lists = ["BOM and CRLF.txt"]\r\n')
    assert program.run("enqueue", "--job", "job.toml").stdout.count("queued") == 2


def test_a_tilde_is_the_home_folder_where_no_shell_replaced_it(program: Program) -> None:
    program.environment |= {"HOME": str(program.folder / "home")} | FAST_MODEL
    home = program.folder / "home"
    rig.record(home / "in" / "a.wav", 0.05)
    (home / "list.txt").write_text("~/in/a.wav\n")
    program.run("--db", "~/q.db", "enqueue", "--from-file", "~/list.txt", "--out", "~/out")
    program.run("--db", "~/q.db", "work", "--variant", "fast", "--min-free", "0")
    assert (home / "out" / "a_upsampled.wav").is_file()
    program.run("--db", "~/q.db", "watch", "~/in", "--once", "--settle", "0.1", "--out", "~/out", "--done", "~/done")
    assert (home / "done" / "a.wav").is_file()
    unit = program.run(
        "--db", "~/q.db", "service", "print", "systemd", "~/in", "--out=~/out", "--done", "~/done"
    ).stdout
    assert f"{home}/in" in unit
    assert "~" not in unit.split("ExecStart=")[1].splitlines()[0]
    assert not (program.folder / "~").exists()


def test_a_file_that_is_called_tilde_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~").mkdir()
    assert textfile.expanded("~") == "~"
    assert textfile.expanded("~/x") == os.path.expanduser("~/x")
    assert textfile.expanded("x~") == "x~"


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root to become another user")
def test_a_user_that_nobody_knows_and_without_a_home_works_with_a_database_given(
    program: Program, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(lambda: shutil.rmtree(folder))
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    rig.record(folder / "a.wav", 0.05)
    for path in (folder, folder / "a.wav"):
        os.chown(path, 54321, 54321)
    environment = {k: v for k, v in (program.environment | FAST_MODEL).items() if k not in ("HOME", "USER", "LOGNAME")}
    environment = unmeasured(environment) | {"PYTHONDONTWRITEBYTECODE": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
        command += program.command("--db", str(folder / "q.db"), *arguments)
        return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)

    for arguments in (
        ("enqueue", "a.wav"),
        ("work", "--variant", "fast", "--min-free", "0"),
        ("list",),
        ("doctor",),
        ("gc",),
        ("config", "list"),
    ):
        result = run(*arguments)
        assert result.returncode == 0, result.stderr
    assert (folder / "a_upsampled.wav").is_file()
    refused = run("enqueue", "a.wav", "--out", "~/out")
    assert refused.returncode == 2
    assert "there is no home folder" in refused.stderr
    assert {path.name for path in folder.iterdir()} >= {"a.wav", "a_upsampled.wav", "q.db"}
    assert not (folder / "~").exists()
