"""Bundles as others write them, with more in them than ours: each gives a window the very bytes of the plain one."""

from __future__ import annotations

import json
import logging
import os
import shutil
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchsr import FlashSR
from batchsr.errors import BundleError
from batchsr.models.flashsr import bundle
from batchsr.models.flashsr.safetensors_header import read_header
from batchsr.models.tools import make
from batchsr.models.tools.check import check, warnings_of

Values = dict[str, Any]
Edit = Callable[[Values], object]
SCHEDULE = (
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
)
Extra = dict[str, tuple[str, list[int], bytes]]
EXTRA: dict[str, Extra] = {
    "the buffers of a schedule": {f"ldm.{name}": ("F32", [1000], bytes(4000)) for name in SCHEDULE},
    "the logvar of a loss": {"vae.loss.logvar": ("F64", [], bytes(8))},
    "a mel basis": {"mel.basis": ("F16", [64, 1025], bytes(2 * 64 * 1025))},
    "a quantised mel basis": {
        "mel.basis": ("U32", [64, 128], bytes(4 * 64 * 128)),
        "mel.basis.scales": ("F16", [64, 16], bytes(2 * 64 * 16)),
        "mel.basis.biases": ("F16", [64, 16], bytes(2 * 64 * 16)),
    },
    "scales of a tensor that has none": {"ldm.out.2.bias.scales": ("F16", [1], bytes(2))},
    "types that the networks never have": {
        "step": ("I64", [], bytes(8)),
        "odd": ("F4", [4], bytes(2)),
        "nan": ("F32", [1], struct.pack("<f", float("nan"))),
        "nothing": ("BF16", [0, 7], b""),
    },
}
"""Kind -> name -> type, shape and bytes."""


def set_in(section: str, **values: object) -> Edit:
    return lambda config: config.setdefault(section, {}).update(values)


def large(config: Values) -> None:
    """As much more as makes 70 KB of it."""
    config["provenance"] = {f"file_{i:04}": {"sha256": "0" * 64, "rule": "mlx"} for i in range(800)}


KEYS: dict[str, tuple[Edit, tuple[str, ...]]] = {
    "model": (lambda c: c.update(model="FlashSR"), ("model",)),
    "architecture": (lambda c: c.update(architecture={"unet": "openai", "heads": [1, None]}), ("architecture",)),
    "upstream": (lambda c: c.update(upstream={"repo": "jakeoneijk/FlashSR_Inference"}), ("upstream",)),
    "diffusion": (
        lambda c: c.update(diffusion={"timesteps": 1000, "prediction_type": "v", "schedule": "cosine"}),
        ("diffusion",),
    ),
    "quantization_config": (
        lambda c: c.update(quantization_config={"bits": 4, "group_size": 64}),
        ("quantization_config",),
    ),
    "in ldm": (set_in("ldm", extra_sa_layer=True, image_size=64), ("ldm.extra_sa_layer", "ldm.image_size")),
    "in vae": (set_in("vae", downsample_time=True, subband=1), ("vae.downsample_time", "vae.subband")),
    "in mel": (set_in("mel", win=2048), ("mel.win",)),
    "in audio": (set_in("audio", channels=1), ("audio.channels",)),
    "in quantization": (set_in("quantization", quantizer="mlx", skipped=[]), ("quantization.quantizer",)),
    "in voc": (lambda c: c.update(voc={**c.pop("vocoder"), "num_mels": 256}), ("voc.num_mels",)),
    "published sizes of smaller networks": (
        lambda c: c.update(hparams={"vae": {"z_channels": 16}, "vocoder": {"initial_channels": 1536}}),
        ("hparams",),
    ),
    "published widths of smaller networks": (
        lambda c: c.update(
            made_from={
                "unet": {"channel_mult": [1, 2, 3, 5], "block_out_channels": [128, 256, 384, 640], "num_res_blocks": 2},
                "autoencoder": {"ddconfig": {"ch": 128, "ch_mult": [1, 2, 4, 8]}, "latent_channels": 16},
                "bigvgan": {"num_kernels": 3, "upsample_initial_channel": 1536, "resblock_kernel_sizes": [3, 7, 11]},
            }
        ),
        ("made_from",),
    ),
    "another rate of the data it learnt from": (
        lambda c: c.update(data={"sample_rate": 16000}, inputs={"sr": 8000}),
        ("data", "inputs"),
    ),
    "a shape of a tensor that is nowhere": (
        lambda c: c["quantized_shapes"].update({"vae.nothing.weight": [1, 64]}),
        ("vae.nothing.weight", "quantized_shapes"),
    ),
    "names that do things to a terminal": (lambda c: c.update({"\x1b[2J\u202e": 1, "\ud800": 2}), ("\\x1b",)),
    "70 KB": (large, ("provenance",)),
}
"""Kind -> how the config is edited, and the keys that a warning must name."""


def with_tensors(folder: Path, extra: Extra, *, first: bool = False) -> None:
    """Put further tensors behind the others, or before them."""
    path = folder / "model.safetensors"
    content = path.read_bytes()
    (size,) = struct.unpack_from("<Q", content)
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    blob = b"".join(entry[2] for entry in extra.values())
    at = 0 if first else len(data)
    if first:
        for name, entry in header.items():
            if name != "__metadata__":
                entry["data_offsets"] = [offset + len(blob) for offset in entry["data_offsets"]]
    for name, (dtype, shape, value) in extra.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(value)]}
        at += len(value)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + (blob + data if first else data + blob))


def edited(folder: Path, edit: Edit) -> Path:
    values = json.loads((folder / "config.json").read_text())
    edit(values)
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    make.write_random(folder, make.config_of_size("tiny", format="int4"), "published")
    return folder


@pytest.fixture
def copied(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "bundle"))


def window(folder: Path) -> bytes:
    model = FlashSR.from_pretrained(folder, device="cpu")
    x = (0.1 * np.random.default_rng(0).standard_normal(model.frame_samples)).astype(np.float32)
    return model.upsample_window(x).tobytes()


@pytest.fixture(scope="module")
def expected(plain: Path) -> bytes:
    return window(plain)


def test_one_unknown_key_is_told_in_the_singular(copied: Path) -> None:
    (warning,) = bundle.open_bundle(edited(copied, set_in("vae", colour="blue"))).warnings
    assert "1 key with no meaning to this program: vae.colour" in warning


def test_the_plain_bundle_needs_no_warning(plain: Path) -> None:
    assert bundle.open_bundle(plain).warnings == ()


@pytest.mark.parametrize("kind", KEYS)
def test_unknown_keys_are_one_warning_and_change_no_byte(copied: Path, expected: bytes, kind: str) -> None:
    edit, named = KEYS[kind]
    (warning,) = bundle.open_bundle(edited(copied, edit)).warnings
    assert all(name in warning for name in named), warning
    assert warning.isprintable()
    assert window(copied) == expected


@pytest.mark.parametrize("first", [False, True], ids=["behind", "before"])
@pytest.mark.parametrize("kind", EXTRA)
def test_unknown_tensors_are_one_warning_and_change_no_byte(
    copied: Path, expected: bytes, kind: str, first: bool
) -> None:
    with_tensors(copied, EXTRA[kind], first=first)
    (warning,) = bundle.open_bundle(copied).warnings
    assert next(iter(EXTRA[kind])) in warning
    assert window(copied) == expected


@pytest.mark.parametrize("spelling", ["mlx", "MLX-int4", "safetensors", ""])
def test_another_spelling_of_the_format_is_one_warning(copied: Path, expected: bytes, spelling: str) -> None:
    edited(copied, lambda c: c.update(format=spelling))
    (warning,) = bundle.open_bundle(copied).warnings
    assert "format" in warning
    assert window(copied) == expected


@pytest.mark.parametrize("edit", [lambda c: c.pop("quantized_shapes"), lambda c: c.update(quantized_shapes={})])
def test_without_quantized_shapes_a_tensor_with_scales_is_a_quantised_one(
    copied: Path, expected: bytes, edit: Edit
) -> None:
    edited(copied, edit)
    opened = bundle.open_bundle(copied)
    assert "quantized_shapes" in opened.warnings[0]
    assert opened.config.quantized_shapes
    assert window(copied) == expected


IDLE = "voc.audio_block.downsamples.4.0"


def rewritten(folder: Path, change: Callable[[Values, bytearray], object]) -> None:
    """Change the header, and the bytes behind it, of a bundle's weights; the bytes close up over what was taken out."""
    path = folder / "model.safetensors"
    content = path.read_bytes()
    (size,) = struct.unpack_from("<Q", content)
    header, data = json.loads(content[8 : 8 + size]), bytearray(content[8 + size :])
    change(header, data)
    kept, at = b"", 0
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            kept += data[first:last]
            entry["data_offsets"] = [at, at + last - first]
            at += last - first
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + kept)


def not_finite(name: str) -> Callable[[Values, bytearray], object]:
    def change(header: Values, data: bytearray) -> None:
        first, last = header[name]["data_offsets"]
        data[first:last] = b"\xff" * (last - first)

    return change


IDLE_TROUBLE: dict[str, Callable[[Values, bytearray], object]] = {
    "missing": lambda header, _: [header.pop(name) for name in list(header) if name.startswith(IDLE)],
    "weight missing": lambda header, _: header.pop(f"{IDLE}.weight"),
    "scales missing": lambda header, _: header.pop(f"{IDLE}.weight.scales"),
    "bias not finite": not_finite(f"{IDLE}.bias"),
    "scales not finite": not_finite(f"{IDLE}.weight.scales"),
    "misshapen": lambda header, _: header[f"{IDLE}.bias"].update(shape=[1, *header[f"{IDLE}.bias"]["shape"]]),
}


@pytest.mark.parametrize("kind", IDLE_TROUBLE)
def test_a_tensor_that_no_result_depends_on_may_be_bad_and_changes_no_byte(
    copied: Path, expected: bytes, kind: str
) -> None:
    rewritten(copied, IDLE_TROUBLE[kind])
    warnings = bundle.open_bundle(copied).warnings
    assert "no result depends on" in warnings[0]
    assert IDLE in warnings[0]
    assert window(copied) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16"])
def test_the_same_of_a_bundle_that_is_not_quantised(tmp_path: Path, stored: str, value: float) -> None:
    make.write_random(tmp_path, make.config_of_size("tiny", format=stored), "published")
    before = window(tmp_path)
    assert bundle.open_bundle(tmp_path).warnings == ()
    bits = struct.pack("<f", value)
    last = bits if stored == "float32" else bits[2:] if stored == "bfloat16" else struct.pack("<e", value)

    def change(header: Values, data: bytearray) -> None:
        end = header[f"{IDLE}.weight"]["data_offsets"][1]
        data[end - len(last) : end] = last

    rewritten(tmp_path, change)
    (warning,) = bundle.open_bundle(tmp_path).warnings
    assert f"{IDLE}.weight" in warning
    assert window(tmp_path) == before


def test_the_tensor_beside_it_that_is_used_may_not(copied: Path) -> None:
    rewritten(copied, not_finite("voc.audio_block.downsamples.3.0.bias"))
    with pytest.raises(BundleError, match=r"downsamples\.3\.0\.bias"):
        bundle.networks_of(bundle.open_bundle(copied))


def everything(folder: Path) -> Path:
    """All of it at once."""
    for edit, _ in KEYS.values():
        edited(folder, edit)
    edited(folder, lambda c: (c.update(format="mlx"), c.pop("quantized_shapes")))
    for kind in ("the buffers of a schedule", "the logvar of a loss", "a mel basis"):
        with_tensors(folder, EXTRA[kind])
    return folder


def test_all_of_it_together_is_one_warning_of_each_kind(
    copied: Path, expected: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    everything(copied)
    assert (copied / "config.json").stat().st_size > 70_000
    with caplog.at_level(logging.WARNING):
        assert window(copied) == expected
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 4
    assert "21 keys" in said[0]
    assert said[0].endswith(", ...")
    assert "14 tensors" in said[3]
    assert all(len(text) < 2000 for text in said)


def test_what_was_taken_calmly_is_kept_for_check_and_the_record(copied: Path) -> None:
    everything(copied)
    warnings = bundle.open_bundle(copied).warnings
    assert tuple(check(copied)["warnings"]) == warnings == tuple(warnings_of(copied))
    assert FlashSR.from_pretrained(copied, device="cpu").identity.warnings == warnings


def test_an_audiosr_is_refused_by_the_name_of_its_folder(copied: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models--aufklarer--AudioSR-MLX-8bit" / "snapshots" / "0"
    shutil.copytree(copied, folder)
    edited(folder, lambda c: c["vae"].update(ch=64))
    with pytest.raises(BundleError, match=r"AudioSR.*many steps"):
        bundle.open_bundle(folder)


def test_another_model_s_tensors_are_said_to_be_another_model_s(copied: Path) -> None:
    edited(copied, lambda c: c.update(quantization=None, quantized_shapes=None, format="float16"))
    text = json.dumps({"vocoder.conv": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    (copied / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"x")
    with pytest.raises(BundleError, match="another model"):
        bundle.open_bundle(copied)


def test_a_tensor_that_is_named_twice_is_refused(copied: Path) -> None:
    path = copied / "model.safetensors"
    content = path.read_bytes()
    (size,) = struct.unpack_from("<Q", content)
    name = list(read_header(path))[3]
    entry = json.dumps(json.loads(content[8 : 8 + size])[name])
    text = content[8 : 8 + size].rstrip()[:-1] + f', "{name}": {entry}}}'.encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])
    with pytest.raises(BundleError, match=f"'?{name}'? is named twice"):
        bundle.open_bundle(copied)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("kind", ["FIFO", "folder", "device", "link to a device", "socket"])
def test_what_is_no_file_is_refused_at_once(copied: Path, kind: str, name: str) -> None:
    path = copied / name
    path.unlink()
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as made:
            at = os.getcwd()
            os.chdir(copied)  # a socket's path may have a hundred bytes
            try:
                made.bind(name)
            finally:
                os.chdir(at)
    else:
        path.symlink_to("/dev/zero")
    start = time.monotonic()
    with pytest.raises(BundleError, match=name) as caught:
        bundle.open_bundle(copied)
    assert time.monotonic() - start < 10
    assert caught.value.remedy


def test_a_file_that_is_cut_while_it_is_read_is_an_error(copied: Path) -> None:
    opened = bundle.open_bundle(copied)
    os.truncate(copied / "model.safetensors", (copied / "model.safetensors").stat().st_size - 10)
    before = threading.active_count()
    with pytest.raises(BundleError, match="cut short"):
        bundle.networks_of(opened)
    assert threading.active_count() == before
