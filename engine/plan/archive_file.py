"""Writing a plan's archive to disk: complete under its name, or not at all."""

from __future__ import annotations

import hashlib
import os
import uuid
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..errors import PlanError
from .container import Entry, directory

__all__ = ["Source", "sums", "write_archive"]

Source = bytes | memoryview | Path
"""Content of a member, or a file that holds it."""

_BLOCK = 1 << 20


def sums(source: Source) -> tuple[int, int, str]:
    """Size in bytes, CRC-32 and SHA-256 (hex) of a member's content."""
    size, crc, sha = 0, 0, hashlib.sha256()
    for block in _blocks(source):
        size += len(block)
        crc = zlib.crc32(block, crc)
        sha.update(block)
    return size, crc, sha.hexdigest()


def write_archive(
    path: Path, entries: tuple[Entry, ...], sources: Mapping[str, Source], *, mode: int | None = None
) -> None:
    """Write members where `entries` lays them; the file appears under its name when it is complete and on disk.

    Args:
        path: the file; one of that name is replaced.
        entries: as `container.place` gives them.
        sources: name -> content of every entry.
        mode: permissions of the file; None for those that the process gives to new files.

    Raises:
        PlanError: a file behind a member is no longer what `entries` was made from.
        OSError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("xb") as file:
            if mode is not None:
                partial.chmod(mode)
            for entry in entries:
                file.write(entry.header())
                crc = 0
                for block in _blocks(sources[entry.name]):
                    crc = zlib.crc32(block, crc)
                    file.write(block)
                if file.tell() != entry.stop or crc != entry.crc:
                    raise PlanError(f"the file behind member {entry.name} changed while {path} was written; try again")
            file.write(directory(entries))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _blocks(source: Source) -> Iterator[bytes | memoryview]:
    if not isinstance(source, Path):
        yield memoryview(source).cast("B")
        return
    with source.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block
