"""Recordings that are in a store: found, fetched, restored as the same bytes that a local copy gives."""

from __future__ import annotations

import json
from pathlib import Path

import rig
from object_store import Store
from person import called

from batchsr.queue import State


def enqueue(db: Path, *words: object, code: int = 0) -> list[dict[str, object]]:
    return called("--db", db, "enqueue", "--json", *words, code=code).documents[:-1]


def test_a_prefix_is_restored_to_a_folder_as_the_same_files_on_a_disk_are(
    store: Store, tape: bytes, db: Path, tmp_path: Path
) -> None:
    store.put("1987/side a.wav", tape)
    store.put("1987/more/ä.wav", tape)
    store.put("1987/notes.txt", b"nothing")
    store.put("1988/other.wav", tape)
    found = enqueue(db, "-r", "s3://tapes/1987", "--out", tmp_path / "out")
    assert [one["outcome"] for one in found] == ["queued", "queued"]
    summary = rig.work(db)
    assert summary.done == 2
    (tmp_path / "in").mkdir()
    local = tmp_path / "in" / "here.wav"
    local.write_bytes(tape)
    rig.enqueue(db, [local], tmp_path / "local")
    rig.work(db)
    expected = (tmp_path / "local" / "here_upsampled.wav").read_bytes()
    for name in ("side a", "more/ä"):
        output = tmp_path / "out" / f"{name}_upsampled.wav"
        assert output.read_bytes() == expected
        said = json.loads(Path(f"{output}.json").read_text())["source"]
        assert said["path"] == f"s3://tapes/1987/{name}.wav"
        assert said["modified"] == "2025-03-01T10:00:00+00:00"
        assert said["e_tag"] == store.objects["tapes", f"1987/{name}.wav"][1]
    assert [path.name for path in (tmp_path / "queue.db.scratch").iterdir()] == []
    assert "hidden-key" not in (db.read_bytes() + output.with_name(output.name + ".json").read_bytes()).decode("latin1")
    assert [one["outcome"] for one in enqueue(db, "-r", "s3://tapes/1987", "--out", tmp_path / "out")] == [
        "already done",
        "already done",
    ]
    assert rig.job_of(db, 1).state is State.DONE


HOSTILE = {
    "x//two.wav": "has two in a row",
    "/lead.wav": "begins with a slash",
    "x/../up.wav": "is . or ..",
    "x/./here.wav": "is . or ..",
    "x/new\nline.wav": "control character",
    "x/tab\t.wav": "control character",
    "x/esc\x1b[2J.wav": "control character",
    "x/del\x7f.wav": "control character",
}


def test_keys_that_cannot_be_asked_for_are_told_and_the_rest_is_taken(
    store: Store, tape: bytes, db: Path, tmp_path: Path
) -> None:
    good = ["a/b.wav", "back\\slash.wav", "cafe\u0301.wav", "café.wav", "100%20.wav", "A.WAV", "a.wav", "?&#+ .wav"]
    good += [f"{'k' * 300}/{'n' * 719}.wav", "~/tape.wav", "-r.wav", "x/*.wav", "C:\\tape.wav"]
    for key in (*good, *HOSTILE, "x/folder/", "x/folder.wav/", "x/~$.wav", "y/.DS_Store", "nothing.txt", "bare"):
        store.put(key, tape)
    said = called("--db", db, "enqueue", "-r", "s3://tapes", "--out", tmp_path / "out", "--json", code=3)
    rows = {row["source"]: row for row in said.documents}
    for key, why in HOSTILE.items():
        assert rows[f"s3://tapes/{key}"]["error_code"] == "input.unreadable"
        assert why in rows[f"s3://tapes/{key}"]["error"]
    taken = {key for key in store.names() if rows.get(f"s3://tapes/{key}", {}).get("outcome") == "queued"}
    assert taken == set(good)
    assert "\x1b" not in said.err
    rig.work(db)
    assert rig.work(db).failed == 0
    outputs = [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.suffix != ".json"]
    assert len(outputs) == len(good)
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith("queue.db")} == {"tape.wav", "out"}


def test_parts_of_keys_lead_nowhere_but_below_the_output_s_folder(tmp_path: Path) -> None:
    """Also for stores whose client would ask for such keys."""
    from batchsr.intake import buckets

    for key in ("../../x.wav", "a/../../../x.wav", "//x.wav", "./../x.wav", "a/" * 400 + "x.wav", "p" * 600 + "/x.wav"):
        made, other = buckets.output_names(f"s3://tapes/{key}", "s3://tapes", str(tmp_path), "_up.wav", 250)
        for path in (made, other):
            assert Path(path).resolve().is_relative_to(tmp_path)
            assert max(len(part.encode()) for part in Path(path).parts) <= 255


def test_globs_match_within_a_part_of_a_key_and_two_stars_any_number(store: Store, db: Path, tmp_path: Path) -> None:
    for key in ("t/1.wav", "t/2.wav", "t/3.flac", "t/in/1.wav", "t/in/deep/1.wav", "u/1.wav", "t/[1].wav", "1.wav"):
        store.put(key, b"nothing")

    def found(pattern: str) -> list[str]:
        words = ("enqueue", "--dry-run", "--json", f"s3://tapes/{pattern}", "--out", tmp_path / "o")
        return [str(row["source"])[11:] for row in called("--db", db, *words).documents[:-1]]

    assert found("t/*.wav") == ["t/1.wav", "t/2.wav", "t/[1].wav"]
    assert found("t/[12].wav") == ["t/1.wav", "t/2.wav"]
    assert found("t/[1].wav") == ["t/[1].wav"]
    assert found("t/**/1.wav") == ["t/1.wav", "t/in/1.wav", "t/in/deep/1.wav"]
    assert found("*/1.wav") == ["t/1.wav", "u/1.wav"]
    assert found("t/**") == ["t/1.wav", "t/2.wav", "t/3.flac", "t/[1].wav", "t/in/1.wav", "t/in/deep/1.wav"]
    none = called("--db", db, "enqueue", "s3://tapes/none/*.wav", "--out", tmp_path / "o", code=2)
    assert "no such object, prefix or match" in none.out + none.err


def test_a_listing_of_many_pages_is_read_as_a_stream(store: Store, db: Path, tmp_path: Path) -> None:
    store.page = 7
    for number in range(100):
        store.put(f"n/{number:03}.wav", b"nothing")
    assert len(enqueue(db, "-r", "s3://tapes/n/", "--out", tmp_path)) == 100
    assert sum(key == "?n/" for _, key in store.asked) == 15


def test_what_is_named_and_not_there_or_needs_r_is_said(store: Store, db: Path, tmp_path: Path) -> None:
    store.put("n/1.wav", b"nothing")
    for url, words, code in (
        ("s3://tapes/n", "pass -r", 2),
        ("s3://tapes/n/", "pass -r", 2),
        ("s3://tapes", "pass -r", 2),
        ("s3://tapes/m", "no such object", 2),
        ("s3://tapes/m/", "nothing is there", 2),
        ("s3://elsewhere/m", "there is no such bucket", 3),
    ):
        said = called("--db", db, "enqueue", url, "--out", tmp_path / "o", code=code)
        assert words in said.out + said.err, url


def test_urls_that_hold_secrets_or_are_of_no_store_are_refused_without_being_repeated(db: Path, tmp_path: Path) -> None:
    for url in (
        "https://user:hunter2@host/a.wav",
        "https://hunter2@host/a.wav",
        "s3://user:hunter2@tapes/a.wav",
        "https://tapes.s3.amazonaws.com/a.wav?X-Amz-Signature=hunter2&X-Amz-Date=1",
        "s3://tapes/a.wav?X-Amz-Signature=hunter2",
        "https://x.blob.core.windows.net/c/a.wav?sv=2024&sig=hunter2",
        "https://host/a.wav?token=hunter2",
        "https://host/a.wav?hunter2",
        "https://host/a.wav#hunter2",
        "ftp://user:hunter2@host/a.wav",
        "file:///etc/hunter2",
        "http://host/hunter2.wav",
        "s3:///hunter2",
        "s3://-/hunter2",
    ):
        said = called("--db", db, "enqueue", url, "--out", tmp_path / "o", code=2)
        assert "hunter2" not in said.out + said.err, url
        assert "usage" in said.out + said.err
    assert not (tmp_path / "o").exists()


def test_a_url_is_no_path_to_any_other_command(db: Path, tmp_path: Path) -> None:
    for words in (
        ("upsample", "s3://tapes/a.wav"),
        ("upsample", tmp_path / "a.wav", "-o", "s3://tapes/b.wav"),
        ("watch", "s3://tapes/in"),
        ("watch", tmp_path, "--out", "s3://tapes/in"),
        ("run", "s3://tapes/in"),
        ("export", "s3://tapes/in"),
        ("relocate", "s3://tapes/in", tmp_path),
        ("relocate", tmp_path, "s3://tapes/in"),
        ("undo", "1", "--into", "s3://tapes/in"),
        ("explain", "s3://tapes/a.wav"),
        ("import-sidecars", "s3://tapes/in"),
        ("report", "-o", "s3://tapes/report.csv"),
        ("listen", "1", "-o", "s3://tapes/page.html"),
        ("enqueue", "--job", "s3://tapes/job.toml"),
        ("enqueue", "--from-file", "s3://tapes/list.txt"),
        ("db", "backup", "s3://tapes/db"),
    ):
        said = called("--db", db, *words, code=2)
        assert "is a URL" in said.err, words


def test_a_database_that_was_lost_is_made_anew_from_the_sidecars_of_fetched_objects(
    store: Store, tape: bytes, db: Path, tmp_path: Path
) -> None:
    store.put("in/tape.wav", tape)
    enqueue(db, "s3://tapes/in/tape.wav", "--out", tmp_path / "out")
    rig.work(db)
    other = tmp_path / "other.db"
    called("--db", other, "import-sidecars", tmp_path / "out")
    (row,) = enqueue(other, "s3://tapes/in/tape.wav", "--out", tmp_path / "out")
    assert row["outcome"] == "already done"
    third = tmp_path / "third.db"
    enqueue(third, "s3://tapes/in/tape.wav", "--out", tmp_path / "out")
    computed: list[object] = []
    assert rig.work(third, rig.FastModel(calls=computed.append)).done == 1
    assert computed == []
    sidecar = tmp_path / "out" / "tape_upsampled.wav.json"
    sidecar.write_text(sidecar.read_text().replace("s3://tapes/in", "s3://me:hunter2@tapes/in"))
    said = called("--db", tmp_path / "fourth.db", "import-sidecars", tmp_path / "out", code=None)
    assert "where the recording was" in said.out + said.err
