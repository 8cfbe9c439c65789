"""What surrounds a call is the model's, not the sampler's: under autocast states stay in their dtype."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import paradigms as pd
from problems import LINEAR, METHODS, seeded


class Net(nn.Module):
    """A network that notes what it computes in."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.outer = nn.Linear(16, 32), nn.Linear(32, 16)
        self.given, self.inside = set[torch.dtype](), set[torch.dtype]()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = self.inner(x)
        self.given.add(x.dtype)
        self.inside.add(h.dtype)
        return self.outer(torch.tanh(h)) * (1 + t[:, None] / 1000)  # type: ignore[no-any-return]


class Cast(nn.Module):
    """The same network, under an autocast of its own and no other."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.net(x, t)  # type: ignore[no-any-return]


X = torch.randn(2, 16, generator=seeded(0))
NAMES = [type(m).__name__ + str(k) for k, m in enumerate(METHODS)]


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_sampling_under_autocast_is_sampling_a_model_that_casts(method: pd.AbstractMethod) -> None:
    """A12: the same bytes, so that neither states nor noise nor corrections were computed in half precision."""
    system = pd.ddpm(LINEAR, 12)
    how: dict[str, Any] = {"window": 5, "tolerance": 0.0, "verify": True}
    wanted = pd.sample(Cast(), system, X, method, generator=seeded(1), **how)
    with torch.autocast("cpu", torch.bfloat16):
        net = Net()
        found = pd.sample(net, system, X, method, generator=seeded(1), compare=True, **how)
        assert torch.is_autocast_enabled("cpu")
    assert net.inside == {torch.bfloat16} and net.given == {torch.float32}
    assert found.x.dtype == torch.float32 and torch.equal(found.x, wanted.x) and found.trace == wanted.trace
    assert found.comparison is not None and found.comparison.x.dtype == torch.float32


def test_stepping_and_frames_under_autocast_are_in_the_states_dtype() -> None:
    """A12; between two frames autocast and gradients are what the caller has."""
    system, net = pd.ddpm(LINEAR, 12), Net()
    wanted = pd.sequential(Cast(), system, X, generator=seeded(1))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(pd.sequential(net, system, X, generator=seeded(1)), wanted)
        for frame in pd.iterate(net, system, X, window=5, generator=seeded(1)):
            assert frame.x.dtype == torch.float32
            assert torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()
    assert net.inside == {torch.bfloat16} and not torch.is_autocast_enabled("cpu")


def test_a_default_device_is_the_models_and_not_the_solvers() -> None:
    """As `torch.set_default_device("cuda")` sets it; here one that holds no numbers, so that a use of it fails."""
    system, places = pd.ddpm(LINEAR, 30), set[str]()
    x = torch.randn(2, 16, generator=seeded(0))

    def model(x: Tensor, t: Tensor) -> Tensor:
        places.add(torch.zeros(1).device.type)
        return x / 2

    how: dict[str, Any] = {"window": 8, "compare": True}
    alone = pd.sample(model, system, x, generator=seeded(1), **how)
    with torch.device("meta"):
        inside = pd.sample(model, system, x, generator=seeded(1), **how)
        frames = list(pd.iterate(model, system, x, window=8, generator=seeded(1)))
    assert torch.equal(inside.x, alone.x) and torch.equal(frames[-1].last, alone.x) and places == {"cpu", "meta"}


def test_autocast_that_is_off_inside_stays_off() -> None:
    """A12: a sampler that is called where autocast was turned off again."""
    net = Net()
    with torch.autocast("cpu", torch.bfloat16), torch.autocast("cpu", enabled=False):
        pd.sample(net, pd.ddim(LINEAR, 5), X)
    assert net.inside == {torch.float32}


def test_an_error_leaves_what_surrounds_it() -> None:
    def model(x: Tensor, t: Tensor) -> Tensor:
        raise KeyError("the user's own")

    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(KeyError, match="own"):
            pd.sample(model, pd.ddim(LINEAR, 5), X)
        assert torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is torch.bfloat16
        assert torch.is_grad_enabled()
