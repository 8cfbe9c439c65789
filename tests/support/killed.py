"""The program `paradigms`, for torchrun, of which rank 1 is killed in the middle of a round of the first attempt."""

import os
import signal
from typing import Any

from paradigms.__main__ import main
from paradigms.models.net import UNet

calls, forward = 0, UNet.forward


def killing(self: UNet, *args: Any, **kwargs: Any) -> Any:
    global calls
    calls += 1
    if calls == 12:
        os.kill(os.getpid(), signal.SIGKILL)
    return forward(self, *args, **kwargs)


if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    UNet.forward = killing  # type: ignore[method-assign]
main()
