"""A scheduler run on unit vectors: every coefficient of what it does can be read off, if it is linear.

    x[n+1] = sum_j X[n,j] x[j] + M[n,j] m[j] + Z[n,j] z[j] + G[n,j] g[j],        j <= n                     (3)

x[j] is the state that row j was given, m[j] what the model said, z[j] the noise drawn, and g[j] = limit(D) - D how far
a clip or a threshold moved the data estimate D. Each is one coordinate of the state that the scheduler steps; draws and
limits inside it are tapped. Its scalars stay as it rounds them, states are float64 whatever it casts them to.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .levels import noise_levels

PASSED = {"model_output", "timestep", "sample", "old_pred_original_sample", "timestep_back", "prev_timestep"}
NORMAL = {torch.randn, torch.randn_like, torch.normal, torch.Tensor.normal_}
OTHER_DRAWS = {
    torch.rand, torch.rand_like, torch.randint, torch.multinomial, torch.bernoulli, torch.Tensor.uniform_,
    torch.Tensor.multinomial, torch.Tensor.bernoulli_, torch.Tensor.exponential_,
}  # fmt: skip
CASTS = {torch.Tensor.to, torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16, torch.Tensor.type}
CLAMPS = {torch.clamp, torch.clip, torch.Tensor.clamp, torch.Tensor.clip, torch.Tensor.clamp_}


@dataclass(frozen=True)
class Reading:
    """Equation (3) of one scheduler: t, into, alpha, sigma, P, Q, draws (N,), X, M, G (N, N), Z (N, N, 2).

    D = P x + Q m is the denoised estimate of a state that holds alpha data + sigma noise; nan where that is not known.
    A row may draw twice: Z[n, j] are the weights of both. `clip` and `threshold` are the limits that were met.
    """

    t: Tensor
    into: Tensor
    alpha: Tensor
    sigma: Tensor
    P: Tensor
    Q: Tensor
    draws: Tensor
    X: Tensor
    M: Tensor
    G: Tensor
    Z: Tensor
    clip: float | None
    threshold: tuple[float, float] | None


class Tap(TorchFunctionMode):
    """Within it normal draws are `draw()`, clamps of a state go to `limit`, and no cast narrows a state of `shape`."""

    def __init__(
        self, shape: tuple[int, ...], draw: Callable[[], Tensor], limit: Callable[[Tensor, float], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.shape, self.draw, self.limit = shape, draw, limit

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in OTHER_DRAWS:
            raise NotImplementedError(f"it draws with {func.__name__}, and only normal noise is linear")
        if func in NORMAL:
            return args[0].copy_(self.draw()) if func is torch.Tensor.normal_ else self.draw()
        if not (args and isinstance(args[0], Tensor) and args[0].shape == self.shape):
            return func(*args, **kwargs)
        if func in CLAMPS and self.limit is not None:
            low, high = (*args[1:], *kwargs.values(), None, None)[:2]
            if not isinstance(high, int | float) or low != -high:
                raise NotImplementedError(f"it clamps its state to ({low}, {high}), which is no limit of the estimate")
            return self.limit(args[0], float(high))
        made = func(*args, **kwargs)
        narrowed = func in CASTS and isinstance(made, Tensor) and made.is_floating_point()
        return args[0] if narrowed else made


def walk_scheduler(
    scheduler: Any,
    state: Callable[[int, Tensor | None], Tensor],
    model: Callable[[int, Tensor, Tensor], Tensor],
    step: Mapping[str, Any],
) -> Iterator[Tensor]:
    """Each y[n] = step(x[n]) of the loop that pipelines run: x[n] = state(n, y[n-1]), m[n] = model(n, t, shown)."""
    y = old = None
    t, takes = list(scheduler.timesteps), inspect.signature(scheduler.step).parameters
    for n in range(len(t)):
        x = state(n, y)
        told = t[n].expand(len(x)) if hasattr(scheduler, "_alpha_cumprod") else t[n]  # Wuerstchen's asks for (B,)
        shown = scheduler.scale_model_input(x, told) if hasattr(scheduler, "scale_model_input") else x
        given = {"model_output": model(n, t[n], shown), "timestep": told, "sample": x}
        carried = {
            "old_pred_original_sample": old,
            "timestep_back": t[n - 1] if n else None,
            "prev_timestep": t[n + 1] if n + 1 < len(t) else None,
        }
        given.update((k, v) for k, v in carried.items() if k in takes)
        try:
            out = scheduler.step(**given, **step)
        except IndexError:
            if n == len(t) - 1 > 0:  # a last timestep that has no next is the end of the chain and no row
                return
            raise
        y = out.prev_sample if hasattr(out, "prev_sample") else out[0]
        old = out[1] if "old_pred_original_sample" in takes else None
        yield y


def read_steps(scheduler: Any, step: Mapping[str, Any]) -> Reading:
    """Equation (3) of a scheduler whose timesteps are set, and which is spent by it.

    Raises NotImplementedError where it draws, limits or scales in a way that (3) does not hold.
    """
    units = _Units(scheduler)
    scheduler._threshold_sample = units.threshold
    with torch.no_grad(), Tap(units.shape, units.draw, units.limit):
        y = torch.stack([y.flatten().clone() for y in walk_scheduler(scheduler, units.state, units.model, step)])
    N, n = units.N, len(y)
    if not bool(torch.isfinite(y).all()):
        raise NotImplementedError("it gives numbers that are not finite (as an epsilon model does at zero SNR)")
    if bool(y[:, -1].any()):
        raise NotImplementedError("it adds what is neither state nor answer nor noise, so it is not linear in them")
    X, M, G = (part[:, :n] for part in y[:, : 3 * N].split(N, 1))
    Z = y[:, 3 * N : -1].unflatten(1, (N, 2))[:, :n]
    t, into, draws = (v[:n] for v in (scheduler.timesteps, units.into, units.draws))
    alpha, sigma, P, Q = units.known[:, :n]
    return Reading(t.clone(), into, alpha, sigma, P, Q, draws, X, M, G, Z, units.clip, units.quantile)


class _Units:
    """The unit vectors, and what came to light while a scheduler stepped them.

    Coordinates: x, m, g (N each), z (2N), and a last one that nothing linear reaches.
    """

    def __init__(self, scheduler: Any) -> None:
        self.scheduler, self.N, self.row = scheduler, len(scheduler.timesteps), 0
        self.shape = (1, 5 * self.N + 1, 1, 1)
        self.into, self.draws = torch.ones(self.N, dtype=torch.float64), torch.zeros(self.N, dtype=torch.long)
        self.known = torch.full((4, self.N), torch.nan, dtype=torch.float64)  # alpha, sigma, P, Q
        self.clip: float | None = None
        self.quantile: tuple[float, float] | None = None

    def unit(self, place: int) -> Tensor:
        e = torch.zeros(self.shape, dtype=torch.float64)
        e[0, place] = 1
        return e

    def state(self, n: int, y: Tensor | None) -> Tensor:
        self.row = n
        return self.unit(n)

    def model(self, n: int, t: Tensor, shown: Tensor) -> Tensor:
        self.into[n] = shown[0, n]
        if not torch.equal(shown, self.unit(n) * self.into[n]):
            raise NotImplementedError("what it shows the model is no multiple of the state")
        self.known[:, n] = torch.tensor(noise_levels(self.scheduler, t, float(self.into[n])), dtype=torch.float64)
        return self.unit(self.N + n)

    def draw(self) -> Tensor:
        self.draws[self.row] += 1
        if self.draws[self.row] > 2:
            raise NotImplementedError("it draws more than two noises a step")
        return self.unit(3 * self.N + 2 * self.row + int(self.draws[self.row]) - 1)

    def limit(self, D: Tensor, bound: float) -> Tensor:
        self.clip = bound
        return self.pushed(D)

    def threshold(self, D: Tensor) -> Tensor:
        config = self.scheduler.config
        self.quantile = config["dynamic_thresholding_ratio"], config["sample_max_value"]
        return self.pushed(D)

    def pushed(self, D: Tensor) -> Tensor:
        place = [self.row, self.N + self.row]
        flat = D.flatten()
        self.known[2:, self.row] = flat[place]
        others = flat.nan_to_num(0)  # what is not finite is found later, and named
        others[place] = 0
        if bool(others.any()):
            raise NotImplementedError("it limits something other than this step's data estimate")
        return D + self.unit(2 * self.N + self.row)
