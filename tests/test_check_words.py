"""`--check-words`: words that a recogniser no longer hears go on record, and touch no sample and no digest."""

from __future__ import annotations

import importlib.util
import json
import os
import threading
import types
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import rig
import soundfile
from click.testing import CliRunner
from huggingface_hub import constants
from model.hub_server import COMMIT, hub
from numpy.typing import NDArray
from person import called
from test_restore import Echo, run, task_for

from batchsr import storage
from batchsr.cli import cli
from batchsr.errors import ConfigError, ExtraMissing, StageFailed
from batchsr.models import recognisers
from batchsr.report.facts import facts
from batchsr.report.page import choosing
from batchsr.restoration import sidecar as sidecars
from batchsr.restoration import words_of_outputs
from batchsr.settings import extras
from batchsr.settings.profile import Settings
from batchsr.speech import recogniser, voice, words
from batchsr.speech.recogniser import RATE_HZ, Word
from batchsr.speech.words import WordCheck, gone

Samples = NDArray[np.float32]
RATE_48K = 48_000
ROOT = Path(__file__).resolve().parents[1]
LETTERS = "abcdefghijklmnop"


class ByTone:
    """Hears a word for each stretch of half a second with sound in it: the letter of its pitch.

    `sure` of a word is how sure it is; words in `deaf` are not heard in a clip that is quieter than the first one.
    """

    def __init__(self, sure: float = 0.9) -> None:
        self.sure = sure
        self.clips: list[int] = []
        self.asked = 0

    def identity(self) -> dict[str, str]:
        return {"library": "by tone 1", "model_sha256": "0" * 64, "decoding": "by ear"}

    def language_of(self, sound: Samples) -> str:
        self.asked += 1
        return "xx"

    def words(self, sound: Samples, language: str) -> list[Word]:
        assert language == "xx"
        self.clips.append(len(sound))
        heard: list[Word] = []
        loud = np.abs(sound) > 0.02
        edges = np.flatnonzero(np.diff(np.concatenate([[0], self._filled(loud).astype(int), [0]])))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            if end - start < RATE_HZ // 10:
                continue
            spectrum = np.abs(np.fft.rfft(sound[start:end], RATE_HZ))
            letter = LETTERS[round(float(np.argmax(spectrum)) / 100) - 3]
            heard.append(Word(start / RATE_HZ, end / RATE_HZ, f" {letter}{letter},", self.sure))
        return heard

    @staticmethod
    def _filled(loud: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.convolve(loud, np.ones(800), "same") > 0


def spoken(text: str, rate_hz: int = RATE_48K) -> Samples:
    """A tone of half a second for each letter, with pauses of a quarter; a blank is a second of silence. (n, 1)."""
    out = []
    for letter in text:
        if letter == " ":
            out.append(np.zeros(rate_hz, np.float32))
            continue
        pitch = 100 * (LETTERS.index(letter) + 3)
        out += [0.3 * np.sin(2 * np.pi * pitch * np.arange(rate_hz // 2) / rate_hz), np.zeros(rate_hz // 4)]
    return np.concatenate(out).astype(np.float32)[:, None]


@pytest.fixture(autouse=True)
def speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector for which tones are speech."""

    class Always:
        def process_samples(self, samples: list[float]) -> float:
            return float(max(map(abs, samples)) > 0.02)

    monkeypatch.setattr(voice, "_silero", Always)


def checked(before: Samples, after: Samples, hears: Any = None, size: int = 7_777, **how: Any) -> dict[str, Any]:
    one = WordCheck(lambda: hears or ByTone(), **how)
    for at in range(0, len(before), size):
        one.add_before(before[at : at + size])
    for at in range(0, len(after), size):
        one.add_after(after[at : at + size])
    return one.finish()


def test_a_word_that_is_heard_no_longer_is_counted_and_its_time_is_on_record() -> None:
    said = checked(spoken("abcdef"), spoken("abxdef".replace("x", "n")))
    assert (said["sure"], said["gone"], said["own_unrest"]) == (6, 1, 0)
    (place,) = said["places"]
    assert place["start_s"] == pytest.approx(1.5, abs=0.06)
    assert set(place) == {"start_s", "end_s"}, "no text unless it is asked for"
    (place,) = checked(spoken("abcdef"), spoken("abndef"), keep_text=True)["places"]
    assert (place["before"].strip(), place["after"].strip()) == ("cc,", "nn,")
    (place,) = checked(spoken("abc"), spoken("ab "), keep_text=True)["places"]
    assert place["after"] == ""


def test_the_same_sound_has_lost_nothing_in_any_blocks_and_either_order() -> None:
    sound = spoken("abc def" * 8)
    whole = checked(sound, sound)
    assert (whole["gone"], whole["review"]) == (0, False)
    assert whole["sure"] == 48
    one = WordCheck(ByTone)
    for at in range(0, len(sound), 50_000):
        one.add_after(sound[at : at + 50_000])
        one.add_before(sound[at : at + 50_000])
    assert one.finish() == whole == checked(sound, sound, size=100_001)


def test_words_of_which_the_recogniser_was_not_sure_are_not_counted() -> None:
    class Wavers(ByTone):
        def words(self, sound: Samples, language: str) -> list[Word]:
            heard = super().words(sound, language)
            return [Word(w.start_s, w.end_s, w.text, 0.55 if "c" in w.text else 0.99) for w in heard]

    said = checked(spoken("abcdef"), spoken("abndef"), Wavers())
    assert (said["sure"], said["gone"], said["review"]) == (5, 0, False)


@pytest.mark.parametrize(
    ("before", "hears", "why"),
    [
        (spoken("a" + " " * 9), ByTone(), "little_speech"),
        (spoken("abcd"), ByTone(sure=0.65), "unsure"),
        (spoken("    "), ByTone(), "little_speech"),
        (np.zeros((0, 1), np.float32), ByTone(), "little_speech"),
        (np.zeros((100, 2), np.float32), ByTone(), "little_speech"),
    ],
)
def test_nothing_is_counted_where_it_would_mean_nothing(before: Samples, hears: ByTone, why: str) -> None:
    said = checked(before, before, hears)
    assert said["not_counted_because"] == why
    assert (said["sure"], said["gone"], said["own_unrest"], said["review"]) == (None, None, None, None)


def test_where_no_word_is_heard_in_speech_nothing_is_counted() -> None:
    class Deaf(ByTone):
        def words(self, sound: Samples, language: str) -> list[Word]:
            return []

    assert checked(spoken("abcd"), spoken("abcd"), Deaf())["not_counted_because"] == "no_words"


def test_silence_is_not_given_to_a_recogniser_that_would_invent_words() -> None:
    hears = ByTone()
    checked(spoken(" " * 70 + "abcdefgh" * 4), spoken(" " * 102), hears)
    assert len(hears.clips) <= 4
    assert hears.asked == 1


def test_what_goes_for_nothing_stands_beside_and_is_taken_off_before_anyone_is_to_look() -> None:
    class Restless(ByTone):
        """Loses its first three words when a clip begins in silence."""

        def words(self, sound: Samples, language: str) -> list[Word]:
            heard = super().words(sound, language)
            return heard[3:] if not sound[:500].any() else heard

    before = spoken("abcdefghij")
    same = checked(before, before, Restless())
    assert (same["gone"], same["own_unrest"], same["review"]) == (0, 3, False)
    four = checked(before, spoken("nnnnefghij"), Restless())
    assert (four["gone"], four["own_unrest"], four["review"]) == (4, 3, False)
    six = checked(before, spoken("nnnnnnghij"), Restless())
    assert (six["gone"], six["own_unrest"], six["review"]) == (6, 3, True)


def test_an_hour_is_heard_in_clips_that_no_word_is_cut_by_and_held_no_longer() -> None:
    hears = ByTone()
    text = "abcdefgh" * 8 + " " + "ponmlkji" * 8
    sound = spoken(text)
    one = WordCheck(lambda: hears)
    most = 0
    for at in range(0, len(sound), RATE_48K):
        one.add_before(sound[at : at + RATE_48K])
        one.add_after(sound[at : at + RATE_48K])
        most = max(most, len(one._before), len(one._after))
    said = one.finish()
    assert said["sure"] == len(text) - 1
    assert said["gone"] == 0
    assert most <= 31 * RATE_HZ
    assert max(hears.clips) <= 30 * RATE_HZ


def test_times_are_of_the_whole_recording_behind_the_first_clip_too() -> None:
    text = "abcd" * 20
    (place,) = checked(spoken(text), spoken(text[:70] + "p" + text[71:]))["places"]
    assert place["start_s"] == pytest.approx(70 * 0.75, abs=0.1)


def test_places_have_a_ceiling_and_counts_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "MOST_PLACES", 3)
    said = checked(spoken("abcdefgh"), spoken("nnnnnnnn"))
    assert (said["gone"], len(said["places"])) == (8, 3)


def test_words_are_compared_without_marks_case_or_composition() -> None:
    def heard(*texts: str) -> list[Word]:
        return [Word(i, i + 1, text, 0.9) for i, text in enumerate(texts)]

    assert gone(heard("Hello,", "Stra\u00dfe", "caf\u00e9"), heard("hello", "STRASSE!", "cafe\u0301")) == []
    assert [one.word.text for one in gone(heard("a", "b", "c"), heard("c"))] == ["a", "b"]
    assert gone(heard("a"), []) == [words.Gone(Word(0, 1, "a", 0.9), "")]
    assert gone([], heard("a")) == []


@pytest.fixture
def by_tone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A recogniser's folder in which the one that hears tones is found."""
    folder = tmp_path / "recogniser"
    folder.mkdir()
    for name in ("config.json", "model.bin"):
        (folder / name).write_bytes(b"{}")
    monkeypatch.setattr(recogniser, "load", lambda _: ByTone())
    monkeypatch.setattr(extras, "_WORDS", ("numpy",))
    return folder


def restored(folder: Path, sound: Samples, name: str, **settings: Any) -> dict[str, Any]:
    soundfile.write(folder / "a.wav", sound, 8_000, subtype="PCM_24")
    provenance = {"variant": "tiny", "revision": "r", "weights_sha256": "w", "dtype": "float32", "device": "cpu"}
    wanted = Settings(overlap=0.02, **settings)
    return run(task_for(folder / "a.wav", folder / name, settings=wanted, provenance=provenance), Echo(hiss=0)).report


def test_it_goes_on_record_and_changes_no_byte_of_the_output(by_tone: Path, tmp_path: Path) -> None:
    sound = np.hstack([spoken("abcdef", 8_000)] * 2)
    plain = restored(tmp_path, sound, "b.wav")
    report = restored(tmp_path, sound, "c.wav", check_words=str(by_tone), quality=False)
    assert report["output"]["sha256"] == plain["output"]["sha256"]
    said = report["checks"]["words"]
    assert (said["sure"], said["gone"], said["review"], said["library"]) == (6, 0, False, "by tone 1")
    schema = json.loads(Path(sidecars.__file__).with_name("sidecar.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(report)
    assert dict(facts(report))["Words"] == "of 6 the recogniser was sure of, 0 not heard after (own unrest 0)"
    assert "checks" not in plain


def test_a_recogniser_that_fails_or_is_not_there_fails_no_job(
    by_tone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Path) -> Any:
        raise RuntimeError("unsupported model binary version")

    monkeypatch.setattr(recogniser, "load", broken)
    said = restored(tmp_path, spoken("abc", 8_000), "b.wav", check_words=str(by_tone))["checks"]["words"]
    assert said["not_counted_because"] == "recogniser_failed"
    assert "unsupported model binary" in said["trouble"]
    told = called("upsample", tmp_path / "b.wav", "--model", "resample", f"--check-words={by_tone}")
    assert "unsupported model binary" in told.err
    called(
        "--db", tmp_path / "q.db", "enqueue", tmp_path / "b.wav", "--out", tmp_path / "o", f"--check-words={by_tone}"
    )
    told = called("--db", tmp_path / "q.db", "work", "--model", "resample")
    assert "its words were not compared" in told.err
    assert "[check.words]" in told.err
    (row,) = called("--db", tmp_path / "q.db", "--json", "report").documents
    assert [remark["code"] for remark in row["remarks"]] == ["check.words"]
    report = restored(tmp_path, spoken("abc", 8_000), "c.wav", check_words=str(tmp_path / "none"))
    assert "config.json is not there" in dict(facts(report))["Words"]
    schema = json.loads(Path(sidecars.__file__).with_name("sidecar.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(report)


def test_recordings_that_lost_words_come_first_where_somebody_is_to_listen() -> None:
    def report(gone: int, unrest: int, review: bool) -> dict[str, Any]:
        return {"checks": {"words": {"sure": 90, "gone": gone, "own_unrest": unrest, "review": review}}}

    assert [choosing._words(one) for one in (report(9, 2, True), report(3, 2, False), {})] == [7, 0, 0]
    assert dict(facts(report(9, 2, True)))["Words"].endswith("9 not heard after (own unrest 2): review it")


@pytest.mark.parametrize("values", [{"check_words": "huge"}, {"check_words": "./a"}, {"keep_text": "yes"}])
def test_what_is_no_recogniser_is_refused_with_those_there_are(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings(**values)
    assert "tiny" in str(refused.value.remedy) or "true" in str(refused.value.remedy)


def test_digests_of_old_queues_stay_and_the_check_is_in_none() -> None:
    assert "words" not in Settings().to_json()
    asked = Settings(check_words="tiny.en", keep_text=True)
    assert asked.digest() == Settings().digest()
    assert Settings.from_json(asked.to_json()) == asked


def test_a_folder_that_an_uninstall_left_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "left_over_folder").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(extras, "_WORDS", ("left_over_folder",))
    with pytest.raises(ExtraMissing, match="left-over-folder"):
        extras.check(Settings(check_words="tiny"))


def test_without_the_extra_it_is_refused_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "faster_whisper" else real(name))
    with pytest.raises(ExtraMissing, match=r"--check-words needs .*faster-whisper") as refused:
        extras.check(Settings(check_words="tiny"))
    assert refused.value.remedy == "pip install 'batchsr[words]'"
    assert extras.missing()["check_words"] == refused.value.remedy


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["--check-words"], "tiny"),
        (["--check-words=small.en"], "small.en"),
        (["--check-words=off"], "off"),
        (["--check-words=here/model"], "{cwd}/here/model"),
        (["--check-words=~/here/model"], "{cwd}/here/model"),
    ],
)
def test_the_option_alone_takes_no_file_for_its_model(
    typed: list[str], meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(extras, "_WORDS", ("numpy",))
    soundfile.write(tmp_path / "a.wav", spoken("ab", 8_000), 8_000)
    words = ["--db", str(tmp_path / "q.db"), "--json", "enqueue", *typed, "a.wav"]
    result = CliRunner().invoke(cli, words, obj=None)
    assert result.exit_code == 0, result.output
    shown = CliRunner().invoke(cli, ["--db", str(tmp_path / "q.db"), "--json", "show", "1"])
    settings = json.loads(shown.output)["settings"]
    assert settings.get("check_words") == (None if meant == "off" else meant.format(cwd=tmp_path))


def test_a_hub_that_cannot_be_asked_is_not_asked_for_each_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr(recognisers, "_failed", {})
    asked = []

    def published(repository: str, name: str, revision: str = "main") -> Any:
        asked.append(repository)
        raise recognisers.HubError("there is no connection", "look at the network")

    monkeypatch.setattr(recognisers.hub_client, "published", published)
    for _ in range(3):
        with pytest.raises(StageFailed, match="cannot be fetched: there is no connection"):
            recognisers.find("tiny.en")
    assert asked == ["Systran/faster-whisper-tiny.en"]


def earlier(folder: Path, name: str, before: str, after: str) -> Path:
    """An output with its sidecar, in which other words are than in its source."""
    folder.mkdir(exist_ok=True, parents=True)
    source = folder / f"{name}.wav"
    soundfile.write(source, spoken(before, 8_000), 8_000, subtype="PCM_24")
    provenance = {"variant": "tiny", "revision": "r", "weights_sha256": "w", "dtype": "float32", "device": "cpu"}
    output = folder / "out" / f"{name}.wav"
    output.parent.mkdir(exist_ok=True)
    report = run(task_for(source, output, settings=Settings(overlap=0.02), provenance=provenance), Echo(hiss=0)).report
    sidecars_path = Path(f"{output}.json")
    soundfile.write(output, spoken(after), RATE_48K, subtype="PCM_24")
    report["output"] |= {"sha256": storage.sha256(output), "size_bytes": output.stat().st_size}
    sidecars_path.write_text(json.dumps(report))
    return output


def test_earlier_outputs_are_heard_beside_their_sources_and_the_worst_come_first(by_tone: Path, tmp_path: Path) -> None:
    earlier(tmp_path, "good", "abcdef", "abcdef")
    worst = earlier(tmp_path, "worst", "abcdef", "annnef")
    earlier(tmp_path, "bad", "abcdef", "abndef")
    words = ["words", str(tmp_path / "out"), "--recogniser", str(by_tone)]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 3, result.output
    lines = [line for line in result.stdout.splitlines() if line.strip()]
    assert [Path(line.split()[1]).stem for line in lines] == ["worst", "bad", "good"]
    assert "3 of 6 gone" in lines[0]
    assert "review it" in lines[0]
    assert "bb" not in result.stdout
    assert "1 output to be reviewed" in result.stderr
    told = CliRunner().invoke(cli, ["--json", *words, "--keep-text"])
    documents = {Path(one["output"]).stem: one for one in map(json.loads, told.stdout.splitlines())}
    schema = json.loads((ROOT / "docs" / "schema" / "words.schema.json").read_text())
    for document in documents.values():
        jsonschema.Draft202012Validator(schema).validate(document)
    assert documents["worst"]["gone"] == 3
    assert documents["worst"]["places"][0]["after"].split() == ["nn,", "nn,", "nn,"]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    assert CliRunner().invoke(cli, ["words", str(worst), "--recogniser", str(by_tone)]).exit_code == 3
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before, "nothing is written"


def test_an_output_that_cannot_be_heard_is_named_and_the_others_are_heard(by_tone: Path, tmp_path: Path) -> None:
    earlier(tmp_path, "good", "abc", "abc")
    broken = earlier(tmp_path, "broken", "abc", "abc")
    broken.write_bytes(b"no sound")
    (earlier(tmp_path, "orphan", "abc", "abc").parent.parent / "orphan.wav").unlink()
    result = CliRunner().invoke(cli, ["--json", "words", str(tmp_path / "out"), "--recogniser", str(by_tone)])
    assert result.exit_code == 3
    documents = {Path(one["output"]).stem: one for one in map(json.loads, result.stdout.splitlines())}
    assert documents["good"]["gone"] == 0
    assert "--source" in documents["orphan"]["error"] + result.stderr
    assert documents["broken"]["error_code"].startswith("input.")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nowhere.wav"], 2, "is not there"),
        (["a.wav", "b.wav", "--source", "a.wav"], 2, "--source is of a single output"),
        ([".", "--source", "a.wav"], 2, "--source is of a single output"),
        (["a.wav"], 3, "no sidecar"),
        (["a.wav", "--recogniser", "huge"], 2, "there is no recogniser huge"),
        (["a.wav", "--recogniser", "./huge"], 2, "there is no recogniser ./huge"),
        (["a.wav", "--recogniser", "away/huge"], None, "is no recogniser's folder"),
        (["a.wav", "gone.wav"], 2, "gone.wav is not there"),
        (["a.wav", "--recorded", "--keep-text"], 2, "--recorded hears nothing"),
        (["a.wav", "--recorded", "--source", "b.wav"], 2, "--recorded hears nothing"),
        (["a.wav", "--recorded"], 3, "has no words on record"),
    ],
)
def test_what_cannot_be_heard_is_said_in_a_sentence(
    by_tone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int | None, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        soundfile.write(f"{name}.wav", spoken("ab", 8_000), 8_000)
    model = [] if {"--recogniser", "--recorded"} & set(words) else ["--recogniser", str(by_tone)]
    told = called("words", *words, *model, code=StageFailed.exit_code if code is None else code)
    assert said in told.err


def test_an_output_without_a_sidecar_is_heard_beside_a_named_source(by_tone: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", spoken("abc", 8_000), 8_000)
    soundfile.write(tmp_path / "b.wav", spoken("abn"), RATE_48K)
    words = [
        "--json",
        "words",
        str(tmp_path / "b.wav"),
        "--source",
        str(tmp_path / "a.wav"),
        "--recogniser",
        str(by_tone),
    ]
    assert json.loads(CliRunner().invoke(cli, words).stdout)["gone"] == 1


def test_a_source_that_is_another_by_now_is_not_heard_unless_it_is_named(by_tone: Path, tmp_path: Path) -> None:
    output = earlier(tmp_path, "a", "abc", "abn")
    soundfile.write(tmp_path / "a.wav", spoken("abn", 8_000), 8_000)
    words = ["--json", "words", str(output), "--recogniser", str(by_tone)]
    told = CliRunner().invoke(cli, words)
    assert json.loads(told.stdout)["error_code"] == "input.changed"
    assert told.exit_code == 3
    assert json.loads(CliRunner().invoke(cli, [*words, "--source", str(tmp_path / "a.wav")]).stdout)["gone"] == 0


def test_an_output_that_is_another_by_now_is_not_taken_for_the_one_on_record(by_tone: Path, tmp_path: Path) -> None:
    output = earlier(tmp_path, "a", "abc", "abc")
    soundfile.write(output, spoken("nnn"), RATE_48K)
    words = ["--json", "words", str(output), "--recogniser", str(by_tone)]
    told = CliRunner().invoke(cli, words)
    assert json.loads(told.stdout)["error_code"] == "input.changed"
    assert told.exit_code == 3
    assert json.loads(CliRunner().invoke(cli, [*words, "--source", str(tmp_path / "a.wav")]).stdout)["gone"] == 3


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("damage", ["cut", "no number"])
def test_a_sidecar_that_was_damaged_is_named_and_not_passed_over(
    by_tone: Path, tmp_path: Path, damage: str, recorded: bool
) -> None:
    sidecar = Path(f"{earlier(tmp_path, 'a', 'abc', 'abc')}.json")
    text = sidecar.read_text()
    sidecar.write_text(text[:300] if damage == "cut" else text.replace('"rtf": ', '"rtf": NaN, "x": ', 1))
    (tmp_path / "out" / "strange.wav").write_bytes(b"")
    (tmp_path / "out" / "strange.wav.json").write_text("[1, 2]")
    how = ["--recorded"] if recorded else ["--recogniser", str(by_tone)]
    told = CliRunner().invoke(cli, ["words", str(tmp_path / "out"), *how])
    assert told.exit_code == 3, told.output
    assert "a.wav.json" in told.stderr
    assert "strange" not in told.output


def test_sources_that_were_moved_are_found_below_the_folder_that_is_named(by_tone: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        earlier(tmp_path, name, "abc", "abn")
    (tmp_path / "done" / tmp_path.name).mkdir(parents=True)
    (tmp_path / "a.wav").rename(tmp_path / "done" / "a.wav")
    (tmp_path / "b.wav").rename(tmp_path / "done" / tmp_path.name / "b.wav")
    (tmp_path / "c.wav").unlink()
    soundfile.write(tmp_path / "done" / "c.wav", spoken("abd", 8_000), 8_000)
    words = ["--json", "words", str(tmp_path / "out"), "--source", str(tmp_path / "done"), "--recogniser", str(by_tone)]
    told = CliRunner().invoke(cli, words)
    documents = {Path(one["output"]).stem: one for one in map(json.loads, told.stdout.splitlines())}
    assert (documents["a"]["gone"], documents["b"]["gone"]) == (1, 1)
    assert documents["c"]["error_code"] == "input.missing", "of its name, and another"
    assert told.exit_code == 3


def test_an_output_that_is_named_twice_is_heard_once(by_tone: Path, tmp_path: Path) -> None:
    output = earlier(tmp_path, "a", "abc", "abc")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    places = [str(place) for place in (output, output.parent, output, tmp_path / "link")]
    told = CliRunner().invoke(cli, ["--json", "words", *places, "--recogniser", str(by_tone)])
    assert len(told.stdout.splitlines()) == 1, told.output


def test_what_is_on_record_is_listed_worst_first_without_a_recogniser(
    by_tone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    for name, gone_, unrest in (("good", 0, 1), ("worst", 9, 2), ("bad", 4, 0)):
        restored(tmp_path, spoken("abcdef", 8_000), f"out/{name}.wav", check_words=str(by_tone))
        sidecar = tmp_path / "out" / f"{name}.wav.json"
        document = json.loads(sidecar.read_text())
        document["checks"]["words"] |= {"sure": 90, "gone": gone_, "own_unrest": unrest, "review": gone_ > 2}
        sidecar.write_text(json.dumps(document))
    restored(tmp_path, spoken("abc", 8_000), "out/unasked.wav")
    monkeypatch.setattr(extras, "_WORDS", ("no_such_module",))
    told = CliRunner().invoke(cli, ["words", "--recorded", str(tmp_path / "out")])
    assert told.exit_code == 3, told.output
    assert [Path(line.split()[1]).stem for line in told.stdout.splitlines()] == ["worst", "bad", "good"]
    assert "unasked" not in told.output
    alone = CliRunner().invoke(cli, ["--json", "words", "--recorded", f"{tmp_path}/out/bad.wav"])
    told_by = json.loads(alone.stdout)
    assert (told_by["gone"], told_by["own_unrest"]) == (4, 0)
    jsonschema.Draft202012Validator(json.loads((ROOT / "docs/schema/words.schema.json").read_text())).validate(told_by)
    document["checks"]["words"].pop("places")
    sidecar.write_text(json.dumps(document))
    odd = CliRunner().invoke(cli, ["--json", "words", "--recorded", str(sidecar.with_suffix(""))])
    assert json.loads(odd.stdout)["error_code"] == "output.sidecar"


def test_a_folder_that_cannot_be_listed_is_named_and_those_beside_it_are_heard(
    by_tone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier(tmp_path, "good", "abc", "abc")
    (tmp_path / "out" / "closed").mkdir()
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    told = CliRunner().invoke(cli, ["words", str(tmp_path / "out"), "--recogniser", str(by_tone)])
    assert told.exit_code == 3
    assert "closed cannot be listed" in told.stderr
    assert "0 of 3 gone" in told.stdout


def test_what_was_heard_is_said_to_who_stops_it(by_tone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier(tmp_path, "a", "abc", "abc")
    earlier(tmp_path, "b", "abc", "abc")
    real = words_of_outputs.check

    def check(output: Path, *rest: Any, **how: Any) -> dict[str, Any]:
        if output.stem == "b":
            raise KeyboardInterrupt
        return real(output, *rest, **how)

    monkeypatch.setattr(words_of_outputs, "check", check)
    told = CliRunner().invoke(cli, ["words", str(tmp_path / "out"), "--recogniser", str(by_tone)])
    assert "0 of 3 gone" in told.stdout
    assert told.exit_code not in (0, 3)


def test_a_recogniser_that_fails_ends_the_command_with_a_number_that_says_so(
    by_tone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Path) -> Any:
        raise RuntimeError("unsupported model binary version")

    output = earlier(tmp_path, "a", "abc", "abc")
    monkeypatch.setattr(recogniser, "load", broken)
    told = CliRunner().invoke(cli, ["words", str(output), "--recogniser", str(by_tone)])
    assert told.exit_code == 3
    assert "unsupported model binary" in told.stdout


def test_of_an_output_far_longer_than_its_source_no_more_is_held(
    by_tone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words_of_outputs, "_LONGER", RATE_48K)
    soundfile.write(tmp_path / "a.wav", spoken("abc", 8_000), 8_000)
    soundfile.write(tmp_path / "b.wav", spoken("abc" + " " * 60 + "a"), RATE_48K)
    taken = 0
    real = WordCheck.add_after

    def add_after(self: WordCheck, block: Any) -> None:
        nonlocal taken
        taken += len(block)
        real(self, block)

    monkeypatch.setattr(WordCheck, "add_after", add_after)
    said = words_of_outputs.check(tmp_path / "b.wav", tmp_path / "a.wav", lambda: ByTone(), keep_text=False)
    assert (said["sure"], said["gone"]) == (3, 0)
    assert taken < 20 * RATE_48K


def test_music_is_not_given_to_a_recogniser_and_does_not_tell_the_language(monkeypatch: pytest.MonkeyPatch) -> None:
    class Low:
        """For which tones of a high pitch are music: what crosses zero often."""

        def process_samples(self, samples: list[float]) -> float:
            crossings = np.count_nonzero(np.diff(np.signbit(samples)))
            return float(max(map(abs, samples)) > 0.02 and 5 < crossings < 50)

    monkeypatch.setattr(voice, "_silero", Low)
    told: list[Samples] = []

    class Listens(ByTone):
        def language_of(self, sound: Samples) -> str:
            told.append(sound)
            return super().language_of(sound)

    hears = Listens()
    sound = spoken("p" * 50 + "a" * 28)  # music in all of the first clip and most of the second
    said = checked(sound, sound, hears)
    assert len(told) == 1
    spectrum = np.abs(np.fft.rfft(told[0]))
    assert np.argmax(spectrum) * RATE_HZ / len(told[0]) == pytest.approx(300, abs=10), "speech alone tells it"
    assert 28 <= said["sure"] < 60, "of the music at most what shares a clip with speech"


def test_channels_are_heard_as_their_mean() -> None:
    one, other = spoken("abc   "), spoken("   def")
    n = min(len(one), len(other))
    said = checked(np.hstack([one[:n], other[-n:]]), np.hstack([one[:n], np.zeros((n, 1), np.float32)]))
    assert said["sure"] == 6
    assert said["gone"] >= 3


def test_segments_that_are_none_or_repeat_themselves_are_left_out(tmp_path: Path) -> None:
    heard = types.SimpleNamespace(start=0.0, end=1.0, word=" yes", probability=0.9)

    def segment(no_speech: float, repeats: float) -> Any:
        return types.SimpleNamespace(no_speech_prob=no_speech, compression_ratio=repeats, words=[heard])

    class Network:
        asked: dict[str, Any]

        def transcribe(self, sound: Samples, **how: Any) -> Any:
            self.asked = how
            return iter([segment(0.61, 1), segment(0.1, 2.41), segment(0.6, 2.4), segment(0.0, 1)]), None

    one = recogniser.Whisper.__new__(recogniser.Whisper)
    network = Network()
    one._network, one._lock = network, threading.Lock()
    assert one.words(np.zeros(16_000, np.float32), "de") == [Word(0.0, 1.0, "yes", 0.9)] * 2
    assert (network.asked["beam_size"], network.asked["temperature"], network.asked["language"]) == (1, 0.0, "de")
    assert network.asked["condition_on_previous_text"] is False


def test_a_recogniser_is_fetched_once_at_one_revision_and_fetched_again_where_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(recognisers, "_failed", {})
    served = {f"Systran/faster-whisper-tiny/{name}": name.encode() * 50 for name in recognisers.FILES}
    with hub(served) as (endpoint, requests):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        folder = recognisers.find("tiny")
        assert folder.name == COMMIT
        assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name in recognisers.FILES} == {
            name: name.encode() * 50 for name in recognisers.FILES
        }
        asked = len(requests)
        assert recognisers.find("tiny") == folder
        assert len(requests) == asked, "the hub is not asked again"
        (folder / "model.bin").write_bytes(b"other")
        assert recognisers.find("tiny") == folder
        assert (folder / "model.bin").read_bytes() == b"model.bin" * 50
        assert any(COMMIT in path for _, path in requests[asked:])
        assert not any("/main/" in path for _, path in requests[asked:]), "the revision stays"


@pytest.mark.parametrize("typed", ["tinny", "./tinny", "large-v9", ".", "a.wav"])
def test_what_is_no_recogniser_is_refused_before_anything_is_enqueued(
    typed: str, by_tone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", spoken("ab", 8_000), 8_000)
    told = called("--db", "q.db", "enqueue", f"--check-words={typed}", "a.wav", code=2)
    assert typed in told.err
    assert "tiny.en" in told.err
    assert not Path("q.db").exists()


def test_a_worker_without_the_extra_leaves_such_jobs_to_one_that_has_it(
    by_tone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = tmp_path / "queue.db"
    for name, asks in (("a", {"check_words": str(by_tone)}), ("b", {})):
        soundfile.write(tmp_path / f"{name}.wav", spoken("ab", 8_000), 8_000)
        rig.enqueue(db, [tmp_path / f"{name}.wav"], tmp_path / "out", settings={"overlap": 0.02, **asks})
    with monkeypatch.context() as without:
        without.setattr(extras, "_WORDS", ("no_such_module_at_all",))
        done = rig.work(db, rig.FastModel(frame_samples=24_000))
        assert (done.done, done.failed) == (1, 0)
        told = CliRunner().invoke(cli, ["--db", str(db), "status"]).output
        assert "1 queued with check_words" in told
        assert "pip install 'batchsr[words]'" in told
    assert rig.work(db, rig.FastModel(frame_samples=24_000)).done == 1
    (sidecar,) = (tmp_path / "out").glob("a*.wav.json")
    assert json.loads(sidecar.read_text())["checks"]["words"]["sure"] == 2
