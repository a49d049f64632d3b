"""Tells browsers that something changed: one stream of events each, one look at the queue for all."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from batchsr.errors import BatchsrError
from batchsr.serve.source import LEAST_AGE_S, Source

MOST_STREAMS: Final = 100
QUIET_S: Final = 15.0
"""After so long without a change something is sent all the same, so that a client that left is noticed."""


class Changes:
    """Looks at the queue while anybody listens, and says when the overview is another one."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._changed = asyncio.Condition()
        self._digest = ""
        self._looking: asyncio.Task[None] | None = None
        self._stopped = False
        self.listeners = 0

    async def answer(self, request: Request) -> Response:
        """Answer with a stream of events; 503 where there are too many."""
        if self.listeners >= MOST_STREAMS or self._stopped:
            return PlainTextResponse("too many pages are open\n", 503, {"Retry-After": "30"})
        headers = {"X-Accel-Buffering": "no"}  # nginx hands each event on at once
        return StreamingResponse(self._events(), media_type="text/event-stream", headers=headers)

    async def stop(self) -> None:
        """End all streams, and take no more."""
        self._stopped = True
        async with self._changed:
            self._changed.notify_all()
        if self._looking is not None:
            self._looking.cancel()

    async def _events(self) -> AsyncIterator[str]:
        self.listeners += 1
        seen = ""
        try:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look())
            yield "retry: 3000\n\n"
            while not self._stopped:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(QUIET_S), self._changed:
                        await self._changed.wait_for(lambda: self._stopped or self._digest != seen)  # noqa: B023
                if self._stopped:
                    return
                yield ": still there\n\n" if self._digest == seen else f"event: changed\ndata: {self._digest}\n\n"
                seen = self._digest
        finally:
            self.listeners -= 1

    async def _look(self) -> None:
        """Look again and again, until nobody listens."""
        while self.listeners and not self._stopped:
            try:
                digest = await run_in_threadpool(self._overview)
            except BatchsrError:
                digest = "trouble"
            if digest != self._digest:
                async with self._changed:
                    self._digest = digest
                    self._changed.notify_all()
            await asyncio.sleep(LEAST_AGE_S)

    def _overview(self) -> str:
        """Return a digest of what the overview shows."""
        found = self._source.overview()
        shown = {**found.status, "workers": [{**one, "idle_s": None} for one in found.status["workers"]]}
        text = json.dumps([shown, [(job.id, job.state) for job in found.lately]], default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
