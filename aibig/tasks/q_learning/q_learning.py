"""Learning to act for the highest return: Q-learning with replay and a target_network. Knows no model by name.

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
from aibig.layers.modes import evaluating
from aibig.layers.polyak import follow
from aibig.layers.q.noisy import noisy, noisy_layers, resample_noise, turn_noise
from aibig.layers.q.running_norm import RunningNorm, observe
from aibig.layers.q.value_distributions import Categorical, ImplicitQuantiles, Quantiles, action_values
from aibig.metrics import functions as metrics
from aibig.metrics.greedy_policy import evaluation_policy, greedy_actions
from aibig.metrics.outcomes import EpisodeOutcome
from aibig.seeds import derive_seed
from aibig.tasks.base import Batch, Context, Loss, Task
from aibig.tasks.q_learning.exploration import Exploration, Schedule
from aibig.tasks.q_learning.td_losses import (
    Errors,
    best_actions,
    categorical_loss,
    huber_loss,
    projected,
    quantile_loss,
    soft_policy,
)

# the settings by which a replay joins and draws
JOINED = ("n_step", "discount", "priority_exponent", "reward_scale", "reward_clip")


class Drawn(NamedTuple):
    """A micro-batch, and the fractions of probability (B, N) that implicit quantiles are asked for."""

    transitions: Transitions
    fractions: Tensor | None
    target_fractions: Tensor | None


class QLearning(Task):
    """Acts epsilon-greedily, keeps what happened, and fits the value of an action to reward plus target_network's value.

    discount: of the next state's value. n_step: rewards that are summed before the target_network's value is added.
    double: the model chooses the next action, the target_network values it; by default so unless `munchausen`, or
    without a target_network.
    munchausen: the share of the target_network's log-policy of the action, of temperature `entropy_temperature` and cut off
    at `log_policy_min`, that is added to the reward (arXiv 2007.14430, eq. 3 and 4: 0.9, 0.03, -1); the next value is
    then the policy's mean, with its entropy.
    priority_exponent: transitions are drawn in proportion to error**exponent (alpha; arXiv 1511.05952), and weighed by
    an importance_exponent (beta) that goes to 1 over `importance_env_steps`, or stays.
    reward_scale, reward_clip: what rewards are multiplied by, and then cut off at, +-. Errors of values count squared
    up to 1 and then by their size, by which rare outcomes hardly move a value: scale large rewards down.
    Where transitions are stored ones the agent does not act, and what follows but the target_network does not count.
    env_steps_per_update: over all environments. learning_starts: env steps of random action before the first
    update. epsilon_start, epsilon_end, epsilon_env_steps: the probability of a random action falls over so many env
    steps, in a straight line or by a constant factor (epsilon_schedule). A model with noisy layers explores by them
    too: then let it be 0. exploration_exponent: random actions last, n steps with a probability in proportion to n to
    the power of minus this (arXiv 2006.01782: 2), which finds what single steps do not; None: one step.
    target_update_interval: updates between moves of the target_network, None for no target_network; tau: of the way to the
    model that it moves.
    validation_episodes, test_episodes: greedy ones, with seeds of their own, also from each other. evaluation_epsilon:
    the probability of a random action in them, which ends what would go round for ever in a game without chance.

    Raises UserError for settings that can't hold together.
    """

    primary_metric: ClassVar[str] = "mean_return"
    lower_is_better: ClassVar[frozenset[str]] = metrics.LOWER_IS_BETTER

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
        epsilon_schedule: Schedule = "linear",
        exploration_exponent: PositiveFloat | None = None,
        target_update_interval: PositiveInt | None = 200,
        tau: PositiveFloat = 1.0,
        validation_episodes: PositiveInt = 20,
        test_episodes: PositiveInt = 100,
        evaluation_epsilon: Fraction = 0.0,
    ) -> None:
        self.model, self.pool, self.replay, self.context = model, pool, replay, context
        self.distribution = getattr(model, "distribution", None)
        if double is None:
            double = target_update_interval is not None and not munchausen
        self.double = double
        self.munchausen, self.temperature, self.log_policy_min = munchausen, entropy_temperature, log_policy_min
        self._check(n_step, target_update_interval, tau)
        if importance_env_steps is not None and not priority_exponent:
            raise UserError("importance_env_steps: all draws are uniform; set priority_exponent, or leave it out")
        if importance_env_steps is not None and replay.is_fixed:
            raise UserError("importance_env_steps: no env step is taken with stored transitions; leave it out")
        turn_noise(model, True)  # greedy actions turn it off
        self.target_network = model if target_update_interval is None else copy.deepcopy(model).requires_grad_(False)
        self.target_networks = {} if target_update_interval is None else {"target_network": self.target_network}
        self.target_update_interval, self.tau = target_update_interval, tau
        self.has_noise = bool(noisy_layers(model))
        self.normalises = any(isinstance(one, RunningNorm) for one in model.modules())
        self.prioritised = priority_exponent > 0
        self.importance_exponent, self.importance_env_steps = importance_exponent, importance_env_steps
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
        self.counts = ("samples",) if replay.is_fixed else ("env_steps", "samples")
        self.env_steps = 0  # of this rank; the step by which an environment is reset is one too: ranks keep pace
        self.batches = 0
        self.latest_returns: deque[float] = deque(maxlen=20)
        self.latest_lengths: deque[float] = deque(maxlen=20)
        wanted = (n_step, discount, priority_exponent, reward_scale, reward_clip)
        for name, value in zip(JOINED, wanted, strict=True):
            kept = getattr(replay.spec, name)
            if kept != value:
                raise UserError(f"{name}: the task has {value}, the replay {kept}; give both the same")
        if replay.capacity < replay.batch_size and not replay.is_fixed:
            raise UserError(f"data.capacity {replay.capacity:,} is less than a batch, {replay.batch_size:,}; set more")
        if replay.batch_size % context.world_size:
            raise UserError(f"data.batch_size {replay.batch_size} can't be dealt out to {context.world_size} ranks")
        if self.normalises and replay.is_fixed:
            raise UserError("model.normalise: takes statistics of what the agent sees, but it does not act; use scale")
        if self.normalises and context.world_size > 1:
            raise UserError("model.normalise: each rank would see statistics of its own; use scale, or one rank")
        pool.begin(derive_seed(context.seed, "acting", context.rank))

    def _check(self, n_step: int, target_update_interval: int | None, tau: float) -> None:
        """Refuse settings of the target that can't hold together."""
        if self.munchausen and self.double:
            raise UserError("double: munchausen takes the mean over the policy, no best action; leave double out")
        if self.munchausen and n_step > 1:
            raise UserError("munchausen: its log-policy is that of one step; set n_step to 1")
        if self.munchausen and isinstance(self.distribution, Categorical):
            raise UserError("munchausen: is defined for values and quantiles, not for categorical distributions")
        if self.log_policy_min > 0:
            raise UserError(f"log_policy_min {self.log_policy_min:g}: a logarithm of a probability is at most 0")
        if target_update_interval is None and self.munchausen:
            raise UserError("munchausen: takes the target_network's policy; set target_update_interval")
        if target_update_interval is None and self.double:
            raise UserError(
                "double: without a target_network the model would value its own choice; set target_update_interval"
            )
        if target_update_interval is None and tau != 1.0:
            raise UserError("tau: there is no target_network to move; set target_update_interval")
        if tau > 1.0:
            raise UserError(f"tau {tau:g} must be at most 1")

    @classmethod
    def from_config(cls, config: Config, context: Context) -> QLearning:
        """Build environments, replay, model and task from the sections `env`, `data`, `model` and `task`."""
        pool: EnvPool = config.create("env")
        task = config.section("task")
        pictures = pool.observation_dtype == np.uint8
        spec = ReplaySpec(
            pool.observation_shape,
            pool.actions,
            pool.count,
            torch.uint8 if pictures else torch.float32,
            pool.frame_stack if pictures else 1,
            pool.has_action_masks,
            **{name: task[name] for name in JOINED},
            device=context.device,
        )
        replay: ReplayBuffer = config.create("data", spec)
        size = int(np.prod(pool.observation_shape))
        shape = list(pool.observation_shape)
        given = {"in_features": size, "shape": shape, "actions": pool.actions, "out_features": pool.actions}
        with config.blaming("task"):
            return cls(config.create("model", **given), pool, replay, context, **task)

    # ---------------------------------------------------------------- acting

    def next_batch(self) -> Batch:
        """Act if an update begins, then draw transitions."""
        before = self.env_steps
        if self.batches % self.context.accumulate == 0 and not self.replay.is_fixed:
            due = max(self.learning_starts / self.context.world_size, 1)
            due += self.batches // self.context.accumulate * self.env_steps_per_update / self.context.world_size
            while self.env_steps < due or not len(self.replay):
                self._act()
        self.batches += 1
        generator, count = self.context.generator, self.replay.batch_size // self.context.world_size
        drawn = self.replay.sample(count, generator, self.importance())
        fractions = target_fractions = None
        if isinstance(self.distribution, ImplicitQuantiles):
            fractions = torch.rand(count, self.distribution.samples, generator=generator)
            target_fractions = torch.rand(count, self.distribution.target_samples, generator=generator)
        if self.has_noise:
            for module in {id(one): one for one in (self.model, self.target_network)}.values():
                resample_noise(module, generator)
        counts = {"samples": self.replay.batch_size}
        if not self.replay.is_fixed:
            counts["env_steps"] = (self.env_steps - before) * self.context.world_size
        return Batch(Drawn(drawn, fractions, target_fractions), count, counts)

    def _act(self) -> None:
        """One step in every environment, kept in the replay."""
        step = self.pool.step(self._choose(self.pool.observation, self.pool.action_mask))
        if self.normalises:
            seen = torch.from_numpy(step.observation[step.is_transition]).to(self.context.device)
            for module in {id(one): one for one in (self.model, self.target_network)}.values():
                observe(module, seen)
        self.replay.add(step)
        self.exploration.end_of_episode(np.flatnonzero(step.terminated | step.truncated).tolist())
        self.env_steps += self.pool.count
        for value, length in step.finished:
            self.latest_returns.append(value)
            self.latest_lengths.append(length)

    def _choose(self, observation: NDArray[Any], mask: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        """Actions (E,) for observations (E, ...): random ones with probability epsilon, else the best."""
        generator = self.context.generator
        allowed = None if mask is None else torch.from_numpy(mask)
        explores, actions = self.exploration.choose(self.epsilon(), allowed, generator)
        if self.context.world_size > 1 or not explores.all():  # a sharded model needs all ranks at once
            if self.has_noise:
                resample_noise(self.model, generator)
            with evaluating(self.model), self.context.autocast():
                best = greedy_actions(self.model, observation, self.context.device, mask)
            actions = torch.where(explores, actions, torch.from_numpy(best))
        return actions.numpy()

    def epsilon(self) -> float:
        """The probability of a random action now."""
        env_steps = self.env_steps * self.context.world_size
        if env_steps < self.learning_starts:
            return 1.0
        return self.exploration.epsilon(env_steps)

    def importance(self) -> float:
        """The exponent of the importance weights now."""
        if self.importance_env_steps is None:
            return self.importance_exponent
        done = min(1.0, self.env_steps * self.context.world_size / self.importance_env_steps)
        return self.importance_exponent + done * (1.0 - self.importance_exponent)

    # ---------------------------------------------------------------- learning

    def loss(self, batch: Batch) -> Loss:
        """The distance of the taken actions' values, or of their distributions, from their targets."""
        drawn: Drawn = batch.data
        transitions, device = drawn.transitions, drawn.transitions.reward.device
        output = self._ask(self.model, transitions.observation, drawn.fractions)  # (B, A) or (B, A, N)
        rows = torch.arange(len(transitions.action), device=device)
        taken = output[rows, transitions.action]  # (B) or (B, N)
        with torch.no_grad():
            target = self._target(drawn)
        errors, sizes = self._errors(taken, target, drawn.fractions)
        if transitions.weight is not None:
            errors = errors * transitions.weight
        with torch.no_grad():
            value = taken if self.distribution is None else self.distribution.values(taken)
        metrics = {"q": value.detach().mean(), "td_error": sizes.mean(), "epsilon": self.epsilon()}
        # Always there, since ranks add metrics up together; NaN, before an episode has ended, is left out.
        metrics["latest_return"] = sum(self.latest_returns) / (len(self.latest_returns) or math.nan)
        metrics["latest_length"] = sum(self.latest_lengths) / (len(self.latest_lengths) or math.nan)
        return Loss(errors.mean(), metrics, (transitions.indices, sizes) if self.prioritised else None)

    def _ask(self, model: nn.Module, observation: Tensor, fractions: Tensor | None) -> Tensor:
        output: Tensor = model(observation) if fractions is None else model(observation, fractions)
        return output.float()

    def _errors(self, taken: Tensor, target: Tensor, fractions: Tensor | None) -> Errors:
        match self.distribution:
            case Categorical():
                return categorical_loss(taken, target)
            case Quantiles():
                return quantile_loss(taken, self.distribution.fractions, target)
            case ImplicitQuantiles():
                assert fractions is not None
                return quantile_loss(taken, fractions, target)
        return huber_loss(taken, target)

    def _target(self, drawn: Drawn) -> Tensor:
        """What the taken actions' output should be: values (B), probabilities or quantiles (B, N)."""
        one = drawn.transitions
        after = self._ask(self.target_network, one.next_observation, drawn.target_fractions)  # (B, A) or (B, A, N)
        if self.munchausen:
            return self._munchausen_target(one, after)
        chooser = self._ask(self.model, one.next_observation, drawn.fractions) if self.double else after
        best = best_actions(action_values(self.model, chooser), one.next_action_mask)
        following = after[torch.arange(len(best), device=best.device), best]  # (B) or (B, N)
        if isinstance(self.distribution, Categorical):
            return projected(following.softmax(-1), one.reward, one.discount, self.distribution)
        if self.distribution is None:
            return one.reward + one.discount * following
        return one.reward.unsqueeze(1) + one.discount.unsqueeze(1) * following

    def _munchausen_target(self, one: Transitions, after: Tensor) -> Tensor:
        """Of values (B), or of quantiles (B, N): each by the policy's mean over actions."""
        now = action_values(self.model, self._ask(self.target_network, one.observation, None))  # (B, A)
        _, logs = soft_policy(now, self.temperature, one.action_mask)
        taken = logs.gather(1, one.action.unsqueeze(1)).squeeze(1)
        bonus = self.munchausen * (self.temperature * taken).clamp(min=self.log_policy_min)
        policy, logs = soft_policy(action_values(self.model, after), self.temperature, one.next_action_mask)  # (B, A)
        reward = one.reward + bonus
        if self.distribution is None:
            return reward + one.discount * (policy * (after - self.temperature * logs)).sum(1)
        soft = (policy.unsqueeze(2) * (after - self.temperature * logs.unsqueeze(2))).sum(1)  # (B, N)
        return reward.unsqueeze(1) + one.discount.unsqueeze(1) * soft

    def after_loss(self, carry: Any) -> None:
        """What was drawn has new priorities."""
        if carry is not None:
            self.replay.update_priorities(*carry)

    def after_update(self, step: int) -> None:
        """Every so often the target_network moves to the model."""
        if self.target_update_interval is not None and step % self.target_update_interval == 0:
            follow(self.target_network, self.model, self.tau)

    # ---------------------------------------------------------------- measuring, saving

    def outcome(self, split: str) -> EpisodeOutcome:
        """Episodes on seeds that depend on the split, so that the best model is not chosen on the test's."""
        seeds = [derive_seed(self.context.seed, split, number) % 2**31 for number in range(self.episodes[split])]
        with noisy(self.model, False), evaluating(self.model), self.context.autocast():
            policy = evaluation_policy(
                self.model, self.context.device, self.pool.actions, self.evaluation_epsilon, seeds[0]
            )
            returns, lengths = self.pool.run_episodes(policy, seeds)
        return EpisodeOutcome(returns, lengths)

    def inference_facts(self) -> dict[str, Any]:
        """The environment, and how to act in it."""
        return {"predictor": "player", "env": self.pool.registered, "epsilon": self.evaluation_epsilon}

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
        """Go on from what `state_dict` gave."""
        self.pool.load_state_dict(state["pool"])
        self.replay.load_state_dict(state["replay"])
        self.exploration.load_state_dict(state["exploration"])
        self.exploration.end_of_episode(self.pool.restarted)
        self.replay.forget(self.pool.restarted)
        self.env_steps, self.batches = state["env_steps"], state["batches"]
        self.latest_returns = deque(state["latest_returns"], maxlen=20)
        self.latest_lengths = deque(state["latest_lengths"], maxlen=20)
