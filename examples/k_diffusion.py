"""A denoiser of k-diffusion's kind, denoise(x, sigma), in parallel: DPM-Solver++(2M) on Karras levels as a table.

x' = (s'/s) x + (1 - s'/s) ((1 + k) D[n] - k D[n-1]),    k = log(s/s') / log(s before/s) / 2,  0 in the end rows

python examples/k_diffusion.py --compare        # the denoiser is made of the digits model, which ships
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

import paradigms
from paradigms.denoiser import make_denoiser
from paradigms.models import load


def karras(steps: int, least: float = 0.03, most: float = 80.0, rho: float = 7.0) -> Tensor:
    """Levels s (steps + 1,) from most to least, and 0. Source: Karras et al. 2022, eq. 5."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    return torch.cat([(most ** (1 / rho) + ramp * (least ** (1 / rho) - most ** (1 / rho))) ** rho, torch.zeros(1)])


def dpmpp_2m(s: Tensor) -> paradigms.System:
    """The table: states x = data + s noise, shown to the model as they are, with s for a time."""
    now, after = s[:-1], s[1:]
    h, a, one = (now / after).log(), after / now, torch.ones_like(now)
    k = h / h.roll(1) / 2
    k[0] = k[-1] = 0
    b = torch.stack([(1 - a) * (1 + k), -(1 - a) * k], 1)
    std = after.clamp(min=float(s[-2])) * (1 - a**2).clamp(min=0.01).sqrt()  # the unit of residuals
    reader = make_denoiser(one, now, one, prediction="x0")
    return paradigms.System(now, a, b, 0 * one, std, one, now, reader, start=float(s[0]))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--tolerance", type=float, default=0.003)
    parser.add_argument("--compare", action="store_true")
    args = parser.parse_args(argv)
    net, known = load("digits"), paradigms.linear()  # the levels it was trained on, so that it can be asked at any s

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:  # (M, C, H, W), (M,): the plain function that you have
        s = sigma.to(x)[:, None, None, None]
        return x - s * net.model(x / (1 + s**2).sqrt(), known.time_at(sigma.double()).to(x))

    system = dpmpp_2m(karras(args.steps))
    x = system.noise((4, *net.shape), torch.Generator().manual_seed(0))
    found = paradigms.sample(denoise, system, x, window=32, tolerance=args.tolerance, compare=args.compare)
    print(f"{len(system)} steps in {found.rounds} rounds, {found.evaluations} evaluations, {found.seconds:.2f} s")
    if found.comparison:
        print(f"step by step: {found.comparison.seconds:.2f} s; relative error {found.max_error:.2e}")


if __name__ == "__main__":
    main()
