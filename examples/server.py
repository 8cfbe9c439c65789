"""One model, many users: their rows share its calls, each with steps and a tolerance of their own.

    pip install 'paradigms-sampling[web]'
    python examples/server.py --port 8000
    curl -d '{"steps": 200, "tolerance": 0.003, "seed": 1, "label": 3}' localhost:8000
    python -m benchmarks server          # its load test, on loopback

A thread owns the model. It asks every user for rows, evaluates them in one call and sends the answers back. Of U users
each goes the way that finishes most steps a second:

    steps, all users' as one batch             1 / cost(U)
    a window of W rows, the same for all       W^GAIN / (cost(U W) + U own)          U W <= rows of a call
    nodes, for 1 % and many steps              N / ROUNDS / (cost(U ROWS) + U own)   `paradigms.Skeleton`

so that windows shrink as the queue grows, and a full server steps as plain batching does, but that whoever comes need
not wait for a batch to end. cost(rows), the seconds of a call, is measured when the server starts, and own, those of a
user's solver between two calls, then and as it runs. Who steps may go on in windows or nodes when others have left, but
once, for the tolerance is spent once. A user who hangs up, or waits for longer than `--seconds`, is dropped; more than
`--users` are refused.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from queue import Empty, SimpleQueue
from statistics import median
from typing import Any

import torch
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HTTPRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from torch import Tensor

import paradigms as pd
from paradigms.models import load
from paradigms.models.store import Pretrained
from paradigms.steps import Rows, Solver, evaluate_together

STEPS = 1000  # of the schedule, the most that a request may ask for
# rows of a window; in one of 2 or 3 every row is evaluated about twice, and nothing is gained
WINDOWS = tuple(2**k for k in range(2, 11))
# a window of W rows finishes about W^GAIN steps a round: 2.9 of 4, 4.9 of 8, 14 of 32 (`python -m benchmarks server`)
GAIN = 0.75
# nodes of the digits model at 1 % and 200 steps: 9.5 rounds of 18 rows in the mean; from where they pay, skeleton.md
ROUNDS, ROWS, NODES_FROM, NODES_STEPS = 10, 18, 0.01, 100
LEAST = 32  # steps that are left, at least, when a user who stepped goes another way: chosen by hand
SMALL = 32  # rows; calls of up to so many are all measured: chosen by hand
REPEATS = 16  # rows of the calls of one size that are measured, and 3 calls at least: chosen by hand
# seconds that an idle server waits for another user: one who is alone begins at once, but who comes with others begins
# with them, for the first few would begin as nodes or windows, which cost the crowd more than stepping beside it
ALONE, CROWD = 0.002, 0.01
RECENT = 64  # rounds of solvers whose median seconds count: chosen by hand
BODY = 65_536  # bytes of a request


class FullError(RuntimeError):
    """No room for another user."""


class LateError(RuntimeError):
    """The time that a request may take is over."""


@dataclass(frozen=True, eq=False)
class Chain:
    """What is asked for: DDIM from x (1, ...) along times t (N,) and levels (N + 1,), to a tolerance."""

    x: Tensor
    t: Tensor
    alpha: Tensor
    sigma: Tensor
    prediction: str
    condition: dict[str, Tensor]
    tolerance: float

    def system(self, n: int = 0) -> pd.System:
        """The table from row n on."""
        return pd.from_levels(self.t[n:], self.alpha[n:], self.sigma[n:], prediction=self.prediction)

    @cached_property
    def factors(self) -> Tensor:
        """A and B (2, N) of a step, x' = A[n] x + B[n] m."""
        system = self.system()
        b, reader = system.b[:, 0], system.denoiser
        return torch.stack([system.a + b * reader.p, b * reader.q]).to(self.x)


class User:
    """A request on its way: where it steps, or its solver and the rows that it waits for; and what becomes of it."""

    rows: Rows
    solver: Solver | None = None
    nodes = False  # whether the solver is of nodes

    def __init__(self, chain: Chain, until: float) -> None:
        self.chain, self.until, self.x, self.row = chain, until, chain.x, 0
        self.found: Future[dict[str, Any]] = Future()

    @property
    def left(self) -> int:
        """The steps that are left."""
        return len(self.chain.t) - self.row

    def solve(self, method: pd.Skeleton | None, window: int | Callable[[], int]) -> bool:
        """Goes on in windows or nodes from where it stands; whether there is anything to evaluate."""
        chain, self.nodes = self.chain, method is not None
        how: dict[str, Any] = {"tolerance": chain.tolerance, "condition": chain.condition}
        self.solver = pd.steps(chain.system(self.row), self.x, method, window=window, **how)
        return self.advance(None)

    def advance(self, answer: Tensor | None) -> bool:
        """Sends the solver an answer; whether it wants more."""
        assert self.solver is not None
        try:
            self.rows = next(self.solver) if answer is None else self.solver.send(answer)
            return True
        except StopIteration as end:
            done: pd.Solution = end.value
            self.end(done.x, self.row + done.rounds, self.row + done.evaluations, done.converged)
        except Exception as error:  # this user's own: others go on
            self.fail(error)
        return False

    def end(self, x: Tensor, rounds: int, evaluations: int, converged: bool) -> None:
        """Tells who waits what was found."""
        found = {"x": x[0], "rounds": rounds, "evaluations": evaluations, "converged": converged}
        with contextlib.suppress(InvalidStateError):  # nobody waits any more
            self.found.set_result(found)

    def fail(self, error: Exception) -> None:
        """Tells who waits what went wrong."""
        if self.solver is not None:
            self.solver.close()
        with contextlib.suppress(InvalidStateError):
            self.found.set_exception(error)

    def gone(self) -> bool:
        """Whether nobody waits for it any more; then its solver is closed."""
        late = time.monotonic() > self.until
        if late or self.found.cancelled():
            self.fail(LateError("the time that a request may take is over"))
        return self.found.done()


class Stepping:
    """Users who step as one batch, each along its own table: x' = A[n] x + B[n] m(x, t[n])."""

    users: tuple[User, ...] = ()
    x: Tensor  # (B, ...)
    taken: int  # steps since users came or went
    due: int  # of them when one ends

    def change(self, users: list[User]) -> None:
        """From now on these step, from where they stand; the others keep where they stood."""
        for k, user in enumerate(self.users):
            user.x, user.row = self.x[k : k + 1], user.row + self.taken
        self.users, self.taken = tuple(users), 0
        if users:
            chains = [user.chain for user in users]
            self.x, self.t = torch.cat([user.x for user in users]), torch.cat([chain.t for chain in chains])
            first = accumulate([len(chain.t) for chain in chains[:-1]], initial=0)
            self.place = torch.tensor([n + user.row for n, user in zip(first, users, strict=True)])  # in t, A and B
            factors = torch.cat([chain.factors for chain in chains], 1)
            self.A, self.B = factors.reshape(2, -1, *(1,) * (self.x.ndim - 1))
            self.condition = {k: torch.cat([chain.condition[k] for chain in chains]) for k in chains[0].condition}
            self.due = min(user.left for user in users)

    def rows(self) -> Rows:
        """What the next step evaluates."""
        return Rows(self.x, self.t[self.place], self.place, torch.arange(len(self.x)), self.condition)

    def step(self, m: Tensor) -> None:
        """The next step by the model's answers."""
        self.x = self.A[self.place] * self.x + self.B[self.place] * m.to(self.x)
        self.place, self.taken = self.place + 1, self.taken + 1
        if self.taken == self.due:
            self.change(list(self.users))
            for user in self.users:
                if user.left == 0 and bool(torch.isfinite(user.x).all()):
                    user.end(user.x, user.row, user.row, True)
                elif user.left == 0:
                    user.fail(ArithmeticError("the model's answers are not finite"))
            self.change([user for user in self.users if user.left])


def flat(rows: int) -> float:
    """The cost of a call where all cost the same, as on a large device that a call does not fill."""
    return 1.0


def measured(ask: Callable[[int], Any], most: int) -> Callable[[int], float]:
    """The seconds of a call of so many rows; beyond where twice the rows take twice as long it is in proportion.

    One row may be a case of its own, so that two rows take more than twice as long: small calls are all measured.
    """
    seconds: dict[int, float] = {}
    size = 1
    while size <= most and (size <= SMALL or seconds[size // 2] < 1.9 * seconds[size // 4]):
        ask(size)
        times = list[float]()
        for _ in range(max(REPEATS // size, 3)):
            began = time.perf_counter()
            ask(size)
            times.append(time.perf_counter() - began)
        seconds[size], size = median(times), 2 * size

    def cost(rows: int) -> float:
        below = max((s for s in seconds if s <= rows), default=1)
        above = min((s for s in seconds if s >= rows), default=below)
        if above == below:
            return seconds[below] * rows / below if rows > below else seconds[below]
        return seconds[below] + (seconds[above] - seconds[below]) * (rows - below) / (above - below)

    return cost


class Merger:
    """Merges the rows of at most `users` users into calls of at most `most` rows; counts calls and rows.

    ask: a call of so many rows whose seconds are measured first, by the thread that makes all calls: OpenMP keeps
    threads for each thread that calls it, and calls of a small model took four times as long in a second one.
    """

    def __init__(
        self,
        model: Callable[..., Tensor],
        most: int,
        users: int,
        seconds: float,
        cost: Callable[[int], float] = flat,
        ask: Callable[[int], Any] | None = None,
    ) -> None:
        self.model, self.most, self.users, self.seconds, self.cost, self.ask = model, most, users, seconds, cost, ask
        self.new: SimpleQueue[User | None] = SimpleQueue()
        self.active: list[User] = []
        self.stepping, self.directed = Stepping(), set[User]()
        self.inside = self.calls = self.rows = 0
        # seconds of the last rounds of solvers, of windows and of nodes
        self.between = {nodes: deque[float](maxlen=RECENT) for nodes in (False, True)}
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Ends the thread, once nobody is served any more."""
        self.new.put(None)
        self.thread.join()

    def submit(self, chain: Chain) -> User:
        """Queues a request; raises FullError, or ValueError for a tolerance that is none."""
        pd.FinalError(chain.tolerance)
        with self.lock:
            if self.inside >= self.users:
                raise FullError(f"{self.users} users are served already")
            self.inside += 1
        user = User(chain, time.monotonic() + self.seconds)
        user.found.add_done_callback(lambda _: self.leave())
        self.new.put(user)
        return user

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1

    def rate(self, gain: float, rows: int, nodes: bool = False) -> float:
        """Steps of each user that are finished a second by so many rows each, which gain so many steps a round."""
        users, known = max(len(self.active), 1), self.between[nodes]
        own = median(known) if known and rows > 1 else 0.0
        return gain / (self.cost(users * rows) + users * own)

    def share(self) -> int:
        """The window of each user: of those that leave all an equal share, the one that finishes most a second."""
        fit = [1, *(W for W in WINDOWS if max(len(self.active), 1) * W <= self.most)]
        return max(fit, key=lambda W: self.rate(W**GAIN, W))

    def direct(self) -> None:
        """Sends those who begin, and those who step, the way that finishes most."""
        self.stepping.change([])
        W, stay = self.share(), list[User]()
        fits, windows = len(self.active) * ROWS <= self.most, self.rate(W**GAIN, W)
        for user in [user for user in self.active if user.solver is None]:
            many = fits and user.chain.tolerance >= NODES_FROM and user.left >= NODES_STEPS
            if user.row and user.left < LEAST:
                stay.append(user)
            elif many and self.rate(user.left / ROUNDS, ROWS, nodes=True) > windows:
                self.solve(user, pd.Skeleton(), 32)
            elif W > 1:
                self.solve(user, None, self.share)
            else:
                stay.append(user)
        self.stepping.change(stay)
        self.directed = set(self.active)

    def solve(self, user: User, method: pd.Skeleton | None, window: int | Callable[[], int]) -> None:
        if not user.solve(method, window):
            self.active.remove(user)

    def run(self) -> None:
        """Turn after turn, until None is queued."""
        if self.ask is not None:
            self.cost = measured(self.ask, self.most)
        while True:
            begun = 0
            with contextlib.suppress(Empty):
                while True:  # those who come at once begin together; nobody waits for them who is served already
                    patience: float | None = 0.0  # somebody is served already
                    if not self.active:
                        patience = None
                    elif begun == len(self.active):
                        patience = ALONE if begun == 1 else CROWD
                    user = self.new.get(block=patience != 0.0, timeout=patience)
                    if user is None:
                        return
                    self.active.append(user)
                    begun += 1
            self.turn()

    def turn(self) -> None:
        """One call of the model for as many users as it has room for; the others come first in the next."""
        self.active = [user for user in self.active if not user.gone()]
        if set(self.active) != self.directed:
            self.direct()
        step, asked = self.stepping.users, list[User]()
        room = self.most - len(step)
        for user in self.active:
            if user.solver and (len(user.rows) <= room or not (asked or step)):
                asked, room = [*asked, user], room - len(user.rows)
        rows = [user.rows for user in asked] + ([self.stepping.rows()] if step else [])
        if not rows:
            return
        try:
            answers = evaluate_together(self.count, rows, self.most)
        except Exception as error:
            for user in (*asked, *step):
                user.fail(error)
            return
        if step:
            self.stepping.step(answers[-1])
        waiting = [user for user in self.active if user.solver and user not in asked]
        stay = [user for user, answer in zip(asked, answers, strict=False) if self.advance(user, answer)]
        self.active = [*waiting, *stay, *self.stepping.users]

    def count(self, x: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """The model's answer."""
        self.calls, self.rows = self.calls + 1, self.rows + len(x)
        return self.model(x, t, **condition)

    def advance(self, user: User, answer: Tensor) -> bool:
        """A user's next rows, and what they cost."""
        began, window = time.perf_counter(), len(user.rows)
        more = user.advance(answer)
        if window > 1:  # a step costs less
            self.between[user.nodes].append(time.perf_counter() - began)
        return more


def chain_of(net: Pretrained, wanted: dict[str, Any]) -> Chain:
    """A request's chain; raises ValueError for one that cannot be served."""
    steps, seed = wanted.get("steps", 50), wanted.get("seed", 0)
    if type(steps) is not int or not 1 <= steps <= STEPS:
        raise ValueError(f"steps: given {steps!r}; needed: a whole number from 1 to {STEPS}")
    system = pd.ddim(pd.linear(), steps, prediction=net.prediction)
    x = system.noise((1, *net.shape), torch.Generator().manual_seed(int(seed)))
    last = torch.tensor([1.0, 0.0], dtype=torch.float64)
    alpha, sigma = (torch.cat([v, end[None]]) for v, end in zip((system.alpha, system.sigma), last, strict=True))
    label = torch.tensor([int(wanted.get("label", 0))])
    return Chain(x, system.t, alpha, sigma, net.prediction, {"label": label}, wanted.get("tolerance", 0.003))


Submit = Callable[[dict[str, Any]], Future[dict[str, Any]]]


def application(submit: Submit) -> Starlette:
    """Answers POST requests of JSON in JSON; a request whose user hangs up is cancelled."""

    async def answer(request: HTTPRequest) -> Response:
        began = time.perf_counter()
        try:
            found = submit(json.loads(await body_of(request) or "{}"))
            done = asyncio.wrap_future(found)
            left: asyncio.Future[Any] = asyncio.ensure_future(hung_up(request))
            await asyncio.wait([done, left], return_when=asyncio.FIRST_COMPLETED)
            left.cancel()
            if not done.done():
                done.cancel()
                return Response(status_code=499)
            said = done.result()
            return JSONResponse(said | {"x": said["x"].tolist(), "seconds": time.perf_counter() - began})
        except FullError as error:
            return JSONResponse({"error": str(error)}, 503)
        except LateError as error:
            return JSONResponse({"error": str(error)}, 504)
        except (ValueError, TypeError, AttributeError) as error:
            return JSONResponse({"error": str(error)}, 400)

    return Starlette(routes=[Route("/", answer, methods=["POST"])])


async def body_of(request: HTTPRequest) -> bytes:
    """The request's body; raises ValueError for one that is too long."""
    found = b""
    async for part in request.stream():
        found += part
        if len(found) > BODY:
            raise ValueError(f"given more than {BODY} bytes; needed: a request")
    return found


async def hung_up(request: HTTPRequest) -> None:
    """Returns when the user has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


@contextlib.contextmanager
def running(app: Starlette, port: int = 0) -> Iterator[int]:
    """Serves on loopback alone, from a thread of its own, until the end of the block; gives the port."""
    with socket.create_server(("127.0.0.1", port), backlog=128) as at:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [at]})
        thread.start()
        try:
            yield at.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def merger_of(net: Pretrained, rows: int, users: int, seconds: float, flat_cost: bool) -> tuple[Merger, Submit]:
    """The merger of a model, and what a request is handed to."""

    def ask(size: int) -> Tensor:
        with torch.no_grad():
            label, t = torch.zeros(size, dtype=torch.long), torch.full((size,), STEPS // 2)
            return net.model(torch.zeros(size, *net.shape), t, label=label)

    merger = Merger(net.model, rows, users, seconds, ask=None if flat_cost else ask)
    for tolerance in () if flat_cost else (0.003, NODES_FROM):  # what solvers cost, one user's of each kind
        merger.submit(chain_of(net, {"steps": 2 * NODES_STEPS, "tolerance": tolerance})).found.result()
    return merger, lambda wanted: merger.submit(chain_of(net, wanted)).found


def ask(port: int, wanted: dict[str, Any]) -> dict[str, Any]:
    """What the server answers."""
    to = urllib.request.Request(f"http://127.0.0.1:{port}", json.dumps(wanted).encode())
    try:
        with urllib.request.urlopen(to) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error) | {"status": error.code}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--rows", type=int, default=1024, help="of a call of the model, at most")
    parser.add_argument("--users", type=int, default=64, help="served at once, at most")
    parser.add_argument("--seconds", type=float, default=60.0, help="that a request may take")
    parser.add_argument("--flat", action="store_true", help="take all calls to cost the same, and measure none")
    args = parser.parse_args(argv)
    _, submit = merger_of(load("digits"), args.rows, args.users, args.seconds, args.flat)
    uvicorn.run(application(submit), host="127.0.0.1", port=args.port)


if __name__ == "__main__":
    main()
