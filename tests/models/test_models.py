"""What the shipped models and their data promise, each held against something computed another way."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from paradigms.files import shipped_weights
from paradigms.models import Pretrained, load, save
from paradigms.models.net import UNet
from paradigms.models.noise import SCHEDULE, diffuse
from training.models.canvas import Canvas
from training.models.frechet import classifier, features, frechet
from training.models.scenes import CLASSES, KINDS, labelled_scenes, scenes
from training.models.tasks import HELD_OUT_SEED, TASKS
from training.models.train import Run

pytest.importorskip("safetensors")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def held_out(name: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    if name == "digits":
        pytest.importorskip("sklearn")
    return TASKS[name].held_out()


def clean(p: Pretrained, xt: torch.Tensor, t: int, label: torch.Tensor | None) -> torch.Tensor:
    """The model's x0, from DDPM's definitions."""
    abar = math.prod(1 - (1e-4 + (0.02 - 1e-4) * k / 999) for k in range(t + 1))
    a, s = math.sqrt(abar), math.sqrt(1 - abar)
    out = p.model(xt, torch.full((len(xt),), t), label)
    return a * xt - s * out if p.prediction == "v" else (xt - s * out) / a


def sample(p: Pretrained, x: torch.Tensor, label: torch.Tensor | None, steps: int, weight: float) -> torch.Tensor:
    """Deterministic DDIM with classifier-free guidance, written out."""
    abar, times = SCHEDULE.alpha.square(), torch.linspace(999, 0, steps).round().long().tolist()
    for t, following in zip(times, [*times[1:], None], strict=True):
        x0 = clean(p, x, t, label)
        if label is not None:
            free = clean(p, x, t, None)
            x0 = free + weight * (x0 - free)
        eps = (x - abar[t].sqrt() * x0) / (1 - abar[t]).sqrt()
        after = 1.0 if following is None else abar[following].item()
        x = (math.sqrt(after) * x0 + math.sqrt(1 - after) * eps).float()
    return x


# -- scenes ------------------------------------------------------------------------------------------------


def test_scenes_repeat_with_the_seed_and_stay_in_range():
    first, again, other = scenes(300, seeded(4)), scenes(300, seeded(4)), scenes(300, seeded(5))
    assert first.shape == (300, 3, 32, 32) and first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.min() >= -1 and first.max() <= 1
    assert first.min() < -0.9 and first.max() > 0.9
    assert len(first.flatten(1).unique(dim=0)) == 300


def test_scenes_accept_zero_and_refuse_a_negative_count():
    assert scenes(0, seeded(0)).shape == (0, 3, 32, 32)
    with pytest.raises(ValueError, match="count is -1"):
        scenes(-1, seeded(0))


def test_scene_labels_agree_with_the_pictures():
    x, label = labelled_scenes(500, seeded(1))
    assert set(label.tolist()) == set(range(CLASSES))
    time, kind = label // len(KINDS), label % len(KINDS)
    top = x[:, :, 0, :].mean(-1)
    assert (top[time == 2].mean(1) < -0.8).all(), "the night sky is dark"
    assert (top[time == 0, 2] > top[time == 0, 0] + 0.8).all(), "the day sky is blue"
    low = x[:, :, 31, :].mean(-1)
    assert (low[kind == 1, 2] > low[kind == 1, 0]).all(), "there is water under boats"
    assert (low[(kind != 1) & (time < 2), 1] > low[(kind != 1) & (time < 2), 2]).all(), "and grass elsewhere"


def test_what_is_painted_later_hides_what_was_there():
    red, blue = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    half, small = torch.tensor([0.5]), torch.tensor([0.3])
    pictures = []
    for box_first in (True, False):
        canvas = Canvas(1)
        shapes = [(canvas.box(small, 1 - small, small, 1 - small), red), (canvas.disc(half, half, small), blue)]
        for mask, colour in shapes if box_first else shapes[::-1]:
            canvas.paint(mask, colour)
        pictures.append(canvas.picture()[0, :, 16, 16])
    assert pictures[0].tolist() == [-1, -1, 1] and pictures[1].tolist() == [1, -1, -1]


def test_antialiased_areas_are_those_of_geometry():
    canvas, one = Canvas(1), torch.ones(1)
    assert canvas.disc(0.5 * one, 0.5 * one, 0.3 * one).mean().item() == pytest.approx(math.pi * 0.09, rel=2e-3)
    assert canvas.box(0.213 * one, 0.7 * one, 0.1 * one, 0.654 * one).mean().item() == pytest.approx(
        0.487 * 0.554, rel=5e-3
    )
    assert canvas.trapezoid(0.5 * one, 0.2 * one, 0.8 * one, 0.1 * one, 0.4 * one).mean().item() == pytest.approx(
        0.6 * 0.5, rel=2e-2
    )


# -- the network and its file --------------------------------------------------------------------------------


def small(classes: int = 3) -> UNet:
    torch.manual_seed(0)
    net = UNet(1, (8, 16), depth=1, patch=1, classes=classes, embed=16)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return net


def test_rows_of_a_batch_do_not_see_each_other():
    net = small().double()
    x, t, label = torch.randn(5, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 3, 500, 998, 999]), torch.arange(5) % 3
    together = net(x, t, label)
    alone = torch.cat([net(x[i : i + 1], t[i : i + 1], label[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-10)


def test_timesteps_may_be_integers_or_fractions_and_no_label_is_the_null_label():
    net = small()
    x = torch.randn(3, 1, 8, 8)
    t = torch.tensor([1, 400, 999])
    assert torch.equal(net(x, t), net(x, t.double()))
    assert torch.equal(net(x, t), net(x, t, torch.full((3,), 3)))
    assert not torch.allclose(net(x, t.float()), net(x, t + 0.5))
    assert net.bfloat16()(x.bfloat16(), t).dtype == torch.bfloat16


def test_a_saved_model_comes_back_bit_for_bit(tmp_path: Path):
    net = small()
    x, t, label = torch.randn(3, 1, 8, 8), torch.tensor([0, 500, 999]), torch.tensor([0, 1, 2])
    save(tmp_path / "a.safetensors", net, name="mine", shape=(1, 8, 8), prediction="epsilon")
    p = load(tmp_path / "a.safetensors")
    assert torch.equal(p.model(x, t, label), net(x, t, label))
    assert (p.name, p.shape, p.prediction, p.classes, p.range) == ("mine", (1, 8, 8), "epsilon", 3, (-1.0, 1.0))
    assert p.betas == {"kind": "linear", "first": 1e-4, "last": 0.02, "count": 1000}
    assert not p.model.training and not any(w.requires_grad for w in p.model.parameters())


def test_half_precision_files_are_smaller_and_stable(tmp_path: Path):
    for name, dtype in (("full", torch.float32), ("half", torch.float16)):
        save(tmp_path / name, small(), name="mine", shape=(1, 8, 8), prediction="v", dtype=dtype)
    assert (tmp_path / "half").stat().st_size < 0.75 * (tmp_path / "full").stat().st_size
    half = load(tmp_path / "half").model
    save(tmp_path / "again", half, name="mine", shape=(1, 8, 8), prediction="v", dtype=torch.float16)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "half").read_bytes()
    with pytest.raises(ValueError, match="give 'epsilon' or 'v'"):
        save(tmp_path / "bad", half, name="mine", shape=(1, 8, 8), prediction="score")


def broken(tmp_path: Path, how: str) -> Path:
    from safetensors.torch import save_file

    path = tmp_path / f"{how}.safetensors"
    save(path, small(), name="mine", shape=(1, 8, 8), prediction="v")
    whole, tensors = path.read_bytes(), {"w": torch.zeros(2)}
    about = {"kind": "denoiser", "net": {"channels": 1, "widths": [8]}, "name": "x", "shape": [1, 8, 8]}
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("not weights at all, but a letter to a friend")
    elif how == "no metadata":
        save_file(tensors, path)
    elif how == "other metadata":
        save_file(tensors, path, metadata={"format": "pt"})
    elif how == "metadata not json":
        save_file(tensors, path, metadata={"paradigms": "{"})
    elif how == "other kind":
        save_file(tensors, path, metadata={"paradigms": json.dumps({"kind": "features"})})
    elif how == "other weights":
        save_file(tensors, path, metadata={"paradigms": json.dumps(about)})
    elif how == "impossible network":
        about["net"] = {"channels": 1, "widths": [7]}
        save_file(tensors, path, metadata={"paradigms": json.dumps(about)})
    elif how == "incomplete metadata":
        save_file(tensors, path, metadata={"paradigms": json.dumps({"kind": "denoiser"})})
    return path


@pytest.mark.parametrize(
    "how",
    [
        "missing",
        "truncated",
        "empty",
        "text",
        "no metadata",
        "other metadata",
        "metadata not json",
        "other kind",
        "other weights",
        "incomplete metadata",
        "impossible network",
    ],
)
def test_a_file_that_is_not_ours_is_refused_in_one_sentence(tmp_path: Path, how: str):
    path = broken(tmp_path, how)
    with pytest.raises(ValueError) as refusal:
        load(path)
    message = str(refusal.value)
    assert str(path) in message and "'digits', 'scenes'" in message and "\n" not in message


@pytest.mark.parametrize("name", ["digit", "", "scenes.safetensors"])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str):
    with pytest.raises(ValueError, match="'digits', 'scenes'"):
        load(name)
    with pytest.raises(ValueError, match="'digits', 'scenes'"):
        features(name)


# -- the trainer -----------------------------------------------------------------------------------------------


def test_a_resumed_training_goes_on_exactly_as_if_never_stopped(tmp_path: Path):
    net = {"channels": 3, "widths": (8, 8), "depth": 1, "patch": 4}
    task = replace(TASKS["scenes"], net=net, batch=4, held_out=lambda: (scenes(8, seeded(1)), None))
    run, again = Run(task, 1.0, tmp_path), Run(task, 1.0, tmp_path)
    for _ in range(3):
        run.one_step()
    run.checkpoint()
    again.resume()
    assert again.step == 3
    assert [run.one_step() for _ in range(3)] == [again.one_step() for _ in range(3)]
    assert load(tmp_path / "scenes.safetensors").prediction == "v"


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_the_forward_process_can_be_undone_from_either_prediction(prediction: str):
    x0, t = torch.randn(4, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 10, 500, 999])
    eps = torch.randn_like(x0)
    xt, target = diffuse(x0, t, eps, prediction)
    for row, k in enumerate(t.tolist()):
        oracle = Pretrained(
            "oracle", lambda x, t, label, row=row: target[row : row + 1], (1, 8, 8), prediction, 0, {}, (-1.0, 1.0)
        )
        torch.testing.assert_close(clean(oracle, xt[row : row + 1], k, None), x0[row : row + 1], rtol=1e-6, atol=1e-6)


# -- the shipped weights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits", "scenes"])
def test_shipped_files_are_small_and_ready(name: str):
    assert (shipped_weights("images") / f"{name}.safetensors").stat().st_size < 4_000_000
    assert (shipped_weights("images") / f"{name}-features.safetensors").stat().st_size < 1_000_000
    p = load(name)
    assert p.name == name and p.shape == TASKS[name].shape and p.classes == TASKS[name].net.get("classes", 0)
    assert {w.dtype for w in p.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["digits", "scenes"])
@pytest.mark.parametrize(("t", "part"), [(50, 0.7), (200, 0.7), (400, 0.7), (600, 0.7), (800, 0.95)])
def test_held_out_denoising_beats_the_mean_and_the_best_filter_of_single_pixels(name: str, t: int, part: float):
    p, (x0, label) = load(name), held_out(name)
    x0, label = x0[:128], None if label is None else label[:128]
    eps = torch.randn(x0.shape, generator=seeded(HELD_OUT_SEED))
    xt = diffuse(x0, torch.full((len(x0),), t), eps, p.prediction)[0]
    known, _ = TASKS[name].train(1000, seeded(0))
    mean, spread, abar = known.mean(0), known.var(0), SCHEDULE.alpha.square()[t].item()
    gain = math.sqrt(abar) * spread / (abar * spread + 1 - abar)
    filtered = mean + gain * (xt - math.sqrt(abar) * mean)
    error = (clean(p, xt, t, label) - x0).square().mean()
    assert error < (mean - x0).square().mean()
    assert error < part * (filtered - x0).square().mean()


def test_labels_steer_the_digits():
    p, x = load("digits"), torch.randn(20, 1, 8, 8, generator=seeded(2))
    label, t = torch.arange(20) % 10, torch.full((20,), 600)
    assert (p.model(x, t, label) - p.model(x, t)).square().mean() > 1e-3
    drawn = sample(p, torch.randn(50, 1, 8, 8, generator=seeded(3)), torch.arange(50) % 10, 12, 2.0)
    told = classifier("digits")(drawn).argmax(1)
    assert (told == torch.arange(50) % 10).float().mean() >= 0.8


def test_sampled_scenes_are_nearer_to_scenes_than_noise_or_the_mean_scene_is():
    of, p = features("scenes"), load("scenes")
    real, other = of(scenes(256, seeded(11))), scenes(64, seeded(12))
    drawn = sample(p, torch.randn(40, 3, 32, 32, generator=seeded(13)), None, 12, 1.0)
    spoiled = other.mean(0, keepdim=True) + 0.1 * torch.randn(64, 3, 32, 32, generator=seeded(14))
    assert frechet(of(drawn), real) < 0.5 * frechet(of(spoiled), real)


@pytest.mark.parametrize("name", ["digits", "scenes"])
def test_the_classifiers_recognise_held_out_pictures(name: str):
    if name == "digits":
        x, label = held_out("digits")
    else:
        x, label = labelled_scenes(400, seeded(HELD_OUT_SEED))
    assert (classifier(name)(x).argmax(1) == label).float().mean() > 0.95
    assert features(name)(x).shape == (len(x), 48)


# -- the Frechet distance ------------------------------------------------------------------------------------------


def exact_gaussian(n: int, mean: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Rows whose sample mean and covariance are exactly `mean` and factor factor^T."""
    z = torch.randn(n, len(mean), dtype=torch.float64, generator=seeded(n))
    z = torch.linalg.qr(z - z.mean(0)).Q * math.sqrt(n - 1)
    return mean + z @ factor.T


def test_frechet_of_gaussians_is_the_known_number():
    a = exact_gaussian(50, torch.tensor([1.0, 2.0]).double(), torch.tensor([[2.0, 0.0], [0.0, 1.0]]).double())
    b = exact_gaussian(70, torch.tensor([0.0, 4.0]).double(), torch.tensor([[3.0, 0.0], [0.0, 5.0]]).double())
    assert frechet(a, b) == pytest.approx(1 + 4 + (2 - 3) ** 2 + (1 - 5) ** 2, abs=1e-9)
    c = exact_gaussian(60, torch.zeros(2).double(), torch.tensor([[1.0, 0.0], [2.0, 0.5]]).double())
    product = torch.cov(a.T) @ torch.cov(c.T)
    root = math.sqrt(product.trace() + 2 * math.sqrt(torch.det(product)))  # trace of a 2x2 square root
    expected = 5 + torch.cov(a.T).trace() + torch.cov(c.T).trace() - 2 * root
    assert frechet(a, c) == pytest.approx(expected.item(), abs=1e-9)
    assert frechet(c, a) == pytest.approx(frechet(a, c), abs=1e-9)


def test_frechet_of_a_set_with_itself_is_zero():
    f = torch.randn(40, 48, generator=seeded(0))  # fewer rows than features: a singular covariance
    assert frechet(f, f) == pytest.approx(0, abs=1e-6)


def test_frechet_refuses_what_it_cannot_compare():
    f = torch.randn(5, 3)
    for other in (torch.randn(5, 4), torch.randn(1, 3), torch.randn(5)):
        with pytest.raises(ValueError, match="give"):
            frechet(f, other)
    with pytest.raises(ValueError, match="finite"):
        frechet(f, f / 0)
