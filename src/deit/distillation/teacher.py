"""A teacher: a frozen classifier with classes, normalisation and resolution of its own.

It looks at the very pixels that the student trains on, cropped, erased and mixed, brought to its
own normalisation and size. Where a teacher comes from is the business of `deit.artifacts`.
"""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from deit.distillation.fingerprint import model_fingerprint
from deit.errors import UserError
from deit.tensors import TwoHeads

LUMA = (0.299, 0.587, 0.114)
"""ITU-R 601 weights of red, green and blue, as Pillow's mode "L" has them."""


class Teacher(nn.Module):
    """A classifier that answers and never learns.

    It stays in evaluation mode whatever `train` is called on it or on a module that holds it, its
    parameters take no gradient, and nothing is recorded for a backward pass.

    Args:
        model: images -> logits ``[batch, outputs]``, or `TwoHeads`, whose joint decision counts.
        name: how the teacher is called in messages.
        classes: names of the classes, in the order of the logits that `logits` gives.
        mean, std: its normalisation, one value per channel, for pixels from 0 to 1.
        image_size: the side of the images that it takes, in pixels.
        order: for each class, the place of its logit in the model's output; empty when the model
            has the same order already.
        dtype: float32, or bfloat16 or float16 for autocast.
        notes: what had to be assumed about it, one sentence each, for the user.
    """

    def __init__(
        self,
        model: Callable[[Tensor], Tensor | TwoHeads],
        *,
        name: str,
        classes: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        image_size: int,
        order: Sequence[int] = (),
        dtype: torch.dtype = torch.float32,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.model = model
        self.name = name
        self.classes = tuple(classes)
        self.mean = tuple(float(value) for value in mean)
        self.std = tuple(float(value) for value in std)
        self.image_size = image_size
        self.order = tuple(order)
        self.dtype = dtype
        self.notes = tuple(notes)
        self.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "Teacher":
        """Evaluation mode, whatever is asked for."""
        return super().train(False)

    def forward(
        self,
        images: Float[Tensor, "batch channels height width"],
        student_mean: Sequence[float],
        student_std: Sequence[float],
    ) -> Float[Tensor, "batch classes"]:
        """The same as `logits`."""
        return self.logits(images, student_mean, student_std)

    @torch.no_grad()
    def logits(
        self,
        images: Float[Tensor, "batch channels height width"],
        student_mean: Sequence[float],
        student_std: Sequence[float],
    ) -> Float[Tensor, "batch classes"]:
        """What the teacher says of the student's pixels: float32 logits in the order of `classes`.

        Args:
            images: normalised for the student, ``[batch, channels, height, width]``.
            student_mean, student_std: that normalisation, one value per channel.

        Raises:
            UserError: when the model does not give one logit per class.
        """
        images = self._adapt(images, student_mean, student_std)
        device = images.device.type
        with torch.autocast(device, dtype=self._autocast_dtype, enabled=self._uses_autocast):
            logits = _one_row_of_logits(self._evaluating()(images)).float()
        if self.order:
            logits = logits[:, list(self.order)]
        if logits.shape[1] != len(self.classes):
            raise UserError(
                f"teacher {self.name}: {logits.shape[1]} logits for {len(self.classes)} classes",
                "one logit per class",
                "take a teacher that was fitted to these classes: `deit teacher DATA`",
            )
        return logits

    def labels(
        self,
        images: Float[Tensor, "batch channels height width"],
        student_mean: Sequence[float],
        student_std: Sequence[float],
    ) -> Int64[Tensor, "batch"]:
        """The teacher's decisions, argmax of `logits`; the lowest class among equals."""
        return self.logits(images, student_mean, student_std).argmax(-1)

    def with_normalisation(self, mean: Sequence[float], std: Sequence[float]) -> "Teacher":
        """The same model under another normalisation; the weights are shared."""
        return self._changed(mean=tuple(mean), std=tuple(std))

    def with_image_size(self, image_size: int) -> "Teacher":
        """The same model at another resolution; the weights are shared."""
        return self._changed(image_size=image_size)

    def fingerprint(self) -> dict[str, Any]:
        """What this teacher's answers depend on, as plain values; its name is no part of it.

        Equal fingerprints are the same teacher, from whatever file. See
        `deit.distillation.fingerprint`.
        """
        return {
            "model": model_fingerprint(self.model),
            "mean": list(self.mean),
            "std": list(self.std),
            "image_size": self.image_size,
            "order": list(self.order),
            "dtype": str(self.dtype).removeprefix("torch."),
            "classes": list(self.classes),
        }

    def _changed(self, **attributes: object) -> "Teacher":
        other = copy.copy(self)
        for name, value in attributes.items():
            setattr(other, name, value)
        return other

    def _adapt(
        self,
        images: Float[Tensor, "batch channels height width"],
        student_mean: Sequence[float],
        student_std: Sequence[float],
    ) -> Float[Tensor, "batch teacher_channels size size"]:
        images = convert_pixels(images, student_mean, student_std, self.mean, self.std)
        return resize(images, self.image_size)

    def _evaluating(self) -> Callable[[Tensor], Tensor | TwoHeads]:
        """The model; should someone who shares it have put it in training mode, out of it again."""
        if isinstance(self.model, nn.Module) and self.model.training:
            self.model.eval()
        return self.model

    @property
    def _uses_autocast(self) -> bool:
        return self.dtype is not torch.float32

    @property
    def _autocast_dtype(self) -> torch.dtype:
        """Autocast objects to float32 as its type even when it is switched off."""
        return self.dtype if self._uses_autocast else torch.bfloat16


def convert_pixels(
    images: Float[Tensor, "batch channels height width"],
    mean: Sequence[float],
    std: Sequence[float],
    new_mean: Sequence[float],
    new_std: Sequence[float],
) -> Float[Tensor, "batch new_channels height width"]:
    """The same pixels under another normalisation, in grey or in colour.

    One affine map per channel, x -> x std / new_std + (mean - new_mean) / new_std, with the factors
    computed in float64. Grey pixels become three equal channels, colours their luma. Equal
    normalisations give the images themselves, bit for bit.

    >>> images = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)  # grey 0.5 and 0.75
    >>> convert_pixels(images, (0.5,), (0.25,), (0.0,), (1.0,)).flatten().tolist()
    [0.5, 0.75]

    Raises:
        UserError: when the channels do not fit the normalisations.
    """
    for values, place in ((mean, "student's mean"), (std, "student's std")):
        if len(values) != images.shape[1]:
            raise UserError(
                f"the {place} has {len(values)} values for images of {images.shape[1]} channels",
                "one value per channel",
                "correct recipe.preprocess or the model's in_chans",
            )
    if tuple(mean) == tuple(new_mean) and tuple(std) == tuple(new_std):
        return images
    if len(mean) == 3 and len(new_mean) == 1:
        images = _affine(images, std, mean)  # pixels from 0 to 1
        images = (images * _column(LUMA, images)).sum(1, keepdim=True)
        mean, std = (0.0,), (1.0,)
    repeats = max(len(mean), len(new_mean))
    old = zip(_spread(mean, repeats), _spread(std, repeats), strict=True)
    new = zip(_spread(new_mean, repeats), _spread(new_std, repeats), strict=True)
    maps = [(b / d, (a - c) / d) for (a, b), (c, d) in zip(old, new, strict=True)]
    return _affine(images, [scale for scale, _ in maps], [shift for _, shift in maps])


def resize(
    images: Float[Tensor, "batch channels height width"], image_size: int
) -> Float[Tensor, "batch channels image_size image_size"]:
    """Square images of another size, bicubic with antialiasing; the same images when it fits."""
    if images.shape[-2:] == (image_size, image_size):
        return images
    size = (image_size, image_size)
    return F.interpolate(images.float(), size, mode="bicubic", antialias=True, align_corners=False)


def _affine(
    images: Float[Tensor, "batch channels height width"],
    scale: Sequence[float],
    shift: Sequence[float],
) -> Float[Tensor, "batch new_channels height width"]:
    return images * _column(scale, images) + _column(shift, images)


def _column(values: Sequence[float], like: Tensor) -> Float[Tensor, "1 channels 1 1"]:
    return torch.tensor(tuple(values), dtype=like.dtype, device=like.device).view(1, -1, 1, 1)


def _spread(values: Sequence[float], count: int) -> tuple[float, ...]:
    return tuple(values) * count if len(values) == 1 else tuple(values)


def _one_row_of_logits(answer: Tensor | TwoHeads) -> Float[Tensor, "batch outputs"]:
    """Two heads are joined as the paper does: the logarithm of their mean probability."""
    if not isinstance(answer, TwoHeads):
        return answer
    if answer.dist is None:
        return answer.cls
    cls, dist = answer.cls.float().log_softmax(-1), answer.dist.float().log_softmax(-1)
    return torch.logaddexp(cls, dist) - math.log(2)  # finite where a probability would be 0
