"""The gate before the application: readiness, the limits on queue and time, disconnections, metrics, shutdown."""

import asyncio
import json
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fwn.serving.limits import Limits, Refused
from fwn.serving.metrics import Metrics
from fwn.terminal import say

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
HEADERS = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
GONE = 499  # status in the metrics of a request whose client went away


class Gate:
    """An ASGI application around another one. Work is what is POSTed; all else is answered always.

    ready: whether work is accepted; why: the reason if it is not. running: number of requests at work.
    """

    def __init__(self, app: App, limits: Limits, metrics: Metrics, routes: set[str], log: bool = False):
        self.app, self.limits, self.metrics, self.routes, self.log = app, limits, metrics, routes, log
        self.ready, self.why, self.running = False, "the model is being compiled; try again later", 0
        metrics.show("fwn_requests_running", "Requests at work, waiting ones included", lambda: self.running)
        metrics.show("fwn_ready", "1 if work is accepted", lambda: self.ready)

    def close(self, why: str) -> None:
        """From now on no work is accepted."""
        self.ready, self.why = False, why

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, start, work = 0, time.perf_counter(), scope["method"] == "POST"

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", []), *HEADERS]}
            await send(message)

        self.running += work
        try:
            await (self._work(scope, receive, noted) if work else self.app(scope, receive, noted))
        except Refused as refused:
            if not status:
                await respond(noted, refused)
        except Exception as error:  # ours: the user is told no more, and the server goes on
            traceback.print_exception(error, file=sys.stderr)
            if not status:
                await respond(noted, Refused(500, "internal error; the server's log says more"))
        finally:
            self.running -= work
            self._count(scope, status or GONE, time.perf_counter() - start)

    async def _work(self, scope: Message, receive: Receive, send: Send) -> None:
        """Runs the application until it is done, the time is up or the client has gone away."""
        if not self.ready:
            raise Refused(503, self.why, retry_after=5)
        if self.running > self.limits.queue:
            raise Refused(503, f"{self.limits.queue} requests are waiting already; try again later", retry_after=1)
        complete = asyncio.Event()

        async def body() -> Message:
            message = await receive()
            if message["type"] != "http.request" or not message.get("more_body"):
                complete.set()
            return message

        async def gone() -> None:
            await complete.wait()
            while (await receive())["type"] != "http.disconnect":
                pass

        tasks = [asyncio.ensure_future(self.app(scope, body, send)), asyncio.ensure_future(gone())]
        try:
            done, _ = await asyncio.wait(tasks, timeout=self.limits.timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if tasks[0] in done:
            tasks[0].result()  # raises what it raised
        elif not done:
            what = (504, "the audio was not there") if complete.is_set() else (408, "the body was not here")
            raise Refused(what[0], f"{what[1]} after {self.limits.timeout:g} s, the limit of this server")

    def _count(self, scope: Message, status: int, seconds: float) -> None:
        route = scope["path"] if scope["path"] in self.routes else "other"  # names from outside make no new series
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.metrics.requests.labels(route, method, status).inc()
        self.metrics.latency.labels(route).observe(seconds)
        if self.log:
            say(f"{scope['method'][:20]} {scope['path'][:200]} {status} {seconds:.3f} s")


async def respond(send: Send, refused: Refused) -> None:
    """Sends an error as JSON."""
    body = json.dumps({"error": str(refused)}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **refused.headers}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
