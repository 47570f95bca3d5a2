"""What an audit is written as: a page with pictures, CSV with every image, JSON with the lists."""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from deit.data.images import BadImage
from deit.data.names import printable
from deit.errors import UserError
from deit.measuring.audit import NO_CLASS, label_counts
from deit.measuring.crops import MIN_VIEWS
from deit.programs.audit import Audit
from deit.report.audit_page import ConfusedClasses, LostObject, Suspect, write_audit_page
from deit.report.gallery import embed_picture
from deit.report.page import number, percent
from deit.report.run_report import MAX_MATRIX

COLUMNS = ("name", "label", "suggested", "score", "views", "agreement")


def suspects(audit: Audit, top: int) -> list[Suspect]:
    """The first of the ranking that have a suggestion, without pictures."""
    evidence = audit.labels
    ranking = evidence.ranking()
    ranking = ranking[evidence.suggested[ranking] != NO_CLASS][:top]
    names, classes = audit.data.train.names, audit.data.classes.names
    return [
        Suspect(
            name=names[image],
            label=classes[evidence.labels[image]],
            suggested=classes[evidence.suggested[image]],
            score=float(evidence.score[image]),
            views=int(evidence.views[image]),
            agreement=float(evidence.agreement[image]),
        )
        for image in ranking.tolist()
    ]


def lost_objects(audit: Audit, top: int) -> list[LostObject]:
    """The first images whose object leaves the crop, without pictures."""
    names, classes = audit.data.train.names, audit.data.classes.names
    return [
        LostObject(
            name=names[loss.sample],
            label=classes[audit.labels.labels[loss.sample]],
            views=loss.views,
            much=loss.much,
            little=loss.little,
            excess=loss.excess,
            boxes=tuple(
                (kept, *box)
                for kept, boxes in ((True, loss.kept[:2]), (False, loss.lost[:3]))
                for box in boxes.tolist()
            ),
        )
        for loss in audit.crops[:top]
    ]


def confused(audit: Audit, top: int) -> list[ConfusedClasses]:
    """The first pairs of classes, by name."""
    names = audit.data.classes.names
    return [
        ConfusedClasses(names[pair.given], names[pair.decided], pair.views, pair.share)
        for pair in audit.confused[:top]
    ]


def summarise(audit: Audit, top: int = 50) -> dict[str, Any]:
    """The figures and the first of each list, as plain values for JSON."""
    views = audit.labels.views
    names = [printable(name) for name in audit.data.classes.names]
    return {
        "images": len(views),
        "images_without_views": int((views == 0).sum()),
        "epochs": len(audit.epochs),
        "views": int(views.sum()),
        "views_per_image": {
            "min": int(views.min()),
            "median": float(np.median(views)),
            "max": int(views.max()),
        },
        "skipped_views": audit.skipped,
        "agreement": agreement(audit),
        "likely_wrong": int(audit.labels.off.sum()),
        "classes": names,
        "teacher": audit.teacher,
        "suspects": [_row(suspect) for suspect in suspects(audit, top)],
        "crop_losses": [_row(loss) for loss in lost_objects(audit, top)],
        "confused": [_row(pair) for pair in confused(audit, top)],
        "notes": list(audit.notes),
    }


def agreement(audit: Audit) -> float:
    """Share of the counted views, by weight, that were decided for the given label."""
    votes = audit.votes
    return float(votes.on_given(votes.decided).sum() / votes.decided.sum())


def result_sentence(audit: Audit) -> str:
    """What came out, in a sentence or two."""
    off, images = int(audit.labels.off.sum()), len(audit.labels.labels)
    return (
        f"The teacher contradicts the labels of {off:,} of {images:,} images. "
        f"{agreement(audit):.1%} of its decisions on all views are the given label."
    )


def write_csv(audit: Audit, path: Path) -> None:
    """Every image that has a view, the likeliest wrong label first; columns `COLUMNS`.

    The suggestion is empty where every view was decided for the given label.
    """
    evidence, names = audit.labels, audit.data.classes.names
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for image in evidence.ranking().tolist():
            other = int(evidence.suggested[image])
            writer.writerow(
                [
                    audit.data.train.names[image],
                    names[evidence.labels[image]],
                    "" if other == NO_CLASS else names[other],
                    f"{evidence.score[image]:.6f}",
                    evidence.views[image],
                    f"{evidence.agreement[image]:.6f}",
                ]
            )


def write_page(audit: Audit, folder: Path, top: int = 50) -> Path:
    """Write ``audit.html`` into a folder, which is made, with the pictures of ``top`` images each.

    An image that cannot be read stands there without its picture.

    Raises:
        UserError: when the place cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: {error}", "a writable place", "choose another") from error
    source = audit.data.train
    places = {name: index for index, name in enumerate(source.names)}

    def with_picture(entry: Any) -> Any:
        try:
            image, small = embed_picture(source.read(places[entry.name]))
        except BadImage:
            image, small = "", False
        return dataclasses.replace(entry, image=image, small=small, name=printable(entry.name))

    views = audit.labels.views
    return write_audit_page(
        folder / "audit.html",
        title=printable(audit.recipe.data.source),
        sentence=result_sentence(audit),
        facts=[
            ("Teacher", f"{audit.teacher['teacher']}, {percent(audit.teacher['accuracy'])} top-1"),
            ("Training images", number(len(views))),
            ("Epochs of views", number(len(audit.epochs))),
            (
                "Views of an image",
                f"{views.min()} to {views.max()}, median {np.median(views):g}",
            ),
            ("Crop", f"{audit.recipe.views.crop} {_scale(audit)}".strip()),
        ],
        notes=audit.notes,
        suspects=[with_picture(entry) for entry in suspects(audit, top)],
        losses=[with_picture(entry) for entry in lost_objects(audit, top)],
        no_losses=_no_losses(audit),
        classes=audit.data.classes.names,
        matrix=_matrix(audit),
        pairs=confused(audit, top),
    )


def _scale(audit: Audit) -> str:
    views = audit.recipe.views
    if views.crop != "random-resized":
        return ""
    return f"of {views.scale[0]:.0%} to {views.scale[1]:.0%} of the area"


def _no_losses(audit: Audit) -> str:
    if audit.labels.views.max() < MIN_VIEWS:
        return f"An image needs {MIN_VIEWS} views or more to tell, and none has so many."
    return "No image is lost more often in small crops than in large ones."


def _matrix(audit: Audit) -> list[list[int]] | None:
    """Whole per cent of the views of each given label by decision; None for many classes."""
    size = len(audit.data.classes)
    if size > MAX_MATRIX:
        return None
    counts = np.zeros((size, size))
    for (given, decided), views in label_counts(audit.votes).items():
        counts[given, decided] = views
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    rows: list[list[int]] = np.rint(shares).astype(int).tolist()
    return rows


def _row(entry: Suspect | LostObject | ConfusedClasses) -> dict[str, Any]:
    """An entry without its picture; names as people can read them."""
    plain = dataclasses.asdict(entry)
    kept = {name: value for name, value in plain.items() if name not in ("image", "small", "boxes")}
    return {
        name: printable(value) if isinstance(value, str) else value for name, value in kept.items()
    }
