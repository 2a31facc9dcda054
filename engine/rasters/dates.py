"""Dates of a series as users write them; a date that cannot be read is an error.

Leaving one out would shift every later date against its bands.
"""

from __future__ import annotations

import datetime
import re
from pathlib import Path

from ..errors import RasterError

__all__ = ["parse_date", "read_dates"]

_FORM = re.compile(r"(\d{4})(-?)(\d{2})\2(\d{2})")


def parse_date(text: str) -> datetime.date:
    """The date that `YYYYMMDD` or `YYYY-MM-DD` says.

    Raises:
        ValueError: another form, or a day that no calendar has.

    Example:
        >>> parse_date("20210514") == parse_date("2021-05-14")
        True
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text.strip()!r} is not a date, expected YYYYMMDD or YYYY-MM-DD")
    try:
        return datetime.date(int(match[1]), int(match[3]), int(match[4]))
    except ValueError:
        raise ValueError(f"{text.strip()!r} is no day of the calendar") from None


def read_dates(path: Path) -> tuple[datetime.date, ...]:
    """Read a text file of one date a line, in the order of the raster's bands.

    Raises:
        RasterError: the file cannot be read, or a line is not a date; names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RasterError(f"dates cannot be read from {path}: {error}; give a text file of one date a line") from None
    return tuple(_parse_line(path, number, line) for number, line in enumerate(_without_blank_end(lines), start=1))


def _without_blank_end(lines: list[str]) -> list[str]:
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    return lines


def _parse_line(path: Path, number: int, line: str) -> datetime.date:
    try:
        return parse_date(line)
    except ValueError as error:
        raise RasterError(f"line {number} of {path}: {error}; correct it, every acquisition needs its date") from None
