"""The options that only benchmarks have: what each is called, takes and means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from paradigms.cli.options import option

FixedWindow = Annotated[int | None, option("--window", "rows evaluated at once", min=1)]
Image = Annotated[str, option("--model", "sd2, church or bedroom")]
Small = Annotated[bool, option("--small", "a small network of the same architecture, for a CPU")]
Weights = Annotated[
    str, option("--weights", "local (this machine's cache), hub, none (random), or a pipeline's folder")
]
Rows = Annotated[int | None, option("--rows", "rows of the largest call (default: 64 on a GPU, 16 small, else 1)")]
Pictures = Annotated[int, option("--count", "samples of each row of the paper's table", min=1)]
Prompts = Annotated[Path | None, option("--prompts", "a file, a prompt a line (default: eight of our own)")]
Reference = Annotated[Path | None, option("--reference", "a folder of pictures, for FID")]
Count = Annotated[int, option("--count", "samples in a set", min=100)]
OneTolerance = Annotated[float | None, option("--tolerance", "relative error asked for (default: 0.003)", min=0)]
Alone = Annotated[bool, option("--round", "what a round asks of torch alone, as round.md")]
Repeats = Annotated[int, option("--repeats", "runs of each case", min=1)]
Only = Annotated[str, option("--only", "only what has this in its name: cells as scenes/DDIM, pipelines as Flux")]
Cases = Annotated[int, option("--cases", "random cases, of seeds SEED, SEED + 1, ...", min=1)]
Seeds = Annotated[str, option("--seeds", "report, tune (to choose constants by), or the first seed as a number")]
Minutes = Annotated[float, option("--minutes", "start nothing new after so many", min=0)]
Clock = Annotated[bool, option("--clock", "seconds of one sample of shipped models, beside the sequential sampler")]
Networks = Annotated[Path, option("--nets", "the folder of the networks that --train made")]
Train = Annotated[bool, option("--train", "train the networks that are missing, each for --minutes, and measure none")]
Busy = Annotated[bool, option("--busy", "equal first calls in fresh processes while every core has other work")]
Row = Annotated[
    str, option("--row", "sd2-ddpm, sd2-ddim, sd2-dpmsolver, church-ddpm, church-ddim, kitchen, square, pusht")
]
RowWeights = Annotated[
    str | None, option("--weights", "a pipeline's folder or hub id, or a policy's file (default: the published one)")
]
Clip = Annotated[str | None, option("--clip", "a CLIP's folder or hub id (default: openai/clip-vit-base-patch16)")]
Parts = Annotated[str, option("--parts", "some of latency,ways,tables,outside,planner")]
Task = Annotated[str, option("--task", "pusht, square or kitchen")]
Episodes = Annotated[int, option("--episodes", "episodes of every way", min=2)]
PolicyFile = Annotated[str | None, option("--weights", "a policy's file (default: the task's shipped U-Net)")]
Again = Annotated[list[str] | None, option("--again", "measure this method anew (may be given several times)")]
Plan = Annotated[bool, option("--plan", "print what would be run and what it takes, and run nothing")]
Ablate = Annotated[bool, option("--ablate", "the default method against itself less one piece, in OUT/ablation")]
Source = Annotated[list[str] | None, option("--source", "NAME=FOLDER, a package to read beside ours (several times)")]
