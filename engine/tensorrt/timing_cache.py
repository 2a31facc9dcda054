"""Timings that builds left, kept for the next build on the same machine with the same version.

    <user's cache>/uperfuse/tensorrt/<machine>-<version>.<SHA-256 of the file>.timing

With the timings of an earlier build TensorRT chooses as it chose then, and in a fraction of the time. The hash pins a
file: a plan records which timings its engines were built with, and a file whose content is not what its name says is
not used.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from ..cache import cache_root

__all__ = ["KEPT", "Timings", "keep_timings", "read_timings"]

KEPT = 4
"""Files per machine and version beyond which the oldest go."""

MAX_TIMINGS_BYTES = 256 << 20
"""Size beyond which a file is not read: TensorRT writes a few megabytes."""


@dataclass(frozen=True)
class Timings:
    """What is known of timings.

    Attributes:
        data: what TensorRT serialised; None where there is nothing to start from.
        sha256: of it; None without.
        notes: what was found and not used, or could not be kept, and why.
    """

    data: bytes | None = None
    sha256: str | None = None
    notes: tuple[str, ...] = ()


def read_timings(machine: str, *, version: str, pinned: str | None = None) -> Timings:
    """The newest timings of a machine and version, or those with a given hash.

    Args:
        machine: name of the GPU.
        version: of TensorRT, with its package's name.
        pinned: SHA-256 of the timings that are wanted; None takes the newest.
    """
    notes: list[str] = []
    try:
        for path in _files(machine, version):
            named = path.name.split(".")[-2]
            if pinned not in (None, named):
                continue
            data = path.read_bytes() if path.stat().st_size <= MAX_TIMINGS_BYTES else b""
            found = hashlib.sha256(data).hexdigest()
            if data and found == named:
                return Timings(data, found, tuple(notes))
            notes.append(f"timings {path.name} hold something else than their name says and were not used; delete them")
    except (OSError, RuntimeError) as error:
        notes.append(f"timings of earlier builds cannot be read: {error}")
    return Timings(notes=tuple(notes))


def keep_timings(data: bytes, *, machine: str, version: str) -> Timings:
    """Keep timings for the next build; a build does not fail where they cannot be kept.

    Args:
        data: what TensorRT serialised.
        machine: name of the GPU.
        version: of TensorRT, with its package's name.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        folder = _folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{_stem(machine, version)}.{sha256}.timing"
        working = folder / f".{uuid.uuid4().hex}"
        try:
            with open(working, "xb", opener=_private) as file:
                file.write(data)
            os.replace(working, path)
        finally:
            working.unlink(missing_ok=True)
        for old in _files(machine, version)[KEPT:]:
            old.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        return Timings(data, sha256, (f"timings are not kept for the next build: {error}",))
    return Timings(data, sha256)


def _folder() -> Path:
    return cache_root() / "tensorrt"


def _stem(machine: str, version: str) -> str:
    """Start of the names of files: readable, and different for different machines and versions."""
    readable = re.sub(r"[^A-Za-z0-9-]+", "_", f"{machine}-{version}")[:80]
    return f"{readable}-{hashlib.sha256(f'{machine}/{version}'.encode()).hexdigest()[:8]}"


def _files(machine: str, version: str) -> list[Path]:
    """Files of a machine and version, newest first."""
    pattern = re.compile(rf"{re.escape(_stem(machine, version))}\.[0-9a-f]{{64}}\.timing")
    folder = _folder()
    found = [path for path in folder.iterdir() if pattern.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
