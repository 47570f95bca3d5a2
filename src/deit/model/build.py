"""From a configuration to a module: every kind of model, with parameters that a seed decides."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deit.errors import UserError, did_you_mean
from deit.model.convnet import ConvNet
from deit.model.variants import (
    ConvNetConfig,
    ModelConfig,
    VisionTransformerConfig,
    ZooConfig,
    named_config,
    require_classes,
)
from deit.model.vision_transformer import VisionTransformer
from deit.model.weights import load_into, load_weights
from deit.tensors import TwoHeads


def create_model(
    name: str, num_classes: int = 1000, *, seed: int = 0, **overrides: Any
) -> "VisionTransformer | ConvNet | ZooModel":
    """A named model with fresh parameters, as timm's function of the same name.

    Args:
        name: see `deit.model.variants.named_config`.
        num_classes: outputs of each head.
        seed: decides the parameters.
        overrides: fields of the configuration, such as ``img_size`` or ``drop_path_rate``.

    Raises:
        UserError: for an unknown name or field, or for values that do not fit together.

    >>> model = create_model("deit_tiny_distilled_patch16_224", num_classes=10, img_size=64)
    >>> model(torch.zeros(1, 3, 64, 64)).joint_probabilities().shape
    torch.Size([1, 10])
    """
    return build_model(named_config(name, num_classes=num_classes, **overrides), seed)


def build_model(config: ModelConfig, seed: int) -> "VisionTransformer | ConvNet | ZooModel":
    """The module that a configuration describes, on the CPU, in training mode.

    All kinds have ``forward(images, keep=None) -> TwoHeads``. The same seed gives the same
    parameters, and torch's global generators are left as they were.

    Args:
        config: the model; its ``num_classes`` must be set.
        seed: decides the parameters.

    Raises:
        UserError: for a number of classes of 0, a name that the zoo does not have, or published
            weights that cannot be had.
    """
    require_classes(config)
    if isinstance(config, ZooConfig):
        return _build_zoo_model(config, seed)
    with torch.device("meta"):  # shapes only: nothing is drawn yet
        model = _build_own_model(config)
    model.to_empty(device="cpu")
    model.init_weights(torch.Generator().manual_seed(seed))
    return model


class NoPublishedWeightsError(UserError):
    """There are no published weights, or they cannot be fetched."""


def fetch_published(config: ZooConfig) -> None:
    """Fetch the published weights of an architecture, for all later uses on this machine.

    Raises:
        NoPublishedWeightsError: when there are none, or they cannot be had.
        UserError: for an unknown name, or an architecture that cannot take a new last layer.
    """
    num_classes = config.num_classes or 2
    _build_zoo_model(dataclasses.replace(config, pretrained=True, num_classes=num_classes), 0)


class ZooModel(nn.Module):
    """A model of timm or torchvision behind the interface of ours.

    Args:
        config: what was asked for.
        network: images to logits.
        fresh_head: whether the last layer is not the published one, so that the logits mean
            nothing before training.
    """

    def __init__(self, config: ZooConfig, network: nn.Module, fresh_head: bool) -> None:
        super().__init__()
        self.config = config
        self.network = network
        self.fresh_head = fresh_head

    def forward(
        self, images: Float[Tensor, "batch channels height width"], keep: None = None
    ) -> TwoHeads:
        """The logits of its one head; ``keep`` is there for the common signature and stays None."""
        return TwoHeads(self.network(images))

    @property
    def num_classes(self) -> int:
        """Outputs of the head."""
        return self.config.num_classes

    def no_weight_decay(self) -> set[str]:
        """The names that the network's own authors leave out of weight decay."""
        own = getattr(self.network, "no_weight_decay", set)
        return {f"network.{name}" for name in own()} & dict(self.named_parameters()).keys()


def _build_own_model(
    config: VisionTransformerConfig | ConvNetConfig,
) -> VisionTransformer | ConvNet:
    if isinstance(config, ConvNetConfig):
        return ConvNet(config)
    return VisionTransformer(config)


def _build_zoo_model(config: ZooConfig, seed: int) -> ZooModel:
    make = {"timm": _timm_network, "torchvision": _torchvision_network}[config.library]
    with torch.random.fork_rng(devices=[]):  # both libraries draw from the global generator
        torch.default_generator.manual_seed(seed)
        network, published_classes = make(config)
    trained = config.pretrained or bool(config.weights_file)
    fresh_head = not trained or published_classes != config.num_classes
    return ZooModel(config, network, fresh_head)


def _timm_network(config: ZooConfig) -> tuple[nn.Module, int]:
    """The network and the number of classes of its published weights."""
    import timm

    if not timm.is_model(config.architecture):
        raise _unknown_architecture(config, timm.list_models())
    try:
        published = timm.get_pretrained_cfg(config.architecture)
    except RuntimeError:  # the architecture is there, the tag behind its dot is not
        base = config.architecture.partition(".")[0]
        raise _unknown_architecture(config, timm.list_pretrained(f"{base}.*")) from None
    if config.pretrained and not published.has_weights:
        raise NoPublishedWeightsError(
            f"{config.name} with model.pretrained = true, but timm has no weights of it",
            "a name of timm.list_pretrained()",
            "set model.pretrained=false, or choose another name",
        )
    size = {"img_size": config.img_size} if published.fixed_input_size else {}

    def create(num_classes: int) -> nn.Module:
        network: nn.Module = timm.create_model(
            config.architecture,
            pretrained=config.pretrained,
            num_classes=num_classes,
            in_chans=config.in_chans,
            **size,
        )
        return network

    if config.weights_file:
        head = published.classifier
        network, in_file = _from_file(config, create, head if isinstance(head, str) else head[0])
        if in_file != config.num_classes:
            cast(Any, network).reset_classifier(config.num_classes)
        return network, in_file
    network = _download(config, lambda: create(config.num_classes))
    return network, published.num_classes


def _torchvision_network(config: ZooConfig) -> tuple[nn.Module, int]:
    """The network and the number of classes of its published weights."""
    import torchvision

    # The two that are missing return a tuple while training.
    known = set(torchvision.models.list_models(torchvision.models)) - {"googlenet", "inception_v3"}
    if config.architecture not in known:
        raise _unknown_architecture(config, sorted(known))

    def create(num_classes: int) -> nn.Module:
        network: nn.Module = torchvision.models.get_model(
            config.architecture, num_classes=num_classes
        )
        return network

    if config.weights_file:
        head = list(create(1).named_modules())[-1][0]
        network, in_file = _from_file(config, create, head)
        if in_file != config.num_classes:
            _replace_last_linear(config, network)
        return network, in_file
    if not config.pretrained:
        return create(config.num_classes), 0
    network = _download(
        config, lambda: torchvision.models.get_model(config.architecture, weights="DEFAULT")
    )
    if config.num_classes != 1000:
        _replace_last_linear(config, network)
    return network, 1000


def _from_file(
    config: ZooConfig, create: Callable[[int], nn.Module], head: str
) -> tuple[nn.Module, int]:
    """The network with the weights of a file and the file's own last layer; its class count."""
    state = load_weights(Path(config.weights_file))
    if all(name.startswith("network.") for name in state):  # saved by a run of ours
        state = {name.removeprefix("network."): tensor for name, tensor in state.items()}
    num_classes = len(state[f"{head}.weight"]) if f"{head}.weight" in state else 0
    network = create(num_classes)
    try:
        load_into(network, state)
    except UserError as error:
        raise UserError(
            f"{config.weights_file} for {config.name}: {error.given}",
            f"weights of {config.name} under the names of {config.library}",
            "name the architecture that the file belongs to",
        ) from error
    return network, num_classes


def _replace_last_linear(config: ZooConfig, network: nn.Module) -> None:
    """Swap torchvision's classifier: its name depends on the family, but it always comes last."""
    name, last = list(network.named_modules())[-1]
    if not isinstance(last, nn.Linear):
        raise UserError(
            f"{config.name} with published weights and {config.num_classes} classes",
            "1000 classes for this architecture",
            f"use timm:{config.architecture}, or leave out the published weights",
        )
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Linear(last.in_features, config.num_classes))


def _download(config: ZooConfig, make: Callable[[], nn.Module]) -> nn.Module:
    try:
        return make()
    except OSError as error:  # what both libraries raise without network or cached file
        raise NoPublishedWeightsError(
            f"the published weights of {config.name} cannot be had: {error}",
            "a network connection, or weights downloaded before",
            "connect, or set model.pretrained=false to start from random parameters",
        ) from error


def _unknown_architecture(config: ZooConfig, known: list[str]) -> UserError:
    near = did_you_mean(config.name, [f"{config.library}:{name}" for name in known])
    listing = {"timm": "timm.list_models()", "torchvision": "torchvision.models.list_models()"}
    return UserError(
        f"no model is called {config.name!r}", f"a name of {listing[config.library]}", near
    )
