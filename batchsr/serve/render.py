"""Pages from templates. What is put into one is text: escaped as HTML, and made harmless to look at before that."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import jinja2
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from batchsr.display import clock, counted, printable
from batchsr.queue import Job
from batchsr.serve.forms import Forms
from batchsr.serve.wanted import steered


@dataclasses.dataclass(frozen=True, slots=True)
class Renderer:
    """Makes pages."""

    prefix: str
    read_only: bool
    may_submit: bool
    forms: Forms
    _templates: jinja2.Environment = dataclasses.field(default_factory=lambda: _environment())

    def page(self, request: Request, name: str, status: int = 200, **values: Any) -> HTMLResponse:
        """Return the page of a template with these values."""
        seed = self.forms.seed(request)
        text = self._templates.get_template(name).render(
            prefix=self.prefix,
            read_only=self.read_only,
            may_submit=self.may_submit,
            form_token=self.forms.token(seed),
            told=steered(request.query_params),
            here=request.url.path,
            **values,
        )
        made = HTMLResponse(text.encode("utf-8", "replace"), status)
        if not self.read_only:
            self.forms.remember(made, seed)
        return made


def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("batchsr.serve", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"clock": clock, "state": _state, "day": _day, "name": _name, "pretty": _pretty}
    made.globals |= {"counted": counted, "verbatim": _verbatim}
    return made


def _harmless(value: Any) -> Any:
    """Return a value as it may be shown; text of our own templates is left as it is."""
    if value is None:
        return ""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _verbatim(text: str) -> Markup:
    """Return text for a field of a form as it is, since it comes back: escaped, but not made harmless to look at."""
    return escape(text)


def _state(job: Job) -> str:
    """Return the state as people see it."""
    return "held" if job.held is not None else str(job.state)


def _day(text: str | None) -> str:
    """Return an ISO time as date and minute, UTC."""
    return (text or "")[:16].replace("T", " ")


def _name(path: str | None) -> str:
    """Return the last part of a path."""
    return (path or "").rstrip("/").rpartition("/")[2]


def _pretty(document: Any) -> Markup:
    """Return a document as JSON on several lines."""
    lines = json.dumps(document, indent=1, ensure_ascii=False).split("\n")
    return Markup("\n").join(printable(line) for line in lines)
