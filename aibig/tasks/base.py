"""The contract between a way of learning and the trainer. Knows no model, no data and no trainer."""

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
    """What one micro-batch is made of.

    data: tensors, or tuples and mappings of them, that the trainer moves to the device.
    weight: what `Loss.value` is a mean over (samples, or tokens that count), on this rank.
    counts: what was consumed over all ranks, by name: samples, tokens or env_steps.
    """

    data: Any
    weight: float
    counts: dict[str, int]


@dataclass
class Loss:
    """The value to minimise, a scalar mean over the batch's weight; metrics are such means too, to be logged.

    metrics: detached scalar tensors, never `.item()`ed in a step, or numbers. carry: what `after_loss` needs, detached.
    """

    value: Tensor
    metrics: Mapping[str, Tensor | float] = field(default_factory=dict)
    carry: Any = None


@dataclass
class Context:
    """Where a task finds itself: made by the trainer, handed to the task when it is built.

    generator draws whatever the task draws at random on this rank; the trainer saves it. accumulate is the number
    of micro-batches of an update, autocast the context that every forward pass belongs in.
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

    The order of calls in an update: for each micro-batch `next_batch`, `loss` (its backward) and `after_loss`; then,
    if the update was taken, `after_update`. `model` is called only through its forward, so that it can be
    replicated, sharded and compiled in place.
    """

    counts: tuple[str, ...] = ()  # what its batches count: samples, tokens, env_steps
    primary_metric: ClassVar[str] = "loss"  # the metric of `evaluate` that selects the best model
    lower_is_better: ClassVar[frozenset[str]] = frozenset({"loss"})  # the metrics of which less is better

    model: nn.Module
    context: Context
    target_networks: Mapping[str, nn.Module] = {}  # what trails the model: placed, sharded, compiled and saved as it is
    updates_per_epoch: int | None = None  # of one micro-batch each; None: this task has no epochs
    notes: Sequence[str] = ()  # what is worth saying of the data before training, a line each

    @classmethod
    def from_config(cls, config: Config, context: Context) -> Task:
        """Build the task and all that it needs from the sections of a config.

        Only a task that a config names has it. Raises UserError for others.
        """
        raise UserError(f"{cls.__name__} can't be made from a config; give it a class method from_config")

    @abstractmethod
    def next_batch(self) -> Batch:
        """The next micro-batch, different on each rank."""

    @abstractmethod
    def loss(self, batch: Batch) -> Loss:
        """The loss of `batch`, as a pure function of the parameters and the batch."""

    def after_loss(self, carry: Any) -> None:  # noqa: B027
        """Keep what the next batch needs, such as a recurrent model's memory."""

    def after_update(self, step: int) -> None:  # noqa: B027
        """Do what follows an update, such as refreshing a target_network.

        Not called for a skipped update, except on an accelerator, where the host can't know without waiting;
        there the parameters are unchanged.
        """

    def evaluate(self, split: str) -> dict[str, float]:
        """The metrics of the model on "validation" or "test"; empty if there is no such part.

        A task gives either this, or `outcome`.
        """
        outcome = self.outcome(split)
        return {} if outcome is None else outcome.metrics()

    def outcome(self, split: str) -> Outcome | None:
        """What an evaluation on "validation" or "test" sees; None if there is no such part.

        A task that gives no more than metrics can leave it out; then it has neither intervals nor pictures.
        """
        return None

    def sample(self) -> str:
        """Something that a person would like to see after an evaluation, a text say; "" for nothing."""
        return ""

    def inference_facts(self) -> dict[str, Any]:
        """What prediction needs beside the weights, as plain values; `predictor` says which class reads it."""
        return {}

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values from which this rank goes on exactly."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
