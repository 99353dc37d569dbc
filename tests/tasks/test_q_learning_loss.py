"""The Q-learning loss against a slow, plainly written one in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import aibig
from aibig.data.replay import Transitions
from aibig.registry import environments
from aibig.tasks.base import Batch, Context
from aibig.tasks.q_learning import QLearning


def make_task(**settings: Any) -> QLearning:
    from aibig.data.replay import Replay

    torch.manual_seed(0)
    pool = environments.create("CartPole-v1", count=2)
    model = aibig.create_model("dqn", in_features=4, actions=2)
    task = QLearning(model, pool, Replay((4,), batch_size=8, capacity=100), Context(), **settings)
    for parameter in task.follower.parameters():  # a follower that has fallen behind
        parameter.data += 0.3 * torch.randn_like(parameter)
    return task


@pytest.mark.parametrize("double", [True, False])
def test_loss_is_huber_of_reward_plus_discounted_value_of_the_follower(double: bool) -> None:
    task = make_task(double=double)
    count = 32
    discount = 0.9 * (torch.rand(count) < 0.7)
    drawn = Transitions(
        torch.randn(count, 4), torch.randint(2, (count,)), 3 * torch.randn(count), torch.randn(count, 4), discount
    )
    total = 0.0
    for row in range(count):
        after = drawn.next_observation[row : row + 1]
        ours, theirs = task.model(after)[0].tolist(), task.follower(after)[0].tolist()
        following = theirs[ours.index(max(ours))] if double else max(theirs)
        target = float(drawn.reward[row]) + float(discount[row]) * following
        error = abs(task.model(drawn.observation[row : row + 1])[0, drawn.action[row]].item() - target)
        total += 0.5 * error**2 if error < 1 else error - 0.5
    found = task.loss(Batch(drawn, count, {}))
    assert found.value.item() == pytest.approx(total / count, rel=1e-5)
    found.value.backward()
    assert all(parameter.grad is None for parameter in task.follower.parameters())


def test_the_follower_follows_only_when_due() -> None:
    task = make_task(follower_every=3)
    before = task.follower.head.weight.clone()
    for step in (1, 2):
        task.after_update(step)
    assert torch.equal(task.follower.head.weight, before)
    task.after_update(3)
    assert torch.equal(task.follower.head.weight, task.model.head.weight)


def test_env_steps_keep_pace_with_updates_and_exploration_falls() -> None:
    task = make_task(learning_starts=20, env_steps_per_update=4, epsilon_env_steps=100, epsilon_end=0.1)
    assert task.epsilon() == 1.0
    counts = [task.next_batch().counts["env_steps"] for _ in range(30)]
    assert counts == [20] + [4] * 29
    assert task.epsilon() == pytest.approx(0.1) and len(task.replay) == 100


def test_an_update_acts_once_however_many_micro_batches_it_has() -> None:
    task = make_task(learning_starts=20, env_steps_per_update=4)
    task.context.accumulate = 3
    counts = [task.next_batch().counts["env_steps"] for _ in range(9)]
    assert counts == [20, 0, 0, 4, 0, 0, 4, 0, 0]


def test_evaluation_on_validation_and_test_uses_other_seeds() -> None:
    task = make_task(validation_episodes=5, test_episodes=5)
    assert task.evaluate("validation") == task.evaluate("validation") != task.evaluate("test")
