"""One split of a data set of Hugging Face's `datasets` as a source: its columns, labels, images.

The data set's Arrow file is mapped into memory, so what is kept here does not grow with its images.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from deit.data.class_order import sorted_classes
from deit.data.classes import ClassList, listed
from deit.data.images import BadImage, decode_image, decode_size, read_file_size, read_image_file
from deit.data.limits import MAX_PIXELS
from deit.data.names import Names, printable
from deit.errors import UserError

_COMMON_LABELS = ("label", "labels", "class", "class_name", "target", "category")
_KINDS = {"image": "Image", "label": "ClassLabel, text or whole numbers"}


@dataclass(frozen=True, slots=True, eq=False)
class HuggingFaceSource:
    """Images in one split of a data set.

    Attributes:
        dataset: the split, with its column of images only, not decoded.
        names: the name of each image.
        labels: the class of each image.
        classes: the class list that the labels index.
        max_pixels: images of more are refused.
    """

    dataset: Any
    names: Names
    labels: Int64[np.ndarray, "images"]
    classes: ClassList
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """The pixels of one image, RGB.

        Raises:
            BadImage: when it cannot be decoded.
        """
        name = self.names[index]
        return decode_image(self.read_bytes(index), name, max_pixels=self.max_pixels)

    def read_bytes(self, index: int) -> bytes:
        """The undecoded file of one image.

        Raises:
            BadImage: when it cannot be read.
        """
        name = self.names[index]
        data, path = self._cell(index, name)
        return data or read_image_file(path, name)

    def read_size(self, index: int) -> tuple[int, int]:
        """Height and width of one image, from its header.

        Raises:
            BadImage: when the header shows that it cannot be used.
        """
        name = self.names[index]
        data, path = self._cell(index, name)
        if data:
            return decode_size(data, name, max_pixels=self.max_pixels)
        return read_file_size(path, name, max_pixels=self.max_pixels)

    def _cell(self, index: int, name: str) -> tuple[bytes, str]:
        """The bytes of an image, or where they are empty the path of its file."""
        (cell,) = self.dataset[index].values()
        if not cell or not (cell["bytes"] or cell["path"]):
            raise BadImage(name, "its row holds no image")
        return cell["bytes"] or b"", cell["path"] or ""


@dataclass(frozen=True, slots=True)
class Split:
    """One split, before its columns are known.

    Attributes:
        title: how the data set is called in messages.
        name: the split's name.
        dataset: what `datasets` gives.
        folder: the folder that the set was opened from, absolute; "" for one of the Hub.
        columns: the columns that the user means, by ``image`` and ``label``.
    """

    title: str
    name: str
    dataset: Any
    folder: str
    columns: Mapping[str, str]

    def open(self) -> tuple[HuggingFaceSource, list[str]]:
        """The images, over those classes of the set that have any here, with notes.

        Raises:
            UserError: without rows, a column of images or of classes, or a class for each image.
        """
        import datasets

        if len(self.dataset) == 0:
            raise UserError(f"{self.title}: no rows in {self.name}", "an image or more", "add some")
        image = self._column("image", _images(self.dataset.features))
        label = self._column("label", _labels(self.dataset.features))
        labels, classes, bare = self._classes(label)
        only = self.dataset.with_format(None).select_columns([image])
        only = only.cast_column(image, datasets.Image(decode=False))
        notes = [
            f"{self.title}: images are in the column '{printable(image)}', their classes in "
            f"'{printable(label)}'"
        ]
        if bare:
            notes.append(
                f"{self.title}: {len(bare)} of {len(bare) + len(classes)} classes have no image in "
                f"{self.name} and are left out: {listed(bare)}"
            )
        return HuggingFaceSource(only, self._names(image), labels, classes), notes

    def _column(self, purpose: str, found: Sequence[str]) -> str:
        """The column that is meant: the one that the user names, or the only one."""
        named = self.columns.get(purpose, "")
        if named in found:
            return named
        if not named and len(found) == 1:
            return found[0]
        there = ", ".join(f"{name} ({kind})" for name, kind in self.dataset.features.items())
        given = f"{purpose}={named}" if named else f"{len(found) or 'no'} columns may be {purpose}"
        first = self.title.removeprefix("hf:").partition(",")[0]
        raise UserError(
            f"{self.title}: {printable(given)}; the columns are {printable(there)[:400]}",
            f"one of {listed(found)}" if found else f"a column of the kind {_KINDS[purpose]}",
            f"name it: hf:{first},{purpose}={printable(found[0])}" if found else "give another set",
        )

    def _values(self, column: str) -> Any:
        """One column, as pyarrow's chunked array."""
        return self.dataset.select_columns([column]).with_format("arrow")[:][column]

    def _classes(self, column: str) -> tuple[Int64[np.ndarray, "images"], ClassList, Sequence[str]]:
        """The class of every image, the classes that there are images of, and the others."""
        values = self._values(column)
        if values.null_count:
            raise UserError(
                f"{self.title}: {values.null_count} rows of {self.name} have no class",
                "a class for each image",
                f"filter them out: dataset.filter(lambda row: row['{printable(column)}'] is not "
                "None)",
            )
        feature = self.dataset.features[column]
        if _dtype(feature) in _TEXT:
            encoded = values.combine_chunks().dictionary_encode()
            texts = [text.strip() for text in encoded.dictionary.to_pylist()]
            numbers = encoded.indices.to_numpy()
            if not all(texts):
                raise UserError(
                    f"{self.title}: empty classes in {self.name}", "a name each", "correct them"
                )
        else:
            unique, numbers = np.unique(values.to_numpy().astype(np.int64), return_inverse=True)
            texts = self._named(unique, feature)
        order = tuple(getattr(feature, "names", ())) or sorted_classes(texts)
        classes = ClassList(tuple(name for name in order if name in set(texts)))
        places = np.array([classes.index(text) for text in texts], dtype=np.int64)
        return places[numbers], classes, [name for name in order if name not in classes]

    def _named(self, numbers: Int64[np.ndarray, "numbers"], feature: Any) -> list[str]:
        """The names of classes by number; the numbers themselves where there is no list."""
        names = getattr(feature, "names", None)
        most = len(names) - 1 if names else np.iinfo(np.int64).max
        strays = numbers[(numbers < 0) | (numbers > most)]
        if len(strays):
            raise UserError(
                f"{self.title}: classes out of range in {self.name}: {listed(map(str, strays))}",
                f"0 to {most}; -1 marks images without a class" if names else "0 or more",
                f"use a split with classes, or remove {self.name} from the set",
            )
        return [names[number] if names else str(number) for number in numbers.tolist()]

    def _names(self, image: str) -> Names:
        """Paths below the folder where all are; else split and row: ``train/000012``."""
        inside = f"{self.folder}{os.sep}"
        if self.folder:
            import pyarrow.compute

            paths = pyarrow.compute.struct_field(self._values(image), "path").to_pylist()
            if all(path and path.startswith(inside) for path in paths):
                return Names.of(path.removeprefix(inside) for path in paths)
        return Names.of(f"{self.name}/{row:06d}" for row in range(len(self.dataset)))


def _images(features: Mapping[str, Any]) -> list[str]:
    return [name for name, feature in features.items() if type(feature).__name__ == "Image"]


def _labels(features: Mapping[str, Any]) -> list[str]:
    """Columns that may be the class: by a list of names, else by their own name, else by kind.

    One that is called ``label`` goes before all others.
    """
    named = [name for name, feature in features.items() if hasattr(feature, "names")]
    plain = [name for name, feature in features.items() if _dtype(feature) in (*_TEXT, *_INTEGERS)]
    common = [name for name in plain if name.lower() in _COMMON_LABELS]
    found = named or common or plain
    return ["label"] if "label" in found else found


_TEXT = ("string", "large_string")
_INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))


def _dtype(feature: Any) -> str:
    return str(getattr(feature, "dtype", ""))
