"""A small residual convnet for images of 8 to 64 px: a teacher where no published one fits."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from deit.model.variants import ConvNetConfig, require_classes
from deit.tensors import TwoHeads


class ConvNet(nn.Module):
    """A ResNet of basic blocks (He et al., CVPR 2016) that keeps small images at full resolution.

    The stem is one 3 x 3 convolution of stride 1 and no pooling; each stage after the first halves
    the resolution and doubles the channels; then global average pooling and one linear head.
    Parameters carry torchvision's ResNet names, ``layer1`` being the first stage.

    Args:
        config: the shape; its ``num_classes`` must be set.

    Raises:
        UserError: when the number of classes is still 0.

    >>> ConvNet(ConvNetConfig(num_classes=10)).eval()(torch.zeros(2, 3, 32, 32)).cls.shape
    torch.Size([2, 10])
    """

    def __init__(self, config: ConvNetConfig) -> None:
        super().__init__()
        require_classes(config)
        self.config = config
        self.conv1 = _conv(config.in_chans, config.width, 3, stride=1)
        self.bn1 = nn.BatchNorm2d(config.width)
        self.stage_names = [f"layer{index + 1}" for index in range(len(config.blocks))]
        channels = config.width
        for index, (name, num_blocks) in enumerate(
            zip(self.stage_names, config.blocks, strict=True)
        ):
            out_channels = config.width * 2**index
            self.add_module(name, _stage(channels, out_channels, num_blocks, min(index + 1, 2)))
            channels = out_channels
        self.fc = nn.Linear(channels, config.num_classes)
        self.init_weights()

    def forward(
        self, images: Float[Tensor, "batch channels height width"], keep: None = None
    ) -> TwoHeads:
        """The logits of its one head; ``keep`` is there for the common signature and stays None."""
        features = F.relu(self.bn1(self.conv1(images)))
        for name in self.stage_names:
            features = self.get_submodule(name)(features)
        return TwoHeads(self.fc(features.mean(dim=(2, 3))))

    @property
    def num_classes(self) -> int:
        """Outputs of the head."""
        return self.config.num_classes

    @torch.no_grad()
    def reset_classifier(self, num_classes: int, seed: int = 0) -> None:
        """Replace the head by a new one, drawn from ``seed``, for another set of classes.

        Raises:
            UserError: when ``num_classes`` is below 1.
        """
        config = replace(self.config, num_classes=num_classes)
        require_classes(config)
        self.config = config
        old = self.fc
        with torch.device("meta"):
            self.fc = nn.Linear(old.in_features, num_classes)
        self.fc.to_empty(device="cpu")  # drawn there, so that all devices get the same numbers
        _init_head(self.fc, torch.Generator().manual_seed(seed))
        self.fc.to(device=old.weight.device, dtype=old.weight.dtype)

    def no_weight_decay(self) -> set[str]:
        """No names besides biases and normalisations, which no optimiser of ours decays."""
        return set()

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Draw all parameters anew and forget the running statistics.

        Convolutions from He et al.'s normal (fan out); BatchNorms 1 and 0, but 0 and 0 at the end
        of each block, which starts as the identity (Goyal et al., arXiv 1706.02677, section 5.1);
        the head uniform within ``1 / sqrt(fan in)``.

        Args:
            generator: where the draws come from; None: torch's global generator.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(
                    module.weight, mode="fan_out", nonlinearity="relu", generator=generator
                )
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
        for module in self.modules():
            if isinstance(module, BasicBlock):
                module.bn2.weight.zero_()
        _init_head(self.fc, generator)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, which is a 1 x 1 one where shapes change."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, out_channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = _conv(out_channels, out_channels, 3, stride=1)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                _conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels)
            )

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch out_channels out_height out_width"]:
        """``relu(shortcut(x) + bn2(conv2(relu(bn1(conv1(x))))))``."""
        shortcut = features if self.downsample is None else self.downsample(features)
        hidden = F.relu(self.bn1(self.conv1(features)))
        return F.relu(shortcut + self.bn2(self.conv2(hidden)))


def _init_head(head: nn.Linear, generator: torch.Generator | None) -> None:
    bound = head.in_features**-0.5
    head.weight.uniform_(-bound, bound, generator=generator)
    head.bias.uniform_(-bound, bound, generator=generator)


def _stage(in_channels: int, out_channels: int, num_blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride)
    others = [BasicBlock(out_channels, out_channels, stride=1) for _ in range(num_blocks - 1)]
    return nn.Sequential(first, *others)


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False
    )
