"""Two ranks under torchrun, from the command line to a model that one process loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import aibig


@pytest.mark.parametrize("parallel", ["replicate", "fully_shard"])
def test_torchrun_leaves_one_whole_model(parallel: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    settings = ["trainer.max_epochs=3", f"trainer.parallel={parallel}", "--out", "run"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "-m", "aibig.train", "--config", "nets/digits", *settings],
        **{"cwd": tmp_path, "env": env, "capture_output": True, "text": True},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test: accuracy") == 1, "each rank reported"
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["metrics"]["accuracy"] > 0.9 and result["parameters"] == 64 * 512 + 512 + 512 * 10 + 10
    assert aibig.evaluate(tmp_path / "run") == pytest.approx(result["metrics"])


@pytest.mark.parametrize("parallel", ["replicate", "fully_shard"])
def test_ranks_that_act_each_in_its_own_environments_do_not_wait_for_each_other(parallel: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    settings = ["trainer.max_env_steps=1600", "trainer.log_every=1", "env.count=1", "task.learning_starts=20"]
    settings += ["task.validation_episodes=2", "task.test_episodes=2", f"trainer.parallel={parallel}", "--out", "run"]
    done = subprocess.run(
        [*command, "-m", "aibig.train", "--config", "dqn/cartpole", *settings],
        **{"cwd": tmp_path, "env": {**os.environ, "OMP_NUM_THREADS": "1"}, "capture_output": True, "timeout": 240},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"test: mean_return") == 1
