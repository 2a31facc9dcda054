"""A case's times: right first, then cold, in turns, by the GPU's own clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..timing import interleaved
from .draw import Call, Draw

__all__ = ["OURS", "ColdStopwatch", "Stopwatch", "measure", "sides_of"]

OURS = "kernel"
"""Name of the side that is ours."""

ROUNDS = 100
WARM_UP = 10

_LEAST_FLUSH_BYTES = 1 << 28

Stopwatch = Callable[[Callable[[], object]], float]
"""Makes a call and tells how many seconds it took."""

Check = Callable[[Sequence[Tensor], Sequence[Tensor]], None]
"""Compares what a kernel computed with the truth in float64; raises AssertionError."""


class ColdStopwatch:
    """Times a call between two CUDA events, after everything was driven out of the L2 cache.

    Clearing the cache keeps the GPU busy while the call is prepared, so that what is short is not timed as its launch.
    """

    def __init__(self, device: torch.device) -> None:
        cache_bytes = torch.cuda.get_device_properties(device).L2_cache_size
        self._cache = torch.empty(max(4 * cache_bytes, _LEAST_FLUSH_BYTES), dtype=torch.uint8, device=device)

    def __call__(self, call: Callable[[], object]) -> float:
        """Seconds on the GPU."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]  # torch says no types
        self._cache.zero_()
        start.record()
        call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3


def sides_of(call: Call, *, compiled: bool = True) -> dict[str, Callable[[], object]]:
    """What is timed against each other: ours, plain PyTorch, the same compiled, and the case's rivals."""
    sides: dict[str, Callable[[], object]] = {
        OURS: lambda: call.operation(*call.arguments, **call.keywords),
        "PyTorch": lambda: call.reference(*call.arguments, **call.keywords),
    }
    if compiled:
        torch.compiler.reset()  # a case's shapes must not turn dynamic because another's were different
        reference = torch.compile(call.reference)
        sides["torch.compile"] = lambda: reference(*call.arguments, **call.keywords)
    return sides | dict(call.rivals)


def measure(
    make: Callable[[Draw], Call],
    *,
    device: torch.device,
    dtype: torch.dtype,
    check: Check,
    seconds_of: Stopwatch,
    compiled: bool = True,
    rounds: int = ROUNDS,
    warm_up: int = WARM_UP,
) -> dict[str, list[float]]:
    """Seconds of every side of a case, in turns.

    Args:
        make: the case's call from its inputs.
        device: that runs it.
        dtype: of the inputs.
        check: raises where the kernel's result is wrong; nothing is timed then.
        seconds_of: times a call.
        compiled: whether the compiled reference takes part.
        rounds: of each side that count.
        warm_up: of each side that do not.

    Raises:
        AssertionError: the kernel is wrong.
    """
    with torch.inference_mode():
        call, exact = make(Draw(device, dtype)), make(Draw(device, dtype, exact=True))
        check(call.run(call.operation), exact.run(exact.reference))
        del exact
        sides = sides_of(call, compiled=compiled)
        return interleaved(sides, rounds=rounds, warm_up=warm_up, seconds_of=seconds_of)
