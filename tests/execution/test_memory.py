"""Memory that one round frees is there for the next."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource

import torch

from paradigms.execution.memory import raise_mmap_threshold

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def rounds(times):
    for _ in range(times):
        held = [torch.ones(2**18) for _ in range(12)]  # a MiB each
        del held

raise_mmap_threshold()
rounds(3)
before = faults()
rounds(20)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_pages_of_a_round_are_not_given_back_and_cleared_anew() -> None:
    """Without `raise_mmap_threshold` it is most of them, unless something as large was freed before by chance."""
    run = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 20 * 12 * 256 / 20, "of so many pages"
