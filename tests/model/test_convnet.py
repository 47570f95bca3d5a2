"""The small convnet against torchvision's ResNet, and what a teacher for small images must do."""

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deit.errors import UserError
from deit.model.build import build_model, create_model
from deit.model.convnet import ConvNet
from deit.model.variants import ConvNetConfig


def torchvisions_resnet18():
    """With a stem for small images: 3 x 3 of stride 1 and no pooling."""
    network = torchvision.models.resnet18(num_classes=5)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


@pytest.mark.parametrize("training", [True, False])
def test_resnet18_is_torchvisions_but_for_the_stem(training):
    """Same state names, same logits with random parameters and running statistics."""
    torch.manual_seed(0)
    theirs = torchvisions_resnet18()
    for name, value in theirs.state_dict().items():
        if value.is_floating_point():
            nn.init.uniform_(value, 0.5, 1.5) if "running_var" in name else nn.init.normal_(
                value, std=0.1
            )
    ours = create_model("convnet_resnet18", num_classes=5)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        logits = ours.train(training)(images).cls
        torch.testing.assert_close(logits, theirs.train(training)(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "blocks_of_stages"),
    [("convnet_resnet20", (3, 3, 3)), ("convnet_resnet56", (9, 9, 9))],
)
def test_named_depth_counts_the_weighted_layers(name, blocks_of_stages):
    """He et al., section 4.2: 6n + 2 layers, stem and head included, 1 x 1 shortcuts apart."""
    model = create_model(name, num_classes=10)
    layers = [
        module
        for key, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "downsample" not in key
    ]
    assert model.config.blocks == blocks_of_stages
    assert f"convnet_resnet{len(layers)}" == name


@settings(max_examples=20, deadline=None)
@given(
    img_size=st.integers(8, 64),
    in_chans=st.sampled_from([1, 3]),
    num_classes=st.integers(1, 12),
    blocks=st.lists(st.integers(1, 2), min_size=1, max_size=3),
)
def test_any_small_image_gives_logits(img_size, in_chans, num_classes, blocks):
    """8 to 64 px, grey or RGB, also in training, where BatchNorm needs more than one value."""
    config = ConvNetConfig(
        in_chans=in_chans, num_classes=num_classes, width=8, blocks=tuple(blocks)
    )
    heads = build_model(config, seed=0)(torch.randn(2, in_chans, img_size, img_size))
    assert heads.cls.shape == (2, num_classes)
    assert heads.cls.isfinite().all()
    assert heads.dist is None


def test_blocks_start_as_the_identity():
    """Their last BatchNorm starts at zero, so the first stage hands on what the stem gives."""
    model = create_model("convnet", num_classes=4).eval()
    features = torch.rand(2, 64, 8, 8)
    assert torch.equal(model.layer1(features), features)


def test_initial_scales_are_he_and_linear():
    """Standard deviations of sqrt(2 / fan out) and 1 / sqrt(3 fan in), within 5 standard errors."""
    model = build_model(ConvNetConfig(num_classes=100), seed=0)
    weight = model.layer3[1].conv1.weight
    expected = (2 / (256 * 9)) ** 0.5
    assert weight.std().item() == pytest.approx(expected, rel=5 / (2 * weight.numel()) ** 0.5)
    bound = 256**-0.5
    assert model.fc.weight.abs().max() <= bound
    assert model.fc.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_learns_a_pattern_in_a_few_steps():
    """Left or right half bright: the loss of 20 steps ends near zero."""
    model = create_model("convnet_small", num_classes=2, in_chans=1)
    images = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(16) % 2
    images[labels == 0, :, :, :4] += 2
    images[labels == 1, :, :, 4:] += 2
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(20):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images).cls, labels)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


def test_new_classifier_keeps_the_body():
    """For transfer, as the vision transformer's."""
    model = create_model("convnet_small", num_classes=4).eval()
    body = {key: value.clone() for key, value in model.state_dict().items() if "fc" not in key}
    model.reset_classifier(9, seed=1)
    assert model(torch.zeros(2, 3, 8, 8)).cls.shape == (2, 9)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in body.items())
    again = create_model("convnet_small", num_classes=4, seed=8)
    again.reset_classifier(9, seed=1)
    assert torch.equal(again.fc.weight, model.fc.weight)


def test_convnet_without_a_class_count_is_refused():
    """As every kind of model."""
    with pytest.raises(UserError, match=r"model\.num_classes = 0"):
        ConvNet(ConvNetConfig())
