"""One thread a test: small tensors gain nothing from more, and tests that run side by side would fight for cores."""

import contextlib
import os
import signal

import torch

with contextlib.suppress(ImportError):  # the simulators' environment is without it
    from hypothesis import settings

    # The same examples in every run, so that a failure comes of a change; others by --hypothesis-profile=random.
    settings.register_profile("same", derandomize=True)
    settings.register_profile("random", derandomize=False)
    settings.load_profile("same")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell has it for what runs in its background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # programs that tests start are interrupted by it
os.environ["OMP_NUM_THREADS"] = "1"  # for the programs that tests start
torch.set_num_threads(1)
