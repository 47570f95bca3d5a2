"""Image classifiers of the library transformers, from the Hugging Face hub or a local folder.

Their image processors know many conventions for sizes, crops and normalisation. None is read here:
the processor is shown a few pictures, and what it does to them is measured. Weights are read from
safetensors only, and no code that comes with a model is run.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from deit.classifier import Classifier
from deit.data.preprocess import Preprocess
from deit.distillation.fingerprint import weights_sha256
from deit.errors import UserError
from deit.foreign import class_list
from deit.tensors import TwoHeads

_SIDE = 512  # of the pictures that a processor is shown
_KERNELS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers

Processor = Callable[[UInt8[np.ndarray, "height width 3"]], Float[Tensor, "3 rows columns"]]
"""A picture to what the network sees."""


class HuggingFaceNetwork(nn.Module):
    """A network of transformers behind the interface of ours.

    Args:
        network: takes ``pixel_values``, gives ``logits``, or ``cls_logits`` and
            ``distillation_logits`` where it is a DeiT with its two heads.
        flip_colours: whether it takes blue first.
    """

    def __init__(self, network: nn.Module, flip_colours: bool = False) -> None:
        super().__init__()
        self.network = network
        self.flip_colours = flip_colours

    def forward(
        self, images: Float[Tensor, "batch channels height width"], keep: None = None
    ) -> TwoHeads:
        """The logits of its heads; ``keep`` is there for the common signature and stays None."""
        images = images.flip(1) if self.flip_colours else images
        answer = self.network(pixel_values=images)
        if "cls_logits" in answer:
            return TwoHeads(answer["cls_logits"], answer["distillation_logits"])
        return TwoHeads(answer["logits"])

    def fingerprint(self) -> dict[str, Any]:
        """Its class, its configuration without names and paths, its weights."""
        config: Any = self.network.config
        told = {k: v for k, v in config.to_diff_dict().items() if k not in _WITHOUT_EFFECT}
        return {
            "kind": type(self.network).__name__,
            "config": json.loads(json.dumps(told, default=str, sort_keys=True)),
            "flip_colours": self.flip_colours,
            "sha256": weights_sha256(self.network),
        }


_WITHOUT_EFFECT = ("_name_or_path", "transformers_version", "id2label", "label2id", "architectures")


def load_huggingface_classifier(spec: str) -> Classifier:
    """A classifier of transformers with its classes and its preprocessing.

    Args:
        spec: ``hf:OWNER/NAME`` on the hub, or ``hf:./FOLDER``.

    Raises:
        UserError: when transformers is not installed, when there is no such model, when it cannot
            be fetched, has no trained head, would have to run code of its own, or takes images
            that are not square.
    """
    name = spec.partition(":")[2]
    _require_transformers(spec)
    if name.startswith((".", "/", "~")) and not Path(name).is_dir():
        raise UserError(f"{spec}: no such folder", "hf:OWNER/NAME or hf:./FOLDER", "check the path")
    network = _load_network(spec, name)
    config: Any = network.config
    preprocess, flip_colours, notes = _find_preprocess(name, config)
    names = [config.id2label[index] for index in sorted(config.id2label)]
    counted = names == [f"LABEL_{index}" for index in range(len(names))]
    if counted:
        notes.append(f"{name} does not name its classes: the data's order is assumed")
    return Classifier(
        name=spec,
        model=HuggingFaceNetwork(network, flip_colours).eval(),
        preprocess=preprocess,
        classes=class_list(None if counted else names, config.num_labels, spec),
        num_classes=config.num_labels,
        notes=tuple(notes),
    )


def measure_preprocess(
    process: Processor, interpolation: str
) -> tuple[Preprocess, bool, list[str]]:
    """What a processor does, from what it makes of a few pictures.

    A black and a white picture tell the affine map of each channel, a red one the order of the
    channels, and two pictures with an edge how far they were enlarged before the centre was cut
    out: edges at a quarter and at three quarters come out half the resized side apart.

    Args:
        process: the processor.
        interpolation: the kernel that it resizes with, which is taken on trust.

    Returns:
        the preprocessing, whether the network takes blue first, and notes for the user.

    Raises:
        UserError: when it gives something else than a square picture of three channels.
    """
    black, white, red = (process(_one_colour(c)) for c in ((0,) * 3, (255,) * 3, (255, 0, 0)))
    size = black.shape[-1]
    if black.shape != (3, size, size):
        raise UserError(f"images of shape {list(black.shape)}", "three channels, square", "")
    low, high, warm = (picture[:, size // 2, size // 2].double() for picture in (black, white, red))
    if not bool((high > low).all()):
        raise UserError("a processor that makes white no brighter than black", "pixels", "")
    flip_colours = bool((warm - low)[2] > (warm - low)[0])
    scale = 1 / (high - low)
    mean, std = 0.0 - low * scale, scale
    if flip_colours:
        mean, std = mean.flip(0), std.flip(0)
    resized = round(2 * _distance(process, low[1], high[1], _SIDE, 1 / 4))
    squeezed = 2 * _distance(process, low[1], high[1], 2 * _SIDE, 1 / 8) < 0.75 * resized
    notes = ["its processor squeezes pictures into a square; here the centre is cut out"] * squeezed
    preprocess = Preprocess.from_json(
        {
            "image_size": size,
            "crop_pct": min(size / max(resized, 1), 1.0),
            "interpolation": interpolation,
            "mean": [round(value, 6) for value in mean.tolist()],
            "std": [round(value, 6) for value in std.tolist()],
        }
    )
    return preprocess, flip_colours, notes


def _require_transformers(spec: str) -> None:
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{spec}: transformers is not installed",
            "models of the Hugging Face hub with the extra `hf`",
            'pip install "deit[hf]"',
        ) from error


def _load_network(spec: str, name: str) -> nn.Module:
    import transformers

    try:
        network, report = transformers.AutoModelForImageClassification.from_pretrained(
            name,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, ImportError, safetensors.SafetensorError) as error:
        raise UserError(
            f"{spec} cannot be had: {_first_line(error)}",
            "an image classifier that transformers knows, with weights in safetensors, on the hub "
            "or in a folder; code that comes with a model is not run",
            "check the name and the network connection",
        ) from error
    fresh = sorted(report["missing_keys"])
    if fresh:  # transformers would fill them with random numbers
        raise UserError(
            f"{spec} was published without weights for {', '.join(fresh[:4])}",
            "a model that was trained to classify",
            "take one that was, or adapt a network of timm: `deit teacher DATA --arch timm:NAME`",
        )
    assert isinstance(network, nn.Module)
    return network


def _find_preprocess(name: str, config: Any) -> tuple[Preprocess, bool, list[str]]:
    import transformers

    try:
        processor = transformers.AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, ImportError):
        size = getattr(config, "image_size", 224)
        note = f"{name} does not tell its preprocessing: ImageNet's at {size} pixels is assumed"
        return Preprocess.from_json({"image_size": size, "crop_pct": 1.0}), False, [note]

    def process(picture: UInt8[np.ndarray, "height width 3"]) -> Float[Tensor, "3 rows columns"]:
        seen: Tensor = processor(images=picture, return_tensors="pt")["pixel_values"][0]
        return seen.float()

    kernel = _kernel_of(processor)
    try:
        preprocess, flip_colours, notes = measure_preprocess(process, kernel or "bicubic")
    except UserError as error:
        raise UserError(
            f"{name}: {error.given}",
            "an image processor that gives square pictures of three channels",
            "take another model",
        ) from error
    if kernel is None:
        notes.append(f"{name} resizes with another kernel: bicubic is taken instead")
    return preprocess, flip_colours, notes


def _kernel_of(processor: Any) -> str | None:
    """bilinear or bicubic; None for another kernel."""
    of_timm = getattr(processor, "data_config", {}).get("interpolation")
    if of_timm is not None:
        return of_timm if of_timm in _KERNELS.values() else None
    number = getattr(processor, "resample", None)
    return _KERNELS.get(3 if number is None else int(number))


def _one_colour(colour: tuple[int, ...]) -> UInt8[np.ndarray, "height width 3"]:
    return np.full((_SIDE, _SIDE, 3), colour, np.uint8)


def _distance(
    process: Processor, low: Tensor, high: Tensor, width: int, off_centre: float
) -> float:
    """How far two edges, each so far from the centre as a share of the width, come out apart."""
    half = width // 2
    shift = round(off_centre * width)
    left, right = (_edge(process, low, high, width, at) for at in (half - shift, half + shift))
    return right - left


def _edge(process: Processor, low: Tensor, high: Tensor, width: int, at: int) -> float:
    """Where an edge at a column comes out, in pixels: a kernel keeps sums, so to a hundredth.

    Dark and light grey leave a kernel room to overshoot on both sides.
    """
    picture = np.full((_SIDE, width, 3), 64, np.uint8)
    picture[:, at:] = 192
    seen = process(picture)[1].double()
    row = (seen[len(seen) // 2] - low) / (high - low) * 255
    return float(len(row) - ((row - 64) / 128).sum())


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
