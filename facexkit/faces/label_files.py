"""Files of labels: CSV tables and CelebA's attribute lists, every cell as it is written."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from facexkit.errors import FacexkitError, check_known, listed, told
from facexkit.faces.images import is_image, regular
from facexkit.faces.notes import rows_named
from facexkit.faces.spreadsheet import as_written

IMAGE_COLUMNS = ("img image file path filename file_name filepath image_path img_path image_id").split()
NO_VALUE = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
"""Cells that hold no value, as programs write them."""

MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
DATE = rf"(?i)\d{{1,2}}[-. ]+(?:{'|'.join(MONTHS)})[a-z.]*|(?:{'|'.join(MONTHS)})[a-z.]*[-. ]+\d{{1,2}}"
RANGE = r"\d{1,3}\s*[-–]\s*\d{1,3}"
"""What a spreadsheet makes of 3-9, and a range of numbers as it should be."""

NUMBER = r"-?(?:(?:0|[1-9][0-9]{0,14})(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-][0-9]{1,2})?"
"""A plain number; with a leading zero, or more digits than a float keeps, it is a name of digits."""


def label_table(
    file: Path, image_column: str | None = None, sep: str | None = None, needs: Sequence[str] = ()
) -> pd.DataFrame:
    """Read a CSV with a header; its image column becomes `path`, the first column.

    Parameters
    ----------
    image_column : by default the first column with a usual name (img, image, file, path, …), else the first.
    sep : by default whichever of comma, semicolon and tab the header has most of.
    needs : columns without which the table is not what its format says.
    """
    table = read_table(file, sep)
    if lacking := [name for name in needs if name not in table]:
        raise FacexkitError(f"{file} has no column {lacking[0]!r}; its format has {', '.join(needs)} beside the image")
    check_known("image column", [] if image_column is None else [image_column], table.columns, f"(columns of {file})")
    usual = [column for column in table if column.lower() in IMAGE_COLUMNS]
    column = image_column or [*usual, *table.columns][0]
    images = table.pop(column)
    if len(images) and not images.dropna().astype(str).map(is_image).any():
        raise FacexkitError(
            f"{file}: column {column!r} names no image file (first value {images.iloc[0]!r}); "
            f"call the column that does image (or img, file, path), or say in Python image_column=…, one of "
            f"{', '.join([column, *table.columns])}"
        )
    table = table.rename(columns={"path": "path (label)"})
    table.insert(0, "path", images)
    return table


def read_table(file: Path, sep: str | None = None) -> pd.DataFrame:
    """Read a CSV with a header, separated by `sep` or by whichever of comma, semicolon and tab the header has most of.

    A column of plain numbers (`NUMBER`) becomes numbers, one of True and False bools; all else stays text as written.
    """
    text = read_text(file)
    first = text.partition("\n")[0]
    sep = max(",;\t", key=first.count) if sep is None else sep
    if len(sep) != 1 or sep in '"\r\n':
        raise FacexkitError(f"sep is {sep!r}; it is the one character between the cells, ',' or ';' or '\\t' say")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=sep, skipinitialspace=f"{sep} " in first, strict=True)
    try:
        rows = [(reader.line_num, [*map(as_written, row)]) for row in reader if any(cell.strip() for cell in row)]
    except (csv.Error, ValueError) as error:
        raise FacexkitError(f"{file}, line {reader.line_num}: {error}; mend its quotes or save it anew") from error
    if not rows:
        raise FacexkitError(f"{file} is no CSV that can be read: it is empty; save it as UTF-8 with a header")
    if faces := [name for name in rows[0][1] if is_image(name)]:
        raise FacexkitError(
            f"{file}: line 1 is {', '.join(rows[0][1])}, and {faces[0].strip()} is an image, no column; write a line with "
            "the columns' names above it: image,label"
        )
    (_, names), *rows = rows
    width = len(names)
    for line, row in rows:
        if any(cell.strip() for cell in row[width:]):
            raise FacexkitError(f"{file}, line {line}: {len(row)} cells where line 1 names {width} columns; name the column, or "
                                f"put quotes around a cell that has {sep!r} in it")  # fmt: skip
    cells = np.array([[*row[:width], *[""] * (width - len(row))] for _, row in rows], object).reshape(-1, width)
    named = [k for k, name in enumerate(names) if name.strip() or any(map(str.strip, cells[:, k]))]
    columns = distinct([names[k].strip() or f"column {k + 1}" for k in named], file)
    return pd.DataFrame({name: _values(cells[:, k]) for k, name in zip(named, columns, strict=True)})


def _values(cells: np.ndarray) -> pd.Series:
    """Return a column as numbers, as True and False, or as the text that is written; NaN where there is no value."""
    written = pd.Series(cells, dtype=object)
    kinds = pd.Series(written.unique(), dtype=object)
    stripped = kinds.str.strip()
    there = ~stripped.isin(NO_VALUE)
    given = stripped[there]
    if len(given) and given.str.fullmatch(NUMBER).all():
        kinds = pd.to_numeric(stripped.where(there))
    elif len(given) and there.all() and given.isin(["True", "False"]).all():
        kinds = given == "True"
    else:
        kinds = kinds.where(there)
    return written.map(dict(zip(written.unique(), kinds, strict=True))) if len(written) else written


def attribute_table(file: Path, folder: str = "") -> pd.DataFrame:
    """Read CelebA's attributes as labels 0 and 1: its list (a count, the names, then image and −1 or 1 for each), or a CSV."""
    count, named, *lines = [*read_text(file).split("\n"), ""]
    listed = re.fullmatch("[0-9]{1,12}", count.strip())
    if not (named.strip() if listed else "," in count and file.suffix != ".txt"):
        raise FacexkitError(f"{file}: in CelebA's lists line 1 is the number of images, line 2 the names")
    table = _attribute_list(file, ["path", *named.split()], lines) if listed else label_table(file)
    line = 3 if listed else 2
    labels = two_valued(table.drop(columns="path"), (-1, 1), lambda row: f"{file}, line {row + line} ({table.path[row]})")
    if listed and len(table) != int(count):
        raise FacexkitError(f"{file}: line 1 says {count.strip()} images, but {len(table)} follow; the file is cut or edited")
    return pd.concat([folder + table.path.map(str, na_action="ignore"), labels], axis=1)


def _attribute_list(file: Path, columns: Sequence[str], lines: Sequence[str]) -> pd.DataFrame:
    wrong = f"{file}: a line does not have {len(columns) - 1} values after its image"
    how = {"sep": r"\s+", "header": None, "dtype": {0: str}, "quoting": csv.QUOTE_NONE}
    with told(wrong, "mend it", pd.errors.ParserError):
        table = pd.read_csv(io.StringIO("\n".join(lines)), **how) if any(map(str.strip, lines)) else pd.DataFrame()
    if table.shape[1] > len(columns):
        raise FacexkitError(f"{wrong} but {table.shape[1] - 1}; mend it")
    return table.reindex(columns=range(len(columns))).set_axis(distinct(columns, file), axis=1)


def two_valued(labels: pd.DataFrame, values: tuple[int, int], where: Callable[[int], str]) -> pd.DataFrame:
    """Return labels that all have one of two values as 0 and 1; `where` names the row of one that has neither."""
    numbers = labels.apply(pd.to_numeric, errors="coerce")
    if (wrong := ~numbers.isin(values)).any(axis=None):
        row, column = next(zip(*wrong.to_numpy().nonzero(), strict=True))
        what = f"{labels.iat[row, column]} is neither {values[1]} nor {values[0]}"
        raise FacexkitError(f"{where(row)}, column {labels.columns[column]!r}: {what}; mend it")
    return (numbers == values[1]).astype(int)


def clean(labels: pd.Series, paths: pd.Series) -> tuple[pd.Series, list[str]]:
    """Take the blanks off a column of text and mend ranges that a spreadsheet turned into dates; tell of both.

    Tells too which values look alike but for case.
    """
    texts = labels[labels.map(lambda label: isinstance(label, str))]
    if not len(texts):
        return labels, []
    notes, plain, column = [], texts.str.strip(), f"column {labels.name!r}"
    if (padded := plain != texts).any():
        where = rows_named(paths[padded.index[padded]])
        notes.append(f"{column}: {padded.sum()} values had blanks around them, which are taken off: {where}")
    if plain.str.fullmatch(RANGE).any() and (dated := plain.str.fullmatch(DATE)).any():
        ranges = plain[dated].map(_range_of)
        pairs = sorted({*zip(plain[dated], ranges, strict=True)})
        notes.append(f"{column}: {dated.sum()} values are dates that a spreadsheet made of ranges, and are taken for these: "
                     + listed([f"{date} is {numbers}" for date, numbers in pairs]))  # fmt: skip
        plain = plain.where(~dated, ranges)
    if (plain != texts).any():
        labels = labels.astype(object).where(~labels.index.isin(plain.index), plain).infer_objects()
    counts = plain.value_counts()
    folded = counts.index.to_series().map(_looks)
    if len(alike := counts[folded.duplicated(keep=False).to_numpy()].sort_index()):
        values = [f"{value} ({n})" for value, n in alike.items()]
        notes.append(f"{column} has values that look alike but for case and are kept apart: {listed(values)}")
    return labels, notes


def _range_of(date: str) -> str:
    """Return the range of which a spreadsheet made a date: 9-Mar and Mar-9 were 3-9."""
    parts = re.split(r"[-. ]+", date.lower())
    return "-".join(map(str, sorted(MONTHS.index(part[:3]) + 1 if part[0].isalpha() else int(part) for part in parts)))


def _looks(label: str) -> str:
    """Return a label as it looks: composed letters, single blanks, no case, nothing that cannot be seen."""
    seen = "".join(letter for letter in unicodedata.normalize("NFC", label) if unicodedata.category(letter) != "Cf")
    return " ".join(seen.casefold().split())


def distinct(columns: Sequence[str], place: object) -> list[str]:
    """Return the columns' names; an error where two have one name."""
    if twice := [name for k, name in enumerate(columns) if name in columns[:k]]:
        raise FacexkitError(f"{place} has two columns called {twice[0]!r}; give one of them another name")
    return [*columns]


def read_text(file: Path) -> str:
    """Return the text of a file of labels; an error with the line where it is none."""
    with told(f"{file} cannot be read", "replace the file", OSError):
        content = regular(file).read_bytes()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):  # a spreadsheet's "Unicode text"
        with told(f"{file} begins as UTF-16 and goes on otherwise", "save it as UTF-8", UnicodeDecodeError):
            content = content.decode("utf-16").encode()
    text = content.decode("utf-8-sig", "surrogateescape")
    if wrong := re.search("[\0\udc80-\udcff]", text):
        line, byte = text.count("\n", 0, wrong.start()) + 1, ord(wrong[0]) & 0xFF
        raise FacexkitError(f"{file}, line {line}: the byte {byte:#04x} is no text in UTF-8; save it as UTF-8")
    return text
