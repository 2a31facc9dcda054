"""How much of the processor this process may use."""

from __future__ import annotations

import os

__all__ = ["core_numbers", "usable_cores"]


def usable_cores() -> int:
    """Cores that this process may use; all there are where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def core_numbers() -> tuple[int, ...]:
    """Their numbers; none where the system does not tell."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()
