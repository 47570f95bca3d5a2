"""What identifies a model, whatever file it came from: its weights and how it computes with them.

Plain values that JSON can hold. Equal fingerprints mean equal answers on one machine.
"""

import dataclasses
import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from deit import config
from deit.errors import UserError

_BLOCK = 2**24  # bytes hashed at once
_WITHOUT_EFFECT = ("name", "pretrained", "weights_file", "drop_rate", "drop_path_rate")
"""Fields of a model's configuration that do not change what trained weights answer."""


def model_fingerprint(model: object) -> dict[str, Any]:
    """The kind of a model, its configuration and the SHA-256 of its weights.

    A model with a method ``fingerprint`` of its own tells it itself. The name within a library
    counts, since it stands for an architecture; a name that decides nothing does not.

    Raises:
        UserError: for a function, which has no weights that could be told.
    """
    own = getattr(model, "fingerprint", None)
    if own is not None:
        by_itself: dict[str, Any] = own()
        return by_itself
    if not isinstance(model, nn.Module):
        raise UserError(
            f"a fingerprint of {model!r}", "a torch module", "wrap the function in an nn.Module"
        )
    told: dict[str, Any] = {"kind": type(model).__name__, "sha256": weights_sha256(model)}
    settings = getattr(model, "config", None)
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        plain = config.to_plain(settings)
        kept = {key: value for key, value in plain.items() if key not in _WITHOUT_EFFECT}
        if plain.get("kind") == "zoo":
            kept["name"] = plain["name"]
        return told | {"config": kept}
    return told


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 over name, dtype, shape and bytes of every parameter and saved buffer, in order.

    The same on every device and in every process.
    """
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        _update(digest, tensor)
    return digest.hexdigest()


def _update(digest: Any, tensor: Tensor) -> None:
    """Feed a tensor's bytes, little-endian as on every machine that torch runs on."""
    flat = tensor.detach().reshape(-1).cpu().contiguous()
    content = flat.view(torch.uint8).numpy().data
    for start in range(0, len(content), _BLOCK):
        digest.update(content[start : start + _BLOCK])
