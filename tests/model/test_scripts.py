"""The scripts run as the documentation says."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from batchsr import FlashSR
from batchsr.models.compute import backend

backend.prepare(device="cpu")

from batchsr.models.compute import layers  # noqa: E402  (MLX may only be imported behind prepare)
from batchsr.models.flashsr.networks import Networks  # noqa: E402
from batchsr.models.tools import make  # noqa: E402
from scripts import bench, counting, mix_weights  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("format", ["float32", "int4"])
def test_make_bundle_writes_a_bundle_that_loads(tmp_path: Path, format: str) -> None:
    done = run("make_bundle.py", tmp_path / "b", "--format", format, "--frame-samples", 7680, "--seed", "x")
    assert done.returncode == 0, done.stderr
    assert "0.9 M parameters" in done.stdout
    model = FlashSR.from_pretrained(tmp_path / "b", device="cpu")
    assert (model.frame_samples, model.config.format) == (7680, format)


def test_make_bundle_refuses_a_window_that_does_not_divide(tmp_path: Path) -> None:
    done = run("make_bundle.py", tmp_path / "b", "--frame-samples", 7681)
    assert done.returncode == 69
    assert "audio.frame_samples" in done.stderr
    assert not (tmp_path / "b").exists()


def test_bench_prints_every_stage(tmp_path: Path) -> None:
    done = run("bench.py", "--size", "tiny", "--runs", 1)
    assert done.returncode == 0, done.stderr
    for word in ("machine", "backend", "encode", "unet", "decode", "vocoder", "window", "peak"):
        assert word in done.stdout


def test_the_count_of_a_window_is_what_its_layers_multiply_and_move() -> None:
    published = make.config_of_size("published")
    found = counting.count(Networks(published), published)
    for stage, counted in found.items():
        assert counted.flops / 1e12 == pytest.approx(bench.PUBLISHED_TFLOP[stage], rel=0.03, abs=0.005)
    vocoder, rates = found["vocoder"], published.vocoder.upsample_rates
    length, activated = published.audio.frame_samples // published.mel.hop, 0
    for level, rate in enumerate(rates, 1):
        length *= rate
        activated += length * published.vocoder.channels(level) * 18
    activated += length * published.vocoder.channels(len(rates))
    assert vocoder.activated == activated, "six to a block, three blocks to a level, one at the end"
    assert vocoder.gigabytes(4, fused=False) - vocoder.gigabytes(4) == pytest.approx(activated * 4 * 157 / 1e9)
    assert found["unet"].activated == 0
    assert vocoder.gigabytes(2) == pytest.approx(vocoder.gigabytes(4) / 2)
    slow, fast = vocoder.seconds(10, 1000, 4), vocoder.seconds(1000, 0.1, 4)
    assert slow == pytest.approx(vocoder.gigabytes(4) / 10), "memory is what is short"
    assert fast == pytest.approx(vocoder.flops / 1e11), "arithmetic is"


def test_counting_prints_a_line_for_each_stage_and_mac_and_leaves_layers_as_they_were(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = make.config_of_size("tiny")
    methods = [layers.Conv1d.__call__, layers.Conv2d.plus, layers.Linear.__call__]
    counting.print_counts(Networks(config), config)
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("encode", "unet", "decode", "vocoder", "together", *counting.MACS))
    assert methods == [layers.Conv1d.__call__, layers.Conv2d.plus, layers.Linear.__call__]


def test_mix_weights_takes_a_share_for_each_network(tmp_path: Path) -> None:
    runs = []
    for seed in ("one", "two"):
        make.write_random(tmp_path / seed, make.config_of_size("tiny"), seed)
        runs.append(tmp_path / seed / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(make.config_of_size("tiny").to_mapping()))
    options = ("--config", tmp_path / "config.json", "--format", "float32", "--voc", "0.25", "--ldm", "0")
    done = run("mix_weights.py", *runs, tmp_path / "mixed", *options)
    assert done.returncode == 0, done.stderr
    one, two, mixed = (load_file(file) for file in (*runs, tmp_path / "mixed" / "model.safetensors"))
    assert one.keys() == mixed.keys()
    for name, values in mixed.items():
        share = {"voc": 0.25, "ldm": 0.0, "vae": 1.0}[name.partition(".")[0]]
        assert np.allclose(values, (1 - share) * one[name] + share * two[name], atol=1e-6), name


def test_mix_weights_of_three_trainings_is_their_mean_and_takes_no_shares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = []
    for seed in ("one", "two", "three"):
        make.write_random(tmp_path / seed, make.config_of_size("tiny"), seed)
        runs.append(tmp_path / seed / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(make.config_of_size("tiny").to_mapping()))
    given = [*map(str, runs), str(tmp_path / "mixed"), "--config", str(tmp_path / "config.json"), "--format", "float32"]
    assert mix_weights.main(given) == 0
    *trainings, mixed = (load_file(file) for file in (*runs, tmp_path / "mixed" / "model.safetensors"))
    for name, values in mixed.items():
        assert np.allclose(values, sum(weights[name] for weights in trainings) / 3, atol=1e-6), name
    with pytest.raises(SystemExit):
        mix_weights.main([*given, "--voc", "0.5"])
    assert "three or more count alike" in capsys.readouterr().err


def test_quantize_says_what_it_costs_stage_by_stage(tiny_folder: Path, tmp_path: Path) -> None:
    found = {}
    for format in ("int8", "int4"):
        sound = ROOT / "tests/data/phone_8k.wav"
        done = run("quantize.py", tiny_folder, tmp_path / format, "--format", format, "--errors", sound)
        assert done.returncode == 0, done.stderr
        lines = [line.split() for line in done.stdout.splitlines()[1:]]
        found[format] = {stage: float(error) for stage, error in lines}
        assert found[format].keys() == {"encode", "unet", "decode", "vocoder", "window"}
    assert all(0 < error < 0.1 for error in found["int8"].values())
    # Where a bundle this small has hardly a tensor that divides by 64, its two formats are equally good.
    assert all(error <= found["int4"][stage] for stage, error in found["int8"].items())
    assert 4 * found["int8"]["unet"] < found["int4"]["unet"]


def test_the_tools_leave_a_model_card_with_the_facts_and_never_replace_one(tiny_folder: Path, tmp_path: Path) -> None:
    assert run("quantize.py", tiny_folder, tmp_path / "b", "--format", "int8").returncode == 0
    card = tmp_path / "b" / "MODEL_CARD.md"
    text = card.read_text()
    sha256 = hashlib.sha256((tmp_path / "b" / "model.safetensors").read_bytes()).hexdigest()
    for words in ("0.9 M", "int8", sha256, "## What they were trained on", "## Licence", "scripts/quantize.py"):
        assert words in text
    card.write_text("mine")
    assert run("quantize.py", tiny_folder, tmp_path / "b", "--format", "int4").returncode == 0
    assert card.read_text() == "mine"
