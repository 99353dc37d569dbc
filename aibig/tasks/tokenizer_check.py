"""Refuses to start from a model whose tokenizer is not the run's own. Knows no task and no model by name."""

from __future__ import annotations

from pathlib import Path

from aibig.config.run_config import Config
from aibig.data.text.tokenizer import Tokenizer
from aibig.errors import UserError
from aibig.pretrained.model_folder import FACTS, model_folder, read_model_json


def check_tokenizer(config: Config, tokenizer: Tokenizer) -> None:
    """Refuse `finetune.weights` of a saved model that was trained with another tokenizer.

    Args:
        config: of the run.
        tokenizer: of the run's data.

    Raises:
        UserError: the tokenizers differ.
    """
    weights = config.section("finetune").get("weights")
    if weights is None or config.skip_initial_weights or not _is_ours(Path(weights)):
        return
    folder = model_folder(weights)
    facts = read_model_json(folder)
    saved = facts.get("preprocessor", facts).get("tokenizer")
    if saved is not None and saved != tokenizer.to_dict():
        with config.locating_errors("finetune"):
            cure = f"set data.tokenizer={folder / FACTS}"
            raise UserError(f"{weights}: was trained with another tokenizer than these data have; {cure}")


def _is_ours(path: Path) -> bool:
    """Whether it is a run or a model folder, rather than a file or a published model."""
    return any((folder / FACTS).is_file() for folder in (path, path / "model"))
