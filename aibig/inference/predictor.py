"""The predictor of a model folder, by the kind of input that it was trained on. Knows no task and no trainer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aibig.config.settings import load
from aibig.errors import UserError
from aibig.inference.named_rows import named_rows
from aibig.metrics.outcomes import EpisodeOutcome
from aibig.pretrained.model_folder import load_model, model_folder, read_facts
from aibig.pretrained.published import published_facts, published_folder

if TYPE_CHECKING:
    from aibig.inference.agent import Film, Player
    from aibig.inference.text_generator import TextGenerator

PREDICTORS = {  # what a task calls it -> its class, and the command that it is for
    "rows": ("aibig.inference.rows:RowsPredictor", "predict"),
    "images": ("aibig.inference.images:ImagesPredictor", "predict"),
    "texts": ("aibig.inference.text_classifier:TextsPredictor", "predict"),
    "text": ("aibig.inference.text_generator:TextGenerator", "generate"),
    "blanks": ("aibig.inference.fill_mask:FillMaskPredictor", "predict"),
    "player": ("aibig.inference.agent:Player", "play"),
}


def load_predictor(path: str | Path, kind: str | None = None) -> Any:
    """The predictor of the run, model folder, or published model at `path`: its class is one of PREDICTORS.

    Raises UserError if there is none, or if it is not of the `kind` that was asked for.
    """
    published = published_folder(path)
    folder = model_folder(path) if published is None else published
    facts = read_facts(folder) if published is None else published_facts(folder)
    found = facts.get("predictor")
    if found not in PREDICTORS:
        raise UserError(f"{folder}: this model comes without what prediction needs; use aibig.load_model")
    target, command = PREDICTORS[found]
    if kind is not None and found != kind:
        raise UserError(f"{folder}: a model of {found} can't do that; use: aibig {command} {path}")
    return load(target)(load_model(folder), facts)


def predict(path: str | Path, given: Any) -> Predictions:
    """What the model of the run, or model folder, at `path` makes of `given`, a dict for each row.

    given: for rows a .csv or .npy file, or an array or DataFrame; for pictures a file or a folder; for texts a
    sentence, several, or a file of them; for a language model a text, whose likeliest next tokens
    are named, or those for its [MASK].

    Raises UserError naming file and place of what can't be read; for an agent, which acts in its environment.
    """
    predictor = load_predictor(path)
    if hasattr(predictor, "next_tokens"):
        tokens = predictor.next_tokens(given)
        return Predictions(({"token": token, "probability": share} for token, share in tokens), predictor)
    if not hasattr(predictor, "predict_file"):
        raise UserError(f"{path}: an agent acts in its environment; use: aibig play {path}")
    if isinstance(given, str | Path):
        return Predictions(predictor.predict_file(given), predictor)
    return Predictions(named_rows(predictor.predict(given), predictor.class_names), predictor)


class Predictions(Iterator[dict[str, Any]]):
    """Rows as they are made. `note`: what there is to say of those so far, unknown categories for example."""

    def __init__(self, rows: Iterator[dict[str, Any]], predictor: Any) -> None:
        self._rows, self._predictor = rows, predictor

    def __next__(self) -> dict[str, Any]:
        return next(self._rows)

    @property
    def note(self) -> str:
        """ "" where there is nothing."""
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
    """What the language model at `path` writes after `prompt`, or after each of several, made in one batch.

    draft: a smaller model, by its path, that proposes tokens, which changes the time alone. weights: "int8" or
    "float16", smaller than they are, for a CPU. Other settings as of `TextGenerator.stream_all`.
    """
    made: str | list[str] = load_writer(path, weights).generate(prompt, draft=load_draft(draft), **settings)
    return made


def load_writer(path: str | Path, weights: str | None = None) -> TextGenerator:
    """The language model at `path` with its tokenizer; weights: as of `generate`. Raises UserError for other models."""
    generator: TextGenerator = load_predictor(path, "text")
    if weights is not None:
        from aibig.generation.quantized import shrink

        shrink(generator.model, weights)
    return generator


def load_draft(path: str | Path | None) -> TextGenerator | None:
    """The language model at `path`, if any."""
    return None if path is None else load_writer(path)


def film(path: str | Path, env: Any = None, *, seed: int = 0, whole: bool = False) -> Film:
    """A greedy episode of the agent at `path` in pictures, as `Player.film` says; `whole`: with all of them.

    env: as `play` takes it.
    """
    player: Player = load_predictor(path, "player")
    return player.film(env, seed=seed, whole=whole)


def play(
    path: str | Path, env: Any = None, *, episodes: int = 10, seed: int = 0, render: str | None = None
) -> EpisodeOutcome:
    """Greedy episodes of the agent at `path`, as `Player.play` says: returns, lengths, and their metrics().

    env: an environment, its class or a function that returns one; needed where the run was given such an object.
    """
    return EpisodeOutcome(*load_predictor(path, "player").play(env, episodes=episodes, seed=seed, render=render))
