"""Where this user's caches lie: what can be made again, and is kept because making it takes long."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_root"]


def cache_root() -> Path:
    """Folder of the project's caches, `$XDG_CACHE_HOME/uperfuse` or `~/.cache/uperfuse`; it need not exist.

    Raises:
        RuntimeError: the user has no home.
    """
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "uperfuse"
