"""`models` and `doctor` as a person runs them: what is here, from where, whether it is right, and what to do if not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import forked
import jsonschema
import numpy as np
import pytest
import soundfile

import batchsr as package
from batchsr.errors import EXIT_NO_MODEL
from batchsr.models.tools import make

from .hub_server import COMMIT
from .hub_server import hub as hub_server
from .test_hub import FILES, NOWHERE
from .test_published_bundles import everything


def batchsr(home: Path, *arguments: str, endpoint: str = NOWHERE, **more: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and not k.lower().endswith("_proxy")}
    own = {"HF_HOME": str(home), "XDG_CACHE_HOME": str(home), "HOME": str(home), "HF_ENDPOINT": endpoint}
    command = [sys.executable, "-m", "batchsr", "--db", str(home / "queue.db"), *arguments]
    return forked.run(command, env={**clean, **own, "NO_COLOR": "1", **more}, text=True, timeout=120)


def test_the_list_says_which_variants_there_are_and_who_put_them_there(tmp_path: Path) -> None:
    with hub_server(FILES) as (endpoint, _):
        assert batchsr(tmp_path, "models", "pull", "int4", endpoint=endpoint).returncode == 0
    lines = batchsr(tmp_path, "models", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["int4", "int8", "tiny"]
    assert "from the hub" in lines[0]
    assert "batchsr models pull int8" in lines[1]
    assert "with the program" in lines[2]
    rows = [json.loads(line) for line in batchsr(tmp_path, "models", "list", "--json").stdout.splitlines()]
    assert [row["source"] for row in rows] == ["hub", None, "package"]


def test_pull_again_mends_what_work_refuses(tmp_path: Path) -> None:
    with hub_server(FILES) as (endpoint, _):
        pulled = batchsr(tmp_path, "models", "pull", "int4", "--json", endpoint=endpoint)
        folder = Path(json.loads(pulled.stdout)["path"])
        blob = (folder / "model.safetensors").resolve()
        blob.write_bytes(blob.read_bytes()[:-1] + b"?")
        told = batchsr(tmp_path, "models", "check", "int4", endpoint=endpoint)
        assert told.returncode == EXIT_NO_MODEL
        assert "batchsr models pull int4 --again" in told.stderr
        again = batchsr(tmp_path, "models", "pull", "int4", "--again", endpoint=endpoint)
    assert f"revision {COMMIT}" in again.stdout
    assert blob.read_bytes() == FILES["aufklarer/FlashSR-MLX-4bit/model.safetensors"]


@pytest.mark.parametrize("command", [("work",), ("upsample", "a.wav")])
def test_without_network_and_cache_it_says_what_to_do_and_what_works_now(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    sound = tmp_path / "a.wav"
    shutil.copy(Path(__file__).parent.parent / "data" / "phone_8k.wav", sound)
    batchsr(tmp_path, "enqueue", str(sound))
    arguments = [str(sound) if argument == "a.wav" else argument for argument in command]
    told = batchsr(tmp_path, *arguments, "--variant", "int4")
    assert told.returncode == EXIT_NO_MODEL
    assert "batchsr models pull int4" in told.stderr
    assert "--variant tiny works now" in told.stderr
    assert "Traceback" not in told.stderr


def test_what_was_taken_calmly_is_told_by_check(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    make.write_random(folder, make.config_of_size("tiny", format="int4"), "published")
    everything(folder)
    told = batchsr(tmp_path, "models", "check", str(folder))
    assert told.returncode == 0
    assert len([line for line in told.stdout.splitlines() if line.startswith("warning: ")]) == 4
    assert all(line.startswith("batchsr: ") for line in told.stderr.splitlines() if str(folder) in line)
    assert batchsr(tmp_path, "-q", "models", "check", str(folder)).stderr == ""


@pytest.mark.parametrize("command", ["work", "upsample"])
def test_what_was_taken_calmly_stands_in_the_sidecar(tmp_path: Path, command: str) -> None:
    folder = tmp_path / "bundle"
    make.write_random(folder, make.config_of_size("tiny", format="int4"), "published")
    everything(folder)
    sound = tmp_path / "a.wav"
    soundfile.write(sound, np.random.default_rng(0).uniform(-0.2, 0.2, 4000), 8000)
    if command == "work":
        assert batchsr(tmp_path, "enqueue", str(sound)).returncode == 0
        done = batchsr(tmp_path, "work", "--variant", str(folder))
    else:
        done = batchsr(tmp_path, "upsample", str(sound), "--variant", str(folder))
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "a_upsampled.wav.json").read_text())
    assert len(record["model"]["warnings"]) == 4
    assert record["windows"]["computed_again_in_float32"] == 0
    schema = Path(package.__file__).parent / "restoration" / "sidecar.schema.json"
    jsonschema.validate(record, json.loads(schema.read_text()))


def test_doctor_tells_of_the_bundles_that_are_here(tmp_path: Path) -> None:
    with hub_server(FILES) as (endpoint, _):
        batchsr(tmp_path, "models", "pull", "int4", endpoint=endpoint)
    found = json.loads(batchsr(tmp_path, "doctor", "--json").stdout)
    assert found["models"] == {"int4": True, "int8": False, "tiny": True}
    (trouble,) = found["bundle_warnings"]["int4"]
    assert "is missing (and 1923 more)" in trouble
    assert "tiny" not in found["bundle_warnings"]


@pytest.mark.parametrize(
    "command", ["work", "enqueue", "upsample", "watch", "config show", "models pull", "models check"]
)
def test_the_shell_completes_variants(tmp_path: Path, command: str) -> None:
    words = f"batchsr {command}" + ("" if command.startswith("models") else " --variant")
    done = batchsr(
        tmp_path,
        _BATCHSR_COMPLETE="bash_complete",
        COMP_WORDS=f"{words} ",
        COMP_CWORD=str(len(words.split())),
    )
    assert [line.rpartition(",")[2] for line in done.stdout.split()] == ["int4", "int8", "tiny"]
    if not command.startswith("models"):
        assert "tiny" in batchsr(tmp_path, *command.split(), "--help").stdout
