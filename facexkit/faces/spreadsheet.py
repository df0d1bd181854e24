"""The kit's CSV files: cells from data that a spreadsheet would run are written as text, and read back as they were."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
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
    """Return what `as_text` was given."""
    return cell[1:] if isinstance(cell, str) and cell[:1] == "'" and _RUNS.match(cell) else cell


def every_cell(table: pd.DataFrame, change: Callable[[object], object]) -> pd.DataFrame:
    """Return a table with its texts and its header changed by `as_text` or `as_written`."""
    changed = table.set_axis(table.columns.map(change), axis=1)
    for place, kind in enumerate(table.dtypes):
        if isinstance(kind, pd.CategoricalDtype) or pd.api.types.is_string_dtype(kind):
            changed.isetitem(place, table.iloc[:, place].astype(object).map(change))
    return changed


def csv_bytes(table: pd.DataFrame, header: bool = True) -> bytes:
    """Return a table as the bytes of a CSV file, without its index."""
    table = every_cell(table, as_text)
    text = table.to_csv(index=False, header=header)
    if "\r" in text:  # which only a quoted cell may hold
        text = table.to_csv(index=False, header=header, quoting=csv.QUOTE_NONNUMERIC)
    return text.encode(errors="backslashreplace")


def write_csv(table: pd.DataFrame, path: str | Path) -> Path:
    """Write a table as a CSV file and return its path."""
    write_whole(Path(path), csv_bytes(table))
    return Path(path)


def read_csv(path: str | Path) -> pd.DataFrame:
    """Read a CSV file with every cell as it was written, as text; an empty one is NaN."""
    return every_cell(pd.read_csv(path, dtype=str, keep_default_na=False, na_values=["", "nan", "NaN"]), as_written)
