"""Data sets as the Hugging Face hub stores them: parquet files with the images' bytes, and class names in the schema."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from PIL import Image

from facexkit.errors import FacexkitError, check_known, told
from facexkit.faces.address import files_below
from facexkit.faces.formats import Reading, register_format
from facexkit.faces.images import as_rgb, opened
from facexkit.faces.notes import left_out


class ParquetImages:
    """Images in a column of parquet files, by `FILE#ROW`: bytes, or a struct that has them."""

    def __init__(self, root: Path, column: str) -> None:
        self.root, self.column, self._held = root, column, NOTHING

    def read(self, path: str) -> Image.Image:
        """Return the upright RGB image; OSError with the reason where there is none."""
        with opened(self._bytes(path)) as image:
            return as_rgb(image)

    def digest(self, path: str) -> bytes:
        """Return a hash of the image's bytes."""
        return hashlib.blake2b(self._bytes(path), digest_size=16).digest()

    def _bytes(self, path: str) -> bytes:
        file, _, row = path.rpartition("#")
        if self._held[0] != file or int(row) not in self._held[1]:
            self._held = file, *self._group(file, int(row))
        _, rows, values = self._held
        value = values[int(row) - rows.start].as_py()
        content = value["bytes"] if isinstance(value, dict) else value
        if not content:
            raise OSError("the row holds no image")
        return content

    def _group(self, file: str, row: int) -> tuple[range, Sequence]:
        """Return the group of rows that has this one, as they are read together, and what is in them."""
        from pyarrow.parquet import ParquetFile

        found = ParquetFile(self.root / file)
        ends = np.cumsum([0, *(found.metadata.row_group(k).num_rows for k in range(found.num_row_groups))])
        group = int(np.searchsorted(ends, row, "right")) - 1
        return range(ends[group], ends[group + 1]), found.read_row_group(group, [self.column]).column(0)

    def __getstate__(self) -> dict[str, object]:
        return vars(self) | {"_held": NOTHING}


NOTHING = ("", range(0), ())


@register_format("parquet")
def read_parquet(root: Path, *, image_column: str | None = None) -> Reading:
    """Parquet files below the root, `data/train-00000-of-00001.parquet` say: a column of images, the others are labels.

    The part before the first `-` of a file's name is the column `split`; class names come from the schema's `huggingface`
    metadata. A column that is neither number, text nor truth value is left out.
    """
    from pyarrow.parquet import ParquetFile

    names = sorted(name for name in files_below(root) if name.endswith(".parquet"))
    if not names:
        raise FacexkitError(f"{root} has no .parquet file; give the folder of a data set as the hub stores it")
    tables, dropped, image = [], set(), image_column
    for name in names:
        with told(f"{root / name} cannot be read", "fetch it again"):
            found = ParquetFile(root / name)
            schema = found.schema_arrow
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        image = image or next((f.name for f in schema if _holds_images(f, features)), None)
        check_known("image column", [image or "image"], schema.names, f"(columns of {root / name})")
        plain = [f.name for f in schema if f.name != image and str(f.type) in PLAIN]
        dropped |= {*schema.names} - {*plain, image}
        table = found.read(columns=plain).to_pandas()
        for column in plain:
            if classes := (features.get(column) or {}).get("names"):
                table[column] = table[column].map(dict(enumerate(classes)))
        table = table.rename(columns={"path": "path (label)"})
        table.insert(0, "path", [f"{name}#{row}" for row in range(len(table))])
        split, dash, _ = PurePosixPath(name).stem.partition("-")
        if dash and "split" not in table:
            table["split"] = split
        tables.append(table)
    notes = [left_out(sorted(dropped), "columns are neither numbers nor text")] if dropped else []
    return Reading(pd.concat(tables, ignore_index=True), ParquetImages(root, image), file=root / names[0], notes=notes)


PLAIN = ("string", "large_string", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "float", "double")


def _holds_images(field: object, features: dict) -> bool:
    """Return whether a column of the schema holds images: by the hub's word, or as bytes."""
    kind = str(field.type)
    return (features.get(field.name) or {}).get("_type") == "Image" or kind == "binary" or kind.startswith("struct<bytes: binary")
