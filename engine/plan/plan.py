"""The plan: one file from which everything is known and that is believed only after it was hashed.

The archive holds `manifest.json`, the members that it lists, and `signature` where somebody vouches for it
(`signature.py`); nothing else.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import stat
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from pydantic import ValidationError

from ..errors import PlanError
from .archive_file import Source, sums, write_archive
from .container import MANIFEST, MAX_PLAN_BYTES, place, read_entries
from .manifest import NEW_KEYS, NEW_SEGMENT_KEYS, SCHEMA_VERSIONS, Manifest, Member
from .signature import SIGNATURE, check_signatures, sign_manifest
from .strict_json import parse

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["Plan", "sign_plan", "write_plan"]


class Plan:
    """An open plan: its manifest, and its members mapped into memory without a copy.

    Opening checks every header, the whole manifest and every signature; a member is hashed when it is first asked for.
    A plan that is deleted or replaced by renaming stays readable while open; one that is changed in place is refused
    from then on.

    Example:
        >>> with Plan.open("uperfuse.plan") as plan:  # doctest: +SKIP
        ...     graph = plan.member(plan.manifest.segments[0].member)

    Attributes:
        path: the file.
        manifest: what the plan says of itself; for tiles of another side than its own, where it was opened for those.
        hash: SHA-256 (hex) of `manifest.json`, the identity of the plan: the manifest lists the hash of all else but
            the signatures, which change nothing of what the plan is.
        signed_by: public keys (Ed25519, 32 bytes each, rising) whose signatures over the manifest are right. Whose
            keys they are is what a keyring knows.
        size: bytes of the file.
    """

    def __init__(self, path: Path, file: BinaryIO, *, tile_px: int | None = None) -> None:
        """Use `Plan.open`."""
        self.path = path
        self._file = file
        self._state = _state(file)
        self.size = self._state[0]
        if not self.size:
            raise PlanError("truncated: the file is empty")
        if self.size > MAX_PLAN_BYTES:
            raise PlanError(f"plan of {self.size} bytes, at most {MAX_PLAN_BYTES} are allowed")
        self._mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        self._entries = {entry.name: entry for entry in read_entries(self._mapped)}
        self._hashed: set[str] = set()
        content = bytes(self._content(MANIFEST))
        self._check_crc(MANIFEST)
        self.hash = hashlib.sha256(content).hexdigest()
        self.manifest = _read_manifest(content)
        _check_members(self.manifest)
        _check_archive(self.manifest, {name: entry.size for name, entry in self._entries.items() if name != MANIFEST})
        self.signed_by: tuple[bytes, ...] = ()
        if SIGNATURE in self._entries:
            self.signed_by = check_signatures(self._content(SIGNATURE), manifest=content)
            self._check_crc(SIGNATURE)
        self._own = self.manifest
        if tile_px is not None:
            self.manifest = _at_tile_px(self._own, tile_px)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, tile_px: int | None = None) -> Plan:
        """Open a plan file.

        Args:
            path: the file.
            tile_px: side of a tile in pixels of the base modality, one of `manifest.tile_sides_px`; None: the
                plan's own.

        Returns:
            The plan; close it, or use it in a `with` statement.

        Raises:
            PlanError: the file cannot be read, or breaks a rule of the format; the message names the rule.
        """
        path = Path(path)
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
                raise PlanError(f"{path} is not a regular file; give the path of a plan")
            file = path.open("rb")
        except (OSError, ValueError) as error:
            raise PlanError(f"{str(path)!r} cannot be opened: {_reason(error)}; give the path of a plan") from error
        try:
            return cls(path, file, tile_px=tile_px)
        except _NoSuchSideError as error:
            file.close()
            raise PlanError(f"{path} {error}") from None
        except (PlanError, OSError) as error:
            file.close()
            raise PlanError(f"{path}: {_reason(error)}; export or fetch the plan again") from error

    def member(self, name: str) -> memoryview:
        """Content of one member, hashed before it is handed out.

        Args:
            name: one of `manifest.members`.

        Returns:
            Read-only bytes that start at an address divisible by 64. They stay valid after `close`.

        Raises:
            PlanError: no such member, a wrong hash, or the file was changed or closed since it was opened.
        """
        if self._file.closed:
            raise PlanError(f"{self.path} is closed; open it again to read member {name}")
        if _state(self._file) != self._state:
            raise PlanError(f"{self.path} was changed while it was open; open it again")
        if name not in self.manifest.members:
            raise PlanError(f"{self.path} has no member {name!a}; it has {', '.join(sorted(self.manifest.members))}")
        content = self._content(name)
        if name not in self._hashed:
            got, expected = hashlib.sha256(content).hexdigest(), self.manifest.members[name].sha256
            if got != expected:
                raise PlanError(
                    f"{self.path}: wrong hash of member {name}: sha256 {got[:16]}, the manifest says {expected[:16]};"
                    " fetch or export the plan again"
                )
            self._hashed.add(name)
        return content

    def lenders(self, segment: str) -> tuple[str, ...]:
        """Members that hold weights which the graph of `segment` lacks, in the order in which they are asked for one.

        Args:
            segment: name of a segment.

        Returns:
            The segment's graph for the plan's own tiles, where that is another one, and that of the segment's lender,
            where it has one; none where the graph has all of its weights.
        """
        own = self._own.segment(segment)
        members = () if own.member == self.manifest.segment(segment).member else (own.member,)
        return members if own.lender is None else (*members, self._own.segment(own.lender).member)

    def graph_hash(self, segment: str) -> str:
        """SHA-256 (hex) of the graph of `segment`, and behind it those of the ones that it shares weights with."""
        members = (self.manifest.segment(segment).member, *self.lenders(segment))
        return "+".join(self.manifest.members[name].sha256 for name in members)

    def rehash(self, name: str) -> Member:
        """Hash one member anew, whether or not it was hashed before.

        Args:
            name: one of `manifest.members`.

        Returns:
            Its size and SHA-256, which are as the manifest says.

        Raises:
            PlanError: as `member`; or the CRC-32 in the header is not that of the content.
        """
        self._hashed.discard(name)
        if zlib.crc32(self.member(name)) != self._entries[name].crc:
            raise PlanError(f"{self.path}: CRC mismatch between member {name} and its header; fetch the plan again")
        return self.manifest.members[name]

    def close(self) -> None:
        """Close the file; buffers handed out by `member` keep the mapping alive until they are dropped."""
        self._file.close()
        self._mapped = memoryview(b"")

    def __enter__(self) -> Plan:
        """Return the plan itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the plan."""
        self.close()

    def __repr__(self) -> str:
        return f"Plan({self.manifest.name!r}, hash={self.hash[:16]}, size={self.size})"

    def _content(self, name: str) -> memoryview:
        entry = self._entries[name]
        return self._mapped[entry.offset : entry.stop]

    def _check_crc(self, name: str) -> None:
        """Of what has no hash in the manifest."""
        if zlib.crc32(self._content(name)) != self._entries[name].crc:
            raise PlanError(f"CRC mismatch between {name} and its header")


def write_plan(
    path: str | os.PathLike[str],
    manifest: Manifest,
    members: Mapping[str, Source],
    *,
    sign_with: Sequence[Ed25519PrivateKey] = (),
) -> str:
    """Write a plan; the same inputs make the same bytes.

    The file appears under its name when it is complete and on disk, and replaces a file of that name.

    Args:
        path: the file to write.
        manifest: what the plan says of itself. Sizes and hashes of the members are filled in; where it lists
            members already, they must be these.
        members: name inside the archive -> content, or a file that holds it.
        sign_with: private keys that sign the manifest. What signed a plan that these members come from is not kept.

    Returns:
        The plan's hash.

    Raises:
        PlanError: the manifest and the members do not agree, a rule of the format is broken, or writing failed.
    """
    path = Path(path)
    for name, made in ((MANIFEST, "from the manifest"), (SIGNATURE, "with the keys in sign_with")):
        if name in members:
            raise PlanError(f"{name} is made {made}; leave it out of the members")
    try:
        summed = {name: sums(members[name]) for name in sorted(members)}
        listed = {name: Member(size=size, sha256=sha) for name, (size, _, sha) in summed.items()}
        if manifest.members and manifest.members != listed:
            raise PlanError(f"the manifest lists other members than those given for {path}; leave its list empty")
        content = _manifest_bytes(manifest.model_copy(update={"members": listed}))
        _check_members(_read_manifest(content))
        _write(path, content, members, {name: (size, crc) for name, (size, crc, _) in summed.items()}, sign_with)
    except OSError as error:
        raise PlanError(f"{path} cannot be written: {_reason(error)}; choose another place or make room") from error
    return hashlib.sha256(content).hexdigest()


def sign_plan(path: str | os.PathLike[str], key: Ed25519PrivateKey) -> tuple[bytes, ...]:
    """Add a signature to a plan; its manifest, its hash and its other signatures stay.

    Every member is hashed first: nobody signs for what is damaged. The signed file replaces the old one when it is
    complete; the same keys make the same bytes in whatever order they sign.

    Args:
        path: the plan file; where it is a link, the file behind it is replaced.
        key: private key that signs.

    Returns:
        The public keys that sign the plan now, as `Plan.signed_by`.

    Raises:
        PlanError: the file is no plan, a member is not what the manifest says, `MAX_SIGNATURES` others signed it
            already, or the file cannot be written.
    """
    with Plan.open(path) as plan:
        sizes, members = {}, {}
        for name in plan.manifest.members:
            plan.rehash(name)
            sizes[name] = (plan._entries[name].size, plan._entries[name].crc)
            members[name] = plan.member(name)
        manifest = bytes(plan._content(MANIFEST))
        others = bytes(plan._content(SIGNATURE)) if plan.signed_by else b""
        try:
            real = Path(path).resolve(strict=True)
            mode = stat.S_IMODE(os.fstat(plan._file.fileno()).st_mode)
            _write(real, manifest, members, sizes, (key,), others=others, mode=mode)
        except OSError as error:
            raise PlanError(f"{path} cannot be written: {_reason(error)}; choose another place or make room") from error
    with Plan.open(path) as signed:
        return signed.signed_by


def _write(
    path: Path,
    manifest: bytes,
    members: Mapping[str, Source],
    sizes: Mapping[str, tuple[int, int]],
    keys: Sequence[Ed25519PrivateKey],
    *,
    others: bytes = b"",
    mode: int | None = None,
) -> None:
    """Lay out and write the manifest, the members (name -> size, CRC-32) and the signatures."""
    added = {MANIFEST: manifest}
    if keys or others:
        added[SIGNATURE] = sign_manifest(manifest, keys=keys, others=others)
    placed = [(name, *size) for name, size in sizes.items()]
    placed += [(name, len(content), zlib.crc32(content)) for name, content in added.items()]
    write_archive(path, place(placed), {**members, **added}, mode=mode)


class _NoSuchSideError(PlanError):
    """The plan is sound, and has no tiles of that side."""


def _at_tile_px(manifest: Manifest, tile_px: int) -> Manifest:
    try:
        return manifest.at(tile_px)
    except KeyError:
        sides = ", ".join(map(str, manifest.tile_sides_px))
        raise _NoSuchSideError(
            f"has no tiles of {tile_px} px, expected a side of {sides}; choose one of them, or export the network with "
            f"--tile-px {tile_px}"
        ) from None


def _manifest_bytes(manifest: Manifest) -> bytes:
    """The manifest as it is stored: without the keys of later schemas, so that earlier releases read it, too."""
    version = manifest.schema_needed
    of_segments = {"__all__": set(_later(NEW_SEGMENT_KEYS, version))}
    left_out: dict[str, Any] = {
        "segments": of_segments,
        "geometries": {"__all__": {"segments": of_segments}},
        **dict.fromkeys(("schema_version", *_later(NEW_KEYS, version)), True),
    }
    tree = {"schema_version": version, **manifest.model_dump(mode="json", exclude=left_out)}
    return (json.dumps(tree, indent=1, ensure_ascii=False) + "\n").encode()


def _later(keys: Mapping[int, tuple[str, ...]], version: int) -> Iterator[str]:
    """Keys that came with a schema behind `version`."""
    return (key for since, names in keys.items() if since > version for key in names)


def _read_manifest(content: bytes) -> Manifest:
    tree = parse(content, what=MANIFEST)
    if not isinstance(tree, dict):
        raise PlanError(f"{MANIFEST} is not a JSON object")
    version = tree.get("schema_version")
    if type(version) is not int or version not in SCHEMA_VERSIONS:
        read = f"{', '.join(map(str, SCHEMA_VERSIONS[:-1]))} and {SCHEMA_VERSIONS[-1]}"
        raise PlanError(f"schema_version is {ascii(version)[:40]}, and this release of uperfuse reads {read}")
    try:
        return Manifest.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise PlanError(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    """The first thing that pydantic found, in one line without control characters."""
    first, *others = error.errors(include_url=False, include_context=False)
    where = ".".join(str(part)[:40] for part in first["loc"]) or "its parts"
    found = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
    more = f" (and {len(others)} more)" if others else ""
    return "".join(c if c.isprintable() else "?" for c in f"{MANIFEST}: {where[:200]}: {found[:300]}{more}")


def _check_members(manifest: Manifest) -> None:
    """Every member that a part of the manifest names is in its list, and the signatures are not."""
    if SIGNATURE in manifest.members:
        raise PlanError(f"{MANIFEST} lists member {SIGNATURE}, which is made after it and cannot be in it")
    for member, user in manifest.members_used().items():
        if member not in manifest.members:
            raise PlanError(f"{user} needs member {member!a}, which {MANIFEST} does not list")


def _check_archive(manifest: Manifest, sizes: Mapping[str, int]) -> None:
    """The archive holds the members that the manifest lists, and no other but the signatures."""
    for name in sorted(set(sizes) - set(manifest.members) - {SIGNATURE}):
        raise PlanError(f"member {name} is not in {MANIFEST}")
    for name, member in manifest.members.items():
        if name not in sizes:
            raise PlanError(f"member {name!a} of {MANIFEST} is missing from the archive")
        if sizes[name] != member.size:
            raise PlanError(f"size of member {name} is {sizes[name]} bytes, {MANIFEST} says {member.size}")


def _state(file: BinaryIO) -> tuple[int, int]:
    """What changes when a file is written to: its size and the time of its last change."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
