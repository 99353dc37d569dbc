"""Language modelling: prediction of the next token of a text. Knows no model by name.

B batch, T tokens, H width of an LSTM's outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from aibig.config.run_config import Config
from aibig.config.settings import Fraction, NonNegativeFloat, NonNegativeInt
from aibig.data.text.text_data import TextData
from aibig.errors import UserError
from aibig.generation.language_model import LanguageModel
from aibig.layers.token_losses import TokenLossTerms
from aibig.layers.utils.modes import eval_mode
from aibig.metrics.names import LOWER_IS_BETTER
from aibig.metrics.outcomes import TokenOutcome
from aibig.metrics.text_scores import score_text, score_tokens
from aibig.tasks.base import Batch, Context, Loss, Task
from aibig.tasks.tokenizer_check import check_tokenizer
from aibig.tasks.word_vectors import embedding_settings, init_word_vectors, word_vectors_path

SAMPLE_PROMPT_TOKENS = 32


class LanguageModelling(Task):
    """Prediction of the next token, with cross-entropy. In a stream of windows the model's state is carried over.

    The penalties are part of the training loss; evaluations measure the cross-entropy alone.

    Args:
        model: a language model, or a module that returns logits and state.
        data: text as token ids.
        context: context of this rank.
        label_smoothing: probability spread over all tokens (arXiv 1512.00567, section 7).
        z_loss: weight of the squared logsumexp of the logits, which stays near 0 then (PaLM, arXiv 2204.02311, section
            5: 1e-4).
        activation_penalty: weight of the mean square of an LSTM's outputs (AR, arXiv 1708.02182, section 4.6: 2).
        slowness_penalty: weight of the mean squared change of an LSTM's outputs from token to token (TAR, arXiv
            1708.02182, section 4.6: 1).
        word_vectors: file of initial embeddings, in the format of GloVe or word2vec; it decides their width.
        freeze_word_vectors: do not train the word vectors.
        sample_tokens: tokens of the sample that is generated and logged after each evaluation; 0: no sample.
        sample_prompt: prompt of the sample; by default the beginning of the validation split.

    Raises:
        UserError: the model is bidirectional, or has no outputs to penalise.
    """

    counts: tuple[str, ...] = ("tokens",)
    primary_metric: ClassVar[str] = "loss"
    lower_is_better: ClassVar[frozenset[str]] = LOWER_IS_BETTER

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
        if isinstance(model, LanguageModel) and model.is_bidirectional:
            raise UserError(
                f"a bidirectional {type(model).__name__} sees the token that it should predict; leave out "
                "bidirectional, or use the task 'masked_language_modelling'"
            )
        self.model, self.data, self.context = model, data, context
        self.label_smoothing, self.z_loss = label_smoothing, z_loss
        self.activation_penalty, self.slowness_penalty = activation_penalty, slowness_penalty
        self.sample_tokens, self.sample_prompt = sample_tokens, sample_prompt
        coverage = init_word_vectors(
            *(model, word_vectors, freeze_word_vectors, data.tokenizer, data.splits["train"], context.seed)
        )
        self.notes = [*data.notes, *coverage]
        data.to(context.device)
        self.windows = data.training_windows(context.seed, context.rank, context.world_size)
        self.updates_per_epoch = self.windows.batches_per_epoch
        self.model_state: Any = None

    @classmethod
    def from_config(cls, config: Config, context: Context) -> LanguageModelling:
        """Build data, model and task from the sections `data`, `model` and `task`."""
        data: TextData = config.create("data")
        check_tokenizer(config, data.tokenizer)
        vectors = word_vectors_path(config)
        settings = {"vocab_size": data.tokenizer.vocab_size, "context": data.context, "num_classes": None}
        model = config.create("model", **settings, **embedding_settings(vectors))
        return cls(model, data, context, **config.section("task") | {"word_vectors": vectors})

    def next_batch(self) -> Batch:
        """The next windows: tokens (B, T), targets (B, T), the model's state before them or None, and document ids
        (B, T) or None.
        """
        tokens, targets, continues_previous, document_ids = self.windows.next()
        state = self.model_state if continues_previous else None
        counts = {"tokens": tokens.numel() * self.context.world_size}
        return Batch((tokens, targets, state, document_ids), tokens.numel(), counts)

    def loss(self, batch: Batch) -> Loss:
        """Mean cross-entropy of the targets in nats, plus penalties, which the metric "cross_entropy" lacks."""
        tokens, targets, state, document_ids = batch.data
        terms, state = score_tokens(self.model, tokens, targets, state, document_ids)
        cross_entropy = terms.cross_entropy.mean()
        penalties = self._penalties(terms)
        metrics = {"cross_entropy": cross_entropy.detach()} if isinstance(penalties, Tensor) else {}
        carry = map_tensors(Tensor.detach, state) if self.windows.is_stateful else None
        return Loss(cross_entropy + penalties, metrics, carry)

    def _penalties(self, terms: TokenLossTerms) -> Tensor | float:
        """Label smoothing, z-loss and penalties on an LSTM's outputs."""
        penalties: Tensor | float = 0.0
        if self.label_smoothing:
            penalties = self.label_smoothing * (terms.target_logit - terms.mean_logit).mean()
        if self.z_loss:
            penalties = penalties + self.z_loss * terms.logsumexp.square().mean()
        if self.activation_penalty or self.slowness_penalty:
            if terms.states is None:
                raise UserError(
                    f"task: a {type(self.model).__name__} has no outputs to penalise; leave out activation_penalty and "
                    "slowness_penalty, or use 'lstm'"
                )
            raw, dropped = terms.states  # without and with dropout, (B, T, H) each
            penalties = penalties + self.activation_penalty * dropped.square().mean()
            penalties = penalties + self.slowness_penalty * raw.diff(dim=1).square().mean()
        return penalties

    def after_loss(self, carry: Any) -> None:
        """Keep the model's state for the next windows."""
        self.model_state = carry

    def outcome(self, split: str) -> TokenOutcome | None:
        """The loss of a split in windows that do not overlap; state is carried as in training."""
        if split not in self.data.splits:
            return None
        with eval_mode(self.model), self.context.autocast():
            text, boundaries = self.data.splits[split], self.data.boundaries[split]
            return score_text(self.model, text, self.data.tokenizer, boundaries=boundaries, **self._window_settings())

    def sample(self) -> str:
        """The prompt, a "|", and the text that the model generates."""
        text = self.data.splits.get("validation", self.data.splits["train"])
        tokenizer = self.data.tokenizer
        if not self.sample_tokens or not isinstance(self.model, LanguageModel):
            return ""
        prompt = text[:SAMPLE_PROMPT_TOKENS].tolist()
        if self.sample_prompt is not None:
            prompt = tokenizer.encode(self.sample_prompt).tolist()
        with eval_mode(self.model), self.context.autocast():
            tokens = torch.tensor([prompt], device=self.context.device)
            (generated,) = self.model.generate(tokens, max_tokens=self.sample_tokens, seed=self.context.seed)
        return f"{tokenizer.decode(prompt)}|{tokenizer.token_separator}{tokenizer.decode(generated)}"

    def _window_settings(self) -> dict[str, Any]:
        """The settings of the windows of an evaluation, also for another text at inference."""
        return {"context": self.data.context, "carries_state": self.windows.is_stateful}

    def inference_config(self) -> dict[str, Any]:
        """The tokenizer, and the settings of windows."""
        return {"predictor": "text_generator", "tokenizer": self.data.tokenizer.to_dict(), **self._window_settings()}

    def state_dict(self) -> dict[str, Any]:
        """The position in the text, the model's state there, and fingerprints of text and tokenizer."""
        return {"windows": self.windows.state_dict(), "model_state": self.model_state, **self.data.fingerprints()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a state. Raises UserError if it belongs to another text or tokenizer."""
        self.data.check_fingerprints(state)
        self.windows.load_state_dict(state["windows"])
        self.model_state = map_tensors(lambda tensor: tensor.to(self.context.device), state["model_state"])


def map_tensors(function: Callable[[Tensor], Tensor], state: Any) -> Any:
    """A model's state with a function applied to its tensors.

    Args:
        function: function of a tensor.
        state: None, a tensor, or tuples and lists of these.
    """
    if isinstance(state, Tensor):
        return function(state)
    return type(state)(map_tensors(function, item) for item in state) if isinstance(state, tuple | list) else state
