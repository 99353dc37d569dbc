"""Masked language modelling: prediction of masked tokens (BERT, arXiv 1810.04805, section 3.1). Knows no model by name.

B batch, T tokens, M masked tokens of a batch.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from torch import nn

from aibig.config.run_config import Config
from aibig.data.text.mask_tokens import mask_token_id, mask_tokens
from aibig.data.text.text_data import TextData
from aibig.errors import UserError
from aibig.generation.language_model import LanguageModel
from aibig.layers.utils.modes import eval_mode
from aibig.metrics.names import LOWER_IS_BETTER
from aibig.metrics.outcomes import TokenOutcome
from aibig.metrics.text_scores import score_masked_text
from aibig.tasks.base import Batch, Context, Loss, Task


class MaskedLanguageModelling(Task):
    """Prediction of masked tokens, 15% of each window, with cross-entropy. Windows are shuffled in each epoch.

    Args:
        model: bidirectional model, whose forward has a parameter `masked_positions`.
        data: text as token ids.
        context: context of this rank.

    Raises:
        UserError: the model can't predict masked tokens, or the data are read as a stream.
    """

    counts: tuple[str, ...] = ("tokens",)
    lower_is_better: ClassVar[frozenset[str]] = LOWER_IS_BETTER

    def __init__(self, model: nn.Module, data: TextData, context: Context) -> None:
        predicts_masked = "masked_positions" in inspect.signature(model.forward).parameters
        if not predicts_masked or (isinstance(model, LanguageModel) and not model.is_bidirectional):
            raise UserError(
                f"a {type(model).__name__} can't predict masked tokens; use the model 'bert', or 'lstm' with "
                "bidirectional: true"
            )
        self.model, self.data, self.context = model, data, context
        data.to(context.device)
        self.windows = data.training_windows(context.seed, context.rank, context.world_size)
        if self.windows.is_stateful:
            raise UserError("a model of masked tokens carries no state; leave out data.order")
        self.updates_per_epoch = self.windows.batches_per_epoch
        self.notes = data.notes
        self.mask_id = mask_token_id(data.tokenizer)

    @classmethod
    def from_config(cls, config: Config, context: Context) -> MaskedLanguageModelling:
        """Build data, model and task from the sections `data`, `model` and `task`."""
        data: TextData = config.create("data")
        vocab_size = max(data.tokenizer.vocab_size, mask_token_id(data.tokenizer) + 1)
        settings = {"vocab_size": vocab_size, "context": data.context, "num_classes": None}
        return cls(config.create("model", **settings), data, context, **config.section("task"))

    def next_batch(self) -> Batch:
        """The next windows with masked tokens (B, T), their positions b T + t (M,), and their original ids (M,)."""
        tokens = self.windows.next().tokens
        masked = mask_tokens(tokens, self.mask_id, self.data.tokenizer.vocab_size, self.context.generator)
        return Batch(masked, len(masked[1]), {"tokens": tokens.numel() * self.context.world_size})

    def loss(self, batch: Batch) -> Loss:
        """Mean cross-entropy of the masked tokens, in nats."""
        tokens, positions, targets = batch.data
        terms, _ = self.model(tokens, targets=targets, masked_positions=positions)
        return Loss(terms.cross_entropy.mean())

    def outcome(self, split: str) -> TokenOutcome | None:
        """The loss of masked tokens of a split; the same tokens are masked at each evaluation."""
        if split not in self.data.splits:
            return None
        with eval_mode(self.model), self.context.autocast():
            return score_masked_text(self.model, self.data.splits[split], self.data.tokenizer, self.data.context)

    def inference_config(self) -> dict[str, Any]:
        """The tokenizer and the context."""
        return {"predictor": "fill_mask", "tokenizer": self.data.tokenizer.to_dict(), "context": self.data.context}

    def state_dict(self) -> dict[str, Any]:
        """The position in the text, and fingerprints of text and tokenizer."""
        return {"windows": self.windows.state_dict(), **self.data.fingerprints()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a state. Raises UserError if it belongs to another text or tokenizer."""
        self.data.check_fingerprints(state)
        self.windows.load_state_dict(state["windows"])
