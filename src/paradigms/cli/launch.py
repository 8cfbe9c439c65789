"""Commands under torchrun: the ranks make a team, and one of them prints.

    torchrun --nproc-per-node=8 -m paradigms sample ...

Every rank runs the same command. A rank on GPUs has the one of its number on its node. Rank 0 shows progress, prints
and writes; the others are silent unless it is rank 0 that is gone. Ranks meet at torchrun's store before they make a
group: one that cannot take part says why there, and all end with its error, by its name; see `rendezvous.py`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from ..distributed.failures import RankError
from ..distributed.rendezvous import Rendezvous
from ..distributed.team import Team
from .devices import device_named as found

# Seconds that a rank has to put things in order once it is told to end. Chosen by hand.
ORDER = 3
TERMINATED = 143  # the exit code of that
# Seconds of --timeout: eleven days, which every clock of a group can hold. Chosen by hand.
LONGEST = 1e6
_spoken = threading.Event()
_muster: list[Rendezvous] = []  # of this process, if it is a rank


@contextlib.contextmanager
def launched_team(timeout: float, device: str | None) -> Iterator[Team | None]:
    """The ranks that torchrun started, None where it started one or was not asked; gloo, or NCCL between GPUs.

    timeout: seconds that a rank may keep the others waiting. device: as `--device`; None is a GPU where there is one.
    Raises ValueError where ranks have no device, or do not all come.
    """
    if not 0 < timeout <= LONGEST:
        raise ValueError(f"--timeout is {timeout}; type a number of seconds above 0, of at most {LONGEST:g}")
    ranks = int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1
    if ranks == 1:
        yield None
        return
    muster = Rendezvous(ranks, timeout / 0.9)
    _muster[:] = [muster]
    muster.find()
    end_with_agent()
    where = muster.ready(lambda: wait_until_ready(device))
    if os.environ.get("LOCAL_WORLD_SIZE") == str(ranks):
        connect_locally()
    muster.ready(lambda: join_group(muster, where))
    yield Team(dist.group.WORLD)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # what is left to do is to end
    dist.destroy_process_group()


def wait_until_ready(device: str | None) -> str:
    """The device of this rank, which is its own from here on; raises ValueError where there is none."""
    where = local_device(device)
    if where.startswith("cuda"):
        torch.cuda.set_device(where)
    return where


def join_group(muster: Rendezvous, where: str) -> None:
    """Makes the group of all ranks; raises ValueError where they do not come together."""
    how: dict[str, Any] = {"store": muster.store, "rank": muster.rank, "world_size": muster.ranks}
    try:
        backend = "nccl" if where.startswith("cuda") else "gloo"
        dist.init_process_group(backend, timeout=timedelta(seconds=muster.patience), **how)
    except RuntimeError as error:
        why = str(error).splitlines()[0]
        raise ValueError(f"{muster.ranks} ranks did not come together ({why})") from error


def connect_locally() -> None:
    """Where all ranks are on this machine their connections stay on it, unless the environment says otherwise."""
    names = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        if names:
            os.environ.setdefault(variable, names[0])


def local_device(device: str | None) -> str:
    """The device of this rank; raises ValueError where there is none."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device == "cpu" or (device is None and not torch.cuda.is_available()):
        return "cpu"
    if device not in (None, "cuda"):
        raise ValueError(f"--device is {device!r}, and torchrun gives each rank a device; type --device cuda, or cpu")
    found("cuda")
    if here > (count := torch.cuda.device_count()):
        least = max(count, 1)
        raise ValueError(f"{here} ranks here and {count} GPUs; type --nproc-per-node={least}, or --device cpu")
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def end_with_agent() -> None:
    """From here on torchrun's SIGTERM, which it sends once another rank failed, ends this rank in order.

    A group that has lost a rank may not come to an end by itself, nor does what waits in it see a signal. So a thread
    waits for it, says what is to be said, and ends the process soon.
    """
    ears, mouth = os.pipe()
    os.set_blocking(mouth, False)
    signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    _spoken.clear()
    signal.signal(signal.SIGTERM, unwind)
    threading.Thread(target=end_after_sigterm, args=(ears,), daemon=True).start()


def end_after_sigterm(ears: int) -> None:
    """Ends this process ORDER seconds after SIGTERM; where no rank has said why, one of those that are left does."""
    while os.read(ears, 1) != bytes([signal.SIGTERM]):
        continue
    for muster in _muster:
        if line := muster.left():
            with contextlib.suppress(OSError):
                os.write(2, f"paradigms: {line}\n".encode())
    _spoken.set()
    time.sleep(ORDER)
    os._exit(TERMINATED)


def unwind(*_: Any) -> NoReturn:
    """Ends this rank by unwinding it, so that nothing stays half-written, once it was said why."""
    _spoken.wait(ORDER)
    sys.exit(TERMINATED)


def mark_reported() -> None:
    """Notes for the other ranks that this one has said, or leaves to another to say, why it ends."""
    for muster in _muster:
        muster.report()


def is_speaker(team: Team | None, error: BaseException | None = None) -> bool:
    """Whether this rank tells the user: rank 0, and another where it is rank 0 that an error is about."""
    if team is None:
        if _muster:
            return _muster[0].first()
        return "LOCAL_RANK" not in os.environ or os.environ.get("RANK") == "0"
    if team.rank == 0:
        return True
    fine = [r for r in team.ranks if not isinstance(error, RankError) or r not in error.ranks]
    return isinstance(error, RankError) and team.ranks[team.rank] == min(fine, default=0)
