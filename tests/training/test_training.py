"""What every training promises: a resumed run is the uninterrupted one; rate and averaged weights are equations."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from training.models import training
from training.models.training import Course, Training

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from training.latent.train import Stage


def ticking() -> Callable[[], float]:
    """A clock that goes on by a second a look."""
    ticks = count()
    return lambda: float(next(ticks))


class Line(Training):
    """Learns y = 2 x - 1 from points of the run's generator."""

    def __init__(self, out: Path, steps: int = 12) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Linear(1, 1), Course("line", 8, 0.1, steps / 60, 4), out, ticking())

    def draw_loss(self) -> Tensor:
        x = torch.randn(self.course.batch, 1, generator=self.generator)
        return (self.model(x) - (2 * x - 1)).square().mean()

    def write(self) -> str:
        return "a line"


class Record(Stage):
    """The same by a stage of the pipeline: its other generator draws the noise."""

    course = Course("told", 8, 0.1, 12 / 60, 4)

    def __init__(self, out: Path) -> None:
        torch.manual_seed(0)
        super().__init__({"line": nn.Linear(1, 1)}, out, None)
        self.clock = ticking()

    def draw_loss(self) -> Tensor:
        x = torch.randn(self.course.batch, 1, generator=self.generator)
        return (self.model["line"](x) - (2 * x - 1) - 0.1 * self.say.random()).square().mean()

    def held_out(self) -> float:
        return 0.0


def stopped(run: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains until the first checkpoint, which is the last thing it does."""
    checkpoint = type(run).checkpoint

    def stop(self: Training) -> None:
        checkpoint(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(training, "SAVE_EVERY", 4.5)
        m.setattr(type(run), "checkpoint", stop)
        run.train()
    assert 0 < run.step < 12


def assert_same(one: Training, other: Training) -> None:
    assert (one.step, one.seconds, one.loss) == (other.step, other.seconds, other.loss)
    for a, b in ((one.model, other.model), (one.average, other.average)):
        for key, value in a.state_dict().items():
            assert torch.equal(value, b.state_dict()[key]), key


@pytest.mark.parametrize("kind", [Line, Record])
def test_a_resumed_run_is_the_uninterrupted_one(
    kind: type[Line] | type[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = kind(tmp_path / "whole")
    whole.train()
    assert whole.step == 12
    stopped(kind(tmp_path / "parts"), monkeypatch)
    second = kind(tmp_path / "parts")
    second.resume()
    second.train()
    assert_same(whole, second)


@pytest.mark.parametrize(("kind", "name"), [(Line, "policy"), (Record, "modules")])
def test_files_with_the_older_names_are_read(kind: type[Line] | type[Record], name: str, tmp_path: Path) -> None:
    first, second = kind(tmp_path), kind(tmp_path)
    first.train()
    state = first.state()
    state[name] = state.pop("model")
    if kind is Record:
        state["clock"] = tuple(state.pop(k) for k in ("step", "seconds", "loss"))
    torch.save(state, first.path)
    second.resume()
    assert_same(first, second)
    assert first.one_step() == second.one_step()


def test_the_rate_warms_up_and_follows_half_a_cosine_of_the_budget(tmp_path: Path) -> None:
    run = Line(tmp_path)
    for k, part in ((0, 0.25), (2, 0.75), (3, 1.0), (50, 1.0)):
        run.step, run.seconds = k, 0.0
        assert run.rate() == pytest.approx(0.1 * part)
    for used, part in ((1 / 3, 0.75), (1 / 2, 0.5), (2 / 3, 0.25), (1.0, 0.0), (2.0, 0.0)):
        run.seconds = 12 * used
        assert run.rate() == pytest.approx(0.1 * part)


def test_averaged_weights_are_those_of_the_equation_and_come_near_the_line(tmp_path: Path) -> None:
    run = Line(tmp_path, 10**6)
    w = run.average.weight.item()
    for k in range(300):
        run.one_step()
        d = min(0.999, (k + 1) / (k + 10))
        w = d * w + (1 - d) * run.model.weight.item()
        assert run.average.weight.item() == pytest.approx(w, rel=1e-4)
    assert (w, run.average.bias.item()) == pytest.approx((2, -1), abs=0.05)
    assert not any(p.requires_grad for p in run.average.parameters())


def test_there_must_be_a_run_to_resume(tmp_path: Path) -> None:
    run = Line(tmp_path)
    assert math.isnan(run.loss)
    with pytest.raises(ValueError, match=r"line\.pt"):
        run.resume()
