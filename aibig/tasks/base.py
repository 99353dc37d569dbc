"""The contract between a task, which is a way of learning, and the trainer. Knows no model, no data and no trainer."""

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
        data: tensors, or tuples and mappings of them; the trainer moves them to the device.
        weight: what `Loss.value` is a mean over on this rank: the number of samples, or of tokens that count.
        counts: what was consumed over all ranks, by name: samples, tokens or env_steps.
    """

    data: Any
    weight: float
    counts: dict[str, int]


@dataclass
class Loss:
    """The loss of one micro-batch.

    Args:
        value: what is minimised, a scalar mean over the batch's weight.
        metrics: further means over the weight, to be logged: numbers, or detached scalar tensors, since `.item()` in
            each step would wait for the device.
        carry: what `Task.after_loss` receives, detached.
    """

    value: Tensor
    metrics: Mapping[str, Tensor | float] = field(default_factory=dict)
    carry: Any = None


@dataclass
class Context:
    """What the trainer tells a task when it is built.

    Args:
        device: where the model and the batches lie.
        seed: of the run.
        rank: index of this process, from 0.
        world_size: number of processes that train together.
        accumulate: micro-batches of an update.
        autocast: returns the context manager that each forward pass belongs in.
        generator: for everything that the task draws at random on this rank; the trainer saves its state.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    accumulate: int = 1
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
    generator: torch.Generator = field(default_factory=torch.Generator)


class Task(ABC):
    """One way of learning: which batch comes next, and what its loss is. The trainer knows nothing else of it.

    The order of calls in an update: for each micro-batch `next_batch`, `loss` (then its backward pass) and
    `after_loss`; then, if the optimizer stepped, `after_update`. `model` is called only through its forward, so that
    it can be replicated, sharded and compiled in place.

    Attributes:
        counts: what its batches count: samples, tokens, env_steps.
        primary_metric: the metric of `evaluate` that selects the best model.
        lower_is_better: the metrics of which lower values are better.
        model: what the optimizer trains.
        context: what the trainer gave it.
        target_networks: modules that trail the model; the trainer places, shards, compiles and saves them.
        updates_per_epoch: micro-batches of an epoch, which are its updates where `accumulate` is 1; None: the task has
            no epochs, and an epoch limit is refused.
        notes: what is worth knowing of the data before training, a line each.
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
            config: of the run.
            context: of this rank.

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
            batch: from `next_batch`, on the device.
        """

    def after_loss(self, carry: Any) -> None:  # noqa: B027
        """Keep what the next batch needs, such as a recurrent model's state or new priorities.

        Args:
            carry: that of the `Loss`.
        """

    def after_update(self, step: int) -> None:  # noqa: B027
        """Do what follows an update, such as updating a target network.

        Not called for a skipped update, except on an accelerator, where the host can't know without waiting; there the
        parameters are unchanged.

        Args:
            step: number of the update, from 1.
        """

    def evaluate(self, split: str) -> dict[str, float]:
        """The metrics of the model on a split. A task overrides either this or `outcome`.

        Args:
            split: "validation" or "test".

        Returns:
            Metric by name; empty if there is no such split.
        """
        outcome = self.outcome(split)
        return {} if outcome is None else outcome.metrics()

    def outcome(self, split: str) -> Outcome | None:
        """The predictions and targets behind the metrics. A task without it has no intervals and no figures.

        Args:
            split: "validation" or "test".

        Returns:
            The outcome; None if there is no such split.
        """
        return None

    def sample(self) -> str:
        """A text that shows a person what the model does, logged after an evaluation; "" for none."""
        return ""

    def inference_config(self) -> dict[str, Any]:
        """What inference needs beside the weights, as plain values; "predictor" names the class that reads them."""
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
