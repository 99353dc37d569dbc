"""Memory that a step frees is kept for the next one; tiny numbers are 0."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, torch
from aibig.training.devices.cpu import keep_memory
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
        int(subprocess.run([sys.executable, "-c", SCRIPT, mode], check=True, capture_output=True, text=True).stdout)
        for mode in ("as it is", "kept")
    )
    if not given_back:
        pytest.skip("this C library gives nothing back by itself")
    assert kept < given_back / 10


def test_moments_that_decay_become_zero() -> None:
    script = """
import torch, aibig
if torch.set_flush_denormal(True):
    torch.set_flush_denormal(False)
    torch.ones(1_000_000).sum()  # threads start before
    aibig.Trainer(max_steps=1, device="cpu")
    weight = torch.nn.Parameter(torch.ones(8))
    optimizer = torch.optim.Adam([weight], fused=True)
    weight.grad = torch.full((8,), 1e-37)
    for _ in range(50):
        optimizer.step()
        weight.grad = torch.zeros(8)
    print(optimizer.state[weight]["exp_avg"].count_nonzero().item())
"""
    count = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.strip()
    if not count:
        pytest.skip("this processor has no such setting")
    assert count == "0"
