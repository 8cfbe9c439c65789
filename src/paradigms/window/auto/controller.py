"""The window that finishes soonest, stepping included, which is the window of one row. The rule is one line:

    seconds a row    tau(W) = R(W) rho(W),    tau(1) = R(1)            seconds of a round, rounds a row: `profile.py`

Where windows were timed, a call keeps the W of the least tau. Where they were not, it climbs: TIMED steps, then rounds
of windows each four times as wide as the last, as long as tau is expected to fall clearly. Clocks differ from call to
call and counts do not, so a clock decides between windows four times apart only, and in doubt more rounds are timed.
Windows that lose are left for steps, and what they lost is paid before they are tried again:

    calls that step and measure nothing  =  seconds lost / (ALLOWED seconds of stepping the chain)
"""

from __future__ import annotations

import math
from collections.abc import Hashable

import torch

from ...execution.evaluate import Evaluator
from ...methods.base import AbstractMethod
from ...stopping.base import AbstractStop
from ..controller import FixedWindow, HasClock, Plan, WindowController
from ..expected import Expected
from .profile import ChainCounts, RoundTimes, round_times

ALLOWED = 0.012  # of the time of stepping: what trials may lose in the mean; the README promises 0.98 of its speed
TRIAL, RISK = 6, 0.2  # rows that a first trial may lose, and of a chain what may be lost before anything is saved
LEAVE = 0.2  # of the time of stepping: where windows that lost so much since they were furthest ahead are left
DEBT = 0.5  # of that time: the most that is owed, for more is what else the machine did, or saved
RESTS, PAUSE = 7, 0.1  # calls, or seconds of them, that step where nothing was lost, for windows cannot pay
TIMED, AGAIN = (4, 8), 8  # single steps that are timed first, a 16th of the chain; calls of which one times them
ROUNDS, MOST = 2, 5  # of a rung: before it is climbed from, and before it is left or gone down from
DEAR = 0.015, 4  # of the rows of the chain, and rows: lost by a losing rung before it is left at once
UP, DOWN, LOSES = 0.7, 0.6, 1.1  # tau of another rung beside this one's, and of the best one beside a step's
HOPE = 0.5  # of what more rows are expected to cost: what is believed before a trial
WORTH = 0.97  # tau of windows that a call begins with, beside a step's
OTHERS = 3  # times what is expected is what a round may cost: more is what else the machine did
WIDEST, ROOM = 256, 2**30  # rows; bytes that a window's states may take, of which a method holds about a dozen
STRETCH, KEPT = 256, 2**26  # steps between two questions; bytes of their states


class AutoWindow(WindowController):
    """The windows of one call, of those given; `stretch`: single steps between two questions."""

    def __init__(self, known: RoundTimes, chain: ChainCounts, windows: tuple[int, ...], stretch: int) -> None:
        self.known, self.chain, self.N, self.windows, self.stretch = known, chain, chain.N, windows, stretch
        if chain.resting is not None:  # what spoke against windows may have changed
            chain.resting = None
            known.inside.clear()
            known.outside.clear()
        self.climbs = known.fresh = max(known.outside, default=1) == 1
        self.rungs = [W for W in windows if W > 2][::2] or list(windows[:1])
        self.timed = min(max(TIMED[0], self.N // 16), TIMED[1]) if self.climbs or chain.calls % AGAIN == 0 else 0
        chain.calls += 1
        self.window, self.rounds, self.settled, self.last = 1, 0, False, 0
        self.lost = self.behind = 0.0  # seconds more than steps take, in all and since windows were furthest ahead
        self.clock, self.steps = (0.0, 0.0), 0  # steps: after those that are timed
        self.why: str | None = None

    def next(self, row: int) -> Plan:
        if row < self.timed:
            return 1, 1
        if self.window > 1 and self.behind > LEAVE * self.N * self.known(1):
            why = f"a window of {self.window} took longer than expected"
            self.window, self.settled, self.why = 1, True, why
        elif not self.settled:
            self.climb() if self.climbs else self.start()
        return self.window, min(self.stretch, max(self.N // 8, 1))

    def tau(self, W: int, hope: float = 1.0) -> float:
        """Seconds a row; while climbing the chain is no harder than usual, for small windows would count too many."""
        most = self.chain.usual if self.climbs else math.inf
        return self.known(W, hope) * (self.chain.rho(W, most) if W > 1 else 1.0)

    def start(self) -> None:
        """The window of a call whose windows were timed."""
        tau = {W: self.tau(W, HOPE) for W in self.windows}
        best = min(tau, key=tau.__getitem__)
        self.window, self.settled = best if tau[best] < WORTH * self.tau(1) else 1, True

    def climb(self) -> None:
        """The rung that comes next."""
        now, step, timed = self.window, self.tau(1), [W for W in self.rungs if W in self.known.outside]
        wider, hope = next((W for W in self.rungs if now < W), now), HOPE if self.rounds < MOST else 1.0
        least = min(self.tau(W, hope) for W in self.windows)
        if now == 1 and least > step:
            self.settled, self.why = True, f"even if more rows cost nothing, {self.expected()}"
        elif now == 1:
            self.window = wider
        elif self.rounds < ROUNDS or now not in timed:
            return
        elif least > LOSES * step:
            if self.rounds >= MOST or self.behind > max(DEAR[0] * self.N, DEAR[1]) * step:
                self.window, self.settled, self.why = 1, True, str(self.expected())
        elif wider > now and self.tau(wider, HOPE) < UP * self.tau(now):
            self.window, self.rounds = wider, 0
        elif self.rounds >= MOST and self.tau(best := min(timed, key=self.tau)) < DOWN * self.tau(now):
            self.window, self.settled = best, True

    def on_steps(self, row: int, steps: int, evaluate: HasClock) -> None:
        inside, outside = self.elapsed(evaluate)
        self.known.record(1, inside / steps, outside / steps if self.last == 1 else None)
        self.last, self.steps = 1, self.steps + steps * (row >= self.timed)
        if row + steps == self.N:
            self.end()

    def on_round(self, row: int, window: int, asked: int, count: int, evaluate: HasClock) -> None:
        inside, outside = self.elapsed(evaluate)
        if self.last > 1:  # what lies between two calls is the work of the round before
            self.known.record(self.last, None, outside)
        rows = min(window, self.N - row)
        self.last = window if rows == window else 0  # the last ones of a chain are shorter
        if self.last:
            self.known.record(window, inside, None)
        usual = self.known(rows)
        if self.rounds or not self.climbs:  # the first of a rung sees most of its rows for the first time
            self.chain.count(window, min(usual / self.known(window), 1.0), count)
        spent, steps = min(inside + outside, OTHERS * usual), count * self.known(1)
        self.rounds, self.lost = self.rounds + 1, self.lost + spent - steps
        self.behind = max(self.behind + (min(spent, usual) if self.climbs else spent) - steps, 0.0)
        if row + count == self.N:
            self.end()

    def elapsed(self, evaluate: HasClock) -> tuple[float, float]:
        """Seconds in the model and outside since it was last asked; waits for a processor are left out."""
        before, self.clock = self.clock, evaluate.clock.read()
        evaluate.clock.exact = self.known.cpu and not (self.settled and self.window == 1)
        return self.clock[0] - before[0], self.clock[1] - before[1]

    def end(self) -> None:
        """The call is over: where it gave windows up, the next calls step."""
        if 1 in self.known.outside:
            chain, counts = self.N * self.known(1), self.chain
            counts.debt = min(max(counts.debt + self.lost / chain, -DEBT), DEBT)
            if self.window == 1 and (not self.rounds or counts.debt > 0):  # else what was gained before pays for it
                counts.rest = max(RESTS, math.ceil(counts.debt / ALLOWED), int(PAUSE / chain))
                counts.resting = FixedWindow(1, self.stretch, self.reason(), self.expected())
                counts.debt = min(counts.debt, 0.0)

    def reason(self) -> str | None:
        if self.timed and not self.steps:
            return f"{self.timed} rows were timed first"
        return self.why or str(self.expected()) if self.steps else None

    def expected(self) -> Expected | None:
        """Of the best window that was timed, or of all where none was."""
        known, N = self.known, self.N
        if 1 not in known.outside:
            return None
        W = min([W for W in self.windows if W in known.outside] or self.windows, key=self.tau)
        return Expected(W, N, N * self.tau(W) / known(W), N * self.tau(W), N * self.tau(1))


def auto_window(
    evaluate: Evaluator, x: torch.Tensor, method: AbstractMethod, stop: AbstractStop, key: Hashable | None = None
) -> WindowController:
    """The windows of a call from x (B, ...); key: what the model is remembered by, in place of itself."""
    if method.steady:
        return FixedWindow(method.steady)
    ranks = evaluate.team.size if evaluate.team else 1
    call = evaluate.dtype, tuple(sorted(evaluate.condition)), ranks, torch.get_num_threads(), type(method)
    known, N = round_times(evaluate.source, x, call, key), len(evaluate.system)
    chain = type(stop), evaluate.system.kind, N
    windows = powers_of_two(N, x.nbytes, ranks // math.gcd(ranks, len(x)))
    return window_of(known, chain, N, stop.tolerance, windows, x.nbytes)


def window_of(
    known: RoundTimes, chain: Hashable, N: int, tolerance: float, windows: tuple[int, ...], size: int
) -> WindowController:
    """The windows of a call of N rows and states of so many bytes, or its steps where windows are left alone."""
    stretch, counts = max(min(KEPT // (3 * size), STRETCH), 1), known.chains.get((chain, tolerance))
    if not windows:
        return FixedWindow(1, stretch, "no window fits into the chain and the memory")
    if counts is None:
        counts = known.chains[chain, tolerance] = ChainCounts(N, tolerance)
        counts.rest = math.ceil(max(TRIAL - RISK * N, 0) / (ALLOWED * N))  # what a trial may cost is saved first
        why = f"on a chain of {N} rows a window of 4 may cost much: it is tried in call {counts.rest + 1}"
        counts.resting = FixedWindow(1, stretch, why) if counts.rest else None
    if counts.rest:
        counts.rest -= 1
        return counts.resting  # type: ignore[no-any-return]
    return AutoWindow(known, counts, windows, stretch)


def powers_of_two(N: int, size: int, base: int = 1) -> tuple[int, ...]:
    """The windows there are for a chain of N rows and states of so many bytes; `base`: what divides all of them."""
    found = {*(base << k for k in range(9)), N - N % base}
    return tuple(W for W in sorted(found) if 2 <= W <= min(N, WIDEST) and 12 * W * size <= ROOM)
