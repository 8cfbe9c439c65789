"""One model, many users: their rows share its calls, each with steps and a tolerance of their own.

    python examples/server.py --port 8000
    curl -d '{"steps": 200, "tolerance": 0.003, "seed": 1, "label": 3}' localhost:8000
    python -m benchmarks server          # its load test, on loopback

A thread owns the model. It asks every user's solver for rows, evaluates them in one call and sends the answers back. Of
the rows of a call every user has an equal share: a window W of so many rows that U users finish most steps a second,

    largest W^GAIN / (cost(U W) + U own),    U W <= rows of a call

so that windows shrink as the queue grows, to plain stepping together in the end. cost(rows), the seconds of a call, is
measured when the server starts, and own, those of a solver between two calls, as it runs (of a step they are few). A
user who hangs up, or waits for longer than `--seconds`, is dropped; more than `--users` are refused. Needs nothing but
the library and its models.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import select
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError, wait
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, SimpleQueue
from typing import Any

import torch
from torch import Tensor

import paradigms as pd
from paradigms.models import load
from paradigms.models.store import Pretrained
from paradigms.steps import Rows, Solver, evaluate_together

STEPS = 1000  # of the schedule, the most that a request may ask for
# rows of a window; in one of 2 or 3 every row is evaluated about twice, and nothing is gained
WINDOWS = (1, *(2**k for k in range(2, 11)))
# a window of W rows finishes about W^GAIN steps a round: 2.9 of 4, 4.9 of 8, 14 of 32 (`python -m benchmarks server`)
GAIN = 0.75
REPEATS = 16  # rows of the calls of one size that are measured, and 2 calls at least: chosen by hand


class Server(ThreadingHTTPServer):
    """One that lets more than five users connect at once."""

    request_queue_size = 128


class FullError(RuntimeError):
    """No room for another user."""


class LateError(RuntimeError):
    """The time that a request may take is over."""


class User:
    """A request on its way: its solver, the rows that it waits for, and what becomes of it."""

    rows: Rows

    def __init__(self, solver: Solver, until: float) -> None:
        self.solver, self.until = solver, until
        self.found: Future[pd.Solution] = Future()

    def advance(self, answer: Tensor | None) -> bool:
        """Sends the solver an answer; whether it wants more."""
        try:
            self.rows = next(self.solver) if answer is None else self.solver.send(answer)
            return True
        except StopIteration as end:
            self.end(end.value)
        except Exception as error:  # this user's own: others go on
            self.end(error)
        return False

    def end(self, found: pd.Solution | Exception) -> None:
        """Tells who waits what was found; nobody may wait any more."""
        self.solver.close()
        with contextlib.suppress(InvalidStateError):
            if isinstance(found, Exception):
                self.found.set_exception(found)
            else:
                self.found.set_result(found)

    def gone(self) -> bool:
        """Whether nobody waits for it any more; then its solver is closed."""
        late = time.monotonic() > self.until
        if not (late or self.found.cancelled()):
            return False
        self.end(LateError("the time that a request may take is over"))
        return True


def flat(rows: int) -> float:
    """The cost of a call where all cost the same, as on a large device that a call does not fill."""
    return 1.0


def measured(ask: Callable[[int], Any], most: int) -> Callable[[int], float]:
    """The seconds of a call of so many rows; beyond where twice the rows take twice as long it is in proportion."""
    seconds: dict[int, float] = {}
    size = 1
    while size <= most and (size < 4 or seconds[size // 2] < 1.9 * seconds[size // 4]):
        ask(size)
        began, repeats = time.perf_counter(), max(REPEATS // size, 2)
        for _ in range(repeats):
            ask(size)
        seconds[size], size = (time.perf_counter() - began) / repeats, 2 * size

    def cost(rows: int) -> float:
        sizes = [s for s in seconds if s >= rows]
        last = max(seconds)
        return seconds[min(sizes)] if sizes else seconds[last] * rows / last

    return cost


class Merger:
    """Merges the rows of at most `users` users into calls of at most `most` rows; counts calls and rows."""

    def __init__(
        self,
        model: Callable[..., Tensor],
        most: int,
        users: int,
        seconds: float,
        cost: Callable[[int], float] = flat,
    ) -> None:
        self.model, self.most, self.users, self.seconds, self.cost = model, most, users, seconds, cost
        self.new: SimpleQueue[User | None] = SimpleQueue()
        self.active: list[User] = []
        self.inside = self.calls = self.rows = self.rounds = 0
        self.between = 0.0  # seconds of solvers between their rounds
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Ends the thread, once nobody is served any more."""
        self.new.put(None)
        self.thread.join()

    def share(self) -> int:
        """The window of each user: of those that leave all an equal share, the one that finishes most a second."""
        users = max(len(self.active), 1)
        own = users * self.between / max(self.rounds, 1)
        fit = [1, *(W for W in WINDOWS[1:] if users * W <= self.most)]
        return max(fit, key=lambda W: W**GAIN / (self.cost(users * W) + own * (W > 1)))

    def submit(self, make: Callable[[Callable[[], int]], Solver]) -> User:
        """Queues a request, whose solver is made of the window that it may have; raises FullError."""
        with self.lock:
            if self.inside >= self.users:
                raise FullError(f"{self.users} users are served already")
            self.inside += 1
        try:
            user = User(make(self.share), time.monotonic() + self.seconds)
        except BaseException:
            self.leave()
            raise
        user.found.add_done_callback(lambda _: self.leave())
        self.new.put(user)
        return user

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1

    def run(self) -> None:
        """Turn after turn, until None is queued."""
        while True:
            begun: list[User] = []
            with contextlib.suppress(Empty):
                while True:  # those who come at once begin together; nobody waits for them who is served already
                    patience = None if not (self.active or begun) else 0.002 if begun else 0.0
                    user = self.new.get(block=patience != 0.0, timeout=patience)
                    if user is None:
                        return
                    begun.append(user)
            self.active += begun
            self.active = [user for user in self.active if user not in begun or user.advance(None)]
            self.turn()

    def turn(self) -> None:
        """One call of the model for as many users as it has room for; the others come first in the next."""
        self.active = [user for user in self.active if not user.gone()]
        asked: list[User] = []
        for user in self.active:
            if not asked or sum(len(u.rows) for u in [*asked, user]) <= self.most:
                asked.append(user)
        if not asked:
            return
        self.calls, self.rows = self.calls + 1, self.rows + sum(len(u.rows) for u in asked)
        try:
            answers = evaluate_together(self.model, [user.rows for user in asked])
        except Exception as error:
            for user in asked:
                user.end(error)
            answers, self.active = [], [user for user in self.active if user not in asked]
        windows, began = [user for user in asked if len(user.rows) > 1], time.perf_counter()
        done = {id(u) for u, answer in zip(asked, answers, strict=False) if not u.advance(answer)}
        if len(windows) == len(asked):
            self.between, self.rounds = self.between + time.perf_counter() - began, self.rounds + len(asked)
        waiting = [user for user in self.active if user not in asked]
        self.active = waiting + [user for user in asked if id(user) not in done and user in self.active]


def request(net: Pretrained, wanted: dict[str, Any]) -> Callable[..., Solver]:
    """What makes a request's solver of its window; raises ValueError for one that cannot be served."""
    steps, seed = wanted.get("steps", 50), wanted.get("seed", 0)
    if type(steps) is not int or not 1 <= steps <= STEPS:
        raise ValueError(f"steps: given {steps!r}; needed: a whole number from 1 to {STEPS}")
    system = pd.ddim(pd.linear(), steps, prediction=net.prediction)
    x = system.noise((1, *net.shape), torch.Generator().manual_seed(int(seed)))
    label = torch.tensor([int(wanted.get("label", 0))])
    tolerance = wanted.get("tolerance", 0.003)
    return lambda window: pd.steps(system, x, window=window, tolerance=tolerance, condition={"label": label})


def handler(merger: Merger, net: Pretrained) -> type[BaseHTTPRequestHandler]:
    """Answers POST requests of JSON in JSON."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            began = time.perf_counter()
            try:
                wanted = json.loads(self.rfile.read(min(int(self.headers.get("Content-Length", 0)), 65_536)) or "{}")
                user = merger.submit(request(net, wanted))
                while not user.found.done():
                    wait([user.found], timeout=0.1)
                    if self.hung_up():
                        user.found.cancel()
                found = user.found.result()
                seconds = time.perf_counter() - began
                self.say(200, {"x": found.x[0].tolist(), "rounds": found.rounds, "evaluations": found.evaluations,
                               "converged": found.converged, "seconds": seconds})  # fmt: skip
            except CancelledError:
                self.close_connection = True
            except FullError as error:
                self.say(503, {"error": str(error)})
            except LateError as error:
                self.say(504, {"error": str(error)})
            except (ValueError, TypeError, AttributeError) as error:
                self.say(400, {"error": str(error)})

        def hung_up(self) -> bool:
            readable, _, _ = select.select([self.connection], [], [], 0)
            return bool(readable) and self.connection.recv(1, socket.MSG_PEEK) == b""

        def say(self, status: int, answer: dict[str, Any]) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def serve(port: int, rows: int, users: int, seconds: float, flat_cost: bool) -> tuple[Server, Merger, Pretrained]:
    """The server, on loopback alone, its merger, and the model."""
    net = load("digits")

    def ask(size: int) -> Tensor:
        with torch.no_grad():
            label, t = torch.zeros(size, dtype=torch.long), torch.full((size,), STEPS // 2)
            return net.model(torch.zeros(size, *net.shape), t, label=label)

    merger = Merger(net.model, rows, users, seconds, flat if flat_cost else measured(ask, rows))
    return Server(("127.0.0.1", port), handler(merger, net)), merger, net


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
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rows", type=int, default=1024, help="of a call of the model, at most")
    parser.add_argument("--users", type=int, default=64, help="served at once, at most")
    parser.add_argument("--seconds", type=float, default=60.0, help="that a request may take")
    parser.add_argument("--flat", action="store_true", help="take all calls to cost the same, and measure none")
    args = parser.parse_args(argv)
    server, _, _ = serve(args.port, args.rows, args.users, args.seconds, args.flat)
    print(f"http://127.0.0.1:{server.server_address[1]}")
    server.serve_forever()


if __name__ == "__main__":
    main()
