"""Replaces a policy's `conditional_sample`: the same actions, in parallel where that is faster and known to be equal.

| a call is                                                                     | made by                |
| of a window of 1, or of arguments that a table knows nothing of               | the policy's own loop  |
| of a loop that is not the table of its scheduler, see `loop_check.py`         | the policy's own loop  |
| one of those that "auto" leaves alone, since stepping is soonest              | the policy's own loop  |
| any other                                                                     | the table              |
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from ...window.auto.profile import count_rests
from .arguments import ignored_arguments, named_arguments, trim_arguments, unknown_arguments
from .backoff import Backoff, backoff, weigh
from .call import Chunk, CountedNetwork, PolicySettings, refuse_training, shapes_in_errors, solve_chunk
from .interface import PolicyInterface, signature, table_of_scheduler
from .loop_check import LoopChecks
from .own_loop import OwnLoop
from .random_streams import RandomStreams
from .report import PolicyRun
from .warm_start import ChunkMemory, generator_per_sample


class ParallelLoop(OwnLoop):
    """A policy's loop, in parallel; a graph of torch.compile ends where it is called, and the next begins behind it."""

    def __init__(self, seam: PolicyInterface, settings: PolicySettings, run: PolicyRun) -> None:
        super().__init__(seam, run)
        self.settings = settings
        self.model, self.trials = CountedNetwork(seam), LoopChecks(seam)
        self.memory: ChunkMemory | None = None
        self.outside = torch.compiler.disable(self.act)

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.outside(*args, **kwargs)  # type: ignore[no-any-return]

    def act(self, *args: Any, **kwargs: Any) -> Tensor:
        """One call."""
        began = time.perf_counter()
        refuse_training(self.seam)
        try:
            arguments = named_arguments(signature(self.seam.holder), args, kwargs)
        except TypeError as error:  # a wrapper may take what the loop within it does not
            return self.step_unnamed(began, args, kwargs, error)
        before = RandomStreams(self.device, arguments.get("generator")) if self.settings.compare else None
        plain = trim_arguments(arguments, ignored_arguments(self.own))
        why = self.why(arguments, plain)
        known = None if why else self.backoff(plain)
        stepped = bool(why or (known and known.left))
        if stepped:
            if known:
                known.left -= 1
                count_rests(self.model)
                why = known.why or "stepping is soonest for calls like this one"
            chunk = self.step(args, kwargs, arguments)
            if known:
                self.run.note(why or "", stepped=True)
        else:
            chunk = self.solve(plain, known)
        self.run.seconds += (seconds := time.perf_counter() - began)
        if before is not None and stepped:
            self.run.compared(0.0, seconds)  # a loop's own run, and it may not bear another
        elif before is not None:
            self.compare(chunk, args, kwargs, arguments, before)
        return chunk

    def step_unnamed(self, began: float, args: Any, kwargs: Any, error: TypeError) -> Tensor:
        """A call whose arguments are none of the loop's; raises what the loop raises."""
        if self.settings.mesh is not None:
            raise error
        chunk = self.step(args, kwargs, {})
        self.run.note(f"{self.seam.name}: {error}")
        self.run.seconds += time.perf_counter() - began
        return chunk

    def why(self, arguments: dict[str, Any], plain: dict[str, Any]) -> str | None:
        """Why the policy's own loop must make this call, None where the table gives the same; raises ValueError."""
        holder, mesh = self.seam.holder, self.settings.mesh
        if self.settings.window == 1 and mesh is None:
            self.run.note("window=1 was given", stepped=True)
            return "window=1 was given"
        self.seam.check(plain)
        if extra := unknown_arguments(plain, self.seam.known, holder.noise_scheduler.step):
            why: str | None = f"given {', '.join(extra)}, which the table of a scheduler has no place for"
        else:
            why = self.trials.why(self.own, arguments)
        if why is not None:
            if mesh is not None:
                raise ValueError(f"mesh: {why}, so the policy's own loop must run; needed: no mesh")
            self.run.note(why)
        return why

    def solve(self, arguments: dict[str, Any], known: Backoff | None) -> Tensor:
        """One call by the table, and its account."""
        began, holder, run = time.perf_counter(), self.seam.holder, self.run
        given = self.seam.asked(arguments)
        system = table_of_scheduler(holder.noise_scheduler, holder.num_inference_steps, given.step)
        chunk, self.memory = solve_chunk(self.model, self.settings, given, system, self.memory)
        run.calls, run.steps, run.rounds = run.calls + 1, run.steps + len(system), run.rounds + chunk.rounds
        run.evaluations += chunk.evaluations
        run.table_steps += holder.num_inference_steps
        run.table_seconds += time.perf_counter() - began
        for b, why in chunk.alone.items():
            run.note(f"sample {b}: {why}; it was stepped alone")
        self.account(chunk, known)
        return chunk.x.to(given.x.dtype)

    def account(self, chunk: Chunk, known: Backoff | None) -> None:
        """What the core says of a call goes to the report, and to what is known of calls like it."""
        found, run = chunk.found, self.run
        if found is None:
            return
        run.model_seconds += found.model_seconds
        run.residual = max(run.residual, float(found.residual.max()))
        run.widths |= set(found.windows)
        why, run.expected = getattr(found, "reason", None), getattr(found, "expected", None) or run.expected
        if why is not None:
            run.note(why, stepped=True)
        if known:
            weigh(known, found.windows, why)

    def backoff(self, arguments: dict[str, Any]) -> Backoff | None:
        """Where "auto" may leave calls like this one to the policy's own loop: what is known of them."""
        if (
            self.settings.window != "auto"
            or self.settings.mesh is not None
            or generator_per_sample(arguments.get("generator"))
        ):
            return None
        first = next(iter(arguments.values()))
        B = first if isinstance(first, int) else len(first)
        stop, holder = self.settings.stop, self.seam.holder
        return backoff(self.seam.network, (B, holder.num_inference_steps, torch.get_num_threads(), repr(stop)))

    def step(self, args: Any, kwargs: Any, arguments: dict[str, Any]) -> Tensor:
        """One call by the policy's own loop, and its account."""
        N, run = self.seam.holder.num_inference_steps, self.run
        seconds = run.own_seconds
        with shapes_in_errors(self.seam, arguments):
            chunk = self.stepped(args, kwargs)
        self.memory = None
        run.calls, run.steps, run.rounds = run.calls + 1, run.steps + N, run.rounds + N
        run.evaluations += N * len(chunk)
        run.model_seconds += run.own_seconds - seconds
        run.widths.add(1)
        return chunk
