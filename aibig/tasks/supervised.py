"""Learning targets from features: classification and regression. Knows no model by name.

M members of an ensemble (a plain net has none), B batch, C classes or outputs.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aibig.config.registry import SECTIONS
from aibig.config.run_config import Config
from aibig.config.settings import Fraction
from aibig.data.arrays import fit_scaling
from aibig.data.fingerprint import check_fingerprint
from aibig.data.labelled import LabelledData
from aibig.errors import UserError
from aibig.layers.modes import evaluating
from aibig.metrics import functions as metrics
from aibig.metrics.outcomes import ClassificationOutcome, RegressionOutcome
from aibig.tasks.base import Batch, Context, Loss, Task


class Supervised(Task):
    """What classification and regression share: shuffled batches of samples, evaluation of a whole part."""

    counts: tuple[str, ...] = ("samples",)
    target_type: ClassVar[str]  # what numbers are, where data could be either: "classes" or "values"
    lower_is_better: ClassVar[frozenset[str]] = metrics.LOWER_IS_BETTER

    def __init__(self, model: nn.Module, data: LabelledData, context: Context) -> None:
        self.model, self.data, self.context = model, data, context
        data.to(context.device)
        self.batches = data.training_batches(context.seed, context.rank, context.world_size)
        self.updates_per_epoch = self.batches.per_epoch
        self.notes = data.notes

    @classmethod
    def from_config(cls, config: Config, context: Context) -> Supervised:
        """Build data, model and task from the sections `data`, `model` and `task`."""
        undecided = config.section("data").get("target_type") == "auto"
        data: LabelledData = config.create("data", **({"target_type": cls.target_type} if undecided else {}))
        with config.blaming("data"):
            given = cls.model_settings(data)
        check_inputs(config, given)
        model = config.create("model", **given)
        return cls(model, data, context, **config.section("task"))

    @classmethod
    @abstractmethod
    def model_settings(cls, data: LabelledData) -> dict[str, Any]:
        """The settings of a model that the data decide, under every name that models give them."""

    def next_batch(self) -> Batch:
        """The next of the shuffled batches: inputs, the model's arguments, and targets."""
        inputs, targets, size = self.batches.next()
        return Batch((inputs, targets), len(targets), {"samples": size})

    def predict(self, split: str) -> tuple[Tensor, Tensor] | None:
        """The model's outputs, each (M, rows, C), and the targets of a part; None if there is no such part."""
        if split not in self.data.parts:
            return None
        outputs, targets = [], []
        with evaluating(self.model), self.context.autocast():
            for inputs, some_targets in self.data.evaluation_batches(split):
                given = (one.to(self.context.device, non_blocking=True) for one in inputs)
                outputs.append(members(self.model(*given)).float())
                targets.append(some_targets)
        return torch.cat(outputs, 1), torch.cat(targets).to(self.context.device)

    def state_dict(self) -> dict[str, Any]:
        """The position in the order, and whose order it is."""
        return {"order": self.batches.state_dict(), "data": self.data.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave. Raises UserError if the data are others."""
        check_fingerprint(self.data.fingerprint, state["data"])
        self.batches.load_state_dict(state["order"])


class Classification(Supervised):
    """Which class: cross-entropy, over all members of an ensemble.

    label_smoothing: probability spread over all classes (arXiv 1512.00567, section 7).
    """

    primary_metric: ClassVar[str] = "accuracy"
    target_type: ClassVar[str] = "classes"

    def __init__(
        self, model: nn.Module, data: LabelledData, context: Context, *, label_smoothing: Fraction = 0.0
    ) -> None:
        super().__init__(model, data, context)
        self.label_smoothing = label_smoothing

    @classmethod
    def model_settings(cls, data: LabelledData) -> dict[str, Any]:
        """As many outputs as classes. Raises UserError for targets without classes."""
        classes = len(data.class_names)
        if not classes:
            raise UserError("has values for targets, no classes; name the classes, or use the task 'regression'")
        return {**data.model_settings(), "out_features": classes, "num_classes": classes}

    def loss(self, batch: Batch) -> Loss:
        """Mean cross-entropy over members and samples."""
        inputs, targets = batch.data
        scores = self.model(*inputs)  # (B, C), or (M, B, C)
        mean = scores.detach()
        wanted = targets
        if scores.ndim == 3:
            mean, wanted, scores = mean.mean(0), targets.repeat(len(scores)), scores.flatten(0, 1)
        value = F.cross_entropy(scores, wanted, label_smoothing=self.label_smoothing)
        return Loss(value, {"accuracy": (mean.argmax(1) == targets).float().mean()})

    def outcome(self, split: str) -> ClassificationOutcome | None:
        """The members' mean probabilities."""
        predicted = self.predict(split)
        if predicted is None:
            return None
        probabilities = predicted[0].softmax(2).mean(0)
        return ClassificationOutcome(probabilities.cpu().numpy(), predicted[1].cpu().numpy(), self.data.class_names)

    def inference_facts(self) -> dict[str, Any]:
        """Scaling, and the names of the classes."""
        return {**self.data.inference_facts(), "class_names": self.data.class_names}


class Regression(Supervised):
    """How much: mean squared error over all members of an ensemble, of targets scaled to mean 0 and variance 1."""

    primary_metric: ClassVar[str] = "rmse"
    target_type: ClassVar[str] = "values"

    def __init__(self, model: nn.Module, data: LabelledData, context: Context) -> None:
        super().__init__(model, data, context)
        shift, scale = fit_scaling(data.targets("train"), "standard")
        self.shift, self.scale = shift.to(context.device), scale.to(context.device)

    @classmethod
    def model_settings(cls, data: LabelledData) -> dict[str, Any]:
        """As many outputs as targets. Raises UserError for classes."""
        if data.class_names:
            raise UserError("has classes for targets; use the task 'classification'")
        return {**data.model_settings(), "out_features": data.targets("train")[0].numel()}

    def loss(self, batch: Batch) -> Loss:
        """Mean squared error over members, samples and outputs, in units of the targets' variance."""
        inputs, targets = batch.data
        outputs = members(self.model(*inputs)).float()  # (M, B, C)
        scaled = (targets - self.shift) / self.scale
        return Loss(F.mse_loss(outputs, scaled.expand_as(outputs)))

    def outcome(self, split: str) -> RegressionOutcome | None:
        """The members' mean, in the targets' units."""
        predicted = self.predict(split)
        if predicted is None:
            return None
        outputs = predicted[0].mean(0) * self.scale + self.shift
        return RegressionOutcome(outputs.cpu().numpy(), predicted[1].cpu().numpy())

    def inference_facts(self) -> dict[str, Any]:
        """Scaling of features and targets."""
        return {**self.data.inference_facts(), "target_shift": self.shift.tolist(), "target_scale": self.scale.tolist()}


def members(outputs: Tensor) -> Tensor:
    """Outputs as those of an ensemble: (B, C) -> (1, B, C); (M, B, C) stays."""
    return outputs if outputs.ndim == 3 else outputs.unsqueeze(0)


def check_inputs(config: Config, given: dict[str, Any]) -> None:
    """Refuse a model that takes other inputs than the data, which decide the settings `given`, have to offer."""
    declared = SECTIONS["model"].settings(config.named("model"))
    with config.blaming("model"):
        for setting, kind in (("in_channels", "images"), ("vocab_size", "texts")):
            if setting in declared and setting not in given:
                raise UserError(f"{config.named('model')!r} takes {kind}, and the data are none; take 'net', say")
        if "vocab_size" in given and declared and "vocab_size" not in declared:
            raise UserError(f"{config.named('model')!r} reads no texts; take one that does, such as 'lstm'")
