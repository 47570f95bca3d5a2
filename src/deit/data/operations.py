"""The vocabulary of image operations: what each number in a plan means.

A plan names operations by number and gives each one argument in physical units (degrees, factors,
bits), so that the host (`operations_host`) and the device (`operations_device`) can render the same
view. Which operations are drawn, how often and how strongly, is `policies`' matter.
"""

import enum
from typing import Literal

Interpolation = Literal["bicubic", "bilinear"]
Color = tuple[int, int, int]


class Operation(enum.IntEnum):
    """One operation on an RGB image; beside each, its argument.

    The values are part of every plan and of every label store: never reuse or renumber.
    """

    IDENTITY = 0  # none
    AUTO_CONTRAST = 1  # none; each channel stretched to 0..255
    EQUALIZE = 2  # none; each channel's histogram made flat
    INVERT = 3  # none
    ROTATE = 4  # degrees, counter-clockwise, about the centre
    POSTERIZE = 5  # high bits kept, 0 to 8; 0 gives black
    SOLARIZE = 6  # threshold; values from it upwards are inverted
    SOLARIZE_ADD = 7  # added to values below 128
    COLOR = 8  # factor; 0 is grey, 1 no change
    CONTRAST = 9  # factor; 0 is the mean grey, 1 no change
    BRIGHTNESS = 10  # factor; 0 is black, 1 no change
    SHARPNESS = 11  # factor; 0 is smoothed, 1 no change
    SHEAR_X = 12  # columns by which the source moves right, per row
    SHEAR_Y = 13  # rows by which the source moves down, per column
    TRANSLATE_X = 14  # where the source lies to the right, as a fraction of the width
    TRANSLATE_Y = 15  # where the source lies below, as a fraction of the height
    GRAYSCALE = 16  # none
    GAUSSIAN_BLUR = 17  # standard deviation, pixels
