"""More than five hundred odd image files of many kinds, each with what has to become of it.

What is expected comes from the arrays that the files were made of, by arithmetic, or from Pillow
used in the plainest way; never from this library.
"""

import functools

from odd_files import bad, jpegs, others
from odd_files.odd import OddFile


@functools.cache
def all_files() -> tuple[OddFile, ...]:
    """The files, the same ones in every process."""
    makers = (
        bad.truncated,
        bad.no_images,
        bad.bombs,
        jpegs.turned,
        jpegs.jpegs,
        others.pngs,
        others.transparent,
        others.tiffs,
        others.small_formats,
        others.animations,
        others.tiny,
        others.misnamed,
        others.damaged,
    )
    return tuple(file for make in makers for file in make())
