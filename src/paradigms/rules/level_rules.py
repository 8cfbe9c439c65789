"""The rules on a chain of given levels, each a table of equation (1).

    ddim, ddpm    a = (s'^2 - c^2)^1/2 / s,   b = alpha' - alpha a,   c = eta times the posterior noise
    dpmsolver     Euler's row, and half the step towards where the last two D point
    heun          x' = x + w (D[n] - D[n-1]) after a row of Euler,   w = (s - s') / (2 s')
    lms           x' = (alpha'/alpha) x + alpha' sum_k w[n,k] e[n-k],   w integrals of Lagrange's polynomials
    gamma         x' = (alpha'/alpha) x - alpha' (r - rp) (gamma e[n] + (1 - gamma) e[n-1]) + alpha' (r'^2 - rp^2)^1/2 z

r = sigma / alpha, rp = (r' / r^mu)^(1 / (1 - mu)). e is the noise that the model sees, (x - alpha D) / sigma. It is
read from the answer as D is, by two coefficients, so that a rule whose taps are e is a table of equation (1), too: D
stands for e there, and the table's alpha is 0, which says that it is no estimate of the data.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ..denoiser import Denoiser, make_denoiser
from ..schedule import Grid
from ..system import System
from ..validate import check_number, check_whole, refusal
from .timestep_grid import OutputReading, clip_of_data, posterior_std, table_of_grid, tolerance_unit, trapezoid_rows
from .timestep_grid import euler_rows as held

# How far a sum that should be 1, such as alpha^2 + sigma^2, may be from it: some units in the last place of float32, in
# which levels are often computed. Chosen by hand.
LEVEL_ERROR = 1e-6


def preserving_levels(g: Grid) -> bool:
    """Whether alpha^2 + sigma^2 = 1 throughout."""
    return bool(((g.alpha**2 + g.sigma**2 - 1).abs() < LEVEL_ERROR).all())


def single_steps(
    g: Grid, rule: str, eta: float, start: float, clip: float | str | None, output: OutputReading
) -> System:
    """DDIM, DDPM, DPM-Solver++(2M)."""
    if rule == "dpmsolver":
        limit = clip_of_data(clip, g.alpha, g.alpha)[0]
        a, b = held(g)
        half = _second_order(g, b)
        return table_of_grid(g, a, [b + half, -half], replace(output, clip=limit), start=start)
    c = (1.0 if rule == "ddpm" else eta) * posterior_std(g)
    a = (g.sigma_next**2 - c**2).clamp(min=0).sqrt() / g.sigma
    b = g.alpha_next - g.alpha * a
    limit, gain = clip_of_data(clip, b, g.alpha_next)
    output = replace(output, clip=limit, clip_gain=None if rule == "ddpm" else gain)
    return table_of_grid(g, a, [b], output, c=c, start=start)


def _second_order(g: Grid, b: Tensor) -> Tensor:
    """b / (2 r0) (N,) of DPM-Solver++(2M), r0 = the last row's step in log(alpha / sigma) over this one's; 0 in the
    first row, and in a last one that ends without noise, which are of first order."""
    lam, lam_next = (g.alpha / g.sigma).log(), (g.alpha_next / g.sigma_next).log()
    before = lam - lam.roll(1)
    half = b / 2 * (lam_next - lam) / before
    half[0] = 0
    half[before == 0] = 0
    if g.sigma_next[-1] == 0:
        half[-1] = 0
    return half


def heun_steps(g: Grid, beyond: bool, start: float, output: OutputReading) -> System:
    """The trapezoid in the scale where the ODE is dx/ds = (x - D) / s: of the states where alpha, or alpha + sigma, is
    1, and else of states divided by alpha.

    beyond: the last row of the grid is there for the model to be asked at its level, and is left out.
    """
    weight = None
    alike = any(bool(((v - 1).abs() < LEVEL_ERROR).all()) for v in (g.alpha, g.alpha + g.sigma))
    if not alike:
        r, r_next = g.sigma[:-1] / g.alpha[:-1], g.sigma[1:] / g.alpha[1:]
        weight = g.alpha[1:] * (r - r_next) / (2 * r_next)
    system = trapezoid_rows(g, start, output, weight)
    return _first(system, len(system) - 1) if beyond else system


def _first(system: System, N: int) -> System:
    """The first N rows of a table."""
    reader = system.denoiser
    reader = replace(reader, **{k: getattr(reader, k)[:N] for k in ("into", "p", "q", "gain")})
    rows = {k: getattr(system, k)[:N] for k in ("t", "a", "b", "c", "std", "alpha", "sigma")}
    return replace(system, denoiser=reader, **rows)


def epsilon_steps(
    g: Grid, rule: str, order: int, how: tuple[float, float], start: float, output: OutputReading
) -> System:
    """The rules whose taps are the noise that the model sees."""
    if bool((g.alpha == 0).any()):
        raise refusal(
            "alpha", "0 at the first level", f"a little signal at every level for rule {rule!r}", "rule='ddim'"
        )
    ratio = torch.cat([g.sigma / g.alpha, (g.sigma_next / g.alpha_next)[-1:]])
    c = torch.zeros_like(g.sigma)
    if rule == "lms":
        check_whole("order", order, "a whole number from 1 to 8", 1, 8)
        weights = adams_bashforth(ratio, order)
    else:
        gamma, mu = how
        check_number("gamma", gamma, "a positive, finite number; 1 is DDIM", lambda v: 0 < v < math.inf)
        check_number("mu", mu, "a number from 0 (no noise) to less than 1", lambda v: 0 <= v < 1)
        to = (ratio[1:] / ratio[:-1] ** mu) ** (1 / (1 - mu))
        c = g.alpha_next * (ratio[1:] ** 2 - to**2).clamp(min=0).sqrt()
        weights = (to - ratio[:-1])[:, None] * torch.tensor([gamma, 1 - gamma], dtype=torch.float64)
        weights[0] = (to - ratio[:-1])[0] * torch.tensor([1.0, 0.0], dtype=torch.float64)
    reader = make_denoiser(g.alpha, g.sigma, g.into, prediction=output.prediction)
    p = (1 / g.into - g.alpha * reader.p) / g.sigma
    p[p.abs() < 1e-12 / g.into] = 0  # of an epsilon model, but for rounding
    reader = Denoiser(g.into, p, -g.alpha * reader.q / g.sigma, torch.ones_like(p))
    zero = torch.zeros_like(g.alpha)
    return System(
        g.t,
        g.alpha_next / g.alpha,
        g.alpha_next[:, None] * weights,
        c,
        tolerance_unit(g),
        zero,
        zero + 1,
        reader,
        start,
    )


def adams_bashforth(s: Tensor, order: int) -> Tensor:
    """w (N, order): the integral over [s[n], s[n+1]] of Lagrange's polynomial that is 1 at s[n-k], 0 at the others."""
    N = len(s) - 1
    w = s.new_zeros(N, order)
    nodes, weights = _gauss(order)
    for n in range(N):
        known = s[max(n - order + 1, 0) : n + 1].flip(0)  # s[n], s[n-1], ...
        at = (s[n + 1] + s[n]) / 2 + (s[n + 1] - s[n]) / 2 * nodes
        for k in range(len(known)):
            others = torch.cat([known[:k], known[k + 1 :]])
            value = ((at[:, None] - others) / (known[k] - others)).prod(1)
            w[n, k] = (s[n + 1] - s[n]) / 2 * (weights * value).sum()
    return w


def _gauss(order: int) -> tuple[Tensor, Tensor]:
    """Gauss and Legendre's nodes and weights on [-1, 1], exact for polynomials of degree 2 order - 1."""
    k = torch.arange(1, order, dtype=torch.float64)
    off = k / (4 * k**2 - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1) + torch.zeros(order, order).double())
    return nodes, 2 * vectors[0] ** 2


def preconditioned_reader(system: System, sigma_data: float) -> Denoiser:
    """The reader of EDM's network at the levels of a table of states data + sigma noise."""
    s, one = system.sigma, torch.ones_like(system.sigma)
    total = (s**2 + sigma_data**2).sqrt()
    into = 1 / total
    clip, threshold = system.denoiser.clip, system.denoiser.threshold
    return Denoiser(into, sigma_data**2 / total, s * sigma_data / total, one, clip, threshold, "edm")
