"""torchvision's classification models by name, and the facts of each architecture. Knows no torch, no torchvision.

Held to torchvision by tests/models/test_torchvision_models.py.
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
    """What models of one paper share."""

    names: tuple[str, ...]
    summary: str
    head: str  # path of the last layer
    depth_order: tuple[str, ...]  # paths of the blocks, from input to output
    smallest_image: int = 1  # pixels a side
    takes_dropout: bool = False
    sized: str = ""  # what it calls the image size that it is built for; "": it takes any size
    settings: Mapping[str, Any] = field(default_factory=dict)  # of torchvision's, always as here


ARCHITECTURES = (
    Architecture(
        ("alexnet",),
        "AlexNet (arXiv 1404.5997)",
        head="classifier.6",
        depth_order=("features", "classifier"),
        smallest_image=63,
        takes_dropout=True,
    ),
    Architecture(
        ("convnext_tiny", "convnext_small", "convnext_base", "convnext_large"),
        "ConvNeXt (arXiv 2201.03545)",
        head="classifier.2",
        depth_order=("features",),
        smallest_image=32,
    ),
    Architecture(
        ("densenet121", "densenet161", "densenet169", "densenet201"),
        "DenseNet (arXiv 1608.06993)",
        head="classifier",
        depth_order=("features",),
        smallest_image=29,
    ),
    Architecture(
        tuple(f"efficientnet_b{size}" for size in range(8)),
        "EfficientNet (arXiv 1905.11946)",
        head="classifier.1",
        depth_order=("features",),
        takes_dropout=True,
    ),
    Architecture(
        ("efficientnet_v2_s", "efficientnet_v2_m", "efficientnet_v2_l"),
        "EfficientNetV2 (arXiv 2104.00298)",
        head="classifier.1",
        depth_order=("features",),
        takes_dropout=True,
    ),
    Architecture(
        ("googlenet",),
        "GoogLeNet (arXiv 1409.4842), without auxiliary heads",
        head="fc",
        depth_order=(
            *("conv1", "conv2", "conv3", "inception3a", "inception3b", "inception4a", "inception4b", "inception4c"),
            *("inception4d", "inception4e", "inception5a", "inception5b"),
        ),
        smallest_image=15,
        takes_dropout=True,
        settings={"aux_logits": False, "init_weights": True},
    ),
    Architecture(
        ("inception_v3",),
        "Inception v3 (arXiv 1512.00567), without auxiliary head",
        head="fc",
        depth_order=(
            *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"),
            *("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
            *("Mixed_7a", "Mixed_7b", "Mixed_7c"),
        ),
        smallest_image=75,
        takes_dropout=True,
        settings={"aux_logits": False, "init_weights": True},
    ),
    Architecture(
        ("maxvit_t",),
        "MaxViT (arXiv 2204.01697)",
        head="classifier.5",
        depth_order=("stem", "blocks", "classifier"),
        sized="input_size",
    ),
    Architecture(
        ("mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"),
        "MnasNet (arXiv 1807.11626)",
        head="classifier.1",
        depth_order=("layers",),
        takes_dropout=True,
    ),
    Architecture(
        ("mobilenet_v2",),
        "MobileNetV2 (arXiv 1801.04381)",
        head="classifier.1",
        depth_order=("features",),
        takes_dropout=True,
    ),
    Architecture(
        ("mobilenet_v3_small", "mobilenet_v3_large"),
        "MobileNetV3 (arXiv 1905.02244)",
        head="classifier.3",
        depth_order=("features", "classifier"),
        takes_dropout=True,
    ),
    Architecture(
        tuple(f"regnet_x_{size}" for size in ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf"))
        + tuple(f"regnet_y_{size}" for size in ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf", "128gf")),
        "RegNet (arXiv 2003.13678)",
        head="fc",
        depth_order=("stem", "trunk_output"),
    ),
    Architecture(
        ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
        "ResNet (arXiv 1512.03385)",
        head="fc",
        depth_order=("conv1", "bn1", "layer1", "layer2", "layer3", "layer4"),
    ),
    Architecture(
        ("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
        "ResNeXt (arXiv 1611.05431)",
        head="fc",
        depth_order=("conv1", "bn1", "layer1", "layer2", "layer3", "layer4"),
    ),
    Architecture(
        ("wide_resnet50_2", "wide_resnet101_2"),
        "Wide ResNet (arXiv 1605.07146)",
        head="fc",
        depth_order=("conv1", "bn1", "layer1", "layer2", "layer3", "layer4"),
    ),
    Architecture(
        ("shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"),
        "ShuffleNetV2 (arXiv 1807.11164)",
        head="fc",
        depth_order=("conv1", "stage2", "stage3", "stage4", "conv5"),
    ),
    Architecture(
        ("squeezenet1_0", "squeezenet1_1"),
        "SqueezeNet (arXiv 1602.07360)",
        head="classifier.1",
        depth_order=("features",),
        smallest_image=21,
        takes_dropout=True,
    ),
    Architecture(
        ("swin_t", "swin_s", "swin_b"),
        "Swin Transformer (arXiv 2103.14030)",
        head="head",
        depth_order=("features",),
        takes_dropout=True,
    ),
    Architecture(
        ("swin_v2_t", "swin_v2_s", "swin_v2_b"),
        "Swin Transformer V2 (arXiv 2111.09883)",
        head="head",
        depth_order=("features",),
        takes_dropout=True,
    ),
    Architecture(
        tuple(f"vgg{layers}{norm}" for layers in (11, 13, 16, 19) for norm in ("", "_bn")),
        "VGG (arXiv 1409.1556)",
        head="classifier.6",
        depth_order=("features", "classifier"),
        smallest_image=32,
        takes_dropout=True,
    ),
    Architecture(
        ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14"),
        "Vision Transformer (arXiv 2010.11929)",
        head="heads.head",
        depth_order=("conv_proj", "encoder.layers"),
        takes_dropout=True,
        sized="image_size",
    ),
)


@cache
def rows() -> dict[str, Entry]:
    """Each model's row in the registry, by name."""
    return {
        name: Entry(
            name,
            f"{BUILDERS}:{name}",
            f"torchvision's {one.summary}",
            family="nets",
            head=one.head,
            depth_order=one.depth_order,
            first_weights=("weights",),
            signature=f"{BUILDERS}:create",
        )
        for one in ARCHITECTURES
        for name in one.names
    }


def architecture(name: str) -> Architecture:
    """The architecture that the model `name` belongs to."""
    return next(one for one in ARCHITECTURES if name in one.names)
