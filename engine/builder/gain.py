"""How much faster 8 bits are than the precision that the processor would take without them: timed in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..check import check_tiles_of
from ..engine import Engine
from ..errors import BackendError

__all__ = ["Gain", "gain_of"]

_ROUNDS = 9
_WARM_UP = 2
_SEED, _DATES = 3, 32


@dataclass(frozen=True)
class Gain:
    """Times of one tile, in turns.

    Attributes:
        precision: of the other side.
        ratios: round by round, how many times as fast 8 bits were.
    """

    precision: str
    ratios: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of the ratios."""
        return statistics.median(self.ratios)

    @property
    def lines(self) -> Iterator[str]:
        """For the user."""
        low, _, high = statistics.quantiles(self.ratios, n=4)
        yield (
            f"{self.median:.2f} x as fast as in {self.precision} on this processor (quartiles {low:.2f} to {high:.2f}, "
            f"{len(self.ratios)} rounds in turns)"
        )
        if self.median <= 1:
            yield f"8 bits are no faster here: load the plan with --precision {self.precision}, or where they are"


def gain_of(plan: Path) -> Gain:
    """Time the 8-bit form of a plan against the best other precision of this processor.

    Args:
        plan: a plan with an 8-bit form.
    """
    with Engine.load(plan, device="cpu", precision="int8") as short, _other(plan) as other:
        tiles = check_tiles_of(short.manifest, seed=_SEED, dates=_DATES)
        ratios = []
        for _ in range(_WARM_UP + _ROUNDS):
            spent = []
            for engine in (short, other):
                start = time.perf_counter()
                engine.predict(tiles)
                spent.append(time.perf_counter() - start)
            ratios.append(spent[1] / spent[0])
        return Gain(other.precision, tuple(ratios[_WARM_UP:]))


def _other(plan: Path) -> Engine:
    try:
        return Engine.load(plan, device="cpu", precision="bf16")
    except BackendError:  # this processor has no bf16
        return Engine.load(plan, device="cpu", precision="float32")
