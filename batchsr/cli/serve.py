"""`serve`: the queue in a browser."""

from __future__ import annotations

from pathlib import Path

import click

from batchsr.cli.app import App, fleet_options, pass_app
from batchsr.cli.paths import UserPath
from batchsr.errors import ConfigError, ExtraMissing

BIND = "127.0.0.1:8484"


@click.command("serve")
@click.option("--bind", default=BIND, show_default=True, metavar="ADDRESS:PORT", help="Where to listen.")
@click.option("--name", "names", multiple=True, metavar="HOST", help="A name under which it may be asked; repeatable.")
@click.option("--prefix", default="", metavar="/PATH", help="The path under which a proxy shows it.")
@click.option("--read-only", is_flag=True, help="Show, and change nothing.")
@click.option("--token", "wants_token", is_flag=True, help="Ask for the token on this machine too.")
@click.option(
    "--root",
    "roots",
    multiple=True,
    type=UserPath(path_type=Path, exists=True, file_okay=False),
    help="Let files below this folder be taken in; repeatable.",
)
@fleet_options
@pass_app
def serve_command(
    app: App,
    bind: str,
    names: tuple[str, ...],
    prefix: str,
    read_only: bool,
    wants_token: bool,
    roots: tuple[Path, ...],
) -> None:
    """Show the queue in a browser: what is going on, what failed and why, how it sounds, when it will be finished.

    It reads the queue beside workers that work, and never touches them. Only this machine reaches it, unless --bind
    says else: then whoever opens the link that the first start shows.
    """
    try:
        from batchsr.serve import app as application
        from batchsr.serve import server, token
        from batchsr.serve.guard import AccessRules
        from batchsr.serve.source import Source
    except ModuleNotFoundError as e:
        if (e.name or "").split(".")[0] in ("starlette", "uvicorn", "jinja2", "markupsafe", "h11", "anyio"):
            raise ExtraMissing(
                f"serve needs {e.name}, which is not installed", remedy="pip install 'batchsr[serve]'"
            ) from e
        raise
    host, port = server.address_of(bind)
    is_loopback = server.is_loopback(host)
    if prefix and (not prefix.startswith("/") or prefix.endswith("/") or not prefix.isprintable() or '"' in prefix):
        raise ConfigError(f"--prefix {prefix!r}: not a path", remedy="write it like /batchsr")
    with app.queue() as queue:
        token_path = token.path_of(queue.path)
    socket = server.listening(host, port)
    port = socket.getsockname()[1]
    app.stays(stamped=False)
    secret, is_new = token.take(token_path) if wants_token or not is_loopback else (None, False)
    rules = AccessRules(is_loopback, tuple(name.lower() for name in (host, *names)), prefix, secret)
    made = application.make(Source(app.address), rules, read_only=read_only, roots=roots)
    address = f"http://{server.reached_at(host)}:{port}{prefix}"

    def ready() -> None:
        app.note(f"{address}/ shows {app.database}; Ctrl-C ends it")
        if is_new:
            app.note(f"open this link once in each browser; it is not shown again: {address}/login?token={secret}")
        elif secret is not None:
            app.note(f"browsers need the link of the first start; a new one after `rm {token_path}`")

    server.Server(made, ready).run(sockets=[socket])
