"""Exported plans that several processes of one test run use: made once, under what they were made from."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (
    "trainer/**/*.py",
    "kernels/**/*.py",
    "engine/plan/*.py",
    "engine/agreement.py",
    "engine/check.py",
    "engine/flairhub.py",
)
TOOLS = ("torch", "timm", "onnx", "onnxscript", "openvino", "numpy")


def cached_plan(name: str, make: Callable[[Path], object], *, made_from: str = "") -> Path:
    """A plan under `build/plans/`, made if it is not there.

    Args:
        name: of the file, without its ending.
        make: writes the plan to the path that it is given.
        made_from: what the plan depends on beside the project's sources and tools.
    """
    folder = ROOT / "build" / "plans" / _key(made_from)
    path = folder / f"{name}.plan"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        working = folder / f".{name}.{os.getpid()}.plan"
        with (folder / f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another process of the run may be making it
            if not path.exists():
                make(working)
                working.replace(path)
    return path


@lru_cache
def _key(made_from: str) -> str:
    digest = hashlib.sha256(made_from.encode())
    for tool in TOOLS:
        digest.update(f"{tool} {version(tool)}\n".encode())
    for path in sorted(path for pattern in SOURCES for path in ROOT.glob(pattern)):
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]
