"""The census' other kinds: half precision, two threads, loops of one's own, and `DDPMPipeline` under every scheduler.

    row = the largest |parallel - step by step| / |step by step| of a kind, at tolerance 0 in windows of 4

What ran step by step is equal bit for bit and counted apart. A row may be as far off as the rounding of its numbers.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from torch import Tensor

from paradigms.adapters import parallelize

from ..report import table, write
from ..zoo import ZOO, Specimen, run, tensors
from ..zoo.stable_diffusion import text2image
from ..zoo.unconditional import pixels
from .census import CLOSE, WINDOW, relative

HALF = 5e-2  # of bfloat16: rows of a batch round otherwise than a call of one, and steps carry that on
SHARED = ("DDIMScheduler", "UniPCMultistepScheduler")  # of the two pipelines on two threads
IN_HALF = ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "PixArtAlphaPipeline", "StableDiffusion3Pipeline",
           "FluxPipeline", "DDPMPipeline", "DiTPipeline", "SanaPipeline", "LTXPipeline", "WanPipeline")  # fmt: skip


@dataclass(frozen=True)
class KindRow:
    """One case of a kind: how far off it was, the rounds of its steps, why it was stepped, or why it could not run."""

    kind: str
    name: str
    error: float
    allowed: float
    steps: int = 0
    rounds: int = 0
    why: str = ""

    @property
    def fine(self) -> bool:
        """Whether it is as near as rounding allows; not finite is not."""
        return self.error <= self.allowed


def compare(kind: str, name: str, build: Callable[[], Any], call: Callable[[Any], Tensor], allowed: float) -> KindRow:
    """One case, in parallel against itself step by step."""
    expected, pipe = call(build()), build()
    with parallelize(pipe, tolerance=0, window=WINDOW) as report:
        found = call(pipe)
    return KindRow(kind, name, relative(found, expected), allowed, report.steps, report.rounds,
                   next(iter(report.fallbacks), ""))  # fmt: skip


def in_half() -> Iterator[KindRow]:
    """Pipelines whose networks are in bfloat16."""
    for specimen in (s for s in ZOO if s.name in IN_HALF):

        def build(specimen: Specimen = specimen) -> Any:
            return specimen.build().to(torch.bfloat16)

        def call(pipe: Any, specimen: Specimen = specimen) -> Tensor:
            return run(specimen, pipe)

        try:
            call(build())
        except Exception as error:  # what its own loop cannot do is no case
            yield KindRow("bfloat16", specimen.name, 0.0, HALF, why=f"does not run in bfloat16: {type(error).__name__}")
            continue
        yield compare("bfloat16", specimen.name, build, call, HALF)


def text(pipe: Any, seed: int = 0) -> Tensor:
    """The latents of a text-to-image pipeline."""
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(seed)
    return pipe("a red fox", num_inference_steps=8, output_type="latent", generator=generator).images  # type: ignore[no-any-return]


def on_threads() -> Iterator[KindRow]:
    """Two pipelines that share their networks, each called on a thread of its own at the same time."""
    pipes = [text2image(s) for s in SHARED]
    pipes[1].unet, pipes[1].text_encoder = pipes[0].unet, pipes[0].text_encoder
    expected, found = [text(p, k) for k, p in enumerate(pipes)], [torch.zeros(())] * 2
    gate = threading.Barrier(2)

    def one(k: int) -> None:
        gate.wait()
        found[k] = text(pipes[k], k)

    with parallelize(pipes[0], tolerance=0, window=4) as a, parallelize(pipes[1], tolerance=0, window=4) as b:
        threads = [threading.Thread(target=one, args=(k,)) for k in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name, report, x, y in zip(SHARED, (a, b), found, expected, strict=True):
        yield KindRow("two threads, one network", name, relative(x, y), CLOSE, report.steps, report.rounds,
                      next(iter(report.fallbacks), ""))  # fmt: skip


class OwnLoop(diffusers.StableDiffusionPipeline):  # type: ignore[misc]
    """A loop of one's own: as plain as it can be; what is below changes one thing of it."""

    def mixed(self, kept: list[Tensor], said: Tensor, t: Tensor) -> Tensor:
        """What the step makes of an answer."""
        return said

    def denoised(self, x: Tensor, words: Tensor) -> Tensor:
        """The loop, in a method beside `__call__`."""
        kept: list[Tensor] = []
        for t in self.scheduler.timesteps:
            x = self.scheduler.step(self.mixed(kept, self.unet(x, t, words).sample, t), t, x).prev_sample
        return x

    @torch.no_grad()
    def __call__(self) -> Any:
        self.scheduler.set_timesteps(8)
        x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        return SimpleNamespace(images=self.denoised(x, torch.zeros(1, 7, self.unet.config.cross_attention_dim)))


class Averaging(OwnLoop):
    """The last answers are averaged."""

    def mixed(self, kept: list[Tensor], said: Tensor, t: Tensor) -> Tensor:
        kept.append(said)
        return sum(kept[-2:]) / len(kept[-2:])  # type: ignore[return-value]


class ByTime(OwnLoop):
    """Early steps are made another way."""

    def mixed(self, kept: list[Tensor], said: Tensor, t: Tensor) -> Tensor:
        return 1.05 * said if t > 500 else said


class TwoCalls(OwnLoop):
    """The network is asked twice a step, the second time near where the first answer leads."""

    def denoised(self, x: Tensor, words: Tensor) -> Tensor:
        for t in self.scheduler.timesteps:
            first = self.unet(x, t, words).sample
            second = self.unet(x - 0.05 * first, t, words).sample
            x = self.scheduler.step((first + second) / 2, t, x).prev_sample
        return x


class HandsOver(OwnLoop):
    """A generator that hands over every step's latents."""

    def states(self, x: Tensor, words: Tensor) -> Iterator[Tensor]:
        """The latents after each step."""
        for t in self.scheduler.timesteps:
            x = self.scheduler.step(self.unet(x, t, words).sample, t, x).prev_sample
            yield x

    def denoised(self, x: Tensor, words: Tensor) -> Tensor:
        return torch.cat(list(self.states(x, words)))


def own_loops() -> Iterator[KindRow]:
    """Pipelines with a loop of their own."""
    for kind in (OwnLoop, Averaging, ByTime, TwoCalls, HandsOver):

        def build(kind: Any = kind) -> Any:
            pipe = kind(**text2image().components, requires_safety_checker=False)
            pipe.set_progress_bar_config(disable=True)
            return pipe

        yield compare("loops of one's own", kind.__name__, build, lambda pipe: pipe().images, CLOSE)


def every_scheduler() -> Iterator[KindRow]:
    """`DDPMPipeline`, whose loop is known as a table, under each scheduler of diffusers that it runs with."""

    def call(pipe: Any) -> Tensor:
        pipe.set_progress_bar_config(disable=True)
        made = pipe(num_inference_steps=5, output_type="np", generator=torch.Generator().manual_seed(1))
        return torch.cat([t.float().flatten() for t in tensors(made)])

    for name in sorted(name for name in dir(diffusers) if name.endswith("Scheduler")):

        def build(name: str = name) -> Any:
            return pixels("DDPMPipeline", getattr(diffusers, name)())

        try:
            call(build())
        except Exception as error:  # what its own loop cannot do is no case
            yield KindRow("DDPMPipeline under", name, 0.0, CLOSE, why=f"does not run with it: {type(error).__name__}")
            continue
        yield compare("DDPMPipeline under", name, build, call, CLOSE)


def main(out: Path) -> bool:
    """Examines every kind, writes out/census-kinds.md and .json; True if all is as near as rounding allows."""
    logging.disable(logging.WARNING)  # schedulers warn at each step of a loop that scales no inputs
    rows: list[KindRow] = []
    for part in (own_loops, on_threads, in_half, every_scheduler):
        for row in part():
            rows.append(row)
            print(f"{row.kind} {row.name}: {row.error:.2g}" + (f" ({row.why})" if row.why else ""), flush=True)
    logging.disable(logging.NOTSET)
    bad = [row for row in rows if not row.fine]
    head = (
        "kind",
        "case",
        "relative error in batches",
        "allowed",
        "steps",
        "rounds at tolerance 0",
        "why stepped, or not run",
    )
    cells = [[r.kind, r.name, r.error, r.allowed, r.steps, r.rounds, r.why] for r in rows]
    count = f"{len(rows)} cases, {len(bad)} beyond what rounding allows"
    said = f"{count}; diffusers {diffusers.__version__}, window {WINDOW}, tolerance 0."
    write(out, "census-kinds", "The census: further kinds", [("The count", said), ("Every case", table(head, cells))],
          {"diffusers": diffusers.__version__, "rows": [vars(r) for r in rows]})  # fmt: skip
    print(said)
    return not bad
