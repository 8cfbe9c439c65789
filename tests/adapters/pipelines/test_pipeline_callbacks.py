"""The user's callbacks: once a step, in order, on what the sequential call would show them, and free to change it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.callbacks import IPAdapterScaleCutoffCallback, SDCFGCutoffCallback

from benchmarks.zoo.stable_diffusion import with_ip_adapter, with_lora
from benchmarks.zoo.tiny import randn
from paradigms import parallelize
from paradigms.adapters.pipelines.pipeline import COPIED
from promises import CLOSE, EXACT, off, promise, sample, text2image
from small_pipelines import Said, Small, small

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

BOTH = ["latents", "prompt_embeds"]
Seen = list[tuple[Any, ...]]


def recorder(seen: Seen) -> Any:
    """A callback that keeps what it is shown."""

    def callback(pipe: Any, i: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append((id(pipe), i, float(t), {k: v.clone() for k, v in tensors.items()}))
        return tensors

    return callback


def recorded(pipe: Any, **changes: Any) -> Seen:
    """What a callback is shown in a call."""
    seen: Seen = []
    sample(pipe, callback_on_step_end=recorder(seen), callback_on_step_end_tensor_inputs=BOTH, **changes)
    return seen


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "UniPCMultistepScheduler", "EulerAncestralDiscreteScheduler"])
@pytest.mark.parametrize("batched", [False, True])
def test_a_callback_is_called_once_a_step_with_the_sequential_latents(scheduler: str, batched: bool) -> None:
    pipe = text2image(scheduler)
    reference = recorded(pipe, steps=6)
    with parallelize(pipe, tolerance=0, window=4, batched=batched):
        found = recorded(pipe, steps=6)
    assert [s[:3] for s in found] == [s[:3] for s in reference] and len(found) == 6
    for (*_, new), (*_, old) in zip(found, reference, strict=True):
        assert list(new) == list(old) == BOTH
        assert all(off(new[k], old[k]) <= (CLOSE if batched else 0) for k in old)


def test_a_callback_is_called_once_a_step_when_the_result_is_not_exact() -> None:
    pipe = text2image()
    with parallelize(pipe, tolerance=0.05, window=8) as run:
        seen = recorded(pipe, steps=12)
    assert [s[1] for s in seen] == list(range(12)) and run.rounds < 12


@pytest.mark.parametrize("step", [0, 2, 4])
def test_editing_the_latents_counts_from_there_on(step: int) -> None:
    def edit(pipe: Any, i: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"latents": tensors["latents"] * (0.5 if i == step else 1.0)}

    run = promise(text2image(), callback_on_step_end=edit)
    assert sum(run.accepted) == 5


def test_editing_the_latents_in_place_counts_too() -> None:
    def edit(pipe: Any, i: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        tensors["latents"].mul_(0.9)
        return {}

    promise(text2image(), callback_on_step_end=edit)


def test_drawing_noise_in_a_callback_counts_too() -> None:
    def edit(pipe: Any, i: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"latents": tensors["latents"] + 0.1 * torch.randn(tensors["latents"].shape)}

    promise(text2image("DDPMScheduler"), callback_on_step_end=edit, seed=None)


@pytest.mark.parametrize("step", [0, 1, 3])
def test_interrupting_gives_what_the_sequential_call_gives(step: int) -> None:
    def stop(pipe: Any, i: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append(i)
        if i == step:
            pipe._interrupt = True
        return tensors

    seen: list[int] = []
    promise(text2image(), callback_on_step_end=stop)
    assert seen == 3 * list(range(step + 1))


def test_dynamic_guidance_gives_what_the_sequential_call_gives() -> None:
    """The callback of diffusers' documentation, which drops guidance, and half of the batch, on the way."""

    def cut(pipe: Any, i: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if i == int(pipe.num_timesteps * 0.4):
            tensors["prompt_embeds"] = tensors["prompt_embeds"].chunk(2)[-1]
            pipe._guidance_scale = 0.0
        return tensors

    run = promise(text2image(), callback_on_step_end=cut, callback_on_step_end_tensor_inputs=BOTH, steps=7)
    assert run.rounds < 2 * 7


def test_the_ready_made_cutoff_of_guidance_is_right() -> None:
    promise(text2image(), callback_on_step_end=SDCFGCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=2))


@pytest.mark.parametrize("step", [0, 2])
def test_a_callback_that_changes_an_adapter_is_right(step: int) -> None:
    """What was evaluated before it did says nothing of the network that it left."""
    pipe = with_ip_adapter()
    images = {"ip_adapter_image_embeds": [randn(2, 1, 8)]}

    def call(pipe: Any, **changes: Any) -> torch.Tensor:
        pipe.set_ip_adapter_scale(1.0)
        return sample(pipe, **changes)

    cut = IPAdapterScaleCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=step)
    assert off(call(pipe, callback_on_step_end=cut, **images), call(pipe, **images)) > CLOSE
    promise(pipe, call, callback_on_step_end=cut, **images)


@pytest.mark.parametrize("how", ["scale", "switch"])
def test_a_callback_that_changes_a_lora_is_right(how: str) -> None:
    def call(pipe: Any, **changes: Any) -> torch.Tensor:
        pipe.unet.enable_adapters()
        pipe.unet.set_adapters("default", 1.0)
        return sample(pipe, **changes)

    def change(pipe: Any, i: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if i == 0 and how == "scale":
            pipe.unet.set_adapters("default", 0.2)
        elif i == 0:
            pipe.unet.disable_adapters()
        return tensors

    pipe = with_lora()
    assert off(call(pipe, callback_on_step_end=change), call(pipe)) > CLOSE
    promise(pipe, call, callback_on_step_end=change)


def scale_number(network: Any) -> None:
    network.gain *= 0.9


def scale_weights(network: Any) -> None:
    network.outer.weight.mul_(0.9)


@pytest.mark.parametrize("change", [scale_number, scale_weights])
@pytest.mark.parametrize("when", [{0}, {3}, {7}, {2, 3, 6}])
def test_what_a_callback_sets_of_a_network_is_not_its_own(change: Any, when: set[int]) -> None:
    """It was compared with the network that the loop began with, and the call stepped: in the last row, too."""
    begun = Small().outer.weight

    def gained(net: Any, plain: Any) -> Any:
        net.gain = 1.0
        return lambda x, t: Said(net.gain * plain(x, t).sample)

    def call(pipe: Any, **how: Any) -> torch.Tensor:
        pipe.unet.gain = 1.0
        pipe.unet.outer.weight.copy_(begun)
        return pipe(callback_on_step_end=lambda pipe, i, t, held: change(pipe.unet) if i in when else None)  # type: ignore[no-any-return]

    promise(small(patch=gained), call, window=3)


def test_a_callback_may_ask_the_networks_itself() -> None:
    def look(pipe: Any, i: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        x, words = tensors["latents"], tensors["prompt_embeds"].chunk(2)[-1]
        pipe.vae.decode(x)
        return {"latents": x - 0.1 * pipe.unet(x, t, encoder_hidden_states=words).sample}

    promise(text2image(), callback_on_step_end=look, callback_on_step_end_tensor_inputs=BOTH)


@pytest.mark.parametrize("window", [1, 3])
def test_a_scheduler_that_adds_up_in_place_makes_no_callback_be_called_again(window: int) -> None:
    """PNDM's sums are found to change on the way, after the first callbacks."""
    pipe = text2image("PNDMScheduler", skip_prk_steps=False)
    reference = recorded(pipe)
    COPIED.clear()
    with parallelize(pipe, tolerance=0, window=window, batched=False):
        found = recorded(pipe)
    assert [s[:3] for s in found] == [s[:3] for s in reference]
    assert all(off(a[3]["latents"], b[3]["latents"]) <= EXACT for a, b in zip(found, reference, strict=True))


def test_an_error_in_a_callback_comes_through_and_leaves_the_pipeline_as_it_was() -> None:
    def fail(pipe: Any, i: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if i == 2:
            raise KeyError("the user's own")
        return tensors

    pipe = text2image()
    reference, kinds = sample(pipe), [type(pipe), type(pipe.unet)]
    with pytest.raises(KeyError, match="the user's own"), parallelize(pipe, tolerance=0, window=4):
        sample(pipe, callback_on_step_end=fail)
    assert [type(pipe), type(pipe.unet)] == kinds and "_paradigms" not in vars(pipe)
    assert torch.equal(sample(pipe), reference)


def test_the_former_callback_is_called_when_the_sequential_call_does() -> None:
    def former(pipe: Any) -> list[tuple[int, float, torch.Tensor]]:
        seen: list[tuple[int, float, torch.Tensor]] = []
        sample(pipe, steps=6, callback=lambda i, t, x: seen.append((i, float(t), x.clone())), callback_steps=2)
        return seen

    pipe = text2image()
    reference = former(pipe)
    with parallelize(pipe, tolerance=0, window=4, batched=False):
        found = former(pipe)
    assert [s[:2] for s in found] == [s[:2] for s in reference] and len(found) == 3
    assert all(torch.equal(a[2], b[2]) for a, b in zip(found, reference, strict=True))
