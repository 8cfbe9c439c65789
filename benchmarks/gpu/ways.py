"""b and c. One chain, each way: seconds a sample, rounds, evaluations, and the error against stepping, eager.

| way                          | the network       | the sampler                                            |
| sequential                   | eager             | the library's `sequential`                             |
| sequential, captured         | a graph of a row  | the same                                               |
| sequential, steps captured   | in the step       | each step one replay, nothing else                     |
| ParaDiGMS                    | eager             | Picard, copied guess, step noise 0.1: the paper's      |
| ours, window W               | eager             | the default, at 0.003                                  |
| ours, captured, window W     | a graph of a size | the same                                               |
| ours, captured, compiled, W  | a graph of a size | the default, what is outside the network in a round by `compiled` |
| ours, auto                   | eager             | the default with its own window                        |
| fewer steps                  | eager             | `sequential` in as many steps as ours took rounds      |

Every way is given the same starting noise and the same noise of steps. The first call of a way is not timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from paradigms.execution.chunked import Model
from paradigms.execution.compiled import Compiled, compiled
from paradigms.methods.guess import Copy
from paradigms.methods.picard import Picard
from paradigms.solution import Solution, relative_error
from paradigms.solve import sample, sequential
from paradigms.stopping.step_noise import StepNoise
from paradigms.system import System

from .capture import Captured, CapturedSteps
from .device import summary
from .estimate import OUTSIDE, Calls, total
from .networks import Network, load
from .settings import Bench, Settings

STEPPED = ("sequential", "sequential, captured", "sequential, steps captured")
FEWER, AUTO, PAPER = "fewer steps", "ours, auto", "ParaDiGMS"
OURS, CAPTURED, COMPILED = "ours", "ours, captured", "ours, captured, compiled"
COMPILING = 60.0  # seconds to compile a round, assumed
SHARE_OF_ROUNDS = 0.3  # rounds over steps, assumed: README's table has 0.03 to 0.5
Made = tuple[Tensor, Solution | None]


@dataclass(frozen=True)
class Chain:
    """A network, a rule and its steps, and the windows of ours; the first is the paper's, too."""

    network: str
    rule: str
    steps: int
    windows: tuple[int, ...]
    dtype: str = "float32"
    ways: tuple[str, ...] = (*STEPPED, PAPER, OURS, CAPTURED, AUTO, FEWER)

    @property
    def name(self) -> str:
        """As in results."""
        return f"{self.network} {self.rule.upper()}-{self.steps} {self.dtype}{', compiled' * (COMPILED in self.ways)}"


class Runs:
    """The ways of one chain on a device."""

    def __init__(self, bench: Bench, chain: Chain) -> None:
        self.bench, self.chain, self.device = bench, chain, bench.device
        self.net: Network = load(chain.network, bench.device.where, chain.dtype, bench.settings.small)
        self.steps = bench.settings.steps(chain.steps)
        self.system = self.net.chain(chain.rule, self.steps)
        self.windows = bench.settings.windows(chain.windows, chain.steps)
        sizes = sorted({1, 2, 4, 8, *(2**k for k in range(4, 8) if 2**k < max(self.windows)), *self.windows})
        self.captured = Captured(self.net.answers, self.device, sizes)
        self.noise = [self.drawn(seed) for seed in range(1 + bench.settings.seeds)]  # the first warms up
        self.reference: list[Tensor] = []
        self.compiled: Compiled | None = None

    def drawn(self, seed: int) -> tuple[Tensor, Tensor | None]:
        """Starting noise (1, ...) and that of the steps (N, 1, ...), None where the rule draws none."""
        generator = torch.Generator().manual_seed(1000 + seed)
        x = self.system.noise((1, *self.net.shape), generator)
        z = torch.randn(self.steps, *x.shape, generator=generator) if any(self.system.drawn) else None
        return x.to(self.device.where), None if z is None else z.to(self.device.where)

    def measure(self) -> dict[str, Any]:
        """Every way's account."""
        found: dict[str, Any] = {}
        for way in self.expanded():
            try:
                found[way] = self.account(way, found)
            except Exception as error:  # one way that fails costs no other
                found[way] = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
            self.device.release()
        facts = {"network": self.chain.network, "rule": self.chain.rule, "steps": self.steps, "dtype": self.chain.dtype}
        return {**facts, "parameters": self.net.parameters, "ways": found}

    def expanded(self) -> list[str]:
        """The ways, those of ours once for each window."""
        ways = []
        for way in self.chain.ways:
            ways += [f"{way}, window {w}" for w in self.windows] if way in (OURS, CAPTURED, COMPILED) else [way]
        return ways

    def account(self, way: str, found: dict[str, Any]) -> dict[str, Any]:
        """Seconds, rounds, evaluations and errors of the samples of all seeds."""
        run = self.maker(way, found)
        run(*self.noise[0])
        made, seconds = [], []
        for x, z in self.noise[1:]:
            took, one = self.device.seconds(lambda x=x, z=z: run(x, z))  # type: ignore[misc]
            seconds.append(took)
            made.append(one)
        if way == STEPPED[0]:
            self.reference = [x for x, _ in made]
        errors = [float(relative_error(x, y)) for (x, _), y in zip(made, self.reference, strict=True)]
        solutions = [s for _, s in made if s is not None]
        steps, taken = self.fewer(found) if way == FEWER else self.steps, summary(seconds)
        plain = found.get(STEPPED[0], {}).get("seconds", taken)
        return {
            "seconds": taken,
            "rounds": mean([s.rounds for s in solutions]) if solutions else steps,
            "evaluations": mean([s.evaluations for s in solutions]) if solutions else steps,
            "in the model": summary([s.model_seconds for s in solutions]) if solutions else None,
            "errors": errors,
            "speedup": plain["median"] / taken["median"],
            **self.of_the_compiler(way),
        }

    def of_the_compiler(self, way: str) -> dict[str, Any]:
        """How many rounds were run as a graph, and why not all, where rounds were to be compiled."""
        if self.compiled is None or not way.startswith(COMPILED):
            return {}
        return {"rounds compiled": self.compiled.rounds, "not compiled": self.compiled.failed}

    def maker(self, way: str, found: dict[str, Any]) -> Callable[[Tensor, Tensor | None], Made]:
        """What makes a sample of noise in a way."""
        net, captured = self.net.answers, self.captured
        how: dict[str, Any] = {"condition": self.net.condition}
        window = int(way.rsplit(" ", 1)[1]) if " window " in way else self.windows[0]
        if way == STEPPED[2]:
            x, _ = self.noise[0]
            steps = CapturedSteps(net, self.system, x, self.device, self.net.condition)
            return lambda x, z: (steps(x, z), None)
        if way in STEPPED[:2]:
            asked = captured if way == STEPPED[1] else net
            return lambda x, z: (sequential(asked, self.system, x, noise=z, **how), None)
        if way == FEWER:
            system = self.shorter(self.fewer(found))
            return lambda x, z: (sequential(net, system, x, generator=torch.Generator().manual_seed(0), **how), None)
        model: Model = captured if "captured" in way else net
        if way.startswith(COMPILED):
            torch.compiler.reset()  # what other windows were compiled to counts against torch's limit
            model = self.compiled = compiled(captured, self.device.rounds_by)
        method, stop = (Picard(Copy()), StepNoise(0.1)) if way == PAPER else (None, None)
        how |= {"window": "auto" if way == AUTO else window, **({"tolerance": stop} if stop else {})}

        def solved(x: Tensor, z: Tensor | None) -> Made:
            solution = sample(model, self.system, x, method, noise=z, key=self.chain.name, **how)
            return solution.x, solution

        return solved

    def fewer(self, found: dict[str, Any]) -> int:
        """The rounds of ours, as a number of steps."""
        rounds = [v["rounds"] for k, v in found.items() if k.startswith("ours, window") and "rounds" in v]
        return max(2, round(min(rounds, default=self.steps / 4)))

    def shorter(self, steps: int) -> System:
        """The same rule in fewer steps."""
        return self.net.chain(self.chain.rule, steps)


def mean(values: list[int]) -> float:
    """The mean."""
    return sum(values) / len(values)


def assumed(settings: Settings, chain: Chain) -> float:
    """Seconds of the row."""
    N, runs, windows = settings.steps(chain.steps), 1 + settings.seeds, settings.windows(chain.windows, chain.steps)
    named, dtype = chain.network, chain.dtype
    calls, more = [], 1.0
    for way in chain.ways:
        mode = "captured" if "captured" in way else "eager"
        if way in STEPPED:
            calls.append(Calls(named, 1, N * runs, dtype, mode))
            more += 0.0 if "steps" in way else OUTSIDE / 10 * N * runs
        else:
            more += COMPILING * len(windows) if way == COMPILED and not settings.small else 0.0
            for window in windows if way in (OURS, CAPTURED, COMPILED) else windows[:1]:
                rounds = SHARE_OF_ROUNDS * N * runs
                calls.append(Calls(named, window, rounds, dtype, mode))
                more += OUTSIDE * rounds
    return total(calls, more)
