"""What a model is, as a value: the configurations of all kinds of model, and the named ones.

No torch here: a command line lists variants and their fields before anything heavy is loaded.
`deit.model.build` makes the modules.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeAlias

from deit.config import override
from deit.errors import UserError, did_you_mean

SecondToken = Literal["none", "distillation", "class"]


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionTransformerConfig:
    """A vision transformer with a class token and, where asked for, a second learned token.

    The defaults are DeiT-Ti/16 at 224 px (Table 1 of the paper).
    """

    kind: Literal["vision-transformer"] = "vision-transformer"
    """Tells the kinds of model apart where a configuration is read from a file."""
    name: str = "deit_tiny_patch16_224"
    """What the model is called in reports; it decides nothing."""
    img_size: int = 224
    """Side of the square input images, in pixels."""
    patch_size: int = 16
    """Side of a square patch, in pixels; must divide ``img_size``."""
    in_chans: int = 3
    """Colour channels of an image: 1 or 3."""
    num_classes: int = 0
    """Outputs of each head; 0 in a recipe: as many as the data has."""
    embed_dim: int = 192
    """Width D of a token."""
    depth: int = 12
    """Number of transformer blocks."""
    num_heads: int = 3
    """Attention heads per block; must divide ``embed_dim`` (the paper: heads of 64 dimensions)."""
    mlp_ratio: float = 4.0
    """Hidden width of the MLP over ``embed_dim``."""
    second_token: SecondToken = "none"
    """``distillation``: a second token and head for a teacher's label (paper, section 4);
    ``class``: the same parameters, trained on the true label, which is section 4's control."""
    drop_rate: float = 0.0
    """Dropout after position embedding, attention projection and both MLP layers (paper: off)."""
    drop_path_rate: float = 0.0
    """Stochastic depth: rate of the last block, rising linearly from 0 at the first (paper: .1)."""
    layer_norm_eps: float = 1e-6
    """LayerNorm's epsilon: 1e-6 in the reference and timm; transformers' default is 1e-12."""

    def __post_init__(self) -> None:
        for field in ("img_size", "patch_size", "embed_dim", "depth", "num_heads"):
            _require_at_least(1, field, getattr(self, field))
        _require_at_least(0, "num_classes", self.num_classes)
        _require_channels(self.in_chans)
        _require_divides("patch_size", self.patch_size, "img_size", self.img_size)
        _require_divides("num_heads", self.num_heads, "embed_dim", self.embed_dim)
        _require_rate("drop_rate", self.drop_rate)
        _require_rate("drop_path_rate", self.drop_path_rate)
        if not self.layer_norm_eps > 0:
            raise UserError(
                f"model.layer_norm_eps = {self.layer_norm_eps}", "a number above 0", "use 1e-6"
            )
        if not _is_whole(self.embed_dim * self.mlp_ratio):
            raise UserError(
                f"model.mlp_ratio = {self.mlp_ratio} with model.embed_dim = {self.embed_dim}",
                "a ratio that gives a whole hidden width",
                "use 4",
            )

    @property
    def grid_size(self) -> int:
        """Patches along one side of an image."""
        return self.img_size // self.patch_size

    @property
    def num_learned_tokens(self) -> int:
        """Tokens that are no patches: the class token and, if there is one, the second."""
        return 1 if self.second_token == "none" else 2

    @property
    def num_tokens(self) -> int:
        """Length of the sequence that the blocks see."""
        return self.num_learned_tokens + self.grid_size**2

    @property
    def head_dim(self) -> int:
        """Dimensions of one attention head."""
        return self.embed_dim // self.num_heads

    @property
    def mlp_dim(self) -> int:
        """Hidden width of the MLP."""
        return round(self.embed_dim * self.mlp_ratio)

    @property
    def drop_path_rates(self) -> tuple[float, ...]:
        """Each block's rate of stochastic depth: ``drop_path_rate * i / (depth - 1)``.

        >>> VisionTransformerConfig(depth=3, drop_path_rate=0.1).drop_path_rates
        (0.0, 0.05, 0.1)
        """
        last = max(self.depth - 1, 1)
        return tuple(self.drop_path_rate * index / last for index in range(self.depth))


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvNetConfig:
    """A residual convnet for images up to 64 px: a teacher where no published one fits."""

    kind: Literal["convnet"] = "convnet"
    """Tells the kinds of model apart where a configuration is read from a file."""
    name: str = "convnet"
    """What the model is called in reports; it decides nothing."""
    img_size: int = 32
    """Side of the square input images, in pixels; the network itself takes any size."""
    in_chans: int = 3
    """Colour channels of an image: 1 or 3."""
    num_classes: int = 0
    """Outputs; 0 in a recipe: as many as the data has."""
    width: int = 64
    """Channels of the first stage; each further stage has twice as many."""
    blocks: tuple[int, ...] = (2, 2, 2)
    """Residual blocks in each stage; each stage after the first halves the resolution."""

    def __post_init__(self) -> None:
        _require_at_least(1, "img_size", self.img_size)
        _require_at_least(1, "width", self.width)
        _require_at_least(0, "num_classes", self.num_classes)
        _require_channels(self.in_chans)
        if not self.blocks or min(self.blocks) < 1:
            raise UserError(
                f"model.blocks = {self.blocks}",
                "one whole number from 1 for each stage",
                "use 2,2,2",
            )

    @property
    def drop_path_rates(self) -> tuple[float, ...]:
        """No stochastic depth: empty."""
        return ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ZooConfig:
    """A model of timm or torchvision by its name there."""

    kind: Literal["zoo"] = "zoo"
    """Tells the kinds of model apart where a configuration is read from a file."""
    name: str = "timm:resnet18"
    """``timm:NAME`` (with a tag, ``timm:resnet18.a1_in1k``, if wished) or ``torchvision:NAME``."""
    img_size: int = 224
    """Side of the square input images in pixels; also the size built for, where that is fixed."""
    in_chans: int = 3
    """Colour channels of an image: 1 or 3; torchvision's models take 3."""
    num_classes: int = 0
    """Outputs; 0 in a recipe: as many as the data has."""
    pretrained: bool = False
    """Start from the published weights, which are downloaded. Where ``num_classes`` is not theirs,
    the last layer is new and must be trained."""
    weights_file: str = ""
    """Start from this file (.safetensors, .pth) instead: weights of the same architecture under its
    library's names."""

    def __post_init__(self) -> None:
        _require_at_least(1, "img_size", self.img_size)
        _require_at_least(0, "num_classes", self.num_classes)
        _require_channels(self.in_chans)
        if self.library not in ("timm", "torchvision") or not self.architecture:
            raise UserError(
                f"model.name = {self.name!r}",
                "timm:NAME or torchvision:NAME",
                did_you_mean(self.name, ("timm:resnet18", "torchvision:resnet18"))
                or "write for example timm:resnet18",
            )
        if self.pretrained and self.weights_file:
            raise UserError(
                f"model.pretrained = true with model.weights_file = {self.weights_file}",
                "one source of weights",
                "leave one of them out",
            )
        if self.library == "torchvision" and self.in_chans != 3:
            raise UserError(
                f"model.in_chans = {self.in_chans} with {self.name}",
                "3 for torchvision's models",
                f"use timm:{self.architecture}",
            )

    @property
    def is_trained(self) -> bool:
        """Whether the network starts from weights that others have trained."""
        return self.pretrained or bool(self.weights_file)

    @property
    def library(self) -> str:
        """``timm`` or ``torchvision``."""
        return self.name.partition(":")[0]

    @property
    def architecture(self) -> str:
        """The name within the library."""
        return self.name.partition(":")[2]

    @property
    def drop_path_rates(self) -> tuple[float, ...]:
        """No stochastic depth that a plan could decide: empty."""
        return ()


ModelConfig: TypeAlias = VisionTransformerConfig | ConvNetConfig | ZooConfig


def named_config(name: str, **overrides: Any) -> ModelConfig:
    """The configuration of a named model, with fields of its own set over it.

    Args:
        name: timm's name of a DeiT or ViT (``deit_small_distilled_patch16_224``), one of our small
            ones (``deit_micro_patch4_32``, ``convnet``), ``timm:NAME`` or ``torchvision:NAME``.
        overrides: fields of the configuration (``img_size``, ``drop_path_rate`` and so on).

    Raises:
        UserError: for an unknown name or field, or for values that do not fit together.

    >>> named_config("deit_tiny_patch16_224", img_size=384).grid_size
    24
    """
    if ":" in name:
        config: ModelConfig = ZooConfig(name=name)
    elif name in _NAMED:
        config = _NAMED[name]
    else:
        raise UserError(
            f"no model is called {name!r}",
            "the paper's names (deit_small_patch16_224, also _distilled_ and _384), small ones "
            "(deit_micro_patch4_32), convnet, timm:NAME or torchvision:NAME",
            did_you_mean(name, _NAMED) or "for example deit_tiny_patch16_224",
        )
    return override(config, overrides, "model")


def variant_names() -> tuple[str, ...]:
    """All names of our own models, the paper's first."""
    return tuple(_NAMED)


def num_heads_of_width(embed_dim: int) -> int | None:
    """The attention heads of the named models of this width, or None where there is no such model.

    Weights do not tell how many heads they were trained with; the width does, among these models.
    """
    heads = {
        config.num_heads
        for config in _NAMED.values()
        if isinstance(config, VisionTransformerConfig) and config.embed_dim == embed_dim
    }
    return heads.pop() if len(heads) == 1 else None


def name_of_shape(config: VisionTransformerConfig) -> str | None:
    """The first named model that has this shape, whatever its classes and channels, or None."""
    for name, named in _NAMED.items():
        if isinstance(named, VisionTransformerConfig) and named == replace(
            config, name=name, num_classes=named.num_classes, in_chans=named.in_chans
        ):
            return name
    return None


def require_classes(config: ModelConfig) -> None:
    """Refuse a configuration that still says "as many classes as the data has".

    Raises:
        UserError: when ``num_classes`` is 0.
    """
    if config.num_classes == 0:
        raise UserError(
            f"model.num_classes = 0 while building {config.name}",
            "a whole number from 1",
            "set it to the number of classes of the data",
        )


def _require_at_least(smallest: int, field: str, value: int) -> None:
    if value < smallest:
        raise UserError(
            f"model.{field} = {value}", f"a whole number from {smallest}", f"raise model.{field}"
        )


def _require_channels(in_chans: int) -> None:
    if in_chans not in (1, 3):
        raise UserError(
            f"model.in_chans = {in_chans}", "1 (grey) or 3 (RGB)", "set model.in_chans to 1 or 3"
        )


def _require_divides(divisor: str, value: int, whole: str, of: int) -> None:
    if of % value:
        near = of - of % value or value
        raise UserError(
            f"model.{whole} = {of} with model.{divisor} = {value}",
            f"model.{divisor} must divide model.{whole}",
            f"for example model.{whole} = {near}",
        )


def _is_whole(size: float) -> bool:
    return math.isfinite(size) and round(size) >= 1 and math.isclose(size, round(size))


def _require_rate(field: str, value: float) -> None:
    if not 0 <= value < 1:
        raise UserError(
            f"model.{field} = {value}", "a number from 0 up to, not including, 1", "use 0.1"
        )


class _Size(NamedTuple):
    embed_dim: int
    depth: int
    num_heads: int


_PAPER_SIZES = {"tiny": _Size(192, 12, 3), "small": _Size(384, 12, 6), "base": _Size(768, 12, 12)}
_PAPER_GEOMETRIES = ((16, 224), (16, 384))  # patch and image, in pixels

_SMALL_SIZES = {"nano": _Size(64, 4, 2), "micro": _Size(128, 6, 4), "mini": _Size(192, 8, 3)}
_SMALL_GEOMETRIES = ((1, 8), (2, 8), (4, 8), (2, 16), (4, 28), (4, 32), (4, 64), (8, 64), (8, 96))

_VIT_SIZES = {"base": _Size(768, 12, 12), "large": _Size(1024, 24, 16)}

_CONVNETS = (
    ConvNetConfig(name="convnet"),
    ConvNetConfig(name="convnet_small", width=32, blocks=(1, 1, 1)),
    ConvNetConfig(name="convnet_resnet18", width=64, blocks=(2, 2, 2, 2)),
    ConvNetConfig(name="convnet_resnet20", width=16, blocks=(3, 3, 3)),
    ConvNetConfig(name="convnet_resnet56", width=16, blocks=(9, 9, 9)),
)


def _transformers(
    family: str, sizes: dict[str, _Size], geometries: tuple[tuple[int, int], ...]
) -> dict[str, VisionTransformerConfig]:
    configs = {}
    for size_name, size in sizes.items():
        for patch_size, img_size in geometries:
            name = f"{family}_{size_name}_patch{patch_size}_{img_size}"
            configs[name] = VisionTransformerConfig(
                name=name,
                img_size=img_size,
                patch_size=patch_size,
                embed_dim=size.embed_dim,
                depth=size.depth,
                num_heads=size.num_heads,
            )
    return configs


def _distilled(
    plain: dict[str, VisionTransformerConfig],
) -> dict[str, VisionTransformerConfig]:
    configs = {}
    for config in plain.values():
        name = config.name.replace("_patch", "_distilled_patch")
        configs[name] = replace(config, name=name, second_token="distillation")
    return configs


def _named_configs() -> dict[str, ModelConfig]:
    paper = _transformers("deit", _PAPER_SIZES, _PAPER_GEOMETRIES)
    small = _transformers("deit", _SMALL_SIZES, _SMALL_GEOMETRIES)
    vit = _transformers("vit", _VIT_SIZES, _PAPER_GEOMETRIES)
    convnets = {config.name: config for config in _CONVNETS}
    return {**paper, **_distilled(paper), **vit, **small, **_distilled(small), **convnets}


_NAMED = _named_configs()
