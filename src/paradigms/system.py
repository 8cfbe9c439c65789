"""A sampler is a table, and its rows carry the state from noise x[0] to sample x[N]:

    x[n+1] = a[n] x[n] + sum_k b[n,k] D[n-k] + c[n] z[n]                                                    (1)

D[n] is the model's denoised estimate at row n (see `denoiser.py`), z[n] standard noise, k = 0..K-1 the taps of a
multistep rule. The rules that fill the table are in `rules/`; nothing else knows one rule from another.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from .denoiser import Denoiser
from .validate import check_number, in_words, named_arguments, refusal

# The dtypes that states may have.
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

T = TypeVar("T")


class Coefficients(NamedTuple):
    """The numbers of rows (W, B), or (W, 1, ...) where all samples stand at the same row.

    Attributes:
        a, c, std, alpha: As in `System`.
        total: The sum of b over its taps.
        p, q, gain: As in `Denoiser`.
        b: As in `System`, one tensor for each tap.
    """

    a: Tensor
    c: Tensor
    std: Tensor
    alpha: Tensor
    total: Tensor
    p: Tensor
    q: Tensor
    gain: Tensor
    b: tuple[Tensor, ...]

    def step(self, x: Tensor, D: Tensor, z: Tensor | None) -> Tensor:
        """Equation (1), as `System.step` has it."""
        y = expand_like(self.a, x) * x
        for k, b in enumerate(self.b):
            first = len(D) - len(x) - k
            y.addcmul_(expand_like(b, x), D[first : first + len(x)] if len(D) > len(x) else D)
        return y if z is None else y.addcmul_(expand_like(self.c, x), z)


@dataclass(frozen=True, eq=False)
class System:
    """A sampler as a table: one row a step, from noise x[0] to the sample x[N].

    The step is ``x[n+1] = a[n] x[n] + sum_k b[n,k] D[n-k] + c[n] z[n]``, D the model's denoised estimate and z noise.
    Made by a rule such as `ddim`, or by `from_scheduler`. `len(system)` is N.

    Attributes:
        t: What the model is given at each step (N,).
        a: Factor of the state (N,), float64 as all below.
        b: Factors of the last K denoised estimates (N, K).
        c: Factor of the noise (N,), 0 for deterministic rules.
        std: The noise that DDPM would add at each step (N,), never 0: the unit of `StepNoise` and `residual`.
        alpha: Signal in state x[n] (N,).
        sigma: Noise in state x[n] (N,).
        denoiser: How a model output becomes a denoised estimate.
        start: Standard deviation of x[0]; None takes any x, as the tables of loops that draw x[0] themselves do.

    Raises:
        ValueError: The tensors are no such table.
    """

    t: Tensor
    a: Tensor
    b: Tensor
    c: Tensor
    std: Tensor
    alpha: Tensor
    sigma: Tensor
    denoiser: Denoiser
    start: float | None = 1.0

    def __post_init__(self) -> None:
        check_table(self)

    def __len__(self) -> int:
        return len(self.t)

    @property
    def taps(self) -> int:
        """K, how many denoised estimates a step uses, 1 or, for the multistep solvers, 2."""
        return self.b.shape[1]

    @property
    def history(self) -> int:
        """Denoised estimates that are kept from before a window, at least 1 to extrapolate from."""
        return max(self.taps - 1, 1)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> System:
        """The same table on a device, with coefficients and fractional times in `dtype`; made once and kept."""

        def moved() -> System:
            columns = {k: getattr(self, k).to(device, dtype) for k in ("a", "b", "c", "std", "alpha", "sigma")}
            t = self.t.to(device, dtype if self.t.is_floating_point() else self.t.dtype)
            return replace(self, t=t, denoiser=self.denoiser.to(device, dtype), **columns)

        return self.once(("to", device, dtype), moved)

    def once(self, what: Hashable, make: Callable[[], T]) -> T:
        """What `make` computes from this table, computed when it is first asked for under the name `what` and kept."""
        return self._kept[what] if what in self._kept else self._kept.setdefault(what, make())  # type: ignore[no-any-return]

    @cached_property
    def _kept(self) -> dict[Hashable, Any]:
        return {}

    @cached_property
    def drawn(self) -> list[bool]:
        """Whether row n draws noise."""
        return (self.c != 0).tolist()  # type: ignore[no-any-return]

    @cached_property
    def stds(self) -> list[float]:
        """std as plain numbers."""
        return self.std.tolist()  # type: ignore[no-any-return]

    def step(self, x: Tensor, D: Tensor, z: Tensor | None, n: Tensor) -> Tensor:
        """Takes steps n (W, B) from states x: equation (1).

        Args:
            x: States (W, B, ...).
            D: Denoised estimates (H + W, B, ...), of which the first H >= K - 1 are of the steps before.
            z: Standard noise (W, B, ...), or None for deterministic rules.
            n: Step numbers (W, B).

        Returns:
            The states after the steps (W, B, ...).
        """
        return self.rows(n).step(x, D, z)

    def rows(self, n: Tensor | slice, ndim: int = 2) -> Coefficients:
        """The numbers of rows n (W, B), or of a slice of the table as (W, 1, ...) of `ndim` axes, in two calls."""
        columns = self._columns(ndim)[:, n] if isinstance(n, slice) else self._columns(3)[:, n, 0, 0]
        a, c, std, alpha, total, p, q, gain, *b = columns.unbind()
        return Coefficients(a, c, std, alpha, total, p, q, gain, tuple(b))

    @cached_property
    def numbers(self) -> Tensor:
        """The rows' numbers (N,), where the table lies."""
        return torch.arange(len(self), device=self.a.device)

    def _columns(self, ndim: int) -> Tensor:
        """What `rows` looks up, as one tensor (8 + K, N, 1, ...)."""

        def made() -> Tensor:
            reader, own = self.denoiser, (self.a, self.c, self.std, self.alpha, self.b.sum(1))
            columns = torch.stack([*own, *(v.to(self.a) for v in (reader.p, reader.q, reader.gain)), *self.b.unbind(1)])
            return columns.reshape(*columns.shape, *(1,) * (ndim - 1))

        return self.once(("columns", ndim), made)

    @named_arguments
    def noise(
        self,
        shape: tuple[int, ...],
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draws starting states x[0].

        Args:
            shape: (B, ...).
            generator: torch's default generator if None.
            dtype: Of the states; torch's default if None.
            device: Where they are; torch's default if None.

        Returns:
            `start` times standard noise, of `shape`.

        Raises:
            ValueError: An argument cannot be used, or `start` is None.

        Example:
            >>> import torch, paradigms as pd
            >>> pd.ddim(pd.linear(), 50).noise((1, 3, 32, 32), torch.Generator().manual_seed(0)).shape
            torch.Size([1, 3, 32, 32])
        """
        if self.start is None:
            raise refusal("system: start", "None", "the standard deviation of x[0]", "replace(system, start=1.0)")
        place = check_noise_arguments(shape, generator, dtype, device)
        return torch.randn(shape, generator=generator, dtype=dtype, device=place) * self.start


def check_table(system: System) -> None:
    """Raises ValueError unless the tensors of a system are a table of equation (1)."""
    for name in ("t", "a", "b", "c", "std", "alpha", "sigma"):
        if not isinstance(v := getattr(system, name), Tensor) or v.ndim != 1 + (name == "b"):
            needed = "a tensor (N, K)" if name == "b" else "a tensor (N,), one for each row"
            raise refusal(f"system: {name}", in_words(v), needed)
        if v.layout != torch.strided or v.device.type == "meta":
            raise refusal(f"system: {name}", f"a tensor of {v.layout} on {v.device}", "a dense one with numbers")
        if v.is_complex() or v.dtype == torch.bool or not (name == "t" or v.is_floating_point()):
            raise refusal(f"system: {name}", f"a tensor of {v.dtype}", "real numbers", ".double()")
    if not isinstance(system.denoiser, Denoiser):
        raise refusal(
            "system: denoiser", in_words(system.denoiser), "a Denoiser, as make_denoiser(alpha, sigma, into) makes it"
        )
    if system.start is not None:
        needed = "the standard deviation of x[0], a positive number, or None"
        check_number("system: start", system.start, needed, lambda v: 0 < v < inf)
    N = len(system.t)
    lengths = (len(v) for v in (system.a, system.b, system.c, system.std, system.alpha, system.sigma))
    if N < 1 or system.b.shape[1] < 1 or any(n != N for n in lengths):
        raise ValueError(
            f"system: t has {N} rows; a, c, std, alpha, sigma need ({N},) and b needs ({N}, K) with K >= 1"
        )
    reader = system.denoiser
    for name in ("into", "p", "q", "gain"):
        v = getattr(reader, name)
        if not isinstance(v, Tensor) or v.shape != (N,) or not bool(torch.isfinite(v).all()):
            raise refusal(f"system: denoiser: {name}", in_words(v), f"({N},), a finite number for each row")
    if any(bool(system.b[n, n + 1 :].any()) for n in range(min(N, system.taps))):
        raise ValueError("system: b: a row reaches further back than the first row; use a lower order there")
    for name in ("t", "a", "b", "c", "std", "alpha", "sigma"):
        if not bool(torch.isfinite(getattr(system, name)).all()):
            raise ValueError(f"system: {name} is not finite; an epsilon model cannot start at zero SNR: use v or x0")
    if not bool((system.std > 0).all()):
        raise ValueError("system: std must be positive at every row: it is the unit of the tolerance")


def check_noise_arguments(
    shape: tuple[int, ...],
    generator: torch.Generator | None,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
) -> torch.device | None:
    """Raises ValueError for an argument of `System.noise` that cannot be used; returns the device."""
    if not isinstance(shape, tuple | list) or not all(type(n) is int and n > 0 for n in shape) or not shape:
        raise refusal("shape", str(shape), "whole numbers (batch, ...)", "system.noise((1, 3, 32, 32))")
    if generator is not None and not isinstance(generator, torch.Generator):
        raise refusal("generator", in_words(generator), "a torch.Generator", "torch.Generator().manual_seed(0)")
    if dtype is not None and dtype not in FLOATS:
        raise refusal("dtype", in_words(dtype), "a floating-point torch.dtype, or None", "torch.float32")
    try:
        place = None if device is None else torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, TypeError, AssertionError) as error:
        needed = "a torch.device that this machine has, its name, or None"
        raise refusal("device", in_words(device), needed, "'cpu' or 'cuda'") from error
    return place


def expand_like(coefficient: Tensor, x: Tensor) -> Tensor:
    """A coefficient (W, B, 1, ...) as (W, B, 1, ...) of as many axes as states x (W, B, ...), to multiply them."""
    more = x.ndim - coefficient.ndim
    return coefficient.reshape((coefficient.shape + (1,) * more)[: x.ndim]) if more else coefficient


def masked_rows(mask: Tensor | None, v: Tensor, other: Tensor | float = 0) -> Tensor:
    """v (W, B, ...) where mask (W, B), which is on the CPU, is true, and `other` elsewhere; None is true throughout."""
    if mask is None:
        return v
    return torch.where(expand_like(mask.to(v.device, non_blocking=True), v), v, other)
