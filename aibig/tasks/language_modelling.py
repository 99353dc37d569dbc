"""Learning a text: which token comes next. Knows no model by name.

B batch, T time, V vocabulary.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from aibig.config.run_config import Config
from aibig.config.settings import Fraction, NonNegativeFloat, NonNegativeInt
from aibig.data.text.text_data import TextData
from aibig.errors import UserError
from aibig.generation.language_model import LanguageModel
from aibig.layers.modes import evaluating
from aibig.layers.token_losses import TokenScores
from aibig.metrics import functions as metrics
from aibig.metrics.outcomes import TokenOutcome
from aibig.metrics.text_scores import score_text, scored
from aibig.tasks.base import Batch, Context, Loss, Task
from aibig.tasks.first_weights import check_tokenizer
from aibig.tasks.word_vectors import embedding_settings, first_vectors, give_word_vectors

SAMPLE_PROMPT_TOKENS = 32


class LanguageModelling(Task):
    """Cross-entropy of the next token; a model's memory is carried from window to window of a stream.

    label_smoothing: probability spread over all tokens (arXiv 1512.00567, section 7). z_loss: times the squared
    logarithm of the softmax's normalizer, which keeps that near 0 (PaLM, arXiv 2204.02311, section 5: 1e-4).
    activation_penalty, slowness_penalty: times the mean square of an LSTM's outputs, and of their change from token to
    token (AR and TAR, arXiv 1708.02182, section 4.6: 2 and 1). Evaluations measure the cross-entropy alone.
    word_vectors: a file that the embedding begins with, in the format of GloVe or word2vec; its width becomes the
    model's. freeze_word_vectors: they are not trained.
    sample_tokens: after each evaluation so many tokens are written on from `sample_prompt`, by default the beginning
    of the validation part, and put into the log.

    Raises UserError for penalties that the model hands out no outputs for, and for a model that looks ahead.
    """

    counts: tuple[str, ...] = ("tokens",)
    primary_metric: ClassVar[str] = "loss"
    lower_is_better: ClassVar[frozenset[str]] = metrics.LOWER_IS_BETTER

    def __init__(
        self,
        model: nn.Module,
        data: TextData,
        context: Context,
        *,
        label_smoothing: Fraction = 0.0,
        z_loss: NonNegativeFloat = 0.0,
        activation_penalty: NonNegativeFloat = 0.0,
        slowness_penalty: NonNegativeFloat = 0.0,
        word_vectors: str | None = None,
        freeze_word_vectors: bool = False,
        sample_tokens: NonNegativeInt = 0,
        sample_prompt: str | None = None,
    ) -> None:
        if isinstance(model, LanguageModel) and model.looks_ahead:
            raise UserError(
                f"a {type(model).__name__} that is bidirectional sees the token that it should foretell; leave that "
                "out, or take the task 'masked_language_modelling'"
            )
        self.model, self.data, self.context = model, data, context
        self.label_smoothing, self.z_loss = label_smoothing, z_loss
        self.activation_penalty, self.slowness_penalty = activation_penalty, slowness_penalty
        self.sample_tokens, self.sample_prompt = sample_tokens, sample_prompt
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
        check_tokenizer(config, data.tokenizer)
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
        """Mean cross-entropy of the targets, in nats, and what is added to it; "nats" is the former alone."""
        tokens, targets, memory, documents = batch.data
        scores, memory = scored(self.model, tokens, targets, memory, documents)
        nats = scores.nats.mean()
        added = self._additions(scores)
        metrics = {"nats": nats.detach()} if isinstance(added, Tensor) else {}
        value = nats + added
        return Loss(value, metrics, carry=detached(memory) if self.windows.continues else None)

    def _additions(self, scores: TokenScores) -> Tensor | float:
        """Label smoothing, z-loss and penalties on activations."""
        added: Tensor | float = 0.0
        if self.label_smoothing:
            added = self.label_smoothing * (scores.target_logit - scores.mean_logit).mean()
        if self.z_loss:
            added = added + self.z_loss * scores.logsumexp.square().mean()
        if self.activation_penalty or self.slowness_penalty:
            if scores.states is None:
                raise UserError(
                    f"task: a {type(self.model).__name__} hands out no outputs to penalise; leave out "
                    "activation_penalty and slowness_penalty, or take 'lstm'"
                )
            raw, dropped = scores.states  # (B, T, H) each
            added = added + self.activation_penalty * dropped.square().mean()
            added = added + self.slowness_penalty * raw.diff(dim=1).square().mean()
        return added

    def after_loss(self, carry: Any) -> None:
        """Remember."""
        self.memory = carry

    def outcome(self, split: str) -> TokenOutcome | None:
        """Losses over the whole part, in windows that do not overlap, with memory where training carries it."""
        if split not in self.data.parts:
            return None
        with evaluating(self.model), self.context.autocast():
            part, borders = self.data.parts[split], self.data.borders[split]
            return score_text(self.model, part, self.data.tokenizer, borders=borders, **self._reading())

    def sample(self) -> str:
        """What the model writes at this moment."""
        part = self.data.parts.get("validation", self.data.parts["train"])
        if not self.sample_tokens or not isinstance(self.model, LanguageModel):
            return ""
        tokens = part[:SAMPLE_PROMPT_TOKENS].tolist()
        if self.sample_prompt is not None:
            tokens = self.data.tokenizer.encode(self.sample_prompt).tolist()
        with evaluating(self.model), self.context.autocast():
            given = torch.tensor([tokens], device=self.context.device)
            (made,) = self.model.generate(given, max_tokens=self.sample_tokens, seed=self.context.seed)
        return f"{self.data.tokenizer.decode(tokens)}|{self.data.tokenizer.between}{self.data.tokenizer.decode(made)}"

    def _reading(self) -> dict[str, Any]:
        """How a part is read: what a saved model takes to read another text in the same way."""
        return {"context": self.data.context, "carries_state": self.windows.continues}

    def inference_facts(self) -> dict[str, Any]:
        """The tokenizer, the window, and whether memory is carried from one to the next."""
        return {"predictor": "text", "tokenizer": self.data.tokenizer.to_dict(), **self._reading()}

    def state_dict(self) -> dict[str, Any]:
        """The position in the text, the memory of what stood before it, and which text."""
        return {"windows": self.windows.state_dict(), "memory": self.memory, **self.data.identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave. Raises UserError if the text or its tokenizer is another."""
        self.data.check_identity(state)
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
