"""The spectral secant: it finds the Jacobian that it cannot know, and needs fewer rounds for it."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

import paradigms as pd
from paradigms.methods.spectral import LearnedSecants
from paradigms.methods.spectrum import Spectrum, spectrum_of
from paradigms.methods.work import Evaluate, Memory, Update, WindowState
from paradigms.models.mixture import FieldMixture
from problems import LINEAR, RULES, seeded
from toy import Mixture

SHAPE, N = (1, 8, 8), 50
SPECTRUM: Spectrum = spectrum_of(torch.zeros(1, *SHAPE, dtype=torch.float64))
LAMBDA = torch.tensor([0.02, 0.1, 1.5, 0.03, 0.6, 2.0, 0.2, 0.7], dtype=torch.float64)  # unlike any picture's


def gaussian(x: Tensor, t: Tensor) -> Tensor:
    """E[data | x] (M, 1, 8, 8) of Gaussian data whose variance is LAMBDA, band by band: nothing but linear algebra."""
    alpha, sigma = (v[t][:, None] for v in (LINEAR.alpha, LINEAR.sigma))
    J = alpha * LAMBDA / (alpha**2 * LAMBDA + sigma**2)  # (M, F)
    return SPECTRUM.inverse((SPECTRUM.spread(J) * SPECTRUM.forward(x[None])[0])[None], x[None])[0]


def chain() -> tuple[pd.System, Tensor]:
    """DDIM-50 and three starts."""
    system = pd.ddim(LINEAR, N, prediction="x0")
    return system, system.noise((3, *SHAPE), seeded(0), dtype=torch.float64)


def errors(method: pd.AbstractMethod, rounds: int) -> list[float]:
    """The largest relative error of x[N] after each of the first rounds, the whole chain in the window."""
    system, x = chain()
    exact, found = pd.sequential(gaussian, system, x), []
    for frame in itertools.islice(pd.iterate(gaussian, system, x, method, window=N, tolerance=0.0), rounds):
        last = frame.x[N - frame.begin, torch.arange(3)]
        found.append(float(((last - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)).max()))
    return found


@dataclass(frozen=True)
class Watched(pd.AbstractMethod):
    """`inner`, and what it took alpha J (W, B, F) for at the rows n of each round."""

    guess: pd.Guess = field(default_factory=pd.Extrapolate)
    inner: pd.Spectral = field(default_factory=pd.Spectral)
    seen: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def init(self, system: pd.System, work: WindowState) -> Memory:
        return self.inner.init(system, work)

    def sweep(self, system: pd.System, work: WindowState, evaluate: Evaluate, memory: Memory) -> tuple[Update, Memory]:
        sweep, memory = self.inner.sweep(system, work, evaluate, memory)
        J = self.inner.jacobian(system, memory[3], work)
        self.seen.append((work.n[work.live], (system.alpha[work.n][..., None] * J)[work.live]))
        return sweep, memory


def test_on_gaussian_data_the_carry_that_is_learned_beats_every_carry_that_is_fixed() -> None:
    spectral, picard, ahead, prior = (
        errors(m, 6)
        for m in (
            pd.Spectral(),
            pd.Picard(),
            pd.Picard(pd.Extrapolate()),
            pd.Spectral(weight=1e12, most=0),
        )  # the prior alone
    )
    assert spectral[2] < picard[2] / 10 and spectral[5] < picard[5] / 1000, "three rounds, and six"
    assert spectral[5] < ahead[5] / 30 and spectral[5] < prior[5] / 30
    assert spectral[5] < 1e-6


def test_the_jacobian_comes_out_where_nobody_was_told_it() -> None:
    system, x = chain()
    method, never = Watched(), pd.FinalError(0.0, margin=1e9)
    for _ in itertools.islice(pd.iterate(gaussian, system, x, method, window=N, tolerance=never), 5):
        pass
    share = system.alpha[:, None] ** 2 * LAMBDA
    true = share / (share + system.sigma[:, None] ** 2)  # alpha J (N, F)
    off = [(aJ - true[n]).abs().mean(0) for n, aJ in method.seen]
    assert float(off[0].mean()) > 0.1, "the prior is far from these data, or this shows nothing"
    assert float(off[4].mean()) < 0.04
    assert bool((off[4] < 0.1).all()), "in every band"
    assert all(bool(((aJ >= 0) & (aJ <= 1)).all()) for _, aJ in method.seen)


def field_problem(rule: str, steps: int, B: int) -> tuple[pd.System, dict[str, Any]]:
    """A chain on the mixture of fields: (system, x and noise of `pd.sample`)."""
    make: Callable[..., pd.System] = getattr(pd, rule)
    system = make(LINEAR, steps, prediction="x0")
    x = system.noise((B, *SHAPE), seeded(0))
    return system, {"x": x, "noise": torch.randn((steps, *x.shape), generator=seeded(1))}


@pytest.mark.parametrize(("rule", "steps", "window", "share"), [("ddpm", 100, 32, 0.7), ("ddim", 50, 50, 0.85)])
def test_at_equal_tolerance_it_takes_fewer_rounds_than_picard(rule: str, steps: int, window: int, share: float) -> None:
    system, given = field_problem(rule, steps, 16)
    found, other = (
        pd.sample(FieldMixture(SHAPE), system, method=m, window=window, tolerance=0.01, **given, compare=True)
        for m in (pd.Spectral(), pd.Picard(pd.Extrapolate()))
    )
    assert int(found.sample_rounds.sum()) <= share * int(other.sample_rounds.sum())
    assert (found.median_error or 0) < 0.01 and (other.median_error or 0) < 0.01


@pytest.mark.parametrize(("rule", "steps", "window"), [("ddpm", 100, 32), ("ddim", 50, 50)])
def test_at_equal_error_it_takes_fewer_rounds_than_picard(rule: str, steps: int, window: int) -> None:
    """Asked for a tenth of the error, so that what it finds is at least as good as what Picard finds."""
    system, given = field_problem(rule, steps, 16)
    found, other = (
        pd.sample(FieldMixture(SHAPE), system, method=m, window=window, tolerance=tol, **given, compare=True)
        for m, tol in ((pd.Spectral(), 0.001), (pd.Picard(pd.Extrapolate()), 0.01))
    )
    assert int(found.sample_rounds.sum()) <= 0.95 * int(other.sample_rounds.sum())
    assert (found.median_error or 0) <= 2 * (other.median_error or 0)
    assert (found.max_error or 0) <= 2 * (other.max_error or 0)


@pytest.mark.parametrize("rule", ["ddpm", "dpmsolver"])
@pytest.mark.parametrize("shape", [(6,), (5, 3), (2, 8, 8), (2, 3, 4, 6)])
def test_it_remembers_two_states_a_row_and_two_numbers_a_band(rule: str, shape: tuple[int, ...]) -> None:
    system, W, B = RULES[rule](40), 8, 3
    x = torch.zeros(W + 1, B, *shape, dtype=torch.float64)
    n = torch.arange(W)[:, None].expand(W, B)
    memory = pd.Spectral().init(
        system, WindowState(x, torch.zeros(system.history + W, *x.shape[1:]), None, n, n >= 0, torch.zeros_like(n))
    )
    state = x[0, 0].numel()
    (known,) = (v for v in memory if isinstance(v, LearnedSecants))
    F = len(known.spectrum.count)
    moved, square, R, size = (v for v in memory if isinstance(v, Tensor))
    assert moved[0, 0].numel() == R[0, 0].numel() == state and square[0, 0].numel() == F and size[0, 0].numel() == 1
    assert [len(v) for v in (moved, square, R)] == [W + 1, W + 1, W], "they slide with the window, and a state ends it"
    assert known.X.numel() + known.Y.numel() == 2 * F * len(system) * B and state >= F <= 12


@pytest.mark.parametrize("rule", ["ddpm", "dpmsolver"])
def test_tokens_on_their_grid_are_sampled_as_the_picture_they_were_cut_from(rule: str) -> None:
    model, system = FieldMixture((1, 4, 6)), getattr(pd, rule)(LINEAR, 30, prediction="x0")
    x = system.noise((2, 1, 4, 6), seeded(0), dtype=torch.float64)
    z = torch.randn((30, *x.shape), generator=seeded(1), dtype=torch.float64)
    picture = pd.sample(model, system, x, window=12, tolerance=0.1, noise=z, compare=True)

    def cut(v: Tensor) -> Tensor:
        return v.flatten(-3)[..., None]  # (..., 1, 4, 6) -> (..., 24, 1)

    def on_tokens(x: Tensor, t: Tensor) -> Tensor:
        return cut(model(x.reshape(-1, 1, 4, 6), t))

    how: dict[str, Any] = {"window": 12, "noise": cut(z)}
    grid = (4, 6)
    tokens = pd.sample(on_tokens, system, cut(x), pd.Spectral(grid=grid), tolerance=0.1, **how)  # its criterion's too
    torch.testing.assert_close(tokens.x, cut(picture.x), atol=1e-10, rtol=0)
    assert tokens.evaluations == picture.evaluations and (picture.max_error or 0) > 1e-6, "not by being exact"
    row = pd.sample(on_tokens, system, cut(x), tolerance=0.1, **how)
    assert float((row.x - tokens.x).abs().max()) > 1e-6, "or the grid does nothing"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("width", v) for v in (0.0, -1.0, float("nan"), float("inf"))),
        *(("weight", v) for v in (0.0, -1.0, float("nan"), float("inf"))),
        *(("most", v) for v in (-1.0, float("nan"))),
        *(("grid", v) for v in ((), (0, 4), (-2, -2), (2.0, 2), 16, "44")),
        *(("forget", v) for v in (-0.1, 1.1, float("nan"))),
    ],
)
def test_a_bad_field_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{name}: given {value!r}; needed: ")):
        pd.Spectral(**{name: value})


@pytest.mark.parametrize("rule", ["ddim", "dpmsolver"])
def test_a_frame_tells_what_the_model_says_of_the_new_states_where_the_carry_is_right(rule: str) -> None:
    """Gaussian data of the prior's own variance, and nothing learned: then D + J (x - old) is the answer itself."""

    def prior(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (v[t][:, None] for v in (LINEAR.alpha, LINEAR.sigma))
        J = alpha * SPECTRUM.prior / (alpha**2 * SPECTRUM.prior + sigma**2)  # (M, F)
        return SPECTRUM.inverse((SPECTRUM.spread(J) * SPECTRUM.forward(x[None])[0])[None], x[None])[0]

    system = getattr(pd, rule)(LINEAR, 20, prediction="x0")
    x = system.noise((2, *SHAPE), seeded(0), dtype=torch.float64)
    method, loose = pd.Spectral(weight=1e12, most=0), pd.FinalError(0.01, margin=5.0, early=math.inf)
    for frame in itertools.islice(pd.iterate(prior, system, x, method, window=8, tolerance=loose), 3):
        rows = torch.arange(int(frame.begin[0]), int(frame.begin[0]) + 8)
        said = prior(frame.x[:-1].flatten(0, 1), system.t[rows].repeat_interleave(2)).unflatten(0, (8, 2))
        torch.testing.assert_close(frame.D, said, atol=1e-9, rtol=0)
        assert float((frame.sweep.D - said).abs().max()) > 1e-3, "or no state moved"  # type: ignore[attr-defined]


def test_a_model_whose_secants_are_noise_is_survived() -> None:
    """It bends 30 times over a unit of x, so that no secant is a slope; the sample still ends, and is finite."""
    system = RULES["ddpm"](30)
    x = system.noise((20, 6), seeded(0), dtype=torch.float64)
    solution = pd.sample(lambda x, t: x + torch.sin(30 * x), system, x, pd.Spectral(), window=10, generator=seeded(1))
    assert solution.converged and bool(solution.x.isfinite().all())


def test_numbers_too_large_to_be_squared_or_carried_leave_the_rows_own_steps() -> None:
    """In float32 the squares of these states overflow, and so do sums of a few: no secants, no carry, but a sample."""

    def loud(x: Tensor, t: Tensor) -> Tensor:
        return 3e37 * torch.sin(x)

    system = pd.ddim(LINEAR, 30, prediction="x0")
    x = system.noise((5, *SHAPE), seeded(0))
    solution = pd.sample(loud, system, x, pd.Spectral(), window=10)
    assert solution.converged and bool(solution.x.isfinite().all())


def test_rows_are_learned_from_as_the_equation_says_and_only_if_looked_at_twice() -> None:
    """Two looks by hand, at rows 3 and 4 of one sample; the second finds the first halved."""
    system, method = pd.ddim(LINEAR, N, prediction="x0"), pd.Spectral(forget=0.5)
    none = torch.zeros(N, 1, len(SPECTRUM.count), dtype=torch.float64)
    known, n = method.begun(system, torch.zeros(1, *SHAPE, dtype=torch.float64)), torch.tensor([[3], [4]])
    X, Y = none.clone(), none.clone()
    for look in range(2):
        dX, dD = (torch.randn(2, 1, 1, 64, generator=seeded(2 * look + i), dtype=torch.float64) for i in (0, 1))
        XX, XD = SPECTRUM.sums(dX, dX), SPECTRUM.sums(dX, dD)
        known = method.learn(known, XX, XD, n, torch.tensor([[True], [False]]))
        X, Y = X / 2, Y / 2
        for f, band in enumerate(SPECTRUM.bands == 1):
            u, v = dX[0, 0, 0], dD[0, 0, 0]
            X[3, 0, f] += (u[band] ** 2).sum() / (u**2).sum()
            Y[3, 0, f] += LINEAR.alpha[int(system.t[3])] * (u[band] * v[band]).sum() / (u**2).sum()
    torch.testing.assert_close(known.X, X)
    torch.testing.assert_close(known.Y, Y)


@pytest.mark.parametrize("rule", ["ddpm", "dpmsolver"])
def test_nothing_is_learned_of_a_row_that_just_entered_the_window(rule: str) -> None:
    system = RULES[rule](40)
    x, twice = system.noise((2, 6), seeded(0), dtype=torch.float64), torch.zeros(len(system), 2, dtype=torch.bool)

    @dataclass(frozen=True)
    class Checked(Watched):
        def sweep(
            self, system: pd.System, work: WindowState, evaluate: Evaluate, memory: Memory
        ) -> tuple[Update, Memory]:
            for w, b in itertools.product(range(len(work.n)), range(2)):
                twice[work.n[w, b], b] |= bool(work.live[w, b] and work.seen[w, b] > 0)
            sweep, memory = self.inner.sweep(system, work, evaluate, memory)
            assert torch.equal(memory[3].X.sum(2) > 0, twice)
            return sweep, memory

    solution = pd.sample(Mixture(), system, x, Checked(), window=9, tolerance=0.01, generator=seeded(1))
    assert solution.converged and 0 < int(twice.sum()) <= 2 * len(system)


def test_a_first_sweep_is_the_recurrence_of_gaussian_data_coordinate_by_coordinate() -> None:
    """Nothing is learned yet, so J is the prior's: equation (2') with dense matrices, in the letters of the file."""
    system, W = pd.ddim(LINEAR, N, prediction="x0").to("cpu", torch.float64), 5
    x = torch.randn(W + 1, 1, *SHAPE, generator=seeded(0), dtype=torch.float64)
    D = torch.randn(W, 1, *SHAPE, generator=seeded(1), dtype=torch.float64)
    n = torch.arange(W)[:, None]
    work = WindowState(x, torch.zeros(W + 1, 1, *SHAPE, dtype=torch.float64), None, n, n >= 0, 0 * n)
    method = pd.Spectral()
    found, _ = method.sweep(system, work, lambda *points, live=None: (D,), method.init(system, work))
    delta, lam = torch.zeros(SHAPE, dtype=torch.float64)[None], SPECTRUM.prior
    for m in range(W):
        a, b, alpha, sigma = system.a[m], system.b[m, 0], system.alpha[m], system.sigma[m]
        J = alpha * lam / (alpha**2 * lam + sigma**2)
        r = a * x[m] + b * D[m] - x[m + 1]
        changed = SPECTRUM.inverse(SPECTRUM.spread(J) * SPECTRUM.forward(delta[None]), delta[None])[0]
        delta = a * delta + b * changed + r
        torch.testing.assert_close(found.x[m], x[m + 1] + delta)
