"""The nearest class mean: the simplest thing that can be learned from a few images of each class.

On pixels it is a baseline that any student will pass. On a teacher's logits it tells whether the
layers below the last one know the classes.
"""

import numpy as np
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

_SIDE = 8  # pixels


def predict_by_nearest_mean(
    features: Float[np.ndarray, "images numbers"],
    labels: Int64[np.ndarray, "images"],
    first_half: Bool[np.ndarray, "images"],
) -> Int64[np.ndarray, "images"]:
    """Each half's decisions by the class means of the other half, in Euclidean distance.

    A class of which the other half has no image is never decided for; of equals the lower class is.
    """
    predicted = np.empty(len(labels), dtype=np.int64)
    for judged in (first_half, ~first_half):
        classes = np.unique(labels[~judged])
        means = np.stack([features[~judged & (labels == label)].mean(0) for label in classes])
        apart = ((features[judged][:, None] - means) ** 2).sum(-1)  # [judged, classes]
        predicted[judged] = classes[apart.argmin(1)]
    return predicted


def small_pixels(
    images: Float[Tensor, "images channels height width"],
) -> Float[np.ndarray, "images numbers"]:
    """The images at 8 x 8 pixels, as rows of numbers."""
    small = F.adaptive_avg_pool2d(images.float(), _SIDE)
    rows: Float[np.ndarray, "images numbers"] = small.flatten(1).double().cpu().numpy()
    return rows
