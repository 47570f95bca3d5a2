"""Check a data set: open it, read every image, say what is wrong and what is worth a look."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from deit.data.class_findings import class_findings
from deit.data.duplicate_findings import SMALLEST_SIDE, duplicate_findings, too_small
from deit.data.duplicates import NEAR
from deit.data.findings import (
    SCHEMA,
    Finding,
    Item,
    Severity,
    has_errors,
    in_order,
    plain_findings,
)
from deit.data.image_findings import image_findings, usable
from deit.data.lenient import open_leniently
from deit.data.limits import MAX_PIXELS
from deit.data.names import printable
from deit.data.prepared import is_prepared
from deit.data.survey import Survey, survey
from deit.data.threads import Progress
from deit.errors import UserError
from deit.recipes.book import get_recipe
from deit.recipes.small import DataFacts

BAD = ("unusable", "too-large")
"""The findings of images that cannot be used, each with its reason."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found.

    Attributes:
        source: the DATA that was checked.
        images: images of each split.
        classes: classes of all splits.
        image_size: side of the model's input that sizes were compared with, pixels.
        notes: what was decided when the data were opened.
        findings: errors first.
    """

    source: str
    images: Mapping[str, int]
    classes: Sequence[str]
    image_size: int
    notes: Sequence[str]
    findings: Sequence[Finding]

    @property
    def failed(self) -> bool:
        """Whether anything would stop training or make it go wrong."""
        return has_errors(self.findings)

    def count_kinds(self) -> dict[Severity, int]:
        """How many kinds of findings there are of each severity."""
        severities = [finding.about.severity for finding in self.findings]
        return {severity: severities.count(severity) for severity in get_args(Severity)}

    def plain(self) -> dict[str, Any]:
        """Everything as plain values for JSON; docs/checking_data.md describes the fields."""
        kinds = self.count_kinds()
        return {
            "schema": SCHEMA,
            "data": printable(self.source),
            "images": dict(self.images),
            "classes": [printable(name) for name in self.classes],
            "image_size": self.image_size,
            "notes": list(self.notes),
            "errors": kinds["error"],
            "warnings": kinds["warning"],
            "bad_images": [
                {"name": printable(item.images[0].name), "reason": item.values["reason"]}
                for finding in self.findings
                if finding.kind in BAD
                for item in finding.items
            ],
            "findings": plain_findings(self.findings),
        }


def check_data(
    source: str,
    *,
    near: int = NEAR,
    image_size: int | None = None,
    max_pixels: int = MAX_PIXELS,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Checked:
    """Read all of a data set and report everything that is to be said about it.

    Args:
        source: the DATA of the command line.
        near: bits in which hashes of near duplicates may differ; 0 looks for equal images only.
        image_size: side of the model's input, pixels; by default the size that recipe ``folder``
            chooses for these data.
        max_pixels: as in `open_data`.
        threads: how many read at once; by default one per core.
        progress: told after every few images.

    Raises:
        UserError: where there are no data of that name; whatever is wrong with them is a finding.
    """
    opened = open_leniently(source, max_pixels=max_pixels)
    findings = [Finding("refused", [_refusal(error) for error in opened.refusals])]
    images: dict[str, int] = {}
    classes: Sequence[str] = ()
    notes = list(opened.notes)
    if opened.splits:
        surveyed = survey(opened.splits, threads=threads, progress=progress)
        image_size = image_size or _input_size(surveyed, source)
        images = {split: len(images_of) for split, images_of in opened.splits.items()}
        classes = surveyed.classes.names
        counts = {split: surveyed.counts(split) for split in opened.splits}
        of_images = image_findings(surveyed, image_size)
        if is_prepared(source):  # names are those of the originals, endings too
            of_images = [finding for finding in of_images if finding.kind != "wrong-suffix"]
        findings += of_images
        findings += duplicate_findings(surveyed, near)
        if near and (small := int(too_small(surveyed).sum())):
            notes.append(
                f"{small:,} images with a side below {SMALLEST_SIDE} px are compared for equality "
                "only, not for likeness"
            )
        findings += class_findings(surveyed.classes, counts)
    return Checked(source, images, classes, image_size or 0, notes, in_order(findings))


def _input_size(surveyed: Survey, source: str) -> int:
    """The image size that recipe ``folder`` has for these data."""
    if source == "digits":
        return get_recipe("digits").model.img_size
    facts = surveyed.facts[usable(surveyed)]
    sides = np.minimum(facts["height"], facts["width"]).tolist()
    told = DataFacts(
        num_images=int((surveyed.splits == 0).sum()),
        num_classes=len(surveyed.classes),
        image_size=statistics.median_low(sides or [1]),
    )
    return get_recipe("folder", told).model.img_size


def _refusal(error: UserError) -> Item:
    return Item(values={"given": error.given, "allowed": error.allowed, "todo": error.todo})
