"""What a run is begun with, in words that can be compared: all that its maps depend on."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from ...errors import RasterError
from ..grid import Grid
from ..scene import Scene, Source
from ..tiling import Tiling

__all__ = ["FileState", "differences", "files_of", "settings_of"]


@dataclass(frozen=True)
class FileState:
    """What the file system says of a file; None for what is not a file, such as an address.

    Attributes:
        path: of the file.
        bytes: its size.
        modified_ns: when it was written last, in nanoseconds since 1970.
    """

    path: Path
    bytes: int | None
    modified_ns: int | None

    @classmethod
    def of(cls, path: Path) -> FileState:
        """The state now."""
        try:
            status = path.stat()
        except OSError:
            return cls(path, None, None)
        return cls(path, status.st_size, status.st_mtime_ns)

    def check(self) -> None:
        """Look whether the file is still the same.

        Raises:
            RasterError: it is not.
        """
        now = FileState.of(self.path)
        if now != self:
            raise RasterError(
                f"{self.path} has changed during the run: it was {self}, it is {now}; begin anew with --restart"
            )

    def __str__(self) -> str:
        if self.bytes is None or self.modified_ns is None:
            return "not a file"
        seconds, rest = divmod(self.modified_ns, 10**9)
        when = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
        return f"{self.bytes} bytes of {when:%Y-%m-%d %H:%M:%S}.{rest:09d} UTC"


def files_of(scene: Scene) -> list[Path]:
    """Every file that a scene names, each once."""
    named = [
        path
        for source in scene.inputs.values()
        for path in (source.path, source.mask, source.dates)
        if isinstance(path, Path)
    ]
    return list(dict.fromkeys(named))


def settings_of(
    *,
    plan: str,
    device: str,
    precision: str,
    scene: Scene,
    files: Mapping[Path, FileState],
    grid: Grid,
    tiling: Tiling,
    blend_px: int,
    maps: Mapping[str, int],
    area: bytes | None,
) -> dict[str, str]:
    """What a run's maps depend on.

    Args:
        plan: hash of the plan.
        device: that computes.
        precision: that it computes in.
        scene: the rasters.
        files: state of every file of the scene.
        grid: of the maps.
        tiling: of the maps.
        blend_px: distance from a seam up to which tiles are mixed.
        maps: name of each map -> number of its bands.
        area: what identifies the area of interest, if one is given.

    Returns:
        Name -> value, in words.
    """
    crs = grid.crs.to_wkt() if grid.crs else "none"
    said = {
        "version of uperfuse": version("uperfuse"),
        "plan": plan,
        "device": device.split(":")[0],
        "precision": precision,
        "raster": f"{grid.shape_yx[0]} x {grid.shape_yx[1]} px",
        "place": f"{tuple(grid.transform)[:6]} in {crs}",
        "tile": f"{tiling.tile_px} px",
        "halo": f"{tiling.halo_px} px",
        "blend": f"{blend_px} px",
        "maps": ", ".join(sorted(f"{name} of {bands}" for name, bands in maps.items())),
        "area": sha256(area).hexdigest() if area is not None else "all",
    }
    for modality, source in sorted(scene.inputs.items()):
        said[modality] = _source(source)
    return said | {str(path): str(state) for path, state in files.items()}


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What has changed, a line each."""
    return [
        f"{name}: was {before.get(name, 'not there')}, is {now.get(name, 'not there')}"
        for name in dict.fromkeys((*before, *now))
        if before.get(name) != now.get(name)
    ]


def _source(source: Source) -> str:
    given = source.model_dump(mode="json", exclude_none=True)
    return ", ".join(f"{name} {value}" for name, value in given.items())
