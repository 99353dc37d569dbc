"""Classification and regression. Knows no model by name.

M members of an ensemble (1 for a single model), B batch, N rows of a split, C classes or outputs.
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
from aibig.layers.utils.modes import eval_mode
from aibig.metrics.names import LOWER_IS_BETTER
from aibig.metrics.outcomes import ClassificationOutcome, RegressionOutcome
from aibig.tasks.base import Batch, Context, Loss, Task


class Supervised(Task):
    """The common part of classification and regression: shuffled batches, and evaluation of a split.

    Args:
        model: module that is called with the inputs of a batch.
        data: samples with targets.
        context: context of this rank.
    """

    counts: tuple[str, ...] = ("samples",)
    target_type: ClassVar[str]  # type of numeric targets: "classes" or "values"
    lower_is_better: ClassVar[frozenset[str]] = LOWER_IS_BETTER

    def __init__(self, model: nn.Module, data: LabelledData, context: Context) -> None:
        self.model, self.data, self.context = model, data, context
        data.to(context.device)
        self.batches = data.training_batches(context.seed, context.rank, context.world_size)
        self.updates_per_epoch = self.batches.per_epoch
        self.notes = data.notes

    @classmethod
    def from_config(cls, config: Config, context: Context) -> Supervised:
        """Build data, model and task from the sections `data`, `model` and `task`."""
        is_open = config.section("data").get("target_type") == "auto"
        data: LabelledData = config.create("data", **({"target_type": cls.target_type} if is_open else {}))
        with config.locating_errors("data"):
            settings = cls.model_settings(data)
        check_inputs(config, settings)
        model = config.create("model", **settings)
        return cls(model, data, context, **config.section("task"))

    @classmethod
    @abstractmethod
    def model_settings(cls, data: LabelledData) -> dict[str, Any]:
        """The model settings that the data decide, by all names that models have for them.

        Args:
            data: samples with targets.

        Raises:
            UserError: the targets are not of this task's type.
        """

    def next_batch(self) -> Batch:
        """The next shuffled batch: a tuple of inputs, and the targets."""
        inputs, targets, size = self.batches.next()
        return Batch((inputs, targets), len(targets), {"samples": size})

    def predict(self, split: str) -> tuple[Tensor, Tensor] | None:
        """The model's outputs on a split.

        Args:
            split: "train", "validation" or "test".

        Returns:
            Outputs (M, N, C) and targets; None if there is no such split.
        """
        if split not in self.data.splits:
            return None
        outputs, targets = [], []
        with eval_mode(self.model), self.context.autocast():
            for inputs, batch_targets in self.data.evaluation_batches(split):
                on_device = (tensor.to(self.context.device, non_blocking=True) for tensor in inputs)
                outputs.append(by_member(self.model(*on_device)).float())
                targets.append(batch_targets)
        return torch.cat(outputs, 1), torch.cat(targets).to(self.context.device)

    def state_dict(self) -> dict[str, Any]:
        """The position in the order of the samples, and the fingerprint of the data."""
        return {"order": self.batches.state_dict(), "data": self.data.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a state. Raises UserError if it belongs to other data."""
        check_fingerprint(self.data.fingerprint, state["data"])
        self.batches.load_state_dict(state["order"])


class Classification(Supervised):
    """Classification with cross-entropy, averaged over the members of an ensemble.

    Args:
        model: module that returns logits (B, C), or (M, B, C) for an ensemble.
        data: samples with classes.
        context: context of this rank.
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
        """One output per class. Raises UserError for targets that are not classes."""
        classes = len(data.class_names)
        if not classes:
            cure = "use the task 'regression', or name the classes"
            raise UserError(f"the targets are continuous values, not classes; {cure}")
        return {**data.model_settings(), "out_features": classes, "num_classes": classes}

    def loss(self, batch: Batch) -> Loss:
        """Mean cross-entropy over members and samples; the accuracy is of the members' mean logits."""
        inputs, targets = batch.data
        logits = self.model(*inputs)  # (B, C), or (M, B, C)
        mean_logits, repeated = logits.detach(), targets
        if logits.ndim == 3:
            mean_logits, repeated, logits = mean_logits.mean(0), targets.repeat(len(logits)), logits.flatten(0, 1)
        value = F.cross_entropy(logits, repeated, label_smoothing=self.label_smoothing)
        return Loss(value, {"accuracy": (mean_logits.argmax(1) == targets).float().mean()})

    def outcome(self, split: str) -> ClassificationOutcome | None:
        """The probabilities, averaged over members."""
        predicted = self.predict(split)
        if predicted is None:
            return None
        probabilities = predicted[0].softmax(2).mean(0)
        return ClassificationOutcome(probabilities.cpu().numpy(), predicted[1].cpu().numpy(), self.data.class_names)

    def inference_config(self) -> dict[str, Any]:
        """The preparation of inputs, and the class names."""
        return {**self.data.inference_config(), "class_names": self.data.class_names}


class Regression(Supervised):
    """Regression with mean squared error of standardised targets, averaged over the members of an ensemble.

    Args:
        model: module that returns values (B, C), or (M, B, C) for an ensemble.
        data: samples with continuous targets.
        context: context of this rank.
    """

    primary_metric: ClassVar[str] = "rmse"
    target_type: ClassVar[str] = "values"

    def __init__(self, model: nn.Module, data: LabelledData, context: Context) -> None:
        super().__init__(model, data, context)
        shift, scale = fit_scaling(data.targets("train"), "standard")
        self.shift, self.scale = shift.to(context.device), scale.to(context.device)

    @classmethod
    def model_settings(cls, data: LabelledData) -> dict[str, Any]:
        """One output per target. Raises UserError for classes."""
        if data.class_names:
            raise UserError("the targets are classes, not continuous values; use the task 'classification'")
        return {**data.model_settings(), "out_features": data.targets("train")[0].numel()}

    def loss(self, batch: Batch) -> Loss:
        """Mean squared error over members, samples and outputs, in units of the targets' variance."""
        inputs, targets = batch.data
        outputs = by_member(self.model(*inputs)).float()  # (M, B, C)
        scaled = (targets - self.shift) / self.scale
        return Loss(F.mse_loss(outputs, scaled.expand_as(outputs)))

    def outcome(self, split: str) -> RegressionOutcome | None:
        """The predictions in the targets' units, averaged over members."""
        predicted = self.predict(split)
        if predicted is None:
            return None
        outputs = predicted[0].mean(0) * self.scale + self.shift
        return RegressionOutcome(outputs.cpu().numpy(), predicted[1].cpu().numpy())

    def inference_config(self) -> dict[str, Any]:
        """The preparation of inputs, and the scaling of targets."""
        scaling = {"target_shift": self.shift.tolist(), "target_scale": self.scale.tolist()}
        return self.data.inference_config() | scaling


def by_member(outputs: Tensor) -> Tensor:
    """Outputs with an axis for the members of an ensemble.

    Args:
        outputs: (B, C), or (M, B, C).

    Returns:
        (M, B, C), where M is 1 for a single model.
    """
    return outputs if outputs.ndim == 3 else outputs.unsqueeze(0)


def check_inputs(config: Config, settings: dict[str, Any]) -> None:
    """Check that the data have the inputs that the model needs.

    Args:
        config: config of the run.
        settings: model settings that the data decide.

    Raises:
        UserError: the model needs image or text inputs that the data lack, or does not support texts.
    """
    name = config.name_of("model")
    declared = SECTIONS["model"].settings(name)
    with config.locating_errors("model"):
        for setting, inputs in (("in_channels", "image inputs"), ("vocab_size", "text inputs")):
            if setting in declared and setting not in settings:
                raise UserError(f"{name!r} needs {inputs}, but the data have none; use another model, such as 'net'")
        if "vocab_size" in settings and declared and "vocab_size" not in declared:
            raise UserError(f"{name!r} does not support text inputs; use a model that does, such as 'lstm'")
