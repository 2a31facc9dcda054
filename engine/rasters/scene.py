"""What to map: one raster per modality, from a YAML file or from options of the command line."""

from __future__ import annotations

import datetime
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from ..errors import RasterError
from .dates import parse_date

__all__ = ["Scene", "Source"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Model):
    """The raster of one modality.

    Attributes:
        path: any raster that GDAL reads. A series holds its acquisitions one after the other, each with all its bands.
        bands: either the names of the file's bands in the file's order ("NIR", "G", "R"), or 1-based numbers of the
            file's bands that hold the plan's bands, in the plan's order; for a series, of one acquisition. None reads
            the file's own band names, or takes the sensor's usual order where it has none.
        dates: of a series: a text file of one date a line, or the dates, in the order of the acquisitions.
        mask: of an optical series: a raster of snow and cloud in percent (0 to 100) for each acquisition.
        nodata: digital number of void pixels, where the file does not say it or says it wrongly.
    """

    path: Path
    bands: tuple[str, ...] | tuple[int, ...] | None = None
    dates: Path | tuple[datetime.date, ...] | None = None
    mask: Path | None = None
    nodata: Annotated[float, Field(allow_inf_nan=True)] | None = None

    def absolute(self) -> Source:
        """The same source with whole paths; see `Scene.absolute`."""
        given = {field: getattr(self, field) for field in ("path", "dates", "mask")}
        files = {field: value for field, value in given.items() if isinstance(value, Path) and value.exists()}
        return self.model_copy(update={field: path.absolute() for field, path in files.items()})

    @model_validator(mode="before")
    @classmethod
    def _bare_path(cls, given: Any) -> Any:
        return {"path": given} if isinstance(given, (str, Path)) else given

    @field_validator("bands", mode="before")
    @classmethod
    def _names_or_numbers(cls, given: Any) -> Any:
        if isinstance(given, str):
            given = [part.strip() for part in given.split(",")]
        if isinstance(given, (list, tuple)) and all(_is_number(part) for part in given):
            return tuple(int(part) for part in given)
        return tuple(given) if isinstance(given, list) else given

    @field_validator("bands", mode="after")
    @classmethod
    def _bands_differ(cls, bands: tuple[str, ...] | tuple[int, ...] | None) -> tuple[str, ...] | tuple[int, ...] | None:
        if bands is not None and (not bands or len(set(bands)) < len(bands) or not all(bands)):
            raise ValueError(f"bands {', '.join(map(str, bands))} are empty, zero or repeated; name each band once")
        return bands

    @field_validator("dates", mode="before")
    @classmethod
    def _dates_in_words(cls, given: Any) -> Any:
        if isinstance(given, (list, tuple)):
            return tuple(day if isinstance(day, datetime.date) else parse_date(str(day)) for day in given)
        return given

    @field_validator("path", "dates", "mask", mode="after")
    @classmethod
    def _beside_the_scene_file(cls, value: Any, info: ValidationInfo) -> Any:
        folder = (info.context or {}).get("folder")
        return folder / value if folder is not None and isinstance(value, Path) else value


class Scene(_Model):
    """The rasters of one place.

    Attributes:
        inputs: modality -> its raster. In YAML a plain path stands for a source without options.
    """

    inputs: Annotated[Mapping[str, Source], Field(min_length=1)]

    def absolute(self) -> Scene:
        """The same scene for a process that runs in another folder; addresses that are no files stay."""
        return Scene(inputs={name: source.absolute() for name, source in self.inputs.items()})

    @classmethod
    def from_yaml(cls, path: str | Path) -> Scene:
        """Read a scene file; relative paths in it are relative to its folder.

        Raises:
            RasterError: the file cannot be read, has keys that mean nothing, or repeats one.
        """
        path = Path(path)
        try:
            content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)  # noqa: S506, a SafeLoader
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise RasterError(f"scene {path} cannot be read: {' '.join(str(error).split())}; mend the file") from None
        return _validated(content, what=f"scene {path}", context={"folder": path.parent})

    @classmethod
    def from_options(
        cls,
        inputs: Sequence[str],
        *,
        dates: Sequence[str] = (),
        masks: Sequence[str] = (),
        bands: Sequence[str] = (),
    ) -> Scene:
        """Make a scene of options `MODALITY=value`, as the command line takes them.

        Raises:
            RasterError: an option without `=`, repeated, or for a modality without an input.

        Example:
            >>> scene = Scene.from_options(["AERIAL_RGBI=ortho.tif"], bands=["AERIAL_RGBI=NIR,G,R"])
            >>> scene.inputs["AERIAL_RGBI"].bands
            ('NIR', 'G', 'R')
        """
        sources: dict[str, dict[str, str]] = {
            name: {"path": value} for name, value in _assignments("--input", inputs).items()
        }
        for option, field, given in (
            ("--dates", "dates", dates),
            ("--mask", "mask", masks),
            ("--bands", "bands", bands),
        ):
            for name, value in _assignments(option, given).items():
                if name not in sources:
                    raise RasterError(f"{option} {name}={value} has no raster; add --input {name}=FILE")
                sources[name][field] = value
        return _validated({"inputs": sources}, what="scene", context={})


def _is_number(part: Any) -> bool:
    return (isinstance(part, int) and not isinstance(part, bool)) or (isinstance(part, str) and part.isdecimal())


def _assignments(option: str, given: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for entry in given:
        name, equals, value = entry.partition("=")
        if not (name and equals and value):
            raise RasterError(f"{option} {entry} is not of the form MODALITY=VALUE; write {option} AERIAL_RGBI=...")
        if name in values:
            raise RasterError(f"{option} is given twice for {name}: {values[name]} and {value}; give it once")
        values[name] = value
    return values


def _validated(content: Any, *, what: str, context: dict[str, Path]) -> Scene:
    try:
        return Scene.model_validate(content, context=context)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "content"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise RasterError(f"{what}: {where}: {first['msg'].removeprefix('Value error, ')}{more}") from None


class _UniqueKeys(yaml.SafeLoader):
    """Safe YAML that refuses a key written twice instead of keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [str(key.value) for key, _ in node.value]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.YAMLError(f"key {', '.join(twice)} is written twice")
        return super().construct_mapping(node, deep=deep)
