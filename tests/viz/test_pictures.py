"""What the pictures promise: every frame passes through, colours survive, the animation ends with the sample."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from command_line import tiny
from paradigms import Frame, Picard, Solution, ddpm, iterate, linear, sample
from paradigms.cli.model_job import Request, prepare_job
from paradigms.cli.story import headline, tell_story
from paradigms.viz import frame as page
from paradigms.viz import gif, pictures
from paradigms.viz.palette import difference, enlarge, pixels
from paradigms.viz.progress import progress_bar
from paradigms.viz.record import MOST, Moment, drawable, record_moments
from paradigms.viz.story import Story


def shrink(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """An epsilon model whose data is zero."""
    return x / linear().sigma[t].to(x).reshape(-1, 1, 1, 1)


SYSTEM = ddpm(linear(), 12)
START = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
HOW = {"window": 4, "tolerance": 0.1}


def frames() -> Iterator[Frame]:
    return iterate(shrink, SYSTEM, START, Picard(), generator=torch.Generator().manual_seed(1), **HOW)


def solve(watch: Callable[[Iterator[Frame]], Iterable[Frame]] = iter) -> Solution:
    return sample(shrink, SYSTEM, START, generator=torch.Generator().manual_seed(1), watch=watch, **HOW)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    model = tiny(tmp_path_factory.mktemp("model") / "tiny.safetensors")
    job = prepare_job(Request(str(model), "ddpm", 30, window=8, batch=2))
    moments: list[Moment] = []
    solution = job.sample(lambda f: record_moments(f, moments))
    return tell_story(job, solution, moments)


def test_recorder_and_progress_compose_and_pass_every_frame() -> None:
    moments: list[Moment] = []
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    watch = progress_bar(len(SYSTEM), terminal)
    seen: list[int] = []

    def note(wrapped: Iterator[Frame]) -> Iterator[Frame]:
        for frame in wrapped:
            seen.append(frame.round)
            yield frame

    solution = solve(lambda f: note(watch(record_moments(f, moments))))
    plain = solve()
    assert torch.equal(solution.x, plain.x)
    assert len(seen) == len(moments) == solution.rounds == plain.rounds
    assert moments[-1].done.tolist() == [len(SYSTEM)] * 3
    assert "evals" in terminal.file.getvalue()  # type: ignore[attr-defined]


def test_progress_is_silent_where_there_is_no_terminal() -> None:
    pipe = Console(file=io.StringIO())
    assert len(list(progress_bar(len(SYSTEM), pipe)(frames()))) > 1
    assert pipe.file.getvalue() == ""  # type: ignore[attr-defined]


def test_progress_gives_the_terminal_back_when_a_run_is_broken_off() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True)
    wrapped = progress_bar(len(SYSTEM), terminal)(frames())
    next(wrapped)
    wrapped.close()  # type: ignore[attr-defined]
    assert terminal.file.getvalue().endswith(("\x1b[?25h", "\x1b[2K", "\x1b[1A"))  # type: ignore[attr-defined]


def test_the_last_moment_holds_the_sample() -> None:
    moments: list[Moment] = []
    solution = solve(lambda f: record_moments(f, moments))
    assert torch.equal(moments[-1].states, drawable(solution.x))


def test_a_moment_keeps_few_samples_of_a_large_batch() -> None:
    moments: list[Moment] = []
    many = torch.randn(MOST + 3, 3, 8, 8)
    for _ in record_moments(iterate(shrink, SYSTEM, many, window=4, tolerance=0.1), moments):
        pass
    assert all(len(m.states) == len(m.done) == m.size.shape[1] == MOST for m in moments)


def test_a_finished_sample_is_drawn_as_it_is_and_noise_is_not_clipped() -> None:
    picture = torch.rand(2, 3, 8, 8) * 2 - 1
    assert torch.equal(drawable(picture), picture)
    assert (drawable(100 * torch.randn(1, 3, 32, 32)).abs() > 1).float().mean() < 0.06


def test_pixels_span_the_bytes_and_one_channel_becomes_grey() -> None:
    x = torch.tensor([-2.0, -1.0, 0.0, 1.0]).reshape(1, 1, 2, 2)
    assert pixels(x)[0, ..., 0].tolist() == [[0, 0], [128, 255]]
    assert (pixels(x)[..., 0] == pixels(x)[..., 2]).all()
    assert difference(x, x, 10).max() == 0
    assert enlarge(pixels(x)[0], 9).shape == (8, 8, 3)


def test_the_gif_has_a_frame_a_round_and_ends_elsewhere_than_it_began(story: Story, tmp_path: Path) -> None:
    gif.write_gif(tmp_path / "a.gif", story)
    with Image.open(tmp_path / "a.gif") as picture:
        assert picture.size == (800, 500)
        assert picture.n_frames == len(story.parallel) + 1  # type: ignore[attr-defined]
        first = np.asarray(picture.convert("RGB")).astype(int)
        picture.seek(len(story.parallel))
        last = np.asarray(picture.convert("RGB")).astype(int)
    assert np.abs(first - last).mean() > 1
    assert picture.info["duration"] >= 2000 and picture.info["loop"] == 0
    assert np.abs(last - np.asarray(page.draw_frame(story, len(story.parallel))).astype(int)).mean() < 3


def test_a_long_run_is_told_in_few_frames(story: Story, tmp_path: Path) -> None:
    long = Story(**{**vars(story), "parallel": [*story.parallel] * 40, "sequential": [*story.sequential] * 40})
    gif.write_gif(tmp_path / "a.gif", long)
    assert len(long.parallel) > gif.MOST
    with Image.open(tmp_path / "a.gif") as picture:
        assert gif.MOST / 2 < picture.n_frames <= gif.MOST + 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", range(1, 9))
def test_one_to_eight_samples_fit_their_room(count: int) -> None:
    side, columns = max((page.side_of_samples(count, c, 32), c) for c in range(1, count + 1))
    rows = -(-count // columns)
    assert columns * (side + page.GAP) - page.GAP <= page.ROOM[0]
    assert rows * (side + page.GAP) - page.GAP <= page.ROOM[1]
    assert 2 * side % 32 == 0  # a pixel is as wide as its neighbour


def test_the_sequential_half_takes_as_many_steps_as_there_were_rounds(story: Story) -> None:
    assert len(story.sequential) == len(story.parallel) < story.rows


def test_grid_and_trace_are_pictures(tmp_path: Path) -> None:
    model = tiny(tmp_path / "tiny.safetensors")
    job = prepare_job(Request(str(model), "ddim", 8, window=4, batch=3, compare=True))
    solution = job.sample()
    rows = pictures.rows_of(solution)
    assert [label.split("\n")[0] for label, _ in rows] == ["sequential", "parallel", "difference"]
    pictures.write_grid(tmp_path / "grid.png", headline(job, solution), rows)
    pictures.write_trace(tmp_path / "trace.png", headline(job, solution), solution, len(job.system))
    for name in ("grid.png", "trace.png"):
        with Image.open(tmp_path / name) as picture:
            picture.verify()
    assert headline(job, solution) == f"DDIM, 8 steps: {solution.rounds} rounds instead of 8"
    assert sorted(f.suffix for f in tmp_path.iterdir()) == [".png", ".png", ".safetensors"]
