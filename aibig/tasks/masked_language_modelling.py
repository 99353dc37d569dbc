"""Learning a text by filling blanks in it (BERT, arXiv 1810.04805, section 3.1). Knows no model by name.

B batch, T time, K hidden tokens of a row.
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
from aibig.layers.modes import evaluating
from aibig.metrics import functions as metrics
from aibig.metrics.outcomes import TokenOutcome
from aibig.metrics.text_scores import score_masked_text
from aibig.tasks.base import Batch, Context, Loss, Task


class MaskedLanguageModelling(Task):
    """Cross-entropy of hidden tokens, a seventh of each window, in windows that are shuffled anew each epoch.

    Raises UserError for data that are read as a stream, and for a model that does not look ahead, or whose forward
    takes no `places`.
    """

    counts: tuple[str, ...] = ("tokens",)
    lower_is_better: ClassVar[frozenset[str]] = metrics.LOWER_IS_BETTER

    def __init__(self, model: nn.Module, data: TextData, context: Context) -> None:
        takes_places = "places" in inspect.signature(model.forward).parameters
        if not takes_places or (isinstance(model, LanguageModel) and not model.looks_ahead):
            raise UserError(
                f"a {type(model).__name__} fills no blanks; take the model 'bert', or 'lstm' with bidirectional: true"
            )
        self.model, self.data, self.context = model, data, context
        data.to(context.device)
        self.windows = data.training_windows(context.seed, context.rank, context.world_size)
        if self.windows.continues:
            raise UserError("an encoder carries no memory; leave out data.order")
        self.updates_per_epoch = self.windows.batches_per_epoch
        self.notes = data.notes
        self.mask = mask_token_id(data.tokenizer)

    @classmethod
    def from_config(cls, config: Config, context: Context) -> MaskedLanguageModelling:
        """Build data, model and task from the sections `data`, `model` and `task`."""
        data: TextData = config.create("data")
        size = max(data.tokenizer.vocab_size, mask_token_id(data.tokenizer) + 1)
        given = {"vocab_size": size, "context": data.context, "num_classes": None}
        return cls(config.create("model", **given), data, context, **config.section("task"))

    def next_batch(self) -> Batch:
        """The next windows with tokens hidden (B, T), the places of those (B K,), and what they are (B K,)."""
        tokens = self.windows.next().tokens
        hidden = mask_tokens(tokens, self.mask, self.data.tokenizer.vocab_size, self.context.generator)
        return Batch(hidden, len(hidden[1]), {"tokens": tokens.numel() * self.context.world_size})

    def loss(self, batch: Batch) -> Loss:
        """Mean cross-entropy of the hidden tokens, in nats."""
        shown, places, targets = batch.data
        scores, _ = self.model(shown, targets=targets, places=places)
        return Loss(scores.nats.mean())

    def outcome(self, split: str) -> TokenOutcome | None:
        """Losses of hidden tokens of the whole part, the same ones at each evaluation."""
        if split not in self.data.parts:
            return None
        with evaluating(self.model), self.context.autocast():
            return score_masked_text(self.model, self.data.parts[split], self.data.tokenizer, self.data.context)

    def inference_facts(self) -> dict[str, Any]:
        """The tokenizer and the window."""
        facts = {"tokenizer": self.data.tokenizer.to_dict(), "context": self.data.context}
        return {"predictor": "blanks", **facts}

    def state_dict(self) -> dict[str, Any]:
        """The position in the text, and which text."""
        return {"windows": self.windows.state_dict(), **self.data.identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave. Raises UserError if the text or its tokenizer is another."""
        self.data.check_identity(state)
        self.windows.load_state_dict(state["windows"])
