"""sbi's posteriors, in parallel: at tolerance 0 the samples are sbi's own, and it takes a fraction of the rounds."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("sbi", exc_type=ImportError)
from sbi.inference import FMPE, NPSE
from sbi.utils import BoxUniform

from paradigms.integrations.sbi import parallel

KINDS = {
    "vp": lambda prior: NPSE(prior, sde_type="vp", show_progress_bars=False),
    "ve": lambda prior: NPSE(prior, sde_type="ve", show_progress_bars=False),
    "subvp": lambda prior: NPSE(prior, sde_type="subvp", show_progress_bars=False),
    "flow": lambda prior: FMPE(prior, show_progress_bars=False),
}
QUIET = {"show_progress_bars": False}
PRIOR = BoxUniform(-torch.ones(2), torch.ones(2))
pytestmark = pytest.mark.filterwarnings(
    "ignore:Maximum number of epochs", "ignore:.*lie outside the prior", "ignore::FutureWarning"
)


def two_moons(theta: Tensor) -> Tensor:
    """Greenberg et al. 2019's simulator."""
    a, r = (torch.rand(len(theta)) - 0.5) * math.pi, 0.1 + 0.01 * torch.randn(len(theta))
    crescent = torch.stack([r * a.cos() + 0.25, r * a.sin()], 1)
    return crescent + torch.stack([-theta.sum(1).abs(), theta[:, 1] - theta[:, 0]], 1) / 2**0.5


@pytest.fixture(scope="module", params=KINDS)
def posterior(request: pytest.FixtureRequest) -> Any:
    """A posterior of two moons, trained by sbi's own trainer for a few epochs."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    theta = PRIOR.sample((1000,))
    inference = KINDS[request.param](PRIOR)
    inference.append_simulations(theta, two_moons(theta))
    estimator = inference.train(max_num_epochs=20, show_train_summary=False)
    return inference.build_posterior(estimator, sample_with="sde")


def sampled(posterior: Any, n: int = 20, **how: Any) -> Tensor:
    torch.manual_seed(7)
    return posterior.sample((n,), x=torch.zeros(1, 2), **QUIET, **how)


def off(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def test_at_tolerance_0_the_samples_are_sbis_own(posterior: Any) -> None:
    assert off(sampled(parallel(posterior, tolerance=0, window=32), steps=60), sampled(posterior, steps=60)) < 1e-5


def test_without_rejection_and_at_a_small_eta_too(posterior: Any) -> None:
    how = {"reject_outside_prior": False, "predictor_params": {"eta": 0.5}, "steps": 60}
    found, wanted = (sampled(p, **how) for p in (parallel(posterior, tolerance=0, window=32), posterior))
    assert off(found, wanted) < 1e-5


def test_by_default_it_takes_a_fraction_of_the_rounds(posterior: Any) -> None:
    fast = parallel(posterior)
    found, wanted = (sampled(p, n=10, reject_outside_prior=False) for p in (fast, posterior))
    (account,) = fast.solutions
    assert account.converged and account.rounds <= 20 and account.steps == 499
    assert off(found, wanted) < 0.003


def test_of_many_proposals_no_more_are_made_than_needed(posterior: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    how = {"n": 1, "steps": 60, "max_sampling_batch_size": 1000}
    first = sampled(posterior, **how, reject_outside_prior=False)[0]
    low, high = -torch.ones(2), torch.ones(2)
    (low if first[0] < 0 else high)[0] = 0  # which rejects it, so that sbi asks for 1,000 more
    monkeypatch.setattr(posterior, "prior", BoxUniform(low, high))
    fast = parallel(posterior, tolerance=0, window=32)
    made = [(sampled(each, **how), torch.rand(1)) for each in (fast, posterior)]
    assert off(made[0][0], made[1][0]) < 1e-5
    assert made[0][1] == made[1][1], "the random stream ends where sbi leaves it"
    assert [len(each.x) for each in fast.solutions] == [1, 8192 // 59]


def test_many_observations_at_once(posterior: Any) -> None:
    x = torch.tensor([[0.0, 0.0], [0.2, -0.1], [-0.3, 0.4]])
    made = []
    for each in (parallel(posterior, tolerance=0, window=16), posterior):
        torch.manual_seed(7)
        made.append(each.sample_batched((5,), x=x, steps=40, reject_outside_prior=False, **QUIET))
    assert made[0].shape == (5, 3, 2) and off(*made) < 1e-5


def test_the_given_posterior_is_left_as_it_is(posterior: Any) -> None:
    before = type(posterior), dict(vars(posterior))
    parallel(posterior).sample((3,), x=torch.zeros(1, 2), steps=10, **QUIET)
    assert (type(posterior), set(vars(posterior))) == (before[0], set(before[1]))


def test_what_is_no_table_is_sampled_by_sbi_and_said_so(posterior: Any) -> None:
    fast = parallel(posterior)
    fast.sample((2,), x=torch.zeros(1, 2), steps=10, **QUIET)  # which sets the observation
    fast.solutions = ()
    with pytest.warns(UserWarning, match="step by step"):
        torch.manual_seed(7)
        found = fast._sample_via_diffusion((3,), steps=10, save_intermediate=True, show_progress_bars=False)
    assert len(found) and fast.solutions == ()


def test_what_it_is_not_for_is_refused(posterior: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posterior, "sample_with", "ode")
    with pytest.raises(ValueError, match="sample_with='sde'"):
        parallel(posterior)
    with pytest.raises(ValueError, match="VectorFieldPosterior"):
        parallel(torch.nn.Linear(2, 2))
