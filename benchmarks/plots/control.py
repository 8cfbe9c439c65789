"""A policy in pictures: reward against time, and sequential beside parallel control in real time."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from paradigms.files import write_whole
from paradigms.viz.canvas import font
from paradigms.viz.palette import ACCENT, DIM, GREY, INK, LIGHT, NIGHT, TRACK
from paradigms.viz.pictures import write_figure

SHADES = {
    "sequential": INK,
    "paper": "#8a7f4e",
    "ours": ACCENT,
    "ours, warm": "#d9534f",
    "ours, warm, as the paper tolerates": "#8f6bb3",
    "few-step": "#3d7ea6",
}
SAMPLERS = ("DDPM-100", "DDIM-15", "DPMSolver-15")


def picture(out: Path, task: str, measured: Mapping[str, Any]) -> Path | None:
    """Writes out/policies-TASK.png, reward and milliseconds of each way; None where nothing was measured."""
    found = [row for sampler in SAMPLERS for way in SHADES if (row := row_of(measured, sampler, way))]
    if not found:
        return None
    figure = Figure(figsize=(9, 0.8 + 0.28 * len(found)), layout="constrained")
    reward, time = figure.subplots(1, 2, sharey=True)
    place, names = list[float](), list[str]()
    for sampler, way, ms, mean, error in found:
        # A gap before each sampler.
        y = -(len(place) + 0.6 * SAMPLERS.index(sampler))
        place, names = [*place, y], [*names, f"{sampler}, {way}"]
        reward.errorbar(mean, y, xerr=error, color=SHADES[way], marker="o", ms=6, elinewidth=1.5)
        time.barh(y, ms, 0.6, color=SHADES[way])
        time.annotate(f" {ms:.3g}", (ms, y), va="center", fontsize=8, color=GREY)
    reward.set_yticks(place, names, fontsize=8, color=INK)
    reward.set_xlabel("mean reward ± standard error", color=GREY)
    time.set_xlabel("milliseconds a chunk (median, batch 1)", color=GREY)
    time.tick_params(left=False)
    for axes in (reward, time):
        axes.spines[["top", "right", "left"]].set_visible(False)
    figure.suptitle(task, x=0.01, ha="left", color=INK, size=11)
    path = out / f"policies-{task}.png"
    write_figure(figure, path)
    return path


def row_of(measured: Mapping[str, Any], sampler: str, way: str) -> tuple[str, str, float, float, float] | None:
    """A sampler and a way with the milliseconds of a chunk, the mean reward and its error; None if not measured."""
    alone = measured.get(f"chunks {sampler} {way}")
    blocks = [v["score"] for k, v in measured.items() if k.startswith(f"episodes {sampler} {way} ")]
    scores = [s for b in blocks for s in b]
    if not alone or len(scores) < 2:
        return None
    error = statistics.stdev(scores) / len(scores) ** 0.5
    return sampler, way, 1e3 * statistics.median(alone["seconds"]), statistics.mean(scores), error


PANE, HEAD, FOOT, GAP = 260, 46, 40, 16  # pixels
HOLD = 2500  # milliseconds that the last picture stays


def write_drives(path: Path, drives: Mapping[str, Any], hertz: float) -> None:
    """Writes a GIF of drives side by side, by name, a picture a tick, in real time; see bench/realtime.py."""
    ticks = max(len(d.pictures) for d in drives.values())
    pages = [page(drives, tick, hertz) for tick in range(ticks)]
    sheet = Image.new("RGB", (pages[0].width, pages[0].height * 4))
    for k in range(4):
        sheet.paste(pages[k * (ticks - 1) // 3], (0, k * pages[0].height))
    palette = sheet.quantize(64, method=Image.Quantize.MEDIANCUT)
    flat = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pages]
    durations = [round(1000 / hertz)] * (ticks - 1) + [HOLD]
    with write_whole(path) as partial:
        flat[0].save(partial, "GIF", save_all=True, append_images=flat[1:], duration=durations, loop=0, disposal=1)


def page(drives: Mapping[str, Any], tick: int, hertz: float) -> Image.Image:
    """All drives at one tick; one that is solved stays as it ended."""
    wide, high = GAP + (PANE + GAP) * len(drives), HEAD + PANE + FOOT
    sheet = Image.new("RGB", (wide, high), NIGHT)
    pen = ImageDraw.Draw(sheet)
    for k, (name, drive) in enumerate(drives.items()):
        left, now = GAP + k * (PANE + GAP), min(tick, len(drive.pictures) - 1)
        over, thinking = now < tick or drive.solved == now + 1, drive.thinking[now]
        pen.text((left, 14), name, LIGHT, font(15), "lm")
        solved = over and drive.solved is not None
        state = "solved" if solved else "thinking" if thinking else "acting"
        colour = DIM if state == "thinking" else ACCENT
        pen.text((left, 34), f"{(now + 1) / hertz:.1f} s   {state}", colour, font(12), "lm")
        picture = Image.fromarray(np.ascontiguousarray(drive.pictures[now])).resize((PANE, PANE), Image.Resampling.BOX)
        sheet.paste(picture, (left, HEAD))
        if thinking and not over:
            pen.rectangle((left, HEAD, left + PANE - 1, HEAD + PANE - 1), outline=DIM, width=3)
        top = HEAD + PANE + 10
        pen.rectangle((left, top, left + PANE, top + 8), fill=TRACK)
        pen.rectangle((left, top, left + round(PANE * drive.scores[now]), top + 8), fill=ACCENT)
        pen.text((left, top + 16), f"reward {drive.scores[now]:.2f}", DIM, font(11), "lm")
    return sheet
