"""The zoo's promises: many kinds of loop, each repeatable to the bit, each step of which needs its network."""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn

from benchmarks import zoo
from benchmarks.zoo import ZOO, Specimen, run, tiny

BY_NAME = {s.name: s for s in ZOO}
DENOISERS = ("unet", "transformer", "transformer_2", "prior", "decoder", "prior_prior")
FEW = (
    "StableDiffusionPipeline+unipc",
    "StableDiffusionXLPAGPipeline",
    "DDPMPipeline+learned_range",
    "FluxPipeline",
    "WanPipeline+two_stages",
    "KandinskyV22CombinedPipeline",
    "LDMPipeline+global_noise",
    "StableAudioPipeline",
)
pytestmark = pytest.mark.filterwarnings("default")  # of other libraries' classes, which warn each in its own way


@functools.cache
def built(name: str) -> Any:
    """The specimen's pipeline, made once for all tests that do not change it."""
    return BY_NAME[name].build()


def changed_at(specimen: Specimen, pipe: Any, when: int) -> Tensor:
    """The output when the denoisers' call number `when` returns 10 % more."""
    seen = 0

    def more(module: nn.Module, args: Any, out: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen - 1 != when:
            return None
        return (out[0] * 1.1, *out[1:]) if isinstance(out, tuple) else type(out)(out[0] * 1.1)

    hooks = [pipe.components[n].register_forward_hook(more) for n in DENOISERS if pipe.components.get(n) is not None]
    try:
        out = run(specimen, pipe)
    finally:
        for hook in hooks:
            hook.remove()
    assert seen > when
    return out


def calls_of(specimen: Specimen, pipe: Any) -> int:
    """How often the denoisers are called."""
    seen: list[int] = []
    nets = [pipe.components[n] for n in DENOISERS if pipe.components.get(n) is not None]
    hooks = [net.register_forward_hook(lambda *_: seen.append(1)) for net in nets]
    run(specimen, pipe)
    for hook in hooks:
        hook.remove()
    return len(seen)


def test_the_zoo_has_many_classes_of_many_families_and_no_name_twice() -> None:
    assert len(BY_NAME) == len(ZOO)
    assert len({s.pipeline for s in ZOO}) >= 150
    assert len({s.family for s in ZOO}) >= 60
    assert {s.pipeline for s in ZOO} <= set(dir(diffusers))


def test_every_specimens_arguments_are_fresh_each_time() -> None:
    for specimen in ZOO:
        first, second = specimen.inputs(), specimen.inputs()
        assert first.keys() == second.keys()
        for key, value in first.items():
            if isinstance(value, Tensor):
                assert torch.equal(value, second[key]), specimen.name
                assert value.data_ptr() != second[key].data_ptr(), specimen.name
        assert first.get("generator", 0) is not second.get("generator", 1)


@pytest.mark.parametrize("name", FEW)
def test_a_specimen_repeats_itself_to_the_bit(name: str) -> None:
    specimen, pipe = BY_NAME[name], built(name)
    first = run(specimen, pipe)
    assert torch.isfinite(first).all()
    assert first.std() > 0
    assert torch.equal(run(specimen, pipe), first)
    assert torch.equal(run(specimen, specimen.build()), first)


@pytest.mark.parametrize("name", FEW)
def test_every_call_of_the_denoiser_changes_the_output(name: str) -> None:
    specimen, pipe = BY_NAME[name], built(name)
    usual = run(specimen, pipe)
    calls = calls_of(specimen, pipe)
    assert calls >= 4
    for when in range(calls):
        assert (changed_at(specimen, pipe, when) - usual).norm() > 1e-6 * usual.norm(), f"call {when}"


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # from a scheduler of diffusers
def test_every_case_of_stable_diffusion_is_a_case_of_its_own() -> None:
    plain, *cases = [s for s in ZOO if s.pipeline == "StableDiffusionPipeline"]
    usual = run(plain, built(plain.name))
    for case in cases:
        out = run(case, case.build())
        assert out.shape != usual.shape or (out - usual).norm() > 1e-3 * usual.norm(), case.name


def test_alive_leaves_no_parameter_silent_and_every_other_as_it_was() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.LayerNorm(3))
    nn.init.zeros_(net[1].weight)
    kept = net[0].weight.clone()
    tiny.alive(net)
    assert all(p.any() for p in net.parameters())
    assert torch.equal(net[0].weight, kept)
    assert not net.training


def test_building_and_running_leave_the_global_generator_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    specimen = BY_NAME["LDMPipeline+global_noise"]
    run(specimen, specimen.build())
    assert torch.equal(torch.get_rng_state(), before)


def test_an_output_without_numbers_is_an_error() -> None:
    specimen = BY_NAME["DDPMPipeline"]
    pictures = Specimen("DDPMPipeline+pil", "ddpm", specimen.build, lambda: specimen.inputs() | {"output_type": "pil"})
    with pytest.raises(ValueError, match="DDPMPipeline\\+pil returned no tensor"):
        run(pictures, pictures.build())


def test_files_and_functions_of_the_zoo_are_short() -> None:
    for file in Path(zoo.__file__).parent.glob("*.py"):
        lines = file.read_text().splitlines()
        assert len(lines) <= 270, file.name
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.body[0].lineno <= 50, f"{file.name}.{node.name}"
