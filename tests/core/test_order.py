"""Order of convergence on a problem with a known answer: one Gaussian, whose ODE solves in closed form.

In Karras space (alpha = 1) data N(mu, w^2) give dx/dsigma = sigma (x - mu) / (w^2 + sigma^2), so
x(0) = mu + (x(sigma) - mu) w / sqrt(w^2 + sigma^2).
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

import paradigms as pd
from paradigms.rules.timestep_grid import OutputReading, euler_rows, table_of_grid, trapezoid_rows
from paradigms.schedule import chain

MU, WIDTH, TOP = 0.3, 0.7, 5.0


def denoised(x: Tensor, t: Tensor) -> Tensor:
    """E[data | x] where t is sigma itself."""
    t = t.reshape(-1, 1).to(x)
    return (WIDTH**2 * x + t**2 * MU) / (WIDTH**2 + t**2)


def error(order: int, steps: int) -> float:
    """Distance of the sequential sample from the closed form; sigma runs evenly from TOP to 0.5."""
    sigma = torch.linspace(TOP, 0.5, steps + 1, dtype=torch.float64)
    grid = chain(sigma[:-1], torch.ones_like(sigma), sigma)
    if order == 1:
        a, b = euler_rows(grid)
        system = table_of_grid(grid, a, [b], OutputReading("x0", None, None))
    else:
        # trapezoid ends with an Euler row, so let it end one row further on
        system = trapezoid_rows(
            chain(sigma, torch.ones(steps + 2).double(), torch.cat([sigma, sigma[-1:]])),
            1.0,
            OutputReading("x0", None, None),
        )
    x = torch.tensor([[4.0]], dtype=torch.float64)
    exact = MU + (4.0 - MU) * math.sqrt((WIDTH**2 + 0.25) / (WIDTH**2 + TOP**2))
    return abs(float(pd.sequential(denoised, system, x)) - exact)


@pytest.mark.parametrize(("order", "name"), [(1, "Euler"), (2, "Heun")])
def test_order_of_convergence(order: int, name: str) -> None:
    errors = [error(order, steps) for steps in (40, 80, 160, 320)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(abs(o - order) < 0.1 for o in orders), (name, orders)


def test_the_multistep_and_single_step_dpmsolvers_are_of_second_order_too() -> None:
    """By halving the step against a fine DDIM run, on the linear schedule to its first timestep's noise."""
    from toy import Mixture

    x = torch.randn(1, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    schedule = pd.linear(T=100000, start=1e-6, end=2e-4)
    fine = pd.sequential(
        Mixture(schedule=schedule, width=0.8), pd.dpmsolver(schedule, 800, final_zero=False, karras=True), x
    )
    for rule in (pd.dpmsolver, pd.dpmsolver_single):
        errors = []
        for steps in (30, 60, 120):
            system = rule(schedule, steps, final_zero=False, karras=True)
            errors.append(float((pd.sequential(Mixture(schedule=schedule, width=0.8), system, x) - fine).norm()))
        orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
        assert all(1.6 < o < 2.6 for o in orders), (rule.__name__, orders, errors)
