"""Atari: preprocessing, how evaluation differs from training, and exact resuming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aibig.config.registry import environments
from aibig.errors import UserError

pytest.importorskip("ale_py", reason="needs aibig[atari]")


def test_observations_are_stacks_of_grey_images_and_rewards_are_clipped_in_training_alone() -> None:
    pool = environments.create("ALE/SpaceInvaders-v5", count=2)
    pool.reset(0)
    assert pool.observation_shape == (4, 84, 84) and pool.observation_dtype == np.uint8 and pool.frame_stack == 4
    generator, rewards = np.random.default_rng(0), set()
    for _ in range(300):
        step = pool.step(generator.integers(pool.actions, size=2))
        rewards |= set(step.reward.tolist())
        assert np.array_equal(
            step.next_observation[step.is_transition][:, :-1], step.observation[step.is_transition][:, 1:]
        )
    policy = lambda observation, _: generator.integers(pool.actions, size=len(observation))  # noqa: E731
    returns, lengths = pool.run_episodes(policy, range(3))
    assert rewards <= {0.0, 1.0} and returns.min() > 20 and lengths.min() > 50


def test_a_game_is_found_by_its_id_alone() -> None:
    with pytest.raises(UserError, match="unknown environment 'Pong-v5'; did you mean 'ALE/Pong-v5'"):
        environments.entry("Pong-v5")


def test_games_resume_exactly_also_over_the_ends_of_episodes() -> None:
    settings = {"count": 3, "max_frames": 300}
    pool, other = (environments.create("ALE/Pong-v5", **settings) for _ in range(2))
    pool.reset(3)
    generator = np.random.default_rng(0)
    for _ in range(100):
        pool.step(generator.integers(6, size=3))
    other.reset(4)
    other.load_state_dict(pool.state_dict())
    assert other.restarted == []
    ended = 0
    for _ in range(90):
        actions = generator.integers(6, size=3)
        step, resumed = pool.step(actions), other.step(actions)
        assert np.array_equal(step.next_observation, resumed.next_observation)
        assert np.array_equal(step.is_transition, resumed.is_transition) and np.array_equal(step.reward, resumed.reward)
        ended += len(step.finished)
    assert ended == 3


def test_each_seed_gives_one_game_however_many_run_at_once() -> None:
    pool = environments.create("ALE/Pong-v5", count=1, max_frames=400)
    policy = lambda observation, _: observation.sum((1, 2, 3), dtype=np.int64) % 6  # noqa: E731
    together, alone = (pool.run_episodes(policy, range(5), num_envs=count) for count in (2, 1))
    assert together[0].tolist() == alone[0].tolist() and together[1].tolist() == alone[1].tolist()


def test_a_game_is_rendered_in_colour_as_it_is_played() -> None:
    pool = environments.create("ALE/Pong-v5", count=1, max_frames=400)
    env, total, ended = pool.make_env(), 0.0, False
    observation, _ = env.reset(seed=2)
    while not ended:
        observation, reward, terminated, truncated, _ = env.step(int(observation.sum(dtype=np.int64) % 6))
        total, ended = total + reward, terminated or truncated
    assert env.render().shape == (210, 160, 3)
    returns, _ = pool.run_episodes(lambda observation, _: observation.sum((1, 2, 3), dtype=np.int64) % 6, [2])
    assert returns.tolist() == [total]


def test_a_run_in_a_game_stops_and_resumes(tmp_path: Path) -> None:
    import aibig

    config = {
        "model": {"name": "nature_cnn", "hidden": 16},
        "task": {"name": "q_learning", "learning_starts": 64, "env_steps_per_update": 4, "n_step": 2}
        | {"validation_episodes": 1, "test_episodes": 1, "priority_exponent": 0.5},
        "env": {"name": "ALE/Pong-v5", "count": 2, "max_frames": 200},
        "data": {"name": "frame_replay", "capacity": 200, "batch_size": 4},
        "trainer": {"max_steps": 24, "log_every": 1, "threads": 1, "eval_every": 100},
    }
    whole = aibig.train(config, out=tmp_path / "whole").result
    aibig.train(config, {"trainer.max_steps": 11}, out=tmp_path / "parts")
    parts = aibig.train(config, out=tmp_path / "parts", resume=True).result
    assert whole["metrics"] == parts["metrics"]
    lines = [(tmp_path / run / "metrics.jsonl").read_text().splitlines() for run in ("whole", "parts")]
    losses = [[line.split('"loss": ')[1].split(",")[0] for line in run if '"train"' in line] for run in lines]
    assert losses[0] == losses[1] and len(losses[0]) == 24
