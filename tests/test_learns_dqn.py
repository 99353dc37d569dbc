"""Every part of Rainbow alone, and all together, balance the pole: by chance an episode has 22 steps."""

from __future__ import annotations

from typing import Any

import pytest

import aibig

ATOMS = {"model.distribution": "categorical", "model.value_min": 0.0, "model.value_max": 100.0}
SWITCHES: dict[str, dict[str, Any]] = {
    "double": {"task.double": True},
    "not double": {"task.double": False},
    "one step": {"task.n_step": 1},
    "five steps": {"task.n_step": 5},
    "dueling": {"model.dueling": True},
    "noisy": {"model.noisy": True, "task.epsilon_start": 0.0, "task.epsilon_end": 0.0},
    "layer norm": {"model.layer_norm": True, "optimizer.lr": 1e-3},
    "running norm": {"model.normalise": True, "model.scale": 1.0},
    "categorical": ATOMS,
    "quantiles": {"model.distribution": "quantiles", "model.quantiles": 20},
    "implicit quantiles": {
        "model.distribution": "implicit_quantiles",
        **{"model.samples": 8, "model.target_samples": 8, "model.acting_samples": 8},
    },
    "prioritised": {"task.priority_exponent": 0.5, "task.importance_env_steps": 20_000},
    "munchausen": {
        **{"task.munchausen": 0.9, "task.n_step": 1},
        **{"task.target_update_interval": 100, "trainer.max_env_steps": 40_000},
    },
    "soft target network": {"task.target_update_interval": 1, "task.tau": 0.01},
    "no target network": {"task.target_update_interval": None, "model.layer_norm": True},
    "exponential epsilon": {"task.epsilon_schedule": "exponential"},
    "lasting random actions": {"task.exploration_exponent": 2.0},
    "rainbow": {"model.name": "rainbow", "model.value_min": 0.0, "model.value_max": 100.0, "task.name": "rainbow"},
}


@pytest.mark.parametrize("name", SWITCHES)
def test_balances_the_pole(name: str) -> None:
    goal = {"trainer.goal": 300, "trainer.eval_every": 50, "task.validation_episodes": 20, "task.test_episodes": 50}
    result = aibig.train("dqn/cartpole", {"seed": 7, **goal, **SWITCHES[name]}).result
    assert result is not None and result["metrics"]["mean_return"] > 200
