"""What a check of a data set finds: kinds, severities, and the form in which programs read them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from deit.data.names import printable

Severity = Literal["error", "warning", "info"]

SCHEMA = 1
"""Counts up when a field of the JSON changes its meaning or goes; new kinds and fields may come."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of finding.

    Attributes:
        severity: ``error`` stops training or makes what it learns or measures wrong; ``warning`` is
            worth a look; ``info`` is worth knowing.
        title: what was found, in a few words.
        unit: what is counted; ``groups`` are of images, or of classes, that belong together.
        todo: what to do about it; empty where there is nothing to do.
    """

    severity: Severity
    title: str
    unit: Literal["images", "classes", "groups", "problems"]
    todo: str = ""


KINDS: Mapping[str, Kind] = {
    "refused": Kind("error", "training refuses these data", "problems"),
    "unusable": Kind(
        "error",
        "cannot be decoded",
        "images",
        "replace or remove them, or train without them: data.bad_images=leave-out",
    ),
    "too-large": Kind(
        "error",
        "too many pixels to be read",
        "images",
        "raise data.max_pixels, or shrink them: `deit data prepare --max-pixels N`",
    ),
    "unknown-class": Kind(
        "error",
        "class in val that train lacks",
        "classes",
        "rename, move or remove it: train and val need the same class names",
    ),
    "empty-class": Kind(
        "error", "class without a training image", "classes", "add images, or remove the folder"
    ),
    "duplicate-labels": Kind(
        "error",
        "the same image with different labels",
        "groups",
        "look, and keep it in the right class only",
    ),
    "duplicate-splits": Kind(
        "error",
        "the same image in train and val",
        "groups",
        "remove it from one of them: accuracy on images that were trained on says nothing",
    ),
    "duplicate": Kind(
        "warning", "the same image several times", "groups", "keep one, unless it should weigh more"
    ),
    "near-labels": Kind(
        "warning", "near duplicates with different labels", "groups", "look which label is right"
    ),
    "near-splits": Kind(
        "warning",
        "near duplicates in train and val",
        "groups",
        "look; put pictures of one scene into one split, or accuracy is flattered",
    ),
    "near": Kind("warning", "near duplicates", "groups", "look; keep one of each, or all"),
    "unmeasured-class": Kind(
        "warning", "class without a validation image", "classes", "add some, or it is not measured"
    ),
    "alike-names": Kind(
        "warning", "class names nearly alike", "groups", "merge them if they mean the same"
    ),
    "few-images": Kind(
        "warning", "class with few training images", "classes", "add images, or merge classes"
    ),
    "imbalance": Kind(
        "warning",
        "classes of very different size",
        "classes",
        "judge by accuracy per class; add images to the small ones",
    ),
    "constant": Kind("warning", "all one colour", "images", "remove them, or fetch them again"),
    "tiny": Kind(
        "warning",
        "much smaller than the model's input",
        "images",
        "look whether they are thumbnails",
    ),
    "stretched": Kind(
        "warning", "very long or very wide", "images", "crop them: a view shows a small part only"
    ),
    "wrong-suffix": Kind(
        "warning",
        "content of another format than the ending says",
        "images",
        "rename them: deit goes by the content, other programs by the ending",
    ),
    "oversized": Kind(
        "warning",
        "much larger than the model's input",
        "images",
        "`deit data prepare` shrinks them once, which makes every epoch faster",
    ),
    "odd-colour": Kind("info", "grey among colour images, or the reverse", "images"),
    "transparent": Kind("info", "with transparency: shown on white", "images"),
    "turned": Kind("info", "with an EXIF orientation: shown upright", "images"),
    "cmyk": Kind("info", "in CMYK: shown without its colour profile", "images"),
    "animated": Kind("info", "with several frames or pages: the first is used", "images"),
}
"""All kinds, in the order in which they are reported: errors, warnings, infos."""


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image of a data set: its split, its class and its name."""

    split: str
    label: str
    name: str


@dataclass(frozen=True, slots=True)
class Item:
    """One of the things that a finding counts.

    Attributes:
        images: the image, or those that belong together.
        classes: the class, or the classes that belong together; none where ``images`` say it.
        values: more about it: whole numbers and words.
    """

    images: tuple[ImageRef, ...] = ()
    classes: tuple[str, ...] = ()
    values: Mapping[str, int | str | Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """Everything of one kind.

    Attributes:
        kind: one of `KINDS`.
        items: what was found, in the order of the data.
        note: what the numbers behind it are: a threshold, for example.
    """

    kind: str
    items: Sequence[Item]
    note: str = ""

    @property
    def about(self) -> Kind:
        """Severity, words and unit of its kind."""
        return KINDS[self.kind]


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Those with an item, in the order of `KINDS`."""
    places = {kind: place for place, kind in enumerate(KINDS)}
    return sorted(
        (finding for finding in findings if finding.items), key=lambda found: places[found.kind]
    )


def has_errors(findings: Iterable[Finding]) -> bool:
    """Whether any of them is an error."""
    return any(finding.about.severity == "error" for finding in findings)


def plain_findings(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Findings as plain values for JSON: every item in full."""
    return [
        {
            "kind": finding.kind,
            "severity": finding.about.severity,
            "title": finding.about.title,
            "unit": finding.about.unit,
            "count": len(finding.items),
            "note": finding.note,
            "todo": finding.about.todo,
            "items": [_plain_item(item) for item in finding.items],
        }
        for finding in findings
    ]


def _plain_item(item: Item) -> dict[str, Any]:
    """Names as people can read them: bytes that are no UTF-8 are escaped."""
    plain: dict[str, Any] = {}
    if item.images:
        plain["images"] = [
            {
                "split": image.split,
                "class": printable(image.label),
                "name": printable(image.name),
            }
            for image in item.images
        ]
    if item.classes:
        plain["classes"] = [printable(name) for name in item.classes]
    return plain | dict(item.values)
