"""What programs get: the command line's shapes, figures, sound in ranges, news of changes."""

from __future__ import annotations

import json
import re
import socket
import sys
from pathlib import Path

import pytest
import rig
from person import Person
from served import Served, serving
from test_json import fit

from batchsr.serve.guard import AccessRules


def test_the_answers_have_the_shapes_of_the_command_line(served: Served, archive: Path) -> None:
    person = Person(archive)
    assert fit("status", served.ask("/api/v1/status").text) == fit("status", person.run("status", "--json").out)
    assert fit("list", served.ask("/api/v1/jobs").text) == fit("list", person.run("list", "--json").out)
    assert fit("show", served.ask("/api/v1/jobs/3").text) == fit("show", person.run("show", "3", "--json").out)
    batch = served.ask("/api/v1/status?batch=reels").text
    assert fit("status", batch) == fit("status", person.run("status", "--batch", "reels", "--json").out)
    assert served.ask("/api/v1/status?batch=nowhere").status == 404
    assert served.ask("/api/v1/jobs/99").status == 404


def test_jobs_are_filtered_and_paged(served: Served) -> None:
    failed = fit("list", served.ask("/api/v1/jobs?error=input.*&state=failed").text)
    assert [one["id"] for one in failed] == [3, 4, 5]
    path, found = "/api/v1/jobs?sort=path&limit=2", []
    while path:
        answer = served.ask(path)
        found += [json.loads(line)["id"] for line in answer.text.splitlines()]
        more = re.fullmatch(r'<(.*)>; rel="next"', answer.headers.get("link", ""))
        path = f"/api/v1/jobs{more[1]}" if more else ""
    assert sorted(found) == [1, 2, 3, 4, 5, 6]
    assert served.ask("/api/v1/jobs?limit=0").status == 400
    assert served.ask("/api/v1/jobs?sort=size").status == 400


def test_figures_are_in_the_form_of_prometheus(served: Served) -> None:
    text = served.ask("/metrics").text
    for line in text.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) batchsr_\w+ .+|batchsr_\w+(\{\w+="[^"\n]*"\})? [0-9.e+-]+', line), line
    assert 'batchsr_jobs{state="failed"} 3' in text
    assert 'batchsr_failed_jobs{code="input.format"} 3' in text
    assert "batchsr_paused 0" in text
    assert served.ask("/healthz").text == "ok\n"


def test_sound_is_sent_whole_and_in_ranges(served: Served, archive: Path) -> None:
    whole = (archive / "in" / "tape 1.wav").read_bytes()
    answer = served.ask("/files/1/sound/source")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, whole, "audio/wav")
    for asked, part in {
        "bytes=0-9": whole[:10],
        "bytes=100-": whole[100:],
        "bytes=-7": whole[-7:],
        f"bytes=5-{10**15}": whole[5:],
    }.items():
        answer = served.ask("/files/1/sound/source", Range=asked)
        assert (answer.status, answer.body) == (206, part), asked
        assert answer.headers["content-range"].endswith(f"/{len(whole)}")
    for asked in (f"bytes={len(whole)}-", "bytes=9-3", "bytes=-0"):
        assert served.ask("/files/1/sound/source", Range=asked).status == 416, asked
    for asked in ("bytes=-", "bytes=0-1,5-6", "lines=1-2", "nonsense"):
        assert served.ask("/files/1/sound/source", Range=asked).body == whole, asked
    assert served.ask("/files/1/sound/output").body.startswith(b"RIFF")
    assert served.ask("/files/3/sound/output").status == 409
    head = served.ask("/files/1/sound/source", method="HEAD")
    assert (head.body, head.headers["content-length"]) == (b"", str(len(whole)))


def test_a_change_is_told_and_a_server_that_ends_says_so(archive: Path, tmp_path: Path) -> None:
    rig.enqueue(tmp_path / "queue.db", [rig.record(tmp_path / "a.wav", 0.3)])
    with serving(tmp_path / "queue.db") as one:
        client = socket.create_connection(("127.0.0.1", one.port))
        client.settimeout(60)
        client.sendall(b"GET /changes HTTP/1.1\r\nHost: localhost\r\n\r\n")
        lines = client.makefile("rb")

        def told() -> bytes:
            for line in lines:
                if line.startswith(b"data:"):
                    return line
            raise AssertionError("the stream ended")

        first = told()
        Person(tmp_path).run("pause", "the disk is swapped")
        assert told() != first
        assert "the disk is swapped" in one.ask("/").text
    assert lines.read() is not None  # it ended: the server waits for nobody
    client.close()


def test_behind_a_proxy_every_address_bears_the_prefix(archive: Path) -> None:
    with serving(archive / "queue.db", AccessRules(True, ("archive.example",), "/batchsr")) as one:
        for path in ("/batchsr/files", "/files"):  # whether the proxy takes it away or not
            text = one.ask(path, Host="archive.example").text
            addresses = re.findall(r'(?:href|src|action|data-\w+)="([^"]*)"', text)
            assert len(addresses) > 10
            assert [a for a in addresses if not a.startswith(("/batchsr/", "#", "data:"))] == []


def test_the_server_needs_neither_model_nor_audio() -> None:
    import subprocess

    program = (
        "import sys, batchsr.serve.server\n"
        "heavy = {'mlx', 'numba', 'numpy', 'scipy', 'soundfile', 'soxr', 'huggingface_hub'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--bind", "nonsense"), "not an address"),
        (("--bind", "127.0.0.1:99999"), "not an address"),
        (("--prefix", "batchsr"), "not a path"),
    ],
)
def test_what_cannot_be_served_is_said_at_once(archive: Path, words: tuple[str, ...], said: str) -> None:
    assert said in Person(archive).run("serve", *words, code=2).err


def test_a_port_that_is_taken_is_named(archive: Path, served: Served) -> None:
    assert "another server" in Person(archive).run("serve", "--bind", f"127.0.0.1:{served.port}", code=74).err


def test_without_its_packages_one_sentence_says_what_to_install(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.startswith(("batchsr.serve", "starlette", "uvicorn"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("batchsr.serve", raising=False)
    monkeypatch.setitem(sys.modules, "starlette", None)
    assert "pip install 'batchsr[serve]'" in Person(archive).run("serve", code=2).err
