"""What is refused of a data set."""

from __future__ import annotations

from ...engine.errors import UPerFuseError

__all__ = ["DataSetError"]


class DataSetError(UPerFuseError):
    """A data set whose folders, split files, dates or rasters cannot be trained on."""
