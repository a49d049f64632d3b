"""A hub that lies, stalls, breaks off or refuses: each a sentence with a remedy, in time, and nothing false stays."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from batchsr import storage
from batchsr.errors import EXIT_NO_MODEL
from batchsr.models import checksums, hub

from .hub_server import COMMIT
from .hub_server import hub as hub_server
from .test_hub import FILES, NOWHERE, REPOSITORY, ask, weights_file

WEIGHTS = FILES[f"{REPOSITORY}/model.safetensors"]
TOKEN = "hf_aSecretThatNobodyMayRead"
QUICK = {"HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_TOKEN": TOKEN}
"""A hub may be silent for a second, so that the tests need not wait for long."""
Odd = Callable[[BaseHTTPRequestHandler], bool]


def of_weights(request: BaseHTTPRequestHandler, method: str = "GET") -> bool:
    return request.command == method and request.path.endswith("model.safetensors")


def send(request: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> bool:
    request.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)
    return True


def status(code: int, method: str = "HEAD", **headers: str) -> Odd:
    return lambda request: request.command == method and send(request, code, b"", **headers)


def refused(home: Path, odd: Odd, *words: str, limit_s: float = 40, **variables: str) -> dict[str, Any]:
    """What `pull` says of a hub that answers like that; with no model left behind."""
    start = time.monotonic()
    with hub_server(FILES, odd=odd) as (endpoint, _):
        told = ask("hub.pull('int4')", home, endpoint, **{**QUICK, **variables})
    assert time.monotonic() - start < limit_s
    assert (told.get("error"), told.get("exit")) == ("ModelUnavailable", EXIT_NO_MODEL), told
    text = told["text"]
    assert all(word in text for word in words), text
    assert "--variant tiny works now" in text
    assert len(text) < 2000
    assert TOKEN not in text + told["stderr"]
    assert "Traceback" not in told["stderr"]
    assert not is_cached(home)
    return told


def is_cached(home: Path) -> bool:
    """Whether the first model lies below that home; asked in this process, as the list reads folders and variables."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("HF_", "HUGGINGFACE_"))]:
            patch.delenv(name)
        patch.setenv("HF_HOME", str(home))
        patch.setenv("XDG_CACHE_HOME", str(home))
        found: bool = hub.list_models()[0]["cached"]
        return found


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize(
    ("code", "headers", "words"),
    [
        (401, {}, ("token", "401")),
        (403, {}, ("refuses access", "403")),
        (404, {}, ("404", "HF_ENDPOINT")),
        (407, {}, ("proxy", "407")),
        (418, {}, ("418",)),
        (429, {"Retry_After": "3600"}, ("429", "wait 3600 s")),
        (429, {"Retry_After": "Wed, 21 Oct 2099 07:28:00 GMT"}, ("429", "wait a while")),
        (500, {}, ("500", "later")),
        (503, {"Retry_After": "86400"}, ("503", "later")),
    ],
)
def test_an_answer_that_is_an_error_is_told_with_a_remedy(
    tmp_path: Path, code: int, headers: dict[str, str], words: tuple[str, ...], method: str
) -> None:
    refused(tmp_path, status(code, method, **headers), *words)


def redirect_to_itself(method: str) -> Odd:
    return lambda request: request.command == method and send(request, 302, b"", Location=request.path)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_redirect_loop_is_told(tmp_path: Path, method: str) -> None:
    refused(tmp_path, redirect_to_itself(method), "redirects")


LOGIN = b"<!DOCTYPE html><title>Welcome to the hotel</title><form>Room, name</form>"


def login_page(request: BaseHTTPRequestHandler) -> bool:
    return send(request, 200, LOGIN, Content_Type="text/html")


def login_elsewhere(request: BaseHTTPRequestHandler) -> bool:
    return send(request, 302, b"", Location="http://login.invalid/?from=hub")


def login_for_weights(request: BaseHTTPRequestHandler) -> bool:
    return of_weights(request) and send(request, 200, LOGIN, Content_Type="text/html")


@pytest.mark.parametrize("odd", [login_page, login_elsewhere])
def test_the_login_page_of_a_network_is_told(tmp_path: Path, odd: Odd) -> None:
    refused(tmp_path, odd, "not the hub", "log in")


def login_with_206(request: BaseHTTPRequestHandler) -> bool:
    more = {"Content_Range": f"bytes 20000-{len(WEIGHTS) - 1}/{len(WEIGHTS)}", "Content_Type": "TEXT/HTML; charset=x"}
    return of_weights(request) and send(request, 206, LOGIN, **more)


def other_length(request: BaseHTTPRequestHandler) -> bool:
    return of_weights(request) and send(request, 200, b"busy", Content_Type="application/octet-stream")


def other_total(request: BaseHTTPRequestHandler) -> bool:
    return of_weights(request) and send(request, 206, b"x", Content_Range="bytes 20000-20000/20001")


@pytest.mark.parametrize(
    ("odd", "word"),
    [(login_for_weights, "log in"), (login_with_206, "log in"), (other_length, "4 bytes"), (other_total, "20001")],
)
def test_what_is_not_the_file_is_not_kept_and_what_was_kept_is_not_lost(tmp_path: Path, odd: Odd, word: str) -> None:
    refused(tmp_path, Cut(times=100, after=10_000), "broke off")
    (part,) = tmp_path.rglob("*-part")
    assert part.stat().st_size == 20_000
    refused(tmp_path, odd, word)
    assert part.read_bytes() == WEIGHTS[:20_000]
    cut = Cut(times=0, after=0)
    with hub_server(FILES, odd=cut) as (endpoint, _):
        assert ask("hub.pull('int4')", tmp_path, endpoint)["answer"][3] == COMMIT
    assert cut.ranges == ["bytes=20000-"]


@pytest.mark.parametrize("odd", [login_for_weights, other_length])
def test_of_a_login_page_in_place_of_the_weights_nothing_stays(tmp_path: Path, odd: Odd) -> None:
    refused(tmp_path, odd)
    assert not [path for path in tmp_path.rglob("*-part") if path.stat().st_size]
    assert pulled(tmp_path)


def test_a_part_that_was_another_file_s_is_fetched_once_more_from_the_beginning(tmp_path: Path) -> None:
    refused(tmp_path, Cut(times=100, after=10_000), "broke off")
    (part,) = tmp_path.rglob("*-part")
    part.write_bytes(b"<html>" * 1000)
    cut = Cut(times=0, after=0)
    with hub_server(FILES, odd=cut) as (endpoint, _):
        folder = Path(ask("hub.pull('int4')", tmp_path, endpoint)["answer"][1])
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert cut.ranges == ["bytes=6000-", None]


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("config.json", b"<html>no</html>", "JSON"),
        ("config.json", b'{"model_type": "whisper"}', "another model"),
        ("config.json", b'{"sampleRate": 16000}', "sampleRate"),
        ("config.json", b"{" + b" " * (3 << 20) + b"}", "bytes"),
        ("model.safetensors", b"PK" * 400_000, "safetensors"),
        ("model.safetensors", weights_file("model.encoder.weight"), "another model"),
        ("model.safetensors", WEIGHTS[:-1], "bytes"),
    ],
)
def test_what_is_no_bundle_is_refused_though_its_checksum_is_right(
    tmp_path: Path, name: str, content: bytes, word: str
) -> None:
    folder = pulled(tmp_path)
    newer = "f" * 40
    with hub_server({**FILES, f"{REPOSITORY}/{name}": content}, newer) as (endpoint, _):
        told = ask("hub.pull('int4')", tmp_path, endpoint)
    assert told["error"] == "BundleError", told
    assert word in told["text"]
    assert REPOSITORY in told["text"]
    assert len(told["text"]) < 2000
    assert ask("hub.resolve('int4')", tmp_path)["answer"][1] == str(folder)  # the one before is used


@pytest.mark.parametrize("name", ["HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"])
def test_a_time_limit_that_is_no_number_is_named(tmp_path: Path, name: str) -> None:
    told = ask("hub.pull('int4')", tmp_path, **{name: "soon"})
    assert told["error"] == "ModelUnavailable"
    assert name in told["text"]
    assert "address" not in told["text"]


def other_weights(request: BaseHTTPRequestHandler) -> bool:
    return of_weights(request) and send(request, 200, bytes(len(WEIGHTS)))


def more_weights(request: BaseHTTPRequestHandler) -> bool:
    return of_weights(request) and send(request, 200, WEIGHTS + b"more")


def other_config(request: BaseHTTPRequestHandler) -> bool:
    return (
        request.command == "GET" and request.path.endswith("config.json") and send(request, 200, b'{"format": "int8"}')
    )


@pytest.mark.parametrize("odd", [other_weights, more_weights, other_config])
def test_of_a_lying_answer_nothing_stays(tmp_path: Path, odd: Odd) -> None:
    refused(tmp_path, odd, "proxy")
    left = [path.name for path in (tmp_path / "hub").rglob("*") if path.is_file() and path.stat().st_size]
    assert hashlib.sha256(WEIGHTS).hexdigest() not in left
    with hub_server(FILES) as (endpoint, _):
        folder = Path(ask("hub.pull('int4')", tmp_path, endpoint)["answer"][1])
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    "headers", [{"X_Repo_Commit": "../../../outside"}, {"ETag": '"../../outside"'}, {"ETag": '"x"'}]
)
def test_what_would_be_a_strange_file_name_is_no_answer(tmp_path: Path, headers: dict[str, str]) -> None:
    good = {"X_Repo_Commit": COMMIT, "ETag": f'"{"0" * 64}"'}
    refused(tmp_path / "home", lambda request: send(request, 200, b"", **{**good, **headers}))
    assert not (tmp_path / "outside").exists()


class Cut:
    """A hub that breaks off in the middle of the weights, so many times."""

    def __init__(self, times: int, after: int) -> None:
        self.times = times
        self.after = after
        self.ranges: list[str | None] = []

    def __call__(self, request: BaseHTTPRequestHandler) -> bool:
        if not of_weights(request):
            return False
        self.ranges.append(request.headers.get("Range"))
        if self.times == 0:
            return False
        self.times -= 1
        start = int((request.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(WEIGHTS) - start))
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(WEIGHTS) - 1}/{len(WEIGHTS)}")
        request.end_headers()
        request.wfile.write(WEIGHTS[start : start + self.after])
        request.wfile.flush()
        request.close_connection = True
        return True


def test_a_download_that_is_cut_goes_on_where_it_was(tmp_path: Path) -> None:
    cut = Cut(times=5, after=100_000)
    with hub_server(FILES, odd=cut) as (endpoint, _):
        folder = Path(ask("hub.pull('int4')", tmp_path, endpoint, **QUICK)["answer"][1])
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert cut.ranges == [None, *(f"bytes={n}00000-" for n in range(1, 6))]


def test_the_next_process_goes_on_where_a_cut_one_was(tmp_path: Path) -> None:
    refused(tmp_path, Cut(times=100, after=10_000), "broke off")
    cut = Cut(times=0, after=0)
    with hub_server(FILES, odd=cut) as (endpoint, _):
        folder = Path(ask("hub.pull('int4')", tmp_path, endpoint)["answer"][1])
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert cut.ranges == ["bytes=20000-"]


@pytest.mark.parametrize("plant", [Path.symlink_to, Path.hardlink_to], ids=["symlink", "hard link"])
def test_nothing_is_written_through_what_lies_under_the_part_file_s_name(
    tmp_path: Path, plant: Callable[[Path, Path], None]
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    blobs = tmp_path / "hub" / "models--aufklarer--FlashSR-MLX-4bit" / "blobs"
    blobs.mkdir(parents=True)
    plant(blobs / f"{hashlib.sha256(WEIGHTS).hexdigest()}.batchsr-part", precious)
    folder = pulled(tmp_path)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert precious.read_bytes() == b"mine"


def test_each_connection_asks_the_hub_anew_where_the_bytes_are(tmp_path: Path) -> None:
    """The address that a hub redirects to is signed for an hour, and a slow download takes longer."""
    used: list[str] = []

    def storage_of_the_hub(request: BaseHTTPRequestHandler) -> bool:
        if request.path in used:
            return send(request, 403)
        used.append(request.path)
        start = int((request.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(WEIGHTS) - start))
        request.send_header("Content-Range", f"bytes {start}-{len(WEIGHTS) - 1}/{len(WEIGHTS)}")
        request.end_headers()
        request.wfile.write(WEIGHTS[start : start + 400_000])
        request.close_connection = True
        return True

    with hub_server({}, odd=storage_of_the_hub) as (elsewhere, _):
        digest = hashlib.sha256(WEIGHTS).hexdigest()
        more = {"X_Linked_Etag": f'"{digest}"', "X_Linked_Size": str(len(WEIGHTS)), "X_Repo_Commit": COMMIT}

        def odd(request: BaseHTTPRequestHandler) -> bool:
            where = f"{elsewhere.replace('127.0.0.1', 'localhost')}/{time.monotonic_ns()}"
            return request.path.endswith("model.safetensors") and send(request, 302, b"", Location=where, **more)

        with hub_server(FILES, odd=odd) as (endpoint, _):
            folder = Path(ask("hub.pull('int4')", tmp_path, endpoint)["answer"][1])
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert len(used) == 3


def test_a_hub_that_knows_no_ranges_is_asked_for_all_of_it(tmp_path: Path) -> None:
    refused(tmp_path, Cut(times=100, after=10_000))
    with hub_server(FILES, odd=lambda r: of_weights(r) and send(r, 200, WEIGHTS)) as (endpoint, _):
        folder = Path(ask("hub.pull('int4')", tmp_path, endpoint)["answer"][1])
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def stalls(method: str, ending: threading.Event) -> Odd:
    def odd(request: BaseHTTPRequestHandler) -> bool:
        if request.command != method:
            return False
        if method == "GET":
            request.send_response(200)
            request.send_header("Content-Length", str(len(WEIGHTS)))
            request.end_headers()
            request.wfile.write(b"{")
            request.wfile.flush()
        ending.wait(60)
        request.close_connection = True
        return True

    return odd


def trickles(ending: threading.Event) -> Odd:
    def odd(request: BaseHTTPRequestHandler) -> bool:
        if not of_weights(request):
            return False
        request.send_response(200)
        request.send_header("Content-Length", str(len(WEIGHTS)))
        request.end_headers()
        while not ending.wait(0.3):
            request.wfile.write(b"x")
            request.wfile.flush()
        request.close_connection = True
        return True

    return odd


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_hub_that_falls_silent_is_given_up(tmp_path: Path, method: str) -> None:
    ending = threading.Event()
    try:
        refused(tmp_path, stalls(method, ending), limit_s=50)
    finally:
        ending.set()


def test_a_hub_that_sends_a_byte_now_and_then_is_given_up(tmp_path: Path) -> None:
    ending = threading.Event()
    try:
        refused(tmp_path, trickles(ending), "next to nothing", limit_s=50)
    finally:
        ending.set()


@pytest.mark.parametrize("token", ["hf_\u00fcml\u00e4ut", "hf_a\tb", "hf a"])
def test_a_token_that_cannot_be_one_is_left_out_and_not_repeated(tmp_path: Path, token: str) -> None:
    sent = []
    with hub_server(FILES, odd=lambda r: bool(sent.append(r.headers.get("Authorization")))) as (endpoint, _):
        got = ask("hub.pull('int4')", tmp_path, endpoint, HF_TOKEN=token)
    assert got["answer"][3] == COMMIT
    assert set(sent) == {None}
    assert "HF_TOKEN" in got["stderr"]
    assert token not in got["stderr"]


def test_a_good_token_is_sent_to_the_hub_and_to_no_other_host(tmp_path: Path) -> None:
    ours: list[str | None] = []
    theirs: list[str | None] = []
    with hub_server(FILES, odd=lambda r: bool(theirs.append(r.headers.get("Authorization")))) as (storage_url, _):
        elsewhere = storage_url.replace("127.0.0.1", "localhost")

        def odd(request: BaseHTTPRequestHandler) -> bool:
            ours.append(request.headers.get("Authorization"))
            if not request.path.endswith("model.safetensors"):
                return False
            digest = hashlib.sha256(WEIGHTS).hexdigest()
            more = {"X_Linked_Etag": f'"{digest}"', "X_Linked_Size": str(len(WEIGHTS)), "X_Repo_Commit": COMMIT}
            return send(request, 302, b"", Location=elsewhere + request.path, **more)

        with hub_server(FILES, odd=odd) as (endpoint, _):
            got = ask("hub.pull('int4')", tmp_path, endpoint, HF_TOKEN=TOKEN)
    assert got["answer"][3] == COMMIT
    assert f"Bearer {TOKEN}" in ours
    assert theirs == [None]


@pytest.mark.parametrize(
    "endpoint",
    [
        "ftp://x",
        "http://[",
        "not a url",
        "http://",
        "http://127.0.0.1:99999",
        "http://user:hunter2@127.0.0.1:9",
        "x" * 9999,
    ],
)
def test_an_address_that_makes_no_sense_is_told(tmp_path: Path, endpoint: str) -> None:
    told = ask("hub.pull('int4')", tmp_path, endpoint)
    assert told["error"] == "ModelUnavailable"
    assert "HF_ENDPOINT" in told["text"]
    assert "hunter2" not in told["text"] + told["stderr"]
    assert len(told["text"]) < 2000
    assert ask("hub.resolve('tiny')", tmp_path, endpoint)["answer"][0] == "tiny"


def test_of_several_processes_one_fetches_and_the_others_wait(tmp_path: Path) -> None:
    slow = threading.Event()

    def odd(request: BaseHTTPRequestHandler) -> bool:
        if not of_weights(request):
            return False
        request.send_response(200)
        request.send_header("Content-Length", str(len(WEIGHTS)))
        request.end_headers()
        for start in range(0, len(WEIGHTS), 100_000):
            slow.wait(0.2)
            request.wfile.write(WEIGHTS[start : start + 100_000])
        return True

    with hub_server(FILES, odd=odd) as (endpoint, requests), ThreadPoolExecutor(3) as several:
        answers = list(several.map(lambda _: ask("hub.resolve('int4')", tmp_path, endpoint), range(3)))
    assert [answer.get("answer", answer)[3] for answer in answers] == [COMMIT] * 3
    assert [path.rpartition("/")[2] for method, path in requests if method == "GET"].count("model.safetensors") == 1
    assert not list(tmp_path.rglob("*-part"))


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"HF_HOME": "/somewhere/$USER_"},
        {"HF_HOME": "~/x"},
        {"HF_HUB_CACHE": "/else/where", "HF_HOME": "/x"},
        {"HUGGINGFACE_HUB_CACHE": "/old"},
        {"XDG_CACHE_HOME": "/xdg"},
    ],
)
def test_the_cache_is_where_the_library_has_it(variables: dict[str, str]) -> None:
    program = (
        "from batchsr.models import hub_client; import huggingface_hub.constants as c; from pathlib import Path\n"
        "assert hub_client.cache_folder('a/b') == Path(c.HF_HUB_CACHE) / 'models--a--b', c.HF_HUB_CACHE\n"
    )
    names = ("HF_", "HUGGINGFACE_", "XDG_CACHE")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(names)}
    subprocess.run([sys.executable, "-c", program], env={**clean, **variables}, check=True)


# --- the cache --------------------------------------------------------------------------------------------------------


def pulled(home: Path) -> Path:
    with hub_server(FILES) as (endpoint, _):
        return Path(ask("hub.pull('int4')", home, endpoint)["answer"][1])


@pytest.mark.parametrize("text", [f"{COMMIT}\n", f" {COMMIT}\r\n"])
def test_a_reference_with_a_newline_is_read(tmp_path: Path, text: str) -> None:
    folder = pulled(tmp_path)
    (folder.parent.parent / "refs" / "main").write_text(text)
    assert ask("hub.resolve('int4')", tmp_path)["answer"][3] == COMMIT


@pytest.mark.parametrize("text", ["", "../../..", "main", "\xff" * 40, "0" * 5000, COMMIT.upper()])
def test_a_reference_that_makes_no_sense_is_none(tmp_path: Path, text: str) -> None:
    folder = pulled(tmp_path)
    (folder.parent.parent / "refs" / "main").write_text(text, encoding="latin-1")
    told = ask("hub.resolve('int4')", tmp_path)
    assert told["error"] == "ModelUnavailable"
    assert "not in the cache" not in told["text"]
    assert "refs/main does not name" in told["text"]
    assert COMMIT in told["text"]


def test_the_hub_s_checksums_are_kept_beside_the_snapshot(tmp_path: Path) -> None:
    folder = pulled(tmp_path)
    kept = json.loads((folder.parent.parent / "checksums" / f"{COMMIT}.json").read_text())
    assert kept["files"]["model.safetensors"] == hashlib.sha256(WEIGHTS).hexdigest()


def damage(path: Path) -> None:
    blob = path.resolve()
    times = blob.stat()
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    os.utime(blob, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a disk would: no time tells of it


@pytest.mark.parametrize("record", [True, False], ids=["ours", "another program's"])
@pytest.mark.parametrize("name", hub.FILES)
def test_files_that_are_no_longer_what_was_published_are_refused(tmp_path: Path, name: str, record: bool) -> None:
    folder = pulled(tmp_path)
    if not record:
        shutil.rmtree(folder.parent.parent / "checksums")
    assert "answer" in ask("hub.resolve('int4')", tmp_path)
    damage(folder / name)
    told = ask("hub.resolve('int4')", tmp_path)
    assert (told["error"], told["exit"]) == ("BundleError", EXIT_NO_MODEL)
    assert name in told["text"]
    assert "batchsr models pull int4 --again" in told["text"]
    told = ask("hub.pull('int4')", tmp_path)  # nor are they taken where the hub cannot be asked
    assert told["error"] == "BundleError"


@pytest.mark.parametrize("again", [True, False])
def test_pull_mends_what_was_damaged(tmp_path: Path, again: bool) -> None:
    folder = pulled(tmp_path)
    damage(folder / "model.safetensors")
    with hub_server(FILES) as (endpoint, requests):
        mended = ask(f"hub.pull('int4', again={again})", tmp_path, endpoint)
    assert Path(mended["answer"][1]) == folder
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert len([path for method, path in requests if method == "GET" and "/resolve/" in path]) == (2 if again else 1)


def test_pull_again_without_a_hub_says_so_and_keeps_what_is_there(tmp_path: Path) -> None:
    pulled(tmp_path)
    assert ask("hub.pull('int4', again=True)", tmp_path)["error"] == "ModelUnavailable"
    assert "answer" in ask("hub.resolve('int4')", tmp_path)


def test_a_file_is_hashed_once_as_long_as_it_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    hashed: list[Path] = []
    whole = storage.sha256

    def counted(path: Path) -> str:
        hashed.append(path)
        return whole(path)

    monkeypatch.setattr(storage, "sha256", counted)
    file = tmp_path / "weights"
    file.write_bytes(b"some")
    for _ in range(3):
        assert checksums.sha256(file) == hashlib.sha256(b"some").hexdigest()
    assert len(hashed) == 1
    damage(file)
    assert checksums.sha256(file) != hashlib.sha256(b"some").hexdigest()
    assert len(hashed) == 2
    checksums.sha256(file, anew=True)
    assert len(hashed) == 3


@pytest.mark.parametrize("text", ["", "[]", '{"x": 3}', "[" * 100_000, "\xff"])
def test_a_memory_of_checksums_that_makes_no_sense_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "batchsr").mkdir()
    (tmp_path / "batchsr" / "checksums.json").write_text(text, encoding="latin-1")
    (tmp_path / "file").write_bytes(b"x")
    assert checksums.sha256(tmp_path / "file") == hashlib.sha256(b"x").hexdigest()


# --- what speech-swift has fetched ------------------------------------------------------------------------------------


def swift(home: Path) -> Path:
    folder = home / "Library" / "Caches" / "qwen3-speech" / "models" / REPOSITORY
    folder.mkdir(parents=True)
    for name in hub.FILES:
        (folder / name).write_bytes(FILES[f"{REPOSITORY}/{name}"])
        (folder / name).chmod(0o400)
    return folder


def test_what_speech_swift_fetched_is_used_where_it_lies_once_the_hub_vouches_for_it(tmp_path: Path) -> None:
    folder = swift(tmp_path)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir())
    with hub_server(FILES) as (endpoint, requests):
        for question in ("hub.resolve('int4')", "hub.pull('int4')"):
            found = ask(question, tmp_path, endpoint, HOME=str(tmp_path))["answer"]
            assert (found[1], found[3]) == (str(folder), COMMIT)
    assert {method for method, path in requests if "/resolve/" in path} == {"HEAD"}
    found = ask("hub.resolve('int4')", tmp_path, HOME=str(tmp_path))
    assert (found["answer"][3], found["stderr"]) == (COMMIT, "")
    assert ask("hub.list_models()[0]['source']", tmp_path, HOME=str(tmp_path))["answer"] == "speech-swift"
    assert sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir()) == before


def test_another_revision_there_is_left_alone_and_the_hub_s_is_fetched(tmp_path: Path) -> None:
    folder = swift(tmp_path)
    damage(folder / "model.safetensors")
    with hub_server(FILES) as (endpoint, _):
        found = ask("hub.resolve('int4')", tmp_path, endpoint, HOME=str(tmp_path))
    assert found["answer"][1] != str(folder)
    assert "left alone" in found["stderr"]


def test_without_a_hub_it_is_used_with_a_warning(tmp_path: Path) -> None:
    folder = swift(tmp_path)
    found = ask("hub.resolve('int4')", tmp_path, NOWHERE, HOME=str(tmp_path))
    assert (found["answer"][1], found["answer"][3]) == (str(folder), None)
    assert "not compared" in found["stderr"]
