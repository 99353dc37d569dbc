"""Checks that pretrained weights have the tokenizer of the run. Knows no task and no model by name."""

from __future__ import annotations

from pathlib import Path

from aibig.config.run_config import Config
from aibig.data.text.tokenizer import Tokenizer
from aibig.errors import UserError
from aibig.pretrained.model_folder import MODEL_JSON, model_folder, read_model_json


def check_tokenizer(config: Config, tokenizer: Tokenizer) -> None:
    """Check that the model in `finetune.weights` was trained with the tokenizer of the data.

    Args:
        config: config of the run.
        tokenizer: tokenizer of the data.

    Raises:
        UserError: the tokenizers differ.
    """
    weights = config.section("finetune").get("weights")
    if weights is None or config.skip_initial_weights or not _is_ours(Path(weights)):
        return
    folder = model_folder(weights)
    contents = read_model_json(folder)
    saved = contents.get("preprocessor", contents).get("tokenizer")
    if saved is not None and saved != tokenizer.to_dict():
        with config.locating_errors("finetune"):
            cure = f"set data.tokenizer={folder / MODEL_JSON}"
            raise UserError(f"{weights}: was trained with a tokenizer other than that of the data; {cure}")


def _is_ours(path: Path) -> bool:
    """Whether the path is a run or a model folder, not a file or a published model."""
    return any((folder / MODEL_JSON).is_file() for folder in (path, path / "model"))
