"""The samplers for AUTOMATIC1111's web UI, on a denoiser with its rules, beside k-diffusion's loops, written here."""

from __future__ import annotations

import inspect
import itertools
import sys
from collections import namedtuple
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from integrations.a1111_paradigms.scripts import paradigms_sampler as ours

B, N = 2, 24
SIGMAS = torch.cat([torch.linspace(14.6, 0.1, N), torch.zeros(1)])
Entry = namedtuple("Entry", ["end_at_step", "cond"])


class Composable:
    def __init__(self, schedules: list[Entry], weight: float = 1.0) -> None:
        self.schedules, self.weight = schedules, weight


class Multicond:
    def __init__(self, shape: tuple[int, ...], batch: list[list[Composable]]) -> None:
        self.shape, self.batch = shape, batch


def prompt(seed: int, tokens: int = 77) -> Tensor:
    return torch.randn(tokens, 4, generator=torch.Generator().manual_seed(seed))


class Denoiser:
    """The web UI's rules: prompts by the count of calls, padded to the longest of them; at times no negative one."""

    def __init__(self) -> None:
        self.step, self.total_steps, self.sizes = 0, N, list[int]()
        self.p, self.sampler = SimpleNamespace(refiner_checkpoint_info=None), SimpleNamespace(last_latent=None)
        self.mask = self.nmask = self.init_latent = None

    def unet(self, x: Tensor, sigma: Tensor, cond: Tensor) -> Tensor:
        v = sigma[:, None, None, None] ** 2
        return torch.tanh(cond.mean(1)[:, :, None, None] * 3 + x / (1 + v)) / (1 + 0.1 * v)

    def at(self, schedule: list[Entry]) -> Tensor:
        return next((e.cond for e in schedule if self.step <= e.end_at_step), schedule[0].cond)

    def __call__(
        self, x: Tensor, sigma: Tensor, cond: Multicond, uncond: Any, cond_scale: float, s_min_uncond: float
    ) -> Tensor:
        self.sizes.append(len(x))
        assert len(cond.batch) == len(uncond) == len(x)
        longest = max(len(self.at(c.schedules)) for conds in cond.batch for c in conds)
        skip = self.step % 2 == 1 and s_min_uncond > 0 and bool(sigma[0] < s_min_uncond)
        negative, rows = self.unet(x, sigma, torch.stack(list(map(self.at, uncond)))), []
        for i, conds in enumerate(cond.batch):
            prompts = [self.at(c.schedules) for c in conds]
            padded = torch.stack([torch.cat([v, v[-1:].expand(longest - len(v), -1)]) for v in prompts])
            said = self.unet(x[i].expand(len(conds), -1, -1, -1), sigma[i].expand(len(conds)), padded)
            base, scale = (said[0], 1.0) if skip else (negative[i], cond_scale)
            rows.append(base + sum((m - base) * c.weight * scale for m, c in zip(said, conds, strict=True)))
        found = torch.stack(rows)
        if self.mask is not None:
            found = found * self.nmask + self.init_latent * self.mask
        self.sampler.last_latent = found
        self.step += 1
        return found


def arguments() -> dict[str, Any]:
    both = [Composable([Entry(7, prompt(1)), Entry(15, prompt(2, 154)), Entry(N, prompt(3))])]
    split = [Composable([Entry(N, prompt(4))], 0.7), Composable([Entry(3, prompt(5)), Entry(N, prompt(6))], 0.4)]
    negative = [[Entry(11, prompt(7)), Entry(N, prompt(8))], [Entry(N, prompt(9))]]
    return {"cond": Multicond((B,), [both, split]), "uncond": negative, "cond_scale": 4.0, "s_min_uncond": 0.0}


def first() -> Tensor:
    return SIGMAS[0] * torch.randn(B, 4, 8, 8, generator=torch.Generator().manual_seed(2))


def euler(model: Denoiser, x: Tensor, args: dict[str, Any], noise: Any = None) -> Tensor:
    """k-diffusion's Euler, and its ancestral kind where there is noise."""
    for s, then in itertools.pairwise(SIGMAS):
        D = model(x, s.expand(len(x)), **args)
        up = min(then, (then**2 * (s**2 - then**2) / s**2) ** 0.5) if noise else torch.zeros(())
        x = D + (then**2 - up**2).sqrt() / s * (x - D)
        x = x + up * noise(x) if noise and then > 0 else x
    return x


@pytest.fixture(autouse=True)
def webui(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The modules of the web UI that are asked for."""
    modules = {name: ModuleType(name) for name in (
        "modules", "modules.shared", "modules.script_callbacks", "modules.sd_samplers", "modules.sd_samplers_common",
        "modules.sd_samplers_kdiffusion", "k_diffusion", "k_diffusion.sampling",
    )}  # fmt: skip
    shared, callbacks, samplers = (modules[f"modules.{k}"] for k in ("shared", "script_callbacks", "sd_samplers"))
    shared.opts, shared.sd_model = SimpleNamespace(), SimpleNamespace(cond_stage_key="txt")
    callbacks.callback_map = {"callbacks_cfg_denoiser": []}
    samplers.all_samplers, samplers.all_samplers_map, samplers.set_samplers = [], {}, lambda: None
    modules["modules.sd_samplers_common"].SamplerData = namedtuple("SamplerData", "name constructor aliases options")
    modules["modules.sd_samplers_kdiffusion"].KDiffusionSampler = lambda function, model: (function, model)
    modules["k_diffusion.sampling"].torch = torch
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
        if "." in name:
            setattr(modules[name.split(".")[0]], name.split(".")[1], module)
    yield SimpleNamespace(shared=shared, callbacks=callbacks, samplers=samplers, own=modules["k_diffusion.sampling"])


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "WINDOW", 8)
    monkeypatch.setattr(ours, "TOLERANCE", 0)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("least", [0.0, 6.0])
def test_the_web_uis_own_picture_with_prompts_that_change_by_step(windows: None, masked: bool, least: float) -> None:
    args, model, reference, told = arguments() | {"s_min_uncond": least}, Denoiser(), Denoiser(), list[int]()
    if masked:
        for each in (model, reference):
            each.mask = (torch.arange(8.0) > 3).float().expand(B, 4, 8, 8)
            each.nmask, each.init_latent = 1 - each.mask, first() / 10
    wanted = euler(reference, first(), args)
    found = ours.sampler_of("euler")(model, first(), SIGMAS, args, lambda d: told.append(d["i"]))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert told == list(range(N)) and model.step == N and max(model.sizes) > B
    assert model.sampler.last_latent.shape == wanted.shape
    assert model.mask is None or len(model.mask) == B


def test_ancestral_noise_is_that_of_the_web_ui(windows: None, webui: SimpleNamespace) -> None:
    g = torch.Generator()
    webui.own.torch = SimpleNamespace(randn_like=lambda x: torch.randn(x.shape, generator=g))
    g.manual_seed(3)
    wanted = euler(Denoiser(), first(), arguments(), webui.own.torch.randn_like)
    g.manual_seed(3)
    found = ours.sampler_of("euler_ancestral")(Denoiser(), first(), SIGMAS, arguments())
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_where_the_web_ui_would_answer_otherwise_its_own_sampler_is_taken(
    webui: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    webui.own.sample_euler = lambda model, x, sigmas, args, callback, disable: euler(model, x, args)
    for change in ("refiner", "extension"):
        model = Denoiser()
        model.p.refiner_checkpoint_info = "another" if change == "refiner" else None
        webui.callbacks.callback_map["callbacks_cfg_denoiser"] = ["an extension"] if change == "extension" else []
        found = ours.sampler_of("euler")(model, first(), SIGMAS, arguments())
        assert torch.equal(found, euler(Denoiser(), first(), arguments())) and set(model.sizes) == {B}
        assert change in caplog.text


def test_the_samplers_are_in_the_web_uis_lists_once(webui: SimpleNamespace) -> None:
    ours.register()
    ours.register()
    names = [data.name for data in webui.samplers.all_samplers]
    assert names == ["Euler parallel", "Euler a parallel", "DPM++ 2M parallel", "LMS parallel"]
    assert [webui.samplers.all_samplers_map[name].constructor("model")[1] for name in names] == ["model"] * 4


def test_an_eta_is_asked_of_the_ancestral_sampler_alone() -> None:  # the web UI looks for a parameter of that name
    asked = [name for name in ours.SAMPLERS.values() if "eta" in inspect.signature(ours.sampler_of(name)).parameters]
    assert asked == ["euler_ancestral"]


class ForgeDenoiser(Denoiser):
    """Forge's rules: with a guidance of 1 there is no negative prompt."""

    inner_model = SimpleNamespace(predictor=None)

    def __call__(self, x: Tensor, sigma: Tensor, cond: Any, uncond: Any, *more: Any, **rest: Any) -> Tensor:
        negative = [[Entry(N, prompt(9))]] * len(x) if uncond is None else uncond
        return super().__call__(x, sigma, cond, negative, *more, **rest)


def alike() -> dict[str, Any]:
    """Arguments of pictures whose prompts are weighed alike, for Forge takes the last one's weights for all."""
    args = arguments()
    one, other = args["cond"].batch[0][0].schedules, args["cond"].batch[1][1].schedules
    return args | {"cond": Multicond((B,), [[Composable(one)], [Composable(other)]])}


def forge(webui: SimpleNamespace) -> SimpleNamespace:
    unet = SimpleNamespace(list_controlnets=list, model_options={})
    webui.shared.sd_model = SimpleNamespace(forge_objects=SimpleNamespace(unet=unet))
    webui.own.sample_euler = lambda model, x, sigmas, args, callback, disable: euler(model, x, args)
    return unet


@pytest.mark.parametrize("negative", [True, False])
def test_forges_own_picture_with_and_without_a_negative_prompt(
    windows: None, webui: SimpleNamespace, negative: bool
) -> None:
    forge(webui)
    args = alike() | ({} if negative else {"uncond": None, "cond_scale": 1.0})
    model = ForgeDenoiser()
    found = ours.sampler_of("euler")(model, first(), SIGMAS, args)
    torch.testing.assert_close(found, euler(ForgeDenoiser(), first(), args), rtol=1e-5, atol=1e-5)
    assert max(model.sizes) > B


@pytest.mark.parametrize("why", ["masked", "ControlNet", "weighs", "extension"])
def test_where_forge_goes_by_the_batch_its_own_sampler_is_taken(
    webui: SimpleNamespace, caplog: pytest.LogCaptureFixture, why: str
) -> None:
    unet, model, reference = forge(webui), ForgeDenoiser(), ForgeDenoiser()
    if why == "masked":
        for each in (model, reference):
            each.mask = each.nmask = torch.full((B, 4, 8, 8), 0.5)
            each.init_latent = first()
    unet.list_controlnets = lambda: ["one"] if why == "ControlNet" else []
    unet.model_options["sampler_post_cfg_function"] = ["one"] if why == "extension" else []
    args = arguments() if why == "weighs" else alike()
    found = ours.sampler_of("euler")(model, first(), SIGMAS, args)
    assert torch.equal(found, euler(reference, first(), args)) and set(model.sizes) == {B}
    assert why in caplog.text


def test_the_ancestral_sampler_of_forges_flow_models_is_its_own(webui: SimpleNamespace) -> None:
    forge(webui)
    model = ForgeDenoiser()
    model.inner_model = SimpleNamespace(predictor=type("PredictionFlux", (), {})())
    webui.own.sample_euler_ancestral = lambda *args, **kwargs: "its own"
    assert ours.sampler_of("euler_ancestral")(model, first(), SIGMAS, alike()) == "its own"
