"""Where the network of `deit teacher` starts: published weights, a file, or from scratch."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from deit.data.preprocess import PreprocessConfig
from deit.errors import UserError
from deit.model.variants import ZooConfig
from deit.recipes.recipe import Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """A trained network and the pixels that it was trained on.

    Attributes:
        model: the network, at its own resolution.
        preprocess: its own normalisation and crop.
    """

    model: ZooConfig
    preprocess: PreprocessConfig

    def apply(self, recipe: Recipe) -> Recipe:
        """The recipe with this network."""
        return dataclasses.replace(recipe, model=self.model, preprocess=self.preprocess)


def is_zoo(arch: str | None) -> bool:
    """Whether a network is timm's or torchvision's, so that others may have trained it."""
    return arch is not None and arch.startswith(("timm:", "torchvision:"))


def find_start(arch: str, weights: str) -> Start | None:
    """Fetch or find the weights of a network; None where it is to start from scratch.

    Where published weights cannot be had, that is said.

    Args:
        arch: ``timm:NAME`` or ``torchvision:NAME``.
        weights: published, none, or a file.

    Raises:
        UserError: for an unknown network, or a file that is not there.
    """
    from deit.foreign import published_preprocess
    from deit.model.build import NoPublishedWeightsError, fetch_published

    if weights == "none":
        return None
    own = published_preprocess(arch)
    model = with_weights(ZooConfig(name=arch, img_size=own.image_size), weights)
    if model.pretrained:
        try:
            fetch_published(model)
        except NoPublishedWeightsError as error:
            reason = error.given.partition("\n")[0]
            print(f"{arch} is trained FROM SCRATCH, by another recipe: {reason}")  # noqa: T201
            return None
    print(  # noqa: T201
        f"{arch}: {'published weights' if model.pretrained else weights}, a new last layer, "
        f"made for {own.image_size} px"
    )
    preprocess = PreprocessConfig(
        crop_pct=own.crop_pct, interpolation=own.interpolation, mean=own.mean, std=own.std
    )
    return Start(model=model, preprocess=preprocess)


def with_stated_weights(recipe: Recipe, weights: str | None) -> Recipe:
    """The recipe whose network starts from what --weights says; None leaves it as it is.

    Raises:
        UserError: for weights of a network that is neither timm's nor torchvision's.
    """
    if weights is None or (weights == "none" and not isinstance(recipe.model, ZooConfig)):
        return recipe
    if not isinstance(recipe.model, ZooConfig):
        raise UserError(
            f"--weights {weights} with the network {recipe.model.name}",
            "--arch timm:NAME or torchvision:NAME, which others have trained",
            "add for example --arch timm:resnet18, or leave --weights out",
        )
    return dataclasses.replace(recipe, model=with_weights(recipe.model, weights))


def with_weights(model: ZooConfig, weights: str) -> ZooConfig:
    """The network starting from published weights, from none, or from a file.

    Raises:
        UserError: for a file that is not there.
    """
    if weights in ("published", "none"):
        return dataclasses.replace(model, pretrained=weights == "published", weights_file="")
    if not Path(weights).is_file():
        raise UserError(
            f"--weights {weights}: no such file",
            "published, none, or a file (.safetensors, .pth) of weights of the architecture",
            "check the path",
        )
    return dataclasses.replace(model, pretrained=False, weights_file=weights)
