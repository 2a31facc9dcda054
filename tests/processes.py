"""Processes that tests begin: whether they have ended, as /proc says it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

__all__ = ["GONE_S", "children", "have_ended"]

GONE_S = 20.0
"""Seconds within which a process that is told to end is gone."""


def have_ended(pids: Iterable[int]) -> bool:
    """Whether processes end soon enough."""
    pids = [*pids]
    until = time.monotonic() + GONE_S
    while any(map(_is_running, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(_is_running, pids))


def children(pid: int) -> list[int]:
    """Processes that the main thread of a process has begun and that are still there."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _is_running(pid: int) -> bool:
    """Whether a process is there, and not only waits for somebody to ask how it ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
