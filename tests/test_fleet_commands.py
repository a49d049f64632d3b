"""Every command says of a fleet's queue what it says of one in a file with the same rows, or why it does not."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import postgres
import pytest
import rig
from person import Said, called

from batchsr.cli import cli, doctor
from batchsr.cli.app import App
from batchsr.cli.watch_worker import worker_command
from batchsr.queue import roots
from batchsr.queue.opening import QueueAddress

SCHEMAS = Path(__file__).resolve().parent.parent / "docs" / "schema"


class World:
    """A folder of recordings with a queue: #1 done, #2 failed, #3 cancelled, #4 and #5 queued, in two batches."""

    def __init__(self, folder: Path, variables: dict[str, str | None]) -> None:
        self.folder = folder
        self.variables = variables
        good = [rig.record(folder / "in" / f"{name}.wav", 0.4, seed=n) for n, name in enumerate("acde")]
        (folder / "in" / "b.wav").write_text("<html>log in</html>" * 50)
        self.run("enqueue", good[0], folder / "in" / "b.wav", "--batch", "reels", "--out", folder / "out")
        self.run("work", code=3)
        self.run("enqueue", *good[1:], "--out", folder / "out")
        self.run("cancel", "3")

    def run(self, *words: object, code: int | None = 0) -> Said:
        """A command, to its end; `{}` in a word is the folder."""
        given = (word.format(self.folder) if isinstance(word, str) else word for word in words)
        try:
            return called(*given, code=code, environment=self.variables)
        finally:
            roots.use({})


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, World]]:
    folder = tmp_path_factory.mktemp("worlds")
    url = postgres.database()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("batchsr.cli.work.load_model", lambda *_, **__: rig.FastModel())
        patched.setattr("batchsr.cli.run.load_model", lambda *_, **__: rig.FastModel())
        fleet = {"BATCHSR_FLEET": url, "BATCHSR_FLEET_FOLDER": str(folder / "host"), "BATCHSR_DB": None}
        called("fleet", "init", environment=fleet)
        yield (
            World(folder / "one", {"BATCHSR_DB": str(folder / "one" / "queue.db"), "BATCHSR_FLEET": None}),
            World(folder / "two", fleet),
        )


_TIMES = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00)?|\d+:\d\d(:\d\d)?|\b\d+\.\d+\b")
_ITS_OWN = frozenset(
    ("database", "db", "fleet", "lease_s", "hosts", "log", "worker", "pid", "silent_s", "source_device")
)
_MEASURED = frozenset(("wall_s", "rtf", "idle_s", "page", "report", "sidecar", "vacuumed_bytes"))
_OF_THE_FILE = frozenset(("source_device", "mtime_ns", "inode", "work_s", "free_bytes"))


def masked(value: Any, world: World) -> Any:
    """The same without what differs from run to run, and between any two queues."""
    if isinstance(value, dict):
        return {
            name: masked(one, world) if name not in _MEASURED else type(one).__name__
            for name, one in value.items()
            if name not in _ITS_OWN | _OF_THE_FILE and (name != "id" or "old" not in value)
        }
    if isinstance(value, list):
        return [masked(one, world) for one in value]
    if isinstance(value, str):
        plain = re.sub(r"\b[0-9a-f]{6,}\b", "H", value.replace(str(world.folder), "FOLDER"))
        return re.sub(r"[ -]{2,}", " ", _TIMES.sub("T", plain))
    return value


COMMANDS = {
    "status": (),
    "status of a batch": ("status", "--batch", "reels"),
    "list": (),
    "list by state": ("list", "--state", "failed", "--state", "queued"),
    "show": ("show", "1"),
    "show what failed": ("show", "2"),
    "explain": ("explain", "{}/out/a_upsample.wav"),
    "verify": ("verify",),
    "verify a batch": ("verify", "--batch", "reels"),
    "report": ("report",),
    "report as a table": ("report", "--csv", "{}/table.csv"),
    "enqueue again": ("enqueue", "-r", "{}/in", "--out", "{}/out"),
    "enqueue, a dry run": ("enqueue", "-r", "{}/in", "--out", "{}/elsewhere", "--dry-run"),
    "edit": ("edit", "4", "--priority", "3"),
    "edit instructions": ("edit", "5", "--format", "flac", "--yes"),
    "pause": ("pause", "night"),
    "status while paused": ("status",),
    "work while paused": ("work",),
    "resume": (),
    "retry": ("retry", "2"),
    "retry, one that was cancelled": ("retry", "3"),
    "cancel": ("cancel", "4"),
    "work": ("work",),
    "import-sidecars": ("import-sidecars", "{}/out"),
    "import-sidecars, a dry run": ("import-sidecars", "{}/out", "--dry-run"),
    "export": ("export", "{}/package", "--batch", "reels"),
    "relocate": ("relocate", "{}/in", "{}/out", "--dry-run"),
    "undo": ("undo", "1", "--yes"),
    "forget": ("forget", "2", "--yes"),
    "gc": ("gc", "--dry-run"),
    "gc of all": ("gc", "--older-than", "0"),
    "watch": ("watch", "{}/in", "--once", "--settle", "0", "--out", "{}/out"),
    "run": ("run", "{}/in/c.wav", "--out", "{}/ran"),
    "a job that is not there": ("show", "99"),
    "a batch that is not there": ("status", "--batch", "nothing"),
    "--host, where there are none, or another": ("pause", "--host", "nowhere"),
}
"""A name -> the words; none where the name is the command."""
_ONLY_REFUSED_ALIKE = frozenset(("--host, where there are none, or another",))


@pytest.mark.parametrize("json_", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_answers_of_both_queues_alike(worlds: tuple[World, World], name: str, json_: bool) -> None:
    words = (COMMANDS[name] or (name,)) + (("--json",) if json_ else ())
    one, two = (world.run(*words, code=None) for world in worlds)
    assert one.code == two.code, (one, two)
    if name in _ONLY_REFUSED_ALIKE:
        return
    told = [
        [
            masked(line, world)
            for line in (said.documents if json_ else (said.out + said.err).splitlines())
            if json_ or not line.startswith("host ")
        ]
        for said, world in zip((one, two), worlds, strict=True)
    ]
    if COMMANDS[name] == ("work",):  # files in flight end in any order
        told = [sorted(lines, key=str) for lines in told]
    for first, second in zip(*told, strict=True):
        assert first == second
    if json_ and name == "status":
        schema = json.loads((SCHEMAS / "status.schema.json").read_text())
        jsonschema.validate(two.documents[0], schema)


FOR_A_FILE = {
    "db path": "a queue in a file",
    "db check": "a queue in a file",
    "db backup {}/copy": "pg_dump",
    "db restore {}/copy": "a queue in a file",
    "db migrate": "a queue in a file",
    "service print systemd {}/in": "configs/fleet/batchsr-fleet.service",
    "service print systemd --serve": "configs/fleet/batchsr-fleet.service",
    "service print systemd --system {}/in": "configs/fleet/batchsr-fleet.service",
    "service print launchd {}/in": "configs/fleet/batchsr-fleet.service",
}


@pytest.mark.parametrize("words", FOR_A_FILE)
def test_what_is_for_a_queue_in_a_file_alone_refuses_a_fleet_and_says_what_to_do(
    worlds: tuple[World, World], words: str
) -> None:
    said = worlds[1].run(*words.split(), code=2)
    assert FOR_A_FILE[words] in said.err


WITHOUT_A_QUEUE = frozenset(
    ("completion", "config", "db", "evaluate", "explain", "models", "service", "upsample", "words")
)


def test_every_command_that_opens_a_queue_takes_fleet_behind_its_name() -> None:
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        if name in WITHOUT_A_QUEUE or isinstance(command, click.Group):
            continue
        assert any("--fleet" in param.opts for param in command.params), name


# Hosts


def test_a_host_is_taken_out_alone_and_comes_back(worlds: tuple[World, World], monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = worlds[1]
    fleet.run("enqueue", "--priority", "50", rig.record(fleet.folder / "hosts" / "a.wav", 0.4, seed=7))
    monkeypatch.setattr("platform.node", lambda: "node7.example.org")
    fleet.run("work", "--stop-after", "1")
    fleet.run("enqueue", "--priority", "50", rig.record(fleet.folder / "hosts" / "b.wav", 0.4, seed=8))
    assert "paused on node7.example.org" in fleet.run("pause", "new disk", "--host", "NODE7").out
    (status,) = fleet.run("status", "--json").documents
    (host,) = [one for one in status["hosts"] if one["name"] == "node7.example.org"]
    assert (host["paused"], host["paused_reason"], status["paused"]) == (True, "new disk", False)
    assert host["speed"] > 0
    assert "paused: new disk (`batchsr resume --host node7.example.org`)" in fleet.run("status").out
    said = fleet.run("work", code=75)
    assert "this host is taken out: new disk" in said.err
    assert "resume --host" in said.err
    queued = fleet.run("list", "--state", "queued", "--json").documents
    monkeypatch.setattr("platform.node", lambda: "another")
    fleet.run("work", "--stop-after", "1")
    assert len(fleet.run("list", "--state", "queued", "--json").documents) == len(queued) - 1
    monkeypatch.setattr("platform.node", lambda: "node7.example.org")
    assert fleet.run("resume", "--host", "node7").out == "resumed on node7.example.org\n"
    assert fleet.run("resume", "--host", "node7").out == "node7.example.org was not paused\n"
    said = fleet.run("pause", "--host", "nod", code=2)
    assert "another" in said.err


def test_what_one_host_lacks_pauses_that_host_alone(
    worlds: tuple[World, World], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = QueueAddress(fleet=worlds[1].variables["BATCHSR_FLEET"], host_folder=worlds[1].folder.parent / "host")
    with address.open() as queue:
        monkeypatch.setattr("platform.node", lambda: "poor")
        queue.pause("no memory", "resource", ["/scratch"])
        pause = queue.paused()
        assert pause is not None
        assert (pause.kind, pause.reason, pause.probes) == ("resource", "no memory", ("/scratch",))
        monkeypatch.setattr("platform.node", lambda: "rich")
        assert queue.paused() is None
        monkeypatch.setattr("platform.node", lambda: "poor")
        assert queue.resume(only=pause)
        assert queue.paused() is None


# What goes on in other processes


def test_the_worker_of_watch_gets_the_fleet_through_its_environment() -> None:
    url = "postgresql://me:s3cret@db/x"
    app = App(fleet=url)
    options = dict.fromkeys(("procs", "dtype", "device", "min_free", "only_between", "stop_after", "for_"))
    command = worker_command(app, {"once": True, "share_gpu": False, "keep_awake": None, **options}, None)
    assert "s3cret" not in " ".join(command)
    assert "--db" not in command
    roots.use({"archive": "/mnt/a"})
    assert app.address.environment()["BATCHSR_FLEET"] == url
    assert QueueAddress.of("", app.address.environment()) == app.address
    assert roots.places() == {"archive": "/mnt/a"}
    roots.use({})


def test_doctor_says_of_a_fleet_why_this_host_cannot_take_part(
    worlds: tuple[World, World], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App(fleet=worlds[1].variables["BATCHSR_FLEET"])
    monkeypatch.setenv("BATCHSR_FLEET_FOLDER", str(worlds[1].folder.parent / "host"))
    folder = worlds[1].folder
    assert doctor._troubles_of_fleet(app, str(app.fleet), [folder]) == []
    assert "no folder" in doctor._troubles_of_fleet(app, str(app.fleet), [folder / "none"])[0]
    before = sorted(folder.iterdir())
    said = doctor._troubles_of_fleet(app, "postgresql://me:s3cret@127.0.0.1:1/x", [folder])
    assert "cannot be reached" in said[0]
    assert "s3cret" not in said[0]

    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", link)
    assert "no hard links" in doctor._troubles_of_fleet(app, str(app.fleet), [folder])[0]
    assert sorted(folder.iterdir()) == before
