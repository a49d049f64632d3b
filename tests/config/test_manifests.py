"""A manifest says what a collection is; the shipped examples run."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import rig
import soundfile

from batchsr.errors import ConfigError
from batchsr.intake import gather, manifest, walk
from batchsr.queue.opening import open_queue

JOBS = Path(__file__).resolve().parents[2] / "jobs"
EXAMPLES = ("phone-archive", "oral-history", "radio", "music")


def recording(path: Path, seconds: float = 0.1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(round(8000 * seconds)), 8000)
    return path


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def sources(job: manifest.Manifest) -> list[str]:
    return [one.path for one in job.found() if isinstance(one, gather.Found)]


# What each example is to find among the files made here, and where the outputs go.
EXPECTED = {
    "phone-archive": {
        "recordings/phone/2004/call-17.wav": "restored/phone/2004/call-17_48k.wav",
        "recordings/phone/2005/call-1.wav": "restored/phone/2005/call-1_48k.wav",
    },
    "oral-history": {
        f"recordings/interviews/tape-{side}.wav": f"restored/oral-history/tape-{side}_upsampled.flac"
        for side in ("01a", "01b", "12a")
    },
    "radio": {
        "recordings/radio/1987/news.wav": "restored/radio/1987/news_upsampled.wav",
        "recordings/radio/1993/play.flac": "restored/radio/1993/play_upsampled.wav",
    },
    "music": {
        "recordings/music/blue/side-a.wav": "recordings/music/blue/side-a (48 kHz).wav",
        "recordings/singles/one.wav": "recordings/singles/one (48 kHz).wav",
    },
}
BYSTANDERS = (
    "recordings/phone/test-calls/beep.wav",
    "recordings/interviews/tape-99x.wav",
    "recordings/radio/2003/late.wav",
    "recordings/radio/1987/news_jingle.wav",
    "recordings/singles/liner-notes.txt",
)


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_shipped_manifest_runs_and_takes_what_its_comments_say(tmp_path: Path, name: str) -> None:
    for path in filter(Path.is_file, JOBS.iterdir()):
        shutil.copy(path, tmp_path)
    for wanted in (
        *EXPECTED["phone-archive"],
        *EXPECTED["oral-history"],
        *EXPECTED["radio"],
        *EXPECTED["music"],
        *BYSTANDERS,
    ):
        if wanted.endswith(".txt"):
            (tmp_path / wanted).write_text("no audio")
        else:
            recording(tmp_path / wanted)
    job = manifest.load(tmp_path / f"{name}.toml")
    effective = job.effective()
    with open_queue(tmp_path / "queue.db") as queue:
        found = [one for one in job.found() if isinstance(one, gather.Found)]
        taken = list(gather.enqueue(queue, found, job.request(effective)))
        assert {
            str(Path(one.job.source).relative_to(tmp_path)): str(Path(one.enqueued.output).relative_to(tmp_path))
            for one in taken
        } == EXPECTED[name]
        assert queue.counts(name)["queued"] == len(EXPECTED[name])
        again = [str(one.enqueued.outcome) for one in gather.enqueue(queue, job.found(), job.request(effective))]
        assert set(again) == {"already queued"}
    facts = json.loads(job.request(effective).provenance)
    assert facts["notes"]
    assert facts["profile"] == tomllib.loads((JOBS / f"{name}.toml").read_text())["profile"]
    assert len(facts["manifest_sha256"]) == len(facts["profile_sha256"]) == 64


def test_every_shipped_manifest_is_among_the_examples() -> None:
    assert {path.stem for path in JOBS.glob("*.toml")} == set(EXAMPLES)


def test_relative_paths_start_at_the_manifest_wherever_it_is_read_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording(tmp_path / "jobs [old]" / "in" / "a.wav")
    write(tmp_path / "jobs [old]" / "job.toml", 'sources.globs = ["in/*.wav"]\noutput.root = "../out"')
    monkeypatch.chdir(tmp_path)
    job = manifest.load(Path("jobs [old]/job.toml"))
    assert sources(job) == [str(tmp_path / "jobs [old]" / "in" / "a.wav")]
    assert job.root == str(tmp_path / "out")
    assert job.name == "job"


def test_lists_keep_order_skip_notes_and_name_what_is_missing(tmp_path: Path) -> None:
    recording(tmp_path / "b.wav")
    recording(tmp_path / "a.wav")
    (tmp_path / "list.txt").write_bytes(b"# first b\nb.wav\r\n\n" + bytes(tmp_path / "a.wav") + b"\ngone.wav\n")
    write(tmp_path / "job.toml", 'sources.lists = ["list.txt"]')
    found = list(manifest.load(tmp_path / "job.toml").found())
    assert [Path(one.path).name for one in found] == ["b.wav", "a.wav", "gone.wav"]
    assert isinstance(found[-1], walk.Refused)


def test_what_the_command_line_gives_is_stronger_than_the_manifest(tmp_path: Path) -> None:
    job = manifest.load(
        write(
            tmp_path / "job.toml",
            'priority = 3\nsources.folders = ["."]\noutput.root = "out"\noptions.variant = "int8"',
        )
    )
    effective = job.effective()
    assert (job.request(effective).priority, job.request(effective).out, job.request(effective).variant) == (
        3,
        str(tmp_path / "out"),
        "int8",
    )
    given = job.request(effective, variant="int4", out="/elsewhere", priority=0, overwrite=True)
    assert (given.priority, given.out, given.variant, given.overwrite) == (0, "/elsewhere", "int4", True)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ["no sources", "folders, globs or lists"]),
        ("source.folders = ['.']", ["unknown key source", "did you mean sources?"]),
        ("sources.folder = ['.']", ["unknown key sources.folder", "did you mean folders?"]),
        ("sources.folders = '.'", ["sources.folders = '.'", "a list of texts"]),
        ("sources.folders = ['.', 1]", ["sources.folders", "a list of texts"]),
        ("name = 'a/b'\nsources.folders = ['.']", ["name = 'a/b'", "letters"]),
        ("priority = 1.5\nsources.folders = ['.']", ["priority = 1.5", "a whole number"]),
        ("priority = 10000000\nsources.folders = ['.']", ["priority = 10000000"]),
        ("output.suffix = ''\nsources.folders = ['.']", ["output.suffix = ''", "only with output.root"]),
        ("output.suffix = 'a/b'\nsources.folders = ['.']", ["output.suffix = 'a/b'"]),
        ("options.sede = 1\nsources.folders = ['.']", ["unknown key options.sede", "did you mean seed?"]),
        ("options.seed = -1\nsources.folders = ['.']", ["seed = -1", "2**63"]),
        ("sources = 1", ["sources = 1", "a table"]),
        ("output = []\nsources.folders = ['.']", ["output = []", "a table"]),
        ("sources.lists = [['x']]", ["sources.lists = [['x']]", "a list of texts"]),
        ("name = 1979-05-27\nsources.folders = ['.']", ["name = datetime.date(1979, 5, 27)", "text"]),
        ("output.sufix = 'x'\nsources.folders = ['.']", ["unknown key output.sufix", "did you mean suffix?"]),
        ("'a.b' = 1\nsources.folders = ['.']", ["unknown key a.b", "known keys: name"]),
        ("output.overwrite = 1\nsources.folders = ['.']", ["output.overwrite = 1", "true or false"]),
    ],
)
def test_a_mistake_is_told_with_file_key_and_remedy(tmp_path: Path, text: str, wanted: list[str]) -> None:
    path = write(tmp_path / "job.toml", text)
    with pytest.raises(ConfigError) as caught:
        manifest.load(path)
    assert str(path) in str(caught.value)
    assert caught.value.remedy
    for part in wanted:
        assert part in str(caught.value)


def test_a_list_that_is_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    job = manifest.load(write(tmp_path / "job.toml", 'sources.lists = ["list.txt"]'))
    with pytest.raises(ConfigError, match=r"list\.txt cannot be read"):
        list(job.found())


def test_an_unknown_profile_in_a_manifest_names_the_known_ones(tmp_path: Path) -> None:
    job = manifest.load(write(tmp_path / "job.toml", 'profile = "speach"\nsources.folders = ["."]'))
    with pytest.raises(ConfigError, match="known profiles"):
        job.effective()


def test_profile_hash_and_notes_reach_row_and_sidecar(tmp_path: Path) -> None:

    rig.record(tmp_path / "in" / "a.wav", 0.2)
    write(tmp_path / "job.toml", 'notes = "Found in a drawer."\nprofile = "archive"\nsources.folders = ["in"]')
    job = manifest.load(tmp_path / "job.toml")
    effective = job.effective()
    with open_queue(tmp_path / "queue.db") as queue:
        found = [one for one in job.found() if isinstance(one, gather.Found)]
        list(gather.enqueue(queue, found, job.request(effective)))
        assert rig.work(tmp_path / "queue.db").done == 1
        (row,) = queue.jobs()
    shown = row.to_dict()
    assert shown["settings_sha256"] == effective.settings.digest()
    assert shown["provenance"]["profile_sha256"] == effective.profile_sha256
    sidecar = json.loads((tmp_path / "in" / "a_upsampled.flac.json").read_text())
    assert sidecar["settings_sha256"] == effective.settings.digest()
    assert sidecar["job"]["notes"] == "Found in a drawer."
    assert sidecar["job"]["profile"] == "archive"
    assert sidecar["job"]["profile_sha256"] == effective.profile_sha256
    assert sidecar["job"]["manifest"] == "job.toml"
