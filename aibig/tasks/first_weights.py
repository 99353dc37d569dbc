"""The tokenizer of the model that a run starts from must be the run's own. Knows no task and no model by name."""

from __future__ import annotations

from pathlib import Path

from aibig.config.run_config import Config
from aibig.data.text.tokenizer import Tokenizer
from aibig.errors import UserError
from aibig.pretrained.model_folder import FACTS, model_folder, read_facts


def check_tokenizer(config: Config, tokenizer: Tokenizer) -> None:
    """Raise UserError if the run starts from a saved model whose tokens mean something else."""
    weights = config.section("finetune").get("weights")
    if weights is None or config.weights_follow or not is_saved(Path(weights)):
        return
    folder = model_folder(weights)
    facts = read_facts(folder)
    before = facts.get("encoder", facts).get("tokenizer")
    if before is not None and before != tokenizer.to_dict():
        with config.blaming("finetune"):
            raise UserError(f"{weights}: read other tokens than these data have; set data.tokenizer={folder / FACTS}")


def is_saved(path: Path) -> bool:
    """Whether it is a run or a model folder of ours, rather than a file or a published model."""
    return any((folder / FACTS).is_file() for folder in (path, path / "model"))
