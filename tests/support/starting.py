"""The program `paradigms`, for torchrun, of which a rank fails as STARTING says."""

import os
import signal
from typing import Any

from paradigms.__main__ import main
from paradigms.cli import launch
from paradigms.models.net import UNet


def killed(*_: Any, **__: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def refuses(_: Any) -> str:
    raise ValueError("there is no room on this rank; type --device cpu")


rank, what = os.environ["RANK"], os.environ["STARTING"]
if rank == "1" and what == "refuses":
    launch.wait_until_ready = refuses
if rank == "0" and what == "rank 0 is killed at work":
    UNet.forward = killed  # type: ignore[method-assign]
main()
