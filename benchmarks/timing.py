"""Timing of several sides in turns, so that whatever else the machine does falls on all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

__all__ = ["interleaved", "ratios", "report", "wall_clock"]

_WARM_UP = 3
_PAUSE_S = 0.02  # PyTorch's threads keep a core busy for a while after their work is done


def wall_clock(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    time.sleep(_PAUSE_S)
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def interleaved(
    sides: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warm_up: int = _WARM_UP,
    seconds_of: Callable[[Callable[[], object]], float] = wall_clock,
) -> dict[str, list[float]]:
    """Seconds of each call, after a few that do not count.

    Args:
        sides: name -> what is timed; called in turns.
        rounds: calls of each side that count.
        warm_up: calls of each side that do not.
        seconds_of: makes a call and tells how long it took.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for count in range(-warm_up, rounds):
        for name, call in sides.items():
            taken = seconds_of(call)
            if count >= 0:
                seconds[name].append(taken)
    return seconds


def ratios(seconds: Mapping[str, list[float]], *, of: str, over: str) -> list[float]:
    """What one side took over what another took, round by round.

    Both sides of a round are neighbours in time: what else the machine did fell on both, and leaves their ratio alone.
    """
    return [one / other for one, other in zip(seconds[of], seconds[over], strict=True)]


def report(seconds: Mapping[str, list[float]], *, against: str) -> list[str]:
    """A line per side: median, quartiles, and how many times the median of `against` its own goes into."""
    width = max(map(len, seconds))
    reference = statistics.median(seconds[against])
    lines = []
    for name, times in seconds.items():
        quartiles = statistics.quantiles(times, n=4) if len(times) > 1 else times * 3
        low, middle, high = (1e3 * value for value in quartiles)
        ratio = "" if name == against else f", {1e3 * reference / middle:.1f} x as fast as {against}"
        lines.append(f"{name:>{width}}: median {middle:.2f} ms, quartiles {low:.2f} to {high:.2f} ms{ratio}")
    return lines
