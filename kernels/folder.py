"""The folder of a build: it appears when all is done, or not at all."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .records import BuildError

__all__ = ["check_free", "replacing"]


def check_free(out: Path) -> None:
    """Refuse to replace anything but an earlier build."""
    if not out.exists():
        return
    if not out.is_dir():
        raise BuildError(f"{out} is a file, expected a folder; name another place")
    ours = re.compile(r"sm_\d+(/\w+\.[\w-]+\.(cubin|ptx|json))?")
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if not ours.fullmatch(name):
            raise BuildError(f"{out} holds {name}, expected an empty folder or an earlier build; name another folder")


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A new folder that takes the place of `out` when the `with` ends without an error, and vanishes otherwise."""
    out.parent.mkdir(parents=True, exist_ok=True)
    new = out.with_name(f".{out.name}.new-{os.getpid()}")
    old = out.with_name(f".{out.name}.old-{os.getpid()}")
    new.mkdir()
    try:
        yield new
        if out.exists():
            out.rename(old)
        new.rename(out)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
