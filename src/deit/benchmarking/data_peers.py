"""The input pipelines of timm and torchvision, as their training scripts put them together.

Each side is an iterable of batches over a folder ``train/`` of class folders: DeiT's recipe (random
resized crop to `SIZE`, flip, RandAugment; Touvron et al., Table 9), in the form in which the
library hands a batch to the device:

* timm: `create_transform` with the arguments of the reference's DeiT recipe, uint8 batches by
  `fast_collate`; normalisation and erasing follow on the device, as here;
* torchvision: the transforms of its reference classification scripts on tensors, with images opened
  by Pillow as `ImageFolder` does; normalisation and erasing are part of them;
* torchvision-tensors: the fastest that can be made of torchvision, which no script of its does:
  its own decoder, uint8 to the end, no normalisation and no erasing.

torchvision's RandAugment always applies what it draws, timm's and ours each of two operations with
probability 1/2. So torchvision draws one here, which is as many operations on average. On
tensors its geometric operations know no bicubic interpolation and are bilinear here, which is less
work; on Pillow's images they do, and its pipeline takes nearly twice as long.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import DataLoader, Sampler, default_collate

SIZE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Batches = Callable[[int, int, int], Iterator[torch.Tensor]]
"""Batches of images: views of each image in a row, workers, epochs."""


def timm_batches(folder: Path, batch_size: int) -> Batches:
    """timm's side."""
    from timm.data import create_dataset, create_transform
    from timm.data.loader import fast_collate

    transform: Any = create_transform(
        SIZE,
        is_training=True,
        use_prefetcher=True,
        color_jitter=0.3,
        auto_augment="rand-m9-mstd0.5-inc1",
        interpolation="bicubic",
        re_prob=0.25,
        re_mode="pixel",
        mean=MEAN,
        std=STD,
    )
    _mend_posterize(transform)
    dataset: Any = create_dataset("", root=str(folder / "train"), transform=transform)
    return _batches(dataset, batch_size, fast_collate)


def torchvision_batches(folder: Path, batch_size: int) -> Batches:
    """torchvision's side, as its scripts do it."""
    from torchvision.transforms import v2

    before = [v2.PILToTensor()]
    after = [
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(mean=list(MEAN), std=list(STD)),
        v2.RandomErasing(p=0.25),
        v2.ToPureTensor(),
    ]
    return _torchvision_batches(folder, batch_size, _open, before, after)


def torchvision_tensor_batches(folder: Path, batch_size: int) -> Batches:
    """torchvision's side at its fastest."""
    from torchvision.io import decode_image

    return _torchvision_batches(
        folder, batch_size, lambda path: decode_image(path, mode="RGB"), [], []
    )


PEERS: dict[str, Callable[[Path, int], Batches]] = {
    "timm": timm_batches,
    "torchvision": torchvision_batches,
    "torchvision-tensors": torchvision_tensor_batches,
}


def _open(path: str) -> Image.Image:
    """As torchvision's default loader."""
    with open(path, "rb") as file:
        return Image.open(file).convert("RGB")


def _torchvision_batches(
    folder: Path, batch_size: int, read: Callable[[str], Any], before: list[Any], after: list[Any]
) -> Batches:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import InterpolationMode, v2

    views = [
        v2.RandomResizedCrop(SIZE, interpolation=InterpolationMode.BICUBIC, antialias=True),
        v2.RandomHorizontalFlip(0.5),
        v2.RandAugment(num_ops=1, magnitude=9, interpolation=InterpolationMode.BILINEAR),
    ]
    transform = v2.Compose([*before, *views, *after])
    dataset: Any = ImageFolder(str(folder / "train"), transform, loader=read)
    return _batches(dataset, batch_size, default_collate)


def _batches(dataset: Any, batch_size: int, collate: Callable[[Any], Any]) -> Batches:
    """Batches of a library's data set, as both of them load it."""
    numbers = itertools.count()

    def batches(repeats: int, workers: int, epochs: int) -> Iterator[torch.Tensor]:
        loader = DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=_Epochs(dataset, repeats, list(itertools.islice(numbers, epochs))),
            num_workers=workers,
            collate_fn=collate,
            drop_last=True,
        )
        return (images for images, _ in loader)

    return batches


class _Epochs(Sampler[int]):
    """Some epochs in the order of both libraries' scripts: shuffled anew for each, every image
    several times in a row. One after another, so that workers need not be started for each.
    """

    def __init__(self, dataset: Any, repeats: int, numbers: Sequence[int]) -> None:
        from timm.data.distributed_sampler import RepeatAugSampler

        self._numbers = numbers
        self._order: Any = RepeatAugSampler(
            dataset, num_replicas=1, rank=0, num_repeats=repeats, selected_round=0, selected_ratio=1
        )

    def __iter__(self) -> Iterator[int]:
        for number in self._numbers:
            self._order.set_epoch(number)
            yield from self._order


def _mend_posterize(transform: Any) -> None:
    """timm 1.0.31 raises where PosterizeIncreasing keeps 0 bits and Pillow is 13 or newer."""
    policies = (part.ops for part in transform.transforms if hasattr(part, "ops"))
    for op in itertools.chain.from_iterable(policies):
        if op.name == "PosterizeIncreasing":
            op.aug_fn = _BlackAtZeroBits(op.aug_fn)


class _BlackAtZeroBits:
    """A posterizing function that knows what 0 bits are."""

    def __init__(self, posterize: Callable[..., Image.Image]) -> None:
        self._posterize = posterize

    def __call__(self, image: Image.Image, bits: int, **settings: Any) -> Image.Image:
        if bits == 0:
            return Image.new("RGB", image.size)
        return self._posterize(image, bits, **settings)
