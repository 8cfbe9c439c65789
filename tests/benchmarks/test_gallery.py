"""The table of the paper and its scores: torchmetrics against what is computed by hand, and how they are asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from benchmarks.app import bench
from benchmarks.images import gallery
from benchmarks.images.gallery import bytes_of, clip_metric, frechet_metric, quality
from benchmarks.paper.narrow import save_clip
from paradigms.cli import pipeline_job as hub
from published import church, sd2

CPU = torch.device("cpu")


class Remembered:
    """A metric that remembers what it is given, with torchmetrics' methods; its value is the mean of the bytes."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []
        self.how: list[Any] = []
        self.resets = 0

    def update(self, x: Tensor, *given: Any, **how: Any) -> None:
        assert x.dtype == torch.uint8
        assert x.ndim == 4
        self.seen.append(x)
        self.how.append(given or how)

    def compute(self) -> Tensor:
        return torch.cat(self.seen).double().mean()

    def reset(self) -> None:
        self.seen.clear()
        self.resets += 1


@given(st.integers(1, 3), st.integers(1, 4), st.floats(-2, 2))
def test_pictures_become_bytes_channels_first(count: int, side: int, value: float) -> None:
    x = torch.full((count, side, side + 1, 3), value)
    made = bytes_of(x)
    assert made.shape == (count, 3, side, side + 1)
    assert made.dtype == torch.uint8
    assert abs(int(made.flatten()[0]) - (max(min(value, 1), -1) + 1) * 127.5) <= 0.5 + 1e-4


def test_a_clip_score_is_asked_of_each_picture_with_its_prompt() -> None:
    metric = Remembered()
    score = quality(metric, None)
    value = score(torch.full((3, 3, 4, 4), 7, dtype=torch.uint8), ("a", "b"))
    assert (value, metric.how, metric.resets) == (7.0, [(["a"],), (["b"],), (["a"],)], 1)


def test_a_fid_is_told_the_real_pictures_once_and_the_made_ones_as_made() -> None:
    metric, real = Remembered(), torch.zeros(70, 3, 4, 4, dtype=torch.uint8)
    score = quality(metric, real)
    assert metric.how == [{"real": True}] * 2
    score(torch.ones(3, 3, 4, 4, dtype=torch.uint8), ())
    assert metric.how[2:] == [{"real": False}]
    assert score(torch.ones(1, 3, 4, 4, dtype=torch.uint8), ()) is None  # no covariance of one


def test_without_a_metric_nothing_is_scored() -> None:
    assert quality(None, None)(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), ()) is None


def test_reference_pictures_are_squares_of_the_side_asked_for(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), (255, 0, 0)).save(tmp_path / "a.png")
    Image.new("L", (8, 30), 255).save(tmp_path / "b.jpg")
    (tmp_path / "notes.txt").write_text("no picture")
    found = gallery.read_reference(tmp_path, 8)
    assert (found.shape, found.dtype) == ((2, 3, 8, 8), torch.uint8)
    assert found[0, :, 4, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize(("name", "make"), [("church", church), ("sd2", sd2)])
def test_the_papers_table_of_tiny_pipelines(
    name: str, make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make().save_pretrained(tmp_path)
    short = {"church": (("ddpm", 10), ("ddim", 6)), "sd2": (("ddim", 6), ("dpmsolver", 6))}[name]
    monkeypatch.setitem(gallery.ROWS, name, short)
    metric = Remembered()
    score = quality(metric, None)
    rows = list(gallery.rows(tmp_path, hub.PipelineRequest("", window=4), name, 2, ("abc", "de"), score))
    assert [r["sampler"] for r in rows] == [f"{rule}-{steps}" for rule, steps in short]
    for row in rows:
        assert row["max error"] <= 0.05
        assert row["rounds"] >= row["trace"]["N"] / 4
        assert [sum(run) >= row["trace"]["N"] for run in row["trace"]["runs"]] == [True, True]
        assert abs(row["quality"][0] - row["quality"][1]) < 3
    told = gallery.text(rows, "FID")
    assert "FID, parallel" in told
    assert gallery.NOT in gallery.text([row | {"quality": [None, None]} for row in rows], "FID")


# -- torchmetrics' scores, by hand ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a CLIP of pictures of 8x8 and prompts in letters, its weights random."""
    return save_clip(tmp_path_factory.mktemp("clip"))


def embedding(projected: Tensor) -> np.ndarray:
    one = projected[0].detach().double().numpy()
    return one / np.sqrt((one**2).sum())


def cosine(folder: str, picture: Tensor, prompt: str) -> float:
    """Of a picture (3, H, W), H <= W, and a prompt, from CLIP's two halves; its own preparation of pictures by hand."""
    import transformers as tr

    model, words = tr.CLIPModel.from_pretrained(folder), tr.CLIPTokenizer.from_pretrained(folder)
    image = Image.fromarray(picture.movedim(0, -1).numpy())
    wide = 8 * image.width // image.height
    left = (wide - 8) // 2
    pixels = np.asarray(image.resize((wide, 8), Image.Resampling.BICUBIC).crop((left, 0, left + 8, 8))) / 255
    pixels = (pixels - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711]
    seen = model.vision_model(torch.tensor(pixels).float().movedim(-1, 0)[None]).pooler_output
    said = model.text_model(torch.tensor([words(prompt).input_ids])).pooler_output
    return float(embedding(model.visual_projection(seen)) @ embedding(model.text_projection(said)))


@pytest.mark.parametrize("size", [(8, 8), (16, 24)])
def test_a_clip_score_is_a_hundred_cosines_of_picture_and_prompt(clip: str, size: tuple[int, int]) -> None:
    pytest.importorskip("torchmetrics")
    x = torch.randint(0, 256, (6, 3, *size), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    prompts = ("a red boat", "hills", "night")
    score = quality(clip_metric(CPU, clip), None)
    cosines = [cosine(clip, picture, prompts[k % 3]) for k, picture in enumerate(x)]
    assert min(cosines) < -0.1 and max(cosines) > 0.1, "both signs, so that the largest of cosine and 0 is seen"
    for k, c in enumerate(cosines):
        assert score(x[k : k + 1], (prompts[k % 3],)) == pytest.approx(100 * max(c, 0), abs=0.05)
    assert score(x, prompts) == pytest.approx(100 * max(np.mean(cosines), 0), abs=0.05)


class Patches(nn.Module):
    """Features of bytes (B, 3, 8, 8): weighted sums, six of each picture."""

    num_features = 6

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.randn(3 * 8 * 8, 6, generator=torch.Generator().manual_seed(0)).double() / 500

    def forward(self, x: Tensor) -> Tensor:
        return x.double().flatten(1) @ self.weights


def closed(f: np.ndarray, g: np.ndarray) -> float:
    """|m1 - m2|^2 + tr(S1 + S2) - 2 tr (S1 S2)^(1/2), the last as the sum of singular values of S1^(1/2) S2^(1/2)."""
    roots = []
    for s in (np.cov(f.T), np.cov(g.T)):
        values, vectors = np.linalg.eigh(s)
        roots.append((vectors * np.sqrt(values)) @ vectors.T)
    overlap = np.linalg.svd(roots[0] @ roots[1], compute_uv=False).sum()
    return float(((f.mean(0) - g.mean(0)) ** 2).sum() + sum((r @ r).trace() for r in roots) - 2 * overlap)


def test_a_frechet_distance_is_the_closed_formula_for_one_set_after_another() -> None:
    pytest.importorskip("torchmetrics")
    g, network = torch.Generator().manual_seed(1), Patches()
    real = torch.randint(0, 200, (90, 3, 8, 8), generator=g, dtype=torch.uint8)
    sets = [torch.randint(low, 256, (40, 3, 8, 8), generator=g, dtype=torch.uint8) for low in (0, 60)]
    score = quality(frechet_metric(CPU, network), real)
    found = [score(x, ()) for x in sets]
    wanted = [closed(network(real).numpy(), network(x).numpy()) for x in sets]
    assert found == pytest.approx(wanted, rel=1e-6)
    assert 0.01 < found[0] < found[1]


def test_the_command_scores_pictures_of_real_weights(
    clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`bench images --weights DIR`, with a tiny Stable Diffusion 2 in DIR and a tiny CLIP."""
    pytest.importorskip("torchmetrics")
    sd2().save_pretrained(tmp_path / "sd2")
    monkeypatch.setitem(gallery.ROWS, "sd2", (("ddim", 4),))
    monkeypatch.setattr(gallery, "CLIP", clip)
    monkeypatch.setattr("benchmarks.images.weights.reachable", lambda: False)
    (tmp_path / "prompts").write_text("a boat\nhills\n")
    given = ("--weights", tmp_path / "sd2", "--rows", 1, "--window", 4, "--count", 2, "--prompts", tmp_path / "prompts")
    args = ["images", "--model", "sd2", "--out", tmp_path / "out", *given]
    result = CliRunner().invoke(bench, list(map(str, args)))
    assert result.exit_code == 0, result.stderr
    report = (tmp_path / "out" / "images-sd2.md").read_text()
    assert "CLIP score, parallel" in report
    (row,) = [line for line in report.splitlines() if line.startswith("| ddim-4")]
    assert gallery.NOT not in row


def test_a_metric_that_cannot_be_had_says_why_and_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torchmetrics.multimodal", None)
    with pytest.raises(ValueError, match=r"torchmetrics.*pip install 'paradigms-sampling\[images\]'"):
        clip_metric(CPU, str(tmp_path))
    monkeypatch.undo()
    pytest.importorskip("torchmetrics")
    with pytest.raises(ValueError, match=r"could not be had .*--weights hub"):
        clip_metric(CPU, str(tmp_path))
