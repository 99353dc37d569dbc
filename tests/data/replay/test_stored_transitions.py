"""Files of transitions: the same as if the agent had acted, and what is wrong with a file is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import aibig
from aibig.data.replay.base import EnvStep, ReplaySpec
from aibig.data.replay.replay import TransitionReplayBuffer
from aibig.data.replay.stored_transitions import StoredReplayBuffer
from aibig.errors import UserError


def steps(count: int = 60) -> dict[str, Any]:
    """Of one environment with three numbers and four actions, episodes of some length."""
    generator = np.random.default_rng(0)
    ended = generator.random(count) < 0.2
    terminated = ended & (generator.random(count) < 0.5)
    observation, next_observation = generator.normal(size=(2, count, 3)).astype(np.float32)
    observation[1:] = np.where(ended[:-1, None], observation[1:], next_observation[:-1])
    arrays = {"observation": observation, "action": generator.integers(4, size=count)}
    arrays |= {"reward": generator.normal(size=count).astype(np.float32), "next_observation": next_observation}
    return arrays | {"terminated": terminated, "truncated": ended & ~terminated}


@pytest.mark.parametrize("n_step", [1, 2, 4])
def test_a_file_gives_the_transitions_of_acting(n_step: int, tmp_path: Path) -> None:
    arrays, spec = steps(), ReplaySpec((3,), 4, n_step=n_step, discount=0.9)
    arrays["truncated"][-1] |= not arrays["terminated"][-1]
    aibig.save_transitions(tmp_path / "steps.npz", **arrays)
    stored = StoredReplayBuffer(spec, path=str(tmp_path / "steps.npz"))
    acting = TransitionReplayBuffer(spec, capacity=60)
    for time in range(60):
        row = {name: array[time : time + 1] for name, array in arrays.items()}
        acting.add(EnvStep(**row, is_transition=np.ones(1, bool)))
    assert stored.is_offline and len(stored) == len(acting) == 60
    rows, expected = (buffer._rows[np.lexsort(buffer._rows.T)] for buffer in (stored, acting))
    np.testing.assert_allclose(rows, expected, atol=1e-6)


def test_steps_that_do_not_follow_each_other_make_no_transition(tmp_path: Path) -> None:
    arrays = steps(30)
    order = np.random.default_rng(1).permutation(30)
    aibig.save_transitions(tmp_path / "steps.npz", **{name: array[order] for name, array in arrays.items()})
    rows = [StoredReplayBuffer(ReplaySpec((3,), 4, n_step=n), path=str(tmp_path / "steps.npz"))._rows for n in (1, 3)]
    equal = (rows[0] == rows[1]).all(1)
    assert equal.mean() > 0.8, "hardly any stand before the step that follows them"


def test_rewards_are_scaled_and_clipped_as_those_of_acting_are(tmp_path: Path) -> None:
    arrays = steps()
    aibig.save_transitions(tmp_path / "steps.npz", **arrays)
    spec = ReplaySpec((3,), 4, reward_scale=2.0, reward_clip=1.5)
    stored = StoredReplayBuffer(spec, path=str(tmp_path / "steps.npz"))
    np.testing.assert_allclose(stored._rows[:, 6], np.clip(2 * arrays["reward"], -1.5, 1.5), rtol=1e-6)


def test_demonstrations_are_never_overwritten(tmp_path: Path) -> None:
    aibig.save_transitions(tmp_path / "steps.npz", **steps(10))
    spec, number = ReplaySpec((3,), 4, 2), np.zeros(2, np.float32)
    replay = TransitionReplayBuffer(spec, capacity=30, demonstrations=str(tmp_path / "steps.npz"))
    before = replay._rows[:10].copy()
    assert len(replay) == 10
    for _ in range(50):
        nothing = np.zeros(2, bool)
        replay.add(EnvStep(np.full((2, 3), 9.0), number, number, np.full((2, 3), 9.0), nothing, nothing, ~nothing))
    assert len(replay) == 30 and np.array_equal(replay._rows[:10], before) and (replay._rows[10:, :3] == 9).all()
    other = TransitionReplayBuffer(spec, capacity=30, demonstrations=str(tmp_path / "steps.npz"))
    other.load_state_dict(replay.state_dict())
    assert np.array_equal(other._rows, replay._rows)
    with pytest.raises(UserError, match=r"steps.npz: has 10 transitions; set a capacity above that, not 10"):
        TransitionReplayBuffer(spec, capacity=10, demonstrations=str(tmp_path / "steps.npz"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"reward": None}, "has no array 'reward'"),
        (
            {"observation": np.zeros((60, 4))},
            r"observation has shape \(60, 4\), for this environment it must be \(60, 3\)",
        ),
        ({"action": np.full(60, 4)}, "action must have whole numbers from 0 to 3"),
        ({"action": np.zeros(60)}, "action must have whole numbers from 0 to 3"),
        ({"action": np.array(0)}, r"action has shape \(\), for this environment it must be \(60,\)"),
        ({"reward": np.full(60, "text")}, "reward must have numbers"),
        ({"reward": np.full(60, np.nan)}, "reward has numbers that are not finite"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(change: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    arrays = {name: array for name, array in (steps() | change).items() if array is not None}
    np.savez(tmp_path / "steps.npz", **arrays)
    with pytest.raises(UserError, match=f"steps.npz: {complaint}"):
        StoredReplayBuffer(ReplaySpec((3,), 4), path=str(tmp_path / "steps.npz"))
    (tmp_path / "text.npz").write_text("no numbers")
    with pytest.raises(UserError, match=r"text.npz: is no .npz file"):
        StoredReplayBuffer(ReplaySpec((3,), 4), path=str(tmp_path / "text.npz"))


def test_files_have_no_action_masks(tmp_path: Path) -> None:
    aibig.save_transitions(tmp_path / "steps.npz", **steps(10))
    spec, path = ReplaySpec((3,), 4, action_masks=True), str(tmp_path / "steps.npz")
    for make in (StoredReplayBuffer, lambda spec, path: TransitionReplayBuffer(spec, demonstrations=path)):
        with pytest.raises(UserError, match=r"steps.npz: has no action masks, which this environment has"):
            make(spec, path=path)


@pytest.mark.parametrize(
    ("model", "task", "complaint"),
    [
        ({"normalise": True}, {}, "model.normalise: collects statistics from acting"),
        ({}, {"priority_exponent": 0.5, "importance_env_steps": 9}, "importance_env_steps: there are no env steps"),
    ],
)
def test_what_only_acting_would_change_is_refused(
    model: dict[str, Any], task: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    aibig.save_transitions(tmp_path / "steps.npz", **steps(10))
    config = {
        "model": {"name": "dqn", **model},
        "task": {"name": "q_learning", **task},
        "env": {"name": "CartPole-v1"},
        "data": {"name": "stored_transitions", "path": str(tmp_path / "steps.npz")},
        "trainer": {"max_steps": 5},
    }
    columns = {name: np.zeros((10, 4), np.float32) for name in ("observation", "next_observation")}
    aibig.save_transitions(tmp_path / "steps.npz", **(steps(10) | columns | {"action": np.zeros(10, int)}))
    with pytest.raises(UserError, match=complaint):
        aibig.train(config, out=tmp_path / "run")


def test_learning_offline_does_not_act(tmp_path: Path) -> None:
    """From steps of a noisy policy: the agent learns to balance longer than random actions do."""
    import gymnasium

    env, generator, rows = gymnasium.make("CartPole-v1"), np.random.default_rng(0), []
    observation, _ = env.reset(seed=0)
    for _ in range(6_000):
        good = int(observation[2] + 0.5 * observation[3] > 0)
        action = good if generator.random() < 0.8 else 1 - good
        next_observation, reward, terminated, truncated, _ = env.step(action)
        rows.append((observation, action, reward, next_observation, terminated, truncated))
        observation = env.reset()[0] if terminated or truncated else next_observation
    aibig.save_transitions(tmp_path / "steps.npz", *map(np.array, zip(*rows, strict=True)))
    config = {
        "model": {"name": "dqn", "hidden": [64, 64]},
        "task": {"name": "q_learning", "n_step": 3, "test_episodes": 20, "validation_episodes": 10},
        "env": {"name": "CartPole-v1"},
        "data": {"name": "stored_transitions", "path": str(tmp_path / "steps.npz"), "batch_size": 128},
        "optimizer": {"name": "adam", "lr": 2e-3},
        "trainer": {"max_steps": 1_000, "threads": 1, "ema_decay": 0.99},
    }
    result = aibig.train(config, out=tmp_path / "run").result
    assert result["metrics"]["mean_return"] > 60  # at random: 22
    assert "env_steps" not in (tmp_path / "run" / "metrics.jsonl").read_text()
    assert torch.is_tensor(aibig.load_model(tmp_path / "run").head.weight)
    with pytest.raises(UserError, match="this task has no env_steps to count"):
        aibig.train(config, {"trainer.max_env_steps": 100})
