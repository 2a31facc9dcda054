"""Files of a keyring: read only where nobody else could have written them, made whole or not at all."""

from __future__ import annotations

import os
import re
import stat
import uuid
from pathlib import Path

from .errors import KeyringError

__all__ = ["check_name", "create_file", "make_folder", "parse_line", "public_line", "read_file", "usable_folder"]

_LARGEST_BYTES = 4096
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")
_LINE = re.compile(rf"ed25519 (?P<key>[0-9a-f]{{64}})(?: (?P<name>{_NAME.pattern}))?\s*")
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_ALL = stat.S_IRWXG | stat.S_IRWXO


def check_name(name: str) -> str:
    """Return a key's name.

    Raises:
        KeyringError: it is none that a file could have on every machine.
    """
    if not _NAME.fullmatch(name):
        raise KeyringError(
            f"key name {name[:80]!a}, expected up to 64 letters, digits and _ . - that begin with a letter or digit"
        )
    return name


def public_line(key: bytes, name: str) -> str:
    """What stands in a file of a public key."""
    return f"ed25519 {key.hex()} {name}\n"


def parse_line(content: bytes, *, what: str) -> tuple[bytes, str | None]:
    """Public key and, where it is said, name from the content of a public key's file.

    Args:
        content: of the file.
        what: name of the file for messages.

    Raises:
        KeyringError: it is not the one line that `public_line` writes.
    """
    if b"PRIVATE KEY" in content:
        raise KeyringError(f"{what} holds a private key, which is nobody's to hand on; give the .pub file beside it")
    found = _LINE.fullmatch(content.decode("ascii", "replace"))
    if found is None:
        raise KeyringError(f"{what} is damaged: expected one line `ed25519 <64 hexadecimal digits> <name>`")
    return bytes.fromhex(found["key"]), found["name"]


def read_file(path: Path, *, secret: bool) -> bytes:
    """Content of a small file that nobody else could have written and, where it is secret, read.

    Raises:
        KeyringError: others may write (or read) it, it belongs to somebody else, or it is no small file.
        OSError: it cannot be read.
    """
    # opening must neither follow a link nor wait for the writer of a pipe
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    if path.is_symlink():
        raise KeyringError(f"{path} is a link, and where it leads is not the keyring's to guard; copy the file here")
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_BYTES:
            raise KeyringError(f"{path} is no file of at most {_LARGEST_BYTES} bytes; remove it from the keyring")
        _check_owner(path, status, forbidden=_OTHERS_ALL if secret else _OTHERS_WRITE)
        return os.read(descriptor, _LARGEST_BYTES)
    finally:
        os.close(descriptor)


def usable_folder(folder: Path) -> bool:
    """Whether there is a keyring's folder that nobody else can write into.

    Raises:
        KeyringError: there is one, and others may write into it.
        OSError: it cannot be looked at.
    """
    for place in (folder.parent, folder):
        try:
            status = place.stat()
        except FileNotFoundError:
            return False
        if not stat.S_ISDIR(status.st_mode):
            raise KeyringError(f"{place} is not a folder; move it away to have a keyring")
        _check_owner(place, status, forbidden=_OTHERS_WRITE)
    return True


def make_folder(folder: Path) -> None:
    """Make a keyring's folder, for its owner alone, where there is none.

    Raises:
        KeyringError: as `usable_folder`.
        OSError: it cannot be made.
    """
    if usable_folder(folder):
        return
    folder.parent.parent.mkdir(parents=True, exist_ok=True)
    for place in (folder.parent, folder):
        place.mkdir(mode=stat.S_IRWXU, exist_ok=True)
    usable_folder(folder)


def create_file(path: Path, content: bytes) -> None:
    """Make a file that its owner alone can read; it appears under its name when it is complete.

    Raises:
        FileExistsError: there is a file of that name: of two programs that make it at once, one gets this.
        OSError: it cannot be made.
    """
    partial = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(partial, path)  # unlike renaming, it never replaces
    finally:
        partial.unlink(missing_ok=True)


def _check_owner(path: Path, status: os.stat_result, *, forbidden: int) -> None:
    """Modes and owners say who may write; where they do not exist, the user's profile is what guards it."""
    if os.name != "posix":
        return
    if status.st_uid not in (os.geteuid(), 0):
        raise KeyringError(
            f"{path} belongs to user {status.st_uid}, expected {os.geteuid()} or root; make a keyring of your own"
        )
    if status.st_mode & forbidden:
        may = "be written" if status.st_mode & _OTHERS_WRITE else "be read"
        remedy = "go-w" if forbidden == _OTHERS_WRITE else "600"
        raise KeyringError(
            f"{path} may {may} by others (mode {stat.S_IMODE(status.st_mode):04o}); see that it is what you put"
            f" there, then run `chmod {remedy} {path}`"
        )
