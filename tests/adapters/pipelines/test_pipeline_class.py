"""A parallel pipeline is the pipeline it was: its class's name, signature, components and folder; and it comes back."""

from __future__ import annotations

import copy
import gc
import inspect
import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import nn

from benchmarks.zoo.stable_diffusion import named
from benchmarks.zoo.tiny import image
from paradigms import disable_parallel_sampling, enable_parallel_sampling, parallelize
from promises import CLOSE, off, sample, text2image

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def looks(pipe: Any) -> dict[str, Any]:
    """What can be seen of a pipeline from outside."""
    kind = type(pipe)
    return {
        "names": (kind.__name__, kind.__qualname__, kind.__module__, kind.__doc__, repr(pipe)),
        "signature": inspect.signature(pipe.__call__),
        "own signature": inspect.signature(kind.__call__),
        "components": {k: id(v) for k, v in pipe.components.items()},
        "kinds": {k: type(v) for k, v in pipe.components.items()},
        "config": dict(pipe.config),
        "instance": isinstance(pipe, diffusers.StableDiffusionPipeline),
        "device": (pipe.device, pipe.dtype),
        "public": sorted(k for k in dir(pipe) if not k.startswith("_")),
    }


def folder(pipe: Any, path: Path) -> dict[str, str]:
    """The JSON files of the folder that a pipeline is saved in, and the names of all files."""
    pipe.save_pretrained(path)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return {str(p.relative_to(path)): p.read_text() if p.suffix == ".json" else "" for p in files}


def test_a_parallel_pipeline_looks_as_it_did() -> None:
    pipe = text2image()
    before = looks(pipe)
    with parallelize(pipe, tolerance=0, window=4):
        while_enabled = looks(pipe)
        sample(pipe)
        after_a_call = looks(pipe)
    assert looks(pipe) == while_enabled == after_a_call == before
    assert type(pipe) is diffusers.StableDiffusionPipeline and "_paradigms" not in vars(pipe)


def test_a_parallel_pipeline_is_saved_as_it_was(tmp_path: Path) -> None:
    pipe = text2image()
    before = folder(pipe, tmp_path / "before")
    with parallelize(pipe):
        assert folder(pipe, tmp_path / "parallel") == before
    assert json.loads(before["model_index.json"])["_class_name"] == "StableDiffusionPipeline"
    loaded = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "parallel")
    assert torch.equal(sample(loaded), sample(pipe))


@pytest.mark.parametrize("through", ["class", "auto"])
def test_a_pipeline_made_from_a_parallel_one_is_plain_and_works(through: str) -> None:
    pipe, plain = text2image(), named("StableDiffusionImg2ImgPipeline")
    given = {"image": image(), "strength": 0.8, "height": None, "width": None}
    given = {k: v for k, v in given.items() if v is not None}

    def call(pipe: Any) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        return pipe("a red fox", num_inference_steps=6, output_type="latent", generator=generator, **given).images

    reference = call(plain)
    with parallelize(pipe, tolerance=0, window=4, batched=False) as run:
        auto = diffusers.AutoPipelineForImage2Image
        kind = diffusers.StableDiffusionImg2ImgPipeline if through == "class" else auto
        made = kind.from_pipe(pipe)
        assert type(made) is diffusers.StableDiffusionImg2ImgPipeline and made.unet is pipe.unet
        assert torch.equal(call(made), reference) and run.calls == 0
        with parallelize(made, tolerance=0, window=4, batched=False) as other:
            assert torch.equal(call(made), reference)
        assert other.calls == 1 and run.calls == 0


def test_an_error_leaves_the_pipeline_as_it_was() -> None:
    pipe = text2image()
    before, reference = looks(pipe), sample(pipe)
    with pytest.raises(ValueError, match="height"), parallelize(pipe, tolerance=0, window=4):
        sample(pipe, height=17)
    with pytest.raises(ZeroDivisionError), parallelize(pipe):
        raise ZeroDivisionError
    assert looks(pipe) == before and torch.equal(sample(pipe), reference)


def test_an_error_within_a_network_leaves_the_pipeline_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, calls = text2image(), []
    reference, plain = sample(pipe), pipe.unet.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise ArithmeticError("the network's own")
        return plain(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(pipe.unet, "forward", forward)
        enable_parallel_sampling(pipe, tolerance=0, window=4, batched=False)
        with pytest.raises(ArithmeticError, match="the network's own"):
            sample(pipe)
    assert type(pipe.unet) is diffusers.UNet2DConditionModel
    assert torch.equal(sample(pipe), reference)  # still parallel, and right
    disable_parallel_sampling(pipe)
    assert type(pipe) is diffusers.StableDiffusionPipeline and torch.equal(sample(pipe), reference)


def test_within_another_the_inner_settings_hold_and_then_the_outer_again() -> None:
    pipe = text2image()
    reference = sample(pipe)
    with parallelize(pipe, tolerance=0, window=2, batched=False) as outer:
        with parallelize(pipe, tolerance=0, window=5, batched=False) as inner:
            assert torch.equal(sample(pipe), reference)
        assert (outer.calls, inner.calls) == (0, 1)
        assert torch.equal(sample(pipe), reference)
        assert (outer.calls, inner.calls) == (1, 1)
    assert type(pipe) is diffusers.StableDiffusionPipeline


def test_enabling_stays_until_it_is_disabled_and_may_be_done_twice() -> None:
    pipe = text2image()
    reference = sample(pipe)
    first = enable_parallel_sampling(pipe, tolerance=0, window=4, batched=False)
    assert all(torch.equal(sample(pipe), reference) for _ in range(2)) and first.calls == 2
    second = enable_parallel_sampling(pipe, tolerance=0, window=3, batched=False)
    assert torch.equal(sample(pipe), reference) and (first.calls, second.calls) == (2, 1)
    for _ in range(2):
        disable_parallel_sampling(pipe)
        assert type(pipe) is diffusers.StableDiffusionPipeline
    assert torch.equal(sample(pipe), reference) and second.calls == 1


def test_two_pipelines_that_share_a_network_are_parallel_at_once() -> None:
    pipe, other = text2image(), text2image("UniPCMultistepScheduler")
    other.unet = pipe.unet
    references = sample(pipe), sample(other)
    with parallelize(pipe, tolerance=0, window=4) as run, parallelize(other, tolerance=0, window=3) as second:
        found = sample(pipe), sample(other)
    assert all(off(a, b) <= CLOSE for a, b in zip(found, references, strict=True)) and run.calls == second.calls == 1
    with parallelize(pipe, tolerance=0, window=4):
        assert torch.equal(sample(other), references[1])


def test_modules_are_watched_while_any_pipeline_is_parallel_and_no_longer() -> None:
    pipe, other = text2image(), text2image()
    gc.collect()
    with parallelize(pipe, tolerance=0, window=4, batched=False):
        sample(pipe)
        with parallelize(other, tolerance=0, window=4, batched=False):
            sample(other)
        assert "paradigms" in nn.Module.__setattr__.__module__
    assert nn.Module.__setattr__.__module__ == "torch.nn.modules.module"


def test_a_pipeline_called_from_anothers_callback_is_its_own() -> None:
    pipe, other = text2image(), text2image("UniPCMultistepScheduler")
    other.unet, inside = pipe.unet, []
    reference, expected = sample(pipe), sample(other, steps=3)

    def call(given: Any, i: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if i == 1:
            inside.append(sample(other, steps=3))
        return tensors

    with parallelize(pipe, tolerance=0, window=4), parallelize(other, tolerance=0, window=2):
        found = sample(pipe, callback_on_step_end=call)
    assert off(found, reference) <= CLOSE and len(inside) == 1 and off(inside[0], expected) <= CLOSE


def test_a_deep_copy_is_plain_and_works() -> None:
    pipe = text2image()
    reference = sample(pipe)
    with parallelize(pipe, tolerance=0, window=4, batched=False) as run:
        twin = copy.deepcopy(pipe)
        assert torch.equal(sample(twin), reference) and run.calls == 0
        assert torch.equal(sample(pipe), reference) and run.calls == 1
        assert type(twin) is diffusers.StableDiffusionPipeline
    assert type(pipe) is diffusers.StableDiffusionPipeline
    assert torch.equal(sample(twin), reference)
