"""The kit's CSV files: cells from data that a spreadsheet would run are written as text, and read back as they were."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pandas as pd

from facexkit.faces.cache import write_whole

_RUNS = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def as_text(cell: object) -> object:
    """Return a cell as a CSV file holds it: ' before a text that begins with = + - @, tab or return and is no number."""
    runs = isinstance(cell, str) and _RUNS.match(cell) and not _NUMBER.fullmatch(cell)
    return f"'{cell}" if runs else cell


def as_written(cell: object) -> object:
    """Return what `as_text` was given; `read_table` does it to every cell."""
    return cell[1:] if isinstance(cell, str) and cell[:1] == "'" and _RUNS.match(cell) else cell


def csv_bytes(table: pd.DataFrame, header: bool = True) -> bytes:
    """Return a table as the bytes of a CSV file, without its index."""
    kept = table.set_axis(table.columns.map(as_text), axis=1)
    for place, kind in enumerate(table.dtypes):
        if isinstance(kind, pd.CategoricalDtype) or pd.api.types.is_string_dtype(kind):
            kept.isetitem(place, table.iloc[:, place].astype(object).map(as_text))
    text = kept.to_csv(index=False, header=header)
    if "\r" in text:  # which only a quoted cell may hold
        text = kept.to_csv(index=False, header=header, quoting=csv.QUOTE_NONNUMERIC)
    return text.encode(errors="backslashreplace")


def write_csv(table: pd.DataFrame, path: str | Path) -> Path:
    """Write a table as a CSV file and return its path."""
    write_whole(Path(path), csv_bytes(table))
    return Path(path)
