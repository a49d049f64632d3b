"""What a person changes from a browser: first a question that names the number, then one POST that bears its answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qs, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from batchsr.errors import ConfigError
from batchsr.queue import LIVE, JobFilter, Queue, State
from batchsr.serve.render import Renderer
from batchsr.serve.source import Source
from batchsr.serve.wanted import ACTIONS, Wanted

_MOST_FIELDS: Final = 500
_NAMED: Final = 10  # files whose names stand in the question
_FAILED: Final = (State.FAILED, State.QUARANTINED)
_STATES: Final[Mapping[str, tuple[State, ...]]] = {
    "retry": (*_FAILED, State.CANCELLED),
    "cancel": tuple(state for state in LIVE if state is not State.COMMITTING),
    "priority": (State.QUEUED, State.WAITING),
}
"""What is done to files -> the states in which it can be."""
_HIGHEST: Final = 2**63 - 1


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """What is to be done, and to which files."""

    action: str
    ids: tuple[int, ...] = ()
    """Those that were chosen one by one."""
    wanted: Wanted | None = None
    """All that a list shows, instead."""

    @classmethod
    def of(cls, fields: Mapping[str, Sequence[str]]) -> Order:
        """Return what the fields of a form say. Raises ConfigError."""
        action = _one(fields, "action")
        if action not in ACTIONS:
            raise ConfigError("that is not done here", remedy=f"what is done: {', '.join(ACTIONS)}")
        if action not in _STATES:
            return cls(action)
        if _one(fields, "all"):
            return cls(action, wanted=Wanted.of({name: values[0] for name, values in fields.items() if values}))
        given = fields.get("id", ())
        if not all(value.isascii() and value.isdecimal() and len(value) < 19 for value in given):
            raise ConfigError("that is no file's number", remedy="choose files in the list")
        if not given:
            raise ConfigError("no file is chosen", remedy="tick some in the list, or all that it shows")
        return cls(action, tuple(sorted({int(value) for value in given})))

    def numbers(self, queue: Queue) -> list[int]:
        """Return the files to which it can be done now. Cancelled ones are retried only where they are named."""
        allowed = _STATES[self.action]
        if self.wanted is None:
            return queue.browser.numbers(JobFilter(states=allowed, ids=self.ids))
        matching = self.wanted.filter
        if self.action == "retry" and matching.states != (State.CANCELLED,):
            allowed = _FAILED
        states = tuple(state for state in allowed if not matching.states or state in matching.states)
        return queue.browser.numbers(dataclasses.replace(matching, states=states)) if states else []

    def fields(self) -> list[tuple[str, str]]:
        """Return what a form bears so that `of` gives this order again."""
        pairs = [("action", self.action), *(("id", str(one)) for one in self.ids)]
        if self.wanted is not None:
            pairs += [("all", "1"), *self.wanted.pairs()]
        return pairs

    def back(self, prefix: str) -> tuple[str, str]:
        """Return the page from which it came, path and query."""
        if self.action not in _STATES:
            return f"{prefix}/", ""
        if len(self.ids) == 1:
            return f"{prefix}/files/{self.ids[0]}", ""
        return f"{prefix}/files", self.wanted.query() if self.wanted is not None else ""


class Steering:
    """Asks, and does what was answered."""

    def __init__(self, source: Source, renderer: Renderer) -> None:
        self._source = source
        self._render = renderer

    def ask(self, request: Request) -> Response:
        """Ask whether it is meant, with the number of files; nothing is changed. Raises ConfigError."""
        query = request.query_params
        return self._question(request, Order.of({name: query.getlist(name) for name in query}))

    async def do(self, request: Request) -> Response:
        """Do what was asked for and confirmed, if it still means as many files; otherwise ask again."""
        try:
            text = (await request.body()).decode("utf-8")
            fields = parse_qs(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
        except ValueError as e:
            raise ConfigError("that is no form of ours", remedy="go back and load the page again") from e
        self._render.forms.check(request, _one(fields, "form"))
        return await run_in_threadpool(self._do, request, fields)

    def _do(self, request: Request, fields: Mapping[str, Sequence[str]]) -> Response:
        order = Order.of(fields)
        with self._source.writing() as queue:
            if order.action == "pause":
                queue.pause(_one(fields, "reason")[:500])
                done = 1
            elif order.action == "resume":
                queue.resume()
                done = queue.free()
            else:
                numbers = order.numbers(queue)
                if str(len(numbers)) != _one(fields, "number"):
                    return self._question(request, order, again=True)
                done = self._change(queue, order, numbers, fields)
        path, query = order.back(self._render.prefix)
        return RedirectResponse(f"{path}?{'&'.join(filter(None, [query, _said(order.action, done)]))}", 303)

    def _change(self, queue: Queue, order: Order, numbers: list[int], fields: Mapping[str, Sequence[str]]) -> int:
        if order.action == "retry":
            return len(queue.retry(numbers))
        if order.action == "cancel":
            return len(queue.cancel(numbers))
        try:
            priority = int(_one(fields, "priority"))
        except ValueError:
            priority = _HIGHEST + 1
        if abs(priority) > _HIGHEST:
            raise ConfigError("that is no priority", remedy="a whole number; the higher goes first, 0 is usual")
        return len(queue.edit(numbers, priority=priority))

    def _question(self, request: Request, order: Order, *, again: bool = False) -> Response:
        numbers: list[int] = []
        names: list[str] = []
        if order.action in _STATES:
            with self._source.queue() as queue:
                numbers = order.numbers(queue)
                first = queue.browser.page(JobFilter(ids=tuple(numbers[:_NAMED]))) if numbers else None
            names = [f"#{job.id} {job.source}" for job in first.jobs] if first is not None else []
        path, query = order.back(self._render.prefix)
        return self._render.page(
            request,
            "ask.html",
            409 if again else 200,
            order=order,
            number=len(numbers),
            names=names,
            left_out=len(order.ids) - len(numbers) if order.ids else 0,
            again=again,
            back=f"{path}?{query}" if query else path,
        )


def _one(fields: Mapping[str, Sequence[str]], name: str) -> str:
    """Return the first value of a field, or nothing."""
    return next(iter(fields.get(name, ())), "")


def _said(action: str, number: int) -> str:
    return urlencode({"did": action, "number": number})
