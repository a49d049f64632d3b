"""README and docs tell the truth: commands exist and run, named tests and scripts are there, links lead somewhere."""

from __future__ import annotations

import collections
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import click
import forked_shell
import numpy as np
import premis_schema
import pytest
import soundfile
import stem_networks
from program import FAST_MODEL

from batchsr.cli import cli
from batchsr.report.progress import Finished, InFlight, Progress, picture
from batchsr.report.progress import line as line_of

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.md"))


def commands() -> Iterator[list[str]]:
    """The `batchsr` commands in the pages' blocks, as words, each once."""
    seen = set()
    for page in PAGES:
        for line in page.read_text().splitlines():
            match = re.match(r"    (?:\$ )?(batchsr .*)", line)
            if match and match[1] not in seen:
                seen.add(match[1])
                yield shlex.split(match[1].split("|")[0], comments=True)


SERVICE_OPTIONS = {  # a service runs `watch` or `serve`
    command: {name for param in cli.get_command(click.Context(cli), command).params for name in param.opts}
    for command in ("watch", "serve")
}


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_shown_exists_with_its_options(words: list[str]) -> None:
    command: click.Command = cli
    options: set[str] = set()
    for word in words[1:]:
        context = click.Context(command)
        options |= {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
        if isinstance(command, click.Group) and (inner := command.get_command(context, word)) is not None:
            command = inner
        elif word.startswith("-"):
            run = SERVICE_OPTIONS["serve" if "--serve" in words else "watch"]
            known = options | (run if command.name == "print" else set())
            assert word in known, f"{command.name} has no {word}"
    assert not isinstance(command, click.Group), words


def test_every_command_is_in_the_reference_and_has_help() -> None:
    reference = (ROOT / "docs" / "reference.md").read_text()
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        assert command.help
        assert re.search(rf"`[^`|]*\b{name}\b[^`|]*`", reference), f"reference.md does not name {name}"


def test_every_test_that_a_page_calls_a_proof_is_there() -> None:
    named = {name for page in PAGES for name in re.findall(r"`(test_\w+)`", page.read_text())}
    assert len(named) > 25
    written = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name in sorted(named) if f"def {name}(" not in written] == []


def test_every_script_is_in_the_docs_and_the_other_way_round() -> None:
    page = (ROOT / "docs" / "development.md").read_text()
    rows = re.findall(r"^\| (`[^|]*`) \|", page.split("`scripts/` has one command")[1].split("\n## ")[0], re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([\w.]+)`", row)}
    assert named == {path.name for path in (ROOT / "scripts").iterdir() if path.is_file()}


def test_the_first_command_restores_a_real_recording() -> None:
    environment = {**os.environ, "BATCHSR_VENV": sys.prefix}
    demo = subprocess.run(
        [sys.executable, "scripts/demo.py"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert demo.returncode == 0, demo.stderr
    assert "done: 1 file, " in demo.stdout
    assert "$ batchsr work --variant tiny" in demo.stdout


def test_readme_is_read_in_one_sitting() -> None:
    assert len(README.splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]*)(?:#[^)]*)?\)", page.read_text()):
        assert not target or (page.parent / target).exists(), f"{page.name} links to {target}"
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
        headings = re.findall(r"^#+ (.*)$", (page.parent / target if target else page).read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
        assert anchor in anchors, f"{page.name} links to {target}#{anchor}"


def test_every_extra_is_in_the_reference() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    table = (ROOT / "docs" / "reference.md").read_text().split("## Extras")[1].split("\n## ")[0]
    assert sorted(re.findall(r"`batchsr\[(\w+)\]`", table)) == sorted(extras)


def test_every_page_is_reached_from_readme() -> None:
    reached = [ROOT / "README.md"]
    for page in reached:
        targets = re.findall(r"\]\(([^)#:]+\.md)(?:#[^)]*)?\)", page.read_text())
        reached += {(page.parent / target).resolve() for target in targets} - set(reached)
    assert sorted({*(ROOT / "docs").rglob("*.md")} - set(reached)) == []


RECORDINGS = {
    "phone-archive": ("jobs/recordings/phone/2004-01-05/call-1.wav", "jobs/recordings/phone/test-calls/beep.wav"),
    "oral-history": tuple(f"jobs/recordings/interviews/tape-{name}.wav" for name in ("01a", "01b", "12a")),
    "radio": ("in/monday-10.wav",),
    "deposit": tuple(
        f"recordings/estate/{box}-{number}.{extension}"
        for box in ("letters/letter", "concerts/reel")
        for number, extension in enumerate(("wav", "flac", "aiff", "mp3", "ogg", "caf"), 1)
    ),
    "label": ("jobs/recordings/singles/side-a.wav", "jobs/recordings/music/side-b.wav"),
}
"""What lies in the archive of each worked example."""


OTHERS = collections.defaultdict(tuple, {"deposit": ("mediainfo", "xmllint", "sha256sum", "md5sum")})
"""Programs that a worked example asks, and that the tests do not bring along."""


def run_commands(script: str, home: Path) -> str:
    """Run the commands of a page in an empty home and return what they print. `batchsr` is this checkout's."""
    environment = {
        **os.environ,
        **FAST_MODEL,
        "PYTHON": sys.executable,
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]),  # bagit.py stands there
        "HOME": str(home),
        "BATCHSR_DB": str(home / "queue.db"),
    }
    with forked_shell.shell_function(environment) as function:
        program = f"{function}set -e\n{script}"
        done = subprocess.run(
            ["bash", "-c", program], cwd=home, env=environment, capture_output=True, text=True, timeout=300
        )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("page", EXAMPLES, ids=lambda page: page.stem)
def test_the_commands_of_every_worked_example_run_in_its_order(page: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "jobs", tmp_path / "jobs")
    for name in RECORDINGS[page.stem]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(len(name)).uniform(-0.1, 0.1, 4_000)
        soundfile.write(tmp_path / name, noise, 8_000)
    lines = re.findall(r"^    \$ (.*)$", page.read_text(), re.MULTILINE)
    assert lines
    if missing := [name for name in OTHERS[page.stem] if shutil.which(name) is None]:
        pytest.skip(f"not installed: {missing}")
    if page.stem == "deposit":
        premis_schema.write(tmp_path)
    # The tests have no weights of the published model, no night to wait for, and nobody to press Ctrl-C.
    script = "\n".join(lines).replace("int4", "fast").replace("--only-between 19:00-07:00", "--for 2m")
    script = re.sub(r"(batchsr watch .*)", r"\1 --once --settle 0", script)
    run_commands(script, tmp_path)
    sidecars = {path.with_suffix("") for path in tmp_path.rglob("*.json")}
    restored = [path for path in sidecars if path.suffix in (".wav", ".flac") and path.exists()]
    assert len(restored) >= len(RECORDINGS[page.stem]) - (page.stem == "phone-archive"), restored


def test_the_commands_of_the_recipes_run_in_their_order(tmp_path: Path) -> None:
    for name, rate_hz in (("calls/one.wav", 8_000), ("calls/two.wav", 8_000), ("transfers/side-a.wav", 44_100)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, np.random.default_rng(0).uniform(-0.1, 0.1, (9 * rate_hz // 4, 2)), rate_hz)
    soundfile.write(tmp_path / "voice.wav", np.zeros(22_050), 22_050)
    soundfile.write(tmp_path / "song.wav", np.random.default_rng(1).uniform(-0.1, 0.1, (16_000, 2)), 16_000)
    stem_networks.write(tmp_path / "separator.onnx")
    script = "\n".join(re.findall(r"^    \$ (.*)$", (ROOT / "docs" / "recipes.md").read_text(), re.MULTILINE))
    assert script.count("batchsr") >= 9
    if shutil.which("espeak-ng") is None:  # any program that writes a WAV will do
        script = script.replace("espeak-ng -w said.wav", "cp voice.wav said.wav #")
    said = run_commands(script.replace("int4", "fast"), tmp_path)
    assert "not denoised: speech in 0 % of it" in said  # what `show` tells
    rates = {path.name: soundfile.info(path).samplerate for path in tmp_path.rglob("*.wav")}
    rates |= {path.name: soundfile.info(path).samplerate for path in tmp_path.rglob("*.flac")}
    assert rates["restored-side-a.flac"] == rates["said-48k.wav"] == rates["song-48k.wav"] == 48_000
    assert rates["cleaned-side-a.flac"] == rates["said-44k.wav"] == 44_100
    for_recogniser = sorted((tmp_path / "for-recogniser").rglob("*.wav"))
    assert [soundfile.info(path).samplerate for path in for_recogniser] == [16_000, 16_000]
    assert [soundfile.info(path).channels for path in for_recogniser] == [1, 1]


def test_the_site_is_made_without_a_broken_link() -> None:
    if importlib.util.find_spec("zensical") is None:
        pytest.skip("the generator of the site is not installed (group docs)")
    environment = {**os.environ, "BATCHSR_VENV": sys.prefix}
    made = subprocess.run(
        ["bash", "scripts/docs"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert made.returncode == 0, made.stdout + made.stderr
    pages = {path.relative_to(ROOT / "build" / "site").as_posix() for path in (ROOT / "build" / "site").rglob("*.html")}
    assert {"index.html", "measurements.html", "examples/label.html"} <= pages


def test_readme_has_pictures_of_the_screen_and_the_report_as_they_look_today() -> None:
    folder = ROOT / "docs" / "pictures"
    shown = re.findall(r"!\[[^]]+\]\(docs/pictures/([^)]+)\)", README)
    there = {path.name for path in folder.iterdir()}
    assert sorted(shown) == ["report.png", "screen.svg"]
    assert there - set(shown) == {"serve-file.jpg", "serve-overview.jpg"}  # of docs/serve.md
    assert sum((folder / name).stat().st_size for name in shown) < 200_000
    assert sum((folder / name).stat().st_size for name in there - set(shown)) < 120_000
    assert (folder / "report.png").read_bytes().startswith(b"\x89PNG")
    root = ElementTree.parse(folder / "screen.svg").getroot()
    rows: dict[str, str] = collections.defaultdict(str)
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        rows[text.get("clip-path", "")] += (text.text or "").replace("\xa0", " ")
    drawn = "\n".join(rows.values())
    # Drawn again from what the picture says, the moving part is the same line for line.
    files, restored = re.search(r"(\d+) of (\d+) files", drawn), re.search(r"· (\d+) failed", drawn)
    assert files
    assert restored
    progress = Progress(files_total=int(files[2]), files_failed=int(restored[1]))
    progress.files_done = int(files[1]) - progress.files_failed
    for worker, done, total, name in re.findall(r"^ (\d) restoring +(\d+)/(\d+) (.*?) *$", drawn, re.MULTILINE):
        progress.in_flight[int(worker)] = InFlight(
            int(worker), name, windows_done=int(done), windows_total=int(total), worker=int(worker)
        )
    again = list(picture(progress, 88, 0.0))
    assert len(progress.in_flight) == 2
    assert again[0].startswith(files[0])
    assert all(line in drawn for line in again[2:]), (again, drawn)
    assert (
        line_of(Finished(2, "/archive/1968/interview 07, side A.wav", "done", 8.0, 2.0)).split("  of")[0][:50] in drawn
    )
