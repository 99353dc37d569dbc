"""Starting from a trained model: its weights, what stays as it is, how fast the rest moves. Knows no task, no trainer.

A model is a row of blocks, from the input to the head, as the registry's table says (`depth_order`, `head`). A
container in `depth_order` stands for its children; what has no matrix or kernel of its own, a norm, belongs to the
block before it.
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
from aibig.layers.weight_files import read_weights
from aibig.pretrained.model_folder import WEIGHTS, model_folder, read_facts
from aibig.pretrained.published import (
    published_folder,
    published_tensors,
    refuse_contradiction,
    refuse_misfit,
    settings_for,
    translate,
)

NAMED_IN_REPORT = 4
POSITIONS = "positions.weight"  # (context, C): a model for shorter texts needs only the first
EMBEDDING = "embedding.weight"  # (V, C): what fills blanks may have a last token for them, which others do without


@checked
def finetune(
    model: nn.Module,
    *,
    weights: str | None = None,
    freeze: Literal["nothing", "all_but_head"] | PositiveInt = "nothing",
    layer_decay: Fraction = 1.0,
) -> nn.Module:
    """Prepare `model`, made by `create_model`, in place for learning on from what was learned before; returns it.

    weights: a run's folder, a model folder, a .safetensors, .pt, .pth or .bin file with a state_dict, or the folder of
    a model that was published in transformers' format (config.json and weights). Tensors of the same name and shape
    are taken, the others stay as they were initialised, and `model.adapted`, a list of lines, says which. freeze:
    nothing, all but the head, or so many first blocks: these take no gradient, and stay in evaluation mode whatever
    mode the model is in, so that batch norm's statistics stay too. layer_decay: the learning rate of a block is that
    of the head times layer_decay to the power of its depth below the head (discriminative fine-tuning, arXiv
    1801.06146, section 3.2; per layer as in arXiv 2003.10555, appendix A); aibig's optimizers read it from the model.

    Raises UserError if none of the tensors fit, if a published model is another than this one, or if the model's row
    in the registry does not say what is asked for.
    """
    if weights is not None:
        model.adapted = [*getattr(model, "adapted", []), take_weights(model, weights)]  # type: ignore[assignment]
    if freeze != "nothing":
        frozen = freeze_parameters(model, freeze)
        if weights is not None:
            refuse_random(model, weights, frozen)
    if layer_decay != 1.0:
        depths, head = _depths(model)
        model.learning_rate_factors = {  # type: ignore[assignment]
            name: layer_decay ** (head - depth) for name, depth in depths.items()
        }
    return model


@torch.no_grad()
def take_weights(model: nn.Module, source: str | Path) -> str:
    """Copy the tensors of `source` that fit into `model`. Returns what was taken and what not, in a line."""
    given = read_source(model, source)
    own = own_tensors(model)
    fitting = [name for name in own if name in given and given[name].shape == own[name].shape]
    if not fitting:
        some = [f"{name!r} {tuple(one[name].shape)}" for one in (own, given) for name in list(one)[:1]]
        raise UserError(
            f"{source}: none of its tensors fits this model (it has {some[-1]}, the model {some[0]}); "
            "give weights of the same architecture, with the same widths"
        )
    for name in fitting:
        own[name].copy_(given[name])
    return f"finetune: {len(fitting)} of {len(own)} tensors taken from {source}{_left_out(own, given, fitting)}"


def read_source(model: nn.Module, source: str | Path) -> dict[str, Tensor]:
    """The tensors, by their names in `model`, of a run's folder, a model folder, a file or a published model.

    Learned positions are cut to as many as the model has, and a token for blanks is left out where it has none. Raises
    UserError if there are none, or if a published model is another than this one.
    """
    path = Path(source)
    if not path.exists():
        raise UserError(f"{path}: no such run, model folder or file of weights")
    published = published_folder(path)
    if published is None:
        given = translate(model, read_weights(model_folder(path) / WEIGHTS if path.is_dir() else path), path)
    else:
        refuse_contradiction(model, published)
        given = published_tensors(model, published)
    own = own_tensors(model)
    if POSITIONS in own and POSITIONS in given:
        given[POSITIONS] = given[POSITIONS][: len(own[POSITIONS])]
    if EMBEDDING in own and EMBEDDING in given and _adds_blank(path):
        given[EMBEDDING] = given[EMBEDDING][: max(len(own[EMBEDDING]), len(given[EMBEDDING]) - 1)]
    if published is not None:
        entry = _entry(model)
        for name, value in own.items():
            if name.startswith(entry.depth_order) or (name in given and not name.startswith(entry.head)):
                refuse_misfit(published, name, given.get(name), value)
    return given


def _adds_blank(path: Path) -> bool:
    """Whether what is saved in `path` fills blanks with a token more than its tokenizer's for them."""
    if not path.is_dir() or published_folder(path) is not None:
        return False
    return adds_mask_token(read_facts(model_folder(path)))


def published_settings(name: Any, source: str | Path) -> dict[str, Any]:
    """The settings of the model `name` that a published model in `source` decides; none if it is no published one.

    Raises UserError for another model.
    """
    folder = published_folder(source)
    return {} if folder is None else settings_for(name, folder)


def own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The model's tensors by name, those that layers share by their first one alone."""
    names = {name for named in (model.named_parameters(), model.named_buffers()) for name, _ in named}
    return {name: value for name, value in model.state_dict().items() if name in names}


def _left_out(own: dict[str, Tensor], given: dict[str, Tensor], fitting: list[str]) -> str:
    """What of a model was not to be had, in words; "" for nothing."""
    words = [
        f"{name} {tuple(value.shape)}" + (f" was {tuple(given[name].shape)}" if name in given else "")
        for name, value in own.items()
        if name not in fitting
    ]
    more = len(words) - NAMED_IN_REPORT
    named = ", ".join(words[:NAMED_IN_REPORT]) + (f" and {more} more" if more > 0 else "")
    return f"; newly initialised: {named}" if words else ""


def refuse_random(model: nn.Module, source: str, frozen: list[str]) -> None:
    """Raise UserError if a parameter that is frozen was not taken from the file `source`: it would stay random."""
    given = read_source(model, source)
    own = own_tensors(model)
    random = [name for name in frozen if name not in given or given[name].shape != own[name].shape]
    if random:
        raise UserError(
            f"freeze: {random[0]} is not in {source} with this shape, so it would be frozen as it was initialised; "
            "freeze fewer blocks, or none"
        )


def freeze_parameters(model: nn.Module, which: str | int) -> list[str]:
    """Take the gradient from the parameters of all but the head, or of the first `which` blocks, and pin them.

    Returns the names of the parameters.
    """
    depths, head = _depths(model)
    blocks = head if which == "all_but_head" else int(which)
    if blocks > head:
        raise UserError(f"freeze: {which} blocks, but the model has {head} below its head")
    frozen = [(name, one) for name, one in model.named_parameters() if depths[name] < blocks]
    for _, parameter in frozen:
        parameter.requires_grad_(False)
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(one.requires_grad for one in parameters):
            for part in module.modules():
                part.training = False
                part.train = MethodType(_stay, part)  # type: ignore[method-assign]
    return [name for name, _ in frozen]


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    """In place of a frozen module's `train`: it stays in evaluation mode. Copies of the module have their own."""
    return module


def _depths(model: nn.Module) -> tuple[dict[str, int], int]:
    """The number of each parameter's block, by the parameter's name, from the input on; and that of the head.

    A parameter that is in no block, a token or a last norm, goes with the one before it.
    """
    entry = _entry(model)
    head = set(model.get_submodule(entry.head).parameters())
    blocks: list[list[nn.Parameter]] = []
    for path in entry.depth_order:
        module = model.get_submodule(path)
        for part in module.children() if isinstance(module, nn.Sequential | nn.ModuleList) else [module]:
            parameters = [one for one in part.parameters() if one not in head]
            if not blocks or any(one.ndim >= 2 for one in parameters):
                blocks.append(parameters)
            else:
                blocks[-1] += parameters
    number = {one: depth for depth, block in enumerate(blocks) for one in block}
    depths, depth = {}, 0
    for name, parameter in model.named_parameters():
        if parameter in head:  # perhaps the embedding's too: what follows is not the head's
            depths[name] = len(blocks)
        else:
            depths[name] = depth = number.get(parameter, depth)
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
