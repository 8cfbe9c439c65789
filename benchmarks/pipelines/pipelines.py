"""`python -m benchmarks pipelines`: the shipped text-to-image pipeline in parallel, against itself step by step.

error = |image - sequential| / |sequential|        both images in [-1, 1], the largest and the median of the prompts

Beside every rule stands the rival of equal latency: the plain pipeline with as many steps as the parallel one took
rounds, on the same noise. And what rewinding costs: time outside the networks a visit of a step, less the pipeline's
own, on a tiny U-Net where that shows.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paradigms.adapters import Run, parallelize
from paradigms.methods.anderson import ExponentialPicard
from paradigms.methods.base import AbstractMethod
from paradigms.methods.picard import Picard
from paradigms.methods.spectral import Spectral
from paradigms.solution import relative_error
from paradigms.stopping.base import AbstractStop
from paradigms.stopping.final_error import FinalError
from paradigms.stopping.step_noise import StepNoise

from ..report import spread, table, write

PROMPTS = ("a red sun over the sea", "a starry night, snowy mountains", "a green meadow by day", "a moon at night")
WAYS: dict[str, tuple[AbstractMethod, type[AbstractStop], tuple[float, ...]]] = {
    "ParaDiGMS (Picard, step noise)": (Picard(), StepNoise, (0.3, 0.1, 0.03, 0.01, 0.003)),
    "frozen output": (ExponentialPicard(variance=math.inf), FinalError, (0.1, 0.03, 0.01, 0.003, 0.001)),
    "spectral secant (default)": (Spectral(), FinalError, (0.03, 0.01, 0.003, 0.001)),
}


class Flow(nn.Module):
    """A noise predictor as a flow predictor: x = (1 - s) data + s noise is scaled to the level of equal noise.

    x / sqrt((1 - s)^2 + s^2) = sqrt(A) data + sqrt(1 - A) noise,    flow = noise - data = (x - data) / s
    """

    def __init__(self, unet: Any, scheduler: Any) -> None:
        super().__init__()
        self.unet, self.config, self.dtype, self.device = unet, unet.config, unet.dtype, unet.device
        kept = scheduler.alphas_cumprod.double()
        self.register_buffer("ratio", ((1 - kept) / kept).log() / 2)  # of noise to data, by training step

    def forward(self, x: Tensor, t: Tensor, **how: Any) -> tuple[Tensor]:
        """The flow at times t = 1000 s of states x (M, ...)."""
        s = (t.double() / 1000).clamp(1e-4, 1 - 1e-4).expand(len(x))
        known = self.get_buffer("ratio")
        want = (s / (1 - s)).log().clamp(known[0], known[-1])
        above = torch.searchsorted(known, want).clamp(1, len(known) - 1)
        time = above - 1 + (want - known[above - 1]) / (known[above] - known[above - 1])
        A, size, s = (
            v.to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
            for v in (1 / (1 + (2 * want).exp()), ((1 - s) ** 2 + s**2).sqrt(), s)
        )
        noise = self.unet(x / size, time.to(x.dtype), **how)[0]
        data = (x / size - (1 - A).sqrt() * noise) / A.sqrt()
        return ((x - data) / s,)


def rules() -> dict[str, tuple[int, Callable[[Any], None]]]:
    """Steps, and what makes the pipeline sample so, by name."""
    import diffusers as df

    def by(kind: Any, **how: Any) -> Callable[[Any], None]:
        def choose(pipe: Any) -> None:
            pipe.scheduler = kind.from_config(pipe.scheduler.config, **how)

        return choose

    def flow(pipe: Any) -> None:
        pipe.unet = Flow(pipe.unet, pipe.scheduler)
        pipe.scheduler = df.FlowMatchEulerDiscreteScheduler(shift=1.0)
        pipe.scheduler.init_noise_sigma = 1.0  # which this pipeline asks for

    return {
        "DDIM-50": (50, by(df.DDIMScheduler)),
        "DPMSolver-25": (25, by(df.DPMSolverMultistepScheduler)),
        "flow-28": (28, flow),
    }


OTHERS: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("DDPMScheduler", 100, {"clip_sample": False}),
    ("PNDMScheduler", 50, {"skip_prk_steps": True}),
    ("EulerDiscreteScheduler", 50, {"use_karras_sigmas": True}),
    ("EulerAncestralDiscreteScheduler", 50, {}),
    ("DPMSolverMultistepScheduler", 30, {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True}),
    ("UniPCMultistepScheduler", 25, {}),
    ("HeunDiscreteScheduler", 25, {}),
)


def others(load: Callable[[], Any], prompts: tuple[str, ...], tolerance: float) -> list[dict[str, Any]]:
    """Rounds and errors of the default under further schedulers."""
    import diffusers as df

    pipe, found = load(), []
    pipe.set_progress_bar_config(disable=True)
    config = dict(pipe.scheduler.config)
    for name, steps, how in OTHERS:
        pipe.scheduler = getattr(df, name).from_config(config, **how)
        reference = [image(pipe, p, steps) for p in prompts]
        with parallelize(pipe, tolerance=tolerance, window=32) as run:
            off = errors([image(pipe, p, steps) for p in prompts], reference)
        each = {k: getattr(run, k) / len(prompts) for k in ("steps", "rounds", "evaluations")}
        found.append({"scheduler": name, **each, "max error": max(off), "median error": statistics.median(off)})
    return found


def image(pipe: Any, prompt: str, steps: int) -> Tensor:
    """One picture (3, H, W) in [-1, 1], its noise from the prompt's place."""
    generator = torch.Generator().manual_seed(PROMPTS.index(prompt))
    out = pipe(prompt, num_inference_steps=steps, guidance_scale=3.0, generator=generator, output_type="pt")
    return out.images[0] * 2 - 1  # type: ignore[no-any-return]


def errors(found: list[Tensor], reference: list[Tensor]) -> list[float]:
    """Relative errors of pictures."""
    return relative_error(torch.stack(found), torch.stack(reference)).tolist()  # type: ignore[no-any-return]


def sweep(load: Callable[[], Any], prompts: tuple[str, ...], window: int) -> list[dict[str, Any]]:
    """Rounds, evaluations and errors of every rule, way and tolerance."""
    found: list[dict[str, Any]] = []
    for rule, (steps, choose) in rules().items():
        pipe = load()
        choose(pipe)
        pipe.set_progress_bar_config(disable=True)
        reference = [image(pipe, p, steps) for p in prompts]
        few: dict[int, float] = {}
        for way, (method, stop, tolerances) in WAYS.items():
            for tolerance in tolerances:
                runs: list[Run] = []
                pictures = []
                for p in prompts:
                    with parallelize(pipe, method, tolerance=stop(tolerance), window=min(window, steps)) as run:
                        pictures.append(image(pipe, p, steps))
                    runs.append(run)
                rounds = statistics.mean(r.rounds for r in runs)
                equal = math.ceil(rounds)
                if equal not in few:
                    few[equal] = max(errors([image(pipe, p, equal) for p in prompts], reference))
                off = errors(pictures, reference)
                numbers = {"rounds": rounds, "evaluations": statistics.mean(r.evaluations for r in runs)}
                numbers |= {"max error": max(off), "median error": statistics.median(off), "few-step": few[equal]}
                found.append({"rule": rule, "steps": steps, "way": way, "tolerance": tolerance, **numbers})
                assert not any(r.fallbacks for r in runs), runs[0].fallbacks
    return found


def least(found: list[dict[str, Any]], rule: str, way: str, limit: float = 0.01) -> dict[str, Any] | None:
    """Of the runs whose largest error is within the limit, the one with the fewest rounds."""
    fine = [f for f in found if (f["rule"], f["way"]) == (rule, way) and f["max error"] <= limit]
    return min(fine, key=lambda f: f["rounds"], default=None)


def rewinding(repeats: int, steps: int) -> list[float]:
    """Milliseconds a visit of a step takes outside the networks, less the pipeline's own, on a tiny U-Net."""
    from ..zoo import ZOO

    specimen = next(s for s in ZOO if s.name == "StableDiffusionPipeline")
    pipe = specimen.build()
    pipe.set_progress_bar_config(disable=True)
    given = {**specimen.inputs(), "num_inference_steps": steps, "output_type": "latent"}
    found = []
    for _ in range(repeats + 1):
        own = alone(pipe, given) / steps
        with parallelize(pipe, tolerance=0.01, window=16) as plain:
            pipe(**given)
        found.append(1e3 * ((plain.seconds - plain.model_seconds) / plain.visits - own))
    return found[1:]  # the first warms up


def alone(pipe: Any, given: dict[str, Any]) -> float:
    """Seconds of a plain call outside its U-Net."""
    inside = 0.0
    forward = pipe.unet.forward

    def timed(*args: Any, **kwargs: Any) -> Any:
        nonlocal inside
        began = time.perf_counter()
        said = forward(*args, **kwargs)
        inside += time.perf_counter() - began
        return said

    pipe.unet.forward = timed
    try:
        began = time.perf_counter()
        pipe(**given)
        return time.perf_counter() - began - inside
    finally:
        del pipe.unet.forward


def main(out: Path, quick: bool = False) -> None:
    """Measures it, prints the tables and writes out/pipelines.md, .json."""
    from paradigms.models.latent import load

    prompts = PROMPTS[: 1 if quick else None]
    found = sweep(load, prompts, 32)
    more = others(load, prompts, 0.01)
    costs = rewinding(2 if quick else 7, 20 if quick else 50)
    head = ("rule", "way", "tolerance", "rounds", "evaluations", "largest error", "median error", "few-step error")
    names = ("rule", "way", "tolerance", "rounds", "evaluations", "max error", "median error", "few-step")
    rows = [[f[name] for name in names] for f in found]
    best = [least(found, rule, way) for rule in rules() for way in WAYS]
    text = [
        (
            "Fewest rounds at a largest error of 1 % of the image",
            table(head, [[b[name] for name in names] for b in best if b]),
        ),
        (f"The shipped text-to-image pipeline, guidance 3, {len(prompts)} prompts, window 32", table(head, rows)),
        (
            "The default under other schedulers, tolerance 0.01",
            table(
                ("scheduler", "steps", "rounds", "evaluations", "largest error", "median error"),
                [list(entry.values()) for entry in more],
            ),
        ),
        (
            "What rewinding costs",
            f"{spread(costs)} ms a visit of a step, beyond the pipeline's own code and its network: median (range) of "
            f"{len(costs)}; StableDiffusionPipeline, DDIM-50, a tiny U-Net, window 16.",
        ),
    ]
    print(
        write(
            out,
            "pipelines",
            "Pipelines in parallel",
            text,
            {"runs": found, "others": more, "ms a visit": costs},
        )
    )
