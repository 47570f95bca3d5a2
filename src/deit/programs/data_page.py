"""`deit data stats --html`: figures, plots and some images of a data set on one page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deit.data.dataset import DataSet
from deit.data.images import BadImage
from deit.data.names import printable, stable_hash
from deit.report.data_page import Example, write_data_page
from deit.report.gallery import embed_picture

MOST_EXAMPLES = 48
"""Images on the page, as many of each class as that allows, up to the next number."""

MOST_OF_A_CLASS = 8


def write_statistics(path: Path, title: str, data: DataSet, described: Mapping[str, Any]) -> Path:
    """Write the page.

    Args:
        path: the HTML file.
        title: how the data are called.
        data: where the images are.
        described: what `deit.data.statistics.describe` said of them.

    Raises:
        UserError: when the place cannot be written.
    """
    return write_data_page(path, printable(title), described, _examples(data))


def _examples(data: DataSet) -> list[Example]:
    """Training images, class by class: those of the lowest hashes, the same in every run."""
    labels, names = data.train.labels, data.classes.names
    shown = np.unique(labels)[:MOST_EXAMPLES]
    each = min(max(MOST_EXAMPLES // len(shown), 1), MOST_OF_A_CLASS)
    examples = []
    for label in shown.tolist():
        places = np.flatnonzero(labels == label)
        hashes = stable_hash([data.train.names[place] for place in places.tolist()], "examples")
        for place in places[np.argsort(hashes, kind="stable")][:each].tolist():
            try:
                image, small = embed_picture(data.train.read(place))
            except BadImage:
                continue
            name = printable(data.train.names[place])
            examples.append(Example(printable(names[label]), name, image, small))
    return examples
