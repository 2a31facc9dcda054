"""How much memory the host can still give, and how much this process took of it."""

from __future__ import annotations

import os
import re
import resource
import sys
from pathlib import Path

__all__ = ["available_host_bytes", "most_resident_bytes"]


def available_host_bytes() -> int:
    """Memory that can be given without swapping, caches of files included."""
    found = _kernel_says("/proc/meminfo", "MemAvailable")
    if found is not None:
        return found
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # what is installed is the best that is known


def most_resident_bytes() -> int:
    """The most memory that this process held at a time, without what the one held that it was forked from."""
    found = _kernel_says("/proc/self/status", "VmHWM")
    if found is not None:
        return found
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _kernel_says(path: str, name: str) -> int | None:
    """Bytes that Linux tells under a name; None elsewhere."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", Path(path).read_text(), flags=re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
