"""The pictures a run keeps: augmented training views, and its most confident mistakes.

They lie in ``RUN/gallery`` with ``gallery.json``, so that a report needs neither the data nor the
teacher. Small images are kept pixel for pixel (PNG), larger ones as thumbnails (JPEG).
"""

import base64
import contextlib
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

MAX_VIEWS = 24
"""How many views a run keeps."""
MAX_MISTAKES = 24
"""How many mistakes a run keeps."""

_EXACT_SIZE = 96  # up to this length of the longer side, every pixel is kept
_THUMBNAIL_SIZE = 224
_LEAST_WEIGHT = 0.06  # below it, a label only has its share of the label smoothing
_TYPES = {".png": "image/png", ".jpg": "image/jpeg"}

Entry = TypeVar("Entry")


@dataclass(frozen=True, slots=True)
class View:
    """An augmented, perhaps mixed, training image as the student saw it.

    Attributes:
        targets: true classes with their weights, the heaviest first.
        teacher: the class that the teacher sees in it; None without a teacher.
        image: the picture as a data URI; empty while it is written.
        small: whether the picture is to be shown enlarged, pixel by pixel.
    """

    targets: tuple[tuple[str, float], ...]
    teacher: str | None
    image: str = ""
    small: bool = False

    @property
    def disagrees(self) -> bool:
        """Whether the teacher sees a class that is none of the true ones."""
        return self.teacher is not None and self.teacher not in dict(self.targets)


@dataclass(frozen=True, slots=True)
class Mistake:
    """A validation image that the model took for something else.

    Attributes:
        name: the file's name.
        label: the true class.
        predicted: the model's class.
        confidence: probability that the model gave to its class.
        image: the picture as a data URI; empty while it is written.
        small: whether the picture is to be shown enlarged, pixel by pixel.
    """

    name: str
    label: str
    predicted: str
    confidence: float
    image: str = ""
    small: bool = False


@dataclass(frozen=True, slots=True)
class Gallery:
    """What `load_gallery` found; both empty where a run keeps no pictures."""

    views: tuple[View, ...] = ()
    mistakes: tuple[Mistake, ...] = ()


def save_views(
    run: Path,
    images: UInt8[np.ndarray, "views height width 3"],
    targets: Sequence[Sequence[tuple[str, float]]],
    teacher: Sequence[str] | None = None,
) -> None:
    """Keep the first `MAX_VIEWS` augmented views of a run.

    Args:
        run: the run's folder.
        images: the views after augmentation and mixing, RGB.
        targets: for each view its classes and weights, see `heaviest_targets`.
        teacher: for each view the teacher's class, or None without a teacher.

    Raises:
        ValueError: when the three are not of one length.
    """
    answers = [None] * len(images) if teacher is None else list(teacher)
    views = [
        View(tuple((name, float(weight)) for name, weight in row), answer)
        for _, row, answer in zip(images, targets, answers, strict=True)
    ]
    _save(run, "views", list(images[:MAX_VIEWS]), views[:MAX_VIEWS])


def save_mistakes(
    run: Path,
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    entries: Sequence[Mistake],
) -> None:
    """Keep the first `MAX_MISTAKES` mistakes of a run; the images may differ in size.

    Raises:
        ValueError: when the two are not of one length.
    """
    pairs = list(zip(images, entries, strict=True))[:MAX_MISTAKES]
    _save(run, "mistakes", [image for image, _ in pairs], [entry for _, entry in pairs])


def heaviest_targets(
    targets: Float[np.ndarray, "views classes"], names: Sequence[str]
) -> list[list[tuple[str, float]]]:
    """The true classes in rows of target weights, the heaviest first.

    Weights below 6 %, which label smoothing gives to every class, are left out; the heaviest class
    of a row always stays.

    >>> heaviest_targets(np.array([[0.03, 0.36, 0.61]]), ["ant", "bee", "cat"])
    [[('cat', 0.61), ('bee', 0.36)]]
    """
    rows = []
    for row in targets:
        order = np.argsort(-row, kind="stable")
        kept = [index for index in order if row[index] >= _LEAST_WEIGHT] or [order[0]]
        rows.append([(names[index], float(row[index])) for index in kept])
    return rows


def confident_mistakes(
    right: Bool[np.ndarray, "images"],
    confidence: Float[np.ndarray, "images"],
    limit: int = MAX_MISTAKES,
) -> Int[np.ndarray, "mistakes"]:
    """Indices of the wrongly decided images, the most confident decision first."""
    wrong = np.flatnonzero(~right)
    return wrong[np.argsort(-confidence[wrong], kind="stable")][:limit]


def embed_picture(image: UInt8[np.ndarray, "_ _ 3"]) -> tuple[str, bool]:
    """An image as data URI for a page, and whether it is a small one; see `View`."""
    suffix, content = _encode(image)
    return _data_uri(suffix, content), suffix == ".png"


def load_gallery(run: Path) -> Gallery:
    """What a run keeps; entries and pictures that are missing or broken are left out."""
    folder = run / "gallery"
    index = _read_index(folder)
    return Gallery(
        tuple(_whole_entries(_load_view, folder, index.get("views"))),
        tuple(_whole_entries(_load_mistake, folder, index.get("mistakes"))),
    )


def _save(
    run: Path,
    kind: str,
    images: list[UInt8[np.ndarray, "_ _ 3"]],
    entries: Sequence[View | Mistake],
) -> None:
    """Write the pictures of one kind and put their entries into the index."""
    folder = run / "gallery"
    folder.mkdir(exist_ok=True)
    for old in folder.glob(f"{kind}-*"):
        old.unlink()
    plain = []
    for number, (image, entry) in enumerate(zip(images, entries, strict=True)):
        suffix, data = _encode(image)
        name = f"{kind}-{number:03d}{suffix}"
        (folder / name).write_bytes(data)
        fields = {
            key: value for key, value in asdict(entry).items() if key not in ("image", "small")
        }
        plain.append({"file": name, **fields})
    temporary = folder / ".gallery.json.tmp"
    temporary.write_text(
        json.dumps(_read_index(folder) | {kind: plain}, indent=1), encoding="utf-8"
    )
    os.replace(temporary, folder / "gallery.json")


def _encode(image: UInt8[np.ndarray, "_ _ 3"]) -> tuple[str, bytes]:
    """File suffix and bytes: a small image exactly, a larger one as a thumbnail."""
    picture = Image.fromarray(image)
    buffer = io.BytesIO()
    if max(picture.size) <= _EXACT_SIZE:
        picture.save(buffer, "png", optimize=True)
        return ".png", buffer.getvalue()
    picture.thumbnail((_THUMBNAIL_SIZE, _THUMBNAIL_SIZE))
    picture.save(buffer, "jpeg", quality=88)
    return ".jpg", buffer.getvalue()


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        plain = json.loads((folder / "gallery.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return plain if isinstance(plain, dict) else {}


def _whole_entries(
    load: Callable[[Path, dict[str, Any]], Entry], folder: Path, entries: Any
) -> Iterator[Entry]:
    for entry in entries if isinstance(entries, list) else []:
        with contextlib.suppress(OSError, KeyError, TypeError, ValueError):
            yield load(folder, entry)


def _load_view(folder: Path, entry: dict[str, Any]) -> View:
    targets = tuple((str(name), float(weight)) for name, weight in entry["targets"])
    teacher = None if entry["teacher"] is None else str(entry["teacher"])
    return View(targets, teacher, *_load_picture(folder, entry["file"]))


def _load_mistake(folder: Path, entry: dict[str, Any]) -> Mistake:
    name, label, predicted = (str(entry[key]) for key in ("name", "label", "predicted"))
    picture = _load_picture(folder, entry["file"])
    return Mistake(name, label, predicted, float(entry["confidence"]), *picture)


def _load_picture(folder: Path, name: str) -> tuple[str, bool]:
    """A picture of the gallery's own folder as data URI, and whether it is a small one."""
    path = folder / Path(name).name
    return _data_uri(path.suffix, path.read_bytes()), path.suffix == ".png"


def _data_uri(suffix: str, content: bytes) -> str:
    return f"data:{_TYPES[suffix]};base64,{base64.b64encode(content).decode('ascii')}"
