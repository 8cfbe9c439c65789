"""Samplers of `paradigms` in the lists of AUTOMATIC1111's web UI, and of Forge, see ../README.md.

Its denoiser counts its calls, and the count says which prompt of a schedule is shown and whether the negative one is
left out. Rows of other steps would be given another step's, so that each row brings its own:

row (n, b)    conds[b] as it is at step n, alone in its schedule        and rows of one call are all alike in

    which of the two conditions that leave the negative prompt out hold, and how many tokens the longest prompt has
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from paradigms.integrations.k_diffusion import sample_paradigms

LOG = logging.getLogger("a1111_paradigms")
# the samplers that call the model once a step, for calls are what the denoiser counts
SAMPLERS = {"Euler": "euler", "Euler a": "euler_ancestral", "DPM++ 2M": "dpmpp_2m", "LMS": "lms"}
HELD = ("mask", "nmask", "init_latent")  # what the denoiser holds of each image
CALLBACKS = ("callbacks_cfg_denoiser", "callbacks_cfg_denoised", "callbacks_cfg_after_cfg")
FORGE = (
    "sampler_pre_cfg_function", "sampler_post_cfg_function", "sampler_cfg_function", "model_function_wrapper",
    "conditioning_modifiers",
)  # fmt: skip
WINDOW, TOLERANCE = "auto", 0.003


class WebUIRows:
    """denoised (M, ...) of rows x (M, ...) at sigma (M,), of images `sample` (M,), by a `CFGDenoiser`."""

    def __init__(self, denoiser: Any, sigmas: Tensor, B: int, args: dict[str, Any]) -> None:
        self.denoiser, self.sigmas, self.B, self.args = denoiser, sigmas, B, args

    def __call__(self, x: Tensor, sigma: Tensor, sample: Tensor) -> Tensor:
        steps = (sigma[:, None] - self.sigmas[:-1].to(sigma)).abs().argmin(1).tolist()
        parts: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for row, n in enumerate(steps):
            parts[self.kind(n)].append(row)
        out = torch.empty_like(x)
        for rows in parts.values():
            index = torch.tensor(rows, device=x.device)
            places = [(steps[row], int(sample[row])) for row in rows]
            out[index] = self.asked(x[index], sigma[index], sample[index], places).to(out)
        return out

    def kind(self, n: int) -> tuple[Any, ...]:
        """What rows of a call have in common with step n."""
        from modules.shared import opts

        least = float(self.args.get("s_min_uncond") or 0.0)
        every_other = bool(n % 2 or getattr(opts, "s_min_uncond_all", False)) and float(self.sigmas[n]) < least
        early = n / (self.denoiser.total_steps or len(self.sigmas) - 1) <= getattr(opts, "skip_early_cond", -1.0)
        prompts = [at(c.schedules, n) for conds in self.args["cond"].batch for c in conds]
        negative = self.args["uncond"]  # Forge has none where the guidance is 1
        return every_other, early, max(map(tokens, prompts)), None if negative is None else tokens(at(negative[0], n))

    def asked(self, x: Tensor, sigma: Tensor, sample: Tensor, places: list[tuple[int, int]]) -> Tensor:
        """The denoiser's answer to rows of steps and images (n, b), with what it holds of B images repeated."""
        cond, uncond = self.args["cond"], self.args["uncond"]
        own = [[type(c)([at(c.schedules, n)], c.weight) for c in cond.batch[b]] for n, b in places]
        args = {k: v[sample] if of_images(v, self.B) else v for k, v in self.args.items()}
        negative = None if uncond is None else [[at(uncond[b], n)] for n, b in places]
        args |= {"cond": type(cond)((len(places),), own), "uncond": negative}
        with self.held(sample, places[0][0]):
            return self.denoiser(x, sigma, **args)

    @contextmanager
    def held(self, sample: Tensor, n: int) -> Iterator[None]:
        """Within it the denoiser is at step n, and holds what belongs to the images of the rows."""
        denoiser, sampler = self.denoiser, self.denoiser.sampler
        every = {k: getattr(denoiser, k, None) for k in HELD}
        before: dict[str, Tensor] = {k: v for k, v in every.items() if v is not None and of_images(v, self.B)}
        step, last = denoiser.step, sampler.last_latent
        try:
            denoiser.step = n
            for k, v in before.items():
                setattr(denoiser, k, v[sample.to(v.device)])
            yield
        finally:
            denoiser.step, sampler.last_latent = step, last  # the last latent is what an interrupted picture is made of
            for k, v in before.items():
                setattr(denoiser, k, v)


def at(schedule: list[Any], n: int) -> Any:
    """The entry of a prompt's schedule at step n."""
    return next((entry for entry in schedule if n <= entry.end_at_step), schedule[0])


def tokens(entry: Any) -> int:
    """The tokens of a prompt's embedding."""
    cond = entry.cond["crossattn"] if isinstance(entry.cond, dict) else entry.cond
    return len(cond)


def of_images(v: Any, B: int) -> bool:
    """Whether something is a tensor with a row for each image."""
    return isinstance(v, Tensor) and v.ndim == 4 and len(v) == B


def why_plain(denoiser: Any, name: str, args: dict[str, Any]) -> str | None:
    """Why rows of other steps would be answered otherwise than by the web UI itself; None where they are not."""
    from modules import script_callbacks, shared

    p = denoiser.p
    if getattr(p, "refiner_checkpoint_info", None) is not None:
        return "a refiner changes the model between steps"
    if getattr(shared.sd_model, "cond_stage_key", None) == "edit":
        return "of models that edit pictures the rows of a batch were not looked at"
    found = [kind for kind in CALLBACKS if script_callbacks.callback_map.get(kind)]
    if found:
        return f"an extension acts within each step ({', '.join(found)})"
    forge = getattr(shared.sd_model, "forge_objects", None)
    return None if forge is None else why_forge(denoiser, forge.unet, name, args)


def why_forge(denoiser: Any, unet: Any, name: str, args: dict[str, Any]) -> str | None:
    """The same for Forge, whose denoiser does more by the batch."""
    if denoiser.mask is not None:
        return "Forge draws the noise of what is masked anew in each call"
    if unet.list_controlnets():
        return "a ControlNet begins and ends by the noise of a batch's first row"
    if len({tuple(c.weight for c in conds) for conds in args["cond"].batch}) > 1:
        return "Forge weighs the prompts of all pictures of a batch as the last one's"
    if name == "euler_ancestral" and type(denoiser.inner_model.predictor).__name__ == "PredictionFlux":
        return "of flow models Forge has another ancestral sampler"
    acting = [kind for kind in FORGE if unet.model_options.get(kind)]
    return f"an extension acts within each step ({', '.join(acting)})" if acting else None


def sampler_of(name: str) -> Callable[..., Tensor]:
    """A sampler with k-diffusion's signature; where the web UI would answer otherwise it is k-diffusion's own."""

    def sample(
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: dict[str, Any] | None = None,
        callback: Callable[[dict[str, Any]], Any] | None = None,
        disable: bool | None = None,
        **options: Any,  # not named eta: the web UI gives an eta to all samplers with a parameter of that name
    ) -> Tensor:
        import k_diffusion.sampling as own

        if why := why_plain(model, name, dict(extra_args or {})):
            LOG.warning("sampled step by step, by k-diffusion itself: %s", why)
            return getattr(own, f"sample_{name}")(model, x, sigmas, extra_args, callback, disable, **options)
        rows = WebUIRows(model, sigmas, len(x), dict(extra_args or {}))

        def shown(step: dict[str, Any]) -> None:
            model.step, model.sampler.last_latent = step["i"] + 1, step["denoised"]
            if callback is not None:
                callback(step)

        images = torch.arange(len(x), device=x.device)
        # the web UI puts a torch of its own into k-diffusion, which draws each image's noise from its own seed
        noise = (lambda *_: own.torch.randn_like(x)) if name == "euler_ancestral" else None
        return sample_paradigms(
            rows, x, sigmas, {"sample": images}, shown, disable, sampler=name, window=WINDOW, tolerance=TOLERANCE,
            noise_sampler=noise, report=LOG.info, **options,
        )  # fmt: skip

    if name != "euler_ancestral":
        return sample

    def ancestral(
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: dict[str, Any] | None = None,
        callback: Callable[[dict[str, Any]], Any] | None = None,
        disable: bool | None = None,
        eta: float = 1.0,
    ) -> Tensor:
        return sample(model, x, sigmas, extra_args, callback, disable, eta=eta)

    return ancestral


def register() -> None:
    """Adds the samplers to the web UI's lists, once."""
    from modules import sd_samplers, sd_samplers_common
    from modules.sd_samplers_kdiffusion import KDiffusionSampler

    for label, name in SAMPLERS.items():
        title, made = f"{label} parallel", sampler_of(name)
        if title in sd_samplers.all_samplers_map:
            continue
        options = {"uses_ensd": True} if name == "euler_ancestral" else {}
        data = sd_samplers_common.SamplerData(
            title, lambda model, made=made: KDiffusionSampler(made, model), [f"paradigms_{name}"], options
        )
        sd_samplers.all_samplers.append(data)
        sd_samplers.all_samplers_map[title] = data
    sd_samplers.set_samplers()


try:
    import modules.sd_samplers  # noqa: F401
except ImportError:  # not within the web UI
    pass
else:
    register()
