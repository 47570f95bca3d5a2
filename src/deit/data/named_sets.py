"""Data sets that go by a name: scikit-learn's digits, and torchvision's.

A set of torchvision's is read from a cache folder and fetched there once where there is a network.
Only its labels, class names and pixels or file paths are taken from torchvision; images in files
are decoded by this library, like any other image.
"""

import os
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deit.data.cache import cache_folder
from deit.data.classes import ClassList
from deit.data.dataset import ArraySource, Source, set_aside
from deit.data.folder import FileSource
from deit.data.names import Names, printable
from deit.errors import UserError, did_you_mean

PROBE_SECONDS = 5.0
"""How long a set's server may take to answer at all before the network counts as absent."""

STALLED_SECONDS = 60.0
"""How long a download may stand still before it is given up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedSet:
    """How one of torchvision's sets is asked for, and where its labels and images are."""

    kind: Literal["arrays", "files"]
    """``arrays``: pixels in ``data``; ``files``: one file per image."""

    train: tuple[Mapping[str, Any], ...]
    """Arguments of the parts that make the training split."""

    val: tuple[Mapping[str, Any], ...] = ()
    """Arguments of the parts that make the validation split; none where the set has no split."""

    site: str
    """The server that it is fetched from."""


_TRAIN_FLAG = {"train": ({"train": True},), "val": ({"train": False},)}
_TRAIN_TEST = {"train": ({"split": "train"},), "val": ({"split": "test"},)}
_TRAINVAL_TEST = {"train": ({"split": "trainval"},), "val": ({"split": "test"},)}
_THREE_PARTS = {
    "train": ({"split": "train"}, {"split": "val"}),
    "val": ({"split": "test"},),
}
_THREE_PARTS_VALID = {
    "train": ({"split": "train"}, {"split": "valid"}),
    "val": ({"split": "test"},),
}
_TRAIN_VAL = {"train": ({"split": "train"},), "val": ({"split": "val"},)}
_OXFORD = "https://www.robots.ox.ac.uk"
_TORONTO = "https://www.cs.toronto.edu"
_OPENAI = "https://openaipublic.azureedge.net"

NAMED_SETS: dict[str, NamedSet] = {
    "CIFAR10": NamedSet(kind="arrays", site=_TORONTO, **_TRAIN_FLAG),
    "CIFAR100": NamedSet(kind="arrays", site=_TORONTO, **_TRAIN_FLAG),
    "MNIST": NamedSet(kind="arrays", site="https://ossci-datasets.s3.amazonaws.com", **_TRAIN_FLAG),
    "FashionMNIST": NamedSet(
        kind="arrays",
        site="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        **_TRAIN_FLAG,
    ),
    "KMNIST": NamedSet(kind="arrays", site="http://codh.rois.ac.jp", **_TRAIN_FLAG),
    "USPS": NamedSet(kind="arrays", site="https://www.csie.ntu.edu.tw", **_TRAIN_FLAG),
    "SVHN": NamedSet(kind="arrays", site="http://ufldl.stanford.edu", **_TRAIN_TEST),
    "STL10": NamedSet(kind="arrays", site="http://ai.stanford.edu", **_TRAIN_TEST),
    "Flowers102": NamedSet(kind="files", site=_OXFORD, **_THREE_PARTS),
    "DTD": NamedSet(kind="files", site=_OXFORD, **_THREE_PARTS),
    "OxfordIIITPet": NamedSet(kind="files", site=_OXFORD, **_TRAINVAL_TEST),
    "FGVCAircraft": NamedSet(kind="files", site=_OXFORD, **_TRAINVAL_TEST),
    "Food101": NamedSet(kind="files", site="http://data.vision.ee.ethz.ch", **_TRAIN_TEST),
    "StanfordCars": NamedSet(kind="files", site="https://ai.stanford.edu", **_TRAIN_TEST),
    "GTSRB": NamedSet(kind="files", site="https://sid.erda.dk", **_TRAIN_TEST),
    "Country211": NamedSet(kind="files", site=_OPENAI, **_THREE_PARTS_VALID),
    "RenderedSST2": NamedSet(kind="files", site=_OPENAI, **_THREE_PARTS),
    "Imagenette": NamedSet(kind="files", site="https://s3.amazonaws.com", **_TRAIN_VAL),
    "EuroSAT": NamedSet(kind="files", site="https://huggingface.co", train=({},)),
}
"""The sets that can be named as ``torchvision:NAME``. Where a set has three parts, its own training
and validation parts together are trained on, as is usual in transfer results."""

_UNNAMED = {"GTSRB": 43, "SVHN": 10, "USPS": 10}
"""How many classes those sets have that do not name them: they are called by their numbers."""

Opened = tuple[Source, Source | None, list[str]]
"""Training images, validation images where the set has any, notes."""


def open_digits() -> Opened:
    """scikit-learn's handwritten digits: 1,797 real images of 8 x 8 pixels in ten classes.

    They ship with scikit-learn. The grey values, 0 to 16, are scaled to 0 to 255. A fifth of each
    class is set aside by a stable hash: 359 images, twice a tenth, because every image of so few
    counts for a third of a percent.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    source = ArraySource(
        images,
        digits.target.astype(np.int64),
        ClassList(tuple("0123456789")),
        [f"{index:04d}" for index in range(len(images))],
    )
    train, val = set_aside(source, one_in=5)
    return (
        train,
        val,
        [f"digits: a fifth of each class, {len(val)} images, is set aside to measure on"],
    )


def open_torchvision(name: str, cache: Path | None = None) -> Opened:
    """One of `NAMED_SETS`, fetched first where it is not in the cache yet.

    Args:
        name: its name in torchvision, in any case of letters.
        cache: the folder to read from and download to; by default `default_cache`.

    Raises:
        UserError: for a name that is not known, or a set that is neither there nor can be fetched.
    """
    known = {known.lower(): known for known in NAMED_SETS}
    if name.lower() not in known:
        raise UserError(
            f"torchvision:{printable(name)}",
            ", ".join(f"torchvision:{known}" for known in NAMED_SETS),
            did_you_mean(name, NAMED_SETS) or "use one of these, or a folder of images",
        )
    name = known[name.lower()]
    entry = NAMED_SETS[name]
    root = cache or default_cache()
    train = [_load(name, entry.site, part, root) for part in entry.train]
    val = [_load(name, entry.site, part, root) for part in entry.val]
    classes = _class_list(train[0], name)
    notes = [f"torchvision:{name} is read from {printable(str(root))}"]
    if entry.kind == "arrays":
        train_images = _array_source(train[0], classes, "train")
        return train_images, _array_source(val[0], classes, "val"), notes
    val_images = _file_source(val, classes, root, name) if val else None
    return _file_source(train, classes, root, name), val_images, notes


def default_cache() -> Path:
    """``$DEIT_CACHE/torchvision``; without that variable, in the user's cache folder."""
    return cache_folder() / "torchvision"


def _class_list(dataset: Any, name: str) -> ClassList:
    """The set's class names; of several names of one class, as Imagenette has them, the first."""
    if name in _UNNAMED:
        return ClassList(tuple(map(str, range(_UNNAMED[name]))))
    return ClassList(tuple(each if isinstance(each, str) else each[0] for each in dataset.classes))


def _array_source(dataset: Any, classes: ClassList, split: str) -> ArraySource:
    """A set that holds its pixels: grey, or colour with the channels first or last."""
    images = np.asarray(dataset.data)
    if images.ndim == 4 and images.shape[-1] != 3:
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    labels = dataset.targets if hasattr(dataset, "targets") else dataset.labels
    names = [f"{split}/{index:06d}" for index in range(len(images))]
    return ArraySource(images, np.asarray(labels, dtype=np.int64), classes, names)


def _file_source(parts: list[Any], classes: ClassList, root: Path, name: str) -> FileSource:
    """A split of files, of one part or several.

    torchvision makes a class list for each part, of the classes that it finds in it: labels are
    translated by name.
    """
    pairs: list[tuple[str, int]] = []
    for part in parts:
        index = classes.map_from(_class_list(part, name), complete=False)
        pairs += [(path, int(index[label])) for path, label in _paths_and_labels(part)]
    return FileSource(
        os.path.abspath(root),
        Names.of(Path(path).relative_to(root).as_posix() for path, _ in pairs),
        np.array([label for _, label in pairs], dtype=np.int64),
        classes,
    )


def _paths_and_labels(dataset: Any) -> Iterator[tuple[str, int]]:
    if not hasattr(dataset, "loader"):  # these open their files themselves: GTSRB, OxfordIIITPet
        pairs = getattr(dataset, "_samples", None)
        yield from pairs or zip(dataset._images, dataset._labels, strict=True)
        return
    dataset.loader = _path_itself
    for index in range(len(dataset)):
        yield dataset[index]


def _path_itself(path: str | Path) -> str:
    """What torchvision gets as an image: nothing is decoded while the set is listed."""
    return str(path)


def _load(name: str, site: str, part: Mapping[str, Any], root: Path) -> Any:
    """One part of a set from the cache, fetched first if need be."""
    import torchvision.datasets

    build = getattr(torchvision.datasets, name)
    try:
        return build(str(root), download=False, **part)
    except (RuntimeError, OSError):  # not there, or not whole
        pass
    allowed = "a set in the cache folder, or a network to fetch it from"
    todo = f"fetch it on a machine with a network and copy it to {printable(str(root))}"
    if not answers(site, PROBE_SECONDS):
        raise UserError(
            f"torchvision:{name} is not in {printable(str(root))} and {site} cannot be reached",
            allowed,
            todo,
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _stalling_ends(STALLED_SECONDS):
            return build(str(root), download=True, **part)
    except (RuntimeError, OSError, ValueError, urllib.error.URLError) as error:
        raise UserError(
            f"torchvision:{name} could not be fetched: {printable(str(error))}", allowed, todo
        ) from error


def answers(site: str, seconds: float) -> bool:
    """Whether a server answers at all, whatever it says, through a proxy if one is set.

    The look-up of a name has no time limit of its own, so it runs beside, in a thread.
    """
    reached = threading.Event()

    def ask() -> None:
        request = urllib.request.Request(site, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=seconds).close()
        except urllib.error.HTTPError:
            pass  # an answer
        except OSError:
            return
        reached.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return reached.is_set()


@contextmanager
def _stalling_ends(seconds: float) -> Iterator[None]:
    """A time limit for connections that give none of their own, as torchvision's downloads."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
