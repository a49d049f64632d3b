"""The program in a process of its own that need not load itself first: a copy of one that has.

Most of what a short command costs is Python's start and the modules of numba, SciPy and MLX. So the first command of a
test process starts a source (this file, run as a program), which loads them all and waits. Each command after it is a
fork of the source that takes the command's words, folder, environment and streams and runs `python -m batchsr` as its
main module: a child of the tests' process, with signals, threads, an end and an exit code of its own.

A program that starts workers as processes (`--procs`, `--work`) forks a source of its own before its first line, so
that its workers are forks as well, and its children. `python -c TEXT` may be a fork, too: what reads the environment as
it is loaded (ANEW) is then loaded once more.

What is settled before a program's first line (Python's own variables, the libraries', a fault that is asked for) must
be as it was for the source. Where it is not, with options of Popen that need a real start, on other systems than Linux,
and with BATCHSR_FRESH=1, the command is started afresh.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import ctypes
import dataclasses
import faulthandler
import fcntl
import gc
import importlib
import inspect
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

AT_START = ("PYTHON", "LC_", "LANG", "LD_", "OPENBLAS_", "OMP_", "MKL_", "NUMBA_", "MLX_", "MALLOC_", "CUDA_")
"""What the names of variables begin with that Python and the libraries read once."""
WHEN_LOADED = ("BATCHSR_FAULT", "BATCHSR_BLUR")
"""Variables that batchsr, or a test's model, reads as it is loaded."""
ANEW = ("batchsr", "huggingface_hub", "mlx")
"""Packages that a text loads as if nobody had: their state, or whether they are loaded at all, is what it asks for."""
FAST_MODEL = str(Path(__file__).parent / "fast_model")
"""The folder in PYTHONPATH with which a program knows `--variant fast`: such have a source of their own."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SET_CHILD_SUBREAPER = 36
"""Of prctl(2): whether orphans below this process become its children."""


HAVE_WORKERS = {"--procs", "--work"}
"""Words of commands whose workers are processes of their own."""
PERMISSIONS = (1, 2)
"""The capabilities with which root passes over permissions: DAC_OVERRIDE and DAC_READ_SEARCH."""
PR_CAPBSET_DROP = 24
LINUX_CAPABILITY_VERSION_3 = 0x20080522


@dataclasses.dataclass(frozen=True)
class First:
    """What a process does before all else: a `preexec_fn` for Popen, which a fork can be told as well."""

    session: bool = False
    terminal: bool = False
    """Whether its standard output is to be its controlling terminal, in a session of its own."""
    hangups: str = ""
    """"obeyed" or "ignored"; as inherited otherwise."""
    closed: tuple[int, ...] = ()
    without: tuple[int, ...] = ()
    """Capabilities (their numbers, capabilities(7)) that it, and whatever it starts, shall not have."""

    def __call__(self) -> None:
        if self.session or self.terminal:
            os.setsid()
        if self.terminal:
            fcntl.ioctl(1, termios.TIOCSCTTY, 0)
        if self.hangups:
            signal.signal(signal.SIGHUP, {"obeyed": signal.SIG_DFL, "ignored": signal.SIG_IGN}[self.hangups])
        for number in self.closed:
            os.close(number)
        if self.without:
            _drop(self.without)


class Forked(subprocess.Popen[Any]):
    """Popen for `python -m batchsr WORDS` and `python -c TEXT WORDS`: a fork of a source if that is the same."""

    def _execute_child(  # type: ignore[override]
        self, args: Any, executable: Any, preexec_fn: Any, close_fds: Any, pass_fds: Any, cwd: Any, env: Any,
        startupinfo: Any, creationflags: Any, shell: Any, p2cread: int, p2cwrite: int, c2pread: int, c2pwrite: int,
        errread: int, errwrite: int, *rest: Any,
    ) -> None:  # fmt: skip
        """Popen's one step that starts the process; `rest` is how it starts: signals, user, umask, session, group."""
        *others, session, group = rest
        usual = not (pass_fds or shell) and tuple(others) == (True, None, None, None, -1) and group in (-1, 0)
        first = First() if preexec_fn is None else preexec_fn
        usual = usual and isinstance(first, First)
        streams = [number if given == -1 else given for number, given in enumerate((p2cread, c2pwrite, errwrite))]
        source = None
        told = os.environ if env is None else env
        begin, text, words = list(args[:2]), *([*args[2:3]] or [""]), args[3:]
        known = begin == [sys.executable, "-c"] or [*begin, text] == [sys.executable, "-m", "batchsr"]
        if usual and known and all(map(_is_open, streams)):
            source = _source_for(told)
        if source is not None:
            first = dataclasses.replace(first, session=session or first.session)
            text = text if begin[1] == "-c" else ""
            pid = source.fork(text, words, cwd or os.getcwd(), told, streams, first, leads=group == 0)
        else:
            pid = 0
        if not pid:
            pipes = (p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)
            start = (executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell)
            super()._execute_child(args, *start, *pipes, *rest)  # type: ignore[misc]
            return
        self.pid = pid
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]


class Copied(subprocess.Popen[Any]):
    """Popen for `python -c TEXT WORDS`: a fork of this very process runs the text, with all that is loaded here."""

    def _execute_child(  # type: ignore[override]
        self, args: Any, executable: Any, preexec_fn: Any, close_fds: Any, pass_fds: Any, cwd: Any, env: Any,
        startupinfo: Any, creationflags: Any, shell: Any, p2cread: int, p2cwrite: int, c2pread: int, c2pwrite: int,
        errread: int, errwrite: int, *rest: Any,
    ) -> None:  # fmt: skip
        import rig

        assert list(args[:2]) == [sys.executable, "-c"]
        assert (preexec_fn, pass_fds, cwd, shell) == (None, (), None, False)

        def child() -> Any:
            faulthandler.disable()
            if rest[-1] == 0:
                os.setpgid(0, 0)
            for number, given in enumerate((p2cread, c2pwrite, errwrite)):
                if given != -1:
                    os.dup2(given, number)
            if env is not None:
                os.environ.clear()
                os.environ.update(env)
            sys.argv = ["-c", *args[3:]]
            try:
                exec(args[2], {"__name__": "__main__"})
            except SystemExit as e:
                return e.code

        self.pid = rig.fork(child)
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]


def run(command: list[str], *, input: Any = None, timeout: float, **options: Any) -> subprocess.CompletedProcess[Any]:
    """As `subprocess.run`, with output captured; whoever takes too long is killed."""
    if input is not None:
        options["stdin"] = subprocess.PIPE
    with Forked(command, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}) as process:
        try:
            told, log = process.communicate(input, timeout=timeout)
        except BaseException:
            process.kill()
            raise
        return subprocess.CompletedProcess(command, process.returncode, told, log)


class _Source:
    """A process that has loaded the program, as its owner sees it: one to ask for a fork of itself."""

    def __init__(self, asked: socket.socket, process: subprocess.Popen[bytes] | None = None) -> None:
        self.owner = os.getpid()
        self._lock = threading.Lock()
        self._socket = asked
        self._process = process
        if self._socket.recv(1) != b".":
            self._socket.close()
            raise AssertionError(f"the program could not be loaded: {process and process.communicate()}")

    @classmethod
    def started(cls, environment: Mapping[str, str]) -> _Source:
        """Start one, and wait until it has loaded the program."""
        mine, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={name: value for name, value in environment.items() if not name.startswith("COVERAGE_")},
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        return cls(mine, process)

    def fork(
        self,
        text: str,
        words: Sequence[Any],
        folder: Any,
        environment: Mapping[str, str],
        streams: list[int],
        first: First,
        *,
        leads: bool = False,
    ) -> int:
        """Return the number of a new process, a child of this one, that runs the program, or the text if there is one.

        Returns 0 if none could be made.
        """
        os.umask(umask := os.umask(0))
        wish = {
            "parent": os.getpid(),
            "text": text,
            "words": [os.fsdecode(word) for word in words],
            "folder": os.fsdecode(folder),
            "environment": dict(environment),
            "ignored": [int(number) for number in SIGNALS if signal.getsignal(number) is signal.SIG_IGN],
            "umask": umask,
            "first": dataclasses.asdict(first),
            "leads": leads,
        }
        data = json.dumps(wish).encode()
        handles = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", streams))]
        with self._lock, _adopting():
            try:
                self._socket.sendmsg([len(data).to_bytes(8)], handles)
                self._socket.sendall(data)
            except OSError:  # it was killed, as its owner's children may be
                return 0
            return int.from_bytes(self._socket.recv(8))

    def end(self) -> None:
        """Let the process end, which it does when nobody can ask it any more."""
        self._socket.close()
        if self._process is not None:
            self._process.communicate()


def end() -> None:
    """End all sources."""
    while _sources:
        _sources.popitem()[1].end()


_sources: dict[str | None, _Source] = {}
_making = threading.Lock()


def _settled(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(AT_START) and name != "PYTHON"}


def _source_for(environment: Mapping[str, str]) -> _Source | None:
    """Return the source from which a program of this environment can be forked, made if need be; None if none can."""
    if not sys.platform.startswith("linux") or any(name in environment for name in ("BATCHSR_FRESH", *WHEN_LOADED)):
        return None
    usual, settled = _settled(os.environ), _settled(environment)
    before, path = usual.pop("PYTHONPATH", None), settled.pop("PYTHONPATH", None)
    fast = os.pathsep.join(filter(None, [FAST_MODEL, before]))
    if settled != usual or path not in (before, fast):
        return None
    with _making:
        if path not in _sources and __name__ == "__main__":
            return None  # a program has the one source that was made for it
        if path not in _sources:
            _sources[path] = _Source.started(environment)
        source = _sources[path]
    return source if source.owner == os.getpid() else None


def _is_open(stream: int) -> bool:
    try:
        os.fstat(stream)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _adopting() -> Any:
    """For a moment, orphans below this process are its children, which it can wait for."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _load() -> None:
    """Load what the program's commands load, so that a fork need not."""
    import batchsr
    from batchsr.models.compute import backend

    backend._import_cpu()  # before SciPy, as it chooses how SciPy's BLAS computes
    for room in ("cli", "worker", "restoration", "models.flashsr"):
        package = importlib.import_module(f"{batchsr.__name__}.{room}")
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            importlib.import_module(module.name)
    for name in ("scipy.signal", "coverage"):
        importlib.import_module(name)
    from batchsr.restoration.warm_up import warm_up

    warm_up()
    inspect.stack()  # remembers the file of each module: coverage asks for them wherever it starts


def _serve(asked: socket.socket) -> dict[str, Any]:
    """Fork whenever it is asked for; returns in each fork, with what is wished. Ends with its owner's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked.sendall(b".")
    while True:
        head, streams, *_ = socket.recv_fds(asked, 8, 3)
        if len(head) < 8:
            os._exit(0)
        data = bytearray()
        while len(data) < int.from_bytes(head):
            data += asked.recv(int.from_bytes(head) - len(data))
        read, write = os.pipe()
        between = os.fork()
        if between:
            os.close(write)
            for stream in streams:
                os.close(stream)
            number = os.read(read, 8)
            os.waitpid(between, 0)  # from here on the fork is a child of the tests' process
            if os.read(read, 1) != b".":  # it has its folder, streams and signals, or is gone
                number = bytes(8)
            os.close(read)
            asked.sendall(number)
            continue
        between = os.getpid()
        if pid := os.fork():
            os.write(write, pid.to_bytes(8))
            os._exit(0)
        while os.getppid() == between:
            time.sleep(0.0005)
        os.close(read)
        asked.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        for stream in set(streams) - {0, 1, 2}:
            os.close(stream)
        wish = json.loads(data)
        if os.getppid() != wish["parent"]:
            os._exit(1)  # this system gives orphans to another, who would not hear how it ends
        if HAVE_WORKERS.intersection(wish["words"]) and (nested := _nest(wish["environment"])) is not None:
            os.close(write)
            asked = nested
            asked.sendall(b".")
            continue
        _become(wish)
        os.write(write, b".")
        os.close(write)
        return dict(wish)


def _nest(environment: dict[str, str]) -> socket.socket | None:
    """Fork a source for the program that this process is about to be.

    Returns None in the program, and in the source the socket by which it is asked. That one has no stream of the
    program's, so that nobody waits for its end, and is in no terminal's way.
    """
    mine, theirs = socket.socketpair()
    if os.fork():
        theirs.close()
        _sources[environment.get("PYTHONPATH")] = _Source(mine)
        subprocess.Popen = Forked  # type: ignore[misc]
        return None
    mine.close()
    os.setsid()
    with open(os.devnull, "r+b") as nothing:
        for number in range(3):
            os.dup2(nothing.fileno(), number)
    return theirs


def _drop(capabilities: tuple[int, ...]) -> None:
    """Give capabilities up, for this process and for all that it starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    head = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, of the first 32 and of the rest
    done = libc.capget(head, sets)
    for number in capabilities:
        done |= libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
        for kind in range(3):
            sets[3 * (number // 32) + kind] &= ~(1 << number % 32) & 0xFFFFFFFF
    if done | libc.capset(head, sets):
        raise PermissionError(ctypes.get_errno(), "these capabilities cannot be given up")


def _become(wish: dict[str, Any]) -> None:
    """Take the place of a program that starts: its folder, environment and signals."""
    os.environ.clear()
    os.environ.update(wish["environment"])
    time.tzset()
    os.umask(wish["umask"])
    if wish["leads"]:
        os.setpgid(0, 0)
    if os.isatty(1):
        sys.stdout.reconfigure(line_buffering=True)
    os.chdir(wish["folder"])
    usual = {signal.SIGINT: signal.default_int_handler}
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN if number in wish["ignored"] else usual.get(number, signal.SIG_DFL))
    First(**wish["first"])()
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if number in wish["first"]["closed"]:
            setattr(sys, name, None)
    if "COVERAGE_PROCESS_CONFIG" in os.environ:
        import coverage

        coverage.process_startup()
    sys.path.insert(0, wish["folder"])


def _end(code: int) -> None:
    """End as Python does, but leave it to the system to take the memory back: all the modules cost more than a command.

    Returns where a stream cannot be written to its end, which Python tells and makes an exit code of its own.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)


if __name__ == "__main__":
    del sys.path[0]
    _load()
    gc.collect()
    gc.freeze()
    wish = _serve(socket.socket(fileno=int(sys.argv[1])))
    sys.argv = ["-c" if wish["text"] else "batchsr", *wish["words"]]
    try:
        if wish["text"]:
            for name in [name for name in sys.modules if name.partition(".")[0] in ANEW]:
                del sys.modules[name]
            exec(wish["text"], {"__name__": "__main__"})
            _end(0)
        runpy.run_module("batchsr", run_name="__main__", alter_sys=True)
    except SystemExit as e:
        if isinstance(e.code, int):
            _end(e.code)
        raise
