"""What a step frees is kept for the next one: counted in pages that the system had to hand out anew."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, torch
from aibig.training.allocator import keep_memory
if sys.argv[1] == "kept":
    keep_memory()
def step():
    return [torch.ones(10_000_000) for _ in range(2)]  # 40 MB each, more than glibc learns to keep by itself
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs the GNU C library")
def test_what_a_step_frees_is_not_given_back() -> None:
    given_back, kept = (
        int(subprocess.run([sys.executable, "-c", SCRIPT, how], check=True, capture_output=True, text=True).stdout)
        for how in ("as it is", "kept")
    )
    if not given_back:
        pytest.skip("this C library gives nothing back by itself")
    assert kept < given_back / 10
