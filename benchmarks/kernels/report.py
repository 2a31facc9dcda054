"""What is said of a case's times: to the reader, and to pytest-benchmark."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..peaks import Load, Peak
from .measure import OURS

__all__ = ["CLOCK", "Percentiles", "describe", "keep"]


class _Replay:
    """A clock that stands still but for `advance`: pytest-benchmark reads times from it that were taken before."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds


CLOCK = _Replay()
"""The timer of tests that call `keep`."""


@dataclass(frozen=True)
class Percentiles:
    """Seconds that 20, 50 and 80 of 100 calls stay below."""

    p20: float
    p50: float
    p80: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Percentiles:
        """Interpolate between the nearest times; a single time is all three."""
        if len(seconds) == 1:
            return cls(seconds[0], seconds[0], seconds[0])
        tenths = statistics.quantiles(seconds, n=10, method="inclusive")
        return cls(tenths[1], tenths[4], tenths[7])


def describe(seconds: Mapping[str, Sequence[float]], *, load: Load, peak: Peak | None) -> list[str]:
    """A line per side: percentiles, what they achieve, and how far above the floor they lie.

    What is achieved is counted in what the kernel must move or compute, whatever a side really moves.

    Args:
        seconds: of every side.
        load: what the kernel must move and compute.
        peak: the board's rates, if they are known.
    """
    lines = []
    for name, times in seconds.items():
        at = Percentiles.of(times)
        rate = f"{load.moved / at.p50 / 1e9:.0f} GB/s"
        if peak is not None and peak.bound(load) == "matrix":
            rate = f"{load.matrix_flop / at.p50 / 1e12:.1f} TFLOP/s"
        floor = "floor unknown for this board"
        if peak is not None:
            least = peak.floor_us(load)
            floor = f"floor {least:.1f} us, {1e6 * at.p50 / least:.1f} x"
        us = " / ".join(f"{1e6 * value:.1f}" for value in (at.p20, at.p50, at.p80))
        lines.append(f"{name}: {us} us, {rate}, {floor}")
    return lines


def keep(benchmark: Any, seconds: Mapping[str, Sequence[float]], *, load: Load, peak: Peak | None) -> None:
    """Hand times to pytest-benchmark: ours as the test's, the percentiles of all sides as extra information.

    Args:
        benchmark: the fixture, in a test whose timer is `CLOCK`.
        seconds: of every side.
        load: what the kernel must move and compute.
        peak: the board's rates, if they are known.
    """
    benchmark.extra_info |= {name: asdict(Percentiles.of(times)) for name, times in seconds.items()}
    benchmark.extra_info |= {"load": asdict(load), "board": peak.board if peak else None}
    taken = iter(seconds[OURS])
    benchmark.pedantic(lambda: CLOCK.advance(next(taken)), rounds=len(seconds[OURS]))
