"""The server example: many users' rows in one call, each with the sample of their own chain, and what goes wrong."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest
import torch
from torch import Tensor

import paradigms as pd
from examples import server
from paradigms.models import load
from problems import RULES, seeded
from toy import Mixture


class Gate:
    """A model that waits until it is opened, so that users meet in its queue."""

    def __init__(self) -> None:
        self.open, self.sizes, self.mixture = threading.Event(), [], Mixture()

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        assert self.open.wait(60)
        self.sizes.append(len(x))
        return self.mixture(x, t)


@pytest.fixture
def merger() -> Iterator[Any]:
    found = server.Merger(Gate(), most=32, users=8, seconds=60.0)
    yield found
    found.model.open.set()
    found.close()


def chain(N: int, seed: int, tolerance: float = 0.003) -> Any:
    system = RULES["ddim"](N)
    x = system.noise((1, 6), seeded(seed), dtype=torch.float64)
    alpha, sigma = torch.cat([system.alpha, torch.ones(1)]), torch.cat([system.sigma, torch.zeros(1)])
    return server.Chain(x, system.t, alpha, sigma, "epsilon", {}, tolerance)


def own(N: int, seed: int) -> Tensor:
    """A user's own chain, step by step."""
    system = RULES["ddim"](N)
    return pd.sequential(Mixture(), system, system.noise((1, 6), seeded(seed), dtype=torch.float64))[0]


def off(found: dict[str, Any], wanted: Tensor) -> float:
    return float((found["x"] - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("tolerance", [0.003, 0.01])
def test_each_user_gets_the_sample_of_their_own_chain(merger: Any, tolerance: float) -> None:
    users = [merger.submit(chain(40 + 20 * k, k, tolerance)) for k in range(8)]
    merger.model.open.set()
    found = [user.found.result(60) for user in users]
    assert all(off(each, own(40 + 20 * k, k)) < tolerance for k, each in enumerate(found))
    assert max(merger.model.sizes) <= 32 and merger.calls == len(merger.model.sizes) < sum(f["rounds"] for f in found)
    assert merger.inside == 0 and all(each["converged"] for each in found)


def test_users_who_step_are_one_batch_and_exact(merger: Any) -> None:
    merger.cost = lambda rows: float(rows)  # no windows pay
    users = [merger.submit(chain(20 + k, k)) for k in range(8)]
    merger.model.open.set()
    found = [user.found.result(60) for user in users]
    assert all(off(each, own(20 + k, k)) < 1e-6 for k, each in enumerate(found))
    assert [f["evaluations"] for f in found] == list(range(20, 28)) and merger.rows == sum(range(20, 28))
    assert max(merger.model.sizes) == 8 and merger.calls < 2 * 27


@pytest.mark.parametrize(("tolerance", "nodes"), [(0.003, False), (0.01, True)])
def test_who_steps_goes_on_faster_when_others_have_left(tolerance: float, nodes: bool) -> None:
    left = threading.Event()
    merger = server.Merger(Mixture(), 256, 8, 60.0, lambda rows: 1.0 if left.is_set() and rows < 40 else rows**2)
    with contextlib.closing(merger):
        users = [merger.submit(chain(N, N, tolerance)) for N in (30, 300)]
        users[0].found.add_done_callback(lambda _: left.set())
        found = [user.found.result(60) for user in users]
    assert all(off(each, own(N, N)) < tolerance for N, each in zip((30, 300), found, strict=True))
    assert users[1].nodes == nodes and 30 < found[1]["rounds"] < 150


def shares(merger: Any) -> list[int]:
    """The windows of 1, 5, 16 and 40 users."""
    found = []
    for users in (1, 5, 16, 40):
        merger.active = [None] * users
        found.append(merger.share())
    merger.active = []
    return found


def test_windows_shrink_to_a_fair_share_of_a_call(merger: Any) -> None:
    assert shares(merger) == [32, 4, 1, 1]


def test_windows_are_no_wider_than_their_calls_pay(merger: Any) -> None:
    merger.most, merger.cost = 1024, lambda rows: 1.0 + max(rows - 64, 0)  # a device that 64 rows fill
    assert shares(merger) == [64, 8, 4, 1]
    merger.cost = lambda rows: float(rows)
    assert shares(merger) == [1, 1, 1, 1]
    merger.cost = server.flat
    merger.between[False].append(1000.0)  # solvers that are slower than the model
    assert shares(merger)[-1] == 1


def test_what_a_call_costs_is_measured_until_rows_no_longer_share() -> None:
    asked: list[int] = []
    cost = server.measured(asked.append, 8)
    assert set(asked) <= {1, 2, 4, 8} and asked[0] == 1
    last = max(asked)
    assert cost(4 * last) == pytest.approx(4 * cost(last)) and cost(1) > 0


def test_a_full_server_refuses_and_has_room_again_afterwards(merger: Any) -> None:
    users = [merger.submit(chain(20, k)) for k in range(8)]
    with pytest.raises(server.FullError, match="8 users"):
        merger.submit(chain(20, 9))
    merger.model.open.set()
    for user in users:
        user.found.result(60)
    assert merger.submit(chain(20, 9)).found.result(60)["converged"]


def test_a_user_who_leaves_or_is_late_is_dropped_and_the_others_go_on(merger: Any) -> None:
    gone, late, stays = (merger.submit(chain(40, k)) for k in range(3))
    gone.found.cancel()
    late.until = 0.0
    merger.model.open.set()
    assert stays.found.result(60)["converged"]
    with pytest.raises(server.LateError):
        late.found.result(60)
    assert merger.inside == 0


def test_a_model_that_fails_fails_those_who_asked_and_the_server_goes_on() -> None:
    fails = threading.Event()
    fails.set()

    def model(x: Tensor, t: Tensor) -> Tensor:
        if fails.is_set():
            raise ZeroDivisionError("down")
        return Mixture()(x, t)

    merger = server.Merger(model, most=32, users=8, seconds=60.0)
    with pytest.raises(ZeroDivisionError):
        merger.submit(chain(20, 0)).found.result(60)
    fails.clear()
    assert merger.submit(chain(20, 0)).found.result(60)["converged"]
    merger.close()


@pytest.fixture(scope="module")
def http() -> Iterator[tuple[int, Any]]:
    net = load("digits")
    merger, _ = server.merger_of(net, 64, 2, 60.0, True)
    app = server.application(lambda wanted: merger.submit(server.chain_of(net, wanted)).found)
    with contextlib.closing(merger), server.running(app) as port:
        yield port, merger


def test_over_http_a_request_is_answered_or_told_what_is_wrong_with_it(http: tuple[int, Any]) -> None:
    port, _ = http
    said = server.ask(port, {"steps": 12, "seed": 3, "label": 4})
    assert said["converged"] and len(said["x"]) == 1 and said["rounds"] <= 12
    assert server.ask(port, {"steps": 0})["status"] == 400
    assert "steps: given 'many'" in server.ask(port, {"steps": "many"})["error"]
    assert "tolerance" in server.ask(port, {"steps": 4, "tolerance": -1})["error"]
    assert server.ask(port, [])["status"] == 400


def test_over_http_a_user_who_hangs_up_is_dropped(http: tuple[int, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    port, merger = http
    users, submit, before = SimpleQueue[Any](), merger.submit, merger.rows
    monkeypatch.setattr(merger, "submit", lambda make: (user := submit(make), users.put(user))[0])
    body = json.dumps({"steps": 1000, "tolerance": 0}).encode()
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(b"POST / HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        user = users.get(timeout=60)
        over = threading.Event()
        user.found.add_done_callback(lambda _: over.set())
    assert over.wait(60) and user.found.cancelled()
    assert merger.rows - before < 1000 * 32


def test_over_http_a_body_that_is_too_long_is_refused(http: tuple[int, Any]) -> None:
    assert "65536" in server.ask(http[0], {"steps": "9" * 70_000})["error"]
