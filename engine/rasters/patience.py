"""Reading where something may be in the way: a share that was away for a moment, a block that is damaged."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from .files import UnreadableError
from .reader import SceneReader, TileInputs
from .run import FileState
from .tiling import TilePlace

__all__ = ["PAUSES_S", "PatientReader"]

PAUSES_S: Sequence[float] = (0.1, 1.0)
"""Seconds to wait before each further try."""


class PatientReader:
    """Reads tiles, some more than once, and looks whether the files stay what they are.

    Args:
        reader: of the scene.
        files: state of the files when the run began.
    """

    def __init__(self, reader: SceneReader, files: Sequence[FileState]) -> None:
        self._reader = reader
        self._files = files

    def read(self, place: TilePlace) -> TileInputs | None:
        """Read one tile; see `SceneReader.read`.

        Raises:
            UnreadableError: it was tried in vain; the message has the place.
            RasterError: a file is gone, or another than when the run began.
        """
        found = self._tried(place)
        for file in self._files:
            file.check()
        return found

    def _tried(self, place: TilePlace) -> TileInputs | None:
        for pause in PAUSES_S:
            with suppress(UnreadableError):
                return self._reader.read(place)
            time.sleep(pause)
            self._reader.reopen()
        try:
            return self._reader.read(place)
        except UnreadableError as error:
            tries = len(PAUSES_S) + 1
            raise UnreadableError(f"{place.core_words}: {error} (tried {tries} times)") from error
