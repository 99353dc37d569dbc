"""Tasks of a few lines each: what the tests of the contract train, and examples of how one is written."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aibig.tasks.base import Batch, Context, Loss, Task


class Line(Task):
    """Fits a linear function of what it draws: about the shortest task there is."""

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
        """Nothing: what it draws, it draws from the context's generator."""
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
            for one in model.parameters():
                one.copy_(torch.randn(one.shape, generator=generator, dtype=torch.float64) / 2)
        return model

    @classmethod
    def rows(cls, update: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs (ROWS, 3), targets and mask (ROWS,) of an update; the lonely first target is far off."""
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
        inputs, targets, mask = (one.chunk(parts)[part] for one in self.rows(update))
        samples = len(inputs) * self.context.world_size
        return Batch((inputs, targets, mask), mask.sum().item(), {"samples": samples})

    def loss(self, batch: Batch) -> Loss:
        """A mean over the weight."""
        return Loss(self.mean_error(self.model, batch.data))


class Following(Line):
    """Fits values to those of a target_network, as double Q-learning does.

    every, fraction: so many updates apart, the target_network moves so far. noise: of the inputs, drawn by each
    rank for itself; without it all ranks together see what one alone sees.
    """

    ROWS = 12

    def __init__(self, context: Context, *, every: int, fraction: float, noise: float = 0.0) -> None:
        self.context = context
        self.every, self.fraction, self.noise = every, fraction, noise
        self.model = Masked.make_model(outputs=3)
        self.target_network = copy.deepcopy(self.model).requires_grad_(False)
        self.target_networks = {"target_network": self.target_network}
        self.updates = 0

    @classmethod
    def rows(cls, update: int) -> tuple[Tensor, Tensor]:
        """Inputs now and next, each (ROWS, 3)."""
        generator = torch.Generator().manual_seed(update)
        now, then = torch.randn(2, cls.ROWS, 3, generator=generator, dtype=torch.float64)
        return now, then

    @staticmethod
    def error(model: nn.Module, target_network: nn.Module, now: Tensor, then: Tensor) -> Tensor:
        """Mean squared difference to the target_network's value of what the model chooses next."""
        values = model(now)
        with torch.no_grad():
            best = model(then).argmax(1, keepdim=True)
            wanted = now.sum(1, keepdim=True) + 0.9 * target_network(then).gather(1, best)
        return (values - wanted).square().mean()

    def next_batch(self) -> Batch:
        """This rank's rows."""
        now, then = (one[self.context.rank :: self.context.world_size] for one in self.rows(self.updates))
        self.updates += 1
        noise = self.noise * torch.randn(now.shape, generator=self.context.generator, dtype=torch.float64)
        return Batch((now + noise, then), len(now), {})

    def loss(self, batch: Batch) -> Loss:
        """As `error` says."""
        return Loss(self.error(self.model, self.target_network, *batch.data))

    def after_update(self, step: int) -> None:
        """The target_network moves."""
        if step % self.every == 0:
            with torch.no_grad():
                for own, other in zip(self.target_network.parameters(), self.model.parameters(), strict=True):
                    own.lerp_(other, self.fraction)

    def state_dict(self) -> dict[str, Any]:
        """How many batches were drawn; the trainer keeps the target_network."""
        return {"updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.updates = state["updates"]


class Prioritised(Line):
    """Draws rows in proportion to their last error: the carry is which they were, and what it is now."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        generator = torch.Generator().manual_seed(1)
        self.inputs = torch.randn(32, 3, generator=generator)
        self.targets = self.inputs.prod(1, keepdim=True)
        self.priorities = torch.ones(32)
        self.drawn: list[list[int]] = []  # for the tests to see

    def next_batch(self) -> Batch:
        """Rows that were badly fitted."""
        index = self.priorities.multinomial(4, generator=self.context.generator)
        self.drawn.append(index.tolist())
        return Batch((index, self.inputs[index], self.targets[index]), 4, {})

    def loss(self, batch: Batch) -> Loss:
        """Mean squared error; carry: rows and priorities."""
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


class Remembering(Line):
    """Predicts from an input and a memory of all before it: the carry is the memory, detached."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.model = nn.RNN(2, 4, batch_first=True)
        generator = torch.Generator().manual_seed(2)
        self.stream = torch.randn(2, 200, 2, generator=generator)
        self.position = 0
        self.memory: Tensor | None = None

    @staticmethod
    def error(outputs: Tensor, inputs: Tensor) -> Tensor:
        """Mean squared difference to something that depends on the inputs."""
        return (outputs.sum(2) - inputs.cumsum(1).sum(2)).square().mean()

    def next_batch(self) -> Batch:
        """The next three inputs (2, 3, 2) of the stream, and the memory (1, 2, 4) of those before."""
        inputs = self.stream[:, self.position : self.position + 3]
        self.position += 3
        return Batch((inputs, self.memory), inputs.numel(), {})

    def loss(self, batch: Batch) -> Loss:
        """carry: the memory."""
        inputs, memory = batch.data
        outputs, memory = self.model(inputs, memory)
        return Loss(self.error(outputs, inputs), carry=memory.detach())

    def after_loss(self, carry: Any) -> None:
        """Remember."""
        self.memory = carry

    def state_dict(self) -> dict[str, Any]:
        """Position and memory."""
        return {"position": self.position, "memory": self.memory}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.position, self.memory = state["position"], state["memory"]


class Poisoned(Line):
    """Fits a line, but in some updates the "loss" is not finite, or the "gradient", or "both"."""

    def __init__(self, context: Context, poison: dict[int, str]) -> None:
        super().__init__(context)
        self.poison = poison
        self.begun = 0
        self.weights: list[list[Tensor]] = []  # before each update, for the tests to see
        self.updated: list[int] = []  # the steps that `after_update` was told of

    def next_batch(self) -> Batch:
        """As of a line."""
        self.begun += 1
        self.weights.append([one.detach().clone() for one in self.model.parameters()])
        return super().next_batch()

    def loss(self, batch: Batch) -> Loss:
        """Mean squared error, poisoned."""
        inputs, targets = batch.data
        outputs = self.model(inputs)
        value = F.mse_loss(outputs, targets)
        match self.poison.get(self.begun):
            case "both":
                value = value * torch.nan
            case "loss":
                value = value + torch.nan  # whose slope is finite
            case "gradient":  # the root of zero is zero, and its slope infinite
                value = value + (outputs - outputs.detach()).sum().sqrt()
        return Loss(value)

    def after_update(self, step: int) -> None:
        """Note it."""
        self.updated.append(step)

    def state_dict(self) -> dict[str, Any]:
        """How many updates were begun."""
        return {"begun": self.begun}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.begun = state["begun"]


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
    """The end of a run that nothing in it foresaw."""


def crashing(task: Task, at: int) -> Task:
    """`task`, whose run ends without warning after update `at`."""
    after = task.after_update

    def after_update(step: int) -> None:
        after(step)
        if step == at:
            raise Crash

    task.after_update = after_update  # type: ignore[method-assign]
    return task


def differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Where nested tensors and plain values differ in the least; times aside."""
    if where.endswith("seconds"):
        return
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from differences(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        for number, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from differences(left, right, f"{where}.{number}")
    elif isinstance(one, Tensor) and isinstance(other, Tensor):
        if not (one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)):
            yield where
    elif one != other:
        yield f"{where} ({one!r} and {other!r})"
