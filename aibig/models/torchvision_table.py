"""torchvision's classification models by name, and the facts of each architecture. Imports no torch, no torchvision.

Compared with torchvision by tests/models/test_torchvision_models.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from aibig.config.registry import Entry

BUILDERS = "aibig.models.torchvision_models"


@dataclass(frozen=True)
class Architecture:
    """What the models of a paper have in common.

    Args:
        names: of the models.
        summary: name and paper.
        head: path of the last layer.
        depth_order: paths of the blocks, from input to output.
        smallest_image: height and width that the models take at least, in pixels.
        takes_dropout: whether the models have dropout.
        size_setting: torchvision's setting of the image size that the models are built for; "": they take any size.
        settings: of torchvision's builder, always as here.
    """

    names: tuple[str, ...]
    summary: str
    head: str
    depth_order: tuple[str, ...]
    smallest_image: int = 1
    takes_dropout: bool = False
    size_setting: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


ARCHITECTURES = (  # names, summary, head, depth_order, smallest_image, and what is set by its name
    Architecture(
        ("alexnet",), "AlexNet (arXiv 1404.5997)", "classifier.6", ("features", "classifier"), 63, takes_dropout=True
    ),
    Architecture(
        ("convnext_tiny", "convnext_small", "convnext_base", "convnext_large"),
        "ConvNeXt (arXiv 2201.03545)",
        "classifier.2",
        ("features",),
        32,
    ),
    Architecture(
        ("densenet121", "densenet161", "densenet169", "densenet201"),
        "DenseNet (arXiv 1608.06993)",
        "classifier",
        ("features",),
        29,
    ),
    Architecture(
        tuple(f"efficientnet_b{size}" for size in range(8)),
        "EfficientNet (arXiv 1905.11946)",
        "classifier.1",
        ("features",),
        takes_dropout=True,
    ),
    Architecture(
        ("efficientnet_v2_s", "efficientnet_v2_m", "efficientnet_v2_l"),
        "EfficientNetV2 (arXiv 2104.00298)",
        "classifier.1",
        ("features",),
        takes_dropout=True,
    ),
    Architecture(
        ("googlenet",),
        "GoogLeNet (arXiv 1409.4842), without auxiliary heads",
        "fc",
        (
            *("conv1", "conv2", "conv3", "inception3a", "inception3b", "inception4a", "inception4b", "inception4c"),
            *("inception4d", "inception4e", "inception5a", "inception5b"),
        ),
        15,
        takes_dropout=True,
        settings={"aux_logits": False, "init_weights": True},
    ),
    Architecture(
        ("inception_v3",),
        "Inception v3 (arXiv 1512.00567), without auxiliary head",
        "fc",
        (
            *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"),
            *("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
            *("Mixed_7a", "Mixed_7b", "Mixed_7c"),
        ),
        75,
        takes_dropout=True,
        settings={"aux_logits": False, "init_weights": True},
    ),
    Architecture(
        ("maxvit_t",),
        "MaxViT (arXiv 2204.01697)",
        "classifier.5",
        ("stem", "blocks", "classifier"),
        size_setting="input_size",
    ),
    Architecture(
        ("mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"),
        "MnasNet (arXiv 1807.11626)",
        "classifier.1",
        ("layers",),
        takes_dropout=True,
    ),
    Architecture(
        ("mobilenet_v2",), "MobileNetV2 (arXiv 1801.04381)", "classifier.1", ("features",), takes_dropout=True
    ),
    Architecture(
        ("mobilenet_v3_small", "mobilenet_v3_large"),
        "MobileNetV3 (arXiv 1905.02244)",
        "classifier.3",
        ("features", "classifier"),
        takes_dropout=True,
    ),
    Architecture(
        tuple(f"regnet_x_{size}" for size in ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf"))
        + tuple(f"regnet_y_{size}" for size in ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf", "128gf")),
        "RegNet (arXiv 2003.13678)",
        "fc",
        ("stem", "trunk_output"),
    ),
    Architecture(
        ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
        "ResNet (arXiv 1512.03385)",
        "fc",
        ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4"),
    ),
    Architecture(
        ("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
        "ResNeXt (arXiv 1611.05431)",
        "fc",
        ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4"),
    ),
    Architecture(
        ("wide_resnet50_2", "wide_resnet101_2"),
        "Wide ResNet (arXiv 1605.07146)",
        "fc",
        ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4"),
    ),
    Architecture(
        ("shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"),
        "ShuffleNetV2 (arXiv 1807.11164)",
        "fc",
        ("conv1", "stage2", "stage3", "stage4", "conv5"),
    ),
    Architecture(
        ("squeezenet1_0", "squeezenet1_1"),
        "SqueezeNet (arXiv 1602.07360)",
        "classifier.1",
        ("features",),
        21,
        takes_dropout=True,
    ),
    Architecture(
        ("swin_t", "swin_s", "swin_b"), "Swin Transformer (arXiv 2103.14030)", "head", ("features",), takes_dropout=True
    ),
    Architecture(
        ("swin_v2_t", "swin_v2_s", "swin_v2_b"),
        "Swin Transformer V2 (arXiv 2111.09883)",
        "head",
        ("features",),
        takes_dropout=True,
    ),
    Architecture(
        tuple(f"vgg{layers}{norm}" for layers in (11, 13, 16, 19) for norm in ("", "_bn")),
        "VGG (arXiv 1409.1556)",
        "classifier.6",
        ("features", "classifier"),
        32,
        takes_dropout=True,
    ),
    Architecture(
        ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14"),
        "Vision Transformer (arXiv 2010.11929)",
        "heads.head",
        ("conv_proj", "encoder.layers"),
        takes_dropout=True,
        size_setting="image_size",
    ),
)


@cache
def rows() -> dict[str, Entry]:
    """Each model's row in the registry, by name."""
    return {
        name: Entry(
            name,
            f"{BUILDERS}:{name}",
            f"torchvision's {facts.summary}",
            family="nets",
            head=facts.head,
            depth_order=facts.depth_order,
            initial_weights=("weights",),
            signature=f"{BUILDERS}:create",
        )
        for facts in ARCHITECTURES
        for name in facts.names
    }


def architecture(name: str) -> Architecture:
    """The architecture of a model.

    Args:
        name: of the model.
    """
    return next(facts for facts in ARCHITECTURES if name in facts.names)
