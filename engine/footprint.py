"""The memory that tiles of a side take: measured where it is asked, in a process of its own, once for each machine.

The process loads the plan, maps one tile of all modalities with many dates, and prints the most bytes that it held. No
formula would know: it depends on the compiler, on the processor and on the precision.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from .cache import cache_root
from .errors import BackendError, UPerFuseError
from .host_memory import most_resident_bytes
from .own_process import python_command

__all__ = ["resident_bytes"]

_MOST_DATES = 96
_SEED = 1
_NONE = "none"


def resident_bytes(plan: Path, plan_hash: str, *, tile_px: int, precision: str, threads: int | None) -> int | None:
    """The most memory that a process holds which maps one tile on the processor.

    What was measured is kept in the user's cache.

    Args:
        plan: a `.plan` file.
        plan_hash: its identity.
        tile_px: side of the tile, one of the plan's.
        precision: for `Engine.load`.
        threads: for `Engine.load`.

    Returns:
        Bytes; None where the system ended the process, as it does when memory runs out.

    Raises:
        BackendError: the plan cannot be loaded so, or the tile cannot be mapped; in the words of the process.
    """
    asked = (str(tile_px), precision, str(threads) if threads is not None else _NONE)
    where = (platform.node(), version("uperfuse"), version("openvino"))
    kept = _place(hashlib.sha256("\0".join((plan_hash, *asked, *where)).encode()).hexdigest()[:32])
    try:
        if kept is not None:
            return int(kept.read_text())
    except (OSError, ValueError):  # never measured, or spoilt
        pass
    command = python_command("uperfuse.engine.footprint", str(plan), *asked)
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  our module, no shell
    if ended.returncode < 0:
        return None
    if ended.returncode:
        said = ended.stderr.strip().splitlines() or [f"status {ended.returncode}"]
        raise BackendError(f"the memory of a tile of {tile_px} px cannot be measured: {said[-1]}")
    found = int(ended.stdout)
    if kept is not None:
        _keep(kept, found)
    return found


def main() -> None:
    """Map one tile, and print the most memory that it took."""
    from . import cli  # noqa: F401  a run has all of it in memory, GDAL too
    from .check import check_tiles_of
    from .engine import Engine

    plan, tile_px, precision, threads = sys.argv[1:]
    try:
        with Engine.load(
            plan,
            device="cpu",
            precision=precision,
            threads=None if threads == _NONE else int(threads),
            tile_px=int(tile_px),
        ) as engine:
            engine.predict(check_tiles_of(engine.manifest, seed=_SEED, dates=_MOST_DATES), logits=True, grid="base")
    except UPerFuseError as error:
        sys.exit(str(error))
    print(most_resident_bytes())


def _place(key: str) -> Path | None:
    """Where a measurement is kept; None where the user has no home."""
    try:
        return cache_root() / "footprints" / key
    except RuntimeError:
        return None


def _keep(path: Path, value: int) -> None:
    """A disk that does not take it costs the time of measuring again."""
    working = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        working.write_text(str(value))
        os.replace(working, path)
    except OSError:
        working.unlink(missing_ok=True)
