"""The Q-learning loss against a slow, plainly written one in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import aibig
from aibig.config.registry import environments
from aibig.data.replay.base import ReplaySpec, Transitions
from aibig.data.replay.replay import TransitionReplayBuffer
from aibig.errors import UserError
from aibig.tasks.base import Batch, Context
from aibig.tasks.q_learning.q_learning import REPLAY_SETTINGS, QLearning, ReplayBatch
from aibig.tasks.q_learning.td_losses import categorical_loss


def make_task(model: dict[str, Any] | None = None, **settings: Any) -> QLearning:
    torch.manual_seed(0)
    pool = environments.create("CartPole-v1", count=2)
    network = aibig.create_model("dqn", in_features=4, actions=2, **(model or {}))
    replay_settings = {name: settings[name] for name in REPLAY_SETTINGS if name in settings}
    replay = TransitionReplayBuffer(ReplaySpec((4,), 2, 2, **replay_settings), batch_size=8, capacity=200)
    task = QLearning(network, pool, replay, Context(), **settings)
    for parameter in task.target_network.parameters() if task.target_networks else ():  # no longer the model's
        parameter.data += 0.3 * torch.randn_like(parameter)
    return task


def random_transitions(count: int, masked: bool = False) -> Transitions:
    """Of 4 numbers and 2 actions; some end an episode for good."""
    discount = 0.9 * (torch.rand(count) < 0.7)
    masks = [torch.ones(count, 2, dtype=torch.bool) for _ in range(2)]
    if masked:
        for mask in masks:
            mask[torch.arange(count), torch.randint(2, (count,))] = torch.rand(count) < 0.5
    action = masks[0].float().multinomial(1).squeeze(1)
    observations = torch.randn(2, count, 4)
    reward, weight, indices = 3 * torch.randn(count), torch.rand(count), torch.arange(count)
    return Transitions(observations[0], action, reward, observations[1], discount, *masks, weight, indices)


def huber(error: float) -> float:
    return 0.5 * error**2 if abs(error) < 1 else abs(error) - 0.5


def loss_of(
    task: QLearning,
    transitions: Transitions,
    fractions: torch.Tensor | None = None,
    target_fractions: torch.Tensor | None = None,
) -> Any:
    return task.loss(Batch(ReplayBatch(transitions, fractions, target_fractions), len(transitions.action), {}))


def best_of(values: list[float], mask: torch.Tensor) -> int:
    return max((value, action) for action, value in enumerate(values) if mask[action])[1]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("double", [True, False])
def test_loss_is_huber_of_reward_plus_discounted_value_of_the_target_network(double: bool, masked: bool) -> None:
    task = make_task(double=double)
    batch = random_transitions(32, masked)
    total, errors = 0.0, []
    for row in range(32):
        next_observation = batch.next_observation[row : row + 1]
        online_q, target_q = (network(next_observation)[0].tolist() for network in (task.model, task.target_network))
        next_q_value = target_q[best_of(online_q if double else target_q, batch.next_action_mask[row])]
        target = float(batch.reward[row]) + float(batch.discount[row]) * next_q_value
        errors.append(task.model(batch.observation[row : row + 1])[0, batch.action[row]].item() - target)
        total += float(batch.weight[row]) * huber(errors[-1])
    loss = loss_of(task, batch)
    assert loss.value.item() == pytest.approx(total / 32, rel=1e-5)
    assert loss.metrics["td_error"].item() == pytest.approx(sum(map(abs, errors)) / 32, rel=1e-5)
    loss.value.backward()
    assert all(parameter.grad is None for parameter in task.target_network.parameters())


@pytest.mark.parametrize("double", [True, False])
def test_categorical_loss_is_cross_entropy_with_the_shifted_and_projected_atoms(double: bool) -> None:
    task = make_task({"distribution": "categorical", "value_min": -4.0, "value_max": 4.0, "atoms": 11}, double=double)
    batch = random_transitions(32, masked=True)
    support = [-4 + 0.8 * number for number in range(11)]
    total = 0.0
    for row in range(32):
        outputs = [network(batch.next_observation[row : row + 1])[0] for network in (task.model, task.target_network)]
        online, target_network = (output.double().softmax(-1).tolist() for output in outputs)
        means = [
            sum(p * z for p, z in zip(action, support, strict=True))
            for action in (online if double else target_network)
        ]
        target = [0.0] * 11
        for probability, atom in zip(target_network[best_of(means, batch.next_action_mask[row])], support, strict=True):
            shifted = min(4.0, max(-4.0, float(batch.reward[row]) + float(batch.discount[row]) * atom))
            for number, other in enumerate(support):  # a triangle around each atom
                target[number] += probability * max(0.0, 1 - abs(shifted - other) / 0.8)
        assert sum(target) == pytest.approx(1.0)
        logs = task.model(batch.observation[row : row + 1])[0, batch.action[row]].double().log_softmax(-1).tolist()
        total -= float(batch.weight[row]) * sum(t * log for t, log in zip(target, logs, strict=True))
    assert loss_of(task, batch).value.item() == pytest.approx(total / 32, rel=1e-5)


@pytest.mark.parametrize("kind", ["quantiles", "implicit_quantiles"])
def test_quantile_losses_compare_each_with_each(kind: str) -> None:
    implicit = kind == "implicit_quantiles"
    sizes = {"samples": 5, "target_samples": 3} if implicit else {"quantiles": 5}
    task = make_task({"distribution": kind, **sizes}, double=True)
    batch = random_transitions(16, masked=True)
    fractions, target_fractions = (torch.rand(16, 5), torch.rand(16, 3)) if implicit else (None, None)
    total = 0.0
    for row in range(16):
        rows = slice(row, row + 1)
        asked, target_asked = (() if part is None else (part[rows],) for part in (fractions, target_fractions))
        means = task.model(batch.next_observation[rows], *asked)[0].mean(-1).tolist()
        best = best_of(means, batch.next_action_mask[row])
        next_quantiles = task.target_network(batch.next_observation[rows], *target_asked)[0, best].tolist()
        targets = [float(batch.reward[row]) + float(batch.discount[row]) * value for value in next_quantiles]
        quantiles = task.model(batch.observation[rows], *asked)[0, batch.action[row]].tolist()
        midpoints = [(number + 0.5) / 5 for number in range(5)]
        row_fractions = midpoints if fractions is None else fractions[row].tolist()
        for fraction, value in zip(row_fractions, quantiles, strict=True):
            for target in targets:
                error = target - value
                weight = float(batch.weight[row]) * abs(fraction - (error < 0)) / len(targets)
                total += weight * huber(error)
    loss = loss_of(task, batch, fractions, target_fractions)
    assert loss.value.item() == pytest.approx(total / 16, rel=1e-4)


@pytest.mark.parametrize("kind", [None, "quantiles"])
def test_munchausen_adds_the_log_policy_and_takes_the_policys_mean(kind: str | None) -> None:
    import math

    task = make_task({"distribution": kind, "quantiles": 3 if kind else None}, munchausen=0.9, entropy_temperature=0.2)
    batch = random_transitions(16, masked=True)

    def policy(observation: torch.Tensor, mask: torch.Tensor) -> tuple[list[float], list[list[float]]]:
        """The logarithms of the probabilities, -inf where masked, and the values or quantiles."""
        output = task.target_network(observation)[0].double()
        values = output if kind is None else output.mean(-1)
        scores = [float(value) / 0.2 if mask[action] else -math.inf for action, value in enumerate(values)]
        log_total = math.log(sum(math.exp(score) for score in scores))
        return [score - log_total for score in scores], output.reshape(2, -1).tolist()

    total = 0.0
    for row in range(16):
        rows, action = slice(row, row + 1), int(batch.action[row])
        logs, _ = policy(batch.observation[rows], batch.action_mask[row])
        reward = float(batch.reward[row]) + 0.9 * max(-1.0, 0.2 * logs[action])
        logs, outputs = policy(batch.next_observation[rows], batch.next_action_mask[row])
        targets = []
        for number in range(len(outputs[0])):
            soft = sum(
                math.exp(log) * (out[number] - 0.2 * log)
                for log, out in zip(logs, outputs, strict=True)
                if log > -math.inf
            )
            targets.append(reward + float(batch.discount[row]) * soft)
        values = task.model(batch.observation[rows])[0, action].reshape(-1).tolist()
        for number, value in enumerate(values):
            for target in targets:
                share = 1.0 if kind is None else abs((number + 0.5) / 3 - (target < value)) / 3
                total += float(batch.weight[row]) * share * huber(target - value)
    assert loss_of(task, batch).value.item() == pytest.approx(total / 16, rel=1e-4)


@pytest.mark.parametrize("kind", [None, "quantiles"])
def test_where_no_action_is_allowed_the_reward_is_the_target(kind: str | None) -> None:
    task = make_task({"distribution": kind}, munchausen=0.9)
    batch = random_transitions(8)
    batch = batch._replace(next_action_mask=torch.zeros(8, 2, dtype=torch.bool), discount=torch.zeros(8))
    same = batch._replace(next_action_mask=torch.ones(8, 2, dtype=torch.bool))
    target, expected = (task._target_q_values(ReplayBatch(transitions, None, None)) for transitions in (batch, same))
    assert target.isfinite().all() and torch.equal(target, expected)


def test_an_error_is_never_negative() -> None:
    logits = 0.01 * torch.randn(20_000, 101, generator=torch.Generator().manual_seed(0))
    assert categorical_loss(logits, logits.softmax(-1))[1].min() == 0


def test_new_errors_become_priorities() -> None:
    task = make_task(priority_exponent=0.5, learning_starts=20)
    batch = task.next_batch()
    loss = task.loss(batch)
    task.after_loss(loss.carry)
    priorities, transitions = task.replay._priorities, batch.data.transitions
    with torch.no_grad():
        q_values = task.model(transitions.observation).gather(1, transitions.action[:, None])[:, 0]
        errors = (q_values - task._target_q_values(batch.data)).abs()
    for index, error in zip(transitions.indices.tolist(), errors.tolist(), strict=True):
        assert priorities._leaves[index] == pytest.approx((error + 1e-6) ** 0.5, rel=1e-4)
    assert task.current_importance_exponent() == 0.4
    task.importance_env_steps, task.env_steps = 100, 50
    assert task.current_importance_exponent() == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"munchausen": 0.9, "double": True}, "double: has no meaning with munchausen"),
        ({"munchausen": 0.9, "n_step": 3}, "n_step"),
        ({"munchausen": 0.9, "target_update_interval": None}, "set target_update_interval"),
        ({"target_update_interval": None, "tau": 0.5}, "no target network to move"),
        ({"tau": 1.5}, "at most 1"),
        ({"target_update_interval": None, "double": True}, "to value the model's choice"),
        ({"epsilon_schedule": "exponential", "epsilon_end": 0.0}, "never reaches 0"),
        ({"epsilon_schedule": "exponential", "epsilon_start": 0.0}, "never reaches 0"),
        ({"importance_env_steps": 100}, "sampling is uniform"),
        ({"munchausen": 0.9, "log_policy_min": 1.0}, "at most 0"),
    ],
)
def test_settings_that_cannot_hold_together_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        make_task(**settings)


def test_a_replay_with_other_settings_is_refused() -> None:
    task = make_task()
    with pytest.raises(UserError, match=r"n_step: the task has 3, the replay 1"):
        QLearning(task.model, task.pool, task.replay, Context(), n_step=3)


def test_rewards_are_scaled_then_clipped_in_the_replay_and_not_in_the_return() -> None:
    task = make_task(reward_scale=0.5, reward_clip=0.3, learning_starts=60)
    task.next_batch()
    batch = task.replay.sample(50, torch.Generator())
    assert torch.all(batch.reward == 0.3) and min(task.latest_returns) >= 8


def test_noise_explores_and_is_off_when_greedy() -> None:
    task = make_task({"noisy": True, "hidden": [16, 16]}, epsilon_start=0.0, epsilon_end=0.0, learning_starts=0)
    observations = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32))
    outputs = []
    for _ in range(2):
        task.next_batch()
        outputs.append(task.model(observations))
    assert not torch.equal(*outputs), "new noise for each update"
    assert task.evaluate("validation") == task.evaluate("validation"), "without noise"
    assert not torch.equal(task.model(observations), task.target_network(observations))


def test_running_norms_of_both_networks_have_the_statistics_of_all_observations() -> None:
    task = make_task({"normalise": True}, learning_starts=200)
    task.next_batch()
    rows = task.replay._rows[: len(task.replay), :4]
    for model in (task.model, task.target_network):
        assert int(model.norm.count) == len(task.replay) > 180
        np.testing.assert_allclose(model.norm.mean.numpy(), rows.mean(0, dtype=np.float64), atol=1e-6)
        np.testing.assert_allclose(model.norm.variance.numpy(), rows.var(0, dtype=np.float64), rtol=1e-4)


def test_without_a_target_network_the_model_values_its_own_next_state() -> None:
    task = make_task(target_update_interval=None)
    assert task.target_networks == {} and task.target_network is task.model
    batch = random_transitions(8)._replace(weight=None)
    q_values = task.model(batch.observation).gather(1, batch.action[:, None])[:, 0]
    target_q_values = batch.reward + batch.discount * task.model(batch.next_observation).amax(1)
    td_error = (q_values - target_q_values).abs().mean().item()
    assert loss_of(task, batch).metrics["td_error"].item() == pytest.approx(td_error)
    task.after_update(200)


def test_tau_moves_the_target_network_by_a_fraction() -> None:
    task = make_task(target_update_interval=1, tau=0.25)
    before = task.target_network.head.weight.clone()
    task.after_update(1)
    torch.testing.assert_close(task.target_network.head.weight, before + 0.25 * (task.model.head.weight - before))


def test_the_target_network_is_updated_only_when_due() -> None:
    task = make_task(target_update_interval=3)
    before = task.target_network.head.weight.clone()
    for step in (1, 2):
        task.after_update(step)
    assert torch.equal(task.target_network.head.weight, before)
    task.after_update(3)
    assert torch.equal(task.target_network.head.weight, task.model.head.weight)


def test_env_steps_keep_pace_with_updates_and_exploration_falls() -> None:
    task = make_task(learning_starts=20, env_steps_per_update=4, epsilon_env_steps=100, epsilon_end=0.1)
    assert task.epsilon() == 1.0
    counts = [task.next_batch().counts["env_steps"] for _ in range(30)]
    assert counts == [20] + [4] * 29
    assert task.epsilon() == pytest.approx(0.1) and 120 < len(task.replay) < 136


def test_an_update_acts_once_however_many_micro_batches_it_has() -> None:
    task = make_task(learning_starts=20, env_steps_per_update=4)
    task.context.accumulate = 3
    counts = [task.next_batch().counts["env_steps"] for _ in range(9)]
    assert counts == [20, 0, 0, 4, 0, 0, 4, 0, 0]


def test_evaluation_on_validation_and_test_uses_other_seeds() -> None:
    task = make_task(validation_episodes=5, test_episodes=5)
    assert task.evaluate("validation") == task.evaluate("validation") != task.evaluate("test")
