"""The plan of a view in words, for people who want to know what was done to an image."""

from deit.data.mix_plan import MixPlan
from deit.data.operations import Operation
from deit.data.plan import ViewPlan, crop_box

_WORDS: dict[Operation, str] = {
    Operation.AUTO_CONTRAST: "contrast stretched",
    Operation.EQUALIZE: "histogram equalised",
    Operation.INVERT: "inverted",
    Operation.POSTERIZE: "posterised to {:.0f} bits",
    Operation.SOLARIZE: "solarised from {:.0f}",
    Operation.SOLARIZE_ADD: "{:.0f} added below 128",
    Operation.COLOR: "colour × {:.2f}",
    Operation.CONTRAST: "contrast × {:.2f}",
    Operation.BRIGHTNESS: "brightness × {:.2f}",
    Operation.SHARPNESS: "sharpness × {:.2f}",
    Operation.SHEAR_X: "sheared along x by {:.2f}",
    Operation.SHEAR_Y: "sheared along y by {:.2f}",
    Operation.GRAYSCALE: "made grey",
    Operation.GAUSSIAN_BLUR: "blurred by {:.2f} px",
}
_DIRECTIONS: dict[Operation, tuple[str, str, str]] = {
    Operation.ROTATE: ("rotated by {:.1f}° {}", "counter-clockwise", "clockwise"),
    Operation.TRANSLATE_X: ("moved by {:.0%} to the {}", "left", "right"),
    Operation.TRANSLATE_Y: ("moved by {:.0%} {}", "up", "down"),
}
"""Words, and the direction of a positive and of a negative argument: a plan says of a translation
where the source lies, the words say where the picture goes."""


def view_words(plan: ViewPlan, row: int, width: int, height: int) -> list[str]:
    """What is done to an image to make a view of it, in the order in which it is done.

    Args:
        plan, row: which view.
        width, height: size of the decoded image.
    """
    left, top, box_width, box_height = crop_box(plan, row, width, height)
    words = [_crop_words(left, top, box_width, box_height, width, height)]
    if plan.flip[row]:
        words.append("mirrored")
    for op, argument in zip(plan.ops[row].tolist(), plan.arguments[row].tolist(), strict=True):
        if op != Operation.IDENTITY:
            words.append(operation_words(op, argument))
    top, left, box_height, box_width = plan.erase[row].tolist()
    if box_height:
        words.append(f"erased: {box_width} × {box_height} px at ({left}, {top})")
    return words


def operation_words(operation: int, argument: float) -> str:
    """One operation with its argument.

    >>> operation_words(Operation.POSTERIZE, 4.0), operation_words(Operation.INVERT, 0.0)
    ('posterised to 4 bits', 'inverted')
    """
    operation = Operation(operation)
    if operation in _DIRECTIONS:
        words, positive, negative = _DIRECTIONS[operation]
        return words.format(abs(argument), positive if argument >= 0 else negative)
    return _WORDS[operation].format(argument)


def mix_words(plan: MixPlan, place: int, partner: str) -> str:
    """How a place of a batch is mixed with its partner; nothing where it is not.

    Args:
        plan: the plan of the batch.
        place: which place of it.
        partner: how the partner's image is called.
    """
    weight = float(plan.lam[place])
    if weight == 1:
        return ""
    top, left, height, width = plan.boxes[place].tolist()
    if height:
        return f"CutMix: {width} × {height} px at ({left}, {top}) of {partner}, {1 - weight:.0%}"
    return f"mixup: {1 - weight:.0%} of {partner}"


def _crop_words(
    left: int, top: int, box_width: int, box_height: int, width: int, height: int
) -> str:
    if (left, top, box_width, box_height) == (0, 0, width, height):
        return f"the whole image, {width} × {height} px"
    share = box_width * box_height / (width * height)
    text = f"crop: {box_width} × {box_height} px at ({left}, {top}) of {width} × {height}"
    outside = left < 0 or top < 0 or left + box_width > width or top + box_height > height
    return text + (", beyond the edge" if outside else f", {share:.0%} of the area")
