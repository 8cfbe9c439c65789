"""What several devices would give: a latency curve and a trace of rounds, put together.

    seconds(P)  = call + sum_r [ T(ceil(m[r] / P)) + G(m[r], P) + outside ]       m[r] rows of round r, P devices
    G(m, P)     = (P - 1) (lag + ceil(m / P) bytes / speed)               every device sends its outputs to all others
    sequential  = N (T(B) + step)                                         one device, N rows of the chain, B samples
    speedup     = sequential / seconds                                    efficiency(m, P) = (m / B) T(B) / (T + G)
    cost        = sum_r m[r] / (N B)                                      of iterating: evaluations over the chain's

The rows are those of real runs, round by round, for they vary: a window is short at the chain's end, and samples of a
batch finish one after another. `outside` is what a round takes outside the model, which devices do not share, `step`
what a single step does; `call` what several take to begin a call, once: to agree on it, and send the first one's
numbers. It was measured on no link that is named here, and counts as 0 there. A plan is a prediction: it knows nothing
of what else a machine does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from math import ceil, inf, isfinite
from statistics import fmean
from typing import Any

DEVICES = (1, 2, 4, 8, 16, 64)
Seconds = Callable[[float], float]  # of a model call of M rows, as `Latency`


@dataclass(frozen=True)
class Link:
    """What joins the devices: bytes a second out of each, seconds that each message waits. Nominal, not measured.

    call: seconds until all have begun a call, where that was measured.
    """

    name: str
    speed: float
    lag: float
    call: float = 0.0

    def gather(self, m: float, P: int, size: float) -> float:
        """Seconds until P devices have all outputs of m rows of `size` bytes, each of which one of them evaluated."""
        return (P - 1) * (self.lag + ceil(m / P) * size / self.speed)


FREE = Link("free", inf, 0.0)
LINKS = {
    link.name: link
    for link in (
        FREE,
        Link("NVLink", 300e9, 5e-6),  # third generation, each way
        Link("PCIe", 32e9, 10e-6),  # 4.0, 16 lanes, each way
        Link("100G", 12.5e9, 20e-6),  # Ethernet, bits a second
        Link("25G", 3.125e9, 50e-6),
        Link("10G", 1.25e9, 50e-6),
        Link("1G", 0.125e9, 100e-6),
    )
}


@dataclass(frozen=True)
class Trace:
    """Rounds of real runs with one window: runs[k][r] rows were evaluated in round r of run k, all B samples' together.

    N rows of the chain. size: bytes of one row's output. outside: seconds of a round outside the model; step: of a step
    of the sequential sampler. about: of what. Raises ValueError unless every run has evaluated the whole chain and no
    round more rows than the window's.
    """

    N: int
    window: int
    batch: int
    runs: tuple[tuple[int, ...], ...]
    size: float = 0.0
    outside: float = 0.0
    about: str = ""
    step: float = 0.0

    def __post_init__(self) -> None:
        counts = all(isinstance(v, int) and v >= 1 for v in (self.N, self.window, self.batch))
        whole = counts and all(isinstance(m, int) and m >= 1 for run in self.runs for m in run)
        fits = whole and all(
            sum(run) >= self.N * self.batch and max(run) <= self.window * self.batch for run in self.runs
        )
        if not (self.runs and fits and all(isfinite(v) and v >= 0 for v in (self.size, self.outside, self.step))):
            raise ValueError(
                f"trace: given a chain of {self.N} rows, window {self.window}, {self.batch} samples, {len(self.runs)} "
                "runs; needed: at least one run, whose rounds evaluate from 1 row to window x samples, in all at least "
                "the whole chain, and sizes and seconds of 0 or more"
            )

    @property
    def rounds(self) -> float:
        """In the mean over the runs."""
        return fmean(len(run) for run in self.runs)

    @property
    def evaluations(self) -> float:
        """Rows evaluated, in the mean over the runs."""
        return fmean(sum(run) for run in self.runs)

    @property
    def cost(self) -> float:
        """Evaluations over those of the sequential sampler."""
        return self.evaluations / (self.N * self.batch)


@dataclass(frozen=True)
class Prediction:
    """One way to run: seconds of a batch, and a sample of it, speedup, hours of all devices per 1000 samples.

    communication: those of the seconds that devices wait for each other's outputs. cost: evaluations over N B. With a
    window of 1 all but one device are idle, and count no hours.
    """

    devices: int
    link: str
    window: int
    seconds: float
    sample: float
    speedup: float
    rounds: float
    evaluations: float
    cost: float
    communication: float
    device_hours: float

    def json(self) -> dict[str, Any]:
        """By name, as JSON takes it."""
        return asdict(self)


def call_seconds(latency: Seconds, trace: Trace, P: int = 1, link: Link = FREE) -> float:
    """Predicted seconds of one run, in the mean over the trace's."""
    rounds = fmean(
        sum(latency(ceil(m / P)) + link.gather(m, P, trace.size) + trace.outside for m in run) for run in trace.runs
    )
    return rounds + (link.call if P > 1 else 0.0)


def sequential_seconds(latency: Seconds, trace: Trace) -> float:
    """Predicted seconds of the N steps of a batch, one by one, on one device."""
    return trace.N * (latency(trace.batch) + trace.step)


def hardware_efficiency(
    latency: Seconds, m: float, P: int = 1, link: Link = FREE, size: float = 0.0, batch: int = 1
) -> float:
    """How many times as fast as `batch` rows a call m rows are evaluated by P devices, the gathering included."""
    return m / batch * latency(batch) / (latency(ceil(m / P)) + link.gather(m, P, size))


def predict_run(latency: Seconds, trace: Trace, P: int = 1, link: Link = FREE) -> Prediction:
    """What P devices would do with this window. Raises ValueError unless P is 1 or more."""
    if P < 1:
        raise ValueError(f"devices: given {P}; needed: at least 1")
    total = call_seconds(latency, trace, P, link)
    wire = fmean(sum(link.gather(m, P, trace.size) for m in run) for run in trace.runs)
    return Prediction(
        devices=P,
        link=link.name,
        window=trace.window,
        seconds=total,
        sample=total / trace.batch,
        speedup=sequential_seconds(latency, trace) / total,
        rounds=trace.rounds,
        evaluations=trace.evaluations,
        cost=trace.cost,
        communication=wire,
        device_hours=P * total / trace.batch * 1000 / 3600,
    )


def step_by_step(trace: Trace) -> Trace:
    """The sequential sampler as a trace: a window of one row, N rounds."""
    return replace(trace, window=1, runs=((trace.batch,) * trace.N,), outside=trace.step)


def best_window(latency: Seconds, traces: Sequence[Trace], P: int = 1, link: Link = FREE) -> Prediction:
    """The window that finishes soonest, sequential stepping on one device included; ValueError without traces."""
    if not traces:
        raise ValueError("plan: given no trace; needed: the rounds of at least one window")
    alone = replace(predict_run(latency, step_by_step(traces[0])), devices=P, link=link.name)
    return min([alone, *(predict_run(latency, t, P, link) for t in traces)], key=lambda p: p.seconds)


def plan_runs(
    latency: Seconds,
    traces: Sequence[Trace],
    devices: Iterable[int] = DEVICES,
    links: Iterable[Link] = LINKS.values(),
) -> list[Prediction]:
    """The best way for each link and number of devices; a link is no matter on one device, which comes once."""
    check_together(traces)
    devices = sorted(set(devices))
    alone = [best_window(latency, traces, 1)] if 1 in devices else []
    return alone + [best_window(latency, traces, P, link) for link in links for P in devices if P != 1]


def check_together(traces: Sequence[Trace]) -> None:
    """Raises ValueError unless all traces are of one chain and batch."""
    for a, b in pairwise(traces):
        if (a.N, a.batch) != (b.N, b.batch):
            raise ValueError(
                f"traces: given chains of {a.N} and {b.N} rows, {a.batch} and {b.batch} samples; needed: one chain and "
                "one batch, with several windows"
            )
