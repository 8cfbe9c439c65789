"""sbi: posteriors of score and flow-matching networks, sampled in parallel by one line.

    from paradigms.integrations.sbi import parallel
    samples = parallel(posterior).sample((1000,), x=x_o)

sbi's Euler-Maruyama step of the reverse SDE, from t to t - dt, is a row of equation (1): its drift is f(t) x, so that

    x' = x - dt (f x - k s) + eta g dt^1/2 z,    k = (1 + eta^2) / 2 g^2

s = A x + B m is the score in terms of the network's answer m, D = p x + q m the denoised estimate, and therefore

    a = 1 - dt f + dt k (A - B p / q),    b = dt k B / q,    c = eta g dt^1/2

| network       | m        | A           | B                | p               | q                |
| score (NPSE)  | score    | 0           | 1                | 1 / alpha       | sigma^2 / alpha  |
| flow matching | velocity | -1 / sigma  | -alpha / sigma   | 1 / (1 + least) | -sigma / (1 + least) |

Rejection at the prior's bounds, batches, standardization and everything else remain sbi's own. Where its rejection
sampler lacks samples it asks for many more proposals than it takes, 10,000 where none was accepted so far: they are
made in parts, in its own noise, until enough are within the bounds.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import torch
from sbi.inference.posteriors.vector_field_posterior import VectorFieldPosterior
from sbi.neural_nets.estimators.flowmatching_estimator import FlowMatchingEstimator
from sbi.neural_nets.estimators.score_estimator import ConditionalScoreEstimator, VEScoreEstimator
from sbi.samplers.score.diffuser import Diffuser
from sbi.samplers.score.predictors import EulerMaruyama
from sbi.utils.sbiutils import within_support
from torch import Tensor

from ..denoiser import Denoiser
from ..methods.base import AbstractMethod
from ..methods.spectral import Spectral
from ..noise import default_generator, reserved
from ..solution import Solution
from ..solve import TOLERANCE, sample
from ..stopping.base import AbstractStop
from ..system import System
from ..validate import in_words, named_arguments, refusal

# rows of one call: 10 samples of 499 steps took 0.37 of sbi's CPU time so and 0.5 with "auto", one sample 0.12 and 0.26
FEW = 8192
# Rows of a window of a variance-exploding network: its first rows settle slowly, and later ones would be evaluated in
# vain. One sample of 499 steps took 9.3 rounds of 1,590 evaluations so, 8.0 of 2,830 with all at once, and 0.86 of the
# CPU time.
EXPLODING = 192
# Proposals are made in parts where they are so many times those that are likely to be needed, and each part ends at so
# many times the last one's end, so that all 10,000 are three parts or four.
LEAST, GROWTH = 4, 16
ARGUMENTS = inspect.signature(VectorFieldPosterior.sample)


@named_arguments
def parallel(
    posterior: VectorFieldPosterior,
    *,
    tolerance: float | AbstractStop = TOLERANCE,
    window: int | str | None = None,
    method: AbstractMethod | None = None,
) -> ParallelPosterior:
    """The same posterior, whose SDE sampler evaluates many steps at once; the one that is given is left as it is.

    Args:
        posterior: of `NPSE(...)` or `FMPE(...)`, as `build_posterior(sample_with="sde")` makes it.
        tolerance: as `paradigms.sample`'s; 0 gives sbi's own samples, to rounding.
        window: as `paradigms.sample`'s; None takes all steps at once where they are at most `FEW` rows ("ve": 192 of
            them), else "auto".
        method: as `paradigms.sample`'s; None takes `Spectral(most=0)`, for in states of a few numbers an Anderson step
            costs more than it saves: 6.0 against 8.2 times sbi's own sampler on two moons.

    Returns:
        A posterior of the same kind, to be called as the other is; `solutions` tells how its last samples were made.

    Raises:
        ValueError: for what is no such posterior, and for one that samples by an ODE, whose steps sbi's solver chooses
            one after the other.

    Source: Geffner et al. 2023 (NPSE); Wildberger et al. 2023 (flow matching); Song et al. 2021b (the SDE).
    """
    if type(posterior) is not VectorFieldPosterior:
        needed = "the VectorFieldPosterior that NPSE or FMPE builds"
        raise refusal("posterior", in_words(posterior), needed, "NPSE(prior, sde_type='vp').build_posterior(estimator)")
    if posterior.sample_with != "sde":
        raise refusal(
            "posterior", f"one that samples with {posterior.sample_with!r}", "sampling by its SDE",
            "inference.build_posterior(estimator, sample_with='sde')",
        )  # fmt: skip
    made = ParallelPosterior.__new__(ParallelPosterior)
    made.__dict__.update(vars(posterior))  # copy.copy would share the dict: sbi's __getstate__ hands its own out
    made.how = {"tolerance": tolerance, "window": window, "method": method or Spectral(most=0)}
    made.solutions, made.wanted, made.proposed = (), None, []
    made.network = _Network(made.vector_field_estimator)
    return made


class ParallelPosterior(VectorFieldPosterior):  # type: ignore[misc]
    """A posterior that `parallel` made.

    Attributes:
        how: arguments of `paradigms.sample`.
        solutions: how the samples of the last call were made, one for each batch that sbi asked for.
        network: what is sampled from; one for all calls, so that what is known of it is kept.
        wanted: samples that the call asks for and takes of proposals in their order; None where it takes all.
        proposed: the call's proposals so far.
    """

    network: _Network
    how: dict[str, Any]
    solutions: tuple[Solution, ...]
    wanted: int | None
    proposed: list[Tensor]

    def sample(self, *args: Any, **kwargs: Any) -> Tensor:
        """As sbi's."""
        asked = ARGUMENTS.bind(self, *args, **kwargs).arguments
        rejects = asked.get("reject_outside_prior", True)
        self.wanted = torch.Size(asked.get("sample_shape", ())).numel() if rejects else None
        self.solutions, self.proposed = (), []
        try:
            return super().sample(*args, **kwargs)
        finally:
            self.wanted, self.proposed = None, []

    def sample_batched(self, *args: Any, **kwargs: Any) -> Tensor:
        """As sbi's."""
        self.solutions = ()
        return super().sample_batched(*args, **kwargs)

    def _sample_via_diffusion(
        self,
        sample_shape: Any = torch.Size(),
        predictor: Any = "euler_maruyama",
        corrector: Any = None,
        predictor_params: dict[str, Any] | None = None,
        corrector_params: dict[str, Any] | None = None,
        steps: int = 500,
        ts: Tensor | None = None,
        max_sampling_batch_size: int | None = 10_000,
        show_progress_bars: bool = True,
        save_intermediate: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        """The proposals (n, observations, ...) of its rejection sampler, from the random stream that sbi draws from."""
        diffuser = Diffuser(self.potential_fn, predictor, corrector, predictor_params, corrector_params)
        if why := self._sequential_because(diffuser, save_intermediate):
            warnings.warn(f"sampled step by step, by sbi itself: {why}", stacklevel=2)
            return super()._sample_via_diffusion(
                sample_shape, predictor, corrector, predictor_params, corrector_params, steps, ts,
                max_sampling_batch_size, show_progress_bars, save_intermediate, **kwargs,
            )  # fmt: skip
        estimator = self.vector_field_estimator
        times = (estimator.solve_schedule(steps) if ts is None else ts).to(self.device)
        system = sde_table(estimator, times, diffuser.predictor.eta)
        n = torch.Size(sample_shape).numel()
        size = min(n, max_sampling_batch_size or self.max_sampling_batch_size)
        parts = [self._batch(diffuser, system, min(size, n - begin)) for begin in range(0, n, size)]
        found = torch.cat(parts)
        if bool(torch.isnan(found).all()):
            raise RuntimeError("All samples NaN after diffusion sampling.")
        return estimator.from_z(found) if estimator.compose_enabled else found

    def _batch(self, diffuser: Diffuser, system: System, n: int) -> Tensor:
        """n samples of each observation, in the noise that sbi would draw for them.

        Of more proposals than the call still takes those that are not needed repeat those that are: sbi drops them, and
        reads its rate of acceptance off all.
        """
        self.network.x_o = self.potential_fn.x_o
        start = diffuser.initialize(n).to(self.device)  # (n, observations, ...)
        wanted, end = self.wanted, self._needed(len(system))
        if wanted is None or end is None or n < LEAST * end:
            self.proposed.append(self._made(system, start))
            return self.proposed[-1]
        generator, before, made = default_generator(start.device), len(self.proposed), 0
        state = generator.get_state()
        while made < n and self._accepted() < wanted:
            generator.set_state(state)
            # of all proposals' noise, for torch's numbers depend on how many are drawn at once
            noise = torch.stack([torch.randn_like(start)[made:end].flatten(0, 1).clone() for _ in range(len(system))])
            with reserved([generator]):
                self.proposed.append(self._made(system, start[made:end], noise))
            made, end = min(end, n), GROWTH * end
        found = torch.cat(self.proposed[before:])
        return found[torch.arange(n, device=found.device) % made]

    def _needed(self, steps: int) -> int | None:
        """How many proposals are likely to be needed, but at least what one call takes; None where all are."""
        if self.wanted is None or not self.proposed:
            return None
        accepted, few = self._accepted(), max(FEW // steps, 1)
        if not accepted:
            return few
        return max(few, (self.wanted - accepted) * sum(map(len, self.proposed)) // accepted)

    def _accepted(self) -> int:
        """The proposals so far that are within the prior's bounds."""
        found, estimator = torch.cat(self.proposed), self.vector_field_estimator
        found = estimator.from_z(found) if estimator.compose_enabled else found
        return int(within_support(self.prior, found).sum())

    def _made(self, system: System, start: Tensor, noise: Tensor | None = None) -> Tensor:
        """The samples of first noise (n, observations, ...)."""
        x_o, n = self.potential_fn.x_o, len(start)
        condition = {"x_o": x_o.expand(n, *x_o.shape).flatten(0, 1)} if start.shape[1] > 1 else {}
        x, how = start.flatten(0, 1), dict(self.how)
        if how["window"] is None:
            widest = EXPLODING if isinstance(self.vector_field_estimator, VEScoreEstimator) else len(system)
            how["window"] = min(widest, len(system)) if len(x) * len(system) <= FEW else "auto"
        found = sample(self.network, system, x, condition=condition, noise=noise, **how)
        self.solutions += (found,)
        return found.x.to(start.dtype).unflatten(0, start.shape[:2])

    def _sequential_because(self, diffuser: Diffuser, save_intermediate: bool) -> str | None:
        """Why the loop is no table, None where it is one."""
        potential = self.potential_fn
        if type(diffuser.predictor) is not EulerMaruyama or diffuser.corrector is not None:
            return "of predictors euler_maruyama alone is a table, without a corrector"
        if potential.x_is_iid and len(potential.x_o) > 1:
            return "several observations of one parameter combine scores that depend on the whole batch"
        if potential.guidance_method is not None:
            return "guidance changes the score"
        if not isinstance(self.vector_field_estimator, FlowMatchingEstimator | ConditionalScoreEstimator):
            return f"{type(self.vector_field_estimator).__name__} is not known"
        return "intermediate samples are asked for" if save_intermediate else None


class _Network:
    """m(x (M, ...), t (M,)) of one observation x_o (1, ...), or of the observation of each row (M, ...)."""

    x_o: Tensor

    def __init__(self, estimator: Any) -> None:
        self.asked = estimator.forward if isinstance(estimator, FlowMatchingEstimator) else estimator.score

    def __call__(self, x: Tensor, t: Tensor, x_o: Tensor | None = None) -> Tensor:
        return self.asked(x, self.x_o if x_o is None else x_o, t)  # type: ignore[no-any-return]


def sde_table(estimator: Any, times: Tensor, eta: float = 1.0) -> System:
    """The table of sbi's Euler-Maruyama steps along times (N + 1,), from noise to data.

    Raises ValueError where the drift is no multiple of the state, or a level is none.
    """
    with torch.no_grad():
        t, dt = times[:-1], (times[:-1] - times[1:]).double().cpu()
        one = torch.ones(len(t), *estimator.input_shape, device=t.device)
        each = t.reshape(-1, *(1,) * len(estimator.input_shape))
        flat = [estimator.drift_fn(v * one, each).expand_as(one).flatten(1).double().cpu() for v in (0.0, 1.0, 2.0)]
        f = flat[1][:, 0]
        if bool(flat[0].any()) or not torch.allclose(flat[2], 2 * f[:, None].expand_as(flat[2])):
            raise refusal("posterior", "a drift that is no multiple of the state", "one of sbi's own SDEs")
        levels = estimator.diffusion_fn(one, t), estimator.mean_t_fn(t), estimator.std_fn(t)
        g, alpha, sigma = (v.reshape(len(t), -1)[:, 0].double().cpu() for v in levels)
    if isinstance(estimator, FlowMatchingEstimator):
        told = t.double().cpu()
        alpha, sigma = 1 - told, told + estimator.noise_scale
        A, B, p, q = -1 / sigma, -alpha / sigma, 1 / (alpha + sigma), -sigma / (alpha + sigma)
    else:
        A, B, p, q = 0 * sigma, 0 * sigma + 1, 1 / alpha, sigma**2 / alpha
    k = (1 + eta**2) / 2 * g**2
    a, b, c = 1 - dt * f + dt * k * (A - B * p / q), dt * k * B / q, eta * g * dt.sqrt()
    one = torch.ones_like(a)
    return System(t.cpu(), a, b[:, None], c, c, alpha, sigma, Denoiser(one, p, q, one), start=None)  # sbi draws x[0]
