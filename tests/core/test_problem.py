"""Bad input is refused before any work, by a message that says what was given and what is needed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import paradigms as pd
from problems import LINEAR


def untouched(x: Tensor, t: Tensor) -> Tensor:
    """A model that must never be reached."""
    raise AssertionError("the model was called before the input was checked")


SYSTEM = pd.ddpm(LINEAR, 10)
SIGMAS = torch.logspace(-2.7, math.log10(80), 40, dtype=torch.float64)
EXPLODING = pd.Schedule(torch.arange(40), torch.ones(40), SIGMAS)
X = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"tolerance": -0.1}, "tolerance: given -0.1; needed: a finite number, 0"),
        ({"tolerance": math.nan}, "tolerance: given nan"),
        ({"tolerance": math.inf}, "tolerance: given inf"),
        ({"tolerance": "tight"}, "tolerance: given 'tight'"),
        ({"window": 0}, "window: given 0; needed: a whole number of rows, at least 1"),
        ({"window": 2.5}, "window: given 2.5"),
        ({"window": True}, "window: given True"),
        ({"window": "Auto"}, "window: given 'Auto'; .*; type window='auto'"),
        ({"window": "8"}, "window: given '8'; .*; type window=8"),
        ({"window": 8.0}, "window: given 8.0; .*; type window=8"),
        ({"mesh": "cuda"}, "mesh: given 'cuda'; needed: a DeviceMesh or a process group; type init_device_mesh"),
        ({"max_rounds": 0}, "max_rounds: given 0"),
        ({"window": np.int64(8)}, "window: given numpy's int64 8; needed: .*; type window=8"),
        ({"max_rounds": torch.tensor(3)}, r"max_rounds: given tensor\(3\); .*; type max_rounds=3"),
        ({"verify": np.bool_(True)}, "verify: given numpy's bool True; .*; type verify=True"),
        ({"tolerance": 10**400}, "tolerance: given 1000"),
        ({"generator": np.int64(3)}, r"generator: given numpy's int64 3; .*manual_seed\(3\)"),
        ({"condition": {"self": torch.zeros(2)}}, "condition: given the name 'self'"),
        ({"condition": {"label": [1, 2]}}, r"condition 'label': given list; .*; type torch.tensor\(\[1, 2\]\)"),
        ({"condition": {"label": np.ones(2)}}, "condition 'label': given ndarray; .*; type torch.from_numpy"),
        ({"noise": torch.zeros(9, 2, 3)}, r"noise: given \(9, 2, 3\); needed: \(10, 2, 3\)"),
        ({"noise": torch.full((10, 2, 3), math.nan)}, r"noise: given nan at index \(0, 0, 0\); needed: finite"),
        (
            {"generator": [torch.Generator()]},
            "generator: given a list of 1; needed: one, or one for each of the 2 samples",
        ),
        ({"condition": {"label": torch.zeros(3)}}, r"condition 'label': given \(3,\); needed: a tensor with 2 rows"),
        ({"condition": {"label": 3}}, "condition 'label': given 3; needed: .*type torch.full"),
    ],
)
def test_bad_arguments(how: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        pd.sample(untouched, SYSTEM, X, **how)


@pytest.mark.parametrize(("rule", "times"), [(pd.heun, 1.0), (pd.heun, 0.8), (pd.ddim, 14.6), (pd.ddpm, 80.0)])
def test_noise_of_another_size_than_the_chain_begins_with_is_refused(rule: Any, times: float) -> None:
    """Sigma-scaled noise for a chain that begins at 1, and standard noise for one that begins at 157."""
    system = rule(LINEAR, 10)
    x = times * torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for sampler in (pd.sample, pd.sequential):
        with pytest.raises(ValueError, match=r"x: given numbers of size .*; needed: noise of standard deviation"):
            sampler(untouched, system, x)
    for fits in (system.noise(x.shape), 2 * system.noise(x.shape), system.noise((2, 3)) / system.start, 0 * x):
        assert pd.sequential(lambda x, t: 0.1 * x, system, fits).isfinite().all()


class DDIMScheduler:
    """As a diffusers scheduler looks."""

    timesteps = torch.arange(3)

    def set_timesteps(self, num_inference_steps: int) -> None: ...
    def step(self, model_output: Tensor, timestep: int, sample: Tensor) -> Any: ...


def labelled(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
    raise AssertionError("the model was called before the input was checked")


class Pipe:
    """As a diffusers pipeline looks."""

    scheduler = unet = None

    def __call__(self, prompt: str) -> None: ...


KINDS: dict[str, tuple[dict[str, Any], str]] = {
    # B4: what is given in place of a system
    "a scheduler": (
        {"system": DDIMScheduler()},
        r"system: given the scheduler DDIMScheduler.*from_scheduler\(scheduler, st",
    ),
    "a class of one": ({"system": DDIMScheduler}, r"from_scheduler\(DDIMScheduler\(\), steps\)"),
    "a schedule": ({"system": LINEAR}, r"system: given a Schedule.*type ddpm\(schedule, 100\), ddim\(schedule, 50\)"),
    "a rule": ({"system": pd.ddim}, "system: given the function ddim; needed: a System"),
    "no system": ({"system": None}, "system: given None; needed: a System"),
    "the noise": ({"system": X}, r"system: given \(2, 3\); needed: a System"),
    # B4: what is given in place of a method
    "a method's name": (
        {"method": "picard"},
        r"method: given 'picard'; needed: one of Anderson\(\).*; type Picard\(\)",
    ),
    "a method's class": ({"method": pd.Picard}, r"method: given the class Picard; needed: .*; type Picard\(\)"),
    "a tolerance": ({"method": 0.01}, "method: given 0.01; .*; type tolerance=0.01"),
    "a criterion": ({"method": pd.StepNoise(0.1)}, r"method: given StepNoise; .*; type tolerance=StepNoise"),
    "a guess": ({"method": pd.Copy()}, r"method: given Copy; .*; type Picard\(Copy\(\)\)"),
    # models
    "no model": ({"model": None}, "model: given None; needed: a callable"),
    "a model's class": ({"model": torch.nn.Linear}, "model: given the class Linear; needed: an instance"),
    "a pipeline": ({"model": Pipe()}, r"model: given the pipeline Pipe; .*; type enable_parallel_sampling"),
    "a model of x alone": ({"model": lambda x: x}, r"model: given one that takes \(x\); .*called with \(x, t\)"),
    "a name nobody takes": ({"condition": {"lable": X}, "model": labelled}, r"takes .*label.*lable"),
    "a condition that is missing": ({"model": labelled}, "missing a required argument: 'label'"),
    # B4: others
    "a condition without a name": ({"condition": torch.ones(2)}, r"condition: given \(2,\); needed: a dict of tensors"),
    "a condition's name": ({"condition": {"x": X}}, "condition: given the name 'x'"),
    "a condition elsewhere": (
        {"condition": {"c": X.to("meta")}},
        "condition 'c': given a tensor on meta; needed: one on cpu",
    ),
    "a seed": ({"generator": 7}, r"generator: given 7; needed: a torch.Generator.*Generator\(\).manual_seed\(7\)"),
    "seeds": ({"generator": [0, 1]}, "generator: given a list with 0 in it"),
    "numpy noise": (
        {"noise": torch.zeros(10, 2, 3).numpy()},
        r"noise: given numpy's ndarray; .*torch.from_numpy\(noise\)",
    ),
    "whole noise": ({"noise": torch.zeros(10, 2, 3).long()}, "noise: given .*torch.int64; needed: .*floating"),
    "noise twice": (
        {"noise": torch.zeros(10, 2, 3), "generator": torch.Generator()},
        "generator: given one beside noise",
    ),
    "half a round": ({"max_rounds": 1.5}, "max_rounds: given 1.5; needed: a whole number"),
    "nan rounds": ({"max_rounds": math.nan}, "max_rounds: given nan"),
    "True rounds": ({"max_rounds": True}, "max_rounds: given True"),
    "a text for a truth": ({"compare": "yes"}, "compare: given 'yes'; needed: True or False"),
    "a number for a truth": ({"verify": 1}, "verify: given 1; needed: True or False"),
    "no function to watch": ({"watch": []}, "watch: given list; needed: a function"),
    "a criterion's class": ({"tolerance": pd.StepNoise}, "tolerance: given the class StepNoise; .*; type StepNoise"),
    "True as a tolerance": ({"tolerance": True}, "tolerance: given True"),
    "another word": ({"window": "Auto"}, "window: given 'Auto'"),
    "windows": ({"window": [8]}, "window: given list"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_of_another_kind_is_refused_by_what_to_type(kind: str) -> None:
    """B4, A10: before any work."""
    how, says = KINDS[kind]
    usual = {"model": untouched, "system": SYSTEM, "x": X, "method": None}
    positional = [how.get(k, v) for k, v in usual.items()]
    with pytest.raises(ValueError, match=says):
        pd.sample(*positional, **{k: v for k, v in how.items() if k not in usual})
    if not how.keys() & {"compare", "verify", "max_rounds", "watch"}:
        with pytest.raises(ValueError, match=says):
            pd.iterate(*positional, **{k: v for k, v in how.items() if k not in usual})
    if not how.keys() & {"compare", "verify", "max_rounds", "watch", "method", "window", "tolerance"}:
        with pytest.raises(ValueError, match=says):
            pd.sequential(*positional[:3], **{k: v for k, v in how.items() if k not in usual})


@pytest.mark.parametrize("watch", [5, None, "tqdm", [iter], torch.ones(1), lambda: None, lambda frames, total: frames])
@pytest.mark.parametrize("window", [1, 8, "auto"])
def test_a_watch_that_cannot_be_called_with_frames_is_refused_before_any_work(watch: Any, window: Any) -> None:
    def never(x: Tensor, t: Tensor) -> Tensor:
        raise AssertionError("the model was asked")

    with pytest.raises(ValueError, match=r"watch: given .*; needed: a function of an iterator of frames"):
        pd.sample(never, SYSTEM, X, watch=watch, window=window)


@pytest.mark.parametrize("watch", [lambda frames: [f for f in frames for _ in range(2)], lambda f: reversed(list(f))])
def test_a_watch_that_gives_frames_twice_or_backwards_is_refused(watch: Any) -> None:
    """Rounds were counted twice before, and the first frame's states were taken for the sample."""
    with pytest.raises(ValueError, match=r"watch: given one that gives round \d+ after round \d+"):
        pd.sample(lambda x, t: x / 2, SYSTEM, X, window=4, watch=watch)


@pytest.mark.parametrize("watch", [lambda frames: [], lambda frames: None, lambda frames: 3, lambda frames: iter([1])])
def test_a_watch_that_gives_no_frames_is_refused(watch: Any) -> None:
    """B4."""
    with pytest.raises(ValueError, match=r"watch: given one that gives .*; needed: an iterator of the frames"):
        pd.sample(lambda x, t: x, SYSTEM, X, watch=watch)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: pd.Guided(untouched, 3.0), r"null: given nothing; .*; type Guided\(model, 3.0, label=10\)"),
        (lambda: pd.Guided(untouched, "3", label=0), "scale: given '3'; needed: a finite number"),  # type: ignore[arg-type]
        (lambda: pd.Guided(untouched, math.nan, label=0), "scale: given nan"),
        (lambda: pd.Guided(None, 3.0, label=0), "model: given None; needed: a callable"),  # type: ignore[arg-type]
        (lambda: pd.Guided(untouched, 3.0, label="none"), "null 'label': given 'none'"),  # type: ignore[arg-type]
        (
            lambda: pd.sample(pd.Guided(untouched, 3.0, lable=0), SYSTEM, X, condition={"label": torch.zeros(2)}),
            "condition: given label; needed: what Guided has a null for: lable",
        ),
        (
            lambda: pd.sample(pd.Guided(untouched, 3.0, label=torch.zeros(2)), SYSTEM, X, condition={"label": X}),
            r"null 'label': given \(2,\); needed: a number, or the shape of one sample's, \(3,\)",
        ),
        (lambda: pd.sample(pd.Guided(untouched, 3.0, label=0), SYSTEM, X), "condition: given nothing; needed: what"),
        (
            lambda: pd.sample(
                pd.Guided(untouched, 3.0, label=0.5), SYSTEM, X, condition={"label": torch.ones(2, dtype=torch.long)}
            ),
            "null 'label': given 0.5; needed: whole numbers",
        ),
    ],
)
def test_guidance_that_cannot_be_is_refused(make: Callable[[], Any], says: str) -> None:
    """B4."""
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: pd.from_scheduler(DDIMScheduler, 20),
            r"the class DDIMScheduler; .*from_scheduler\(DDIMScheduler\(\), steps",
        ),
        (lambda: pd.from_scheduler("DDIMScheduler", 20), "scheduler: given 'DDIMScheduler'"),
        (
            lambda: pd.from_scheduler(LINEAR, 20),
            r"scheduler: given a Schedule, which is for rules: ddim\(schedule, steps\)",
        ),
        (lambda: pd.from_scheduler(SYSTEM, 20), "scheduler: given a System, which is a table already"),
        (lambda: pd.from_scheduler(Pipe(), 20), "scheduler: given Pipe, which has one; .*; type pipe.scheduler"),
        (lambda: pd.from_scheduler(DDIMScheduler(), 2.5), "steps: given 2.5; needed: a whole number"),  # type: ignore[arg-type]
        (lambda: pd.from_scheduler(DDIMScheduler(), 0), "steps: given 0"),
        (lambda: pd.from_scheduler(DDIMScheduler()), r"steps: given None; .*; type from_scheduler\(scheduler, 50\)"),
        (lambda: pd.from_scheduler(DDIMScheduler(), 20, eta="0"), "eta: given '0'; needed: a number"),  # type: ignore[arg-type]
        (lambda: pd.from_scheduler(DDIMScheduler(), 20, more=3), "more: given 3; needed: a dict of arguments"),  # type: ignore[arg-type]
        (lambda: pd.sharded(None, None), "model: given None; needed: a callable"),  # type: ignore[arg-type]
        (lambda: LINEAR.retimed(3), "model: given 3; needed: a Schedule"),  # type: ignore[arg-type]
        (lambda: LINEAR.time_at(0.3), "ratio: given 0.3; needed: a tensor"),  # type: ignore[arg-type]
        (lambda: SYSTEM.noise((0, 3)), r"shape: given \(0, 3\); needed: whole numbers"),
        (lambda: SYSTEM.noise((1, 3), 0), r"generator: given 0; .*manual_seed\(0\)"),  # type: ignore[arg-type]
        (lambda: pd.Schedule([1, 2], [1.0, 0.5], [0.1, 0.9]), "t: given list; needed: a tensor of one axis"),  # type: ignore[arg-type]
        (lambda: pd.Schedule(torch.arange(3), torch.ones(2), torch.ones(3)), "alpha: given 2 levels; needed: as many"),
        (
            lambda: pd.Schedule(torch.arange(2), torch.ones(2), torch.tensor([0.9, 0.1])),
            "schedule: given sigma / alpha that falls",
        ),
        (
            lambda: pd.Schedule(torch.arange(2), torch.ones(2), torch.tensor([-0.1, 0.1])),
            "sigma: given one that is neg",
        ),
        (lambda: pd.from_betas([0.1, 0.2]), r"betas: given list; .*; type torch.tensor\(betas"),  # type: ignore[arg-type]
        (lambda: pd.linear(1000.0), "T: given 1000.0; needed: a whole number"),  # type: ignore[arg-type]
        (lambda: pd.linear(start="0"), "start: given '0'"),  # type: ignore[arg-type]
        (lambda: pd.scaled_linear(end=1.5), "end: given 1.5"),
        (lambda: pd.cosine(max_beta=0.0), "max_beta: given 0.0"),
        (lambda: pd.rectified_flow(shift=-1.0), "shift: given -1.0"),
        (lambda: pd.zero_terminal_snr(torch.ones(3)), r"schedule: given a tensor; .*; type from_betas\(betas\)"),  # type: ignore[arg-type]
    ],
)
def test_what_tables_are_made_of_is_checked_too(make: Callable[[], Any], says: str) -> None:
    """B4."""
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (torch.zeros(3), r"x: given \(3,\); needed: a floating-point tensor \(batch, ...\)"),
        (torch.zeros(0, 3), r"x: given \(0, 3\)"),
        (torch.zeros(2, 3, dtype=torch.long), r"x: given \(2, 3\); needed: a floating-point"),
        ([[0.0]], "x: given list"),
        (torch.tensor([[0.0, math.inf]]), r"x: given inf at index \(0, 1\); needed: finite"),
    ],
)
def test_bad_starting_noise(x: Any, says: str) -> None:
    for run in (pd.sample, pd.iterate, pd.sequential):
        with pytest.raises(ValueError, match=says):
            run(untouched, SYSTEM, x)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: pd.ddpm(LINEAR, 1001), "steps: given 1001; needed: a whole number from 1 to 1000"),
        (lambda: pd.ddim(LINEAR, 0), "steps: given 0"),
        (lambda: pd.heun(LINEAR, -3), "steps: given -3"),
        (lambda: pd.flow(10.0), "steps: given 10.0"),  # type: ignore[arg-type]
        (lambda: pd.dpmsolver(LINEAR, 1000, spacing="leading"), "needed: fewer than 1000 with leading spacing"),
        (
            lambda: pd.ddpm(LINEAR, 10, spacing="even"),
            "spacing: given 'even'; needed: one of leading, trailing, linspace",
        ),
        (lambda: pd.ddpm(LINEAR, 10, offset=200), "offset: given 200"),
        (lambda: pd.ddpm(LINEAR, 10, variance="learned"), "variance: given 'learned'"),
        (lambda: pd.ddim(LINEAR, 10, eta=1.5), "eta: given 1.5"),
        (
            lambda: pd.ddim(LINEAR, 10, prediction="noise"),
            "prediction: given 'noise'; needed: one of epsilon, v, flow, x0",
        ),
        (lambda: pd.ddim(LINEAR, 10, clip=0.0), "clip: given 0.0"),
        (lambda: pd.ddim(LINEAR, 10, threshold=(2.0, 1.0)), "threshold: given"),
        # what holds a plain number, and what others call a prediction
        (lambda: pd.ddim(LINEAR, np.int64(20)), "steps: given numpy's int64 20; needed: .*; type steps=20"),  # type: ignore[arg-type]
        (lambda: pd.ddim(LINEAR, 20, eta=torch.tensor(0.5)), r"eta: given tensor\(0.5\); .*; type eta=0.5"),  # type: ignore[arg-type]
        (lambda: pd.FinalError(np.float32(0.5)), "tolerance: given numpy's float32 0.5"),  # type: ignore[arg-type]
        (lambda: pd.ddim(LINEAR, 10, prediction="v_prediction"), "type 'v'"),
        (lambda: pd.ddim(LINEAR, 10, prediction="sample"), "type 'x0'"),
        (lambda: pd.ddim(LINEAR, 10, clip="1"), "clip: given '1'; needed: a positive number"),
        (lambda: pd.ddim(LINEAR, 10).noise((1, 2), dtype=torch.float8_e4m3fn), "dtype: given"),
        (lambda: pd.ddim(LINEAR, 10).noise((1, 2), device="cuda:99"), "device: given 'cuda:99'"),
        (lambda: pd.flow(10, shift=0.0), "shift: given 0.0"),
        # the fields of methods and criteria
        (lambda: pd.Picard(pd.Copy), r"Picard: guess: given the class Copy; needed: a Guess: .*; type Copy\(\)"),  # type: ignore[arg-type]
        (lambda: pd.Picard("extrapolate"), r"Picard: guess: given 'extrapolate'; .*; type Extrapolate\(\)"),  # type: ignore[arg-type]
        (lambda: pd.Spectral(None), "Spectral: guess: given None"),  # type: ignore[arg-type]
        (lambda: pd.Spectral(width="1"), "Spectral: width: given '1'; needed: a finite number"),  # type: ignore[arg-type]
        (lambda: pd.Anderson(depth=2.0), "Anderson: depth: given 2.0; needed: a whole number"),  # type: ignore[arg-type]
        (lambda: pd.Anderson(variance=None), "Anderson: variance: given None"),  # type: ignore[arg-type]
        (lambda: pd.Parareal(block="8"), "Parareal: block: given '8'; needed: a whole number"),  # type: ignore[arg-type]
        (lambda: pd.Parareal(coarse="held"), r"Parareal: coarse: given 'held'; needed: a CoarseSolver: HeldCoarse\(\)"),  # type: ignore[arg-type]
        (lambda: pd.QuasiNewton(seed=True), "QuasiNewton: seed: given True"),
        (lambda: pd.Speculation(seed="a"), "Speculation: seed: given 'a'"),  # type: ignore[arg-type]
        (lambda: pd.FinalError(0.1, margin="5"), "FinalError: margin: given '5'"),  # type: ignore[arg-type]
        (lambda: pd.StepNoise("0.1"), "tolerance: given '0.1'"),  # type: ignore[arg-type]
        # A10
        (lambda: pd.ddpm(LINEAR, 20, offset=-1), "offset: given -1; needed: a whole number from 0"),
        (lambda: pd.ddim(LINEAR, 20, offset=1.0), "offset: given 1.0"),  # type: ignore[arg-type]
        (lambda: pd.ddim(LINEAR, 20, offset=1, spacing="trailing"), "offset: given 1 beside spacing 'trailing'"),
        (lambda: pd.ddim(LINEAR, 20, clip=1.0, threshold=(0.9, 1.5)), "clip: given 1.0 beside threshold"),
        (lambda: pd.flow(20, clip=1.0, threshold=(0.9, 1.5)), "clip: given 1.0 beside threshold"),
        # B4
        (lambda: pd.ddim(LINEAR, 20, eta="0"), "eta: given '0'; needed: a number from 0"),  # type: ignore[arg-type]
        (lambda: pd.ddim(LINEAR, 20, clip=True), "clip: given True; needed: a positive number such as 1.0"),
        (lambda: pd.ddim(LINEAR, 20, clip=math.inf), "clip: given inf"),
        (lambda: pd.ddim(LINEAR, 20, threshold=0.995), "threshold: given 0.995; needed: .quantile"),  # type: ignore[arg-type]
        (lambda: pd.ddim(LINEAR, 20, threshold=("a", 1.0)), "threshold: given 'a'"),  # type: ignore[arg-type]
        (lambda: pd.ddim(LINEAR, 20, prediction="epsilom"), "; type 'epsilon'"),
        (lambda: pd.ddim(LINEAR, 20, prediction=None), "prediction: given None"),  # type: ignore[arg-type]
        (lambda: pd.ddim(LINEAR, 20, spacing="Leading"), "; type 'leading'"),
        (lambda: pd.heun(LINEAR, 20, karras=1), "karras: given 1; needed: True or False"),  # type: ignore[arg-type]
        (lambda: pd.ddim(torch.linspace(0, 1, 9), 5), r"schedule: given a tensor; .*; type from_betas"),  # type: ignore[arg-type]
        (lambda: pd.ddim(pd.linear, 5), r"schedule: given the function linear; .*; type linear\(\)"),  # type: ignore[arg-type]
        (lambda: pd.ddim(DDIMScheduler(), 5), r"schedule: given DDIMScheduler; .*from_scheduler"),  # type: ignore[arg-type]
        (lambda: pd.flow(20, schedule=3), "schedule: given 3"),  # type: ignore[arg-type]
        (lambda: pd.flow(20, T=0), "T: given 0"),
        # B12
        *[
            (
                lambda rule=rule: rule(EXPLODING, 5),
                r"variance exploding levels.*sigma up to 80.*type from_levels\(t, 1.0, sigma",
            )
            for rule in (pd.ddpm, pd.ddim, pd.dpmsolver, pd.dpmsolver_single, pd.heun)
        ],
        (lambda: pd.ddim(pd.rectified_flow(), 10), "for a flow-matching model use flow"),
        (lambda: pd.from_betas(torch.tensor([0.1, -0.1])), "betas: given"),
        (
            lambda: pd.ddim(pd.zero_terminal_snr(LINEAR), 10, spacing="trailing"),
            "at zero SNR noise says nothing of the data: use 'v' or 'x0'",
        ),
    ],
)
def test_bad_rules(make: Callable[[], pd.System], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


def test_a_table_that_is_none_is_refused_when_built() -> None:
    with pytest.raises(ValueError, match="b needs"):
        replace(SYSTEM, b=SYSTEM.b[:5])
    with pytest.raises(ValueError, match="c is not finite"):
        replace(SYSTEM, c=SYSTEM.c * math.nan)
    with pytest.raises(ValueError, match="std must be positive"):
        replace(SYSTEM, std=SYSTEM.std * 0)
    with pytest.raises(ValueError, match="further back than the first row"):
        replace(SYSTEM, b=torch.ones(10, 2))


EMPTY, SPARSE = torch.zeros(2, 3, device="meta"), torch.eye(2).to_sparse()


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"noise": torch.zeros(10, 2, 3, device="meta")}, "noise: given a tensor of torch.strided on meta"),
        ({"noise": torch.zeros(10, 2, 3).to_sparse()}, "noise: given a tensor of torch.sparse_coo on cpu"),
        ({"condition": {"label": SPARSE}}, "condition 'label': given a tensor of torch.sparse_coo"),
        ({"x": EMPTY}, "x: given a tensor of torch.strided on meta"),
    ],
)
def test_tensors_without_numbers_or_rows_are_refused_by_name(how: dict[str, Any], says: str) -> None:
    """B4: torch's own errors for them name an operator of its own."""
    with pytest.raises(ValueError, match=says):
        pd.sample(**{"model": lambda x, t, label=None: untouched(x, t), "system": SYSTEM, "x": X, **how})


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: pd.dpmsolver(LINEAR, 10, karras=True, spacing="leadin"), "spacing: given 'leadin'.*type 'leading'"),
        (lambda: pd.dpmsolver_single(LINEAR, 10, spacing=torch.ones(3).numpy()), "spacing: given ndarray"),
        (lambda: pd.linear(10**30), "T: given 1000"),
        (lambda: pd.cosine(10**30), "T: given 1000"),
        (lambda: pd.rectified_flow(10**30), "T: given 1000"),
        (lambda: pd.Anderson(depth=10**30), "depth: given 1000.*needed: a whole number of iterates, 0 to 100"),
        (lambda: SYSTEM.noise((2, 3), dtype=torch.int64), "dtype: given .*type torch.float32"),
        (lambda: SYSTEM.noise((2, 3), dtype="float32"), "dtype: given 'float32'.*type torch.float32"),  # type: ignore[arg-type]
        (lambda: SYSTEM.noise((2, 3), device="gpu"), "device: given 'gpu'.*type 'cpu' or 'cuda'"),
        (lambda: SYSTEM.noise((2, 3), device=3.5), "device: given 3.5"),  # type: ignore[arg-type]
        (lambda: SYSTEM.to("gpu", torch.float32), "device: given 'gpu'.*type 'cpu' or 'cuda'"),
        (lambda: SYSTEM.to("cpu", torch.int64), "dtype: given .*type torch.float32"),
    ],
)
def test_what_torch_would_refuse_in_its_own_words_is_refused_in_ours(make: Callable[[], Any], says: str) -> None:
    """B4: an argument that changes nothing is checked too, and numbers that fill the memory are refused."""
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize("scale", [1e-25, 1e18])
def test_states_whose_squares_are_no_numbers_are_refused(scale: float) -> None:
    """Half the sample off at tolerance 0, and "converged": no change was larger than 0."""
    with pytest.raises(ValueError, match=r"x: given numbers of at most .*needed: 0, or a largest number from 7e-16"):
        pd.sample(untouched, SYSTEM, torch.full((2, 3), scale), tolerance=0.0)


@pytest.mark.parametrize("of", ["x", "noise", "condition"])
def test_a_transform_of_torch_func_around_a_solver_is_refused(of: str) -> None:
    """torch.func.grad gave zeros without a word, and vmap named an operator of its own."""

    def loss(v: Tensor) -> Tensor:
        how: dict[str, Any] = {"x": X, "noise": torch.zeros(10, *X.shape), "condition": {"label": X}}
        how[of] = {"label": v} if of == "condition" else v
        return pd.sample(lambda x, t, label: x, SYSTEM, **how).x.sum()

    given = torch.zeros(10, *X.shape) if of == "noise" else X
    for transform in (torch.func.grad(loss), lambda v: torch.func.vmap(loss)(v[None])):
        with pytest.raises(ValueError, match=r"given a tensor within torch.func.*, vmap or another"):
            transform(given)


class Planned(pd.WindowController):
    """A controller that always answers the same."""

    def __init__(self, plan: Any) -> None:
        self.plan = plan

    def next(self, row: int) -> Any:
        return self.plan


@pytest.mark.parametrize("plan", [None, 8, (0, 1), (-3, 1), (1, 0), (8.0, 1), ("8", 1), (8, None), (8, 1, 1)])
def test_a_plan_of_a_controller_that_is_none_is_refused(plan: Any) -> None:
    """B4: it was a TypeError of Python's, or a window that nobody asked for."""
    with pytest.raises(ValueError, match=r"window: given a controller whose `next` gives .*; type return 32, 1"):
        pd.sample(untouched, SYSTEM, X, window=Planned(plan))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: pd.FixedWindow(0), "window: given 0"),
        (lambda: pd.FixedWindow("8"), "window: given '8'"),  # type: ignore[arg-type]
        (lambda: pd.FixedWindow(1, 0), "steps: given 0"),
        (lambda: pd.sample(untouched, SYSTEM, X, pd.Parareal(), window=Planned((8, 1))), "type window=32"),
        (lambda: pd.steps(SYSTEM, X, pd.Parareal(), window=lambda: 8), "window: given Parareal beside a controller"),
        (lambda: pd.sample(untouched, SYSTEM, torch.nested.nested_tensor([X, X[:1]])), "x: given a nested tensor"),
        (lambda: pd.together(untouched, [3]), "solvers: given list"),  # type: ignore[list-item]
        (lambda: pd.together(untouched, [pd.steps(SYSTEM, X)], most=0), "most: given 0"),
    ],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")  # torch's, when a test makes one
def test_windows_and_solvers_that_are_none_are_refused(make: Callable[[], Any], says: str) -> None:
    """B4."""
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize("window", [1, 8])
@pytest.mark.parametrize("what", ["begin", "stride", "last", "x", "D"])
def test_a_frame_that_is_changed_in_place_is_refused(what: str, window: int) -> None:
    """The chain goes on with a frame's tensors: a watch that changed them changed the sample, with no sign."""

    def watch(frames: Any) -> Any:
        for frame in frames:
            (frame.sweep.x if what == "last" and window > 1 else getattr(frame, what)).mul_(2)
            yield frame

    system = pd.ddim(LINEAR, 10)
    how: dict[str, Any] = {"window": window, "watch": watch}
    if what == "stride" and window == 1:  # made anew each time
        assert pd.sample(lambda x, t: x / 2, system, X + 1, **how).converged
        return
    with pytest.raises(ValueError, match="watch: given one that changes a frame's tensors in place"):
        pd.sample(lambda x, t: x / 2, system, X + 1, **how)


@pytest.mark.parametrize("window", [1, 4])
def test_a_frame_may_be_read(window: int) -> None:
    """What a frame makes when it is asked for shows what the chain wrote into before, and is no change."""

    def watch(frames: Any) -> Any:
        for frame in frames:
            assert len(frame.x) == len(frame.D) + 1 and len(frame.begin) == len(frame.end) == len(frame.stride) == 2
            assert frame.last.equal(torch.stack([frame.x[n, b] for b, n in enumerate(frame.stride.tolist())]))
            yield frame

    x = X + torch.tensor([[0.1], [3.0]])
    assert pd.sample(lambda x, t: x.tanh(), pd.ddim(LINEAR, 12), x, window=window, watch=watch).converged


def test_what_holds_tensors_is_compared_and_hashed_by_what_it_is() -> None:
    """Comparing their tensors raised an error of torch's."""
    import copy

    solution = pd.sample(lambda x, t: x / 2, pd.ddim(LINEAR, 4), X + 1, window=1)
    for thing in (solution, SYSTEM, LINEAR, SYSTEM.denoiser, pd.Problem(untouched, SYSTEM, X)):
        assert thing == thing and thing != copy.deepcopy(thing) and len({thing, thing}) == 1
    assert solution.x.equal(copy.deepcopy(solution).x)


def test_a_chain_of_one_step_has_no_reason_to_give_a_window_up() -> None:
    solution = pd.sample(lambda x, t: x / 2, pd.ddim(LINEAR, 1), X + 1, window=8)
    assert solution.reason is None and solution.rounds == 1


LEVELS = torch.cat([torch.logspace(1, -1, 10), torch.zeros(1)])
ONES = torch.ones(10, dtype=torch.float64)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: pd.from_levels(LEVELS[:-1] > 0, 1.0, LEVELS), "t: given"),
        (lambda: pd.from_levels(LEVELS[:-1] + 0j, 1.0, LEVELS), "t: given"),
        (lambda: pd.from_levels(None, 1.0, LEVELS, into=-torch.ones(11)), "into: given one that is not above 0"),
        (lambda: pd.from_levels(None, 1.0, LEVELS, order=-3), "order: given -3"),
        (lambda: pd.from_levels(None, 1.0, LEVELS, gamma=math.nan), "gamma: given nan"),
        (lambda: pd.from_levels(None, 1.0, LEVELS, mu=3.0), "mu: given 3.0"),
        (lambda: pd.Schedule(torch.arange(3), torch.ones(3).to_sparse(), torch.ones(3)), "alpha: given a tensor of"),
        (lambda: replace(SYSTEM, a=SYSTEM.a.long()), "system: a: given a tensor of torch.int64; needed: real numbers"),
        (lambda: replace(SYSTEM, a=SYSTEM.a + 0j), "system: a: given a tensor of torch.complex128"),
        (lambda: replace(SYSTEM, t=SYSTEM.t > 0), "system: t: given a tensor of torch.bool"),
        (lambda: replace(SYSTEM, t=SYSTEM.t * math.nan), "system: t is not finite"),
        (lambda: replace(SYSTEM, c=SYSTEM.c.to("meta")), "system: c: given a tensor of torch.strided on meta"),
        (
            lambda: replace(SYSTEM, denoiser=pd.ddpm(LINEAR, 3).denoiser),
            r"denoiser: into: given \(3,\); needed: \(10",
        ),
        (lambda: pd.make_denoiser(ONES, ONES[:3], ONES), r"sigma: given \(3,\); needed: a floating-point tensor"),
        (lambda: pd.make_denoiser(ONES, ONES, 1.0), "into: given 1.0"),  # type: ignore[arg-type]
        (lambda: pd.steps(SYSTEM, X, max_rounds=0), "max_rounds: given 0"),
        (lambda: pd.steps(SYSTEM, X, condition={"_sample": torch.ones(2)}), "condition: given the name '_sample'"),
        (lambda: pd.steps(SYSTEM, X, window=lambda row: 8), "called without arguments"),  # type: ignore[arg-type,misc]
        (lambda: pd.steps(SYSTEM, X, window=pd.FixedWindow), "window: given the class FixedWindow"),  # type: ignore[arg-type]
    ],
)
def test_a_table_and_a_solver_take_no_numbers_that_they_cannot_use(make: Callable[[], Any], says: str) -> None:
    """B4: they were taken, and failed or changed the sample later."""
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize("rule", ["lms", "gamma"])
def test_skeletons_of_predicted_noise_are_refused(rule: str) -> None:
    """Nodes are interpolated as estimates of the data: at tolerance 0 the sample was 0.6 and 1.9 off, "converged"."""
    system = pd.from_levels(None, 1.0, LEVELS, rule)
    with pytest.raises(ValueError, match=r"method: given Skeleton\(\) beside a rule.*; type method=Spectral\(\)"):
        pd.sample(untouched, system, X, pd.Skeleton(), tolerance=0.0)


FALLING = [3.0, 1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: pd.euler(torch.tensor([1.0, 1.0, 0.0])), r"times: given \[1, 1, 0\]; needed: times that fall"),
        (lambda: pd.euler(torch.linspace(1, 0, 5, device="meta")), "times: given a tensor of .* on meta"),
        (lambda: pd.from_betas(torch.linspace(0.1, 0.2, 5, device="meta")), "betas: given a tensor of .* on meta"),
        (lambda: pd.from_betas(torch.tensor([0.1, -0.5, 1.2])), r"betas: given \[-0.5, 1.2\]; needed: values in"),
        (lambda: pd.from_betas(torch.full((2, 2), 0.1)), r"betas: given \(2, 2\); needed: one axis"),
        (lambda: told_sigma([3.0, 0.0, 0.0]), "sigma: given a level of 0; needed: .* which may be 0 at the last"),
        (lambda: told_sigma([3.0, 1.0, -0.5]), "sigma: given a level of -0.5"),
        (lambda: told_sigma(FALLING, alpha=torch.tensor([0.5, -1.0, 1.0, 1.0])), "alpha: given a level of -1"),
        (lambda: told_sigma(FALLING, alpha=torch.tensor([1.0, 1.0, 1.0, 0.0])), "alpha: given a level of 0"),
        (lambda: told_sigma(torch.linspace(1, 0, 5, device="meta")), "sigma: given a tensor of .* on meta"),
        (lambda: told_sigma([3.0, 1.0, 1.0, 0.0], "lms"), "alpha, sigma: given two levels of equal noise; .*'lms'"),
    ],
)
def test_levels_that_cannot_be_are_refused_by_value(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


def told_sigma(sigma: Any, rule: str = "ddim", alpha: Any = 1.0) -> pd.System:
    """A chain of an x0 model, told sigma."""
    return pd.from_levels(None, alpha, torch.as_tensor(sigma), rule, prediction="x0")


def test_two_levels_of_equal_noise_leave_a_state_as_it_is() -> None:
    x = torch.randn(2, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def model(x: Tensor, sigma: Tensor) -> Tensor:
        return x / (1 + sigma**2)[:, None]

    once, twice = (pd.sequential(model, told_sigma(each), x) for each in ([3.0, 1.0, 0.0], [3.0, 1.0, 1.0, 0.0]))
    assert torch.equal(once, twice)
