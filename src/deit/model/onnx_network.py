"""A model that someone exported to ONNX, run by onnxruntime behind the interface of ours."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from deit.errors import UserError
from deit.tensors import TwoHeads

METADATA_KEY = "deit"
"""Entry of an ONNX file's metadata that holds, as JSON, its classes and its preprocessing."""


class OnnxNetwork(nn.Module):
    """Images to logits, computed by onnxruntime on the CPU, whatever device the images are on.

    The file must be whole in itself (no external data), take float32 images
    ``[batch, channels, size, size]`` of any batch size, and give logits ``[batch, classes]``. Of
    several outputs, the one called ``logits`` counts.

    Args:
        path: the ONNX file.

    Attributes:
        channels: of the images, 1 or 3.
        image_size: side of the images in pixels, or None where the file leaves it open.
        num_classes: number of logits.
        metadata: what the file's metadata holds under `METADATA_KEY`.

    Raises:
        UserError: when onnxruntime is not installed, or the file is not as above.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._session = _open_session(path)
        with path.open("rb") as file:
            self._sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        self._input = _the_input(self._session, path)
        self._output = _the_output(self._session, path)
        self.channels, self.image_size = _image_shape(self._input.shape, path)
        self.metadata = _read_metadata(self._session, path)
        self.num_classes = self._count_classes()

    def forward(
        self, images: Float[Tensor, "batch channels height width"], keep: None = None
    ) -> TwoHeads:
        """The logits of its one head; ``keep`` is there for the common signature and stays None."""
        array = images.detach().to("cpu", torch.float32).contiguous().numpy()
        (logits,) = self._session.run([self._output.name], {self._input.name: array})
        return TwoHeads(torch.from_numpy(logits).to(images.device))

    def fingerprint(self) -> dict[str, str]:
        """The SHA-256 of the file: weights and computation in one."""
        return {"kind": "onnx", "sha256": self._sha256}

    def _count_classes(self) -> int:
        """Ask it about two black images: the answer shows how many classes it has."""
        side = self.image_size or 224
        images = np.zeros((2, self.channels, side, side), np.float32)
        try:
            (logits,) = self._session.run([self._output.name], {self._input.name: images})
        except Exception as error:  # onnxruntime's errors share no base class but this
            raise _unfit(self.path, f"fails on two black images: {error}") from error
        if logits.ndim != 2 or len(logits) != 2 or logits.dtype != np.float32:
            raise _unfit(self.path, f"gives {logits.dtype} of shape {list(logits.shape)}")
        return int(logits.shape[1])


def _open_session(path: Path) -> Any:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"{path}: {error.name} is not installed",
            "ONNX files with the extra `export`",
            'pip install "deit[export]"',
        ) from error
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own errors, and whatever a hostile file provokes
        raise UserError(f"{path} is no ONNX file: {error}", "", "check the path") from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(proto)):
        raise UserError(
            f"{path} keeps weights outside of itself",
            "one file: a path inside a model file could point anywhere",
            "save it again with onnx.save(model, FILE, save_as_external_data=False)",
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    # Threads that wait by spinning would take the cores from torch.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class but this
        raise _unfit(path, f"cannot be run by onnxruntime: {error}") from error


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor of an ONNX file: weights, constants, those of subgraphs and functions."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                yield from _tensors(part)


def _the_input(session: Any, path: Path) -> Any:
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise _unfit(path, f"takes {len(inputs)} inputs")
    if inputs[0].type != "tensor(float)":
        raise _unfit(path, f"takes {inputs[0].type}")
    return inputs[0]


def _the_output(session: Any, path: Path) -> Any:
    outputs = session.get_outputs()
    named = [output for output in outputs if output.name == "logits"]
    if len(outputs) != 1 and not named:
        names = ", ".join(output.name for output in outputs)
        raise _unfit(path, f"gives several outputs, none called logits: {names}")
    return (named or outputs)[0]


def _image_shape(shape: list[Any], path: Path) -> tuple[int, int | None]:
    """Channels and size; onnxruntime gives a name or None for a dimension that is left open."""
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise _unfit(path, f"takes images of shape {shape}")
    if isinstance(shape[0], int):
        raise _unfit(path, f"takes exactly {shape[0]} images at a time")
    height, width = (side if isinstance(side, int) else None for side in shape[2:])
    if height != width:
        raise _unfit(path, f"takes images of {height} x {width} pixels")
    return shape[1], height


def _read_metadata(session: Any, path: Path) -> dict[str, Any]:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY, "{}")
    try:
        metadata = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: its metadata {METADATA_KEY!r} is no JSON: {error}") from error
    if not isinstance(metadata, dict):
        raise UserError(f"{path}: its metadata {METADATA_KEY!r} is no mapping")
    return metadata


def _unfit(path: Path, what: str) -> UserError:
    return UserError(
        f"{path} {what}",
        "float32 images [batch, 1 or 3, size, size] of any batch size to logits [batch, classes]",
        "export it again with a dynamic batch and one output called logits",
    )
