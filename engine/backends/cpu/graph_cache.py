"""Where compiled graphs are kept, so that a plan seen before loads at once.

    <user's cache>/uperfuse/openvino/<hash of the plan's graphs, the compiler and how it is asked>/*.blob

One folder per set of graphs: two plans never share what was compiled, and the least recently used folder goes first
when all of them together grow too large.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from pathlib import Path

import openvino as ov

from ...cache import cache_root
from ...plan.plan import Plan

__all__ = ["MAX_CACHE_BYTES", "REVISION", "open_cache", "trim_cache"]

REVISION = 5
"""To be raised when graphs are changed or compiled in another way: OpenVINO does not look at all of its settings."""

MAX_CACHE_BYTES = 8 << 30
"""Size of all compiled graphs together, beyond which the least recently used ones are deleted."""


def open_cache(plan: Plan) -> Path | None:
    """Folder for the compiled graphs of a plan, marked as used now; None where none can be written."""
    manifest = plan.manifest
    graphs = [plan.graph_hash(segment.name) for segment in manifest.segments]
    if manifest.quantised is not None:
        graphs += [manifest.members[name].sha256 for name in manifest.quantised.segments.values()]
    key = [str(REVISION), ov.get_version(), *sorted(graphs)]
    try:
        folder = cache_root() / "openvino" / hashlib.sha256("/".join(key).encode()).hexdigest()[:32]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = folder / f".{uuid.uuid4().hex}"
        probe.touch(exist_ok=False)
        probe.unlink()
        os.utime(folder)
    except (OSError, RuntimeError):  # RuntimeError: the user has no home
        return None
    return folder


def trim_cache(*, keep: Path, max_bytes: int = MAX_CACHE_BYTES) -> None:
    """Delete the least recently used graphs until the rest fits; `keep` stays in any case."""
    sizes = {}
    try:
        for entry in keep.parent.iterdir():
            files = [entry, *entry.rglob("*")]
            sizes[entry] = (entry.stat().st_mtime, sum(file.stat().st_size for file in files))
        total = sum(size for _, size in sizes.values())
        for entry, (_, size) in sorted(sizes.items(), key=lambda item: item[1]):
            if total <= max_bytes:
                return
            if entry != keep:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
                total -= size
    except OSError:  # another process tidies up at the same time, and will finish it
        return
