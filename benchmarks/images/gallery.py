"""The paper's table with real weights: sequential against parallel, evaluations, rounds, time, and quality.

| model           | rows                               | quality                                                       |
| sd2             | DDPM-1000, DDIM-200, DPMSolver-200 | CLIP score: 100 cos(picture, prompt), the mean                |
| church, bedroom | DDPM-1000, DDIM-500                | Fréchet Inception distance to the pictures of --reference DIR |

Both by torchmetrics, of sequential and of parallel pictures of the same seeds. What was not measured says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from paradigms.adapters import Run, parallelize
from paradigms.cli.pipeline_job import PipelineJob, PipelineRequest, prepare_pipeline
from paradigms.cli.plan import rows_of
from paradigms.cli.run_pipeline import pictures_of
from paradigms.solution import relative_error

from ..report import table

ROWS = {
    "sd2": (("ddpm", 1000), ("ddim", 200), ("dpmsolver", 200)),
    "church": (("ddpm", 1000), ("ddim", 500)),
    "bedroom": (("ddpm", 1000), ("ddim", 500)),
}
PROMPTS = (
    "a wooden boat on a calm lake at dawn",
    "a red bicycle against a white wall",
    "an old lighthouse in a storm, oil painting",
    "a bowl of oranges on a blue table",
    "a fox asleep in fresh snow",
    "a narrow street with lanterns at night",
    "a glass teapot, studio photograph",
    "a meadow of poppies under a grey sky",
)
NOT = "not measured"
CLIP = "openai/clip-vit-base-patch16"
HEAD = (
    "sampler", "evals", "rounds", "s, sequential", "s, parallel", "speedup", "median error", "max error",
    "{}, sequential", "{}, parallel",
)  # fmt: skip


class Metric(Protocol):
    """What is asked of a metric of torchmetrics."""

    def update(self, *given: Any, **how: Any) -> None: ...

    def compute(self) -> Tensor: ...

    def reset(self) -> None: ...


def clip_metric(device: torch.device, name: str | None = None, local: bool = True) -> Metric:
    """The CLIP score, by the network of a hub id or a folder; local: no connection is made. ValueError as `had`."""

    def make() -> Any:
        from torchmetrics.multimodal import CLIPScore
        from transformers import CLIPModel, CLIPProcessor

        kinds: tuple[Any, ...] = CLIPModel, CLIPProcessor
        model, processor = (kind.from_pretrained(name or CLIP, local_files_only=local) for kind in kinds)
        for part in ("get_image_features", "get_text_features"):
            setattr(model, part, plain(getattr(model, part)))
        return CLIPScore(lambda: (model, processor), sync_on_compute=False).to(device)  # a rank has all pictures

    return had(name or CLIP, make)


def plain(features: Callable[..., Any]) -> Callable[..., Tensor]:
    """The tensor that transformers 4 answers with and 5 wraps: torchmetrics, as of 1.9, fails on what is wrapped."""

    def of(*given: Any) -> Tensor:
        found = features(*given)
        return getattr(found, "pooler_output", found)

    return of


def frechet_metric(device: torch.device, network: nn.Module | int = 2048) -> Metric:
    """The Fréchet distance in Inception's 2048 features, or a network's of bytes (B, C, H, W). ValueError as `had`."""

    def make() -> Any:
        from torchmetrics.image.fid import FrechetInceptionDistance

        return FrechetInceptionDistance(network, reset_real_features=False, sync_on_compute=False).to(device)

    return had("Inception", make)


def had(network: str, make: Callable[[], Metric]) -> Metric:
    """The metric; raises ValueError where its library or its network cannot be had."""
    try:
        return make()
    except ImportError as error:
        raise ValueError(f"it needs {error.name or error}; type: pip install 'paradigms-sampling[images]'") from error
    except Exception as error:  # what a hub that is not reached makes it raise, or a torchvision of another torch
        why = f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
        raise ValueError(f"{network} could not be had ({why}); with a network type: --weights hub") from error


def rows(
    folder: Path, ask: PipelineRequest, model: str, count: int, prompts: Sequence[str], score: Callable[..., Any]
) -> Iterator[dict[str, Any]]:
    """One entry a row of the paper's table, of `count` samples, one at a time; `score` as `quality` takes it."""
    for rule, steps in ROWS[model]:
        both: tuple[list[Tensor], list[Tensor]] = ([], [])
        spent: dict[str, list[float]] = {k: [] for k in ("evals", "rounds", "sequential", "parallel")}
        runs: list[tuple[int, ...]] = []
        for seed in range(count):
            words = {"--prompt": prompts[seed % len(prompts)]} if model == "sd2" else {}
            asked = replace(ask, model=str(folder), rule=rule, steps=steps, seed=seed, options=words)
            ready = prepare_pipeline(asked)
            ready.pipe.set_progress_bar_config(disable=True)
            one, two, report = pair(ready, spent)
            both[0].append(one)
            both[1].append(two)
            runs.append(rows_of(report.accepted, report.steps, int(ready.window)))
        x, y = torch.cat(both[0]), torch.cat(both[1])
        error = relative_error(y, x)
        yield {
            "sampler": f"{rule}-{steps}",
            **{k: fmean(v) for k, v in spent.items()},
            "speedup": fmean(spent["sequential"]) / fmean(spent["parallel"]),
            "median error": float(error.median()),
            "max error": float(error.max()),
            "quality": [score(bytes_of(z), prompts) for z in (x, y)],
            "trace": {"N": report.steps, "window": ready.window, "batch": 1, "runs": runs},
        }


def pair(ready: PipelineJob, spent: dict[str, list[float]]) -> tuple[Tensor, Tensor, Run]:
    """The sequential and the parallel picture of a seed, and its account; what they took is appended to `spent`."""
    began = time.perf_counter()
    x = pictures_of(ready)
    spent["sequential"].append(time.perf_counter() - began)
    began = time.perf_counter()
    with parallelize(ready.pipe, ready.method, tolerance=ready.stop, window=ready.window) as report:
        y = pictures_of(ready)
    spent["parallel"].append(time.perf_counter() - began)
    spent["evals"].append(float(report.evaluations))
    spent["rounds"].append(float(report.rounds))
    return x, y, report


def bytes_of(x: Tensor) -> Tensor:
    """Pictures (B, H, W, C) in [-1, 1] as metrics take them: (B, C, H, W) bytes."""
    return x.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8).movedim(-1, 1)


def quality(metric: Metric | None, reference: Tensor | None) -> Callable[[Tensor, Sequence[str]], float | None]:
    """The score of pictures (B, C, H, W): to their prompts, or to reference pictures where these are given."""
    if metric is None:
        return lambda x, prompts: None
    if reference is not None:
        for part in reference.split(64):
            metric.update(part, real=True)

    def score(x: Tensor, prompts: Sequence[str]) -> float | None:
        if reference is not None:
            if len(x) < 2:
                return None
            for part in x.split(64):
                metric.update(part, real=False)
        else:
            for k, picture in enumerate(x):
                metric.update(picture[None], [prompts[k % len(prompts)]])
        value = float(metric.compute())
        metric.reset()
        return value

    return score


def reference_paths(folder: Path) -> list[Path]:
    """The pictures of a folder; raises ValueError where there are fewer than two."""
    if not folder.is_dir():
        raise ValueError(f"--reference is {str(folder)!r}, no folder; type a folder of pictures")
    paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
    if len(paths) < 2:
        raise ValueError(f"--reference {str(folder)!r} holds {len(paths)} pictures; type a folder of two or more")
    return paths


def read_reference(folder: Path, side: int) -> Tensor:
    """The pictures of a folder (B, 3, side, side), cut to squares; raises ValueError as `reference_paths`."""
    from numpy import asarray
    from PIL import Image, ImageOps

    paths = reference_paths(folder)
    made = [torch.from_numpy(asarray(ImageOps.fit(Image.open(p).convert("RGB"), (side, side))).copy()) for p in paths]
    return torch.stack(made).movedim(-1, 1)


def read_prompts(path: Path | None) -> tuple[str, ...]:
    """The lines of a file, or our own; raises ValueError for a file without any."""
    if path is None:
        return PROMPTS
    try:
        lines = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--prompts {str(path)!r} cannot be read; type the path of a file, a prompt a line") from error
    if not lines:
        raise ValueError(f"--prompts {str(path)!r} holds no prompt; type the path of a file, a prompt a line")
    return lines


def text(found: Sequence[dict[str, Any]], name: str) -> str:
    """The table."""
    body = []
    for e in found:
        scores = [NOT if q is None else f"{q:.2f}" for q in e["quality"]]
        spent = [f"{e[k]:.4g}" for k in ("evals", "rounds", "sequential", "parallel")]
        errors = [f"{e[k]:.2g}" for k in ("median error", "max error")]
        body.append([e["sampler"], *spent, f"{e['speedup']:.2f}", *errors, *scores])
    return table([h.format(name) for h in HEAD], body)
