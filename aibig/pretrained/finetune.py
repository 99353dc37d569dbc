"""Starting from pretrained weights: loading, freezing, layer-wise learning rates. Knows no task, no trainer.

A model is a row of blocks, from the input to the head, as the registry's table says (`depth_order`, `head`). A
container in `depth_order` stands for its children; a part without a matrix or kernel of its own, such as a norm,
belongs to the block before it.
"""

from __future__ import annotations

from pathlib import Path
from types import MethodType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from aibig.config.registry import Entry, models
from aibig.config.settings import Fraction, PositiveInt, checked
from aibig.data.text.mask_tokens import adds_mask_token
from aibig.errors import UserError
from aibig.layers.utils.weight_files import read_published_weights, read_weights
from aibig.pretrained.model_folder import WEIGHTS, model_folder, read_model_json
from aibig.pretrained.published import check_settings, check_tensor, published_folder, required_settings, translate

MAX_NAMED = 4  # tensors in a line
POSITIONS = "position_embedding.weight"  # (context, C): a model of shorter texts needs only the first
EMBEDDING = "embedding.weight"  # (V, C): that of a masked language model may end with a mask token, which others lack


@checked
def finetune(
    model: nn.Module,
    *,
    weights: str | None = None,
    freeze: Literal["nothing", "all_but_head"] | PositiveInt = "nothing",
    layer_decay: Fraction = 1.0,
) -> nn.Module:
    """Prepare a model in place for fine-tuning.

    Args:
        model: made by `create_model`.
        weights: a run's folder, a model folder, a .safetensors, .pt, .pth or .bin file with a state_dict, or the folder
            of a model published in transformers' format (config.json and weights). Tensors of the same name and shape
            are loaded, the others stay as initialised; the model's `adapted`, a list of lines, says which.
        freeze: nothing, all but the head, or the number of first blocks without gradients. Frozen blocks stay in
            evaluation mode, so that batch norm's statistics stay too.
        layer_decay: the learning rate of a block is the head's times layer_decay to the power of its depth below the
            head (discriminative fine-tuning, arXiv 1801.06146, section 3.2; per layer as in arXiv 2003.10555, appendix
            A). aibig's optimizers read it from the model.

    Returns:
        The model.

    Raises:
        UserError: no tensor fits, a published model is another than this one, or the model's row in the registry lacks
            head and blocks.
    """
    state_dict: dict[str, Tensor] = {}
    if weights is not None:
        state_dict = read_state_dict(model, weights)
        model.adapted = [*getattr(model, "adapted", []), load_weights(model, state_dict, weights)]  # type: ignore[assignment]
    if freeze != "nothing":
        frozen = freeze_parameters(model, freeze)
        if weights is not None:
            _check_frozen(model, state_dict, weights, frozen)
    if layer_decay != 1.0:
        depths, head = _depths(model)
        model.learning_rate_factors = {  # type: ignore[assignment]
            name: layer_decay ** (head - depth) for name, depth in depths.items()
        }
    return model


@torch.no_grad()
def load_weights(model: nn.Module, state_dict: dict[str, Tensor], source: str) -> str:
    """Copy the tensors that fit into a model.

    Args:
        model: whose tensors are overwritten.
        state_dict: tensors by their names in the model.
        source: where they are from, for the report.

    Returns:
        A line that says which tensors were loaded and which were not.

    Raises:
        UserError: no tensor fits.
    """
    tensors = unique_tensors(model)
    loaded = [name for name, tensor in tensors.items() if _fits(state_dict.get(name), tensor)]
    if not loaded:
        raise UserError(
            f"{source}: none of its tensors fits this model (it has {_first(state_dict)}, the model {_first(tensors)})"
            "; give weights of the same architecture, with the same widths"
        )
    for name in loaded:
        tensors[name].copy_(state_dict[name])
    missing = [
        f"{name} {tuple(tensor.shape)}" + (f" was {tuple(state_dict[name].shape)}" if name in state_dict else "")
        for name, tensor in tensors.items()
        if name not in loaded
    ]
    more = f" and {len(missing) - MAX_NAMED} more" if len(missing) > MAX_NAMED else ""
    initialised = f"; newly initialised: {', '.join(missing[:MAX_NAMED])}{more}" if missing else ""
    return f"finetune: {len(loaded)} of {len(tensors)} tensors loaded from {source}{initialised}"


def read_state_dict(model: nn.Module, source: str | Path) -> dict[str, Tensor]:
    """The tensors of a run's folder, a model folder, a file or a published model, by their names in a model.

    Learned positions are cut to as many as the model has, and a mask token is left out where the model has none.

    Args:
        model: that they are for.
        source: the folder or file.

    Raises:
        UserError: there are none, or a published model is another than this one.
    """
    path = Path(source)
    if not path.exists():
        raise UserError(f"{path}: no such run, model folder or file of weights")
    published = published_folder(path)
    if published is None:
        state_dict = read_weights(model_folder(path) / WEIGHTS if path.is_dir() else path)
    else:
        check_settings(model, published)
        state_dict = read_published_weights(published)
    state_dict = translate(model, state_dict, published or path)
    tensors = unique_tensors(model)
    if POSITIONS in tensors and POSITIONS in state_dict:
        state_dict[POSITIONS] = state_dict[POSITIONS][: len(tensors[POSITIONS])]
    if EMBEDDING in tensors and EMBEDDING in state_dict and _adds_mask_token(path):
        embedding = state_dict[EMBEDDING]
        state_dict[EMBEDDING] = embedding[: max(len(tensors[EMBEDDING]), len(embedding) - 1)]
    if published is not None:
        entry = _entry(model)
        for name, tensor in tensors.items():
            if name.startswith(entry.depth_order) or (name in state_dict and not name.startswith(entry.head)):
                check_tensor(published, name, state_dict.get(name), tensor)
    return state_dict


def _adds_mask_token(path: Path) -> bool:
    """Whether the model saved in `path` has a mask token beyond its tokenizer's vocabulary."""
    if not path.is_dir() or published_folder(path) is not None:
        return False
    return adds_mask_token(read_model_json(model_folder(path)))


def _first(tensors: dict[str, Tensor]) -> str:
    return next((f"{name!r} {tuple(tensor.shape)}" for name, tensor in tensors.items()), "none")


def _fits(loaded: Tensor | None, tensor: Tensor) -> bool:
    return loaded is not None and loaded.shape == tensor.shape


def published_settings(name: Any, source: str | Path) -> dict[str, Any]:
    """The settings that a model needs to start from a published one; none if it starts from something else.

    Args:
        name: of the model, in the models table.
        source: what it starts from: a folder or file.

    Raises:
        UserError: the published model is another.
    """
    folder = published_folder(source)
    return {} if folder is None else required_settings(name, folder)


def unique_tensors(model: nn.Module) -> dict[str, Tensor]:
    """A model's parameters and buffers by name; those that layers share by the first name alone.

    Args:
        model: whose tensors are wanted.
    """
    names = {name for named in (model.named_parameters(), model.named_buffers()) for name, _ in named}
    return {name: tensor for name, tensor in model.state_dict().items() if name in names}


def _check_frozen(model: nn.Module, state_dict: dict[str, Tensor], source: str, frozen: list[str]) -> None:
    """Raise UserError if a frozen parameter was not loaded from `source`: it would stay random."""
    tensors = unique_tensors(model)
    random = [name for name in frozen if not _fits(state_dict.get(name), tensors[name])]
    if random:
        raise UserError(
            f"freeze: {random[0]} is not in {source} with this shape, so it would be frozen as it was initialised; "
            "freeze fewer blocks, or none"
        )


def freeze_parameters(model: nn.Module, freeze: str | int) -> list[str]:
    """Freeze a model's first blocks: no gradients, and evaluation mode always.

    Args:
        model: to be changed in place.
        freeze: "all_but_head", or the number of first blocks.

    Returns:
        The names of the frozen parameters.

    Raises:
        UserError: the model has fewer blocks.
    """
    depths, head = _depths(model)
    blocks = head if freeze == "all_but_head" else int(freeze)
    if blocks > head:
        raise UserError(f"freeze: {freeze} blocks, but the model has {head} below its head")
    frozen = {name: parameter for name, parameter in model.named_parameters() if depths[name] < blocks}
    for parameter in frozen.values():
        parameter.requires_grad_(False)
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            for part in module.modules():
                part.training = False
                part.train = MethodType(_stay_in_eval_mode, part)  # type: ignore[method-assign]
    return [*frozen]


def _stay_in_eval_mode(module: nn.Module, mode: bool = True) -> nn.Module:
    """In place of a frozen module's `train`. Copies of the module have their own."""
    return module


def _depths(model: nn.Module) -> tuple[dict[str, int], int]:
    """The number of each parameter's block, counted from the input, by the parameter's name; and that of the head.

    A parameter that is in no block, such as a class token or a last norm, belongs to the block before it.
    """
    entry = _entry(model)
    head = set(model.get_submodule(entry.head).parameters())
    blocks: list[list[nn.Parameter]] = []
    for path in entry.depth_order:
        module = model.get_submodule(path)
        for part in module.children() if isinstance(module, nn.Sequential | nn.ModuleList) else [module]:
            parameters = [parameter for parameter in part.parameters() if parameter not in head]
            if not blocks or any(parameter.ndim >= 2 for parameter in parameters):
                blocks.append(parameters)
            else:
                blocks[-1] += parameters
    block_of = {parameter: number for number, block in enumerate(blocks) for parameter in block}
    depths, depth = {}, 0
    for name, parameter in model.named_parameters():
        if parameter in head:  # perhaps the embedding's too: the parameters after it are not the head's
            depths[name] = len(blocks)
        else:
            depths[name] = depth = block_of.get(parameter, depth)
    return depths, len(blocks)


def _entry(model: nn.Module) -> Entry:
    """The registry's row of `model`, which names its head and its blocks."""
    registered = getattr(model, "registered", None)
    if registered is None:
        raise UserError(f"a {type(model).__name__} that create_model did not make has no known head and blocks")
    entry = models.entry(registered["name"])
    if not entry.head or not entry.depth_order:
        raise UserError(
            f"the row of model {entry.name!r} names no head and depth_order; give them where it is registered"
        )
    return entry
