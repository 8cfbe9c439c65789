"""Training policies: the windows of episodes, and a resumed run that is the uninterrupted one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("safetensors")

from paradigms.policies.recipes import Recipe
from paradigms.policies.store import load_policy
from paradigms.policies.tasks.task import load_task
from training.policies.demos import Demos
from training.policies.train import STILL, Run, Windows

TASK = load_task("pusht")


def demos(*lengths: int) -> Demos:
    """Episodes whose observation and action at step k hold k, and the number of the episode."""
    steps = np.concatenate([np.arange(n) for n in lengths])
    which = np.repeat(np.arange(len(lengths)), lengths)
    o = np.zeros((len(steps), TASK.observation))
    o[:, 0], o[:, 1] = steps, which
    return Demos(o, np.stack([steps, which], 1), np.cumsum(lengths), np.arange(len(lengths)))


def test_windows_stay_in_their_episode_and_repeat_its_edges() -> None:
    windows = Windows.of(demos(20, 3), TASK)
    # from 1 before the first step to 7 after the last: 20 + 1 + 7 - 15 windows, and the short episode has 1
    assert len(windows) == 13 + 1
    obs, actions = windows[torch.arange(14)]
    for n in range(13):
        steps = np.clip(np.arange(n - 1, n + 15), 0, 19)
        assert actions[n, :, 0].tolist() == steps.tolist()
        assert obs[n, :, 0].tolist() == steps[:2].tolist()
        assert not actions[n, :, 1].any() and not obs[n, :, 1].any()
    assert actions[13, :, 0].tolist() == [0, 0, 1] + 13 * [2]
    assert actions[13, :, 1].tolist() == 16 * [1]


def test_what_demonstrations_hold_still_does_not_become_huge_when_touched(tmp_path: Path) -> None:
    policy = run(tmp_path, 1.0, Clock()).model
    seen = torch.zeros(TASK.observation)
    seen[0], seen[2] = 29.0, 0.1  # as far as the demonstrations go; 0.1 beyond what they never moved
    normal = policy.normalizer["obs"].normalize(seen)
    assert normal[0] == 1.0 and normal[2].item() == pytest.approx(0.1 / STILL)


class Clock:
    """A second a look."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def run(out: Path, minutes: float, clock: Callable[[], float], rate: float = 8e-4) -> Run:
    recipe = Recipe("tiny", "pusht", "unet", 1.0, {"widths": (8, 16), "embed": 8}, rate, 4, store=torch.float32)
    return Run(recipe, demos(20, 30), minutes, out, clock)


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tmp_path / "whole", 0.2, Clock())
    whole.train()
    assert whole.step == 12

    def stop(self: Run) -> None:
        checkpoint(self)
        raise KeyboardInterrupt

    checkpoint = Run.checkpoint
    first = run(tmp_path / "parts", 0.2, Clock())
    with monkeypatch.context() as m:
        m.setattr("training.models.training.SAVE_EVERY", 4.5)
        m.setattr(Run, "checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            first.train()
    assert 0 < first.step < 12
    second = run(tmp_path / "parts", 0.2, Clock())
    second.resume()
    second.train()
    assert second.step == 12
    for a, b in zip(whole.average.parameters(), second.average.parameters(), strict=True):
        assert torch.equal(a, b)
    written = load_policy(tmp_path / "parts" / "tiny.safetensors")
    for key, value in whole.average.state_dict().items():
        assert torch.equal(written.state_dict()[key], value), key


def test_the_loss_falls(tmp_path: Path) -> None:
    tiny = run(tmp_path, 1.0, Clock(), rate=0.1)
    losses = [tiny.one_step() for _ in range(60)]
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:20])
