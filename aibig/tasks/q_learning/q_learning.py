"""Learning to act for the highest return: Q-learning with replay and a target network. Knows no model by name.

E environments, B transitions, A actions, N atoms or quantiles. arXiv 1312.5602 (DQN), 1509.06461 (double DQN),
1710.02298 (Rainbow).
"""

from __future__ import annotations

import copy
import math
from collections import deque
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aibig.config.run_config import Config
from aibig.config.settings import Fraction, NonNegativeInt, PositiveFloat, PositiveInt
from aibig.data.replay.base import ReplayBuffer, ReplaySpec, Transitions
from aibig.envs.pool import EnvPool
from aibig.errors import UserError
from aibig.layers.q.noisy import noise_enabled, noisy_layers, reset_noise, set_noise_enabled
from aibig.layers.q.running_norm import running_norms, update_running_norms
from aibig.layers.q.value_distributions import CategoricalReturn, ImplicitQuantileReturn, QuantileReturn, action_values
from aibig.layers.utils.modes import eval_mode
from aibig.layers.utils.polyak import polyak_update
from aibig.metrics.greedy_policy import evaluation_policy, greedy_actions
from aibig.metrics.names import LOWER_IS_BETTER
from aibig.metrics.outcomes import EpisodeOutcome
from aibig.seeds import derive_seed
from aibig.tasks.base import Batch, Context, Loss, Task
from aibig.tasks.q_learning.exploration import EpsilonSchedule, Exploration
from aibig.tasks.q_learning.td_losses import (
    LossAndError,
    best_actions,
    categorical_loss,
    gather_actions,
    huber_loss,
    project_distribution,
    quantile_loss,
    soft_policy,
    td_target,
)

# the settings by which a replay builds transitions and samples them
REPLAY_SETTINGS = ("n_step", "discount", "priority_exponent", "reward_scale", "reward_clip")


class ReplayBatch(NamedTuple):
    """A micro-batch from the replay.

    Args:
        transitions: B of them.
        fractions: of probability that implicit quantiles are asked for, (B, N); else None.
        target_fractions: the same of the target, (B, M).
    """

    transitions: Transitions
    fractions: Tensor | None
    target_fractions: Tensor | None


class QLearning(Task):
    """Acts epsilon-greedily, stores transitions, and fits an action's value to the reward plus the next value.

    With an offline dataset (stored transitions) the agent does not act, and the settings of acting are ignored.

    Args:
        model: a Q-network; one with noisy layers explores by them too: then set epsilon_start and epsilon_end to 0.
        pool: environments to act in.
        replay: where transitions are stored.
        context: device, ranks and generator.
        discount: what the next state's value is multiplied by (gamma).
        n_step: env steps whose rewards are summed before the next value is added.
        double: whether the model chooses the next action and the target network values it (double DQN); by default
            true, but false with munchausen or without a target network.
        munchausen: share of the target network's scaled log-policy of the action that is added to the reward
            (arXiv 2007.14430, eq. 3 and 4: 0.9); the next value is then the policy's mean with its entropy. 0: none.
        entropy_temperature: of munchausen's softmax policy over values, in their units (the paper's tau).
        log_policy_min: where munchausen's scaled log-policy is clipped, at most 0 (the paper's l_0).
        priority_exponent: transitions are sampled in proportion to |TD error|**exponent (alpha; arXiv 1511.05952);
            0: uniformly.
        importance_exponent: initial exponent of the importance weights that correct for priorities (beta).
        importance_env_steps: env steps over which importance_exponent rises to 1; null: it stays.
        reward_scale: what rewards are multiplied by. The Huber loss is linear beyond a TD error of 1, so that large
            rewards have little effect: scale them down.
        reward_clip: where scaled rewards are clipped, at plus and minus this; null: nowhere.
        env_steps_per_update: env steps, over all environments, for each update.
        learning_starts: env steps of random actions before the first update.
        epsilon_start: initial probability of a random action.
        epsilon_end: final probability of a random action.
        epsilon_env_steps: env steps over which the probability of a random action falls.
        epsilon_schedule: how the probability of a random action falls: "linear", or "exponential" by a constant factor.
        exploration_exponent: random actions are repeated n env steps, p(n) ~ n^-exponent (epsilon-z-greedy, arXiv
            2006.01782: 2), which finds what single random steps do not; null: one step.
        target_update_interval: optimizer steps (not env steps) between updates of the target network; null: none.
        tau: fraction of the way to the model that the target network moves at an update (Polyak averaging), at most 1.
        validation_episodes: episodes of each evaluation during training, always with the same seeds.
        test_episodes: episodes of the test at the end, with other seeds.
        evaluation_epsilon: probability of a random action in validation and test; above 0 it ends greedy episodes that
            would never end in a deterministic game.

    Raises:
        UserError: settings contradict each other, or don't fit the model or the replay.
    """

    primary_metric: ClassVar[str] = "mean_return"
    lower_is_better: ClassVar[frozenset[str]] = LOWER_IS_BETTER

    def __init__(
        self,
        model: nn.Module,
        pool: EnvPool,
        replay: ReplayBuffer,
        context: Context,
        *,
        discount: Fraction = 0.99,
        n_step: PositiveInt = 1,
        double: bool | None = None,
        munchausen: Fraction = 0.0,
        entropy_temperature: PositiveFloat = 0.03,
        log_policy_min: float = -1.0,
        priority_exponent: Fraction = 0.0,
        importance_exponent: Fraction = 0.4,
        importance_env_steps: PositiveInt | None = None,
        reward_scale: PositiveFloat = 1.0,
        reward_clip: PositiveFloat | None = None,
        env_steps_per_update: PositiveFloat = 1.0,
        learning_starts: NonNegativeInt = 1_000,
        epsilon_start: Fraction = 1.0,
        epsilon_end: Fraction = 0.05,
        epsilon_env_steps: PositiveInt = 10_000,
        epsilon_schedule: EpsilonSchedule = "linear",
        exploration_exponent: PositiveFloat | None = None,
        target_update_interval: PositiveInt | None = 200,
        tau: PositiveFloat = 1.0,
        validation_episodes: PositiveInt = 20,
        test_episodes: PositiveInt = 100,
        evaluation_epsilon: Fraction = 0.0,
    ) -> None:
        self.model, self.pool, self.replay, self.context = model, pool, replay, context
        self.distribution = getattr(model, "distribution", None)

        self.target_update_interval, self.tau = target_update_interval, tau
        self.munchausen, self.temperature, self.log_policy_min = munchausen, entropy_temperature, log_policy_min
        self.double = double if double is not None else target_update_interval is not None and not munchausen
        self._check_target(n_step)

        self.is_prioritised = priority_exponent > 0
        self.importance_exponent, self.importance_env_steps = importance_exponent, importance_env_steps
        self.has_noise, self.has_running_norm = bool(noisy_layers(model)), bool(running_norms(model))
        self._check_replay(n_step, discount, priority_exponent, reward_scale, reward_clip)

        set_noise_enabled(model, True)  # evaluation disables it
        self.target_network = model if target_update_interval is None else copy.deepcopy(model).requires_grad_(False)
        self.target_networks = {} if target_update_interval is None else {"target_network": self.target_network}

        self.env_steps_per_update, self.learning_starts = env_steps_per_update, learning_starts
        self.exploration = Exploration(
            pool.count,
            pool.actions,
            start=epsilon_start,
            end=epsilon_end,
            env_steps=epsilon_env_steps,
            schedule=epsilon_schedule,
            duration_exponent=exploration_exponent,
        )
        self.episodes = {"validation": validation_episodes, "test": test_episodes}
        self.evaluation_epsilon = evaluation_epsilon

        self.counts = ("samples",) if replay.is_offline else ("env_steps", "samples")
        self.env_steps = 0  # of this rank; resets count too, so that all ranks advance equally
        self.batches = 0
        self.latest_returns: deque[float] = deque(maxlen=20)
        self.latest_lengths: deque[float] = deque(maxlen=20)
        pool.reset(derive_seed(context.seed, "acting", context.rank))

    def _check_target(self, n_step: int) -> None:
        has_target_network = self.target_update_interval is not None
        if self.munchausen and self.double:
            raise UserError("double: has no meaning with munchausen, whose target has no best action; leave double out")
        if self.munchausen and n_step > 1:
            raise UserError("munchausen: its log-policy is that of one step; set n_step to 1")
        if self.munchausen and isinstance(self.distribution, CategoricalReturn):
            raise UserError("munchausen: is defined for values and quantiles, not for categorical distributions")
        if self.munchausen and not has_target_network:
            raise UserError("munchausen: needs the target network's policy; set target_update_interval")
        if self.log_policy_min > 0:
            raise UserError(f"log_policy_min {self.log_policy_min:g}: a logarithm of a probability is at most 0")
        if self.double and not has_target_network:
            raise UserError("double: needs a target network to value the model's choice; set target_update_interval")
        if self.tau != 1.0 and not has_target_network:
            raise UserError("tau: there is no target network to move; set target_update_interval")
        if self.tau > 1.0:
            raise UserError(f"tau {self.tau:g} must be at most 1")

    def _check_replay(self, *settings: float | None) -> None:
        replay, world_size = self.replay, self.context.world_size
        for name, value in zip(REPLAY_SETTINGS, settings, strict=True):
            replay_value = getattr(replay.spec, name)
            if replay_value != value:
                raise UserError(f"{name}: the task has {value}, the replay {replay_value}; give both the same")
        if self.importance_env_steps is not None and not self.is_prioritised:
            raise UserError("importance_env_steps: sampling is uniform; set priority_exponent, or leave it out")
        if self.importance_env_steps is not None and replay.is_offline:
            raise UserError("importance_env_steps: there are no env steps with stored transitions; leave it out")
        if replay.capacity < replay.batch_size and not replay.is_offline:
            raise UserError(f"data.capacity {replay.capacity:,} is less than a batch, {replay.batch_size:,}; set more")
        if replay.batch_size % world_size:
            raise UserError(f"data.batch_size {replay.batch_size} can't be divided among {world_size} ranks")
        if self.has_running_norm and replay.is_offline:
            raise UserError(
                "model.normalise: collects statistics from acting, which is off with stored transitions; use scale"
            )
        if self.has_running_norm and world_size > 1:
            raise UserError("model.normalise: each rank would have statistics of its own; use scale, or one rank")

    @property
    def networks(self) -> list[nn.Module]:
        """The model, and the target network if there is one."""
        return [self.model, *self.target_networks.values()]

    @classmethod
    def from_config(cls, config: Config, context: Context) -> QLearning:
        """Build environments, replay, model and task from the sections `env`, `data`, `model` and `task`."""
        pool: EnvPool = config.create("env")
        task = config.section("task")
        is_image = pool.observation_dtype == np.uint8
        spec = ReplaySpec(
            pool.observation_shape,
            pool.actions,
            pool.count,
            torch.uint8 if is_image else torch.float32,
            pool.frame_stack if is_image else 1,
            pool.has_action_masks,
            **{name: task[name] for name in REPLAY_SETTINGS},
            device=context.device,
        )
        replay: ReplayBuffer = config.create("data", spec)
        shape = list(pool.observation_shape)
        sizes = {"in_features": math.prod(shape), "shape": shape, "actions": pool.actions, "out_features": pool.actions}
        with config.locating_errors("task"):
            return cls(config.create("model", **sizes), pool, replay, context, **task)

    # ---------------------------------------------------------------- acting

    def next_batch(self) -> Batch:
        """Act if an update begins, then sample transitions."""
        env_steps_before = self.env_steps
        update, micro_batch = divmod(self.batches, self.context.accumulate)
        if micro_batch == 0 and not self.replay.is_offline:
            due = max(self.learning_starts / self.context.world_size, 1)
            due += update * self.env_steps_per_update / self.context.world_size
            while self.env_steps < due or not len(self.replay):
                self._act()
        self.batches += 1
        generator, count = self.context.generator, self.replay.batch_size // self.context.world_size
        transitions = self.replay.sample(count, generator, self.current_importance_exponent())
        fractions = target_fractions = None
        if isinstance(self.distribution, ImplicitQuantileReturn):
            fractions = torch.rand(count, self.distribution.samples, generator=generator)
            target_fractions = torch.rand(count, self.distribution.target_samples, generator=generator)
        if self.has_noise:
            for network in self.networks:
                reset_noise(network, generator)
        counts = {"samples": self.replay.batch_size}
        if not self.replay.is_offline:
            counts["env_steps"] = (self.env_steps - env_steps_before) * self.context.world_size
        return Batch(ReplayBatch(transitions, fractions, target_fractions), count, counts)

    def _act(self) -> None:
        """One step in every environment, stored in the replay."""
        step = self.pool.step(self._choose_actions(self.pool.observation, self.pool.action_mask))
        if self.has_running_norm:
            observations = torch.from_numpy(step.observation[step.is_transition]).to(self.context.device)
            for network in self.networks:
                update_running_norms(network, observations)
        self.replay.add(step)
        self.exploration.end_of_episode(np.flatnonzero(step.terminated | step.truncated).tolist())
        self.env_steps += self.pool.count
        for episode_return, length in step.finished:
            self.latest_returns.append(episode_return)
            self.latest_lengths.append(length)

    def _choose_actions(self, observation: NDArray[Any], mask: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        """Actions (E,) for observations (E, ...): random ones with probability epsilon, else the best."""
        generator = self.context.generator
        allowed = None if mask is None else torch.from_numpy(mask)
        explores, actions = self.exploration.choose(self.epsilon(), allowed, generator)
        if self.context.world_size > 1 or not explores.all():  # a sharded model needs all ranks at once
            if self.has_noise:
                reset_noise(self.model, generator)
            with eval_mode(self.model), self.context.autocast():
                best = greedy_actions(self.model, observation, self.context.device, mask)
            actions = torch.where(explores, actions, torch.from_numpy(best))
        return actions.numpy()

    def epsilon(self) -> float:
        """The probability of a random action now."""
        env_steps = self.env_steps * self.context.world_size
        if env_steps < self.learning_starts:
            return 1.0
        return self.exploration.epsilon(env_steps)

    def current_importance_exponent(self) -> float:
        """The exponent of the importance weights now."""
        if self.importance_env_steps is None:
            return self.importance_exponent
        progress = min(1.0, self.env_steps * self.context.world_size / self.importance_env_steps)
        return self.importance_exponent + progress * (1.0 - self.importance_exponent)

    # ---------------------------------------------------------------- learning

    def loss(self, batch: Batch) -> Loss:
        """The TD loss of the actions taken: of their values, or of the distributions of their returns."""
        data: ReplayBatch = batch.data
        transitions = data.transitions
        online_q = self._forward(self.model, transitions.observation, data.fractions)  # (B, A) or (B, A, N)
        q_values = gather_actions(online_q, transitions.action)  # (B,) or (B, N)
        with torch.no_grad():
            target_q_values = self._target_q_values(data)
        losses, td_errors = self._td_losses(q_values, target_q_values, data.fractions)  # (B,) each
        if transitions.weight is not None:
            losses = losses * transitions.weight
        with torch.no_grad():
            mean_q = q_values.mean() if self.distribution is None else self.distribution.mean(q_values).mean()
        metrics = {"q_value": mean_q, "td_error": td_errors.mean(), "epsilon": self.epsilon()}
        # Always there, since ranks add metrics up together; NaN, before an episode has ended, is left out.
        metrics["episode_return"] = sum(self.latest_returns) / (len(self.latest_returns) or math.nan)
        metrics["episode_length"] = sum(self.latest_lengths) / (len(self.latest_lengths) or math.nan)
        return Loss(losses.mean(), metrics, (transitions.indices, td_errors) if self.is_prioritised else None)

    def _forward(self, model: nn.Module, observation: Tensor, fractions: Tensor | None) -> Tensor:
        output: Tensor = model(observation) if fractions is None else model(observation, fractions)
        return output.float()

    def _target_q_values(self, batch: ReplayBatch) -> Tensor:
        """What the actions taken should have: values (B,), or probabilities or quantiles (B, M)."""
        transitions, reward, discount = batch.transitions, batch.transitions.reward, batch.transitions.discount
        next_observation = transitions.next_observation
        next_q_values = self._forward(self.target_network, next_observation, batch.target_fractions)  # (B, A[, M])
        if self.munchausen:
            return self._munchausen_target(transitions, next_q_values)
        online_q = self._forward(self.model, next_observation, batch.fractions) if self.double else next_q_values
        next_action = best_actions(action_values(self.model, online_q), transitions.next_action_mask)
        next_q_values = gather_actions(next_q_values, next_action)  # (B,) or (B, M)
        if isinstance(self.distribution, CategoricalReturn):
            return project_distribution(next_q_values.softmax(-1), reward, discount, self.distribution)
        return td_target(reward, discount, next_q_values)

    def _munchausen_target(self, transitions: Transitions, next_q_values: Tensor) -> Tensor:
        """Values (B,), or quantiles (B, M): each by the policy's mean over actions (arXiv 2007.14430, eq. 3 and 4)."""
        q_values = action_values(self.model, self._forward(self.target_network, transitions.observation, None))
        _, log_policy = soft_policy(q_values, self.temperature, transitions.action_mask)  # (B, A)
        scaled_log_policy = self.temperature * gather_actions(log_policy, transitions.action)
        bonus = self.munchausen * scaled_log_policy.clamp(min=self.log_policy_min)
        mean_next_q = action_values(self.model, next_q_values)
        policy, log_policy = soft_policy(mean_next_q, self.temperature, transitions.next_action_mask)
        if next_q_values.ndim == 3:
            policy, log_policy = policy.unsqueeze(2), log_policy.unsqueeze(2)  # (B, A, 1)
        soft_q_values = (policy * (next_q_values - self.temperature * log_policy)).sum(1)  # (B,) or (B, M)
        return td_target(transitions.reward + bonus, transitions.discount, soft_q_values)

    def _td_losses(self, q_values: Tensor, target_q_values: Tensor, fractions: Tensor | None) -> LossAndError:
        match self.distribution:
            case CategoricalReturn():
                return categorical_loss(q_values, target_q_values)
            case QuantileReturn():
                return quantile_loss(q_values, self.distribution.fractions, target_q_values)
            case ImplicitQuantileReturn():
                assert fractions is not None
                return quantile_loss(q_values, fractions, target_q_values)
        return huber_loss(q_values, target_q_values)

    def after_loss(self, carry: Any) -> None:
        """Give the sampled transitions their new priorities."""
        if carry is not None:
            self.replay.update_priorities(*carry)

    def after_update(self, step: int) -> None:
        """Update the target network when it is due."""
        if self.target_update_interval is not None and step % self.target_update_interval == 0:
            polyak_update(self.target_network, self.model, self.tau)

    # ---------------------------------------------------------------- evaluating, saving

    def outcome(self, split: str) -> EpisodeOutcome:
        """Episodes on seeds that depend on the split, so that the best model is not chosen on the test's."""
        seeds = [derive_seed(self.context.seed, split, number) % 2**31 for number in range(self.episodes[split])]
        with noise_enabled(self.model, False), eval_mode(self.model), self.context.autocast():
            policy = evaluation_policy(
                self.model, self.context.device, self.pool.actions, self.evaluation_epsilon, seeds[0]
            )
            returns, lengths = self.pool.run_episodes(policy, seeds)
        return EpisodeOutcome(returns, lengths)

    def inference_config(self) -> dict[str, Any]:
        """The environment, and how to act in it."""
        return {"predictor": "agent", "env": self.pool.registered, "epsilon": self.evaluation_epsilon}

    def state_dict(self) -> dict[str, Any]:
        """Environments, replay and counters."""
        return {
            "pool": self.pool.state_dict(),
            "replay": self.replay.state_dict(),
            "exploration": self.exploration.state_dict(),
            "env_steps": self.env_steps,
            "batches": self.batches,
            "latest_returns": list(self.latest_returns),
            "latest_lengths": list(self.latest_lengths),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.pool.load_state_dict(state["pool"])
        self.replay.load_state_dict(state["replay"])
        self.exploration.load_state_dict(state["exploration"])
        self.exploration.end_of_episode(self.pool.restarted)
        self.replay.discard_pending(self.pool.restarted)
        self.env_steps, self.batches = state["env_steps"], state["batches"]
        self.latest_returns = deque(state["latest_returns"], maxlen=20)
        self.latest_lengths = deque(state["latest_lengths"], maxlen=20)
