"""Finding and fetching bundles; most ask in a process of their own: huggingface_hub reads its settings at import."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import forked
import pytest

from batchsr.errors import EXIT_NO_MODEL, ModelUnavailable, ResourceError
from batchsr.models import hub, hub_client

from .hub_server import COMMIT
from .hub_server import hub as hub_server

REPOSITORY = "aufklarer/FlashSR-MLX-4bit"


def weights_file(*names: str, size_bytes: int = 1 << 20) -> bytes:
    """A safetensors file of so many bytes of data, in one tensor of each name."""
    each = size_bytes // len(names)
    header = {
        n: {"dtype": "U8", "shape": [each], "data_offsets": [i * each, (i + 1) * each]} for i, n in enumerate(names)
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + (bytes(range(256)) * (size_bytes // 256 + 1))[: each * len(names)]


FILES = {
    f"{REPOSITORY}/config.json": b'{"format": "int4", "quantization": {"bits": 4}}',
    f"{REPOSITORY}/model.safetensors": weights_file("vae.a", "ldm.a", "voc.a", "vae.b"),
    f"{REPOSITORY}/README.md": b"a card",
}
NOWHERE = "http://127.0.0.1:9"
ASK = """
import json, sys
from batchsr.errors import BatchsrError
from batchsr.models import hub, hub_client
try:
    answer = eval(sys.argv[1])
    if isinstance(answer, hub.Location):
        answer = [answer.variant, str(answer.folder), answer.repository, answer.revision]
    print(json.dumps({"answer": answer, "mlx": "mlx.core" in sys.modules}))
except BatchsrError as e:
    print(json.dumps({"error": type(e).__name__, "text": str(e), "exit": e.exit_code}))
"""


def ask(question: str, home: Path, endpoint: str = NOWHERE, **variables: str) -> dict[str, Any]:
    """What `question`, an expression with `hub`, evaluates to in a process of its own with that cache and endpoint."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and not k.lower().endswith("_proxy")}
    done = forked.run(
        [sys.executable, "-c", ASK, question],
        env={**clean, "HF_HOME": str(home), "XDG_CACHE_HOME": str(home), "HF_ENDPOINT": endpoint, **variables},
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "stderr": done.stderr}


def test_only_the_two_files_are_fetched_and_the_commit_is_kept(tmp_path: Path) -> None:
    with hub_server(FILES) as (endpoint, requests):
        found = ask("hub.resolve('int4')", tmp_path, endpoint)
    variant, folder, repository, revision = found["answer"]
    assert (variant, repository, revision) == ("int4", REPOSITORY, COMMIT)
    assert sorted(p.name for p in Path(folder).iterdir()) == sorted(hub.FILES)
    for name in hub.FILES:
        assert (Path(folder) / name).read_bytes() == FILES[f"{REPOSITORY}/{name}"]
    assert {path.rpartition("/")[2] for _, path in requests if "/resolve/" in path} == set(hub.FILES)
    assert found["mlx"] is False


def test_what_is_cached_is_used_without_a_request(tmp_path: Path) -> None:
    with hub_server(FILES) as (endpoint, requests):
        first = ask("hub.pull('int4')", tmp_path, endpoint)
        requests.clear()
        second = ask("hub.resolve('int4')", tmp_path, endpoint)
        assert requests == []
    assert second["answer"] == first["answer"]
    for offline in ({}, {"HF_HUB_OFFLINE": "1"}):
        assert ask("hub.resolve('int4')", tmp_path, **offline)["answer"] == first["answer"]


def test_pull_takes_a_newer_commit_and_resolve_follows_it(tmp_path: Path) -> None:
    with hub_server(FILES) as (endpoint, _):
        ask("hub.pull('int4')", tmp_path, endpoint)
    newer = {**FILES, f"{REPOSITORY}/model.safetensors": weights_file("vae.b", "ldm.b", "voc.b")}
    commit = "f" * 40
    with hub_server(newer, commit) as (endpoint, _):
        assert ask("hub.resolve('int4')", tmp_path, endpoint)["answer"][3] == COMMIT
        assert ask("hub.pull('int4')", tmp_path, endpoint)["answer"][3] == commit
    folder = Path(ask("hub.resolve('int4')", tmp_path)["answer"][1])
    assert (folder.name, (folder / "model.safetensors").read_bytes()) == (
        commit,
        newer[f"{REPOSITORY}/model.safetensors"],
    )


def test_pull_without_a_network_keeps_to_the_cache(tmp_path: Path) -> None:
    with hub_server(FILES) as (endpoint, _):
        first = ask("hub.pull('int4')", tmp_path, endpoint)
    again = ask("hub.pull('int4')", tmp_path)
    assert again["answer"] == first["answer"]
    assert f"as cached, at revision {COMMIT}" in again["stderr"]


@pytest.mark.parametrize("offline", ["0", "1"])
def test_no_network_and_no_cache_is_told_within_seconds(tmp_path: Path, offline: str) -> None:
    start = time.monotonic()
    told = ask("hub.resolve('int4')", tmp_path, HF_HUB_OFFLINE=offline)
    assert time.monotonic() - start < 10
    assert (told["error"], told["exit"]) == ("ModelUnavailable", EXIT_NO_MODEL)
    assert "batchsr models pull int4" in told["text"]
    assert "--variant" in told["text"]
    assert ("HF_HUB_OFFLINE is set" in told["text"]) == (offline == "1")


def test_a_hub_without_the_repository_is_told(tmp_path: Path) -> None:
    with hub_server({}) as (endpoint, _):
        told = ask("hub.resolve('int8')", tmp_path, endpoint)
    assert told["error"] == "ModelUnavailable"
    assert "aufklarer/FlashSR-MLX-8bit" in told["text"]


def test_half_a_cache_counts_as_none(tmp_path: Path) -> None:
    with hub_server(FILES) as (endpoint, _):
        folder = Path(ask("hub.pull('int4')", tmp_path, endpoint)["answer"][1])
    (folder / "model.safetensors").unlink()
    assert ask("hub.resolve('int4')", tmp_path)["error"] == "ModelUnavailable"


def test_the_list_says_what_is_here(tmp_path: Path) -> None:
    before = ask("hub.list_models()", tmp_path)["answer"]
    assert [row["variant"] for row in before] == ["int4", "int8", "tiny"]
    assert (before[0]["cached"], before[0]["path"], before[0]["bytes"]) == (False, None, None)
    with hub_server(FILES) as (endpoint, _):
        ask("hub.pull('int4')", tmp_path, endpoint)
    row = ask("hub.list_models()", tmp_path)["answer"][0]
    size = sum(len(FILES[f"{REPOSITORY}/{name}"]) for name in hub.FILES)
    assert (row["cached"], row["repository"], row["revision"], row["bytes"]) == (True, REPOSITORY, COMMIT, size)


def test_the_cached_weights_carry_their_hash_as_the_blob_s_name(tmp_path: Path) -> None:
    with hub_server(FILES) as (endpoint, _):
        folder = Path(ask("hub.pull('int4')", tmp_path, endpoint)["answer"][1])
    blob = (folder / "model.safetensors").resolve()
    assert blob.name == hashlib.sha256(blob.read_bytes()).hexdigest()


@pytest.mark.parametrize("progress", [True, False])
def test_a_bar_is_drawn_on_a_terminal_when_it_is_asked_for(tmp_path: Path, progress: bool) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))  # a bar has no width otherwise
    with hub_server(FILES) as (endpoint, _):
        subprocess.run(
            [sys.executable, "-c", ASK, f"hub.pull('int4', progress={progress})"],
            env={**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": endpoint},
            stdout=subprocess.DEVNULL,
            stderr=theirs,
            timeout=60,
            check=True,
        )
    os.set_blocking(ours, False)
    try:
        drawn = os.read(ours, 100_000)
    except BlockingIOError:
        drawn = b""
    os.close(ours)
    os.close(theirs)
    assert (b"%" in drawn) == progress


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    found = hub.resolve(tmp_path)
    assert (found.folder, found.repository, found.revision) == (tmp_path.resolve(), None, None)


def test_neither_a_variant_nor_a_folder_is_told_with_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="int4, int8, tiny"):
        hub.resolve(str(tmp_path / "absent"))


def test_a_full_disk_is_a_matter_of_the_machine(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="HF_HOME"), hub_client._disk_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
