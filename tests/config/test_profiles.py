"""Profiles are read strictly, laid over each other in order, and every value knows where it came from."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from batchsr.cli import cli
from batchsr.errors import ConfigError
from batchsr.intake import manifest
from batchsr.settings import profile
from batchsr.settings.profile import Settings

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"


@pytest.fixture(autouse=True)
def own_config_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the profiles of whoever runs the tests out of them."""
    folder = tmp_path / "user-config"
    monkeypatch.setattr(profile.platformdirs, "user_config_path", lambda name: folder / name)
    return folder / "batchsr"


def test_the_default_profile_says_what_the_program_does_anyway() -> None:
    assert dict(profile.load(CONFIGS / "default.toml").values) == dataclasses.asdict(Settings())


@pytest.mark.parametrize("name", ["default", "speech", "music", "archive"])
def test_each_shipped_profile_is_found_by_name_and_is_valid(name: str) -> None:
    assert name in profile.names()
    assert profile.effective(profile=name).profile == name


def test_profiles_differ_from_the_default_in_what_they_name_and_in_nothing_else() -> None:
    named = tomllib.loads((CONFIGS / "archive.toml").read_text())
    settings = dataclasses.asdict(profile.effective(profile="archive").settings)
    default = dataclasses.asdict(Settings())
    assert {key: value for key, value in settings.items() if key not in named} == {
        key: value for key, value in default.items() if key not in named
    }
    assert all(settings[key] == value for key, value in named.items())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("sede = 1", ["unknown key sede", "did you mean seed?"]),
        ("colour = 1", ["unknown key colour", "known keys: accept_truncated, also, channels"]),
        ('seed = "1"', ["seed = '1'", "a whole number"]),
        ("seed = true", ["seed = True", "a whole number"]),
        ("timestep = 1000", ["timestep = 1000", "0 to 999"]),
        ("overlap = nan", ["overlap = nan", "seconds"]),
        ("lowpass = 50", ["lowpass = 50", "100 to 24000 Hz"]),
        ("lowpass = []", ["lowpass", "off, auto"]),
        ("keep_band = 1", ["keep_band = 1", "true or false"]),
        ('format = "m4a"', ["format = 'm4a'", "one of wav"]),
        ("variant = 4", ["variant = 4", "int4"]),
        ("seed = 1\nseed = 2", ["not TOML", "a key only once"]),
        ("seed = ", ["not TOML", "texts stand in quotes"]),
        ("[options]\nseed = 1", ["unknown key options"]),
    ],
)
def test_a_mistake_is_told_with_file_key_and_remedy(tmp_path: Path, text: str, wanted: list[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        profile.effective(profile=str(path))
    assert str(path) in str(caught.value)
    assert caught.value.remedy
    for part in wanted:
        assert part in str(caught.value)


def test_a_file_that_is_no_text_is_a_configuration_error(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"seed = 1 # \xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        profile.load(path)


def test_an_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="archive, default, music, speech"):
        profile.effective(profile="speach")
    with pytest.raises(ConfigError, match=r"no profile speach\.toml"):
        profile.effective(profile="./speach.toml")


def test_a_profile_in_the_users_folder_goes_before_a_shipped_one(own_config_folder: Path) -> None:
    own_config_folder.mkdir(parents=True)
    (own_config_folder / "speech.toml").write_text("seed = 11")
    (own_config_folder / "mine.toml").write_text("seed = 12")
    assert profile.effective(profile="speech").settings == Settings(seed=11)
    assert profile.effective(profile="mine").settings == Settings(seed=12)


def test_command_line_over_manifest_over_profile_over_default(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("seed = 1\ntimestep = 1\noverlap = 1\nvariant = 'int8'")
    (tmp_path / "job.toml").write_text(
        "profile = './mine.toml'\nsources.folders = ['.']\noptions = {timestep = 2, overlap = 2}"
    )
    job = manifest.load(tmp_path / "job.toml")
    effective = job.effective(given={"overlap": 2.5})
    assert effective.settings == Settings(seed=1, timestep=2, overlap=2.5)
    assert effective.variant == "int8"
    assert effective.origins["seed"] == str(tmp_path / "mine.toml")
    assert effective.origins["timestep"] == str(tmp_path / "job.toml")
    assert effective.origins["overlap"] == "command line"
    assert effective.origins["format"].endswith("default.toml")
    assert effective.origins["variant"] == str(tmp_path / "mine.toml")
    assert job.effective(profile="music").origins["channels"].endswith("music.toml")


def test_whole_seconds_and_hertz_hash_like_the_same_with_a_point(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("overlap = 1\nlowpass = 4000")
    (tmp_path / "b.toml").write_text("overlap = 1.0\nlowpass = 4000.0")
    a, b = (profile.effective(profile=str(tmp_path / name)).settings.digest() for name in ("a.toml", "b.toml"))
    assert a == b


def test_a_bundle_folder_in_a_profile_is_relative_to_the_profile(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('variant = "./bundle"')
    assert profile.effective(profile=str(tmp_path / "mine.toml")).variant == str(tmp_path / "bundle")


def test_config_show_prints_each_setting_with_its_origin() -> None:
    result = CliRunner().invoke(cli, ["config", "show", "--profile", "speech", "--seed", "4", "--json"])
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert shown["settings"]["seed"] == {"value": 4, "origin": "command line"}
    assert shown["settings"]["keep_band"] == {"value": True, "origin": str(CONFIGS / "speech.toml")}
    assert shown["settings"]["timestep"]["origin"] == str(CONFIGS / "default.toml")
    assert set(shown["settings"]) == {field.name for field in dataclasses.fields(Settings)} | {"variant"}
    assert shown["settings_sha256"] == profile.effective(profile="speech", given={"seed": 4}).settings.digest()


def test_what_config_show_prints_is_itself_the_same_profile(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["config", "show", "--profile", "archive", "--lowpass", "3400"])
    assert result.exit_code == 0, result.output
    (tmp_path / "again.toml").write_text(result.stdout)
    assert (
        profile.effective(profile=str(tmp_path / "again.toml")).settings
        == profile.effective(profile="archive", given={"lowpass": 3400.0}).settings
    )


def test_config_list_names_the_shipped_profiles() -> None:
    result = CliRunner().invoke(cli, ["config", "list", "--json"])
    listed = {json.loads(line)["profile"] for line in result.stdout.splitlines()}
    assert listed >= {"default", "speech", "music", "archive"}


def test_an_installed_copy_has_the_profiles(tmp_path: Path) -> None:
    hatchling = pytest.importorskip("hatchling", reason="hatchling is not installed: no wheel can be built here")
    assert hatchling
    code = "import sys, hatchling.build as b; print(b.build_wheel(sys.argv[1]))"
    name = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()[-1]
    with zipfile.ZipFile(tmp_path / name) as wheel:
        inside = {entry for entry in wheel.namelist() if entry.startswith("batchsr/configs/")}
    there = {path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*") if path.is_file()}
    assert inside == {f"batchsr/configs/{name}" for name in there}
    assert {"default.toml", "fleet/Containerfile"} <= there
