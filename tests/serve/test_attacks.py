"""What a stranger may try at the server, and what he gets."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import rig
from served import Served, serving

from batchsr.serve import guard, server, stream
from batchsr.serve.guard import AccessRules, Guard


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8484",
        "127.0.0.1.evil.example",
        "",
        "8.8.8.8",
        "[::2]",
        "[::1].evil.example",
        "evil@localhost",
        "localhost/evil.example",
        "localhost:evil",
        "localhost:1:2",
    ],
)
def test_a_foreign_host_is_refused(served: Served, host: str) -> None:
    assert served.ask("/", Host=host).status in (400, 421)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8484", "127.1.2.3"])
def test_names_of_this_machine_are_known(served: Served, host: str) -> None:
    assert served.ask("/healthz", Host=host).status == 200


def test_beyond_loopback_addresses_and_own_names_are_known_and_others_are_not() -> None:
    def knows(rules: AccessRules, host: str) -> bool:
        return Guard(lambda *_: None, rules).knows(host)  # type: ignore[arg-type, return-value]

    wide = AccessRules(False, names=("archive.example",))
    assert knows(wide, "10.0.0.7:8484")
    assert knows(wide, socket.gethostname())
    assert knows(wide, "archive.example")
    assert not knows(wide, "evil.example")
    assert not knows(AccessRules(True), "10.0.0.7:8484")
    assert not knows(AccessRules(True), "[::1")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1.evil.example", "http://[::1"])
def test_a_forged_origin_is_refused(served: Served, origin: str) -> None:
    assert served.ask("/api/v1/jobs", Origin=origin).status == 403
    assert served.ask("/", method="POST", body=b"", Origin=origin).status == 403


def test_a_page_elsewhere_gets_nothing_and_its_forms_neither(served: Served) -> None:
    assert served.ask("/", method="POST", body=b"").status == 403
    assert served.ask("/files/1/sound/source", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors").status == 403
    assert served.ask("/healthz", Origin=served.address).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_but_reading_is_done(served: Served, method: str) -> None:
    for path in ("/", "/files", "/files/1", "/api/v1/jobs/1"):
        assert served.ask(path, method=method, Origin=served.address).status == 405


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/files/1/sound/../../../etc/passwd",
        "/files/1/sound/%2fetc%2fpasswd",
        "/files/../../etc/passwd",
        "/files/1/clips/..%2f..%2fx.ogg",
        "/files/-1",
        "/files/1e3",
        "/files/9223372036854775808",
        "//evil.example/",
        "/%00",
        "/files/1/",
    ],
)
def test_no_path_leads_out_of_the_queue(served: Served, path: str) -> None:
    answer = served.ask(path)
    assert answer.status == 404
    assert b"root:" not in answer.body


def test_only_the_files_that_the_queue_knows_are_sent(tmp_path: Path) -> None:
    sources = [rig.record(tmp_path / f"{name}.wav", 0.3, seed=n) for n, name in enumerate("abcd")]
    rig.enqueue(tmp_path / "queue.db", sources)
    rig.work(tmp_path / "queue.db")
    secret = tmp_path / "secret"
    secret.write_bytes(b"x" * sources[0].stat().st_size)
    sources[0].unlink()
    sources[0].symlink_to(secret)
    sources[1].unlink()
    os.mkfifo(sources[1])
    sources[2].unlink()
    output = Path(rig.job_of(tmp_path / "queue.db", 4).output)
    output.write_bytes(output.read_bytes() + b"more")
    with serving(tmp_path / "queue.db") as one:
        assert [one.ask(f"/files/{n}/sound/source").status for n in (1, 2, 3, 4)] == [409, 409, 409, 200]
        assert one.ask("/files/4/sound/output").status == 409
        assert one.ask("/files/1/heard.json").status == 409
        assert b"xxx" not in one.ask("/files/1/sound/source").body


def test_a_hostile_name_is_text_on_every_page(served: Served) -> None:
    for path in ("/", "/files", "/files/2", "/files?q=%3Cscript%3Ealert(1)%3C/script%3E&error=%22%3E%3Cb%3E"):
        text = served.ask(path, Accept="text/html").text
        assert "<img" not in text
        assert "\x1b" not in text
        assert "<script>" not in text
        assert 'value=""><b>' not in text
    assert "&lt;img" in served.ask("/files/2").text


@pytest.mark.parametrize("path", ["/", "/files/1/sound/output", "/static/serve.js", "/api/v1/status", "/nothing"])
def test_every_answer_forbids_what_a_page_does_not_need(served: Served, path: str) -> None:
    headers = served.ask(path).headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "server" not in headers


def test_a_giant_body_is_refused_before_and_while_it_comes(served: Served) -> None:
    origin = served.address
    assert served.ask("/", method="POST", body=b"", Origin=origin, Content_Length="99999999999").status == 413
    assert served.ask("/", method="POST", body=b"x" * (guard.MOST_BODY_BYTES + 1), Origin=origin).status == 413
    assert served.ask("/", method="POST", Origin=origin, Content_Length="-1").status in (400, 413)
    client = socket.create_connection(("127.0.0.1", served.port), timeout=60)
    client.sendall(
        b"POST /do HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n\r\n" + b"4000\r\n" + b"a" * 0x4000 + b"\r\n"
    )
    client.sendall((b"4000\r\n" + b"a" * 0x4000 + b"\r\n") * (guard.MOST_BODY_BYTES // 0x4000))
    assert client.recv(65536).startswith(b"HTTP/1.1 413 ")
    client.close()


def test_a_giant_address_is_refused(served: Served) -> None:
    assert served.ask("/" + "a" * 50_000).status == 414
    assert served.ask("/files?q=" + "a" * 2_000).status == 400


def test_a_slow_client_is_left_and_others_are_served_meanwhile(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_S", 0.5)
    with serving(archive / "queue.db") as one:
        silent = socket.create_connection(("127.0.0.1", one.port))
        slow = socket.create_connection(("127.0.0.1", one.port))
        slow.sendall(b"GET / HTTP/1.1\r\nHost: local")
        second = socket.create_connection(("127.0.0.1", one.port))
        second.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        second.settimeout(60)
        assert b"200 OK" in second.recv(65536)
        second.sendall(b"GET / HTTP/1.1\r\nHo")
        assert one.ask("/healthz").status == 200
        for client in (silent, slow, second):
            client.settimeout(60)
            try:
                while client.recv(65536):  # b"" or a reset when it is closed; a timeout fails
                    pass
            except ConnectionResetError:
                pass
            client.close()


def test_a_body_that_drips_is_left_when_its_time_is_up(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_S", 0.6)
    with serving(archive / "queue.db") as one:
        client = socket.create_connection(("127.0.0.1", one.port))
        client.sendall(
            b"POST /do HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100000\r\n\r\n"
        )
        client.settimeout(0.1)  # a part every tenth of a second, each far within the limit
        said = b""
        for _ in range(600):
            try:
                client.sendall(b"a")
                said += client.recv(65536)
            except TimeoutError:
                continue
            except (ConnectionResetError, BrokenPipeError):
                pass
            break
        client.close()
        assert said.startswith(b"HTTP/1.1 408 ")
        assert one.ask("/healthz").status == 200


def test_no_more_streams_and_connections_than_there_may_be(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_STREAMS", 2)
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 6)

    def listen(port: int) -> tuple[socket.socket, bytes]:
        client = socket.create_connection(("127.0.0.1", port))
        client.settimeout(60)
        client.sendall(b"GET /changes HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return client, client.recv(65536)

    def wait(condition: Any) -> None:
        ends_s = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < ends_s
            time.sleep(0.02)

    with serving(archive / "queue.db") as one:
        clients = [listen(one.port) for _ in range(3)]
        assert [b" 200 " in said for _, said in clients] == [True, True, False]
        assert b" 503 " in clients[2][1]
        assert one.made.changes.listeners == 2
        for client, _ in clients:
            client.close()
        wait(lambda: one.made.changes.listeners == 0)  # who goes away leaves nothing behind
        many = [socket.create_connection(("127.0.0.1", one.port)) for _ in range(6)]
        wait(lambda: one.ask("/healthz").status == 503)
        for client in many:
            client.close()
        wait(lambda: one.ask("/healthz").status == 200)


def test_a_client_that_takes_nothing_of_its_answer_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SEND_S", 0.5)
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 2)
    rig.enqueue(tmp_path / "queue.db", [rig.record(tmp_path / "long.wav", 1_000.0)])  # 16 MB, more than sockets hold
    with serving(tmp_path / "queue.db") as one:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", one.port))
        client.sendall(b"GET /files/1/sound/source HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
        ends_s = time.monotonic() + 60
        while one.ask("/healthz").status == 503:  # until its place is free
            assert time.monotonic() < ends_s
            time.sleep(0.05)
        client.close()
