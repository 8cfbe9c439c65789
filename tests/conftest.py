"""One thread a test: small tensors gain nothing from more, and tests that run side by side would fight for cores."""

import os

import torch

os.environ["OMP_NUM_THREADS"] = "1"  # for the programs that tests start
torch.set_num_threads(1)
