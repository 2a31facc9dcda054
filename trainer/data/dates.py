"""Dates of the series: GeoPackages with one JSON text of dates for each patch or region of interest."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.rasters.dates import parse_date
from .errors import DataSetError
from .layout import DATES_FILES, METADATA_FOLDER, PatchId

__all__ = ["DateTable", "Dates", "dates_file", "parse_acquisitions", "parse_rows", "read_rows", "write_dates"]

Dates = NDArray[np.datetime64]

_KEYS = ("patch_id", "zone_id", "roi")
_VALUES = "acquisition_dates"
_WRITTEN = "2000-01-01T00:00:00.000Z"


class DateTable:
    """Dates of one series.

    Args:
        file: GeoPackage that they come from, for messages.
        texts: patch, or domain and region, or region alone -> JSON text of its dates.

    Attributes:
        defects: a sentence for each row with a date that cannot be read.
    """

    def __init__(self, file: Path, texts: Mapping[str, str]) -> None:
        self.file = file
        self._dates, wrong = parse_rows(texts)
        self._wrong = {key: f"dates of {key} in {file}: {reason}" for key, reason in wrong.items()}

    @property
    def defects(self) -> tuple[str, ...]:
        """See the class."""
        return tuple(self._wrong.values())

    def of(self, patch: PatchId) -> Dates:
        """Dates of a patch, datetime64[D] [T], in the order of its bands.

        Raises:
            DataSetError: there are none for it, or they cannot be read.
        """
        found = self.find(patch)
        if isinstance(found, str):
            raise DataSetError(found)
        return found

    def find(self, patch: PatchId) -> Dates | str:
        """Dates of a patch, or a sentence that says why there are none."""
        for key in _keys(patch):
            found = self._dates.get(key, self._wrong.get(key))
            if found is not None:
                return found
        return f"{self.file} has no dates of {patch}, expected a row for it or {patch.region}; add it"

    def only(self, patches: Iterable[PatchId]) -> DateTable:
        """The part of the table that some patches need, to be sent to other processes."""
        wanted = {key for patch in patches for key in _keys(patch)}
        part = DateTable(self.file, {})
        part._dates = {key: dates for key, dates in self._dates.items() if key in wanted}
        return part


def _keys(patch: PatchId) -> tuple[str, str, str]:
    """What a row may be called by, the narrowest first."""
    return str(patch), patch.region, patch.roi


def dates_file(root: Path, series: str) -> Path:
    """GeoPackage with the dates of a series, in the folder of metadata or the root.

    Raises:
        DataSetError: it is in neither.
    """
    name = DATES_FILES[series]
    places = [root / METADATA_FOLDER / name, root / name]
    for path in places:
        if path.is_file():
            return path
    raise DataSetError(f"{places[0]} is not there, and {series} needs its dates; add it")


def read_rows(file: Path) -> dict[str, str]:
    """Read key and JSON text of every row of a GeoPackage.

    Raises:
        DataSetError: it cannot be read, lacks a column, or says two things of one key.
    """
    pyogrio = _pyogrio()
    try:
        meta, _, _, columns = pyogrio.raw.read(file, read_geometry=False)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise DataSetError(f"{file} cannot be read as a GeoPackage: {error}; get it anew") from None
    fields = dict(zip(meta["fields"].tolist(), columns, strict=True))
    key = next((name for name in _KEYS if name in fields), None)
    if key is None or _VALUES not in fields:
        raise DataSetError(
            f"{file} has columns {', '.join(fields) or 'none'}, expected {_VALUES} and one of {', '.join(_KEYS)}; "
            "correct them"
        )
    rows: dict[str, str] = {}
    for name, text in zip(fields[key].tolist(), fields[_VALUES].tolist(), strict=True):
        if rows.setdefault(str(name), str(text)) != str(text):
            raise DataSetError(f"{file} has two different rows for {name}, expected one; remove the wrong one")
    return rows


def parse_rows(texts: Mapping[str, str]) -> tuple[dict[str, Dates], dict[str, str]]:
    """Parse the dates of all rows.

    Args:
        texts: key -> JSON text.

    Returns:
        Key -> dates, one array for all rows with the same text; and key -> what is wrong with a row that has none.
    """
    known: dict[str, Dates | str] = {}
    dates: dict[str, Dates] = {}
    wrong: dict[str, str] = {}
    for key, text in texts.items():
        if text not in known:
            known[text] = _parsed(text)
        found = known[text]
        if isinstance(found, str):
            wrong[key] = found
        else:
            dates[key] = found
    return dates, wrong


def _parsed(text: str) -> Dates | str:
    try:
        return parse_acquisitions(text)
    except ValueError as error:
        return str(error)


def parse_acquisitions(text: str) -> Dates:
    """Read `{"1": "20210114", ...}`: dates by the number of their acquisition.

    A date that cannot be read is an error: to leave it out would shift every later date against its bands.

    Returns:
        datetime64[D] [T], by number.

    Raises:
        ValueError: no such JSON, a number is left out, or a date is none.

    Example:
        >>> parse_acquisitions('{"2": "20210119", "1": "20210114"}').astype(str).tolist()
        ['2021-01-14', '2021-01-19']
    """
    try:
        said = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{text[:40]!r} is no JSON ({error}); correct it") from None
    if not isinstance(said, dict):
        raise ValueError(f'{text[:40]!r} is no JSON object, expected {{"1": "20210114", ...}}; correct it')
    try:
        by_number = {int(number): date for number, date in said.items()}
    except ValueError:
        raise ValueError(
            f"{next(iter(said))!r} numbers no acquisition, expected 1 to {len(said)}; correct it"
        ) from None
    missing = sorted(set(range(1, len(said) + 1)) - set(by_number))
    if missing:
        raise ValueError(f"no date of acquisition {missing[0]}, and {len(said)} dates; every acquisition needs its own")
    return np.array([_date(number, by_number[number]) for number in sorted(by_number)], "datetime64[D]")


def _date(number: int, said: object) -> datetime.date:
    try:
        return parse_date(str(said))
    except ValueError as error:
        raise ValueError(f"acquisition {number}: {error}; correct it, every acquisition needs its date") from None


def write_dates(file: Path, rows: Mapping[str, Dates], *, centres_m: Mapping[str, tuple[float, float]]) -> None:
    """Write the GeoPackage of one series.

    Args:
        file: where.
        rows: patch or region -> dates [T].
        centres_m: likewise -> easting and northing of its middle (EPSG:2154).
    """
    pyogrio, shapely = _pyogrio(), _shapely()
    texts = [_text(dates) for dates in rows.values()]
    # a GeoPackage notes when it was written; the same dates make the same file
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _WRITTEN})
    try:
        pyogrio.raw.write(
            file,
            geometry=shapely.to_wkb(shapely.points([centres_m[name] for name in rows])),
            field_data=[np.array(list(rows), object), np.array(texts, object)],
            fields=[_KEYS[0], _VALUES],
            geometry_type="Point",
            crs="EPSG:2154",
            driver="GPKG",
        )
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})


def _text(dates: Dates) -> str:
    return json.dumps({str(number): str(day).replace("-", "") for number, day in enumerate(dates, start=1)})


def _pyogrio() -> Any:
    try:
        import pyogrio.errors
        import pyogrio.raw
    except ImportError as error:
        raise DataSetError(f"dates of series need {error.name}; install uperfuse[train]") from None
    return pyogrio


def _shapely() -> Any:
    try:
        import shapely
    except ImportError as error:
        raise DataSetError(f"GeoPackages need {error.name}; install uperfuse[train]") from None
    return shapely
