"""Tables of numbers as text: comma-separated values, with or without a line of column names."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dpvae_cli.foundation.files import write_text

SUFFIX = ".csv"


def read_csv(path: Path) -> dict[str, np.ndarray]:
    """Return the rows as `x`, float64, and the names in the first line, if any, as `columns`.

    Raises:
        ValueError: a cell is not a number, or rows differ in length; says which line.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = next(csv.reader(file), [])
        names = [] if any(map(_is_number, first)) else [name.strip() for name in first]
        look = {"delimiter": ",", "ndmin": 2, "comments": None, "quotechar": '"'}
        if (names or not first) and not any(line.strip() for line in file):
            raise ValueError("it holds no rows of numbers")
        file.seek(0)
        try:
            x = np.loadtxt(file, skiprows=int(bool(names)), **look)  # type: ignore[call-overload]
        except ValueError as error:
            file.seek(0)
            raise ValueError(_first_mistake(file, first) or str(error)) from error
    if x.size and names and len(names) != x.shape[1]:
        raise ValueError(f"{len(names)} names stand above {x.shape[1]} columns")
    return {"x": x, "columns": np.array(names)} if names else {"x": x}


def write_csv(path: Path, rows: np.ndarray, columns: Sequence[str]) -> None:
    """Write rows of numbers under a line of names, every digit of the numbers kept.

    Raises:
        UsageError: the file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(map(str, row) for row in rows)
    write_text(path, text.getvalue())


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _first_mistake(file: io.TextIOWrapper, first: Sequence[str]) -> str | None:
    """Return what is wrong with the first line that is not numbers, as many as in the first."""
    rows = csv.reader(file)
    if any(map(_is_number, first)) and not all(map(_is_number, first)):
        return f"the first line has names and numbers: {', '.join(first)[:60]}"
    for row in rows:
        if row and len(row) != len(first):
            return f"line {rows.line_num} has {len(row)} cells, the first line has {len(first)}"
        odd = [(place, cell) for place, cell in enumerate(row, 1) if not _is_number(cell)]
        if odd and rows.line_num > 1:
            place, cell = odd[0]
            return f"line {rows.line_num}, column {place}: {cell[:40]!r} is not a number"
    return None
