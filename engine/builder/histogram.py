"""How the values of a map are spread, counted as they come, and the range that 8 bits have to tell apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import PlanError
from .eight_bits import Range

__all__ = ["Histogram"]

_BINS = 2048
_SMALLEST = 2.0**-64  # nothing that a network computes with; its bins would leave float32
_KEPT = 0.99999
"""Share of values that a range holds.

Measured on the small plan and simulated tiles that gave no ranges, all segments in int8: logits are off by 1.7 and
2.5 % (its two tasks) with the largest value as bound, by 1.8 and 2.7 % with this, by 2.1 and 3.7 % with 99.99 %, by
2.1 and 3.6 % with the bound of least mean square error. Large values count; a single stray pixel does not.
"""


class Histogram:
    """Counts of absolute values in equal bins, whose width doubles when a larger value comes.

    Args:
        name: of the map, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._counts = np.zeros(_BINS, np.int64)
        self._top = 0.0
        self.low = 0.0
        self.high = 0.0

    def add(self, values: NDArray[np.floating[Any]]) -> None:
        """Count values.

        Raises:
            PlanError: some are not finite.
        """
        low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
        if not np.isfinite(high - low):
            raise PlanError(f"{self._name} takes NaN or infinite values; the network overflowed on the user's tiles")
        if max(high, -low) >= _SMALLEST:
            self.low, self.high = min(self.low, low), max(self.high, high)
        largest = max(self.high, -self.low)
        if largest == 0:
            self._counts[0] += values.size
            return
        if self._top == 0:
            self._top = largest * (1 + 2**-20)
        while self._top < largest:
            self._counts = np.concatenate([self._counts.reshape(-1, 2).sum(1), np.zeros(_BINS // 2, np.int64)])
            self._top *= 2
        bins = (np.abs(values.ravel()) * np.float32(_BINS / self._top)).astype(np.int32)
        self._counts += np.bincount(np.minimum(bins, _BINS - 1), minlength=_BINS)

    def range(self) -> Range:
        """The range of all values but the largest, 1 in 100,000."""
        within = np.cumsum(self._counts)
        bound = (1 + int(np.searchsorted(within, _KEPT * within[-1]))) * self._top / _BINS
        return Range(max(self.low, -bound), min(self.high, bound))
