"""Pipelines that share networks, on threads: each is right and counted, and the networks are as before: A13."""

from __future__ import annotations

import threading
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from paradigms import Run, enable_parallel_sampling, parallelize
from promises import CLOSE, off, sample, text2image

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def together(calls: list[Any]) -> list[Any]:
    """What calls give that begin at once, each on a thread of its own."""
    gate, found = threading.Barrier(len(calls)), [None] * len(calls)

    def run(k: int) -> None:
        gate.wait()
        try:
            found[k] = calls[k]()
        except BaseException as error:
            found[k] = error

    threads = [threading.Thread(target=run, args=(k,)) for k in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def shared(n: int) -> list[Any]:
    pipes = [text2image(s) for s in ("DDIMScheduler", "UniPCMultistepScheduler", "DPMSolverMultistepScheduler")[:n]]
    for pipe in pipes:
        pipe.unet = pipes[0].unet
        pipe.set_progress_bar_config(disable=True)
    return pipes


def test_pipelines_that_share_a_network_on_threads_are_right_and_counted() -> None:
    """A13"""
    pipes = shared(3)
    references = [sample(pipe, steps=8) for pipe in pipes]
    alone, reports = [], []
    for pipe in pipes:
        with parallelize(pipe, tolerance=0, window=4) as run:
            sample(pipe, steps=8)
        alone.append((run.steps, run.rounds, run.evaluations, run.accepted))
        reports.append(enable_parallel_sampling(pipe, tolerance=0, window=4))
    for _ in range(3):
        found = together([lambda p=pipe: sample(p, steps=8) for pipe in pipes])
        assert all(isinstance(x, Tensor) and off(x, y) <= CLOSE for x, y in zip(found, references, strict=True)), found
    for run, (steps, rounds, evaluations, accepted) in zip(reports, alone, strict=True):
        assert (run.calls, run.steps, run.rounds, run.evaluations) == (3, 3 * steps, 3 * rounds, 3 * evaluations)
        assert run.accepted == 3 * accepted and not run.fallbacks
    assert type(pipes[0].unet) is diffusers.UNet2DConditionModel


def test_a_plain_pipeline_on_another_thread_is_not_in_the_report() -> None:
    """A13"""
    pipe, other = shared(2)
    references = sample(pipe, steps=8), sample(other, steps=8)
    run: Run = enable_parallel_sampling(pipe, tolerance=0, window=4)
    for _ in range(3):
        found = together([lambda: sample(pipe, steps=8), lambda: sample(other, steps=8)])
        assert off(found[0], references[0]) <= CLOSE and torch.equal(found[1], references[1])
    assert run.calls == 3 and run.steps == 24 and type(pipe.unet) is diffusers.UNet2DConditionModel


def test_a_compiled_network_that_is_in_use_elsewhere_is_stepped_and_named() -> None:
    """A13: compiled code wants the network in its own class, so the second call steps and says so."""
    pipe, other = shared(2)
    reference = sample(other, steps=3)
    pipe.unet._compiled_call_impl = pipe.unet._call_impl
    inside: list[Any] = []

    def call(given: Any, i: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if i == 1:
            inside.extend(together([lambda: sample(other, steps=3)]))
        return tensors

    with parallelize(pipe, tolerance=0, window=4), parallelize(other, tolerance=0, window=4) as run:
        sample(pipe, callback_on_step_end=call)
    assert torch.equal(inside[0], reference)
    assert run.fallbacks == ["StableDiffusionPipeline: UNet2DConditionModel is compiled, and in use on another thread"]
    assert type(pipe.unet) is diffusers.UNet2DConditionModel
