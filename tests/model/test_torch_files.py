"""PyTorch's files are read as tensors and nothing else: those that it wrote itself, and those that want to do harm."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchsr.errors import BundleError
from batchsr.models.tools import torch_files

from .conftest import DATA
from .torch_form import pickled, several, tensor, text, whole, write_archive, write_pth

FOLDER = DATA / "torch"
RAMP = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 8
WRITTEN: dict[str, np.ndarray] = {
    "plain": RAMP,
    "half": RAMP,
    "bfloat16": RAMP,
    "double": RAMP,
    "long": np.arange(5),
    "int": np.arange(5, dtype=np.int32),
    "uint8": np.arange(5, dtype=np.uint8),
    "bool": np.arange(5) % 2 == 0,
    "scalar": np.float32(0.5).reshape(()),
    "empty": np.zeros((0, 3), np.float32),
    "transposed": RAMP.transpose(2, 0, 1),
    "slice": RAMP[1, 1:],
    "every other": RAMP.reshape(-1)[1::2],
    "channels last": RAMP.reshape(1, 2, 3, 4),
    "parameter": RAMP[0],
}
"""As tests/data/torch/make.py has them."""
MODULE = {
    "bias": np.arange(3, dtype=np.float32) / 8,
    "weight_g": np.arange(3, dtype=np.float32).reshape(3, 1, 1) / 16,
    "weight_v": np.arange(30, dtype=np.float32).reshape(3, 2, 5) / 24,
}


def assert_same(read: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert read.keys() == expected.keys()
    for name, value in expected.items():
        assert read[name].dtype == value.dtype, name
        assert np.array_equal(read[name], value), name


@pytest.mark.parametrize("name", ["protocol2.pth", "protocol4.pth"])
def test_tensors_of_every_kind_that_pytorch_wrote_are_read(name: str) -> None:
    assert_same(torch_files.state_dict(FOLDER / name), WRITTEN)


@pytest.mark.parametrize("name", ["nested.pth", "state_dict.pth"])
def test_a_module_s_state_is_read_bare_and_inside_a_checkpoint(name: str) -> None:
    assert_same(torch_files.state_dict(FOLDER / name), MODULE)


def test_the_tests_own_writer_has_pytorch_s_form(tmp_path: Path) -> None:
    write_pth(tmp_path / "ours.pth", MODULE, under="state_dict")
    assert_same(torch_files.state_dict(tmp_path / "ours.pth"), MODULE)
    with zipfile.ZipFile(tmp_path / "ours.pth") as ours, zipfile.ZipFile(FOLDER / "nested.pth") as theirs:
        parts = [{name.partition("/")[2] for name in archive.namelist()} for archive in (ours, theirs)]
        assert parts[1] <= parts[0]


def test_pytorch_is_not_imported() -> None:
    program = (
        "import sys; from pathlib import Path; from batchsr.models.tools import torch_files\n"
        "torch_files.state_dict(Path(sys.argv[1])); assert 'torch' not in sys.modules and 'pickle' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program, str(FOLDER / "nested.pth")], check=True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("legacy.pth", "before 1.6"),
        ("one_tensor.pth", "no state dict"),
        ("whole_module.pth", "torch.nn.modules.conv.Conv1d"),
        ("with_a_path.pth", "pathlib.PosixPath"),
    ],
)
def test_what_is_no_state_dict_is_refused_by_name(name: str, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        torch_files.state_dict(FOLDER / name)


class Evil:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> Any:
        return self.reduced


def refused(path: Path, *words: str, limit_s: float = 5) -> None:
    start = time.process_time()
    with pytest.raises(BundleError) as caught:
        torch_files.state_dict(path)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert str(path) in message
    assert len(message) < 2000
    assert message.isprintable()
    assert caught.value.remedy
    assert time.process_time() - start < limit_s


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("touch {victim}",)),
        (subprocess.Popen, (["touch", "{victim}"],)),
        (eval, ("open('{victim}', 'w')",)),
        (exec, ("open('{victim}', 'w')",)),
        (open, ("{victim}", "w")),
        (getattr, (os, "system")),
        (Path, ("{victim}",)),
        (np.zeros, (10**12,)),
    ],
)
def test_what_would_be_run_is_not(tmp_path: Path, function: Any, arguments: tuple[Any, ...], protocol: int) -> None:
    victim = tmp_path / "victim"
    filled = tuple(a.replace("{victim}", str(victim)) if isinstance(a, str) else a for a in arguments)
    if function is getattr:
        filled = ("os", "system")
    write_archive(tmp_path / "evil.pth", pickle.dumps({"a": Evil(function, *filled)}, protocol=protocol), {})
    refused(tmp_path / "evil.pth", "no tensor")
    assert not victim.exists()


PICKLES: dict[str, bytes] = {
    "nothing": b"",
    "no end": b"\x80\x02}",
    "an empty stack": b"\x80\x02.",
    "rubbish": b"\x80\x02\xff\xff\xff",
    "protocol 0": pickle.dumps({"a": 1}, protocol=0),
    "an instance by INST": b"\x80\x02(S'ls'\nios\nsystem\n.",
    "an object by OBJ": b"\x80\x02(cos\nsystem\no.",
    "an object by NEWOBJ": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "an extension": b"\x80\x02\x82\x01.",
    "a memo of billions": b"\x80\x02}r\xff\xff\xff\x7f.",
    "a memo that is not there": b"\x80\x02h\x07.",
    "a text of gigabytes": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "a text of exabytes": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "a number of megabytes": b"\x80\x02\x8b\xff\xff\xff\x7f1.",
    "a frame that lies": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.",
    "a tuple in a tuple": b"\x80\x02)" + b"\x85" * 500_000 + b".",
    "a deep key": b"\x80\x02})" + b"\x85" * 500_000 + b"Ns.",
    "a list in a list": b"\x80\x02]" + b"]a" * 500_000 + b".",
    "itself": b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",
    "a list as a key": b"\x80\x02}]Ns.",
    "items of a list": b"\x80\x02](X\x01\x00\x00\x00aNu.",
    "a call of a text": b"\x80\x02" + text("eval") + b")R.",
    "state for a list": b"\x80\x02]}b.",
    "a storage of no kind": b"\x80\x02("
    + text("storage")
    + text("FloatStorage")
    + text("0")
    + text("cpu")
    + b"K\x01tQ.",
    "a module in the storage's place": b"\x80\x02(" + text("module") + b"tQ.",
    "a storage elsewhere": (
        b"\x80\x02}" + text("a") + tensor("0", RAMP).replace(text("0"), text("../../etc/passwd")) + b"s."
    ),
    "a name with a newline": b"\x80\x04" + b"\x8c\x03os\n" + b"\x8c\x06system" + b"\x93.",
    "a dict made of something": b"\x80\x02ccollections\nOrderedDict\n](]ee\x85R.",
    "a tensor of a text": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + text("x") * 4 + b"tR.",
    "a tensor of too little": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
}


@pytest.mark.parametrize("kind", PICKLES)
def test_a_pickle_that_makes_no_sense_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    write_archive(tmp_path / "x.pth", PICKLES[kind], {"0": RAMP})
    refused(tmp_path / "x.pth", limit_s=15)


def with_sizes(shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0, count: int = 24) -> bytes:
    """A state dict of one tensor with sizes that may not be true."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + whole(count) + b"tQ"
    made = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + whole(offset) + several(shape) + several(strides)
    return b"\x80\x02}" + text("a") + made + b"\x89}tRs."


@pytest.mark.parametrize(
    "data",
    [
        with_sizes((25,), (1,)),
        with_sizes((24,), (2,)),
        with_sizes((24,), (1,), offset=1),
        with_sizes((24,), (1,), offset=-1),
        with_sizes((-1,), (1,)),
        with_sizes((2,), (-1,), offset=3),
        with_sizes((2_000_000_000, 2_000_000_000), (0, 0)),
        with_sizes((1000,), (0,)),
        with_sizes((24,), (1, 1)),
        with_sizes((1,) * 64, (1,) * 64),
        with_sizes((24,), (1,), count=23),
        with_sizes((24,), (1,), count=2_000_000_000),
        with_sizes((24,), (1,), count=-24),
    ],
)
def test_sizes_that_are_not_true_are_refused(tmp_path: Path, data: bytes) -> None:
    write_archive(tmp_path / "x.pth", data, {"0": RAMP})
    refused(tmp_path / "x.pth")


def test_many_tensors_in_one_storage_are_no_way_to_fill_the_memory(tmp_path: Path) -> None:
    items = b"".join(text(f"t{n}") + tensor("0", np.zeros(100_000, np.float32)) for n in range(2000))
    write_archive(tmp_path / "x.pth", b"\x80\x02}(" + items + b"u.", {"0": bytes(400_000)})
    refused(tmp_path / "x.pth", "more values")


def two_of_a_name(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled({"a": RAMP}))
        archive.writestr("archive/data/0", RAMP.tobytes())
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("archive/data/0", bytes(96))


def compressed(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickled({"a": RAMP}))
        archive.writestr("archive/data/0", bytes(1 << 28))


def two_pickles(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled({"a": RAMP}))
        archive.writestr("b/data.pkl", pickled({"a": RAMP}))


def big_endian(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled({"a": RAMP}))
        archive.writestr("archive/byteorder", "big")


def outside(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../escape/data.pkl", pickled({"a": RAMP}))


def claims_more(path: Path) -> None:
    """Both sizes of every entry are a gigabyte."""
    write_pth(path, {"a": RAMP})
    content = bytearray(path.read_bytes())
    at = -1
    while (at := content.find(b"PK\x01\x02", at + 1)) >= 0:
        content[at + 20 : at + 28] = struct.pack("<II", 1 << 30, 1 << 30)
    path.write_bytes(bytes(content))


def damaged(path: Path) -> None:
    write_pth(path, {"a": RAMP})
    content = path.read_bytes()
    at = content.index(RAMP.tobytes())
    path.write_bytes(content[:at] + b"\xff" + content[at + 1 :])


def cut(path: Path) -> None:
    write_pth(path, {"a": RAMP})
    path.write_bytes(path.read_bytes()[:-30])


def no_zip(path: Path) -> None:
    path.write_bytes(b"<!DOCTYPE html><title>Not found</title>")


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    "make",
    [two_of_a_name, compressed, two_pickles, big_endian, outside, claims_more, damaged, cut, no_zip, nothing, fifo],
)
def test_an_archive_that_is_none_of_pytorch_s_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "x.pth")
    refused(tmp_path / "x.pth")
    assert not (tmp_path.parent / "escape").exists()


def test_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    items = text("a") + tensor("0", RAMP) + text("a") + tensor("1", RAMP)
    write_archive(tmp_path / "x.pth", b"\x80\x02}(" + items + b"u.", {"0": RAMP, "1": RAMP})
    refused(tmp_path / "x.pth", "twice")
