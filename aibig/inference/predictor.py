"""Finds the predictor of a saved model, and predicts, generates and plays with it. Knows no task and no trainer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aibig.config.settings import import_object
from aibig.errors import UserError
from aibig.inference.named_rows import named_rows
from aibig.metrics.outcomes import EpisodeOutcome
from aibig.pretrained.model_folder import load_model, model_folder, read_model_json
from aibig.pretrained.published import published_folder, published_inference_config

if TYPE_CHECKING:
    from aibig.inference.agent import Agent, EpisodeRecording
    from aibig.inference.text_generator import TextGenerator

PREDICTORS = {  # kind, as a task names it -> its class, and the command that uses it
    "rows": ("aibig.inference.rows:RowsPredictor", "predict"),
    "images": ("aibig.inference.images:ImagesPredictor", "predict"),
    "text_classifier": ("aibig.inference.text_classifier:TextClassifier", "predict"),
    "text_generator": ("aibig.inference.text_generator:TextGenerator", "generate"),
    "fill_mask": ("aibig.inference.fill_mask:FillMaskPredictor", "predict"),
    "agent": ("aibig.inference.agent:Agent", "play"),
}


def load_predictor(path: str | Path, kind: str | None = None) -> Any:
    """The predictor of a trained model.

    Args:
        path: a run's folder, its model folder, or the folder of a published model.
        kind: key of PREDICTORS that is required; None: any.

    Returns:
        An object of one of the classes in PREDICTORS.

    Raises:
        UserError: there is no model, or its predictor is missing or of another kind.
    """
    published = published_folder(path)
    folder = model_folder(path) if published is None else published
    inference_config = read_model_json(folder) if published is None else published_inference_config(folder)
    own_kind = inference_config.get("predictor")
    if own_kind not in PREDICTORS:
        raise UserError(f"{folder}: this model has no inference config; use aibig.load_model")
    target, command = PREDICTORS[own_kind]
    if kind is not None and own_kind != kind:
        raise UserError(f"{folder}: its predictor is {own_kind!r}, not {kind!r}; use: aibig {command} {path}")
    return import_object(target)(load_model(folder), inference_config)


def predict(path: str | Path, inputs: Any) -> Predictions:
    """Predictions of a trained model, a dict for each row.

    Args:
        path: a run's folder, its model folder, or the folder of a published model.
        inputs: for rows a .csv or .npy file, an array or a DataFrame; for images a file or a folder; for texts a
            sentence, several, or a file of them; for a language model a text. The result is then the most probable
            tokens, at its end or for its [MASK].

    Raises:
        UserError: the inputs can't be read (the error names file and place), or the model is an agent.
    """
    predictor = load_predictor(path)
    if hasattr(predictor, "next_tokens"):
        tokens = predictor.next_tokens(inputs)
        return Predictions(({"token": token, "probability": share} for token, share in tokens), predictor)
    if not hasattr(predictor, "predict_file"):
        raise UserError(f"{path}: an agent acts in its environment; use: aibig play {path}")
    if isinstance(inputs, str | Path):
        return Predictions(predictor.predict_file(inputs), predictor)
    return Predictions(named_rows(predictor.predict(inputs), predictor.class_names), predictor)


class Predictions(Iterator[dict[str, Any]]):
    """Rows as they are computed.

    Args:
        rows: iterator over a dict for each row.
        predictor: predictor that computes them.
    """

    def __init__(self, rows: Iterator[dict[str, Any]], predictor: Any) -> None:
        self._rows, self._predictor = rows, predictor

    def __next__(self) -> dict[str, Any]:
        return next(self._rows)

    @property
    def note(self) -> str:
        """A remark about the rows so far, such as unknown categories; "" for none."""
        note: str = getattr(self._predictor, "note", "")
        return note


def generate(
    path: str | Path,
    prompt: str | Sequence[str],
    *,
    draft: str | Path | None = None,
    weights: str | None = None,
    **settings: Any,
) -> str | list[str]:
    """The continuation of a prompt by a language model.

    Args:
        path: a run's folder, its model folder, or the folder of a published model.
        prompt: a text, or several, which are continued in one batch.
        draft: folder of a smaller model that proposes tokens (speculative decoding); only the time changes.
        weights: "int8" or "float16" quantises the weights, for a CPU; None leaves them as they are.
        settings: those of `TextGenerator.stream_batch`.
    """
    text: str | list[str] = load_text_generator(path, weights).generate(prompt, draft=load_draft(draft), **settings)
    return text


def load_text_generator(path: str | Path, weights: str | None = None) -> TextGenerator:
    """A language model with its tokenizer.

    Args:
        path: a run's folder, its model folder, or the folder of a published model.
        weights: "int8" or "float16" quantises the weights, for a CPU; None leaves them as they are.

    Raises:
        UserError: the model is not a language model.
    """
    generator: TextGenerator = load_predictor(path, "text_generator")
    if weights is not None:
        from aibig.generation.quantized import quantize

        quantize(generator.model, weights)
    return generator


def load_draft(path: str | Path | None) -> TextGenerator | None:
    """The smaller language model of speculative decoding, if any.

    Args:
        path: folder of the model, or None.
    """
    return None if path is None else load_text_generator(path)


def record_episode(path: str | Path, env: Any = None, *, seed: int = 0, all_frames: bool = False) -> EpisodeRecording:
    """A recorded episode of a trained agent, which acts greedily.

    Args:
        path: a run's folder, or its model folder.
        env: as for `play`.
        seed: seed of the episode.
        all_frames: keep all frames; otherwise every second, fourth, ... frame of a long episode.
    """
    agent: Agent = load_predictor(path, "agent")
    return agent.record_episode(env, seed=seed, all_frames=all_frames)


def play(
    path: str | Path, env: Any = None, *, episodes: int = 10, seed: int = 0, render: str | None = None
) -> EpisodeOutcome:
    """Returns and lengths of episodes of a trained agent, which acts greedily, and their metrics().

    Args:
        path: a run's folder, or its model folder.
        env: an environment, its class or a function that returns one; None: the environment of the training, if the
            config named it.
        episodes: number of episodes.
        seed: seed of the first episode; it increases by 1 in each episode.
        render: gymnasium's render_mode, such as "human", which shows a window.
    """
    return EpisodeOutcome(*load_predictor(path, "agent").play(env, episodes=episodes, seed=seed, render=render))
