"""The page's server: one race is computed at a time, each is told to its own reader, and stops with it.

| address             | answer                                                                              |
| /                   | the page                                                                            |
| /race?model=...     | a stream of server-sent events, one a round; 422 and the library's words for bad input |
| /ready?model=...    | nothing, once the model is loaded                                                   |
| /page/...           | its style and its scripts                                                           |

Races wait for each other, since two at once would slow each other's clock. A reader who leaves ends its race at the
next call of the network. Only names of this machine are answered to, so that no foreign page can ask.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from .document import served
from .recording import Contest, Event, Stopped

PAGE = Path(__file__).parent / "page"
HOSTS = ["127.0.0.1", "localhost", "testserver"]
# Races that wait: more readers than a page on one machine has. Chosen by hand.
MOST = 8
# Seconds without an event after which the connection is tried, so that a reader who left is noticed. Chosen by hand.
PULSE = 1.0
SAFE = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


Make = Callable[[dict[str, str]], Contest]  # raises ValueError for what cannot be run


class Track:
    """Where races are run, one after the other."""

    def __init__(self) -> None:
        self.worker = ThreadPoolExecutor(1, "race")
        self.loader = ThreadPoolExecutor(1, "load")  # one at a time: libraries that import lazily do not bear two
        self.running: set[Race] = set()
        self.asked = 0  # races that are being made

    def close(self) -> None:
        """Ends all of them."""
        for race in tuple(self.running):
            race.stopped.set()
        self.worker.shutdown(wait=False, cancel_futures=True)
        self.loader.shutdown(wait=False, cancel_futures=True)


class Race:
    """One reader's race: its events come through a queue; None ends them."""

    def __init__(self, track: Track, contest: Contest) -> None:
        self.track, self.contest, self.stopped = track, contest, threading.Event()
        self.loop, self.queue = asyncio.get_running_loop(), asyncio.Queue[Event | None]()
        self.ahead = len(track.running)
        track.running.add(self)
        self.future: Future[None] = track.worker.submit(self.compute)

    def compute(self) -> None:
        """The race, in the worker's thread."""
        try:
            if not self.stopped.is_set():
                self.contest.run(self.tell, self.stopped.is_set)
        except Stopped:
            pass
        except Exception as error:  # whatever a model raises is told to the reader
            self.tell({"event": "failed", "message": f"{type(error).__name__}: {error}".splitlines()[0]})
        finally:
            self.tell(None)

    def tell(self, event: Event | None) -> None:
        """Hands an event to the reader, from the worker's thread."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.queue.put_nowait, event)

    async def events(self) -> AsyncIterator[str]:
        """The stream's text."""
        if self.ahead:
            yield line({"event": "phase", "phase": "wait", "ahead": self.ahead})
        while True:
            try:
                event = await asyncio.wait_for(self.queue.get(), PULSE)
            except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
                yield ": still here\n\n"
                continue
            if event is None:
                return
            yield line(event)

    def leave(self) -> None:
        """The reader is gone, or has all."""
        self.stopped.set()
        self.future.cancel()
        self.track.running.discard(self)


def line(event: Event) -> str:
    """An event as the stream has it."""
    return f"data: {json.dumps(event, separators=(',', ':'))}\n\n"


class Told(StreamingResponse):
    """A stream of a race that ends with its reader, however that comes."""

    def __init__(self, race: Race) -> None:
        super().__init__(race.events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self.race = race

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.race.leave()


def application(make: Make, choices: dict[str, Any]) -> Starlette:
    """The server as an application. make: a race of an address's query. choices: what the page offers."""
    track = Track()
    text = served(choices)

    async def page(_: Request) -> Response:
        return HTMLResponse(text, headers=SAFE)

    async def made(query: dict[str, str]) -> Contest | Response:
        """The race of a query, or why there is none."""
        try:
            return await asyncio.get_running_loop().run_in_executor(track.loader, make, query)
        except (ValueError, ImportError) as error:
            return refusal(str(error), 422)
        except Exception as error:  # what no check has foreseen
            return refusal(f"{type(error).__name__}: {error}", 500)

    async def race(request: Request) -> Response:
        if request.method == "HEAD":  # who asks what kind of page this is wants no race
            return Response(media_type="text/event-stream")
        if len(track.running) + track.asked >= MOST:
            return refusal(f"{MOST} races are waiting; close a page, or try again when one is over", 503)
        track.asked += 1
        try:
            contest = await made(dict(request.query_params))
            return contest if isinstance(contest, Response) else Told(Race(track, contest))
        finally:
            track.asked -= 1

    async def ready(request: Request) -> Response:
        contest = await made({"model": request.query_params.get("model", "")})
        return contest if isinstance(contest, Response) else Response(status_code=204)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        track.close()

    routes = [
        Route("/", page),
        Route("/race", race),
        Route("/ready", ready),
        Mount("/page", StaticFiles(directory=PAGE)),
    ]
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    app = Starlette(routes=routes, middleware=[hosts], lifespan=lifespan)
    app.state.track = track
    return app


def refusal(message: str, status: int) -> Response:
    """One line of what is wrong."""
    return JSONResponse({"message": (message.splitlines() or [""])[0]}, status)
