"""Hundreds of damaged bundles: each loads, or is refused in a sentence; none hangs, and none takes the memory."""

from __future__ import annotations

import json
import random
import resource
import shutil
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchsr.errors import BundleError
from batchsr.models.flashsr import bundle
from batchsr.models.tools import make

CASES = 200
"""So many broken configs, and as many broken weights."""
MOST_BYTES = 200 << 20
MOST_S = 5.0
"""Counted in time of the processor, since other tests run beside this one."""
VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1,
    2,
    7,
    1 << 31,
    1 << 63,
    10**400,
    1.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "int4",
    "\x1b[31m\u202e\n",
    "\ud800",
    "x" * 100_000,
    [],
    [[]],
    [1] * 10_000,
    {},
    {"a": {"b": {}}},
    [{"steps": 200}],
]


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything in a JSON value."""
    found, waiting = [], [value]
    while waiting:
        at = waiting.pop()
        keys = list(at) if isinstance(at, dict) else range(len(at)) if isinstance(at, list) else ()
        for key in keys:
            found.append((at, key))
            waiting.append(at[key])
    return found


def _mutate_values(rng: random.Random, value: Any) -> Any:
    """Some values replaced, removed, moved, or put under another name."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        places = _places(value)
        if not places:
            break
        container, key = rng.choice(places)
        what = rng.randrange(5)
        if what == 0:
            del container[key]
        elif what == 1 and isinstance(container, dict):
            container[str(rng.choice(VALUES))[:1000]] = container.pop(key)
        elif what == 2:
            other, place = rng.choice(places)
            container[key] = other[place] if not isinstance(other[place], dict | list) else 3
        elif what == 3 and isinstance(container[key], int) and not isinstance(container[key], bool):
            container[key] = container[key] * rng.choice((-1, 2, 3, 1000, 0)) + rng.choice((0, 1))
        else:
            container[key] = rng.choice(VALUES)
    return value


def _mutate_text(rng: random.Random, text: bytes) -> bytes:
    """Bytes changed, cut, doubled, nested."""
    what = rng.randrange(7)
    at = rng.randrange(len(text))
    if what == 0:
        return text[:at]
    if what == 1:
        return b"[" * rng.choice((10, 500, 900, 1100, 200_000)) + text
    if what == 2:
        return text[:at] + bytes([rng.randrange(256)]) + text[at + 1 :]
    if what == 3:
        return text.replace(b'": ', b'": [' + b'{"x":' * rng.choice((5, 400, 2000)), 1)
    if what == 4:
        return text[:at] + text[at // 2 : at] + text[at:]
    if what == 5:
        return rng.choice((b"\xff\xfe", b"\xef\xbb\xbf", b"\x00", b"// ", b"")) + text
    return text[:-2] + b", " + text[2 : at + 2]


def _config(rng: random.Random, folder: Path) -> None:
    text = (folder / "config.json").read_bytes()
    mutated = json.dumps(_mutate_values(rng, json.loads(text))).encode()
    text = mutated if rng.random() < 0.7 else _mutate_text(rng, text)
    (folder / "config.json").write_bytes(text)


def _header(rng: random.Random, folder: Path) -> None:
    path = folder / "model.safetensors"
    content = path.read_bytes()
    (size,) = struct.unpack_from("<Q", content)
    text, data = content[8 : 8 + size], content[8 + size :]
    values = json.loads(text)
    if rng.random() < 0.2:
        values["a further tensor"] = {"dtype": "F64", "shape": [0], "data_offsets": [len(data), len(data)]}
        text = json.dumps(values).encode()
    else:
        mutated = json.dumps(_mutate_values(rng, values)).encode()
        text = mutated if rng.random() < 0.6 else _mutate_text(rng, text)
    claimed = rng.choice([len(text)] * 8 + [0, 1, len(text) - 1, len(text) + 1, 1 << 40, (1 << 64) - 1])
    path.write_bytes(struct.pack("<Q", claimed) + text + rng.choice([data] * 6 + [b"", data[:-1], data + b"x"]))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    make.write_random(folder, make.config_of_size("tiny", format="int4"), "fuzz")
    bundle.load(folder)  # what is compiled and imported once does not count
    return folder


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("damage", [_config, _header], ids=["config", "header"])
def test_a_damaged_bundle_loads_or_is_refused_in_a_sentence(
    plain: Path, tmp_path: Path, damage: Callable[[random.Random, Path], None]
) -> None:
    before = _peak_bytes()
    loaded = 0
    told: list[BundleError] = []
    for number in range(CASES):
        folder = tmp_path / "bundle"
        shutil.copytree(plain, folder)
        damage(random.Random(number), folder)
        start = time.process_time()
        try:
            bundle.load(folder)
            loaded += 1
        except BundleError as e:
            told.append(e)
        assert time.process_time() - start < MOST_S, number
        shutil.rmtree(folder)
    assert loaded > 0
    assert len(told) > CASES // 2
    for error in told:
        assert len(str(error)) < 2000
        assert str(error).isprintable()
        assert error.remedy, str(error)
    assert _peak_bytes() - before < MOST_BYTES


@pytest.mark.parametrize(
    "text", [b"[" + b"[]," * (1 << 19) + b"[]]", b"{" + b'"a":{},' * 250_000 + b'"b":{}}'], ids=["lists", "objects"]
)
def test_a_small_file_of_many_things_takes_no_more_memory_either(plain: Path, tmp_path: Path, text: bytes) -> None:
    folder = shutil.copytree(plain, tmp_path / "bundle")
    before = _peak_bytes()
    (folder / "config.json").write_bytes(text)
    with pytest.raises(BundleError):
        bundle.open_bundle(folder)
    (folder / "config.json").write_bytes((plain / "config.json").read_bytes())
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(BundleError):
        bundle.open_bundle(folder)
    assert _peak_bytes() - before < MOST_BYTES
