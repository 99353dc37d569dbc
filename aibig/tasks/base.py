"""The contract between a task and the trainer. Knows no model, no data and no trainer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from aibig.errors import UserError

if TYPE_CHECKING:
    from aibig.config.run_config import Config
    from aibig.metrics.outcomes import Outcome


@dataclass
class Batch:
    """One micro-batch of this rank.

    Args:
        data: tensors, or tuples and mappings of tensors; the trainer moves them to the device.
        weight: number of samples, or of tokens, that `Loss.value` is the mean of, on this rank.
        counts: numbers of samples, tokens or env_steps that the batch adds to the run's counts, over all ranks.
    """

    data: Any
    weight: float
    counts: dict[str, int]


@dataclass
class Loss:
    """The loss of one micro-batch.

    Args:
        value: mean that is minimised, a scalar.
        metrics: further means, for the log: numbers, or detached scalar tensors, since `.item()` would wait for the
            device.
        carry: argument of `Task.after_loss`, detached.
    """

    value: Tensor
    metrics: Mapping[str, Tensor | float] = field(default_factory=dict)
    carry: Any = None


@dataclass
class Context:
    """What a task needs to know of the run when it is built.

    Args:
        device: device of the model and of the batches.
        seed: seed of the run.
        rank: index of this process, from 0.
        world_size: number of processes that train together.
        accumulate: micro-batches per update (optimizer step).
        autocast: function that returns the context manager for a forward pass.
        generator: generator of all random numbers of the task on this rank; the trainer saves its state.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    accumulate: int = 1
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
    generator: torch.Generator = field(default_factory=torch.Generator)


class Task(ABC):
    """What is learned: the next batch, its loss, and the metrics. The trainer knows nothing else of it.

    The order of calls in an update: for each micro-batch `next_batch`, `loss` (then its backward pass) and
    `after_loss`; then, if the optimizer stepped, `after_update`. `model` is called only through its forward, so that
    it can be replicated, sharded and compiled in place.

    Attributes:
        counts: names of what its batches count: samples, tokens, env_steps.
        primary_metric: the metric of `evaluate` that selects the best model.
        lower_is_better: names of the metrics where lower values are better.
        model: module that the optimizer trains.
        context: context of this rank.
        target_networks: modules that follow the model; the trainer moves, shards, compiles and saves them.
        updates_per_epoch: micro-batches of an epoch (optimizer steps when `accumulate` is 1); None: no epochs.
        notes: remarks on the data, printed before training, a line each.
    """

    counts: tuple[str, ...] = ()
    primary_metric: ClassVar[str] = "loss"
    lower_is_better: ClassVar[frozenset[str]] = frozenset({"loss"})

    model: nn.Module
    context: Context
    target_networks: Mapping[str, nn.Module] = {}
    updates_per_epoch: int | None = None
    notes: Sequence[str] = ()

    @classmethod
    def from_config(cls, config: Config, context: Context) -> Task:
        """Build the task, its data and its model from the sections of a config.

        Only a task that a config can name overrides it.

        Args:
            config: config of the run.
            context: context of this rank.

        Raises:
            UserError: the task does not override it, or the config doesn't fit.
        """
        raise UserError(f"{cls.__name__} can't be made from a config; give it a class method from_config")

    @abstractmethod
    def next_batch(self) -> Batch:
        """The next micro-batch, different on each rank."""

    @abstractmethod
    def loss(self, batch: Batch) -> Loss:
        """The loss, as a pure function of the parameters and the batch.

        Args:
            batch: batch of `next_batch`, on the device.
        """

    def after_loss(self, carry: Any) -> None:  # noqa: B027
        """Called after the backward pass, to keep what the next batch needs: a recurrent model's state, new priorities.

        Args:
            carry: `Loss.carry`.
        """

    def after_update(self, step: int) -> None:  # noqa: B027
        """Called after an update, for example to update a target network.

        Not called after a skipped update, except on an accelerator, where the host does not know of it; the parameters
        are then unchanged.

        Args:
            step: number of the update, from 1.
        """

    def evaluate(self, split: str) -> dict[str, float]:
        """The metrics of the model on a split. A task overrides this or `outcome`.

        Args:
            split: "validation" or "test".

        Returns:
            Metric by name; empty if there is no such split.
        """
        outcome = self.outcome(split)
        return {} if outcome is None else outcome.metrics()

    def outcome(self, split: str) -> Outcome | None:
        """The predictions and targets behind the metrics; a task without them has no intervals and no figures.

        Args:
            split: "validation" or "test".

        Returns:
            The outcome; None if there is no such split.
        """
        return None

    def sample(self) -> str:
        """The text shown after an evaluation, such as one that the model generates; "" for none."""
        return ""

    def inference_config(self) -> dict[str, Any]:
        """The inference config: plain values that inference needs beside the weights; "predictor" names its class."""
        return {}

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """The state of this rank, as tensors and plain values, from which it resumes exactly."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a state.

        Args:
            state: from `state_dict`.

        Raises:
            UserError: it belongs to other data.
        """
