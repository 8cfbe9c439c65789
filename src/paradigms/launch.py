"""A command that torchrun started on many devices: its ranks make a team, and one of them speaks.

    torchrun --nproc-per-node=8 -m paradigms sample ...

Every rank runs the same command. A rank on GPUs has the one of its number on its node. Rank 0 shows progress, prints
and writes; the others are silent unless it is rank 0 that is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d as c10d
from torch.distributed.rendezvous import rendezvous

from .roll import RankError
from .team import Team

ORDER = 3  # seconds that a rank has to put things in order once it is told to end


@contextlib.contextmanager
def launched(timeout: float, device: str | None) -> Iterator[Team | None]:
    """The ranks that torchrun started, None where it started one or was not asked; gloo, or NCCL between GPUs.

    timeout: seconds that a rank may keep the others waiting. device: as `--device`; None is a GPU where there is one.
    Raises ValueError where ranks have no device, or do not all come.
    """
    ranks = int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1
    if ranks == 1:
        yield None
        return
    if not timeout > 0:
        raise ValueError(f"--timeout is {timeout}; type a number of seconds above 0")
    gpu = local_device(device).startswith("cuda")
    if gpu:
        torch.cuda.set_device(local_device(device))
    signal.signal(signal.SIGTERM, stop)
    wait = timedelta(seconds=timeout / 0.9)
    try:
        store, rank, _ = next(rendezvous("env://", timeout=wait))
        # torchrun keeps its store from one attempt to the next, and with it where the ranks of the last one listened
        names = c10d.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        dist.init_process_group("nccl" if gpu else "gloo", store=names, rank=rank, world_size=ranks, timeout=wait)
    except RuntimeError as error:
        why = str(error).splitlines()[0]
        raise ValueError(f"{ranks} ranks did not come together within {timeout:g} s ({why})") from error
    yield Team(dist.group.WORLD)
    dist.destroy_process_group()


def local_device(device: str | None) -> str:
    """The device of this rank; raises ValueError where there is none."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device == "cpu" or (device is None and not torch.cuda.is_available()):
        return "cpu"
    if device not in (None, "cuda"):
        raise ValueError(f"--device is {device!r}, and torchrun gives each rank a device; type --device cuda, or cpu")
    if here > (count := torch.cuda.device_count()):
        least = max(count, 1)
        raise ValueError(f"{here} ranks here and {count} GPUs; type --nproc-per-node={least}, or --device cpu")
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def stop(*_: Any) -> NoReturn:
    """Ends this rank in order, as torchrun asks of it once another one failed: nothing stays half-written.

    A group that has lost a rank may not come to an end by itself, so the system ends this process soon.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(ORDER)
    sys.exit(143)


def speaks(team: Team | None, error: BaseException | None = None) -> bool:
    """Whether this rank tells the user: rank 0, and another where it is rank 0 that an error is about."""
    if team is None:
        return "LOCAL_RANK" not in os.environ or os.environ.get("RANK") == "0"
    if team.rank == 0:
        return True
    fine = [r for r in team.ranks if not isinstance(error, RankError) or r not in error.ranks]
    return isinstance(error, RankError) and team.ranks[team.rank] == min(fine, default=0)
