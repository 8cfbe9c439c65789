"""The device as measurements see it: CUDA's events, memory counts and graphs, and a CPU twin with the same methods.

| method   | CUDA                                                 | CPU                                              |
| timed    | two events around the calls                          | a clock around them                              |
| peak     | the allocator's largest count above the one at first | the resident set's                               |
| capture  | a graph of what `work` launches, as its replay       | `work` itself                                    |
| compiled | torch.compile's inductor                             | aot_eager: traced, and run without a compiler    |

Whoever measures calls these alone, so that what runs on the CPU in CI is what runs on a GPU.
Source: torch's notes "CUDA semantics" (graphs, events) and "Understanding CUDA Memory Usage".
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch

from ..images.network import Gauge

Work = Callable[[], object]
WARM = 3  # calls before a capture: cuBLAS, cuDNN and lazy modules set themselves up, as torch's notes ask
LEAST = 0.02  # seconds of a timed stretch: events have a resolution of half a microsecond


class Cpu:
    """The twin: the same calls in the same order, and nothing that needs a GPU."""

    kind = "cpu"
    no_room: tuple[type[BaseException], ...] = (torch.OutOfMemoryError, MemoryError)
    compiler = "aot_eager"
    rounds_by = "eager"  # the backend of `paradigms.compiled`
    captures = "the call itself, for a CPU has no graphs"

    def __init__(self, name: str = "cpu") -> None:
        self.where = torch.device(name)

    def facts(self) -> dict[str, str]:
        """Beside what `report.machine` says."""
        return {"device": "cpu", "captured": self.captures, "compiled": f"torch.compile, {self.compiler}"}

    def wait(self) -> None:
        """Until the device has done all that it was given."""

    def stretch(self, work: Work, calls: int) -> float:
        """Seconds of a call of `work`, in the mean over so many one after another."""
        began = time.perf_counter()
        for _ in range(calls):
            work()
        return (time.perf_counter() - began) / calls

    def timed(self, work: Work, repeats: int) -> list[float]:
        """Seconds of a call, once for each repeat, after one to warm up; a repeat of a quick call is of many."""
        work()
        once = self.stretch(work, 1)
        calls = 1 if once >= LEAST else min(int(LEAST / max(once, 1e-6)) + 1, 1000)
        return [self.stretch(work, calls) for _ in range(repeats)]

    def seconds(self, work: Callable[[], Any]) -> tuple[float, Any]:
        """The seconds that a caller waits for `work` and the device to end, and what it returns."""
        self.wait()
        began = time.perf_counter()
        found = work()
        self.wait()
        return time.perf_counter() - began, found

    def peak(self, work: Work) -> int | None:
        """Bytes that a call takes above what is there before it; None where the system does not tell."""
        gauge = Gauge(self.where)
        work()
        self.wait()
        return gauge.peak()

    def pool(self) -> Any:
        """Memory that graphs which never run at once share."""
        return None

    def capture(self, work: Work, pool: Any = None) -> Work:
        """What does again all that `work` does on the device; `work` must not wait for it, nor make its inputs anew."""
        work()
        return work

    def compiled(self, model: Callable[..., Any]) -> Callable[..., Any]:
        """The model by torch.compile, for batches of any size."""
        torch.compiler.reset()  # the limit on recompilations counts every network of the same class
        return torch.compile(model, dynamic=True, backend=self.compiler)

    def release(self) -> None:
        """Gives back memory that nothing holds; on a CPU the system does."""

    def activities(self) -> Sequence[torch.profiler.ProfilerActivity]:
        """What the profiler records."""
        return [torch.profiler.ProfilerActivity.CPU]


class Cuda(Cpu):
    """A CUDA GPU."""

    kind = "cuda"
    no_room = (torch.OutOfMemoryError,)
    compiler = rounds_by = "inductor"
    captures = "a CUDA graph of the network for each batch size; the sampler's own operations are not captured"

    def __init__(self, name: str = "cuda") -> None:
        given = torch.device(name)
        self.where = torch.device("cuda", torch.cuda.current_device() if given.index is None else given.index)
        torch.cuda.set_device(self.where)  # events, graphs and pools are of the current device

    def facts(self) -> dict[str, str]:
        made = torch.cuda.get_device_properties(self.where)
        major, minor = torch.cuda.get_device_capability(self.where)
        return {
            "device": f"{made.name}, {made.total_memory / 2**30:.0f} GiB, {made.multi_processor_count} "
            f"multiprocessors, compute capability {major}.{minor}",
            "cuda": f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}",
            "float32": f"TF32 in matrix products {'on' if torch.backends.cuda.matmul.allow_tf32 else 'off'}, "
            f"in convolutions {'on' if torch.backends.cudnn.allow_tf32 else 'off'} (torch's defaults)",
            "captured": self.captures,
            "compiled": f"torch.compile, {self.compiler}, dynamic batch",
        }

    def wait(self) -> None:
        torch.cuda.synchronize(self.where)

    def stretch(self, work: Work, calls: int) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.wait()
        begin.record()
        for _ in range(calls):
            work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1000 / calls  # milliseconds

    def peak(self, work: Work) -> int | None:
        self.release()
        self.wait()
        before = torch.cuda.memory_allocated(self.where)
        torch.cuda.reset_peak_memory_stats(self.where)
        work()
        self.wait()
        return torch.cuda.max_memory_allocated(self.where) - before

    def pool(self) -> Any:
        return torch.cuda.graph_pool_handle()

    def capture(self, work: Work, pool: Any = None) -> Work:
        side = torch.cuda.Stream(self.where)
        side.wait_stream(torch.cuda.current_stream(self.where))
        with torch.cuda.stream(side):
            for _ in range(WARM):
                work()
        torch.cuda.current_stream(self.where).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            work()
        return graph.replay

    def release(self) -> None:
        gc.collect()
        torch.cuda.empty_cache()

    def activities(self) -> Sequence[torch.profiler.ProfilerActivity]:
        return [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]


def device_of(name: str | None) -> Cpu:
    """The device of a name such as cpu, cuda, cuda:1; None is a GPU where there is one. Raises ValueError."""
    chosen = name or ("cuda" if torch.cuda.is_available() else "cpu")
    if chosen == "cpu":
        return Cpu()
    if not chosen.startswith("cuda"):
        raise ValueError(f"--device is {chosen!r}; type cpu, cuda or cuda:1")
    if not torch.cuda.is_available():
        raise ValueError(f"--device is {chosen!r}, and torch finds no CUDA GPU here; type --device cpu --small")
    return Cuda(chosen)


def summary(seconds: Sequence[float]) -> dict[str, Any]:
    """Median, least and most of repeats, and how many."""
    return {"median": median(seconds), "least": min(seconds), "most": max(seconds), "repeats": len(seconds)}
