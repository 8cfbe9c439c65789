"""Chooses the window that finishes soonest. Stepping is one of the choices, the window of one row. The rule:

    seconds a row    tau(W) = R(W) rho(W),    tau(1) = R(1)            seconds of a round, rounds a row: `profile.py`

If windows were timed in earlier calls, a call keeps the W of the least tau. If not, the call climbs a ladder: first
some steps are timed, then rounds of windows each four times as wide as the last (a rung), as long as tau is expected to
fall clearly. Seconds differ from call to call and counts of rounds do not. So seconds decide only between windows that
are four times apart, and where the decision is close more rounds are timed. Windows that lose are left for steps, and
the seconds that they lost are saved up before windows are tried again:

    calls that step and measure nothing  =  seconds lost / (ALLOWED_LOSS seconds of stepping the chain)
"""

from __future__ import annotations

import math
from collections.abc import Hashable

import torch

from ...execution.evaluate import Evaluator
from ...methods.base import AbstractMethod
from ...stopping.base import AbstractStop
from ...system import System
from ..controller import FixedWindow, HasClock, Plan, WindowController
from ..expected import Expected
from .profile import ChainCounts, RoundTimes, round_times

# What trials of windows may lose in the mean, as a share of the seconds of stepping. The README promises 0.98 of the
# speed of stepping, so that it must be below 0.02.
ALLOWED_LOSS = 0.012
# A first trial of a window may lose this many rows' seconds of stepping. Chosen by hand.
TRIAL_ROWS = 6
# The share of a chain that may be lost before anything was saved. Chosen by hand.
TRIAL_SHARE = 0.2
# Windows are left for steps once they have lost this share of the seconds of stepping the chain, counted from where
# they were furthest ahead. Chosen by hand.
LARGEST_SETBACK = 0.2
# The most that is owed or saved between calls, as a share of the seconds of stepping the chain: a larger loss is due to
# whatever else the machine did. Chosen by hand.
LARGEST_DEBT = 0.5
# How many calls step, at least, after windows could not pay although nothing was lost. Chosen by hand.
LEAST_RESTS = 7
# How many seconds of calls step, at least, likewise. Chosen by hand.
LEAST_REST_SECONDS = 0.1
# The least and the most single steps that are timed first; between them it is a 16th of the chain. Chosen by hand.
TIMED_STEPS = (4, 8)
# One call of this many times its steps again. Chosen by hand.
CALLS_A_TIMING = 8
# Rounds of a rung before the next rung is tried. Chosen by hand.
LEAST_ROUNDS = 2
# Rounds of a rung before it is left for steps or for a narrower rung. Chosen by hand.
MOST_ROUNDS = 5
# A losing rung is left at once when it has lost this share of the rows of the chain. Chosen by hand.
LOSS_SHARE = 0.015
# It is not left before it has lost this many rows' seconds of stepping. Chosen by hand.
LOSS_ROWS = 4
# The next rung is tried if its expected tau is below this share of the present one's. Chosen by hand.
CLIMB_BELOW = 0.7
# A narrower rung is returned to if its tau is below this share of the present one's. Chosen by hand.
RETURN_BELOW = 0.6
# A rung loses if the best tau of all windows is above this many times a step's. Chosen by hand.
LOSES_ABOVE = 1.1
# Before a trial, more rows are taken to cost this share of what they are expected to cost. Chosen by hand.
OPTIMISTIC_COST = 0.5
# A call begins with windows if their tau is below this share of a step's. Chosen by hand.
BEGIN_BELOW = 0.97
# The seconds of a round count up to this many times those expected: more is due to what else the machine did. Chosen by
# hand.
LARGEST_SLOWDOWN = 3
# The widest window, in rows. Chosen by hand.
WIDEST = 256
# The most memory for a window, in bytes (1 GiB). A method holds about a dozen tensors of a window's states. Chosen by
# hand.
LARGEST_MEMORY = 2**30
# The most single steps between two questions to the controller. Chosen by hand.
MOST_STEPS = 256
# The most memory for the states of those steps, in bytes (64 MiB). Chosen by hand.
STEPS_MEMORY = 2**26


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
        times = self.climbs or chain.calls % CALLS_A_TIMING == 0
        self.timed = min(max(TIMED_STEPS[0], self.N // 16), TIMED_STEPS[1]) if times else 0
        chain.calls += 1
        self.window, self.rounds, self.settled, self.last = 1, 0, False, 0
        self.lost = self.behind = 0.0  # seconds more than steps take, in all and since windows were furthest ahead
        self.clock, self.steps = (0.0, 0.0), 0  # steps: after those that are timed
        self.why: str | None = None

    def next(self, row: int) -> Plan:
        if row < self.timed:
            return 1, 1
        if self.window > 1 and self.behind > LARGEST_SETBACK * self.N * self.known(1):
            why = f"a window of {self.window} took longer than expected"
            self.window, self.settled, self.why = 1, True, why
        elif not self.settled:
            self.climb() if self.climbs else self.start()
        return self.window, min(self.stretch, max(self.N // 8, 1))

    def tau(self, W: int, cost: float = 1.0) -> float:
        """Seconds a row; while climbing the chain is no harder than usual, for small windows would count too many."""
        most = self.chain.usual if self.climbs else math.inf
        return self.known(W, cost) * (self.chain.rho(W, most) if W > 1 else 1.0)

    def start(self) -> None:
        """The window of a call whose windows were timed."""
        tau = {W: self.tau(W, OPTIMISTIC_COST) for W in self.windows}
        best = min(tau, key=tau.__getitem__)
        self.window, self.settled = best if tau[best] < BEGIN_BELOW * self.tau(1) else 1, True

    def climb(self) -> None:
        """The rung that comes next."""
        now, step, timed = self.window, self.tau(1), [W for W in self.rungs if W in self.known.outside]
        wider = next((W for W in self.rungs if now < W), now)
        cost = OPTIMISTIC_COST if self.rounds < MOST_ROUNDS else 1.0
        least = min(self.tau(W, cost) for W in self.windows)
        if now == 1 and least > step:
            self.settled, self.why = True, f"even if more rows cost nothing, {self.expected()}"
        elif now == 1:
            self.window = wider
        elif self.rounds < LEAST_ROUNDS or now not in timed:
            return
        elif least > LOSES_ABOVE * step:
            if self.rounds >= MOST_ROUNDS or self.behind > max(LOSS_SHARE * self.N, LOSS_ROWS) * step:
                self.window, self.settled, self.why = 1, True, str(self.expected())
        elif wider > now and self.tau(wider, OPTIMISTIC_COST) < CLIMB_BELOW * self.tau(now):
            self.window, self.rounds = wider, 0
        elif self.rounds >= MOST_ROUNDS and self.tau(best := min(timed, key=self.tau)) < RETURN_BELOW * self.tau(now):
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
        spent, steps = min(inside + outside, LARGEST_SLOWDOWN * usual), count * self.known(1)
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
            counts.debt = min(max(counts.debt + self.lost / chain, -LARGEST_DEBT), LARGEST_DEBT)
            if self.window == 1 and (not self.rounds or counts.debt > 0):  # else what was gained before pays for it
                counts.rest = max(LEAST_RESTS, math.ceil(counts.debt / ALLOWED_LOSS), int(LEAST_REST_SECONDS / chain))
                counts.resting = FixedWindow(1, self.stretch, self.reason(), self.expected())
                counts.debt = min(counts.debt, 0.0)

    def reason(self) -> str | None:
        if self.timed and not self.steps:
            return f"the first {self.timed} steps were timed"
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
    chain = type(stop), table_kind(evaluate.system), N
    windows = powers_of_two(N, x.nbytes, ranks // math.gcd(ranks, len(x)))
    return window_of(known, chain, N, stop.tolerance, windows, x.nbytes)


def table_kind(system: System) -> tuple[float, ...]:
    """A few numbers by which tables are told apart, where a mistake costs only time; asked of a device once."""
    a, c, sigma, n = system.a, system.c, system.sigma, len(system) // 2
    return system.once("kind", lambda: (len(system), system.taps, float(sigma[0]), float(a[n]), float(c[n])))


def window_of(
    known: RoundTimes, chain: Hashable, N: int, tolerance: float, windows: tuple[int, ...], size: int
) -> WindowController:
    """The windows of a call of N rows and states of so many bytes, or its steps where windows are left alone."""
    stretch, counts = max(min(STEPS_MEMORY // (3 * size), MOST_STEPS), 1), known.chains.get((chain, tolerance))
    if not windows:
        return FixedWindow(1, stretch, "no window fits into the chain and the memory")
    if counts is None:
        counts = known.chains[chain, tolerance] = ChainCounts(N, tolerance)
        # What a trial may cost is saved first.
        counts.rest = math.ceil(max(TRIAL_ROWS - TRIAL_SHARE * N, 0) / (ALLOWED_LOSS * N))
        tried = f"it is tried in call {counts.rest + 1}"
        why = f"with {N} steps, trying a window of 4 may cost more than it gains: {tried}"
        counts.resting = FixedWindow(1, stretch, why) if counts.rest else None
    if counts.rest:
        counts.rest -= 1
        return counts.resting  # type: ignore[no-any-return]
    return AutoWindow(known, counts, windows, stretch)


def powers_of_two(N: int, size: int, base: int = 1) -> tuple[int, ...]:
    """The windows there are for a chain of N rows and states of so many bytes; `base`: what divides all of them."""
    found = {*(base << k for k in range(9)), N - N % base}
    return tuple(W for W in sorted(found) if 2 <= W <= min(N, WIDEST) and 12 * W * size <= LARGEST_MEMORY)
