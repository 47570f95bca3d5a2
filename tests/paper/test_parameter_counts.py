"""Table 1 of the paper, to the last parameter."""

import pytest
import torch

from deit.model.variants import named_config
from deit.model.vision_transformer import VisionTransformer

# At 1000 classes; the published tables of timm and mmpretrain round the same numbers.
COUNTS = {
    "deit_tiny_patch16_224": 5_717_416,
    "deit_tiny_distilled_patch16_224": 5_910_800,
    "deit_tiny_patch16_384": 5_790_376,
    "deit_tiny_distilled_patch16_384": 5_983_760,
    "deit_small_patch16_224": 22_050_664,
    "deit_small_distilled_patch16_224": 22_436_432,
    "deit_small_patch16_384": 22_196_584,
    "deit_small_distilled_patch16_384": 22_582_352,
    "deit_base_patch16_224": 86_567_656,
    "deit_base_distilled_patch16_224": 87_338_192,
    "deit_base_patch16_384": 86_859_496,
    "deit_base_distilled_patch16_384": 87_630_032,
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_count_is_the_published_one(name):
    """All twelve: three sizes, plain and distilled, 224 and 384 px."""
    with torch.device("meta"):
        model = VisionTransformer(named_config(name, num_classes=1000))
    assert sum(parameter.numel() for parameter in model.parameters()) == COUNTS[name]


@pytest.mark.parametrize("second_token", ["distillation", "class"])
def test_second_token_costs_what_section_4_says(second_token):
    """One token, its position embedding and one head, whatever the second token is for."""
    plain = named_config("deit_small_patch16_224", num_classes=1000)
    both = named_config("deit_small_patch16_224", num_classes=1000, second_token=second_token)
    with torch.device("meta"):
        counts = [
            sum(parameter.numel() for parameter in VisionTransformer(config).parameters())
            for config in (plain, both)
        ]
    assert counts[1] - counts[0] == 384 + 384 + (384 * 1000 + 1000)
