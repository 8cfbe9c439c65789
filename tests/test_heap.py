"""Memory that one round frees is there for the next."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import sys

import torch

import paradigms as pd
from paradigms.heap import keep_freed

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def rounds(times):
    for _ in range(times):
        held = [torch.ones(2**18) for _ in range(12)]  # a MiB each
        del held

if sys.argv[1] == "kept":
    keep_freed()
rounds(3)
before = faults()
rounds(20)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_pages_of_a_round_are_not_given_back_and_cleared_anew() -> None:
    pages = 20 * 12 * 256
    anew, kept = (
        int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("as it is", "kept")
    )
    assert anew > pages / 2, "then nothing needs to be done about it, and heap.py can go"
    assert kept < pages / 20
