"""A Parquet file as a table: of paths and classes, or with the images themselves in a column.

Columns that cannot be the image, its class or its split are not read, nor is any image.
"""

import json
import os
from typing import Any

from deit.data.classes import listed
from deit.data.manifest_columns import WANTED, says_splits
from deit.data.names import printable
from deit.data.parquet_images import ParquetImages, chunks
from deit.data.table import Table
from deit.errors import UserError

MOST_GROUP_BYTES = 2**30
"""1 GiB: the largest group of images that is read as a whole for each of them."""

_FIRST_ROWS = 100  # enough to tell names of splits from other text, without reading all of it


def read_parquet_table(path: str) -> Table:
    """Read all columns of a Parquet file that say something of its images.

    Raises:
        UserError: without pyarrow, and for a file that is no whole Parquet file.
    """
    pyarrow = _require_pyarrow(path)
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            status = os.stat(path)
            return _read(path, file, (status.st_size, status.st_mtime_ns))
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{printable(path)} cannot be read: {printable(reason)[:300]}",
            "a whole Parquet file",
            "check the path, or write the file again",
        ) from error


def _require_pyarrow(path: str) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            f"{printable(path)}: pyarrow is not installed",
            "Parquet files with the extra `data`; CSV, TSV and JSON lines without",
            'pip install "deit[data]"',
        ) from error
    return pyarrow


def _read(path: str, file: Any, status: tuple[int, int]) -> Table:
    schema = file.schema_arrow
    image = _image_column(path, schema)
    wanted = [
        field.name
        for field in schema
        if field.name != image
        and (field.name.strip().lower() in WANTED or _may_say_splits(file, field))
    ]
    unread = [name for name in schema.names if name not in (image, *wanted)]
    columns = {name: _cells(file, name) for name in wanted}
    num_rows = file.metadata.num_rows
    if any(len(cells) != num_rows for cells in columns.values()):
        raise OSError("columns that end before others")
    images = image_paths = None
    if image:
        in_struct = not _is_bytes(schema.field(image).type)
        leaf = f"{image}.bytes" if in_struct else image
        if in_struct and schema.field(image).type.get_field_index("path") >= 0:
            image_paths = [cell["path"] if cell else None for cell in _cells(file, f"{image}.path")]
        if num_rows and _all_empty(file.metadata, leaf):
            columns[image] = image_paths or [None] * num_rows
        else:
            _check_groups(path, file.metadata, leaf)
            images = ParquetImages(os.path.abspath(path), leaf, file.metadata, status)
    return Table(
        path,
        columns,
        range(1, num_rows + 1),
        unit="row",
        unread=unread,
        class_names=_class_names(schema),
        images=images,
        image_column=image if images else "",
        image_paths=image_paths if images else None,
    )


def _may_say_splits(file: Any, field: Any) -> bool:
    """Whether a column is of text, and its first rows hold names of splits alone."""
    import pyarrow.types as types

    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    if not file.num_row_groups or not (types.is_string(kind) or types.is_large_string(kind)):
        return False
    first = next(file.iter_batches(_FIRST_ROWS, [0], columns=[field.name], use_threads=False), None)
    return first is not None and says_splits(first.column(0).to_pylist())


def _image_column(path: str, schema: Any) -> str:
    """The column of encoded images: bytes, or bytes with a path as `datasets` writes them."""
    found = [str(field.name) for field in schema if _is_bytes(field.type) or _is_image(field.type)]
    named = [name for name in found if name.strip().lower() in ("image", "img")]
    if len(found) > 1 and len(named) != 1:
        raise UserError(
            f"{printable(path)}: several columns may hold the image: {listed(found)}",
            "one of them, or one that is called 'image', which is then meant",
            "rename it, or drop the others",
        )
    return (named or found or [""])[0]


def _is_bytes(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_image(kind: Any) -> bool:
    import pyarrow.types as types

    if not types.is_struct(kind):
        return False
    place = kind.get_field_index("bytes")
    return place >= 0 and _is_bytes(kind.field(place).type)


def _cells(file: Any, column: str) -> list[Any]:
    """All cells of one column; not of those below it, for columns with names like ``a.b``."""
    return list(file.read(columns=[column], use_threads=False).column(0).to_pylist())


def _all_empty(metadata: Any, leaf: str) -> bool:
    """Whether no row has bytes, as far as the file says: then its paths name files."""
    return all(
        chunk.is_stats_set
        and chunk.statistics.has_null_count
        and chunk.statistics.null_count == metadata.row_group(group).num_rows
        for group, chunk in enumerate(chunks(metadata, leaf))
    )


def _check_groups(path: str, metadata: Any, leaf: str) -> None:
    """Raise for groups of rows that are too large to be read for one image."""
    largest = max((chunk.total_uncompressed_size for chunk in chunks(metadata, leaf)), default=0)
    if largest > MOST_GROUP_BYTES:
        raise UserError(
            f"{printable(path)}: a group of rows holds {largest / 2**30:.1f} GiB of images, which "
            "would be read for every one of them",
            f"groups of up to {MOST_GROUP_BYTES / 2**30:.0f} GiB; far smaller ones are faster",
            "write it again with row_group_size=100",
        )


def _class_names(schema: Any) -> dict[str, tuple[str, ...]]:
    """The names behind numbered classes, where `datasets` left them in the file."""
    try:
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = described.get("info", {}).get("features", {})
        return {
            name: tuple(map(str, feature["names"]))
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, AttributeError, KeyError, TypeError):
        return {}  # others may keep other things under that name
