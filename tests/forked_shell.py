"""`batchsr` in a script of a shell: a small program that asks the tests' process to fork it (tests/forked.py)."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping


@contextlib.contextmanager
def shell_function(environment: Mapping[str, str]) -> Iterator[str]:
    """Give the text of a shell's function `batchsr`, which runs this checkout's program while the context lasts."""
    import threading

    name = f"\0batchsr-tests-{os.getpid()}-{threading.get_ident()}"
    with socket.socket(socket.AF_UNIX) as asked:
        asked.bind(name)
        asked.listen()
        threading.Thread(target=_serve, args=(asked, dict(environment)), daemon=True).start()
        try:
            yield f'batchsr() {{ "{sys.executable}" -I -S "{__file__}" {name[1:]} "$@"; }}\n'
        finally:
            asked.shutdown(socket.SHUT_RDWR)


def _serve(asked: socket.socket, environment: dict[str, str]) -> None:
    import threading

    with contextlib.suppress(OSError):  # the context has ended
        while True:
            threading.Thread(target=_run, args=(asked.accept()[0], environment), daemon=True).start()


def _run(client: socket.socket, environment: dict[str, str]) -> None:
    import forked

    with client:
        data, streams, *_ = socket.recv_fds(client, 1 << 20, 3)
        folder, words = json.loads(data)
        command = [sys.executable, "-m", "batchsr", *words]
        stdin, stdout, stderr = streams
        process = forked.Forked(command, env=environment, cwd=folder, stdin=stdin, stdout=stdout, stderr=stderr)
        for stream in streams:
            os.close(stream)
        client.sendall(str(process.wait()).encode())


if __name__ == "__main__":
    with socket.socket(socket.AF_UNIX) as tests:
        tests.connect("\0" + sys.argv[1])
        socket.send_fds(tests, [json.dumps([os.getcwd(), sys.argv[2:]]).encode()], [0, 1, 2])
        sys.exit(int(tests.recv(16)))
