"""Networks as people have them: half precision, compiled, with hooks, too big for the batch, or not to be batched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paradigms import parallelize
from promises import CLOSE, off, promise, sample, text2image

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

HALF = 3e-2  # what rounding to bfloat16 in batches may change


class Compiled(nn.Module):
    """Stands for what torch.compile makes of a module, which takes minutes for each size of batch."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self._orig_mod = inner
        self.rows: list[int] = []

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        self.rows.append(len(x) // 2)
        return self._orig_mod(x, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("_orig_mod"), name)


def wrapped(pipe: Any, wrap: Callable[[Callable[..., Any], Tensor], Any]) -> Any:
    """A pipeline whose U-Net's forward is `wrap(ask, x)`."""
    plain = pipe.unet.forward

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        return wrap(lambda x: plain(x, *args, **kwargs), x)

    pipe.unet.forward = forward
    return pipe


@pytest.mark.parametrize(
    "scheduler", ["DDIMScheduler", "DPMSolverMultistepScheduler", "EulerAncestralDiscreteScheduler"]
)
def test_a_bfloat16_pipeline_gives_the_sequential_sample(scheduler: str) -> None:
    pipe = text2image(scheduler).to(torch.bfloat16)
    reference = sample(pipe)
    assert reference.dtype == torch.bfloat16
    with parallelize(pipe, tolerance=0, window=4, batched=False):
        assert off(sample(pipe), reference) <= torch.finfo(torch.bfloat16).eps
    with parallelize(pipe, tolerance=0, window=4) as run:
        found = sample(pipe)
    assert found.dtype == torch.bfloat16 and off(found, reference) <= HALF and not run.fallbacks


def test_within_inference_mode_it_is_right() -> None:
    def call(pipe: Any, **changes: Any) -> Tensor:
        with torch.inference_mode():
            return sample(pipe, **changes).clone()

    promise(text2image("PNDMScheduler", skip_prk_steps=False), call)
    promise(text2image(), call, callback_on_step_end=lambda pipe, i, t, tensors: tensors)


@pytest.mark.parametrize("tolerance", [0, 0.003])
def test_under_autocast_only_the_networks_are_cast(tolerance: float) -> None:
    """A12: ours raised an error, as what is learned of a network was cast as well."""
    with torch.autocast("cpu", torch.bfloat16):
        pipe = text2image("DPMSolverMultistepScheduler")
        reference = sample(pipe, steps=7)
        with parallelize(pipe, tolerance=tolerance, window=4) as run:
            found = sample(pipe, steps=7)
        assert torch.is_autocast_enabled("cpu")
    assert found.dtype == reference.dtype and off(found, reference) <= HALF and not run.fallbacks


def test_a_compiled_step_of_a_scheduler_is_followed() -> None:
    """What torch.compile keeps for itself is no state of the loop; what the scheduler keeps is."""
    pipe = text2image("DPMSolverMultistepScheduler")
    reference = sample(pipe, steps=7)
    pipe.scheduler.step = torch.compile(pipe.scheduler.step, backend="eager")
    with torch.compiler.set_stance("force_eager"), parallelize(pipe, tolerance=0, window=3) as run:
        assert off(sample(pipe, steps=7), reference) <= CLOSE
    assert not run.fallbacks and max(run.windows) == 3


def seen_checks(run: Any) -> int:
    """The checks that a network which counts has counted: a loop's calls in order, made again, are put back."""
    return int(run.checks - run.steps)


def test_a_compiled_network_sees_one_size_of_batch() -> None:
    pipe = text2image()
    reference = sample(pipe, steps=7)
    pipe.unet = network = Compiled(pipe.unet)
    with parallelize(pipe, tolerance=0, window=4) as run:
        assert off(sample(pipe, steps=7), reference) <= CLOSE
    assert network.rows.count(1) == seen_checks(run) <= 11
    assert set(network.rows) - {1} == {4} and len(network.rows) - seen_checks(run) == run.rounds
    assert run.evaluations < sum(network.rows) and not run.fallbacks
    assert type(pipe.unet) is Compiled


def test_a_compiled_network_without_room_for_the_window_sees_smaller_batches() -> None:
    def small(ask: Callable[[Tensor], Any], x: Tensor) -> Any:
        if len(x) > 2 * 3:
            raise torch.OutOfMemoryError("no room")
        return ask(x)

    pipe = text2image()
    reference = sample(pipe)
    pipe.unet = network = Compiled(wrapped(pipe, small).unet)
    with parallelize(pipe, tolerance=0, window=4) as run:
        assert off(sample(pipe), reference) <= CLOSE
    assert len(run.fallbacks) == 1 and "no room" in run.fallbacks[0]
    assert set(network.rows) <= {1, 4, 2} and network.rows.count(4) == 1


def test_a_network_compiled_in_place_is_right_and_is_called_as_compiled() -> None:
    """`module.compile()` keeps the compiled call on the module itself."""
    pipe, rows = text2image(), []
    reference = sample(pipe)

    def compiled(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        rows.append(len(x) // 2)
        return pipe.unet._call_impl(x, *args, **kwargs)

    pipe.unet._compiled_call_impl = compiled
    with parallelize(pipe, tolerance=0, window=3) as run:
        assert off(sample(pipe), reference) <= CLOSE
    assert set(rows) - {1} == {3} and rows.count(1) == run.checks and not run.fallbacks


def test_a_forward_that_is_wrapped_on_the_network_is_called() -> None:
    rows: list[int] = []

    def count(ask: Callable[[Tensor], Any], x: Tensor) -> Any:
        rows.append(len(x) // 2)
        return ask(x)

    pipe = wrapped(text2image(), count)
    reference = sample(pipe)
    rows.clear()
    with parallelize(pipe, tolerance=0, window=4) as run:
        assert off(sample(pipe), reference) <= CLOSE
    assert sum(rows) == run.evaluations + seen_checks(run) and max(rows) > 1


def test_hooks_of_accelerate_run_at_each_call_of_the_network() -> None:
    hooks = pytest.importorskip("accelerate.hooks")

    class Counting(hooks.ModelHook):  # type: ignore[misc, name-defined]
        before = after = 0

        def pre_forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
            self.before += 1
            return args, kwargs

        def post_forward(self, module: Any, output: Any) -> Any:
            self.after += 1
            return output

    pipe, hook = text2image(), Counting()
    reference = sample(pipe)
    hooks.add_hook_to_module(pipe.unet, hook)
    with parallelize(pipe, tolerance=0, window=4) as run:
        assert off(sample(pipe), reference) <= CLOSE
    assert hook.before == hook.after and run.rounds < hook.after <= run.rounds + run.checks


def test_networks_whose_weights_are_fetched_at_each_call_are_right() -> None:
    accelerate = pytest.importorskip("accelerate")
    pipe = text2image()
    reference = sample(pipe)
    accelerate.cpu_offload(pipe.unet, execution_device=torch.device("cpu"))
    assert next(pipe.unet.parameters()).device.type == "meta"
    with parallelize(pipe, tolerance=0, window=4) as run:
        assert off(sample(pipe), reference) <= CLOSE
    assert not run.fallbacks and next(pipe.unet.parameters()).device.type == "meta"


@pytest.mark.parametrize("prompt", ["a red fox", ["a red fox", "blue sea"]])
def test_a_network_that_mixes_its_batch_is_called_row_by_row_and_told(prompt: Any) -> None:
    def mix(ask: Callable[[Tensor], Any], x: Tensor) -> Any:
        return (ask(x)[0] + 0.05 * x.mean(),)

    pipe = wrapped(text2image(), mix)
    reference = sample(pipe, prompt=prompt)
    with parallelize(pipe, tolerance=0, window=4) as run:
        assert torch.equal(sample(pipe, prompt=prompt), reference)
    assert len(run.fallbacks) == 1 and "UNet2DConditionModel is called row by row" in run.fallbacks[0]
    assert f"one by one: {run.fallbacks[0]}" in str(run)


def test_a_network_that_takes_no_larger_batch_is_called_row_by_row_and_told() -> None:
    def strict(ask: Callable[[Tensor], Any], x: Tensor) -> Any:
        if len(x) != 2:
            raise TypeError("two samples, please")
        return ask(x)

    pipe = wrapped(text2image(), strict)
    reference = sample(pipe)
    with parallelize(pipe, tolerance=0, window=4) as run:
        assert torch.equal(sample(pipe), reference)
    assert len(run.fallbacks) == 1 and "two samples, please" in run.fallbacks[0]


def test_a_row_by_row_network_is_counted_too() -> None:
    rows: list[int] = []

    def mix(ask: Callable[[Tensor], Any], x: Tensor) -> Any:
        said = ask(x)[0] + 0.05 * x.mean()
        rows.append(len(x) // 2)  # what fails as a batch is not answered
        return (said,)

    pipe = wrapped(text2image(), mix)
    with parallelize(pipe, tolerance=0, window=4) as run:
        sample(pipe)
    assert sum(rows) == run.evaluations + seen_checks(run)


@pytest.mark.parametrize("room", [1, 2, 3])
def test_where_there_is_no_room_batches_are_halved_and_the_sample_is_the_same(room: int) -> None:
    rows: list[int] = []

    def small(ask: Callable[[Tensor], Any], x: Tensor) -> Any:
        if len(x) > 2 * room:
            raise torch.OutOfMemoryError("no room")
        rows.append(len(x) // 2)
        return ask(x)

    pipe = wrapped(text2image(), small)
    reference = sample(pipe, steps=7)
    rows.clear()
    with parallelize(pipe, tolerance=0, window=6) as run:
        assert off(sample(pipe, steps=7), reference) <= CLOSE
    assert max(rows) <= room and sum(rows) == run.evaluations + seen_checks(run)
    assert run.fallbacks and all("no room" in why for why in run.fallbacks)


def test_where_there_is_no_room_for_one_row_the_error_comes_through() -> None:
    def none(ask: Callable[[Tensor], Any], x: Tensor) -> Any:
        raise torch.OutOfMemoryError("no room at all")

    pipe = wrapped(text2image(), none)
    with pytest.raises(torch.OutOfMemoryError, match="no room at all"), parallelize(pipe, window=4):
        sample(pipe)
    assert "_paradigms" not in vars(pipe)
