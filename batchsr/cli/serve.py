"""`serve`: the queue in a browser."""

from __future__ import annotations

import click

from batchsr.cli.app import App, pass_app
from batchsr.errors import ConfigError, ExtraMissing

BIND = "127.0.0.1:8484"


@click.command("serve")
@click.option("--bind", default=BIND, show_default=True, metavar="ADDRESS:PORT", help="Where to listen.")
@click.option("--name", "names", multiple=True, metavar="HOST", help="A name under which it may be asked; repeatable.")
@click.option("--prefix", default="", metavar="/PATH", help="The path under which a proxy shows it.")
@pass_app
def serve_command(app: App, bind: str, names: tuple[str, ...], prefix: str) -> None:
    """Show the queue in a browser: what is going on, what failed and why, how it sounds, when it will be finished.

    It reads the queue beside workers that work, and never touches them. Only this machine reaches it.
    """
    try:
        from batchsr.serve import app as application
        from batchsr.serve import server
        from batchsr.serve.guard import Doors
        from batchsr.serve.source import Source
    except ModuleNotFoundError as e:
        if (e.name or "").split(".")[0] in ("starlette", "uvicorn", "jinja2", "markupsafe", "h11", "anyio"):
            raise ExtraMissing(
                f"serve needs {e.name}, which is not installed", remedy="pip install 'batchsr[serve]'"
            ) from e
        raise
    host, port = server.address_of(bind)
    if not server.is_loopback(host):
        raise ConfigError(
            f"--bind {bind}: it is shown to this machine alone", remedy="a proxy, or `ssh -L`, brings it elsewhere"
        )
    if prefix and (not prefix.startswith("/") or prefix.endswith("/") or not prefix.isprintable() or '"' in prefix):
        raise ConfigError(f"--prefix {prefix!r}: not a path", remedy="write it like /batchsr")
    app.queue().close()
    socket = server.listening(host, port)
    port = socket.getsockname()[1]
    app.stays(stamped=False)
    doors = Doors(True, tuple(name.lower() for name in names), prefix)
    made = application.make(Source(app.db), doors)
    shown = f"[{host}]" if ":" in host else host
    ready = f"http://{shown}:{port}{prefix}/ shows {app.db}; Ctrl-C ends it"
    server.Server(made, lambda: app.note(ready)).run(sockets=[socket])
