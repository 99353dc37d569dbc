"""Learning to act for the highest return: Q-learning with replay and a follower. Knows no model by name.

E environments, B transitions, A actions. arXiv 1312.5602 (DQN), 1509.06461 (double DQN).
"""

from __future__ import annotations

import copy
import math
from collections import deque
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from aibig import metrics
from aibig.config import Config
from aibig.data.n_step import NStep
from aibig.data.replay import Replay, Transitions
from aibig.envs.episodes import run_episodes
from aibig.envs.pool import EnvPool
from aibig.errors import UserError
from aibig.inference.modes import evaluating
from aibig.inference.policy import greedy_actions
from aibig.layers.follow import follow
from aibig.outcomes import Returns
from aibig.seeds import derive_seed
from aibig.settings import Fraction, NonNegativeInt, PositiveFloat, PositiveInt
from aibig.tasks.base import Batch, Context, Loss, Task


class QLearning(Task):
    """Acts epsilon-greedily, keeps what happened, and fits the value of an action to reward plus follower's value.

    discount: of the next state's value. n_step: rewards that are summed before the follower's value is added.
    double: the model chooses the next action, the follower values it.
    env_steps_per_update: over all environments. learning_starts: env steps of random action before the first
    update. epsilon_start, epsilon_end, epsilon_env_steps: the probability of a random action falls in a straight
    line over so many env steps. follower_every: updates between copies of the model into the follower.
    validation_episodes, test_episodes: greedy ones, with seeds of their own, also from each other.
    """

    counts: ClassVar[tuple[str, ...]] = ("env_steps",)
    headline: ClassVar[str] = "mean_return"
    lower_is_better: ClassVar[frozenset[str]] = metrics.LOWER_IS_BETTER

    def __init__(
        self,
        model: nn.Module,
        pool: EnvPool,
        replay: Replay,
        context: Context,
        *,
        discount: Fraction = 0.99,
        n_step: PositiveInt = 1,
        double: bool = True,
        env_steps_per_update: PositiveFloat = 1.0,
        learning_starts: NonNegativeInt = 1_000,
        epsilon_start: Fraction = 1.0,
        epsilon_end: Fraction = 0.05,
        epsilon_env_steps: PositiveInt = 10_000,
        follower_every: PositiveInt = 200,
        validation_episodes: PositiveInt = 20,
        test_episodes: PositiveInt = 100,
    ) -> None:
        self.model, self.pool, self.replay, self.context = model, pool, replay, context
        self.follower = copy.deepcopy(model).requires_grad_(False)
        self.followers = {"follower": self.follower}
        self.double = double
        self.window = NStep(n_step, discount)
        self.env_steps_per_update, self.learning_starts = env_steps_per_update, learning_starts
        self.epsilon_start, self.epsilon_end = epsilon_start, epsilon_end
        self.epsilon_env_steps, self.follower_every = epsilon_env_steps, follower_every
        self.episodes = {"validation": validation_episodes, "test": test_episodes}
        self.env_steps = 0  # of this rank
        self.batches = 0
        self.latest_returns: deque[float] = deque(maxlen=20)
        if replay.batch_size % context.world_size:
            raise UserError(f"data.batch_size {replay.batch_size} can't be dealt out to {context.world_size} ranks")
        pool.begin(derive_seed(context.seed, "acting", context.rank))

    @classmethod
    def from_config(cls, config: Config, context: Context) -> QLearning:
        """Build environments, replay, model and task from the sections `env`, `data`, `model` and `task`."""
        pool: EnvPool = config.create("env")
        replay: Replay = config.create("data", pool.observation_shape)
        size = int(np.prod(pool.observation_shape))
        model = config.create("model", in_features=size, actions=pool.actions, out_features=pool.actions)
        return cls(model, pool, replay, context, **config.section("task"))

    def next_batch(self) -> Batch:
        """Act if an update begins, then draw transitions."""
        before = self.env_steps
        if self.batches % self.context.accumulate == 0:
            due = max(self.learning_starts / self.context.world_size, 1)
            due += self.batches // self.context.accumulate * self.env_steps_per_update / self.context.world_size
            while self.env_steps < due or not len(self.replay):
                self._act()
        self.batches += 1
        count = self.replay.batch_size // self.context.world_size
        drawn = self.replay.sample(count, self.context.generator)
        return Batch(drawn, count, {"env_steps": (self.env_steps - before) * self.context.world_size})

    def _act(self) -> None:
        """One step in every environment, kept in the replay."""
        step = self.pool.step(self._choose(self.pool.observation))
        ended = step.terminated | step.truncated
        seen = (step.observation, step.action, step.reward, step.next_observation, step.terminated, ended)
        for transitions in self.window.add(*seen):
            self.replay.add(*transitions)
        self.env_steps += self.pool.count
        self.latest_returns.extend(value for value, _ in step.finished)

    def _choose(self, observation: NDArray[np.float32]) -> NDArray[np.int64]:
        """Actions (E,) for observations (E, ...): random ones with probability epsilon, else the best."""
        count, generator = self.pool.count, self.context.generator
        explores = torch.rand(count, generator=generator) < self.epsilon()
        actions = torch.randint(self.pool.actions, (count,), generator=generator)
        if self.context.world_size > 1 or not explores.all():  # a sharded model needs all ranks at once
            with evaluating(self.model), self.context.autocast():
                best = greedy_actions(self.model, observation, self.context.device)
            actions = torch.where(explores, actions, torch.from_numpy(best))
        return actions.numpy()

    def epsilon(self) -> float:
        """The probability of a random action now."""
        env_steps = self.env_steps * self.context.world_size
        if env_steps < self.learning_starts:
            return 1.0
        done = min(1.0, env_steps / self.epsilon_env_steps)
        return self.epsilon_start + done * (self.epsilon_end - self.epsilon_start)

    def loss(self, batch: Batch) -> Loss:
        """Huber loss of the TD error (Mnih et al. 2015, Methods: error clipped to -1..1)."""
        drawn: Transitions = batch.data
        values = self.model(drawn.observation).float()  # (B, A)
        value = values.gather(1, drawn.action.unsqueeze(1)).squeeze(1)
        with torch.no_grad():
            target = drawn.reward + drawn.discount * self._next_value(drawn)
        seen = value.detach()
        metrics = {"q": seen.mean(), "td_error": (seen - target).abs().mean(), "epsilon": self.epsilon()}
        # Always there, since ranks add metrics up together; NaN, before an episode has ended, is left out.
        metrics["latest_return"] = sum(self.latest_returns) / (len(self.latest_returns) or math.nan)
        return Loss(F.smooth_l1_loss(value, target), metrics)

    def _next_value(self, drawn: Transitions) -> torch.Tensor:
        """The follower's value (B,) of the best next action; double: of the one that the model thinks best."""
        follower = self.follower(drawn.next_observation).float()  # (B, A)
        if not self.double:
            return follower.amax(1)
        best = self.model(drawn.next_observation).argmax(1, keepdim=True)
        return follower.gather(1, best).squeeze(1)

    def after_update(self, step: int) -> None:
        """Every so often the follower becomes the model's copy."""
        if step % self.follower_every == 0:
            follow(self.follower, self.model)

    def outcome(self, split: str) -> Returns:
        """Greedy episodes on seeds that depend on the split, so that the best model is not chosen on the test's."""
        seeds = [derive_seed(self.context.seed, split, number) % 2**31 for number in range(self.episodes[split])]
        with evaluating(self.model), self.context.autocast():
            returns, lengths = run_episodes(
                self.pool.make, lambda seen: greedy_actions(self.model, seen, self.context.device), seeds
            )
        return Returns(returns, lengths)

    def inference_facts(self) -> dict[str, Any]:
        """The environment."""
        return {"predictor": "player", "env": self.pool.registered}

    def state_dict(self) -> dict[str, Any]:
        """Environments, unfinished transitions, replay and counters."""
        return {
            "pool": self.pool.state_dict(),
            "window": self.window.state_dict(),
            "replay": self.replay.state_dict(),
            "env_steps": self.env_steps,
            "batches": self.batches,
            "latest_returns": list(self.latest_returns),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.pool.load_state_dict(state["pool"])
        self.window.load_state_dict(state["window"])
        self.window.forget(self.pool.restarted)
        self.replay.load_state_dict(state["replay"])
        self.env_steps, self.batches = state["env_steps"], state["batches"]
        self.latest_returns = deque(state["latest_returns"], maxlen=20)
