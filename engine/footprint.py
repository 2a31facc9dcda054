"""The memory that tiles of a side take: measured where it is asked, in a process of its own, once for each machine.

    python -m uperfuse.engine.footprint PLAN TILE_PX PRECISION THREADS

prints the most bytes that a process held which loaded the plan and mapped one tile of all modalities with many dates.
No formula would know: it depends on the compiler, on the processor and on the precision.
"""

from __future__ import annotations

import hashlib
import os
import re
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from .cache import cache_root
from .errors import BackendError, UPerFuseError

__all__ = ["resident_bytes"]

_MOST_DATES = 96
_SEED = 1
_NONE = "none"


def resident_bytes(plan: Path, plan_hash: str, *, tile_px: int, precision: str, threads: int | None) -> int:
    """The most memory that a process holds which maps one tile on the processor.

    What was measured is kept in the user's cache.

    Args:
        plan: a `.plan` file.
        plan_hash: its identity.
        tile_px: side of the tile, one of the plan's.
        precision: for `Engine.load`.
        threads: for `Engine.load`.

    Raises:
        BackendError: the process did not come to its end.
    """
    asked = (str(tile_px), precision, str(threads) if threads is not None else _NONE)
    releases = (version("uperfuse"), version("openvino"))
    key = hashlib.sha256("\0".join((plan_hash, *asked, *releases)).encode()).hexdigest()[:32]
    kept = cache_root() / "footprints" / key
    try:
        return int(kept.read_text())
    except (OSError, ValueError):
        pass
    command = [sys.executable, "-m", "uperfuse.engine.footprint", str(plan), *asked]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this interpreter, our module
    if ended.returncode != 0:
        said = ended.stderr.strip().splitlines()
        raise BackendError(
            f"one tile of {tile_px} px was not mapped within this machine's memory or rules "
            f"({said[-1] if said else f'status {ended.returncode}'}); choose smaller tiles with --tile-px"
        )
    found = int(ended.stdout)
    _keep(kept, found)
    return found


def main(arguments: list[str]) -> None:
    """Map one tile, and print the most memory that it took."""
    from . import cli  # noqa: F401 - a run has read all of it, GDAL too
    from .check import check_tiles_of
    from .engine import Engine

    plan, tile_px, precision, threads = arguments
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
    print(_most_resident_bytes())


def _most_resident_bytes() -> int:
    """Of this process, without what the one held that it was made of."""
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), flags=re.MULTILINE)
    except OSError:  # not Linux
        found = None
    if found:
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _keep(path: Path, value: int) -> None:
    """A disk that does not take it costs the time of measuring again."""
    working = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        working.write_text(str(value))
        os.replace(working, path)
    except OSError:
        working.unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1:])
