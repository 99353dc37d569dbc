"""Learning a text: which token comes next. Knows no model by name.

B batch, T time, V vocabulary.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aibig import metrics
from aibig.config import Config
from aibig.data.fingerprint import check_fingerprint
from aibig.data.text import TextData
from aibig.inference.modes import evaluating
from aibig.inference.reading import read_through
from aibig.outcomes import Tokens
from aibig.tasks.base import Batch, Context, Loss, Task
from aibig.tasks.word_vectors import embedding_settings, first_vectors, give_word_vectors


class LanguageModelling(Task):
    """Cross-entropy of the next token; a model's memory is carried from window to window of a stream.

    word_vectors: a file that the embedding begins with, in the format of GloVe or word2vec; its width becomes the
    model's. freeze_word_vectors: they are not trained.
    """

    counts: ClassVar[tuple[str, ...]] = ("tokens",)
    headline: ClassVar[str] = "loss"
    lower_is_better: ClassVar[frozenset[str]] = metrics.LOWER_IS_BETTER

    def __init__(
        self,
        model: nn.Module,
        data: TextData,
        context: Context,
        *,
        word_vectors: str | None = None,
        freeze_word_vectors: bool = False,
    ) -> None:
        self.model, self.data, self.context = model, data, context
        coverage = give_word_vectors(
            *(model, word_vectors, freeze_word_vectors, data.tokenizer, data.parts["train"], context.seed)
        )
        self.notes = [*data.notes, *coverage]
        data.to(context.device)
        self.windows = data.training_windows(context.seed, context.rank, context.world_size)
        self.updates_per_epoch = self.windows.batches_per_epoch
        self.memory: Any = None

    @classmethod
    def from_config(cls, config: Config, context: Context) -> LanguageModelling:
        """Build data, model and task from the sections `data`, `model` and `task`."""
        data: TextData = config.create("data")
        vectors = first_vectors(config)
        given = {"vocab_size": data.tokenizer.vocab_size, "context": data.context, "num_classes": None}
        model = config.create("model", **given, **embedding_settings(vectors))
        return cls(model, data, context, **config.section("task") | {"word_vectors": vectors})

    def next_batch(self) -> Batch:
        """The next windows: tokens (B, T), targets (B, T), memory of what stood before them, if any, and the
        documents (B, T) that tokens are of, where these stand apart.
        """
        tokens, targets, continues, documents = self.windows.next()
        memory = self.memory if continues else None
        counts = {"tokens": tokens.numel() * self.context.world_size}
        return Batch((tokens, targets, memory, documents), tokens.numel(), counts)

    def loss(self, batch: Batch) -> Loss:
        """Mean cross-entropy of the targets, in nats."""
        tokens, targets, memory, documents = batch.data
        apart = {} if documents is None else {"documents": documents}
        logits, memory = self.model(tokens, None, memory, **apart)
        value = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return Loss(value, carry=detached(memory) if self.windows.continues else None)

    def after_loss(self, carry: Any) -> None:
        """Remember."""
        self.memory = carry

    def outcome(self, split: str) -> Tokens | None:
        """Losses over the whole part, in windows that do not overlap, with memory where training carries it."""
        if split not in self.data.parts:
            return None
        with evaluating(self.model), self.context.autocast():
            part, borders = self.data.parts[split], self.data.borders[split]
            return read_through(self.model, part, self.data.tokenizer, borders=borders, **self._reading())

    def _reading(self) -> dict[str, Any]:
        """How a part is read: what a saved model takes to read another text in the same way."""
        return {"context": self.data.context, "carries_memory": self.windows.continues}

    def inference_facts(self) -> dict[str, Any]:
        """The tokenizer, the window, and whether memory is carried from one to the next."""
        return {"predictor": "text", "tokenizer": self.data.tokenizer.to_dict(), **self._reading()}

    def state_dict(self) -> dict[str, Any]:
        """The position in the text, the memory of what stood before it, and which text."""
        which = {"tokenizer": self.data.tokenizer_fingerprint, "data": self.data.fingerprint}
        return {"windows": self.windows.state_dict(), "memory": self.memory, **which}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave. Raises UserError if the text or its tokenizer is another."""
        check_fingerprint(self.data.tokenizer_fingerprint, state["tokenizer"], "tokenizer: is not the one")
        check_fingerprint(self.data.fingerprint, state["data"])
        self.windows.load_state_dict(state["windows"])
        self.memory = to_device(state["memory"], self.context.device)


def detached(memory: Any) -> Any:
    """Memory (None, a tensor, or tuples and lists of them) that no gradient flows into."""
    if isinstance(memory, Tensor):
        return memory.detach()
    return type(memory)(detached(one) for one in memory) if isinstance(memory, tuple | list) else memory


def to_device(memory: Any, device: torch.device) -> Any:
    """Memory on `device`."""
    if isinstance(memory, Tensor):
        return memory.to(device)
    return type(memory)(to_device(one, device) for one in memory) if isinstance(memory, tuple | list) else memory
