"""Tasks of a few lines each, for the tests of the contract, and as examples of how to write one."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aibig.tasks.base import Batch, Context, Loss, Task


class Line(Task):
    """Fits a linear function of random inputs: about the shortest task there is."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.model: nn.Module = nn.Linear(3, 1)

    def next_batch(self) -> Batch:
        """Rows (8, 3) and their sums (8, 1)."""
        inputs = torch.randn(8, 3, generator=self.context.generator)
        return Batch((inputs, inputs.sum(1, keepdim=True)), 8, {})

    def loss(self, batch: Batch) -> Loss:
        """Mean squared error."""
        inputs, targets = batch.data
        return Loss(F.mse_loss(self.model(inputs), targets))

    def evaluate(self, split: str) -> dict[str, float]:
        """Nothing."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the trainer saves the context's generator."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing."""


class Masked(Line):
    """A mean over the rows that count, another number of them in each quarter of an update's rows.

    The rows of an update are the same however many micro-batches and ranks share them.
    """

    counts: ClassVar[tuple[str, ...]] = ("samples",)

    ROWS = 16
    MASK = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [0, 1, 1, 0]], dtype=torch.float64)

    def __init__(self, context: Context) -> None:
        self.context = context
        self.model = self.make_model()
        self.micro_batches = 0

    @staticmethod
    def make_model(outputs: int = 1) -> nn.Module:
        """In float64, so that only a wrong formula, not rounding, makes a difference."""
        generator = torch.Generator().manual_seed(3)
        model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, outputs)).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 2)
        return model

    @classmethod
    def rows(cls, update: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs (ROWS, 3), targets and mask (ROWS,) of an update; the first target, alone in its part, is far off."""
        generator = torch.Generator().manual_seed(update)
        inputs = torch.randn(cls.ROWS, 3, generator=generator, dtype=torch.float64)
        targets = inputs.sum(1)
        targets[0] += 3.0
        return inputs, targets, cls.MASK.flatten()

    @staticmethod
    def mean_error(model: nn.Module, rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """The mean squared error of the rows that count."""
        inputs, targets, mask = rows
        errors = (model(inputs).squeeze(1) - targets).square()
        return (errors * mask).sum() / mask.sum().clamp(min=1)

    def next_batch(self) -> Batch:
        """This rank's next part of the update's rows."""
        update, micro = divmod(self.micro_batches, self.context.accumulate)
        self.micro_batches += 1
        parts = self.context.accumulate * self.context.world_size
        part = micro * self.context.world_size + self.context.rank
        inputs, targets, mask = (column.chunk(parts)[part] for column in self.rows(update))
        samples = len(inputs) * self.context.world_size
        return Batch((inputs, targets, mask), mask.sum().item(), {"samples": samples})

    def loss(self, batch: Batch) -> Loss:
        """A mean over the weight."""
        return Loss(self.mean_error(self.model, batch.data))


class WithTargetNetwork(Line):
    """Fits values to those of a target network, as double Q-learning does.

    Args:
        context: of this rank.
        target_update_interval: updates between those of the target network.
        tau: fraction of the way that the target network moves at its update (Polyak averaging).
        noise: standard deviation of each rank's own noise on the inputs; without it, all ranks together see the inputs
            that a single rank sees.
    """

    ROWS = 12

    def __init__(self, context: Context, *, target_update_interval: int, tau: float, noise: float = 0.0) -> None:
        self.context = context
        self.target_update_interval, self.tau, self.noise = target_update_interval, tau, noise
        self.model = Masked.make_model(outputs=3)
        self.target_network = copy.deepcopy(self.model).requires_grad_(False)
        self.target_networks = {"target_network": self.target_network}
        self.updates = 0

    @classmethod
    def rows(cls, update: int) -> tuple[Tensor, Tensor]:
        """Observations and next observations, each (ROWS, 3)."""
        generator = torch.Generator().manual_seed(update)
        observations, next_observations = torch.randn(2, cls.ROWS, 3, generator=generator, dtype=torch.float64)
        return observations, next_observations

    @staticmethod
    def error(model: nn.Module, target_network: nn.Module, observations: Tensor, next_observations: Tensor) -> Tensor:
        """Mean squared difference to the target network's value of the model's next action."""
        values = model(observations)
        with torch.no_grad():
            next_actions = model(next_observations).argmax(1, keepdim=True)
            next_q_values = target_network(next_observations).gather(1, next_actions)
            targets = observations.sum(1, keepdim=True) + 0.9 * next_q_values
        return (values - targets).square().mean()

    def next_batch(self) -> Batch:
        """This rank's rows."""
        part = slice(self.context.rank, None, self.context.world_size)
        observations, next_observations = (rows[part] for rows in self.rows(self.updates))
        self.updates += 1
        noise = self.noise * torch.randn(observations.shape, generator=self.context.generator, dtype=torch.float64)
        return Batch((observations + noise, next_observations), len(observations), {})

    def loss(self, batch: Batch) -> Loss:
        """As `error` says."""
        return Loss(self.error(self.model, self.target_network, *batch.data))

    def after_update(self, step: int) -> None:
        """Update the target network."""
        if step % self.target_update_interval == 0:
            with torch.no_grad():
                for target, online in zip(self.target_network.parameters(), self.model.parameters(), strict=True):
                    target.lerp_(online, self.tau)

    def state_dict(self) -> dict[str, Any]:
        """How many batches there were; the trainer saves the target network."""
        return {"updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.updates = state["updates"]


class Prioritised(Line):
    """Samples rows in proportion to their last error: the carry is their indices and new errors."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        generator = torch.Generator().manual_seed(1)
        self.inputs = torch.randn(32, 3, generator=generator)
        self.targets = self.inputs.prod(1, keepdim=True)
        self.priorities = torch.ones(32)
        self.sampled: list[list[int]] = []  # for the tests

    def next_batch(self) -> Batch:
        """Rows with large errors."""
        index = self.priorities.multinomial(4, generator=self.context.generator)
        self.sampled.append(index.tolist())
        return Batch((index, self.inputs[index], self.targets[index]), 4, {})

    def loss(self, batch: Batch) -> Loss:
        """Mean squared error; carry: indices and priorities."""
        index, inputs, targets = batch.data
        errors = (self.model(inputs) - targets).square().squeeze(1)
        return Loss(errors.mean(), carry=(index, errors.detach() + 1e-3))

    def after_loss(self, carry: Any) -> None:
        """New priorities."""
        index, priorities = carry
        self.priorities[index] = priorities

    def state_dict(self) -> dict[str, Any]:
        """The priorities: a copy, since they change in place."""
        return {"priorities": self.priorities.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.priorities = state["priorities"]


class Recurrent(Line):
    """Predicts from inputs and a recurrent state: the carry is the detached state."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.model = nn.RNN(2, 4, batch_first=True)
        generator = torch.Generator().manual_seed(2)
        self.stream = torch.randn(2, 200, 2, generator=generator)
        self.position = 0
        self.model_state: Tensor | None = None

    @staticmethod
    def error(outputs: Tensor, inputs: Tensor) -> Tensor:
        """Mean squared difference to something that depends on the inputs."""
        return (outputs.sum(2) - inputs.cumsum(1).sum(2)).square().mean()

    def next_batch(self) -> Batch:
        """The next three inputs (2, 3, 2) of the stream, and the state (1, 2, 4) after those before."""
        inputs = self.stream[:, self.position : self.position + 3]
        self.position += 3
        return Batch((inputs, self.model_state), inputs.numel(), {})

    def loss(self, batch: Batch) -> Loss:
        """carry: the state."""
        inputs, state = batch.data
        outputs, state = self.model(inputs, state)
        return Loss(self.error(outputs, inputs), carry=state.detach())

    def after_loss(self, carry: Any) -> None:
        """Keep the state."""
        self.model_state = carry

    def state_dict(self) -> dict[str, Any]:
        """Position and recurrent state."""
        return {"position": self.position, "model_state": self.model_state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.position, self.model_state = state["position"], state["model_state"]


class Poisoned(Line):
    """Fits a line, but in some updates the "loss" is not finite, or the "gradient", or "both"."""

    def __init__(self, context: Context, poison: dict[int, str]) -> None:
        super().__init__(context)
        self.poison = poison
        self.started = 0
        self.weights: list[list[Tensor]] = []  # before each update, for the tests
        self.updated: list[int] = []  # the steps that `after_update` was called with

    def next_batch(self) -> Batch:
        """As of `Line`."""
        self.started += 1
        self.weights.append([parameter.detach().clone() for parameter in self.model.parameters()])
        return super().next_batch()

    def loss(self, batch: Batch) -> Loss:
        """Mean squared error, poisoned."""
        inputs, targets = batch.data
        outputs = self.model(inputs)
        value = F.mse_loss(outputs, targets)
        match self.poison.get(self.started):
            case "both":
                value = value * torch.nan
            case "loss":
                value = value + torch.nan  # whose gradient is finite
            case "gradient":  # the root of zero is zero, and its gradient infinite
                value = value + (outputs - outputs.detach()).sum().sqrt()
        return Loss(value)

    def after_update(self, step: int) -> None:
        """Record the step."""
        self.updated.append(step)

    def state_dict(self) -> dict[str, Any]:
        """How many batches there were."""
        return {"started": self.started}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.started = state["started"]


class Disagreeing(Line):
    """The main rank finds the model best at evaluation number `best`, the others find it ever worse."""

    def __init__(self, context: Context, best: int) -> None:
        super().__init__(context)
        self.best = best
        self.evaluations = 0

    def evaluate(self, split: str) -> dict[str, float]:
        """How far from the best."""
        self.evaluations += 1
        is_main = self.context.rank == 0
        return {"loss": float(abs(self.evaluations - self.best) if is_main else self.evaluations)}


class Packed(nn.Module):
    """Linear nets side by side: (B, ...) -> (members, B, out_features)."""

    def __init__(self, *, members: int = 4, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(members, in_features, out_features) / in_features**0.5)
        self.bias = nn.Parameter(torch.zeros(members, 1, out_features))

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, ...) -> (M, B, C)."""
        return inputs.flatten(1) @ self.weight + self.bias

    def alone(self, member: int) -> nn.Linear:
        """A copy of one member, as a net of its own: (B, in_features) -> (B, out_features)."""
        _, in_features, out_features = self.weight.shape
        net = nn.Linear(in_features, out_features)
        with torch.no_grad():
            net.weight.copy_(self.weight[member].T)
            net.bias.copy_(self.bias[member, 0])
        return net


class Crash(Exception):
    """An unexpected end of a run."""


def crashing(task: Task, at: int) -> Task:
    """A task whose run crashes after update `at`."""
    original = task.after_update

    def after_update(step: int) -> None:
        original(step)
        if step == at:
            raise Crash

    task.after_update = after_update  # type: ignore[method-assign]
    return task


def differences(left: Any, right: Any, path: str = "") -> Iterator[str]:
    """Where nested tensors and plain values differ at all, except in times."""
    if path.endswith("seconds"):
        return
    if isinstance(left, dict) and isinstance(right, dict) and left.keys() == right.keys():
        for key in left:
            yield from differences(left[key], right[key], f"{path}.{key}")
    elif isinstance(left, list | tuple) and isinstance(right, list | tuple) and len(left) == len(right):
        for number, pair in enumerate(zip(left, right, strict=True)):
            yield from differences(*pair, f"{path}.{number}")
    elif isinstance(left, Tensor) and isinstance(right, Tensor):
        if not (left.shape == right.shape and left.dtype == right.dtype and torch.equal(left, right)):
            yield path
    elif left != right:
        yield f"{path} ({left!r} and {right!r})"
