"""Which address is answered by what."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import AsyncIterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from batchsr.display import printable
from batchsr.errors import BatchsrError, InputError, QueueError, ResourceError, UsageError
from batchsr.serve.api import Api
from batchsr.serve.forms import Forged, Forms
from batchsr.serve.guard import TOKEN_COOKIE, AccessRules, Guard, is_token
from batchsr.serve.hearing import Hearing
from batchsr.serve.pages import Pages
from batchsr.serve.render import Renderer
from batchsr.serve.source import Source
from batchsr.serve.steering import Steering
from batchsr.serve.stream import Changes
from batchsr.serve.submit import Submit

_STATIC: Final = {
    "page.css": ("batchsr.report.page", "page.css", "text/css"),
    "player.js": ("batchsr.report.page", "player.js", "text/javascript"),
    "serve.css": ("batchsr.serve", "static/serve.css", "text/css"),
    "serve.js": ("batchsr.serve", "static/serve.js", "text/javascript"),
}
"""What is given out beside pages: name -> package, file in it, type."""


@dataclasses.dataclass(frozen=True, slots=True)
class Application:
    """The application, and what ends its streams."""

    asgi: ASGIApp
    changes: Changes
    source: Source


def make(source: Source, rules: AccessRules, *, read_only: bool = False, roots: Sequence[Path] = ()) -> Application:
    """Make the application that shows a queue and, unless `read_only`, changes it and takes in files below `roots`."""
    changes = Changes(source)
    may_submit = bool(roots) and not read_only
    renderer = Renderer(rules.prefix, read_only, may_submit, Forms(rules.prefix or "/"))
    steering = Steering(source, renderer)
    submit = Submit(source, renderer, roots)
    pages = Pages(source, renderer, Hearing(source.address))
    api = Api(source, changes)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await changes.stop()
        source.close()

    app = Starlette(
        routes=[
            Route("/", pages.overview),
            Route("/files", pages.files),
            Route("/files/{number:int}", pages.file),
            Route("/files/{number:int}/heard.json", pages.heard),
            Route("/files/{number:int}/clips/{word}.ogg", pages.clip),
            Route("/files/{number:int}/sound/{side}", pages.sound),
            Route("/batches", pages.batches),
            Route("/workers", pages.workers),
            *(() if read_only else (Route("/ask", steering.ask), Route("/do", steering.do, methods=["POST"]))),
            *((Route("/submit", submit.page), Route("/submit", submit.answer, methods=["POST"])) if may_submit else ()),
            Route("/changes", changes.answer),
            Route("/login", functools.partial(_login, rules)),
            Route("/static/{name}", _static),
            Route("/healthz", api.health),
            Route("/metrics", api.metrics),
            Route("/api/v1/status", api.status),
            Route("/api/v1/jobs", api.jobs),
            Route("/api/v1/jobs/{number:int}", api.job),
        ],
        lifespan=lifespan,
        exception_handlers={
            BatchsrError: functools.partial(_trouble, renderer),
            HTTPException: functools.partial(_no_page, renderer),
        },
    )
    app.router.redirect_slashes = False
    return Application(Guard(app, rules), changes, source)


def _static(request: Request) -> Response:
    """Answer with one of our own files."""
    name = request.path_params["name"]
    if name not in _STATIC:
        raise HTTPException(404)
    package, file, kind = _STATIC[name]
    data = resources.files(package).joinpath(file).read_bytes()
    tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=kind, headers=headers)


def _login(rules: AccessRules, request: Request) -> Response:
    """Take the token out of the link and keep it in a cookie that no script and no other site gets."""
    if rules.token is None:
        return RedirectResponse(rules.prefix + "/", 303)
    if not is_token(request.query_params.get("token", ""), rules.token):
        return PlainTextResponse("that is not the link that `batchsr serve` showed\n", 403)
    # A page of our own between: after a link from elsewhere a browser sends no strict cookie along a redirect.
    made = Response(
        '<!doctype html><html lang="en"><title>batchsr</title>'
        f'<meta http-equiv="refresh" content="0;url={rules.prefix}/">'
        f'<p><a href="{rules.prefix}/">To the queue</a></p></html>',
        media_type="text/html",
    )
    made.set_cookie(
        TOKEN_COOKIE, rules.token, max_age=365 * 86_400, path=rules.prefix or "/", httponly=True, samesite="strict"
    )
    return made


def _trouble(renderer: Renderer, request: Request, error: Exception) -> Response:
    """Say what is wrong in the words of the error."""
    match error:
        case InputError():
            status = 409
        case Forged():
            status = 403
        case UsageError(code="usage"):
            status = 404
        case UsageError():
            status = 400
        case QueueError() | ResourceError():
            status = 503
        case _:
            status = 500
    return _said(renderer, request, status, printable(error))


def _no_page(renderer: Renderer, request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    said = {404: "there is no such page", 405: "that is not done here"}.get(status, "that did not work")
    if isinstance(error, HTTPException) and status in (408, 413):
        said = error.detail  # the guard's own words
    return _said(renderer, request, status, said)


def _said(renderer: Renderer, request: Request, status: int, said: str) -> Response:
    if "text/html" in request.headers.get("accept", ""):
        return renderer.page(request, "trouble.html", status, said=said)
    return PlainTextResponse(said.encode("utf-8", "replace") + b"\n", status)
