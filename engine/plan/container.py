"""The archive around a plan: a ZIP of stored members that has exactly one valid form.

- Members are stored (uncompressed), `manifest.json` first and the others in the order of their names; the bytes of each
  start at a multiple of 64, so that they can be mapped as arrays. An alignment field (id 0xD935) in the local header
  pads up to it.
- What members there are is the manifest's to say; `signature` alone is no business of it (`signature.py`).
- Every byte belongs to a header or a member: nothing stands before, between or after them. Time stamps, attributes and
  versions are constants; ZIP64 fields occur exactly where an offset does not fit 32 bits.
- Reading trusts no header: each rule is checked by name, and then every header must equal the one that the writer
  would have made.

Members that differ in name, size or CRC give different headers, and nothing else does: the same members make the same
bytes. Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3 to 4.5.
"""

from __future__ import annotations

import re
import stat
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..errors import PlanError

__all__ = ["ALIGNMENT", "MANIFEST", "MAX_MEMBERS", "MAX_PLAN_BYTES", "Entry", "directory", "place", "read_entries"]

ALIGNMENT = 64
MANIFEST = "manifest.json"
MAX_MEMBERS = 2048  # kernels alone are three for each variant and architecture
MAX_PLAN_BYTES = 16 * 2**30
MAX_MANIFEST_BYTES = 4 * 2**20
MAX_NAME = 200

_IN_ZIP64 = 0xFFFFFFFF  # what a 32-bit field holds whose value stands in a ZIP64 field
_FAR = 0xFFFFFFFF  # the first offset that needs one

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_ALIGN = struct.Struct("<HHH")
_OFFSET_64 = struct.Struct("<HHQ")

_LOCAL_MARK, _CENTRAL_MARK, _END_MARK = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_END_64_MARK, _LOCATOR_64_MARK = b"PK\x06\x06", b"PK\x06\x07"
_ALIGN_ID, _OFFSET_64_ID = 0xD935, 0x0001
_VERSION, _VERSION_64, _UNIX = 20, 45, 3
_DATE = 1 << 5 | 1  # 1 January 1980
_ATTRIBUTES = (stat.S_IFREG | 0o644) << 16
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+\-]*")


@dataclass(frozen=True)
class Entry:
    """Where one member lies.

    Attributes:
        name: path inside the archive, ASCII, with `/`.
        size: bytes of content, below 4 GiB.
        crc: CRC-32 of the content.
        start: offset of the local header in bytes.
    """

    name: str
    size: int
    crc: int
    start: int

    @property
    def offset(self) -> int:
        """Offset of the content in bytes, a multiple of `ALIGNMENT`."""
        headed = self.start + _LOCAL.size + len(self.name) + _ALIGN.size
        return headed + -headed % ALIGNMENT

    @property
    def stop(self) -> int:
        """Offset behind the content in bytes."""
        return self.offset + self.size

    def header(self) -> bytes:
        """The local header, alignment field included: the bytes from `start` to `offset`."""
        spare = self.offset - self.start - _LOCAL.size - len(self.name)
        head = _LOCAL.pack(_LOCAL_MARK, _VERSION, 0, 0, 0, _DATE, self.crc, self.size, self.size, len(self.name), spare)
        padding = _ALIGN.pack(_ALIGN_ID, spare - 4, ALIGNMENT)
        return head + self.name.encode("ascii") + padding + bytes(spare - len(padding))

    def record(self) -> bytes:
        """The record of the central directory."""
        far = self.start >= _FAR
        extra = _OFFSET_64.pack(_OFFSET_64_ID, 8, self.start) if far else b""
        version = _VERSION_64 if far else _VERSION
        head = _CENTRAL.pack(
            _CENTRAL_MARK, _UNIX << 8 | version, version, 0, 0, 0, _DATE, self.crc, self.size, self.size,
            len(self.name), len(extra), 0, 0, 0, _ATTRIBUTES, _IN_ZIP64 if far else self.start,
        )  # fmt: skip
        return head + self.name.encode("ascii") + extra


def place(members: Iterable[tuple[str, int, int]]) -> tuple[Entry, ...]:
    """Lay members out in an archive.

    Args:
        members: name, size in bytes and CRC-32 of each.

    Returns:
        The entries in the order in which they are written: the manifest, then the others by name.

    Raises:
        PlanError: a name, a size or the number of members breaks a rule.
    """
    entries: list[Entry] = []
    start = 0
    for name, size, crc in sorted(members, key=lambda member: (member[0] != MANIFEST, member[0])):
        _check_name(name.encode("utf-8", "surrogatepass"))
        entries.append(Entry(name=name, size=size, crc=crc, start=start))
        start = entries[-1].stop
    _check_members(entries)
    total = start + len(directory(entries))
    if total > MAX_PLAN_BYTES:
        raise PlanError(f"plan of {total} bytes, at most {MAX_PLAN_BYTES} are allowed")
    return tuple(entries)


def directory(entries: Iterable[Entry]) -> bytes:
    """The central directory with its end records: what follows the last member."""
    entries = tuple(entries)
    records = b"".join(entry.record() for entry in entries)
    start, count = entries[-1].stop, len(entries)
    far = start >= _FAR
    end = _END.pack(_END_MARK, 0, 0, count, count, len(records), _IN_ZIP64 if far else start, 0)
    if not far:
        return records + end
    end_64 = _END_64.pack(
        _END_64_MARK, _END_64.size - 12, _UNIX << 8 | _VERSION_64, _VERSION_64, 0, 0, count, count, len(records), start
    )
    return records + end_64 + _LOCATOR_64.pack(_LOCATOR_64_MARK, 0, start + len(records), 1) + end


def read_entries(archive: memoryview) -> tuple[Entry, ...]:
    """Read and check every header of an archive; contents are left alone.

    Args:
        archive: the whole file, bytes.

    Returns:
        The entries in the order of the file; they and the headers cover it without a gap.

    Raises:
        PlanError: a rule of the format is broken; the message names it.
    """
    if len(archive) > MAX_PLAN_BYTES:
        raise PlanError(f"plan of {len(archive)} bytes, at most {MAX_PLAN_BYTES} are allowed")
    count, start, stop = _read_end(archive)
    entries = tuple(_read_records(archive, count, start, stop))
    _check_members(entries)
    _check_places(archive, entries, start)
    if bytes(archive[start:]) != directory(entries):
        raise PlanError("the central directory departs from the one form that a plan has (versions, dates or order)")
    return entries


def _read_end(archive: memoryview) -> tuple[int, int, int]:
    """Number of records, and where the central directory starts and stops."""
    at = len(archive) - _END.size
    if at < 0 or archive[at : at + 4] != _END_MARK:
        raise PlanError(_missing_end(bytes(archive[-_END.size - 0xFFFF :])))
    _, disk, first_disk, here, count, size, start, comment = _END.unpack_from(archive, at)
    if comment:
        raise PlanError(f"ZIP comment of {comment} bytes announced, expected none")
    if disk or first_disk or here != count:
        raise PlanError("archive split over several disks, expected one file")
    if not 1 <= count <= MAX_MEMBERS:
        raise PlanError(f"{count} members, expected 1 to {MAX_MEMBERS}")
    stop = at
    if start == _IN_ZIP64:
        stop = at - _LOCATOR_64.size - _END_64.size
        if stop < 0 or archive[stop : stop + 4] != _END_64_MARK:
            raise PlanError("ZIP64 offset announced, but no ZIP64 end record is there")
        start = _END_64.unpack_from(archive, stop)[-1]
        if start < _FAR:
            raise PlanError("ZIP64 end record where the offset fits 32 bits")
    if start + size > stop:
        raise PlanError(f"truncated: the central directory is said to end at byte {start + size}, it ends at {stop}")
    if start + size < stop:
        raise PlanError(f"{stop - start - size} leading or stray bytes that belong to no member")
    return count, start, stop


def _missing_end(tail: bytes) -> str:
    at = tail.rfind(_END_MARK)
    if at < 0 or at + _END.size > len(tail):
        return "truncated, or not a plan: no end record at the end of the file"
    behind = len(tail) - at - _END.size
    if _END.unpack_from(tail, at)[-1] == behind:
        return f"ZIP comment of {behind} bytes, expected none"
    return f"{behind} trailing bytes after the end record"


def _read_records(archive: memoryview, count: int, at: int, stop: int) -> Iterator[Entry]:
    for _ in range(count):
        if at + _CENTRAL.size > stop or archive[at : at + 4] != _CENTRAL_MARK:
            raise PlanError(f"truncated central directory: fewer than the {count} records announced")
        (_, _, _, flags, method, _, _, crc, packed, size, name_length, extra_length, comment_length,
         disk, _, attributes, start) = _CENTRAL.unpack_from(archive, at)  # fmt: skip
        at += _CENTRAL.size
        if at + name_length + extra_length > stop:
            raise PlanError("truncated central directory: a name or extra field runs past its end")
        name = _check_name(bytes(archive[at : at + name_length]))
        at += name_length
        extra = bytes(archive[at : at + extra_length])
        at += extra_length
        _check_stored(name, flags, method)
        _check_attributes(name, attributes)
        if comment_length:
            raise PlanError(f"comment of {comment_length} bytes on member {name}, expected none")
        if disk:
            raise PlanError(f"member {name} is said to lie on disk {disk}, expected one file")
        if packed != size:
            raise PlanError(f"size mismatch: member {name} has {size} bytes and {packed} stored, expected the same")
        if start == _IN_ZIP64 and len(extra) == _OFFSET_64.size and extra[:4] == struct.pack("<HH", _OFFSET_64_ID, 8):
            start = _OFFSET_64.unpack(extra)[-1]
        elif extra:
            raise PlanError(f"extra field on the record of member {name}, expected none")
        yield Entry(name=name, size=size, crc=crc, start=start)
    if at != stop:
        raise PlanError(f"{stop - at} stray bytes after the {count} records of the central directory")


def _check_name(raw: bytes) -> str:
    shown = ascii(raw[:80].decode("utf-8", "replace"))
    if not 1 <= len(raw) <= MAX_NAME:
        raise PlanError(f"member name of {len(raw)} bytes, expected 1 to {MAX_NAME}")
    if b"\0" in raw:
        raise PlanError(f"NUL in member name {shown}")
    if not raw.isascii():
        raise PlanError(f"member name {shown} is not ASCII")
    name = raw.decode("ascii")
    if "\\" in name:
        raise PlanError(f"backslash in member name {shown}")
    if name.startswith("/") or name[1:2] == ":":
        raise PlanError(f"member name {shown} is an absolute path")
    if name.endswith("/"):
        raise PlanError(f"member {shown} is a directory, expected files only")
    parts = name.split("/")
    if ".." in parts:
        raise PlanError(f"'..' in member name {shown}")
    if not all(_PART.fullmatch(part) for part in parts):
        raise PlanError(f"member name {shown} holds other characters than letters, digits and _ . : + - between '/'")
    return name


def _check_stored(name: str, flags: int, method: int) -> None:
    if flags & 1:
        raise PlanError(f"member {name} is encrypted")
    if flags:
        raise PlanError(f"flags 0x{flags:04x} on member {name} (data descriptor or name encoding), expected none")
    if method:
        raise PlanError(f"member {name} is compressed (method {method}), expected stored members")


def _check_attributes(name: str, attributes: int) -> None:
    kind = stat.S_IFMT(attributes >> 16)
    if kind == stat.S_IFLNK:
        raise PlanError(f"member {name} is a symbolic link, expected files only")
    if kind == stat.S_IFDIR or attributes & 0x10:
        raise PlanError(f"member {name} is a directory, expected files only")
    if attributes != _ATTRIBUTES:
        raise PlanError(f"file attributes 0x{attributes:08x} on member {name}, expected 0x{_ATTRIBUTES:08x}")


def _check_members(entries: Iterable[Entry]) -> None:
    names: set[str] = set()
    for entry in entries:
        if entry.name in names:
            raise PlanError(f"duplicate member {entry.name}")
        names.add(entry.name)
        if entry.size >= _IN_ZIP64:
            raise PlanError(f"member {entry.name} has {entry.size} bytes, a member must be below 4 GiB")
        if entry.name == MANIFEST and entry.size > MAX_MANIFEST_BYTES:
            raise PlanError(f"{MANIFEST} has {entry.size} bytes, at most {MAX_MANIFEST_BYTES} are allowed")
    if MANIFEST not in names:
        raise PlanError(f"no {MANIFEST} in the archive")
    if len(names) > MAX_MEMBERS:
        raise PlanError(f"{len(names)} members, expected 1 to {MAX_MEMBERS}")


def _check_places(archive: memoryview, entries: tuple[Entry, ...], directory_start: int) -> None:
    """Members follow each other in the directory's order, from byte 0 to the central directory."""
    at, before = 0, "the start of the file"
    for entry in entries:
        if entry.start < at:
            raise PlanError(f"member {entry.name} overlaps {before}, or stands out of order")
        if entry.start > at:
            raise PlanError(f"hole of {entry.start - at} bytes between {before} and member {entry.name}")
        if entry.start + _LOCAL.size > directory_start:
            raise PlanError(f"member {entry.name} overlaps the central directory")
        _check_header(archive, entry)
        at, before = entry.stop, f"member {entry.name}"
        if at > directory_start:
            raise PlanError(f"{before} of {entry.size} bytes overlaps the central directory: the file is smaller")
    if at < directory_start:
        raise PlanError(f"hole of {directory_start - at} bytes between {before} and the central directory")
    order = [entry.name for entry in entries]
    if order != sorted(order, key=lambda name: (name != MANIFEST, name)):
        raise PlanError(f"members out of order, expected {MANIFEST} and then the others by name")


def _check_header(archive: memoryview, entry: Entry) -> None:
    """The local header says what the central directory says, in the one form that a plan has."""
    if bytes(archive[entry.start : entry.offset]) == entry.header():
        return
    mark, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack_from(
        archive, entry.start
    )
    at = entry.start + _LOCAL.size
    if mark != _LOCAL_MARK:
        raise PlanError(f"no local header of member {entry.name} at byte {entry.start}")
    if bytes(archive[at : at + name_length]) != entry.name.encode("ascii"):
        raise PlanError(f"name mismatch between the local header and the central directory at member {entry.name}")
    _check_stored(entry.name, flags, method)
    if (packed, size) != (entry.size, entry.size):
        raise PlanError(f"size mismatch between the local header ({size}) and the central directory of {entry.name}")
    if crc != entry.crc:
        raise PlanError(f"CRC mismatch between the local header and the central directory of {entry.name}")
    if extra_length != entry.offset - at - name_length:
        raise PlanError(f"alignment: the content of {entry.name} does not start at the next multiple of {ALIGNMENT}")
    raise PlanError(f"local header of {entry.name} departs from the one form that a plan has (extra field or date)")
