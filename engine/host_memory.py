"""How much memory the host can still give."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["available_host_bytes"]


def available_host_bytes() -> int:
    """Memory that can be given without swapping, caches of files included."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), flags=re.MULTILINE)
    except OSError:  # not Linux: what is installed is the best that is known
        found = None
    if found:
        return int(found[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
