"""Pyramids of series that were encoded before, kept in a folder, so that a window that comes back costs a file.

A series is the dearest part of a tile and the one that stays while new aerial images arrive: a second run over an area,
or a flight over ground that was prepared, finds what was encoded. What is kept is the projected pyramid at the sensor's
own resolution, small beside the series. Its name is the hash of everything that it depends on: the graph, the compiler,
the processor, and the numbers, dates and voids of the window. So a map is the same with the folder and without it.
"""

from __future__ import annotations

import hashlib
import os
import uuid
import zipfile
from pathlib import Path

import numpy as np
import openvino as ov

from ...errors import BackendError
from ...plan.plan import Plan
from ...tiles import SeriesTile
from ..openvino_core import openvino_core
from .graph_cache import REVISION
from .segments import Pyramid

__all__ = ["SeriesStore"]

_FORMAT = 1


class SeriesStore:
    """Encoded series of one plan in a folder that many plans and processes may share.

    Args:
        folder: made where it does not exist.
        plan: an open plan.

    Raises:
        BackendError: the folder cannot be made.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BackendError(f"{folder} cannot be made: {error.strerror}; name a folder for what is primed") from None
        self._folder = folder
        processor = openvino_core().get_property("CPU", "FULL_DEVICE_NAME").strip()
        made = f"{_FORMAT}/{REVISION}"
        self._graphs = {
            modality.name: "/".join((made, plan.graph_hash(f"encoder:{modality.name}"), ov.get_version(), processor))
            for modality in plan.manifest.modalities
            if modality.kind == "series"
        }

    def key(self, modality: str, tile: SeriesTile) -> str:
        """Name of what a window of a series encodes to."""
        made = hashlib.sha256(self._graphs[modality].encode())
        void = tile.void if tile.void is not None else np.zeros(0, np.bool_)
        for array in (tile.pixels, tile.days, void):
            made.update(f"/{array.dtype.str}{array.shape}/".encode())
            made.update(array.tobytes())
        return made.hexdigest()

    def get(self, key: str) -> Pyramid | None:
        """What was kept; None where there is nothing, or nothing whole."""
        try:
            with self._path(key).open("rb") as file, np.load(file, allow_pickle=False) as kept:
                return tuple(kept[name] for name in sorted(kept.files))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def put(self, key: str, pyramid: Pyramid) -> None:
        """Keep a pyramid; a disk that does not take it costs the time of encoding again, not the map."""
        path = self._path(key)
        working = path.with_name(f".{uuid.uuid4().hex}.npz")
        try:
            path.parent.mkdir(exist_ok=True)
            np.savez(working, allow_pickle=False, **{f"{level:02}": array for level, array in enumerate(pyramid)})
            os.replace(working, path)
        except OSError:
            working.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key[2:]}.npz"
