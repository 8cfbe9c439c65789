"""d. What a round costs outside the network: milliseconds, operators, kernels, launches and synchronisations.

By the default method and a model that answers what it is shown, on the states of `python -m benchmarks overhead`.
"Counted" is what `core/counting.py` counts on the CPU, without a GPU. On a GPU torch's profiler counts what the CPU
asks the driver for and what the GPU runs; its own two waits are among them. The clock reads
events and waits for nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch._C._autograd import DeviceType

from paradigms.execution.compiled import compiled
from paradigms.rules import ddim, ddpm
from paradigms.schedule import linear
from paradigms.solution import Solution
from paradigms.solve import sample

from ..core.counting import waits
from ..core.overhead import STATES, asked, shown
from .device import summary
from .settings import Bench

LAUNCHES = ("cudaLaunch", "cuLaunch", "cudaGraphLaunch", "cudaMemcpy", "cudaMemset")
SHORT = 20  # steps of the small run
ASSUMED = 4.0  # seconds of a row


def measure(bench: Bench, name: str, compile_rounds: bool = False) -> dict[str, Any]:
    """The account of one state; compile_rounds: with what is outside the network in a round compiled."""
    shape, window, rule, steps = STATES[name]
    steps = SHORT if bench.settings.small else steps
    system = ddpm(linear(), steps) if rule == "ddpm" else ddim(linear(), steps)
    x = system.noise((1, *shape), torch.Generator().manual_seed(0)).to(bench.device.where)
    torch.compiler.reset()
    made = compiled(shown, bench.device.rounds_by) if compile_rounds else None
    model = made or shown

    def run() -> Solution:
        return sample(model, system, x, window=window, generator=torch.Generator().manual_seed(1))

    def how() -> dict[str, Any]:
        return {"window": window, "generator": torch.Generator().manual_seed(1)}

    runs = [run() for _ in range(1 + bench.settings.repeats)][1:]
    counted = dict.fromkeys(("calls", "kernels", "waits")) if made else asked(system, x.cpu(), how)
    return {
        "state": name + ", compiled" * compile_rounds, "not compiled": made and made.failed,
        "window": window, "rounds": runs[0].rounds,
        "milliseconds": summary([1000 * (r.seconds - r.model_seconds) / r.rounds for r in runs]),
        "operators": counted["calls"], "kernels, counted": counted["kernels"], "waits, counted": counted["waits"],
        **profiled(bench, run),
        "waits, by torch's debug mode": waits(run) if bench.device.kind == "cuda" else None,
    }  # fmt: skip


def profiled(bench: Bench, run: Callable[[], Solution]) -> dict[str, float | None]:
    """A round's operators, kernels, launches and waits, as the profiler counts them."""
    run()
    with torch.profiler.profile(activities=bench.device.activities()) as profile:
        n = run().rounds
    events = profile.events()
    called = Counter(e.name for e in events if e.device_type == DeviceType.CPU)
    aten = sum(k for name, k in called.items() if name.startswith("aten::"))
    gpu = bench.device.kind == "cuda"
    ran = [e.name for e in events if e.device_type == DeviceType.CUDA]
    kernels = sum(not name.startswith(("Memcpy", "Memset")) for name in ran)
    launches = sum(k for name, k in called.items() if name.startswith(LAUNCHES))
    waited = sum(k for name, k in called.items() if name.startswith("cuda") and "Synchronize" in name)
    return {
        "operators, nested ones too": aten / n,
        "kernels": kernels / n if gpu else None,
        "launches and copies": launches / n if gpu else None,
        "synchronisations": waited / n if gpu else None,
    }
