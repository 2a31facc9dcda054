"""Which rasters a task's labels come from, and which class each of their values is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...engine.flairhub import TASKS
from .errors import DataSetError

__all__ = ["FLAIRHUB_LABELS", "LabelRule"]


@dataclass(frozen=True)
class LabelRule:
    """Labels of one task.

    Attributes:
        product: whose rasters hold them.
        classes: names of the classes, in the order of their numbers.
        values: value in the rasters -> class; None where both are the same.

    Raises:
        DataSetError: no such product, or a class that there is not.
    """

    product: str
    classes: tuple[str, ...]
    values: Mapping[int, int] | None = None

    def __post_init__(self) -> None:
        if self.product not in TASKS:
            raise DataSetError(f"labels of {self.product}, expected those of {' or '.join(TASKS)}; choose one of them")
        for value, to in (self.values or {}).items():
            if not (0 <= value < 2**8 and 0 <= to < len(self.classes)):
                raise DataSetError(
                    f"{self.product}: value {value} becomes class {to}, expected values 0 to 255 and classes 0 to "
                    f"{len(self.classes) - 1}; correct it"
                )

    def table(self) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Class of each value 0 to 255, and whether it is one."""
        values = self.values if self.values is not None else {value: value for value in range(len(self.classes))}
        classes, known = np.zeros(2**8, np.uint8), np.zeros(2**8, np.bool_)
        for value, to in values.items():
            classes[value], known[value] = to, True
        return classes, known


FLAIRHUB_LABELS: Mapping[str, LabelRule] = {
    task: LabelRule(task, tuple(entry.name for entry in entries)) for task, entries in TASKS.items()
}
"""FLAIR-HUB's own tasks, whose rasters hold their classes."""
