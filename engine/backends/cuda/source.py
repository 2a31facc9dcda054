"""Where a payload's members come from: the plan, or what was built on this machine and kept.

<user's cache>/uperfuse/tensorrt/<key>/built.json     payload, kernels and attention, with the hash of every member
<user's cache>/uperfuse/tensorrt/<key>/<sha256>       members by their hash
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from ...cache import cache_root
from ...errors import PlanError
from ...plan.archive_file import sums
from ...plan.manifest import Member
from ...plan.model import Label, Model
from ...plan.payloads import AttentionWeights, EnginePayload, KernelPayload
from ...plan.plan import Plan

__all__ = ["Source", "keep", "kept", "key_of", "of_plan"]

_BUILT = "built.json"


@dataclass(frozen=True)
class Source:
    """A payload with all that belongs to it.

    Attributes:
        payload: the engines.
        kernels: by architecture.
        attention: of series whose encoders are cut.
        member: content of a member, hashed before it is handed out.
        origin: where it comes from, in words.
    """

    payload: EnginePayload
    kernels: tuple[KernelPayload, ...]
    attention: tuple[AttentionWeights, ...]
    member: Callable[[str], memoryview]
    origin: str


class _Built(Model):
    """`built.json`."""

    payload: EnginePayload
    kernels: tuple[KernelPayload, ...]
    attention: tuple[AttentionWeights, ...]
    members: dict[Label, Member]


def of_plan(plan: Plan, payload: EnginePayload) -> Source:
    """A payload of a plan."""
    manifest = plan.manifest
    return Source(payload, manifest.kernels, manifest.attention, plan.member, "in the plan")


def key_of(*parts: str) -> str:
    """Name of a folder for what was built from and for these."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def kept(key: str) -> Source | None:
    """What was built here under a key, if it is there and whole."""
    folder = _root() / key
    try:
        built = _Built.model_validate_json((folder / _BUILT).read_bytes(), strict=True)
    except (OSError, ValidationError):
        return None
    if any(not (folder / member.sha256).is_file() for member in built.members.values()):
        return None

    def member(name: str) -> memoryview:
        content = (folder / built.members[name].sha256).read_bytes()
        if hashlib.sha256(content).hexdigest() != built.members[name].sha256:
            raise PlanError(f"{folder} holds another {name} than was built; delete the folder and load the plan again")
        return memoryview(content)

    return Source(built.payload, built.kernels, built.attention, member, "built on this machine before")


def keep(
    key: str,
    payload: EnginePayload,
    *,
    kernels: tuple[KernelPayload, ...],
    attention: tuple[AttentionWeights, ...],
    members: Mapping[str, bytes | Path],
) -> Source:
    """Keep what was built here; where that cannot be written, it is held in memory.

    Args:
        key: from `key_of`.
        payload: the engines.
        kernels: by architecture.
        attention: of series whose encoders are cut.
        members: name -> content, or the file that holds it.
    """
    listed = {}
    for name, content in members.items():
        size, _, sha256 = sums(content)
        listed[name] = Member(size=size, sha256=sha256)
    built = _Built(payload=payload, kernels=kernels, attention=attention, members=listed)
    with contextlib.suppress(OSError):
        _write(_root() / key, built, members)
    found = kept(key)
    if found is not None:
        return Source(payload, kernels, attention, found.member, "built on this machine")
    views = {
        name: memoryview(content.read_bytes() if isinstance(content, Path) else content)
        for name, content in members.items()
    }
    return Source(payload, kernels, attention, views.__getitem__, "built on this machine, and not kept")


def _write(folder: Path, built: _Built, members: Mapping[str, bytes | Path]) -> None:
    """The folder appears when it is complete."""
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    partial.mkdir(mode=0o700, parents=True)
    try:
        for name, content in members.items():
            to = partial / built.members[name].sha256
            shutil.copyfile(content, to) if isinstance(content, Path) else to.write_bytes(content)
        (partial / _BUILT).write_text(built.model_dump_json(indent=1), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _root() -> Path:
    return cache_root() / "tensorrt"
